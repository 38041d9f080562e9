"""A store that is there but slow: what is too much for it at once gets done in parts, and what it did stays done."""

import pytest

from helpers import check_unharmed
from lib import make_event, wait_for
from lib.outcomes import attempts, wait_dead

COMMANDS = ("insert", "update", "findAndModify", "find", "aggregate")


@pytest.mark.slow
@pytest.mark.parametrize("over_link", [{"WAYBILL_LEASE_MS": 6000}], indirect=True)  # 1 s a command
def test_batch_that_is_too_large_for_the_link(over_link):
    """Eight bodies at once take longer than a command may; two do not."""
    stack, link = over_link
    stack.worker.pause()
    events = [make_event(note="x" * 300_000) for _ in range(8)]
    for event in events:
        stack.accept(event)
    link.bytes_per_s = 1_000_000
    stack.worker.resume()
    wait_for(lambda: stack.worker.metrics().total("waybill_worker_store_errors_total") > 0, 20, "it is too much")
    check_unharmed(stack, events, timeout=90)


@pytest.mark.slow
def test_store_that_needs_most_of_its_time_for_each_command(make_stack):
    """All commands of a batch together take longer than one try may: the next try goes on where it ended."""
    stack = make_stack({"WAYBILL_LEASE_MS": 6000})  # 1 s a command, 3 s a try
    stack.worker.pause()
    wait_for(lambda: stack.redis.client.info("clients")["blocked_clients"] == 0, 5, "the last taking has ended")
    dead, good = make_event(simulate={"fail": "permanent"}), make_event()
    stack.accept(dead)  # both are then taken as one batch
    stack.accept(good)
    stack.store.fail(COMMANDS, block_ms=800)
    stack.worker.resume()
    wait_dead(stack, dead, 60)
    check_unharmed(stack, [good], timeout=60)
    stack.store.heal()
    attempt, = attempts(stack, dead)
    assert attempt["outcome"] == "permanent"
