"""Redis or the store away, slow or in trouble (promises P4, P5): no hang, no lost event, no attempt charged."""

import concurrent.futures
import time

import pytest

from lib import identity, make_event, wait_for
from lib.outcomes import attempts, check_succeeded_once, timeline_of, wait_succeeded
from lib.traffic import traffic


def send_timed(stack, event=None):
    began = time.monotonic()
    answer = stack.send(event or make_event())
    return answer, time.monotonic() - began


def check_503(answer):
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "queue_unavailable"
    assert int(answer.headers["Retry-After"]) >= 1


def check_unharmed(stack, events, timeout=20):
    """All succeeded in one attempt each."""
    for event in events:
        wait_succeeded(stack, event, timeout)
    for event in events:
        check_succeeded_once(stack, event)


# Redis

def test_redis_that_does_not_answer_is_503_within_two_seconds(make_stack):
    """With the default time limit; many at once wait no longer than one."""
    stack = make_stack(workers=0)
    stack.redis.pause()
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        results = list(pool.map(lambda _: send_timed(stack), range(60)))
    for answer, seconds in results:
        check_503(answer)
        assert seconds < 3.0
    assert stack.ingest.admin("/readyz").status_code == 503
    assert stack.ingest.is_live()
    stack.redis.resume()
    wait_for(lambda: stack.send(make_event()).status_code == 202, 10, "recovery by itself")
    wait_for(stack.ingest.is_ready, 5)


def test_redis_that_is_gone_is_503_at_once(make_stack):
    stack = make_stack({"WAYBILL_QUEUE_TIMEOUT_MS": 500})
    before = make_event()
    stack.accept(before)
    stack.redis.kill()
    for _ in range(5):
        answer, seconds = send_timed(stack)
        check_503(answer)
        assert seconds < 1.5
    wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 10)
    assert "redis" in stack.worker.admin("/readyz").text.lower()
    stack.redis.start()
    wait_for(lambda: stack.send(make_event()).status_code == 202, 10, "recovery by itself")
    after = make_event()
    stack.accept(after)
    check_unharmed(stack, [before, after])
    wait_for(stack.worker.is_ready, 5)


def test_redis_paused_while_the_worker_works(make_stack):
    stack = make_stack({"WAYBILL_QUEUE_TIMEOUT_MS": 500})
    events = [make_event(simulate={"delay_ms": 100}) for _ in range(10)]
    for event in events:
        stack.accept(event)
    wait_for(lambda: stack.store.events.count_documents({"status": "succeeded"}), 10)
    stack.redis.pause()
    wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 10)
    stack.redis.resume()
    check_unharmed(stack, events)


def test_event_whose_answer_was_lost_counts_once(make_stack):
    """503 says nothing about whether Redis took the event: the sender repeats it, and there is one outcome."""
    stack = make_stack({"WAYBILL_QUEUE_TIMEOUT_MS": 300})
    event = make_event()
    stack.redis.pause()
    check_503(stack.send(event))
    stack.redis.resume()
    wait_for(lambda: stack.send(event).status_code == 202, 10)
    check_unharmed(stack, [event])
    wait_for(lambda: stack.redis.stream_length() == 0, 10)
    check_succeeded_once(stack, event)
    assert stack.store.event(identity(event))["conflicts"] == 0


@pytest.mark.slow
def test_redis_stalls_again_and_again_under_traffic(make_stack):
    stack = make_stack({"WAYBILL_QUEUE_TIMEOUT_MS": 200}, workers=2)
    with traffic(stack) as flow:
        for _ in range(5):
            flow.wait_accepted(40)
            stack.redis.pause()
            refused = flow.statuses[503]
            wait_for(lambda: flow.statuses[503] > refused, 5, "503 while Redis stands still")
            stack.redis.resume()
        flow.wait_accepted(40)
    assert set(flow.statuses) == {202, 503}, flow.statuses
    flow.check_all_succeeded()


@pytest.mark.slow
def test_store_fails_now_and_then_under_traffic(make_stack):
    """Lost connections and errors at any step of two workers' claims and commits."""
    stack = make_stack(workers=2)
    with traffic(stack, threads=4) as flow:
        for turn in range(12):
            fault = FAULTS["connection closed"] if turn % 2 else FAULTS["shutting down"]
            stack.store.fail([("insert", "update", "find")[turn % 3]], mode={"times": 2}, **fault)
            flow.wait_accepted(25)
    stack.store.heal()
    assert set(flow.statuses) == {202}, flow.statuses
    flow.check_all_succeeded(60)


@pytest.mark.parametrize("fault", ["OOM", "READONLY", "no AOF space"])
def test_redis_that_refuses_writes(make_stack, fault):
    stack = make_stack(workers=0)
    stack.accept(make_event())
    client = stack.redis.client
    if fault == "OOM":
        client.config_set("maxmemory", "1")
    elif fault == "READONLY":
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
    else:
        client.config_set("min-replicas-to-write", "1")  # NOREPLICAS: the same class of refusal
    wait_for(lambda: stack.send(make_event()).status_code == 503, 5)
    check_503(stack.send(make_event()))
    client.config_set("maxmemory", "0")
    client.config_set("min-replicas-to-write", "0")
    client.execute_command("REPLICAOF", "NO", "ONE")
    wait_for(lambda: stack.send(make_event()).status_code == 202, 10)


def test_lost_scripts_and_lost_connections(make_stack):
    """SCRIPT FLUSH and CLIENT KILL under a running worker."""
    stack = make_stack()
    events = []
    for turn in range(5):
        events += [make_event(simulate={"fail": "transient", "times": 1}) for _ in range(5)]
        for event in events[-5:]:
            stack.accept(event)
        stack.redis.client.script_flush()
        if turn % 2:
            stack.redis.client.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
            wait_for(lambda: stack.send(make_event()).status_code == 202, 10)
    for event in events:
        wait_succeeded(stack, event, 15)
        assert len(attempts(stack, event)) == 2


