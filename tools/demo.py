#!/usr/bin/env python3
"""`make demo`: a gateway of its own on free ports, real events through it, and an account of what became of them.

Everything is done with waybillctl, as an operator would. Ends with 1 when anything is not as it should be.
"""

import calendar
import json
import os
import shutil
import signal
import sys
import tempfile
import time

from local_stack import DEVELOPMENT_SECRET, ROOT, LocalStack, RunDir, StackError, free_port, nice_path

WAIT_S = 15
PARCEL = "tests/data/parcels/02-paris-two-failed-attempts.jsonl"
NO_TRACKING_NUMBER = "tests/data/bad/no-tracking-number.json"
WRONG_SECRET = "whsec_d3Jvbmctc2VjcmV0LWZvci10aGUtZGVtbw=="
QUICK_RETRIES = {"WAYBILL_RETRY_BASE_MS": "200", "WAYBILL_RETRY_CAP_MS": "2000"}


def environment():
    """The caller's, without settings of other stacks, and with free ports."""
    env = {name: value for name, value in os.environ.items()
           if not name.startswith("WAYBILL_") or name == "WAYBILL_BIN_DIR"}
    listen = free_port(18080, 18180)
    ingest_admin = free_port(19080, 19180)
    worker_admin = free_port(ingest_admin + 1, ingest_admin + 101)
    return {**env, **QUICK_RETRIES, "WAYBILL_LISTEN": f"127.0.0.1:{listen}",
            "WAYBILL_ADMIN_LISTEN": f"127.0.0.1:{ingest_admin}",
            "WAYBILL_WORKER_ADMIN_LISTEN": f"127.0.0.1:{worker_admin}", "WAYBILL_SECRET_DEMO": DEVELOPMENT_SECRET}


def quoted(word):
    return word if word and all(c.isalnum() or c in "-_./:=" for c in word) else f"'{word}'"


