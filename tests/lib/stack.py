"""A whole Waybill: Redis, the store, ingest and workers, on ports and in a folder of its own."""

import contextlib
import shutil
import signal
import subprocess
from pathlib import Path

from .events import encode
from .process import ROOT, clean_environment, executable
from .servers import RedisServer, Store
from .services import Ingest, Worker

DEMO_SECRET = "whsec_" + "d2F5YmlsbC10ZXN0LXNlY3JldC0wMTIzNDU2Nzg5"  # for tests only; protects nothing

# Small times, so that leases and retries can be waited for.
TEST_SETTINGS = {
    "WAYBILL_SECRET_DEMO": DEMO_SECRET,
    "WAYBILL_SIMULATE": 1,
    "WAYBILL_LEASE_MS": 2000,
    "WAYBILL_HANDLER_LIMIT_MS": 1000,
    "WAYBILL_RETRY_BASE_MS": 50,
    "WAYBILL_LOG_FORMAT": "json",
    "WAYBILL_LOG_LEVEL": "info",
}


class Stack:
    """settings go to every executable on top of TEST_SETTINGS. Without workers the store is not started either, but for
    start_store. scripts: a folder of Lua policies, copied, so that a test may edit stack.scripts."""

    def __init__(self, folder, settings=None, workers=1, scripts=ROOT / "scripts", start_store=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.scripts = self.folder / "scripts"
        shutil.copytree(scripts, self.scripts, dirs_exist_ok=True)
        self.redis = RedisServer(self.folder)
        self.store = Store(self.folder)
        self._start_store = workers > 0 if start_store is None else start_store
        self.settings = {**TEST_SETTINGS, "WAYBILL_REDIS_URL": self.redis.url, "WAYBILL_MONGO_URL": self.store.url,
                         "WAYBILL_SCRIPTS": self.scripts, **(settings or {})}
        self.ingest = Ingest(self.folder, self.settings)
        self.workers = []
        for _ in range(workers):
            self.add_worker()

    @property
    def worker(self):
        """The first worker, of most tests the only one."""
        return self.workers[0]

    def add_worker(self, **settings):
        """One more, not started yet."""
        worker = Worker(self.folder, {**self.settings, **settings}, name=f"worker{len(self.workers) + 1}")
        self.workers.append(worker)
        return worker

    def processes(self):
        store = [] if self.store.is_external else [self.store.process]
        return [self.redis, *store, self.ingest, *self.workers]

    def start(self):
        self.redis.start(wait=False)
        if self._start_store:
            self.store.start()
        self.redis.wait_ready()
        for service in (self.ingest, *self.workers):
            service.start(wait=False)
        for service in (self.ingest, *self.workers):
            service.wait_ready()
        return self

    def stop(self):
        """Ends everything, gently first; the first thing that went wrong is raised when all have ended."""
        with contextlib.ExitStack() as ends:
            for process in self.processes():
                ends.callback(process.check_sanitizers)
            ends.callback(self.redis.stop)
            ends.callback(self.store.stop)
            for service in (self.ingest, *self.workers):
                ends.callback(_stop_cleanly, service)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *_):
        self.stop()

    def kill(self):
        """Ends everything at once."""
        for process in self.processes():
            process.kill()

    def write_script(self, name, text):
        """Puts another script in the place of a shipped one, whose self-checks go: they hold for the shipped rules."""
        (self.scripts / name).write_text(text)
        shutil.rmtree(self.scripts / "tests", ignore_errors=True)

    def send(self, event, **options):
        """Signs and posts an event for the demo source; returns the HTTP answer."""
        return self.ingest.send(event, self.settings["WAYBILL_SECRET_DEMO"].split()[0], **options)

    def accept(self, event, **options):
        """Sends an event that must be accepted; returns the answer's JSON."""
        answer = self.send(event, **options)
        assert answer.status_code == 202, f"{answer.status_code} {answer.text} for {encode(event)[:300]!r}"
        return answer.json()

    def ctl(self, *words, input=None, timeout=30, **settings):
        """Runs waybillctl; returns the subprocess.CompletedProcess with text output."""
        return subprocess.run([executable("waybillctl"), *map(str, words)], input=input, text=True, capture_output=True,
                              timeout=timeout, cwd=ROOT, env=clean_environment(self.ctl_settings() | settings))

    def ctl_settings(self):
        """The environment in which waybillctl finds this stack."""
        admin = {"WAYBILL_INGEST_ADMIN": f"127.0.0.1:{self.ingest.admin_port}"}
        if self.workers:
            admin["WAYBILL_WORKER_ADMIN"] = f"127.0.0.1:{self.worker.admin_port}"
        return {**self.settings, **admin, "WAYBILL_LISTEN": f"127.0.0.1:{self.ingest.port}"}

    def logs(self, lines=40):
        """The ends of all logs, for a failed test."""
        parts = [f"--- {process.name} (pid {process.pid}, exit code {process.exit_code})\n{process.log_tail(lines)}"
                 for process in self.processes()]
        return "\n".join(parts)


def _stop_cleanly(service):
    """A service ends with 0, now or when a test stopped it; only SIGKILL by a test may have ended it otherwise."""
    code = service.stop()
    assert code in (None, 0, -signal.SIGKILL), f"{service.name} ended with {code}:\n{service.log_tail()}"
