"""The store away or cut off: the breaker stops taking, what was taken stays its owner's, and nobody spins."""

import os
import time

import pytest

from helpers import check_503, check_unharmed, hosts_of, pending_entries
from lib import identity, make_event, wait_for
from lib.outcomes import attempts
from lib.wait import holds_for
from relay import CLOSE, SILENT

LEASE_S = 2.0


@pytest.mark.parametrize("redis_connections", ["stay", "break"])
def test_what_was_taken_stays_its_owners(over_link, redis_connections):
    """One worker loses its way to the store in the middle of an event, for several leases; another has it and is idle."""
    stack, link = over_link
    other = stack.add_worker().start()
    stack.worker.pause()  # so that the event goes to the first
    other.stop()
    stack.worker.resume()
    event = make_event(simulate={"delay_ms": 500})
    stack.accept(event)
    wait_for(lambda: stack.store.status(identity(event)) == "processing", 10)
    link.cut()
    other.start()
    wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 10)
    if redis_connections == "break":
        stack.redis.client.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")

    def still_the_first_owners():
        entry, = pending_entries(stack)
        return hosts_of([entry], stack.worker) and entry["times_delivered"] == 1

    holds_for(still_the_first_owners, 3 * LEASE_S, lambda: pending_entries(stack), interval=0.1)
    assert stack.worker.metrics().total("waybill_worker_in_hand") == 1
    link.mend()
    check_unharmed(stack, [event], timeout=10)
    attempt, = attempts(stack, event)
    assert f"-{stack.worker.pid}-" in attempt["worker"]


def test_breaker_stops_taking_and_says_so(over_link):
    stack, link = over_link
    assert stack.worker.metrics().total("waybill_worker_store_up") == 1
    opened = stack.worker.status()["store"]["breaker_opened"]
    link.cut()
    wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 10)
    assert "store: away" in stack.worker.admin("/readyz").text
    assert stack.worker.metrics().total("waybill_worker_store_up") == 0
    assert stack.worker.status()["store"]["up"] is False
    assert stack.worker.status()["store"]["breaker_opened"] == opened + 1
    wait_for(lambda: stack.redis.client.info("clients")["blocked_clients"] == 0, 3, "the last taking has ended")
    events = [make_event() for _ in range(20)]
    for event in events:
        stack.accept(event)
    holds_for(lambda: stack.redis.pending() == 0 and stack.redis.stream_length() == 20, 1.5, "nothing is taken", interval=0.1)
    link.mend()
    mended = time.monotonic()
    check_unharmed(stack, events, timeout=8)
    assert time.monotonic() - mended < 8, "it took long to notice"
    wait_for(stack.worker.is_ready, 5)
    assert stack.worker.metrics().total("waybill_worker_store_up") == 1


WRITES = ("insert", "update", "findAndModify", "delete")


@pytest.mark.parametrize("fault, words", [({"error_code": 10107}, "has not taken yet what"), ({"error_code": 121}, "refuses events")],
                         ids=["not the primary", "a rule of the store's"])
def test_a_store_that_answers_and_takes_nothing(make_stack, fault, words):
    """Pings succeed all the time: the worker is unready until a claim succeeds, and does not change its mind with each ping."""
    stack = make_stack()
    stack.store.fail(WRITES, **fault)
    events = [make_event() for _ in range(3)]
    for event in events:
        stack.accept(event)
    wait_for(lambda: words in stack.worker.admin("/readyz").text, 15, lambda: stack.worker.admin("/readyz").text)
    began, cpu_s = time.monotonic(), cpu_seconds(stack.worker)

    def is_unready():
        return (stack.worker.admin("/readyz").status_code == 503 and stack.worker.status()["store"]["up"] is False and
                stack.worker.metrics().total("waybill_worker_store_up") == 0)

    holds_for(is_unready, 5, lambda: stack.worker.admin("/readyz").text, interval=0.05)
    assert cpu_seconds(stack.worker) - cpu_s < 0.3 * (time.monotonic() - began)
    store = stack.worker.status()["store"]
    assert store["pipelines_held"] == 1 and store["breaker_opened"] <= 2 and "the store" in store["error"]
    log = stack.worker.log()
    assert log.count("leaves no way to go on") == (1 if fault["error_code"] == 121 else 0)
    assert log.count("the store answers") == 1
    stack.store.heal()
    check_unharmed(stack, events, timeout=15)
    wait_for(stack.worker.is_ready, 5)
    assert stack.worker.status()["store"]["error"] is None
    assert "takes again what it is given" in stack.worker.log()