class Demo:
    def __init__(self, stack):
        self.stack = stack
        self.failures = 0
        self.scenes = 0

    def scene(self, text):
        self.scenes += 1
        print(f"\n{self.scenes}. {text}\n", flush=True)

    def check(self, is_so, text):
        if not is_so:
            self.failures += 1
        print(f"   {'ok    ' if is_so else 'NOT SO'} {text}", flush=True)

    def shell(self, *words, **settings):
        """Runs waybillctl as a reader would type it, and shows what it prints."""
        typed = [f"{name}={value}" for name, value in settings.items()] + ["waybillctl", *map(quoted, words)]
        print("   $ " + " ".join(typed), flush=True)
        done = self.stack.ctl(*words, **settings)
        for line in (done.stdout + done.stderr).splitlines():
            print("     " + line[:150] + ("…" if len(line) > 150 else ""), flush=True)
        print(flush=True)
        return done

    def send(self, *words, **settings):
        """Sends one event; (exit code, status of the answer, what was printed)."""
        done = self.shell("send", *words, **settings)
        first = done.stdout.split(maxsplit=1)[:1]
        return done.returncode, int(first[0]) if first and first[0].isdigit() else 0, done.stdout

    def event(self, key):
        """The store's record of an event, or {} when there is none."""
        done = self.stack.ctl("events", "show", key, "--json")
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def wait_for(self, key, condition):
        """The event's record once the condition holds for it, or as it is when time is up."""
        deadline = time.monotonic() + WAIT_S
        record = self.event(key)
        while not condition(record) and time.monotonic() < deadline:
            failure = self.stack.failed()
            if failure is not None:
                raise failure
            time.sleep(0.05)
            record = self.event(key)
        return record

    def wait_for_status(self, key, status):
        return self.wait_for(key, lambda record: record.get("status") == status)

    # The scenes

    def life_of_a_parcel(self):
        self.scene("The life of a parcel: every event is accepted, then processed once in the background")
        with open(os.path.join(ROOT, PARCEL), encoding="utf-8") as lines:
            keys = ["demo/" + json.loads(line)["event_id"] for line in lines]
        done = self.shell("send", "--file", PARCEL, "--lines")
        self.check(done.returncode == 0, f"all {len(keys)} events were accepted (202), each with Redis' word for it")
        records = [self.wait_for_status(key, "succeeded") for key in keys]
        self.check(all(record.get("status") == "succeeded" for record in records), "all of them succeeded")
        self.check(all(len(record.get("attempts", [])) == 1 for record in records), "each at its first attempt")
        return keys[-1]

    def duplicate(self, key):
        self.scene("A courier sends an event again: accepted again, but it has one outcome only")
        with open(os.path.join(ROOT, PARCEL), encoding="utf-8") as lines:
            last = lines.read().splitlines()[-1]
        path = self.stack.run_dir.file("again.json")
        with open(path, "w", encoding="utf-8") as again:
            again.write(last)
        code, status, _ = self.send("--file", path)
        self.check(code == 0 and status == 202, "the sender gets 202, so it stops repeating")
        record = self.wait_for(key, lambda record: record.get("duplicates") == 1)
        self.check(record.get("duplicates") == 1, "it was counted as a duplicate")
        self.check(record.get("status") == "succeeded" and len(record.get("attempts", [])) == 1,
                   "it was not processed a second time")

    def bad_signature(self):
        self.scene("Somebody without the secret")
        code, status, _ = self.send("--event-id", "evt_demo_forged", WAYBILL_SECRET_DEMO=WRONG_SECRET)
        self.check(code == 1 and status == 401, "401, and waybillctl ends with 1")
        self.check(self.stack.ctl("events", "show", "demo/evt_demo_forged").returncode == 4, "nothing of it was kept")

    def missing_field(self):
        self.scene("An event without its tracking number")
        code, status, text = self.send("--file", NO_TRACKING_NUMBER)
        self.check(code == 1 and status == 422, "422")
        self.check("missing_field" in text and "data.tracking_number" in text, "the answer names the field")

    def transient_failure(self):
        self.scene("A failure that goes away: the first three attempts fail, the fourth succeeds")
        code, status, _ = self.send("--event-id", "evt_demo_recovers", "--type", "parcel.in_transit",
                                    "--simulate", '{"fail":"transient","times":3}')
        self.check(code == 0 and status == 202, "accepted")
        record = self.wait_for_status("demo/evt_demo_recovers", "succeeded")
        self.shell("events", "show", "demo/evt_demo_recovers")
        attempts = record.get("attempts", [])
        self.check(record.get("status") == "succeeded" and len(attempts) == 4, "it succeeded at the fourth attempt")
        delays = [attempt.get("delay_ms") for attempt in attempts[:-1]]
        self.check(len(delays) == 3 and all(isinstance(delay, int) for delay in delays),
                   "with waits of " + ", ".join(f"{delay} ms" for delay in delays) +
                   " (random, up to 200, 400 and 800 ms: exponential backoff with full jitter)")
        self.check(all(gap >= delay for gap, delay in zip(gaps_ms(attempts), delays)), "no attempt came before its time")

    def permanent_failure(self):
        self.scene("A failure for good: dead-lettered with everything an operator needs, then replayed")
        key = "demo/evt_demo_dies"
        code, status, _ = self.send("--event-id", "evt_demo_dies", "--type", "parcel.delivered",
                                    "--simulate", '{"fail":"permanent","until_replay":true}')
        self.check(code == 0 and status == 202, "accepted")
        self.wait_for_status(key, "dead")
        self.shell("dlq", "list")
        listed = {letter["key"]: letter for letter in json.loads(self.stack.ctl("dlq", "list", "--json").stdout)}
        letter = listed.get(key, {})
        self.check(letter.get("reason") == "permanent_failure" and letter.get("attempt") == 1,
                   "it is listed with its reason and its one attempt")
        shown = self.shell("dlq", "show", key)
        self.check("simulated permanent failure" in shown.stdout, "its letter tells the error, the attempts and the body")
        done = self.shell("dlq", "replay", key)
        self.check(done.returncode == 0, "replayed")
        record = self.wait_for_status(key, "succeeded")
        self.check(record.get("status") == "succeeded", "this time it succeeded")
        self.check(len(record.get("attempts", [])) == 2, "its history holds both attempts")
        left = json.loads(self.stack.ctl("dlq", "list", "--json").stdout)
        self.check(left == [], "no dead letter waits for review any more")

    def nothing_left(self):
        self.scene("What is left")
        done = self.shell("status")
        self.check(done.returncode == 0, "both services are ready")
        self.check(self.queue_gets_empty(), "the queue is empty: every event has its outcome")

    def queue_gets_empty(self):
        """An outcome is in the store a moment before its entry leaves the queue."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            redis = json.loads(self.stack.ctl("status", "--json").stdout).get("redis", {})
            if [redis.get(name) for name in ("stream", "pending", "retry", "dead")] == [0, 0, 0, 0]:
                return True
            time.sleep(0.05)
        return False

    def run(self):
        key = self.life_of_a_parcel()
        self.duplicate(key)
        self.bad_signature()
        self.missing_field()
        self.transient_failure()
        self.permanent_failure()
        self.nothing_left()


def gaps_ms(attempts):
    """From the end of each attempt to the start of the next, by the worker's clock."""
    times = [(milliseconds(a["started_at"]), milliseconds(a["ended_at"])) for a in attempts]
    return [later[0] - earlier[1] for earlier, later in zip(times, times[1:])]


def milliseconds(text):
    seconds, fraction = text.rstrip("Z").split(".")
    return calendar.timegm(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S")) * 1000 + int(fraction)


def on_signal(number, _frame):
    raise SystemExit(128 + number)


def run(folder):
    """How many checks failed."""
    run_dir = RunDir(folder)
    run_dir.acquire(0)
    stack = LocalStack(run_dir, environment())
    demo = Demo(stack)
    try:
        print("Starting a gateway for the demo ...", flush=True)
        stack.start()
        demo.run()
        failure = stack.failed()
    finally:
        stack.stop()
    if failure is not None:
        raise failure
    return demo.failures


def main():
    started = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    folder = tempfile.mkdtemp(prefix="waybill-demo-")
    try:
        failures = run(folder)
    except StackError as error:
        print(f"make demo: {error}", file=sys.stderr)
        failures = 1
    if failures == 0:
        shutil.rmtree(folder)
        print(f"\nAll of it is so ({time.monotonic() - started:.0f} s).")
        return 0
    print(f"\n{failures} of it is NOT so; the services' logs are in {nice_path(folder)}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
