"""The life of an event: each acceptance scenario, from the signed request to the documents."""

import concurrent.futures
import datetime
import hashlib

import pytest

from lib import identity, make_event, unique_id, wait_for
from lib.events import encode
from lib.outcomes import as_bytes, attempts, check_succeeded_once, shipment_of, timeline_of, wait_dead, wait_succeeded
from lib.wait import holds_for

ATTEMPTS = 4
BASE_MS = 100


@pytest.fixture(scope="module")
def stack(module_stacks):
    return module_stacks({"WAYBILL_RETRY_ATTEMPTS": ATTEMPTS, "WAYBILL_RETRY_BASE_MS": BASE_MS})


def test_accepted_and_succeeded(stack):
    event = make_event(note="Zażółć – 荷物 🚚")
    accepted = stack.accept(event)
    document = wait_succeeded(stack, event)
    check_succeeded_once(stack, event)
    assert document["source"] == "demo" and document["event_id"] == event["event_id"] and document["type"] == event["type"]
    assert document["occurred_at"] == event["occurred_at"]
    assert document["ingestion"]["ingest_id"] == accepted["ingest_id"]
    assert document["ingestion"]["acknowledged"] is True
    assert document["body_sha256"] == hashlib.sha256(encode(event)).hexdigest()
    assert (document["duplicates"], document["conflicts"]) == (0, 0)
    assert "claim" not in document and "decision" not in document
    attempt = document["attempts"][0]
    assert attempt["number"] == 1 and attempt["worker"] and attempt["script_hash"]
    assert document["ingestion"]["received_at"] <= attempt["started_at"] + datetime.timedelta(milliseconds=1)
    assert attempt["started_at"] <= attempt["ended_at"]
    wait_for(lambda: stack.redis.stream_length() == 0 and stack.redis.pending() == 0, 5, "a settled stream")


def send_at_once(stack, events):
    with concurrent.futures.ThreadPoolExecutor(len(events)) as pool:
        return list(pool.map(stack.accept, events))


def test_fifty_parallel_submissions_have_one_outcome(stack):
    event = make_event()
    answers = send_at_once(stack, [event] * 50)
    assert len({answer["ingest_id"] for answer in answers}) == 50
    wait_succeeded(stack, event)
    wait_for(lambda: stack.store.event(identity(event))["duplicates"] == 49, 10, lambda: f"49 duplicates: {stack.store.event(identity(event))}")
    wait_for(lambda: stack.redis.stream_length() == 0, 10)
    check_succeeded_once(stack, event)
    assert stack.store.event(identity(event))["duplicates"] == 49
    assert stack.store.event(identity(event))["conflicts"] == 0


def test_fifty_parallel_submissions_to_many_workers(make_stack):
    """Several processes and threads compete for the same identities."""
    stack = make_stack({"WAYBILL_THREADS": 2}, workers=2)
    events = [make_event(simulate={"delay_ms": 20}) for _ in range(5)]
    send_at_once(stack, [event for event in events for _ in range(10)])
    for event in events:
        wait_succeeded(stack, event, 20)
        wait_for(lambda: stack.store.event(identity(event))["duplicates"] == 9, 15, lambda: f"9 duplicates: {stack.store.event(identity(event))}")
        check_succeeded_once(stack, event)
    wait_for(lambda: stack.redis.stream_length() == 0, 10)


def test_duplicate_after_success(stack):
    event = make_event()
    stack.accept(event)
    wait_succeeded(stack, event)
    stack.accept(event)
    wait_for(lambda: stack.store.event(identity(event))["duplicates"] == 1, 10)
    check_succeeded_once(stack, event)


def test_duplicate_while_it_waits_for_a_retry(stack):
    event = make_event(simulate={"fail": "transient", "times": 2})
    stack.accept(event)
    wait_for(lambda: attempts(stack, event), 10)
    stack.accept(event)
    wait_succeeded(stack, event)
    wait_for(lambda: stack.store.event(identity(event))["duplicates"] == 1, 10)
    assert [attempt["outcome"] for attempt in attempts(stack, event)] == ["transient", "transient", "success"]
    assert len(timeline_of(stack, event)) == 1


