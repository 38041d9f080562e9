"""The stack under fire: its parts, who is broken at the moment, and how long everything takes to come back."""

import contextlib
import signal
import threading
import time

from tests.lib.stack import Stack

from .proxy import Toxiproxy

LEASE_MS = 3000
SETTINGS = {
    "WAYBILL_LEASE_MS": LEASE_MS,
    "WAYBILL_HANDLER_LIMIT_MS": 1000,
    "WAYBILL_RETRY_BASE_MS": None,  # the shipped schedule
    "WAYBILL_LOG_LEVEL": "info",
}
LINKS = ("ingest-redis", "workers-redis", "workers-store")


class World:
    def __init__(self, folder, n_workers, shared):
        self.stack = Stack(folder, SETTINGS, workers=n_workers)
        self.proxy = Toxiproxy(self.stack.folder)
        self.redis, self.store = self.stack.redis, self.stack.store
        self.ingest, self.workers, self.scripts = self.stack.ingest, self.stack.workers, self.stack.scripts
        self.lease_s = LEASE_MS / 1000
        self.shared = shared
        self.returns, self.orphans = {}, []  # seconds: by part, and of dead workers' events
        self._parts, self._lock = {}, threading.Lock()
        self._broken, self._watchers = 0, []

    def start(self):
        self.proxy.start()
        redis, store = self.redis.port, self.store.port
        ports = {name: self.proxy.add_link(name, store if name.endswith("store") else redis) for name in LINKS}
        self.ingest.settings["WAYBILL_REDIS_URL"] = f"redis://127.0.0.1:{ports['ingest-redis']}/0"
        for worker in self.workers:
            worker.settings["WAYBILL_REDIS_URL"] = f"redis://127.0.0.1:{ports['workers-redis']}/0"
            worker.settings["WAYBILL_MONGO_URL"] = f"mongodb://127.0.0.1:{ports['workers-store']}/{self.store.database_name}"
        self.stack.start()

    def stop(self):
        for watcher in self._watchers:
            watcher.join(1)
        try:
            self.stack.stop()
        finally:
            self.proxy.stop()

    def kill(self):
        self.stack.kill()
        self.proxy.kill()

    @contextlib.contextmanager
    def part(self, name):
        """One fault at a time for each part."""
        with self._lock:
            lock = self._parts.setdefault(name, threading.Lock())
        with lock:
            with self._lock:
                self._broken += 1
            try:
                yield
            finally:
                with self._lock:
                    self._broken -= 1

    def start_again(self, process, part):
        """Starts a part that was ended; then watches how long it takes until the whole works normally again."""
        process.start(wait=part in ("redis", "store"))
        self._watch(self._time_return, part)

    def hup(self):
        for service in (self.ingest, *self.workers):
            # Before its handler is there, HUP would end a service: wait until it serves.
            if service.alive and service.is_live():
                with contextlib.suppress(AssertionError):
                    service.signal(signal.SIGHUP)

    def _watch(self, what, *arguments):
        watcher = threading.Thread(target=what, args=arguments, daemon=True)
        watcher.start()
        self._watchers.append(watcher)

    def _time_return(self, part):
        """From the moment when this part is back and nothing else is broken, to the next acknowledgement (and, for a
        part that workers need, the next resolution). Not counted when something else breaks meanwhile."""
        while self._broken > 0:
            time.sleep(0.005)
        began, resolved = time.time(), self._resolved() if part in ("store", "worker", "redis") else None
        while time.time() < self.shared.until.value:
            if self._broken > 0:
                return
            if self.shared.last_ack.value > began and (resolved is None or self._resolved() > resolved):
                break
            time.sleep(0.02)
        else:
            return
        self.returns.setdefault(part, []).append(time.time() - began)

    def _resolved(self):
        total = 0
        for worker in self.workers:
            with contextlib.suppress(Exception):
                metrics = worker.metrics()
                total += sum(metrics.total("waybill_worker_deliveries_total", result=result)
                             for result in ("succeeded", "dead"))
        return total

    def watch_orphans(self, pid):
        """How long a dead worker's entries stay in its hands."""
        self._watch(self._time_orphans, pid, time.time())

    def _time_orphans(self, pid, died):
        while time.time() < died + 120:
            with contextlib.suppress(Exception):
                consumers = self.redis.client.xinfo_consumers("waybill:{0}:events", "workers")
                held = [c["pending"] for c in consumers if f"-{pid}-".encode() in c["name"]]
                if sum(held) == 0:
                    break
            time.sleep(0.05)
        if time.time() - died > 0.2:  # it had something
            self.orphans.append(time.time() - died)
