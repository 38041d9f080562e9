#!/usr/bin/python3
"""Nothing is lost, nothing happens twice: breaks everything for a while and then counts.

    make chaos                          about a minute, a fresh random seed (printed)
    make chaos SECONDS=900 SEED=42      longer, and the faults of that seed again
    tests/chaos/chaos.py --help

Senders that behave like real ones send a known set of events; meanwhile parts are killed, frozen, cut off, slowed and fed with
garbage. Then everything is mended, and when the system is quiet the invariants are checked (checks.py). On failure it prints the
seed and the whole history of the events concerned, and keeps the logs.
"""

import argparse
import collections
import json
import multiprocessing
import random
import secrets
import shutil
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.chaos.checks import Verdict, check_all  # noqa: E402
from tests.chaos.faults import FAULTS  # noqa: E402
from tests.chaos.sender import run_sender  # noqa: E402
from tests.chaos.world import World  # noqa: E402
from tests.lib.stack import DEMO_SECRET  # noqa: E402

FINISH_S = 60  # how long senders go on trying after the last fault
STILL_S = 90   # without any progress the system is stuck


class Shared:
    """What the sender processes and this one tell each other."""

    def __init__(self):
        self.until = multiprocessing.Value("d", 0.0)       # new events are sent until then
        self.gave_up_at = multiprocessing.Value("d", 0.0)  # and repeated until then
        self.last_ack = multiprocessing.Value("d", 0.0)
        self.acked = multiprocessing.Value("q", 0)


class Faults:
    """Chooses faults from the seed and carries them out, now and then several at once."""

    def __init__(self, world, seed, log):
        self._world, self._rng, self._log = world, random.Random(f"{seed}/faults"), log
        self.counts, self.problems = collections.Counter(), []

    def run_until(self, is_over):
        running = []
        while not is_over():
            for _ in range(self._rng.choice((1, 1, 1, 2, 3))):
                fault = self._rng.choices(list(FAULTS), list(FAULTS.values()))[0]
                running.append(self._start(fault, random.Random(self._rng.getrandbits(64))))
            pause_until = time.time() + self._rng.uniform(0.2, 3)
            while time.time() < pause_until and not is_over():
                time.sleep(0.05)
        for thread in running:
            thread.join(60)

    def _start(self, fault, rng):
        thread = threading.Thread(target=self._carry_out, args=(fault, rng), daemon=True)
        thread.start()
        return thread

    def _carry_out(self, fault, rng):
        began = time.time()
        try:
            fault(self._world, rng)
            self.counts[fault.__name__] += 1
        except Exception:  # noqa: BLE001 (a fault that could not be carried out is told, not fatal: its part may be dead already)
            self.problems.append(f"{fault.__name__}: {traceback.format_exc(limit=3)}")
        self._log.write(f"{began:.3f} {time.time() - began:6.2f} s  {fault.__name__}\n")
        self._log.flush()


def start_senders(options, world, shared, folder):
    context = multiprocessing.get_context("fork")
    arguments = [(n, options.seed, world.ingest.port, DEMO_SECRET, options.connections, folder / f"ledger-{n}", shared)
                 for n in range(options.senders)]
    senders = [context.Process(target=run_sender, args=one, daemon=True) for one in arguments]
    for sender in senders:
        sender.start()
    return senders


def read_ledger(folder):
    """{event_id: (kind, acks)}, and how often each answer came."""
    ledger, answers = {}, collections.Counter()
    for path in sorted(folder.glob("ledger-*")):
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                event_id, kind, _, acks, statuses = json.loads(line)
                ledger[event_id] = (kind, acks)
                answers.update(statuses)
    return ledger, answers


def mend_all(world):
    """Everything is there again and works."""
    for process in world.stack.processes():
        if not process.alive:
            process.start(wait=False)
    world.store.heal()
    for service in (world.ingest, *world.workers):
        service.wait_ready(60)


def unresolved(world):
    in_store = world.store.events.count_documents({"status": {"$in": ["processing", "retry_wait"]}})
    return in_store + world.redis.stream_length() + world.redis.retry_length()


