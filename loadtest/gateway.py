"""The gateway under test: one that the load test starts for itself, or one that runs already."""

import os
import shutil
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit


class GatewayError(Exception):
    """With a sentence for the user."""


class LocalGateway:
    """Redis, store, ingest and workers of its own on loopback, with the product's default settings."""

    # What the tests' stack makes smaller than it is in production goes back to the defaults.
    DEFAULTS = dict.fromkeys(("WAYBILL_LEASE_MS", "WAYBILL_HANDLER_LIMIT_MS", "WAYBILL_RETRY_BASE_MS"))

    def __init__(self, profile, keep=None):
        from tests.lib.stack import Stack  # only here: attacking a running gateway must not need the tests' packages

        self.folder = Path(keep or tempfile.mkdtemp(prefix="waybill-loadtest-"))
        self._keep = keep is not None
        self._stack = Stack(self.folder, self.DEFAULTS, workers=0, start_store=True)
        for _ in range(profile["workers"]):
            self._stack.add_worker(WAYBILL_THREADS=profile["worker_threads"])
        self._stack.ingest.settings["WAYBILL_THREADS"] = profile["ingest_threads"]
        self.secret = self._stack.settings["WAYBILL_SECRET_DEMO"]
        self.url = self._stack.ingest.url
        self.is_local = True

    def __enter__(self):
        try:
            self._stack.__enter__()
        except (AssertionError, OSError) as error:
            raise GatewayError(f"the stack did not start: {error}") from None
        return self

    def __exit__(self, *error):
        try:
            self._stack.__exit__(*error)
        finally:
            if not self._keep:
                shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self):
        """{name: pid} of what there is to measure."""
        return {process.name: process.pid for process in self._stack.processes()}

    @property
    def database(self):
        return self._stack.store.db

    @property
    def redis(self):
        return self._stack.redis.client

    def check_alive(self):
        """GatewayError when a part of it has ended."""
        for process in self._stack.processes():
            if not process.alive:
                raise GatewayError(f"{process.name} has ended with {process.exit_code}:\n{process.log_tail(20)}")

    def acks(self):
        """The gateway's own histogram of acknowledgement times: [(upper bound in s, cumulated count)]."""
        metrics = self._stack.ingest.metrics()
        buckets = ((dict(labels)["le"], value) for (name, labels), value in metrics.items()
                   if name == "waybill_ingest_ack_seconds_bucket")
        return sorted((float(le), count) for le, count in buckets)

    def versions(self):
        status = self._stack.ingest.status()
        store = "waybill-devstore (development store)"
        if self._stack.store.is_external:
            store = "MongoDB " + self._stack.store.client.server_info()["version"]
        return {"waybill": status["version"], "scripts": status["scripts"]["hash"],
                "redis": self.redis.info("server")["redis_version"] + ", appendfsync always", "store": store}


class RemoteGateway:
    """A gateway that runs already. Reconciliation needs its store; the queue is looked at when Redis is given."""

    is_local = False

    def __init__(self, url, secret, mongo_url=None, redis_url=None):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise GatewayError(f"--url must be http://HOST:PORT or https://HOST:PORT, not '{url}'")
        if not secret:
            raise GatewayError("the demo source's secret is needed: WAYBILL_SECRET_DEMO, or WAYBILL_SECRET_DEMO_FILE")
        self.url, self.secret = url.rstrip("/"), secret
        self.database = _database(mongo_url) if mongo_url else None
        self.redis = _redis(redis_url) if redis_url else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def processes(self):
        return {}

    def check_alive(self):
        pass

    def acks(self):
        return []

    def versions(self):
        versions = {}
        if self.database is not None:
            versions["store"] = "MongoDB protocol " + self.database.client.server_info()["version"]
        if self.redis is not None:
            versions["redis"] = self.redis.info("server")["redis_version"]
        return versions


def _database(url):
    import pymongo
    import pymongo.errors

    try:
        client = pymongo.MongoClient(url, serverSelectionTimeoutMS=10000, appname="waybill-loadtest")
        client.admin.command("ping")
        return client.get_default_database("waybill")
    except pymongo.errors.PyMongoError as error:
        raise GatewayError(f"the store that WAYBILL_MONGO_URL names: {error}") from None


def _redis(url):
    import redis

    try:
        client = redis.Redis.from_url(url, socket_timeout=10)
        client.ping()
        return client
    except (redis.RedisError, ValueError) as error:
        raise GatewayError(f"the Redis that WAYBILL_REDIS_URL names: {error}") from None


def from_environment(name):
    """The value of a setting, or what the file holds that NAME_FILE names; None when neither is set."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise GatewayError(f"{name}_FILE: {error}") from None
    return os.environ.get(name)


class Queue:
    """How much waits in the queue, over all partitions."""

    def __init__(self, redis):
        self._redis, self._partitions = redis, [0]
        if redis is not None:
            found = [int(key.decode().split("{")[1].split("}")[0]) for key in redis.scan_iter("waybill:{*}:epoch")]
            self._partitions = sorted(found) or [0]

    def waiting(self):
        """Entries in streams and retry sets."""
        pipe = self._redis.pipeline(transaction=False)
        for partition in self._partitions:
            pipe.xlen(f"waybill:{{{partition}}}:events")
            pipe.zcard(f"waybill:{{{partition}}}:retry")
        return sum(pipe.execute())


def wait_drained(gateway, limit_s, say, is_resolved=None):
    """Until the queue is empty or, with is_resolved, until that says so. False when it took longer than limit_s."""
    queue = None if is_resolved else Queue(gateway.redis)
    deadline, told = time.monotonic() + limit_s, time.monotonic()
    while time.monotonic() < deadline:
        gateway.check_alive()
        waiting = queue.waiting() if queue else None
        if (waiting == 0) if queue else is_resolved():
            return True
        if time.monotonic() - told > 10:
            told = time.monotonic()
            say(f"  still draining{f': {waiting} events wait' if queue else ''}")
        time.sleep(0.25 if queue else 1)
    return False
