"""What system tests, chaos and load tests share: real servers and services as objects, signing, events.

    from lib import Stack, make_event, wait_for

    with Stack(folder) as stack:                   # Redis, store, ingest, one worker, all on ports of their own
        stack.send(make_event(event_id="evt_1"))   # signed for the demo source; an HTTP answer comes back
        wait_for(lambda: stack.store.event("demo/evt_1")["status"] == "succeeded")

Every object has start, stop, kill (SIGKILL), pause and resume (SIGSTOP, SIGCONT) and ends what it started by its process
id. Executables come from WAYBILL_BIN_DIR (default: build/bin), so the same tests run against a sanitizer build. With
WAYBILL_TEST_MONGO_URL the store is that server, each Store with a database of its own.
"""

from .events import identity, make_event, unique_id
from .metrics import parse_metrics
from .process import Process, SanitizerReport, bin_dir, executable, free_port
from .servers import RedisServer, Store
from .services import Ingest, Worker
from .stack import Stack
from .wait import wait_for

__all__ = [
    "Ingest", "Process", "RedisServer", "SanitizerReport", "Stack", "Store", "Worker", "bin_dir", "executable", "free_port",
    "identity", "make_event", "parse_metrics", "unique_id", "wait_for",
]
