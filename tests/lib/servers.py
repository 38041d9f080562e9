"""The servers that Waybill uses: Redis, and a store that speaks MongoDB's wire protocol."""

import contextlib
import os
import unittest
import uuid
from urllib.parse import urlsplit, urlunsplit

import pymongo
import pymongo.errors
import redis

from .process import Process, executable, free_port


class RedisServer(Process):
    """A private redis-server with the settings that Waybill ships: append-only file, fsync always, no eviction."""

    def __init__(self, folder, port=None, name="redis"):
        self.port = port or free_port()
        argv = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--dir", folder, "--save", "",
                "--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction",
                "--appenddirname", f"{name}-aof"]
        super().__init__(name, folder, argv)
        # A client of the tests' own: patient enough for a busy machine, not so patient that a paused server hangs a test.
        self.client = redis.Redis("127.0.0.1", self.port, socket_timeout=10, decode_responses=False)

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def is_ready(self):
        with contextlib.suppress(redis.RedisError):
            return self.client.ping()
        return False

    def keys(self):
        """Everything that is stored, apart from what an empty queue consists of: {key: type}."""
        return {key.decode(): self.client.type(key).decode() for key in self.client.scan_iter()}

    def stream_length(self, partition=0):
        return self.client.xlen(f"waybill:{{{partition}}}:events")

    def retry_length(self, partition=0):
        return self.client.zcard(f"waybill:{{{partition}}}:retry")

    def dead_notices(self, partition=0):
        return self.client.xrange(f"waybill:{{{partition}}}:dead")

    def pending(self, partition=0):
        """How many entries are in workers' hands; 0 as long as there is no group."""
        try:
            return self.client.xpending(f"waybill:{{{partition}}}:events", "workers")["pending"]
        except redis.ResponseError:
            return 0


class Store:
    """waybill-devstore on a file of its own, or the server that WAYBILL_TEST_MONGO_URL names with a database of its own.

    Faults are injected in the one way that both understand: fail() is MongoDB's failCommand.
    """

    def __init__(self, folder, name="store"):
        self.name = name
        self.database_name = f"waybill_test_{uuid.uuid4().hex[:12]}"
        self._external = os.environ.get("WAYBILL_TEST_MONGO_URL")
        if self._external:
            self._process = None
            parts = urlsplit(self._external)
            self.url = urlunsplit(parts._replace(path=f"/{self.database_name}"))
        else:
            self.port = free_port()
            self._process = _DevStore(name, folder, self.port)
            self.url = f"mongodb://127.0.0.1:{self.port}/{self.database_name}"
        self._client = None
        self._failing = False

    # life cycle

    @property
    def is_external(self):
        """A server that these tests did not start, and can neither kill nor pause."""
        return self._process is None

    @property
    def process(self):
        assert self._process, "the store is a server that these tests did not start"
        return self._process

    def start(self, wait=True):
        if self._process:
            self._process.start(wait)
        return self

    def stop(self):
        """Ends the development store; at a server of somebody else's, drops the database and ends fail()."""
        if self.is_external:
            if self._failing:
                self.heal()
            self.client.drop_database(self.database_name)
        if self._client:
            self._client.close()
            self._client = None
        if self._process:
            self._process.stop()

    def kill(self):
        self.process.kill()

    def pause(self):
        self.process.pause()

    def resume(self):
        self.process.resume()

    @property
    def alive(self):
        return self.is_external or self._process.alive

    # content

    @property
    def client(self):
        if self._client is None:
            self._client = pymongo.MongoClient(self.url, serverSelectionTimeoutMS=10000, appname="waybill-tests",
                                               retryWrites=False)
        return self._client

    @property
    def db(self):
        return self.client[self.database_name]

    @property
    def events(self):
        return self.db["events"]

    @property
    def dead_letters(self):
        return self.db["dead_letters"]

    @property
    def shipments(self):
        return self.db["shipments"]

    def event(self, key):
        """The document of one event ("source/event_id"), or None."""
        return self.events.find_one({"_id": key})

    def status(self, key):
        """"processing", "retry_wait", "succeeded", "dead", or None when there is no document."""
        document = self.events.find_one({"_id": key}, {"status": 1})
        return document and document["status"]

    # faults

    def fail(self, commands=("insert", "update", "findAndModify", "delete"), mode="alwaysOn", error_code=None,
             close_connection=False, block_ms=None):
        """The given commands fail from now on; mode may be {"times": n}. Leave "find" out when the test itself reads.

        Skips the test at a server that does not allow it (mongod without --setParameter enableTestCommands=1).
        """
        data = {"failCommands": list(commands)}
        if error_code is not None:
            data["errorCode"] = error_code
        if close_connection:
            data["closeConnection"] = True
        if block_ms is not None:
            data |= {"blockConnection": True, "blockTimeMS": block_ms}
        try:
            self.client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
        except pymongo.errors.OperationFailure as error:
            if error.code == 59:  # CommandNotFound
                raise unittest.SkipTest("the store does not allow failCommand") from None
            raise
        self._failing = True

    def heal(self):
        """Ends what fail() began."""
        self.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
        self._failing = False


class _DevStore(Process):
    def __init__(self, name, folder, port):
        self.port = port
        argv = [executable("waybill-devstore"), "--listen", f"127.0.0.1:{port}", "--file", f"{folder}/{name}.sqlite"]
        super().__init__(name, folder, argv)

    def is_ready(self):
        url = f"mongodb://127.0.0.1:{self.port}/?serverSelectionTimeoutMS=300&connectTimeoutMS=300"
        with pymongo.MongoClient(url) as client, contextlib.suppress(pymongo.errors.PyMongoError):
            return bool(client.admin.command("ping"))
        return False
