"""A worker that works keeps what it has, whatever its handlers take of their time."""

from helpers import check_unharmed
from lib import make_event
from lib.outcomes import attempts


def test_lease_lasts_through_long_handlers(make_stack):
    """Handlers that may run for most of a lease: another, idle worker never gets an event of the batch."""
    stack = make_stack({"WAYBILL_LEASE_MS": 1300, "WAYBILL_HANDLER_LIMIT_MS": 1100})
    stack.worker.stop()
    events = [make_event(simulate={"delay_ms": delay_ms}) for delay_ms in (400, 1000) * 3]
    for event in events:
        stack.accept(event)
    stack.worker.start()
    other = stack.add_worker().start()
    check_unharmed(stack, events)
    for service in (stack.worker, other):
        assert service.metrics().total("waybill_worker_reclaimed_total") == 0
    assert len({attempts(stack, event)[0]["worker"] for event in events}) == 1