@pytest.mark.parametrize("over_link", [{"WAYBILL_LEASE_MS": 12000}], indirect=True)
def test_stop_without_a_store_hands_back_at_once(over_link):
    """What a stopping worker cannot store, another does, long before the lease has run out; no delivery is counted."""
    stack, link = over_link
    event = make_event(simulate={"delay_ms": 500})
    stack.accept(event)
    wait_for(lambda: stack.store.status(identity(event)) == "processing", 10)
    link.cut()
    wait_for(lambda: stack.worker.admin("/readyz").status_code == 503, 10)
    began = time.monotonic()
    assert stack.worker.stop(timeout=10) == 0
    entry, = pending_entries(stack)
    assert entry["times_delivered"] == 0
    stack.add_worker(WAYBILL_MONGO_URL=stack.store.url).start()
    check_unharmed(stack, [event], timeout=8)
    assert time.monotonic() - began < 10


def test_worker_that_starts_without_a_store(make_stack, own_store):
    stack = make_stack(workers=0, start_store=False)
    events = [make_event() for _ in range(5)]
    for event in events:
        stack.accept(event)
    worker = stack.add_worker().start(wait=False)
    wait_for(worker.is_live, 20)
    holds_for(lambda: worker.alive and stack.redis.pending() == 0, 1.5, interval=0.1)
    stack.store.start()
    check_unharmed(stack, events)


def cpu_seconds(process):
    """What a process has used so far."""
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
        user, system = stat.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def check_paced(name, times, at_most, began):
    """It goes on trying, and seldom."""
    assert 3 <= len(times) <= at_most, f"{name}: {len(times)} connections: {[round(at - began, 2) for at in times]}"


def check_backoff(times):
    """Of one connection: the waits grow, and no two are the same."""
    waits = [later - earlier for earlier, later in zip(times, times[1:])]
    assert max(waits[-2:]) > 2 * waits[0] or waits[0] > 1, waits
    assert len({round(wait, 3) for wait in waits}) > len(waits) // 2, waits


@pytest.mark.slow
@pytest.mark.parametrize("mode", [CLOSE, SILENT])
def test_no_tight_loops_in_an_outage(over_link, relay_to, mode):
    """Seconds of outage, counted where the connections arrive: the first worker's store, the second's Redis (two connections:
    one pipeline and the keeper), ingest's Redis."""
    stack, store_link = over_link
    ingest_link, worker_link = relay_to(stack.redis.port), relay_to(stack.redis.port)
    stack.ingest.settings["WAYBILL_REDIS_URL"] = f"redis://127.0.0.1:{ingest_link.port}/0"
    stack.ingest.restart()
    second = stack.add_worker(WAYBILL_REDIS_URL=f"redis://127.0.0.1:{worker_link.port}/0").start()
    event = make_event()
    stack.accept(event)
    check_unharmed(stack, [event])

    services = (stack.ingest, stack.worker, second)
    used = [cpu_seconds(service) for service in services]
    links = (store_link, worker_link, ingest_link)
    began = time.monotonic()
    for link in links:
        link.cut(mode)
    wait_for(lambda: stack.ingest.admin("/readyz").status_code == 503, 10)
    check_503(stack.send(make_event(), timeout=5))
    wait_for(lambda: time.monotonic() - began >= 10, 12, interval=0.2)
    counts = [link.accepted_since(began) for link in links]
    check_paced("the store", counts[0], 40, began)
    check_paced("the worker's Redis", counts[1], 2 * 30, began)
    check_paced("ingest's Redis", counts[2], 30, began)
    check_backoff(counts[2])
    for service, before in zip(services, used):
        assert cpu_seconds(service) - before < 2, f"{service.name} is busy doing nothing"

    for link in links:
        link.mend()
    wait_for(lambda: stack.send(make_event()).status_code == 202, 10)
    after = make_event()
    stack.accept(after)
    check_unharmed(stack, [after])
    for service in services:
        wait_for(service.is_ready, 10)


def errors_in(seconds, workers, metric):
    """How many errors each worker counts in that time, when it has settled into its pace."""
    wait_for(lambda: all(worker.metrics().total(metric) >= 3 for worker in workers), 10, "trouble")
    before = [worker.metrics().total(metric) for worker in workers]
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began >= seconds, seconds + 1, interval=0.1)
    return [worker.metrics().total(metric) - count for worker, count in zip(workers, before)]


@pytest.mark.slow
def test_servers_that_half_work_are_not_hammered(make_stack):
    """The store answers a ping and takes nothing; Redis lets everybody connect and hands out nothing."""
    stack = make_stack()
    event = make_event(simulate={"fail": "transient", "times": 1})
    stack.store.fail(("insert",), error_code=91)
    stack.accept(event)
    errors, = errors_in(4, stack.workers, "waybill_worker_store_errors_total")
    assert errors <= 12
    stack.store.heal()
    wait_for(lambda: stack.store.status(identity(event)) == "succeeded", 10)
    assert len(attempts(stack, event)) == 2, "an outage is no attempt"

    stack.redis.client.execute_command("ACL", "SETUSER", "default", "-xreadgroup")
    errors, = errors_in(4, stack.workers, "waybill_worker_queue_errors_total")
    assert errors <= 12
    after = make_event()
    stack.accept(after)
    stack.redis.client.execute_command("ACL", "SETUSER", "default", "+xreadgroup")
    check_unharmed(stack, [after])
