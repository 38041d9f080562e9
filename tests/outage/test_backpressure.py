"""429: the backlog over WAYBILL_MAX_BACKLOG, a source over its rate. Both with a Retry-After that is worth heeding."""

import time

import pytest

from helpers import check_429, check_unharmed
from lib import make_event, wait_for
from lib.outcomes import attempts, wait_succeeded

LIMIT = 20


def fill(stack, make=make_event):
    """Sends until it is refused: (accepted events, the refusal)."""
    accepted = []

    def refused():
        event = make()
        answer = stack.send(event)
        if answer.status_code == 202:
            accepted.append(event)
        return [answer] if answer.status_code != 202 else None

    answer, = wait_for(refused, 15, "429", interval=0)
    return accepted, answer


def test_backlog_over_its_limit_and_below_again(make_stack):
    stack = make_stack({"WAYBILL_MAX_BACKLOG": LIMIT})
    stack.worker.stop()
    accepted, answer = fill(stack)
    assert 1 <= check_429(answer, "backlog_full") <= 60
    assert len(accepted) == LIMIT + 1, "the limit itself is still accepted, the first above it too"
    for _ in range(3):
        check_429(stack.send(make_event()), "backlog_full")
    assert stack.redis.stream_length() == len(accepted), "what was refused is not there"
    stack.worker.start()
    wait_for(lambda: stack.send(make_event()).status_code == 202, 10, "accepted again, by itself")
    check_unharmed(stack, accepted)
    for _ in range(5):
        assert stack.send(make_event()).status_code == 202
    assert stack.ingest.metrics().total("waybill_ingest_requests_total", code="backlog_full") >= 4


AGAIN_IN_3_S = "return function() return retry(3000) end\n"


def test_what_waits_for_a_retry_is_backlog_too(make_stack):
    stack = make_stack({"WAYBILL_MAX_BACKLOG": LIMIT},
                       prepare=lambda stack: stack.write_script("retry_policy.lua", AGAIN_IN_3_S))
    accepted = [make_event(simulate={"fail": "transient", "times": 1}) for _ in range(LIMIT + 1)]
    for event in accepted:
        stack.accept(event)
    wait_for(lambda: (stack.redis.stream_length(), stack.redis.retry_length()) == (0, LIMIT + 1), 3)
    wait_for(lambda: stack.ingest.status()["backlog"] == LIMIT + 1, 1)
    check_429(stack.send(make_event()), "backlog_full")
    wait_for(lambda: stack.send(make_event()).status_code == 202, 10, "accepted again when retries have passed")
    for event in accepted:
        wait_succeeded(stack, event, 15)
        assert len(attempts(stack, event)) == 2


SOURCES = """
local standard = require("couriers.standard")
local function source(rate)
    return { scheme = "standard-webhooks", secrets = secrets("demo"), courier = standard, rate = rate }
end
return { demo = source(), slow = source({ per_second = 0.5, burst = 3 }) }
"""


@pytest.fixture
def limited(make_stack):
    stack = make_stack(prepare=lambda stack: stack.write_script("sources.lua", SOURCES), workers=0)

    def send_slow():
        return stack.ingest.send(make_event(), stack.settings["WAYBILL_SECRET_DEMO"], source="slow")

    for _ in range(3):
        assert send_slow().status_code == 202, "a burst"
    return stack, send_slow


def test_rate_of_a_source_is_its_own_and_retry_after_is_honest(limited):
    stack, send_slow = limited
    told_s = check_429(send_slow(), "rate_limited")
    assert told_s == 2, "one event in two seconds"
    refused_at = time.monotonic()
    assert stack.send(make_event()).status_code == 202, "other sources are not limited by it"
    wait_for(lambda: time.monotonic() - refused_at >= told_s, told_s + 1)
    assert send_slow().status_code == 202, "after the time that was told"
    check_429(send_slow(), "rate_limited")


def test_reload_does_not_refill_a_rate(limited):
    stack, send_slow = limited
    check_429(send_slow(), "rate_limited")
    assert stack.ingest.reload().status_code == 200
    check_429(send_slow(), "rate_limited")
