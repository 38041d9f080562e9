"""The invariants: what must be true of Redis and the store when everything has come to rest."""

import collections

from .plan import PERMANENT, REJECTED, failures_of, outcome_of

SHOWN = 10  # violations of one rule that are told in full


class Verdict:
    """Violations by rule, and figures."""

    def __init__(self):
        self.violations = collections.defaultdict(list)
        self.figures = {}

    def expect(self, condition, rule, about):
        if not condition:
            self.violations[rule].append(about)

    @property
    def is_good(self):
        return not self.violations

    def lines(self):
        for rule, about in self.violations.items():
            yield f"VIOLATED {rule}: {len(about)} times, such as {', '.join(map(str, about[:SHOWN]))}"

    def keys(self):
        """Event keys to tell the history of."""
        return [one for about in self.violations.values() for one in about[:3] if isinstance(one, str) and "/" in one]


def check_queue_is_empty(redis, verdict, unreviewed):
    keys = {name: f"waybill:{{0}}:{name}" for name in ("events", "retry", "envelopes", "dead")}
    verdict.expect(redis.stream_length() == 0, "nothing is left in the stream", redis.stream_length())
    verdict.expect(redis.pending() == 0, "nothing is left in the pending list", redis.pending())
    verdict.expect(redis.client.zcard(keys["retry"]) == 0, "nothing is left in the retry set", "retry")
    verdict.expect(redis.client.hlen(keys["envelopes"]) == 0, "nothing is left in the envelopes", "envelopes")
    notices = redis.client.xlen(keys["dead"])
    verdict.expect(notices == unreviewed, "one dead notice for each unreviewed letter", f"{notices} for {unreviewed}")


def count_in_timelines(shipments):
    counts = collections.Counter()
    for shipment in shipments.find({}, {"timeline.event_id": 1}):
        counts.update(entry["event_id"] for entry in shipment.get("timeline", []))
    return counts


def check_event(key, kind, acks, document, verdict):
    """One event that was sent, acknowledged or not."""
    if outcome_of(kind) == REJECTED:
        verdict.expect(acks == 0, "a bad event is not acknowledged", key)
        verdict.expect(document is None, "a rejected event leaves nothing in the store", key)
        return
    verdict.expect(document is not None or acks == 0, "what was acknowledged is in the store", key)
    if document is None:
        return
    wanted = "dead" if outcome_of(kind) == PERMANENT else "succeeded"
    verdict.expect(document["status"] == wanted, f"a {outcome_of(kind)} event ends as {wanted}", key)
    verdict.expect(document.get("duplicates", 0) >= acks - 1 and document.get("conflicts", 0) == 0,
                   "each further submission is counted as a duplicate", key)
    check_attempts(key, kind, document, verdict)


def check_attempts(key, kind, document, verdict):
    attempts = document.get("attempts", [])
    charged = [one["outcome"] for one in attempts if one.get("charged")]
    wanted = ["permanent" if outcome_of(kind) == PERMANENT else "transient"] * failures_of(kind)
    verdict.expect(charged == wanted, "the attempts charged are the failures that happened; no outage is among them",
                   key)
    succeeded = sum(one["outcome"] == "success" for one in attempts)
    verdict.expect(succeeded == (outcome_of(kind) != PERMANENT), "exactly one attempt succeeded", key)
    numbers = [one["number"] for one in attempts]
    verdict.expect(numbers == list(range(1, len(numbers) + 1)), "attempts are numbered without gaps", key)


def check_outcome(key, event_id, document, timelines, letters, verdict):
    """Its business outcome: in exactly one timeline, once, if and only if it succeeded."""
    succeeded = document is not None and document["status"] == "succeeded"
    verdict.expect(timelines[event_id] == (1 if succeeded else 0), "one business outcome per succeeded event, none else",
                   key)
    dead = document is not None and document["status"] == "dead"
    verdict.expect((key in letters) == dead, "one dead letter per dead event, none else", key)


def check_all(ledger, redis, store, verdict):
    """ledger: {event_id: (kind, acks)} of everything that was sent."""
    letters = {letter["_id"] for letter in store.dead_letters.find({}, {"_id": 1})}
    timelines = count_in_timelines(store.shipments)
    check_queue_is_empty(redis, verdict, len(letters))
    fields = {"status": 1, "duplicates": 1, "conflicts": 1, "attempts.outcome": 1, "attempts.charged": 1, "attempts.number": 1}
    seen, statuses, recovered, failing = set(), collections.Counter(), 0, 0
    for document in store.events.find({}, fields, batch_size=5000):
        event_id = document["_id"].partition("/")[2]
        verdict.expect(event_id in ledger, "the store holds nothing that was never sent", document["_id"])
        seen.add(event_id)
        statuses[document["status"]] += 1
        if event_id not in ledger:
            continue
        kind, acks = ledger[event_id]
        check_event(document["_id"], kind, acks, document, verdict)
        check_outcome(document["_id"], event_id, document, timelines, letters, verdict)
        if kind.startswith("transient"):
            failing += 1
            recovered += document["status"] == "succeeded"
    for event_id, (kind, acks) in ledger.items():
        if event_id not in seen:
            check_event(f"demo/{event_id}", kind, acks, None, verdict)
            check_outcome(f"demo/{event_id}", event_id, None, timelines, letters, verdict)
    verdict.expect(recovered * 100 >= failing * 95, "95 % of transient failures recover", f"{recovered} of {failing}")
    verdict.figures.update({
        "events acknowledged": sum(acks > 0 for _, acks in ledger.values()),
        "events in the store": len(seen),
        "succeeded": statuses["succeeded"], "dead-lettered": statuses["dead"],
        "transient failures recovered": f"{recovered} of {failing}",
    })
