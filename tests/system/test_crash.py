"""Processes that are killed, stopped and stalled while events flow (promises P1, P2, P8)."""

import concurrent.futures
import datetime
import pathlib
import time

import pytest
import requests

from lib import identity, make_event, sign, wait_for
from lib.events import encode
from lib.outcomes import check_succeeded_once, shipment_of, timeline_of, wait_dead, wait_succeeded
from lib.rawhttp import RawConnection, request
from lib.traffic import traffic
from lib.wait import holds_for

LEASE_S = 2.0


def slow_event(delay_ms, **fields):
    return make_event(simulate={"delay_ms": delay_ms}, **fields)


def wait_processing(stack, event):
    wait_for(lambda: stack.store.status(identity(event)) == "processing", 10, "the worker has begun")


def test_worker_killed_in_the_middle_of_an_event(make_stack):
    stack = make_stack()
    second = stack.add_worker()
    event = slow_event(900)
    stack.accept(event)
    wait_processing(stack, event)
    stack.worker.kill()
    began = time.monotonic()
    second.start()
    wait_succeeded(stack, event, timeout=LEASE_S * 3 + 2)
    assert time.monotonic() - began > 0.5
    check_succeeded_once(stack, event)


def test_killed_again_and_again_is_poison(make_stack):
    """An event that takes its worker with it each time ends as a dead letter, and its neighbour does not."""
    stack = make_stack({"WAYBILL_DELIVERY_LIMIT": 2})
    event, neighbour = slow_event(950), make_event()
    stack.accept(event)
    claims = set()

    def runs_again():
        """The token of a new claim whose handler has run for a while; True once the event is dead."""
        document = stack.store.event(identity(event)) or {}
        claim = document.get("claim")
        if document.get("status") == "dead":
            return True
        runs = claim and claim["token"] not in claims and datetime.datetime.utcnow() - claim["at"] > datetime.timedelta(milliseconds=300)
        return runs and claim["token"]

    while (token := wait_for(runs_again, LEASE_S * 4)) is not True:
        claims.add(token)
        stack.worker.kill()
        if len(claims) == 1:
            stack.accept(neighbour)
        assert len(claims) < 6, "it is taken again and again"
        stack.worker.start()
    assert len(claims) == 2
    letter = wait_dead(stack, event)
    assert letter["reason"] == "poison"
    assert timeline_of(stack, event) == []
    wait_succeeded(stack, neighbour)
    check_succeeded_once(stack, neighbour)


def test_ingest_killed_under_traffic(make_stack):
    stack = make_stack()
    with traffic(stack) as flow:
        for _ in range(3):
            flow.wait_accepted(50)
            stack.ingest.kill()
            stack.ingest.start()
        flow.wait_accepted(50)
    flow.check_all_succeeded()


def test_redis_killed_under_traffic(make_stack):
    stack = make_stack()
    with traffic(stack) as flow:
        for _ in range(2):
            flow.wait_accepted(50)
            stack.redis.kill()
            wait_for(lambda: flow.statuses.get(503), 10, "503 while Redis is away")
            stack.redis.start()
        flow.wait_accepted(50)
    assert set(flow.statuses) <= {202, 503}, flow.statuses
    flow.check_all_succeeded()


@pytest.mark.slow
def test_workers_killed_under_traffic(make_stack):
    stack = make_stack(workers=2)
    with traffic(stack) as flow:
        for turn in range(4):
            flow.wait_accepted(60)
            stack.workers[turn % 2].kill()
            stack.workers[turn % 2].start()
    flow.check_all_succeeded()


@pytest.mark.slow
def test_store_killed_under_traffic(make_stack, own_store):
    stack = make_stack()
    with traffic(stack) as flow:
        for _ in range(2):
            flow.wait_accepted(60)
            stack.store.kill()
            flow.wait_accepted(20)
            stack.store.start()
    assert set(flow.statuses) == {202}, flow.statuses
    flow.check_all_succeeded()


def test_ingest_stops_gracefully_under_traffic(make_stack):
    """Every connection that was taken gets a whole answer; what was accepted is there."""
    stack = make_stack()
    with traffic(stack) as flow:
        flow.wait_accepted(100)
        assert stack.ingest.stop(timeout=10) == 0
        stack.ingest.start()
        flow.wait_accepted(50)
    flow.check_all_succeeded()


def test_sigterm_finishes_what_is_in_flight_and_hands_back_the_rest(make_stack):
    stack = make_stack()
    second = stack.add_worker()
    events = [slow_event(400) for _ in range(8)]
    for event in events:
        stack.accept(event)
    wait_for(lambda: stack.store.events.count_documents({"status": "processing"}), 10)
    began = time.monotonic()
    assert stack.worker.stop(timeout=10) == 0
    assert time.monotonic() - began < 4, "it went on instead of handing back"
    done = stack.store.events.count_documents({"status": "succeeded"})
    assert done < len(events), "nothing was left to hand back: the test proves nothing"
    assert stack.redis.stream_length() == len(events) - done
    second.start()
    for event in events:
        wait_succeeded(stack, event, timeout=15)
        check_succeeded_once(stack, event)
    assert time.monotonic() - began < 8 * 0.4 + LEASE_S + 3, "it waited for leases to run out"


def test_sigterm_again_and_again_burns_nothing(make_stack):
    """A handed-back event's deliveries are not counted: it never becomes poison by orderly restarts."""
    stack = make_stack({"WAYBILL_DELIVERY_LIMIT": 2})
    events = [slow_event(200) for _ in range(12)]
    for event in events:
        stack.accept(event)
    for _ in range(4):
        wait_for(lambda: stack.store.events.count_documents({"status": "processing"}) or stack.redis.stream_length() == 0, 10)
        assert stack.worker.stop(timeout=10) == 0
        stack.worker.start()
    for event in events:
        wait_succeeded(stack, event, timeout=15)
        check_succeeded_once(stack, event)


