"""Redis is there and takes no writes: full, its disk full, read-only, loading (promises P4, P5)."""

import contextlib
import resource
import shutil
import time

import pytest
import redis

from helpers import check_503, check_unharmed, pending_entries
from lib import identity, make_event, wait_for
from lib.traffic import traffic


class FailingSnapshots:
    """MISCONF: a snapshot cannot be written, and Redis is told to stop writes then."""

    def __init__(self, stack):
        self._client, self._in_the_way = stack.redis.client, stack.folder / "dump.rdb"

    def _snapshot(self, wanted):
        self._client.bgsave()
        wait_for(lambda: self._client.info("persistence")["rdb_last_bgsave_status"] == wanted, 10)

    def begin(self):
        (self._in_the_way / "full").mkdir(parents=True)  # a folder cannot be replaced by a file
        self._client.config_set("save", "3600 1")
        self._snapshot("err")

    def end(self):
        shutil.rmtree(self._in_the_way)
        self._snapshot("ok")


class NotThePrimary:
    """READONLY: a failover made it a replica, of a server that is gone."""

    def __init__(self, stack):
        self._client = stack.redis.client

    def begin(self):
        self._client.execute_command("REPLICAOF", "127.0.0.1", "1")

    def end(self):
        self._client.execute_command("REPLICAOF", "NO", "ONE")


class TooFewReplicas:
    """NOREPLICAS: min-replicas-to-write."""

    def __init__(self, stack):
        self._client = stack.redis.client

    def begin(self):
        self._client.config_set("min-replicas-to-write", 1)

    def end(self):
        self._client.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize("fault", [FailingSnapshots, NotThePrimary, TooFewReplicas])
def test_refused_writes_are_waited_for(make_stack, fault):
    """Ingest says 503, the worker waits with what it has, nothing is charged, and both go on by themselves."""
    stack = make_stack()
    trouble = fault(stack)
    events = [make_event(simulate={"delay_ms": 400}) for _ in range(4)]
    for event in events:
        stack.accept(event)
    wait_for(lambda: stack.store.events.count_documents({"status": "processing"}), 10, "the worker has begun")
    trouble.begin()
    wait_for(lambda: stack.send(make_event()).status_code == 503, 5)
    for _ in range(3):
        check_503(stack.send(make_event(), timeout=5))
    wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 10)
    assert "redis" in stack.worker.admin("/readyz").text.lower()
    assert stack.redis.stream_length() > 0
    trouble.end()
    wait_for(lambda: stack.send(make_event()).status_code == 202, 10, "ingest recovers by itself")
    check_unharmed(stack, events)
    wait_for(stack.worker.is_ready, 10)


def test_memory_is_full_until_the_worker_has_made_room(make_stack):
    """maxmemory with noeviction. Workers can still take and settle, so the backlog itself is the way out."""
    stack = make_stack()
    stack.worker.stop()
    client = stack.redis.client
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_500_000)
    accepted = []

    def refused():
        event = make_event(note="x" * 40_000)
        answer = stack.send(event)
        if answer.status_code == 202:
            accepted.append(event)
        return [answer] if answer.status_code != 202 else None

    answer, = wait_for(refused, 20, "memory is used up", interval=0)
    check_503(answer)
    assert len(accepted) > 5
    assert "OOM command not allowed" in stack.ingest.log()
    stack.worker.start()
    check_unharmed(stack, accepted)
    wait_for(lambda: stack.send(make_event()).status_code == 202, 15, "room again, without anybody's doing")
    for _ in range(5):
        stack.accept(make_event(note="x" * 40_000))
    client.config_set("maxmemory", 0)


# the disk is full. A limit on the size of files makes writes fail as ENOSPC does, and needs no file system of its own.

def survive_full_disks(stack, *redis_settings):
    """Writing beyond the limit is an error for Redis then, not a signal."""
    stack.redis.argv = ["sh", "-c", 'trap "" XFSZ; exec "$@"', "sh", *stack.redis.argv, *redis_settings]


def limit_disk(stack, spare_bytes=None):
    """Lets Redis' files grow by so much and no more; None: as they like."""
    hard = resource.prlimit(stack.redis.pid, resource.RLIMIT_FSIZE)[1]
    used = max(path.stat().st_size for path in (stack.folder / "redis-aof").iterdir())
    soft = hard if spare_bytes is None else used + spare_bytes
    resource.prlimit(stack.redis.pid, resource.RLIMIT_FSIZE, (soft, hard))