def wait_quiet(world):
    """Until nothing is unresolved any more; fails only when nothing moves for a long time."""
    best, moved = None, time.time()
    while True:
        left = unresolved(world)
        if left == 0:
            return True
        if best is None or left < best:
            best, moved = left, time.time()
        if time.time() - moved > STILL_S:
            return False
        time.sleep(0.25)


def print_history(world, folder, keys):
    """Everything that is known about some events."""
    for key in keys[:6]:
        print(f"\n--- {key}\n{json.dumps(world.store.event(key), default=str, indent=1)[:4000]}")
        for log in sorted(folder.glob("*.log")):
            with open(log, errors="replace") as lines:
                for line in lines:
                    if key in line or key.partition("/")[2] + '"' in line:
                        print(f"{log.name}: {line.rstrip()[:400]}")


def figures(world, shared, faults, answers, seconds):
    yield "submissions acknowledged", f"{shared.acked.value} ({shared.acked.value / seconds:.0f}/s)"
    yield "answers", ", ".join(f"{status}: {n}" for status, n in sorted(answers.items()))
    yield "faults", ", ".join(f"{name} {n}" for name, n in sorted(faults.counts.items()))
    for part, times in sorted(world.returns.items()):
        yield f"longest from return to normal work: {part}", f"{max(times):.2f} s (of {len(times)})"
    if world.orphans:
        yield "longest from a worker's death to its events taken over", \
            f"{max(world.orphans):.2f} s (of {len(world.orphans)}; lease {world.lease_s:g} s)"


def run(options, folder, world, shared):
    with open(folder / "faults.log", "w", encoding="utf-8") as log:
        faults = Faults(world, options.seed, log)
        began = time.time()
        shared.until.value, shared.gave_up_at.value = began + options.seconds, began + options.seconds + FINISH_S
        senders = start_senders(options, world, shared, folder)

        def is_over():
            if options.acked and shared.acked.value >= options.acked:
                shared.until.value = min(shared.until.value, time.time())
            return time.time() >= shared.until.value

        faults.run_until(is_over)
        seconds = time.time() - began
        mend_all(world)
        for sender in senders:
            sender.join(FINISH_S + 60)
    verdict = Verdict()
    verdict.expect(wait_quiet(world), "the system comes to rest", unresolved(world))
    ledger, answers = read_ledger(folder)
    check_all(ledger, world.redis, world.store, verdict)
    verdict.figures.update(figures(world, shared, faults, answers, seconds))
    slowest = max((max(times) for times in world.returns.values()), default=0)
    verdict.expect(slowest < 10, "a part's return to normal work takes less than 10 s", f"{slowest:.1f} s")
    longest = max(world.orphans, default=0)
    verdict.figures["faults that could not be carried out"] = len(faults.problems)
    verdict.figures["longest seen in a dead worker's hands"] = f"{longest:.1f} s"
    for problem in faults.problems[:3]:
        print(problem)
    return verdict


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long to send and to break (default 60)")
    parser.add_argument("--acked", type=int, default=0, help="stop earlier, after so many acknowledged submissions")
    parser.add_argument("--seed", default="", help="repeat the choices of an earlier run")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--senders", type=int, default=2, help="processes")
    parser.add_argument("--connections", type=int, default=8, help="of each sender")
    parser.add_argument("--keep", action="store_true", help="keep logs and data of a good run too")
    options = parser.parse_args()
    options.seed = options.seed or str(secrets.randbelow(10**9))
    return options


def main():
    options = parse_options()
    folder = Path(tempfile.mkdtemp(prefix="waybill-chaos-"))
    print(f"chaos: seed {options.seed}, {options.seconds:g} s; logs in {folder}", flush=True)
    shared = Shared()
    world = World(folder, options.workers, shared)
    try:
        world.start()
        verdict = run(options, folder, world, shared)
        for name, value in verdict.figures.items():
            print(f"  {name}: {value}")
        for line in verdict.lines():
            print(line)
        print_history(world, folder, verdict.keys())
        world.stop()
    finally:
        world.kill()
    if verdict.is_good and not options.keep:
        shutil.rmtree(folder)
    else:
        print(f"repeat with SEED={options.seed}; logs, ledgers and data are in {folder}")
    print(f"chaos: {1 if verdict.is_good else 0} passed, {0 if verdict.is_good else 1} failed")
    sys.exit(0 if verdict.is_good else 1)


if __name__ == "__main__":
    main()
