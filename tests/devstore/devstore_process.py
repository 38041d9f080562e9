"""Starts and stops the real waybill-devstore; looks for it in WAYBILL_BIN_DIR, else in build/bin."""
import os
import pathlib
import subprocess

import pymongo

BIN = pathlib.Path(os.environ.get("WAYBILL_BIN_DIR") or pathlib.Path(__file__).parents[2] / "build" / "bin")


class Devstore:
    def __init__(self, file):
        self.file, self.process, self.port, self.clients = str(file), None, 0, []

    def start(self):
        self.process = subprocess.Popen([BIN / "waybill-devstore", "--listen", f"127.0.0.1:{self.port}",
                                         "--file", self.file], stdout=subprocess.PIPE, text=True)
        self.banner = self.process.stdout.readline()
        line = self.process.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:"), line
        self.port = int(line.rsplit(":", 1)[1])
        return self

    def client(self, **options):
        client = pymongo.MongoClient("127.0.0.1", self.port, **{"serverSelectionTimeoutMS": 5000, **options})
        self.clients.append(client)
        return client

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        for client in self.clients:
            client.close()
        self.process.terminate()
        status = self.process.wait(10)
        self.process.stdout.close()
        return status