def test_disk_full_with_fsync_always(make_stack):
    """Redis ends itself rather than break its word (found out here). What was acknowledged is on disk."""
    stack = make_stack(prepare=survive_full_disks)
    with traffic(stack) as flow:
        flow.wait_accepted(50)
        limit_disk(stack, 20_000)
        wait_for(lambda: not stack.redis.alive, 15, "Redis gave up")
        wait_for(lambda: flow.statuses.get(503), 10)
        time_down = time.monotonic()
        check_503(stack.send(make_event(), timeout=5))
        assert time.monotonic() - time_down < 3
        stack.redis.start()
        flow.wait_accepted(50)
    assert "Can't recover from AOF write error" in stack.redis.log()
    assert set(flow.statuses) <= {202, 503}, flow.statuses
    flow.check_all_succeeded()


def test_disk_full_with_fsync_every_second(make_stack):
    """Redis stays and answers MISCONF until there is room."""
    stack = make_stack(prepare=lambda stack: survive_full_disks(stack, "--appendfsync", "everysec"))
    with traffic(stack) as flow:
        flow.wait_accepted(50)
        limit_disk(stack, 20_000)
        wait_for(lambda: flow.statuses.get(503), 15)
        check_503(stack.send(make_event(), timeout=5))
        assert "MISCONF" in stack.ingest.admin("/readyz").text
        wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 10)
        limit_disk(stack)
        flow.wait_accepted(50)
    assert stack.redis.alive
    assert set(flow.statuses) <= {202, 503}, flow.statuses
    flow.check_all_succeeded()


# loading

def test_redis_that_loads_its_data(make_stack):
    """It answers LOADING for seconds after a start."""
    stack = make_stack()
    events = [make_event(simulate={"delay_ms": 300}) for _ in range(4)]
    for event in events:
        stack.accept(event)
    with stack.redis.client.pipeline(transaction=False) as ballast:
        for number in range(15_000):
            ballast.set(f"ballast:{number}", number)
        ballast.execute()
    stack.redis.kill()
    stack.redis.argv += ["--key-load-delay", "100"]  # µs a command
    stack.redis.start(wait=False)

    def is_loading():
        with contextlib.suppress(redis.BusyLoadingError, redis.ConnectionError):
            stack.redis.client.ping()
            pytest.fail("it has loaded already: the test proves nothing")
        return "LOADING" in stack.ingest.admin("/readyz").text

    wait_for(is_loading, 10)
    for _ in range(3):
        check_503(stack.send(make_event(), timeout=5))
    wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 2, "the worker has noticed, and waits")
    wait_for(lambda: stack.send(make_event()).status_code == 202, 20, "recovery by itself")
    check_unharmed(stack, events)


# settings

def redis_with(*words):
    def prepare(stack):
        stack.redis.argv += words
    return prepare


def warnings_of(service):
    return [entry["problem"] for entry in service.log_entries() if "settings do not keep" in entry.get("message", "")]


def test_settings_that_could_evict_are_warned_about(make_stack):
    stack = make_stack(prepare=redis_with("--maxmemory-policy", "allkeys-lru", "--appendfsync", "everysec"))
    for service in (stack.ingest, stack.worker):
        warning, = wait_for(lambda service=service: warnings_of(service), 5, "a warning")
        assert "maxmemory-policy is allkeys-lru" in warning
        assert "appendfsync is everysec" in warning


def test_good_settings_are_not_warned_about(make_stack):
    stack = make_stack()
    event = make_event()
    stack.accept(event)
    check_unharmed(stack, [event])
    for service in (stack.ingest, stack.worker):
        assert warnings_of(service) == []


# one event that Redis refuses

PUBLISHING = """
return function(event, ctx)
    local topic = event:json().data.topic
    if topic then ctx:publish(topic, { event_id = event.event_id }) end
    return { done = true }
end
"""


def test_refused_publish_does_not_hold_up_the_others(make_stack):
    """Somebody put something else where a topic's stream belongs: that event waits, its neighbours do not."""
    stack = make_stack(prepare=lambda stack: stack.write_script("process.lua", PUBLISHING))
    client, topic = stack.redis.client, "waybill:{0}:out:parcels"
    client.set(topic, "no stream")
    stack.worker.stop()
    stuck, others = make_event(topic="parcels"), [make_event() for _ in range(7)]
    for event in (*others[:3], stuck, *others[3:]):
        stack.accept(event)
    stack.worker.start()
    wait_for(lambda: len(pending_entries(stack)) == 1 and stack.redis.stream_length() == 1, 15, "the others are settled")
    statuses = {event["event_id"]: stack.store.status(identity(event)) for event in (stuck, *others)}
    assert set(statuses.values()) == {"succeeded"}, statuses
    later = make_event(topic="other")
    stack.accept(later)
    wait_for(lambda: client.xlen("waybill:{0}:out:other") == 1, 10, "work goes on")
    assert any(entry.get("key") == identity(stuck) for entry in stack.worker.log_entries()), "it is told which"
    client.delete(topic)
    wait_for(lambda: stack.redis.stream_length() == 0, 15, "settled once it can be")
    assert client.xlen(topic) == 1
