"""Redis comes back empty while the services run (promise P5): the store brings back everything that was claimed."""

import datetime

import pytest

from helpers import STREAM
from lib import identity, make_event, wait_for
from lib.outcomes import attempts, check_succeeded_once, timeline_of, wait_dead, wait_succeeded

EPOCH = "waybill:{0}:epoch"


def flush(stack):
    stack.redis.client.flushall()


def restart_without_files(stack):
    stack.redis.stop()
    for path in (stack.folder / "redis-aof").iterdir():
        path.unlink()
    stack.redis.start()


class Population:
    """Events in every state that there is, in a stack whose second worker runs and cannot reach the store yet."""

    def __init__(self, stack):
        self.stack = stack
        self.done, self.dead = make_event(), make_event(simulate={"fail": "permanent"})
        self.waiting = [make_event(simulate={"fail": "transient", "times": 1}) for _ in range(16)]
        self.in_hand, self.unclaimed = make_event(simulate={"delay_ms": 900}), [make_event() for _ in range(3)]

    def bring_about(self, worker):
        """Ends with the worker killed in the middle of in_hand."""
        stack = self.stack
        for event in (self.done, self.dead, *self.waiting):
            stack.accept(event)
        wait_succeeded(stack, self.done)
        wait_dead(stack, self.dead)
        wait_for(lambda: all(attempts(stack, event) for event in self.waiting), 10, "first attempts of all")
        stack.accept(self.in_hand)
        wait_for(lambda: stack.store.status(identity(self.in_hand)) == "processing", 10)
        worker.kill()
        for event in self.unclaimed:
            stack.accept(event)

    def due(self):
        """(how many are due, how many wait)"""
        now = datetime.datetime.utcnow()  # as the store's client gives times
        waiting = list(self.stack.store.events.find({"status": "retry_wait"}, {"next_attempt_at": 1}))
        due = sum(document["next_attempt_at"] <= now for document in waiting)
        return due, len(waiting) - due


@pytest.mark.parametrize("lose_data", [flush, restart_without_files])
def test_redis_loses_everything(make_stack, relay_to, own_store, lose_data):
    stack = make_stack({"WAYBILL_RETRY_BASE_MS": 5000})
    link = relay_to(stack.store.port)
    link.cut()
    second = stack.add_worker(WAYBILL_MONGO_URL=f"mongodb://127.0.0.1:{link.port}/{stack.store.database_name}")
    second.start(wait=False)
    wait_for(second.is_live, 20)
    events = Population(stack)
    events.bring_about(stack.worker)
    wait_for(lambda: min(events.due()) >= 2, 5, lambda: f"some due, some not: {events.due()}")
    epoch = stack.redis.client.get(EPOCH)

    lose_data(stack)
    assert stack.redis.client.xlen(STREAM) == 0
    wait_for(lambda: stack.redis.client.get(EPOCH) not in (None, epoch), 10, "a new epoch")
    assert [group["name"] for group in stack.redis.client.xinfo_groups(STREAM)] == [b"workers"]
    fresh = make_event()
    wait_for(lambda: stack.send(fresh).status_code == 202, 10, "ingest recovers by itself")
    link.mend()

    for event in events.waiting:
        wait_succeeded(stack, event, 25)
        first, second_run = attempts(stack, event)
        assert (first["outcome"], second_run["outcome"]) == ("transient", "success")
        assert (second_run["started_at"] - first["ended_at"]).total_seconds() * 1000 >= first["delay_ms"] - 2
        assert len(timeline_of(stack, event)) == 1
    for event in (events.in_hand, fresh, events.done):
        wait_succeeded(stack, event, 15)
        check_succeeded_once(stack, event)
    assert stack.store.status(identity(events.dead)) == "dead"
    wait_for(lambda: stack.redis.stream_length() == 0 and stack.redis.retry_length() == 0, 10, "an empty queue")
    check_unclaimed_is_lost(stack, events.unclaimed)


def test_redis_loses_everything_in_the_middle_of_batches(make_stack):
    """Workers run on: what they have in hand is nowhere in Redis any more, whatever they decide about it."""
    stack = make_stack({"WAYBILL_RETRY_BASE_MS": 500})
    stack.add_worker(WAYBILL_THREADS=2)
    stack.worker.stop()
    good = [make_event(simulate={"delay_ms": 250}) for _ in range(8)]
    failing = [make_event(simulate={"delay_ms": 250, "fail": "transient", "times": 1}) for _ in range(6)]
    for event in (*good, *failing):
        stack.accept(event)
    for worker in stack.workers:
        worker.start()
    wait_for(lambda: stack.store.events.count_documents({}) == 14, 10, "all are claimed")
    wait_for(lambda: stack.store.events.count_documents({"attempts.0": {"$exists": True}}), 10, "some are done")
    flush(stack)
    for event in (*good, *failing):
        wait_succeeded(stack, event, 25)
    for event in good:
        check_succeeded_once(stack, event)
    for event in failing:
        assert [attempt["outcome"] for attempt in attempts(stack, event)] == ["transient", "success"]
        assert len(timeline_of(stack, event)) == 1
    wait_for(lambda: stack.redis.stream_length() == 0 and stack.redis.retry_length() == 0, 10, "an empty queue")


def check_unclaimed_is_lost(stack, events):
    """The one limit (docs/guarantees.md): the store never heard of these. Sent again, they are as new."""
    for event in events:
        assert stack.store.event(identity(event)) is None
        stack.accept(event)
    for event in events:
        wait_succeeded(stack, event)
        check_succeeded_once(stack, event)