def test_consumer_group_destroyed(make_stack):
    stack = make_stack()
    stack.redis.client.xgroup_destroy("waybill:{0}:events", "workers")
    events = [make_event() for _ in range(5)]
    for event in events:
        stack.accept(event)
    check_unharmed(stack, events)


RETRY_BASE_MS = 4000


@pytest.fixture
def waiting(make_stack):
    """A stack, and its events that failed once and now wait (full jitter can make the wait of some short)."""
    stack = make_stack({"WAYBILL_RETRY_BASE_MS": RETRY_BASE_MS})
    events = [make_event(simulate={"fail": "transient", "times": 1}) for _ in range(12)]
    for event in events:
        stack.accept(event)
    wait_for(lambda: stack.store.events.count_documents({"attempts.0": {"$exists": True}}) == len(events), 10)
    assert stack.redis.retry_length() >= len(events) // 2
    return stack, events


def check_queued_again(stack, events):
    """Each had its second attempt, when it was due and not much later, and succeeded."""
    for event in events:
        wait_succeeded(stack, event, 25)
        first, second = attempts(stack, event)
        assert (first["outcome"], second["outcome"]) == ("transient", "success")
        assert (second["started_at"] - first["ended_at"]).total_seconds() * 1000 >= first["delay_ms"] - 2
        assert len(timeline_of(stack, event)) == 1
    fresh = make_event()
    stack.accept(fresh)
    check_unharmed(stack, [fresh])


def test_flushall_with_events_in_retry_wait(waiting):
    """Redis comes back empty: the store knows what waits, and the reconciler queues it again."""
    stack, events = waiting
    stack.redis.client.flushall()
    check_queued_again(stack, events)


@pytest.mark.slow
def test_redis_restarted_without_its_file(waiting):
    stack, events = waiting
    stack.redis.kill()
    for path in (stack.folder / "redis-aof").iterdir():
        path.unlink()
    stack.redis.start()
    assert stack.redis.retry_length() == 0
    check_queued_again(stack, events)


# the store

def test_store_away_for_some_seconds(make_stack, own_store):
    stack = make_stack()
    stack.store.kill()
    events = [make_event() for _ in range(20)]
    for event in events:
        stack.accept(event)
    wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 15)
    assert "store" in stack.worker.admin("/readyz").text.lower()
    assert stack.ingest.is_ready(), "ingest does not need the store"
    assert stack.worker.is_live()
    stack.store.start()
    check_unharmed(stack, events)
    wait_for(stack.worker.is_ready, 10)


def test_store_paused(make_stack, own_store):
    """It takes connections and does not answer: longer than a lease."""
    stack = make_stack()
    first = make_event()
    stack.accept(first)
    wait_succeeded(stack, first)
    stack.store.pause()
    events = [make_event() for _ in range(10)]
    for event in events:
        stack.accept(event)
    wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 20)
    stack.store.resume()
    check_unharmed(stack, events)


FAULTS = {
    "shutting down": {"error_code": 91},
    "not primary": {"error_code": 10107},
    "interrupted": {"error_code": 11600},
    "disk full": {"error_code": 14031},
    "too many requests": {"error_code": 16500},
    "connection closed": {"close_connection": True},
}
COMMANDS = ("insert", "update", "findAndModify", "find", "aggregate")


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_store_that_fails_every_command(make_stack, fault):
    stack = make_stack()
    stack.store.fail(COMMANDS, **fault)
    events = [make_event() for _ in range(10)]
    for event in events:
        stack.accept(event)
    wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 15)
    assert "store" in stack.worker.admin("/readyz").text.lower()
    stack.store.heal()
    check_unharmed(stack, events)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["insert", "update"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_store_that_fails_a_few_times(make_stack_once, command, fault):
    """The fault hits different steps: insert is the claim, update the commit."""
    stack = make_stack_once
    stack.store.fail([command], mode={"times": 3}, **fault)
    events = [make_event() for _ in range(8)]
    for event in events:
        stack.accept(event)
    check_unharmed(stack, events)
    stack.store.heal()


@pytest.mark.parametrize("fault", [FAULTS["disk full"], {"error_code": 46}, {"error_code": 11000}], ids=str)
def test_store_that_fails_once_it_has_the_decision(make_stack, fault):
    """What was decided stays so: no outage, however its error is called, makes a dead letter of a success."""
    stack = make_stack()
    stack.store.fail(["update"], mode={"skip": 1}, **fault)
    event = make_event()
    stack.accept(event)
    wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 15)
    stack.store.heal()
    check_unharmed(stack, [event])


@pytest.fixture(scope="module")
def make_stack_once(module_stacks):
    return module_stacks()


@pytest.mark.parametrize("command", ["insert", "update"])
def test_store_that_is_slow(make_stack_once, command):
    """Slower than a lease, once."""
    stack = make_stack_once
    stack.store.fail([command], mode={"times": 1}, block_ms=2500)
    events = [make_event() for _ in range(5)]
    for event in events:
        stack.accept(event)
    check_unharmed(stack, events)
    stack.store.heal()


def test_outage_in_the_middle_of_an_event(make_stack, own_store):
    """The store dies while a handler runs: its result is committed afterwards, once."""
    stack = make_stack()
    event = make_event(simulate={"delay_ms": 700})
    stack.accept(event)
    wait_for(lambda: stack.store.status(identity(event)) == "processing", 10)
    stack.store.kill()
    wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 15)
    stack.store.start()
    check_unharmed(stack, [event])
