"""What is sent: events of known kinds, made from the seed, and what must become of each kind."""

import random

SUCCESS, TRANSIENT, PERMANENT, REJECTED = "success", "transient", "permanent", "rejected"

# kind: share of all events, and what must become of it once it was acknowledged
KINDS = {
    "unique": (62, SUCCESS),
    "repeated": (8, SUCCESS),      # sent again after it was acknowledged
    "concurrent": (6, SUCCESS),    # sent by several connections at once
    "transient-1": (6, TRANSIENT),
    "transient-2": (4, TRANSIENT),
    "transient-3": (3, TRANSIENT),
    "permanent": (3, PERMANENT),
    "missing-field": (3, REJECTED),
    "bad-signature": (3, REJECTED),
    "stale": (2, REJECTED),
}

EVENTS_PER_PARCEL = 5
TYPES = ("parcel.picked_up", "parcel.in_transit", "parcel.out_for_delivery", "parcel.delivery_failed", "parcel.delivered")


def outcome_of(kind):
    return KINDS[kind][1]


def failures_of(kind):
    """How often process.lua fails on it."""
    return int(kind[-1]) if kind.startswith("transient") else 1 if kind == "permanent" else 0


def simulate_of(kind):
    """data.simulate of its body."""
    if kind.startswith("transient"):
        return {"fail": "transient", "times": failures_of(kind)}
    return {"fail": "permanent"} if kind == "permanent" else None


class Plan:
    """The events of one sender, in order: (event_id, kind, tracking_number, type)."""

    def __init__(self, seed, sender):
        self._random = random.Random(f"{seed}/{sender}")
        self._sender, self._n = sender, 0
        self._kinds, self._weights = list(KINDS), [share for share, _ in KINDS.values()]

    def next(self):
        n, self._n = self._n, self._n + 1
        kind = self._random.choices(self._kinds, self._weights)[0]
        parcel, step = divmod(n, EVENTS_PER_PARCEL)
        return f"c{self._sender}-{n}", kind, f"P{self._sender}-{parcel}", TYPES[step]