def test_stalled_worker_changes_nothing_when_it_wakes_up(make_stack):
    stack = make_stack()
    second = stack.add_worker()
    event = slow_event(800)
    stack.accept(event)
    wait_processing(stack, event)
    stack.worker.pause()
    second.start()
    wait_succeeded(stack, event, timeout=LEASE_S * 3 + 3)
    before = stack.store.event(identity(event))
    shipments = list(stack.store.shipments.find())
    stack.worker.resume()
    holds_for(lambda: stack.store.event(identity(event)) == before and list(stack.store.shipments.find()) == shipments, 2.0)
    check_succeeded_once(stack, event)
    second.stop()
    later = make_event()
    stack.accept(later)
    wait_succeeded(stack, later, timeout=10)  # by the worker that was stalled


@pytest.mark.slow
def test_commit_that_arrives_after_the_lease_changes_nothing(make_stack):
    """The store sits on the first worker's commit while another takes over: when it comes through, its token is gone."""
    blocked_s = LEASE_S * 2 + 2
    stack = make_stack()
    second = stack.add_worker()
    stack.store.fail(["update"], mode={"times": 1}, block_ms=int(blocked_s * 1000))
    event = make_event()
    began = time.monotonic()
    stack.accept(event)
    wait_for(lambda: stack.worker.metrics().total("waybill_worker_attempts_total", outcome="success") == 1, 5)
    stack.worker.pause()
    second.start()
    wait_succeeded(stack, event, timeout=blocked_s)
    assert time.monotonic() - began < blocked_s - 0.5, "taken over too late: the test proves nothing"
    before, shipment = stack.store.event(identity(event)), shipment_of(stack, event)
    left = blocked_s - (time.monotonic() - began)
    holds_for(lambda: stack.store.event(identity(event)) == before, left + 1)
    stack.worker.resume()
    holds_for(lambda: stack.store.event(identity(event)) == before and shipment_of(stack, event) == shipment, 1)
    check_succeeded_once(stack, event)


def test_client_that_leaves_while_redis_is_asked(make_stack):
    stack = make_stack({"WAYBILL_QUEUE_TIMEOUT_MS": 1000})
    stack.redis.pause()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        def leave(_):
            with pytest.raises(requests.Timeout):
                stack.send(make_event(), timeout=0.2)
        list(pool.map(leave, range(40)))
    stack.redis.resume()
    wait_for(lambda: stack.send(make_event()).status_code == 202, 10)
    assert stack.ingest.stop() == 0


def good_request(stack):
    event = make_event()
    body = encode(event)
    headers = sign.standard_webhooks(stack.settings["WAYBILL_SECRET_DEMO"], event["event_id"], body)
    return request(headers={"Content-Type": "application/json", **headers}, body=body)


def test_request_that_is_half_sent_when_ingest_stops(make_stack):
    """It is answered (taken, or 503 so that the sender repeats it), and ingest ends."""
    stack = make_stack(workers=0)
    with RawConnection(stack.ingest.port) as connection:
        data = good_request(stack)
        connection.send(data[:-20])
        wait_for(lambda: stack.ingest.status()["connections"] == 1, 5)
        stack.ingest.terminate()
        wait_for(lambda: '"draining"' in stack.ingest.log() or "drain" in stack.ingest.log().lower() or "stop" in stack.ingest.log().lower(), 5)
        connection.send(data[-20:])
        answer = connection.answer()
        assert answer is None or answer.status in (202, 503), answer
        if answer and answer.status == 503:
            assert answer.problem()["code"] == "shutting_down"
            assert int(answer.header("retry-after")) >= 1
    assert stack.ingest.wait(20) == 0


def test_ingest_stops_while_redis_does_not_answer(make_stack):
    """What waits for Redis is answered 503, and ingest ends."""
    stack = make_stack({"WAYBILL_QUEUE_TIMEOUT_MS": 1000}, workers=0)
    stack.redis.pause()
    with RawConnection(stack.ingest.port) as connection:
        connection.send(good_request(stack))
        wait_for(lambda: stack.ingest.status()["pending"] == 1, 5)
        stack.ingest.terminate()
        assert connection.answer().status == 503
    assert stack.ingest.wait(10) == 0


def test_idle_connections_do_not_hold_up_a_stop(make_stack):
    stack = make_stack(workers=0)
    idle = [RawConnection(stack.ingest.port) for _ in range(5)]
    wait_for(lambda: stack.ingest.status()["connections"] == 5, 5)
    assert stack.ingest.stop(timeout=5) == 0
    for connection in idle:
        assert connection.is_closed()
        connection.close()


def test_worker_stops_while_redis_and_store_are_away(make_stack, own_store):
    """Whether drained in time (0) or not (1: others take over), it ends, and a later worker finishes what is left."""
    stack = make_stack({"WAYBILL_DRAIN_MS": 3000})
    event = slow_event(300)
    stack.accept(event)
    stack.redis.kill()
    stack.store.kill()
    began = time.monotonic()
    assert stack.worker.stop(timeout=10) in (0, 1)
    assert time.monotonic() - began < 6
    stack.redis.start()
    stack.store.start()
    stack.worker.start()
    wait_succeeded(stack, event, timeout=LEASE_S * 3)
    check_succeeded_once(stack, event)


def test_a_killed_worker_leaves_no_shared_memory_behind(make_stack):
    """The store's driver keeps counters there, and only a clean exit would remove them."""
    stack = make_stack()
    counters = pathlib.Path(f"/dev/shm/mongoc-{stack.worker.pid}")
    stack.worker.kill()
    assert not counters.exists()
