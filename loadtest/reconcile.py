"""Holds what was acknowledged against what the store says became of it."""

import collections
import datetime

from loadtest.plan import PERMANENT, REJECTED, TRANSIENT

SHOWN = 5  # examples of each thing that is wrong

# One identity that was acknowledged at least once.
Acked = collections.namedtuple("Acked", "event_id event_kind")


class Account:
    """Counts over all phases. wrong: {what: [examples]}; times: of resolved events, for percentiles and curves."""

    def __init__(self):
        self.sent = collections.Counter()      # by kind
        self.answers = collections.Counter()   # by (kind, code)
        self.acked = 0                         # submissions that got 2xx
        self.in_time = 0                       # valid submissions acknowledged in time
        self.identities = 0                    # acknowledged
        self.resolved = 0                      # of those
        self.transient = self.recovered = 0    # acknowledged events with failures injected; of those succeeded
        self.extra_attempts = 0                # attempts beyond the first
        self.duplicates_counted = 0            # that the store says it saw
        self.times = []                        # (received_at, resolved_at, event kind), Unix seconds
        self.wrong = collections.defaultdict(list)
        self.wrong_count = collections.Counter()

    def note(self, what, example):
        self.wrong_count[what] += 1
        if len(self.wrong[what]) < SHOWN:
            self.wrong[what].append(example)

    @property
    def valid_sent(self):
        return sum(count for kind, count in self.sent.items() if kind not in REJECTED)

    @property
    def rejected_sent(self):
        return sum(count for kind, count in self.sent.items() if kind in REJECTED)


class PhaseLedger:
    """One phase's submissions joined with their answers."""

    def __init__(self, phase, within_s, account):
        self._plan, self._account = phase.plan, account
        self.acked = {}      # number of the identity: Acked
        self.sent = set()    # identities that may be in the store: valid ones that were sent
        answers = {result.number: result for result in phase.results}
        for submission in phase.plan.submissions():
            if not answers:
                break
            result = answers.pop(submission.number, None)
            if result:
                self._join(submission, result, within_s)
        account.identities += len(self.acked)

    def _join(self, submission, result, within_s):
        account, kind, name = self._account, submission.kind, self._plan.event_id(submission.identity)
        account.sent[kind] += 1
        account.answers[kind, result.code] += 1
        accepted = 200 <= result.code < 300
        if kind in REJECTED:
            if result.code != REJECTED[kind]:
                account.note(f"{kind}: answered {result.code or result.error}, not {REJECTED[kind]}", name)
            return
        self.sent.add(submission.identity)
        if not accepted:
            account.note(f"valid event answered {result.code or result.error}", name)
            return
        account.acked += 1
        account.in_time += result.latency <= within_s
        self.acked[submission.identity] = Acked(name, submission.event_kind)

    def is_resolved(self, database):
        """Whether the store has resolved as many of this phase's events as were acknowledged. Cheap enough to ask often."""
        done = {"_id": _between(self._plan.id_range()), "status": {"$in": ["succeeded", "dead"]}}
        return database["events"].count_documents(done) >= len(self.acked)

    def reconcile(self, database):
        """Every document of this phase against what was sent."""
        timelines = self._timelines(database)
        missing = dict(self.acked)
        fields = {"status": 1, "attempts.outcome": 1, "ingestion.received_at": 1, "resolved_at": 1, "duplicates": 1,
                  "conflicts": 1}
        for document in database["events"].find({"_id": _between(self._plan.id_range())}, fields, batch_size=5000):
            number = int(document["_id"].rpartition("-")[2])
            self._check(number, document, timelines[document["_id"].partition("/")[2]])
            missing.pop(number, None)
        for acked in missing.values():
            self._account.note("acknowledged, but not in the store", acked.event_id)

    def _timelines(self, database):
        """How often each event shows in the parcels' timelines: its business outcomes."""
        counts = collections.Counter()
        chosen = {"_id": _between(self._plan.tracking_range())}
        for shipment in database["shipments"].find(chosen, {"timeline.event_id": 1}, batch_size=5000):
            counts.update(entry["event_id"] for entry in shipment.get("timeline", []))
        return counts

    def _check(self, number, document, outcomes):
        account, name = self._account, document["_id"]
        successes = sum(attempt["outcome"] == "success" for attempt in document.get("attempts", []))
        account.duplicates_counted += document.get("duplicates", 0)
        account.extra_attempts += max(0, len(document.get("attempts", [])) - 1)
        if number not in self.sent:
            account.note("in the store, but rejected or never sent", name)
        if outcomes > 1 or successes > 1:
            account.note("more than one business outcome", name)
        if document.get("conflicts", 0):
            account.note("counted as a conflict", name)
        if number in self.acked:
            self._check_acked(self.acked[number], document, outcomes)

    def _check_acked(self, acked, document, outcomes):
        account, kind, status = self._account, acked.event_kind, document["status"]
        wanted = "dead" if kind == PERMANENT else "succeeded"
        account.transient += kind == TRANSIENT
        account.recovered += kind == TRANSIENT and status == "succeeded"
        if status not in ("succeeded", "dead"):
            account.note(f"acknowledged, but still {status}", acked.event_id)
            return
        account.resolved += 1
        account.times.append((_unix(document["ingestion"]["received_at"]), _unix(document["resolved_at"]), kind))
        if status != wanted:
            account.note(f"{kind} event ended as {status}, not {wanted}", acked.event_id)
        if outcomes != (status == "succeeded"):
            account.note(f"{status}, but {outcomes} business outcomes", acked.event_id)


def _between(ids):
    """A range of _id of the demo source."""
    return {"$gte": f"demo/{ids[0]}", "$lt": f"demo/{ids[1]}"}


def _unix(moment):
    """Times from the store are UTC and do not say so."""
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()
