"""What the outage tests ask again and again."""

from lib import wait_for
from lib.outcomes import check_succeeded_once, wait_succeeded

STREAM = "waybill:{0}:events"


def check_503(answer):
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "queue_unavailable"
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


def check_429(answer, code):
    assert answer.status_code == 429, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code
    return int(answer.headers["Retry-After"])


def check_unharmed(stack, events, timeout=20):
    """All succeeded in one attempt each, and nothing is left in Redis."""
    for event in events:
        wait_succeeded(stack, event, timeout)
    for event in events:
        check_succeeded_once(stack, event)
    wait_for(lambda: stack.redis.stream_length() == 0, 10, "an empty stream")
    assert stack.redis.pending() == 0


def pending_entries(stack):
    """[{"consumer", "times_delivered", "time_since_delivered" in ms, …}] of what is in workers' hands."""
    return stack.redis.client.xpending_range(STREAM, "workers", "-", "+", 100)


def hosts_of(entries, worker):
    """Which of the entries a worker process holds: consumers are named host-pid-random-thread."""
    return [entry for entry in entries if f"-{worker.pid}-".encode() in entry["consumer"]]
