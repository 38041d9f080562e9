"""Senders in the background, for tests that break things meanwhile."""

import collections
import concurrent.futures
import contextlib
import threading

import requests

from .events import identity, make_event
from .outcomes import check_succeeded_once
from .wait import wait_for


class Traffic:
    """accepted: the events that were answered 2xx; statuses: how often each answer came ("no answer": none)."""

    def __init__(self, stack, threads=8, make=make_event):
        self.stack, self._make = stack, make
        self.accepted, self.statuses = [], collections.Counter()
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        self._jobs = [self._pool.submit(self._send_on) for _ in range(threads)]

    def _send_on(self):
        with requests.Session() as session:
            while not self._end.is_set():
                event = self._make()
                status = self._send(event, session)
                with self._lock:
                    self.statuses[status] += 1
                    if status == 202:
                        self.accepted.append(event)
                if status != 202:
                    self._end.wait(0.02)

    def _send(self, event, session):
        try:
            return self.stack.send(event, session=session).status_code
        except requests.RequestException:
            return "no answer"

    def wait_accepted(self, more, timeout=20):
        """Waits until so many more events were accepted."""
        goal = len(self.accepted) + more
        wait_for(lambda: len(self.accepted) >= goal, timeout, lambda: f"{goal} accepted events; have {self.statuses}")

    def stop(self):
        self._end.set()
        for job in self._jobs:
            job.result(30)
        self._pool.shutdown()

    def check_all_succeeded(self, timeout=30):
        """Call after stop: every accepted event succeeds, exactly once, and nothing stays on the queue."""
        keys = [identity(event) for event in self.accepted]
        assert keys, f"no event was accepted: {self.statuses}"
        events = self.stack.store.events
        done = {"_id": {"$in": keys}, "status": "succeeded"}
        rest = {"_id": {"$in": keys}, "status": {"$ne": "succeeded"}}
        wait_for(lambda: events.count_documents(done) == len(keys), timeout, interval=0.1,
                 what=lambda: f"{len(keys)} succeeded; have {events.count_documents(done)}, for example not {events.find_one(rest, {'body': 0})}")
        for event in self.accepted:
            check_succeeded_once(self.stack, event)
        wait_for(lambda: self.stack.redis.stream_length() == 0, 15, "an empty stream")


@contextlib.contextmanager
def traffic(stack, **options):
    """Sends for as long as the block lasts."""
    flow = Traffic(stack, **options)
    try:
        yield flow
    finally:
        flow.stop()
