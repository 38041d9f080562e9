"""Courier events as a sender would make them."""

import itertools
import json
import os
import time

_counter = itertools.count(1)
_run = os.urandom(4).hex()


def unique_id(prefix="evt"):
    """Different in every call and every test run."""
    return f"{prefix}_{_run}_{next(_counter)}"


def rfc3339(seconds=None):
    """Unix seconds (default: now) as UTC time with milliseconds."""
    seconds = time.time() if seconds is None else seconds
    millis = int(seconds * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis // 1000)) + f".{millis % 1000:03d}Z"


def make_event(event_id=None, type="parcel.in_transit", tracking_number=None, occurred_at=None, simulate=None, **data):
    """An event as a dict. simulate is data.simulate (with WAYBILL_SIMULATE=1); other keywords become members of data.

    occurred_at: text, or Unix seconds; default now.
    """
    event_id = event_id or unique_id()
    body = {"tracking_number": tracking_number or f"TRK-{event_id}", **data}
    if simulate is not None:
        body["simulate"] = simulate
    if not isinstance(occurred_at, str):
        occurred_at = rfc3339(occurred_at)
    return {"event_id": event_id, "type": type, "occurred_at": occurred_at, "data": body}


def encode(event):
    """The bytes of a body; bytes stay as they are."""
    return event if isinstance(event, bytes) else json.dumps(event, ensure_ascii=False).encode()


def identity(event, source="demo"):
    """The key of an event in the store: source/event_id."""
    return f"{source}/{event['event_id']}"
