"""What became of an event, according to the store. Events are dicts as make_event makes them, of the demo source."""

from .events import encode, identity
from .wait import wait_for


def as_bytes(value):
    """Bytes that the store keeps, as text where they are UTF-8 and as binary where not."""
    return value.encode() if isinstance(value, str) else bytes(value)


def attempts(stack, event):
    """The attempt records, oldest first."""
    return (stack.store.event(identity(event)) or {}).get("attempts", [])


def _wait_status(stack, event, status, never, timeout):
    key = identity(event)

    def reached():
        now = stack.store.status(key)
        assert now != never, f"{key} is {now}: {stack.store.event(key)}"
        return now == status

    wait_for(reached, timeout, lambda: f"{key} {status}; it is {stack.store.event(key)}")
    return stack.store.event(key)


def wait_succeeded(stack, event, timeout=10):
    """Waits for success and returns the event's document. One that died fails at once."""
    return _wait_status(stack, event, "succeeded", "dead", timeout)


def wait_dead(stack, event, timeout=10):
    """Waits for the dead letter and returns it."""
    _wait_status(stack, event, "dead", "succeeded", timeout)
    return stack.store.dead_letters.find_one({"_id": identity(event)})


def shipment_of(stack, event):
    return stack.store.shipments.find_one({"tracking_number": event["data"]["tracking_number"]})


def timeline_of(stack, event):
    """How an event shows in its parcel's timeline: once, when it has succeeded; an empty list when it has not."""
    shipment = shipment_of(stack, event) or {"timeline": []}
    return [entry for entry in shipment["timeline"] if entry["event_id"] == event["event_id"]]


def check_succeeded_once(stack, event):
    """One success, its effect applied once, no failure charged, the body as it was sent."""
    document = stack.store.event(identity(event))
    assert document and document["status"] == "succeeded", document
    outcomes = [attempt["outcome"] for attempt in document["attempts"]]
    assert outcomes == ["success"], document["attempts"]
    assert document["failures"] == 0
    assert as_bytes(document["body"]) == encode(event)
    assert len(timeline_of(stack, event)) == 1, shipment_of(stack, event)
