"""Waiting for a condition with a deadline, instead of sleeping."""

import time


def wait_for(condition, timeout=10.0, what="", interval=0.02):
    """Calls condition() until it returns something true, and returns that. AssertionError when timeout seconds passed.

    what may be a text or a function without arguments that describes how things stand.
    """
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            detail = what() if callable(what) else what
            raise AssertionError(f"not within {timeout} s: {detail or condition}; last result: {result!r}")
        time.sleep(interval)


def holds_for(condition, seconds, what="", interval=0.02):
    """AssertionError as soon as condition() is not true during the next seconds: for what must not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = condition()
        assert result, f"did not stay so for {seconds} s: {what or condition}; result: {result!r}"
        time.sleep(interval)