def test_same_identity_with_another_body_is_a_conflict(stack):
    first = make_event()
    second = {**first, "data": {**first["data"], "note": "another"}}
    stack.accept(first)
    wait_succeeded(stack, first)
    stack.accept(second)
    wait_for(lambda: stack.store.event(identity(first))["conflicts"] == 1, 10)
    check_succeeded_once(stack, first)
    assert stack.store.event(identity(first))["duplicates"] == 0
    assert any(identity(first) in str(entry) and "conflict" in str(entry).lower() for entry in stack.worker.log_entries())


def test_same_event_id_of_two_parcels_is_one_identity(stack):
    """The identity is source and event id, nothing else."""
    event_id = unique_id()
    first, second = (make_event(event_id=event_id, tracking_number=unique_id("TRK")) for _ in range(2))
    stack.accept(first)
    wait_succeeded(stack, first)
    stack.accept(second)
    wait_for(lambda: stack.store.event(identity(first))["conflicts"] == 1, 10)
    assert shipment_of(stack, second) is None


# failures

def check_schedule(records, base_ms):
    """Each wait was as chosen, and chosen within the schedule: full jitter up to base·2^(n-1)."""
    for n, (failed, following) in enumerate(zip(records, records[1:])):
        assert 0 <= failed["delay_ms"] <= base_ms * 2 ** n, failed
        waited = (following["started_at"] - failed["ended_at"]) / datetime.timedelta(milliseconds=1)
        assert waited >= failed["delay_ms"] - 2, (failed, following)
        assert waited <= failed["delay_ms"] + 1500, (failed, following)


def test_transient_failure_recovers(stack):
    event = make_event(simulate={"fail": "transient", "times": 3})
    stack.accept(event)
    document = wait_succeeded(stack, event)
    records = document["attempts"]
    assert [record["outcome"] for record in records] == ["transient"] * 3 + ["success"]
    assert [record["number"] for record in records] == [1, 2, 3, 4]
    assert all(record["message"] and record["error_kind"] and record["charged"] for record in records[:3])
    check_schedule(records, BASE_MS)
    assert document["failures"] == 3
    assert len(timeline_of(stack, event)) == 1
    assert stack.store.dead_letters.find_one({"_id": identity(event)}) is None


def test_delays_differ(stack):
    """Jitter: 20 events that fail together do not come back together."""
    events = [make_event(simulate={"fail": "transient", "times": 1}) for _ in range(20)]
    send_at_once(stack, events)
    for event in events:
        wait_succeeded(stack, event)
    delays = [attempts(stack, event)[0]["delay_ms"] for event in events]
    assert max(delays) <= BASE_MS
    assert len(set(delays)) > 5


def header_lines(value):
    return dict(line.split(": ", 1) for line in as_bytes(value).decode().strip().split("\n"))


def test_retry_limit_ends_in_a_dead_letter(stack):
    event = make_event(simulate={"fail": "transient", "times": 99}, note="ź")
    body = encode(event)
    stack.accept(event)
    letter = wait_dead(stack, event)
    assert letter["reason"] == "retries_exhausted"
    assert as_bytes(letter["body"]) == body
    assert letter["source"] == "demo" and letter["event_id"] == event["event_id"] and letter["type"] == event["type"]
    headers = {name.lower(): value for name, value in header_lines(letter["headers"]).items()}
    assert headers["webhook-id"] == event["event_id"] and headers["content-type"] == "application/json"
    assert "authorization" not in headers
    assert letter["review"]["status"] == "unreviewed"
    document = stack.store.event(identity(event))
    assert [record["outcome"] for record in document["attempts"]] == ["transient"] * ATTEMPTS
    assert len(letter["attempts"]) == ATTEMPTS
    assert letter["error"]["message"] and letter["error"]["kind"]
    check_schedule(document["attempts"], BASE_MS)
    assert timeline_of(stack, event) == []
    notice = next(fields for _, fields in stack.redis.dead_notices() if fields[b"key"].decode() == identity(event))
    assert notice[b"reason"] == b"retries_exhausted" and b"body" not in notice
    assert stack.redis.client.hexists("waybill:{0}:envelopes", identity(event)) is False


def test_permanent_failure_is_dead_at_once(stack):
    event = make_event(simulate={"fail": "permanent"})
    stack.accept(event)
    letter = wait_dead(stack, event)
    records = attempts(stack, event)
    assert [record["outcome"] for record in records] == ["permanent"]
    assert letter["reason"] not in ("", "retries_exhausted")
    assert timeline_of(stack, event) == []


