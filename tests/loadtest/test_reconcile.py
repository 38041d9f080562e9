"""That the load test notices what it is there to notice. The store is a stand-in with the documents of one run."""

import datetime
import itertools

import pytest
from loadtest.attack import Result
from loadtest.figures import NOWHERE, ONCE, RESOLVED, cpus, criteria, draining
from loadtest.meter import Sample
from loadtest.plan import DUPLICATE, PERMANENT, REJECTED, TRANSIENT, VALID, Plan
from loadtest.reconcile import Account, PhaseLedger

SHARES = {DUPLICATE: 0.1, TRANSIENT: 0.2, PERMANENT: 0.1, "stale": 0.1, "missing_field": 0.1}
PROFILE = {"criteria": {"ack_within_s": 2, "ack_percent": 99, "recovered_percent": 95, "ack_p99_ms": 50}}
COUNT = 400
RECEIVED = datetime.datetime(2026, 1, 31, 12)


class Collection(list):
    """As much of a collection as the reconciliation uses."""

    def find(self, _chosen, _fields, **_):
        return iter(self)


class World:
    """A run in which all went well, for a test to spoil."""

    def __init__(self):
        self.plan, self.results = Plan("test", SHARES, 1_700_000_000), []
        self.submissions = list(itertools.islice(self.plan.submissions(), COUNT))
        for one in self.submissions:
            self.results.append(Result(one.number, REJECTED.get(one.kind, 202), 1000.0 + one.number / 100, 0.004, ""))
        self.documents = {one.number: self.document(one) for one in self.submissions if one.kind not in (*REJECTED, DUPLICATE)}
        self.timelines = {number: 1 for number, document in self.documents.items() if document["status"] == "succeeded"}

    def document(self, one):
        last = "permanent" if one.kind == PERMANENT else "success"
        attempts = [{"outcome": "transient"}, {"outcome": last}] if one.kind == TRANSIENT else [{"outcome": last}]
        return {"_id": f"demo/{self.plan.event_id(one.number)}", "attempts": attempts, "duplicates": 0, "conflicts": 0,
                "status": "dead" if one.kind == PERMANENT else "succeeded", "ingestion": {"received_at": RECEIVED},
                "resolved_at": RECEIVED + datetime.timedelta(milliseconds=20)}

    def first(self, kind):
        return next(one.number for one in self.submissions if one.kind == kind)

    def verdicts(self, drained=True):
        """{criterion: verdict}, and the account."""
        account = Account()
        ledger = PhaseLedger(self, 2, account)
        shipments = [{"timeline": [{"event_id": self.plan.event_id(number)}] * times} for number, times in self.timelines.items()]
        ledger.reconcile({"events": Collection(self.documents.values()), "shipments": Collection(shipments)})
        latencies = [result.latency for result in self.results if result.code == 202]
        return {one.name: one.verdict for one in criteria(PROFILE, account, latencies, True, drained)}, account


@pytest.fixture
def world():
    return World()


def failed(world, **options):
    verdicts, _ = world.verdicts(**options)
    return {name for name, verdict in verdicts.items() if not verdict}


def test_a_good_run_meets_every_criterion(world):
    verdicts, account = world.verdicts()
    assert len(verdicts) == 7 and all(verdicts.values()), verdicts
    assert account.identities == account.resolved == len(world.documents)
    assert not account.wrong


def test_a_lost_event_is_noticed(world):
    lost = world.first(VALID)
    del world.documents[lost], world.timelines[lost]
    assert failed(world) == {RESOLVED}


def test_an_event_that_is_still_waiting_is_noticed(world):
    waiting = world.first(VALID)
    world.documents[waiting]["status"] = "retry_wait"
    del world.timelines[waiting]
    assert RESOLVED in failed(world)


def test_a_backlog_that_did_not_drain_is_a_failure(world):
    assert failed(world, drained=False) == {RESOLVED}


def test_a_second_outcome_is_noticed(world):
    world.timelines[world.first(VALID)] = 2
    assert failed(world) == {ONCE}


def test_a_success_without_its_outcome_is_noticed(world):
    del world.timelines[world.first(VALID)]
    assert failed(world) == {ONCE}


def test_a_dead_letter_that_nobody_asked_for_is_noticed(world):
    number = world.first(VALID)
    world.documents[number]["status"] = "dead"
    del world.timelines[number]
    assert failed(world) == {RESOLVED}


def test_a_rejected_event_in_the_store_is_noticed(world):
    stale = next(one for one in world.submissions if one.kind == "stale")
    world.documents[stale.number] = world.document(stale)
    world.timelines[stale.number] = 1
    assert failed(world) == {NOWHERE}


def test_an_invalid_event_that_was_accepted_is_noticed(world):
    number = world.first("stale")
    world.results[number] = world.results[number]._replace(code=202)
    assert failed(world) == {"every invalid event is rejected, with the right status"}


def test_transient_failures_that_do_not_recover_are_noticed(world):
    for one in [one for one in world.submissions if one.kind == TRANSIENT][:8]:
        world.documents[one.number]["status"] = "dead"
        del world.timelines[one.number]
    assert "at least 95 % of transient failures recovered" in failed(world)


def test_late_and_refused_acknowledgements_are_noticed(world):
    valid = [one.number for one in world.submissions if one.kind == VALID][:10]
    for number in valid:
        world.results[number] = world.results[number]._replace(latency=2.5)
    assert failed(world) == {"at least 99 % of valid events acknowledged within 2 s", "our own bar: p99 of acknowledgements under 50 ms"}
    for number in valid:
        world.results[number] = world.results[number]._replace(code=503, latency=0.01)
    assert failed(world) == {"at least 99 % of valid events acknowledged within 2 s"}


def test_cpus_are_counted_between_the_samples_around():
    samples = [Sample(at, 1.0, None, {}, {"ingest": at / 4, "worker1": max(0, at - 12) / 2}) for at in (10, 12, 14, 16, 18)]
    assert cpus(samples, 12, 16) == {"ingest": 0.25, "worker1": 0.5}
    assert cpus(samples, 10.5, 11.5) == {"ingest": 0.25, "worker1": 0.0}
    assert cpus(samples, 5, 9) == {} and cpus([], 1, 2) == {}


def test_the_rate_of_draining_leaves_out_the_tail_of_retries():
    account = Account()
    account.times = [(0, 100 + i / 1000, VALID) for i in range(1, 2001)] + [(0, 120, TRANSIENT)] * 100
    found = draining(account, 100)
    assert abs(found["rate"] - 1000) < 10 and 101.8 < found["until"] < 102
    assert draining(Account(), 100) is None
