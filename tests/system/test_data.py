"""The events of tests/data: what is valid passes byte for byte, what is not is refused with the reason that its list names."""

import json
from pathlib import Path

import pytest

from lib import identity, sign, unique_id
from lib.outcomes import as_bytes, wait_succeeded

DATA = Path(__file__).parents[1] / "data"
BAD = [json.loads(line) for line in (DATA / "bad/manifest.jsonl").read_text().splitlines()]
PARCELS = sorted((DATA / "parcels").glob("*.jsonl"))


def post(stack, body):
    """Signed under a message id of its own."""
    return stack.ingest.post(body, sign.standard_webhooks(stack.settings["WAYBILL_SECRET_DEMO"], unique_id("msg"), body))


def bodies(path):
    return path.read_bytes().removesuffix(b"\n").split(b"\n")


def accept_all(stack, path):
    """Posts each line; returns the events when all have succeeded, in the order sent."""
    events = []
    for body in bodies(path):
        answer = post(stack, body)
        assert answer.status_code == 202, f"{answer.text} for {body[:200]!r}"
        events.append(json.loads(body))
        wait_succeeded(stack, events[-1])
        assert as_bytes(stack.store.event(identity(events[-1]))["body"]) == body
    return events


@pytest.mark.parametrize("case", BAD, ids=[case["file"] for case in BAD])
def test_bad(stack, case):
    before = stack.store.events.estimated_document_count(), stack.redis.stream_length()
    answer = post(stack, (DATA / "bad" / case["file"]).read_bytes())
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (case["status"], case["code"]), problem
    assert problem.get("field") == case.get("field"), problem
    assert (stack.store.events.estimated_document_count(), stack.redis.stream_length()) == before


def test_there_are_enough():
    assert len(BAD) >= 40 and sum(len(bodies(path)) for path in PARCELS) >= 40


def test_limits(stack):
    accept_all(stack, DATA / "limits.jsonl")


@pytest.mark.parametrize("path", PARCELS, ids=[path.stem for path in PARCELS])
def test_parcels(stack, path):
    events = accept_all(stack, path)
    tracking = {event["data"]["tracking_number"] for event in events}
    assert len(tracking) == 1
    shipment = stack.store.shipments.find_one({"tracking_number": tracking.pop()})
    assert shipment["latest"]["status"] == ("returned" if path.name.startswith("03") else "delivered")
    assert sorted(entry["event_id"] for entry in shipment["timeline"]) == sorted({event["event_id"] for event in events})