# replay

def replay(stack, event):
    return stack.ctl("dlq", "replay", identity(event))


def dead_event(stack):
    """In the dead letters after its first attempt; succeeds when replayed."""
    event = make_event(simulate={"fail": "permanent", "until_replay": True})
    stack.accept(event)
    wait_dead(stack, event)
    return event


def test_replay_succeeds_once(stack):
    event = dead_event(stack)
    assert replay(stack, event).returncode == 0
    document = wait_succeeded(stack, event)
    assert [record["number"] for record in document["attempts"]] == [1, 2]
    assert document["attempts"][-1]["outcome"] == "success"
    assert len(timeline_of(stack, event)) == 1
    letter = stack.store.dead_letters.find_one({"_id": identity(event)})
    assert letter["review"]["status"] == "replayed" and letter["review"]["by"] and letter["review"]["at"]
    assert not [fields for _, fields in stack.redis.dead_notices() if fields[b"key"].decode() == identity(event)]
    again = replay(stack, event)
    assert again.returncode != 0
    assert "succeeded" in again.stdout + again.stderr
    holds_for(lambda: len(attempts(stack, event)) == 2 and len(timeline_of(stack, event)) == 1, 0.5)


def test_replays_at_the_same_time_have_one_outcome(stack):
    event = dead_event(stack)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(lambda _: replay(stack, event).returncode, range(6)))
    assert 0 in codes
    wait_succeeded(stack, event)
    wait_for(lambda: stack.redis.stream_length() == 0, 10)
    assert len(attempts(stack, event)) == 2
    assert len(timeline_of(stack, event)) == 1


def test_replay_that_fails_again_is_a_new_letter(stack):
    """A new life: all attempts once more, numbered on."""
    event = make_event(simulate={"fail": "transient", "times": 99})
    stack.accept(event)
    wait_dead(stack, event)
    assert replay(stack, event).returncode == 0
    wait_for(lambda: len(attempts(stack, event)) == 2 * ATTEMPTS, 10, lambda: stack.store.event(identity(event)))
    letter = wait_dead(stack, event)
    assert [record["number"] for record in attempts(stack, event)] == list(range(1, 2 * ATTEMPTS + 1))
    assert letter["review"]["status"] == "unreviewed"
    assert len(letter["attempts"]) == 2 * ATTEMPTS
    assert replay(stack, event).returncode == 0


def test_duplicate_of_a_dead_event_does_not_revive_it(stack):
    event = make_event(simulate={"fail": "permanent"})
    stack.accept(event)
    wait_dead(stack, event)
    stack.accept(event)
    wait_for(lambda: stack.store.event(identity(event))["duplicates"] == 1, 10)
    assert stack.store.status(identity(event)) == "dead"
    assert len(attempts(stack, event)) == 1


# the business outcome

LIFE = ["picked_up", "in_transit", "out_for_delivery", "delivered"]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]], ids=["in order", "reversed", "mixed"])
def test_latest_status_whatever_the_order(stack, order):
    tracking = unique_id("TRK")
    events = [make_event(type=f"parcel.{step}", tracking_number=tracking, status=step, occurred_at=1_800_000_000 - 86400 * 200 + n * 60)
              for n, step in enumerate(LIFE)]
    for n in order:
        stack.accept(events[n])
        wait_succeeded(stack, events[n])
    shipment = shipment_of(stack, events[0])
    assert shipment["latest"]["status"] == "delivered"
    assert sorted(entry["event_id"] for entry in shipment["timeline"]) == sorted(event["event_id"] for event in events)
    assert [entry["status"] for entry in shipment["timeline"]] == LIFE, "the timeline is in the order of what happened"


def test_parallel_events_of_one_parcel(stack):
    tracking = unique_id("TRK")
    now = 1_780_000_000
    events = [make_event(tracking_number=tracking, occurred_at=now + n) for n in range(30)]
    send_at_once(stack, events)
    for event in events:
        wait_succeeded(stack, event)
    assert len(shipment_of(stack, events[0])["timeline"]) == 30
    assert len({entry["event_id"] for entry in shipment_of(stack, events[0])["timeline"]}) == 30
