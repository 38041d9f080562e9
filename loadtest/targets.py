#!/usr/bin/python3
"""Writes an endless stream of signed events as vegeta JSON targets: the standard input of `vegeta attack -lazy -format=json`.

Signatures are good for five minutes, so each is made only when vegeta is about to need it: the pipe holds some fifty
targets. The secret comes from the environment (WAYBILL_SECRET_DEMO). When vegeta has had enough, or --most targets were
written, a line of JSON with this program's own figures goes to --figures.

    targets.py --measure 5      how many targets a second this machine can make
"""

import argparse
import base64
import hmac
import json
import os
import resource
import sys
import time

import plan as plans

BATCH = 16  # targets a write
STALE_S = 3600
WRONG_KEY = b"this is not the key that the gateway knows"


def key_of(secret):
    """The key bytes of the first of one or more Standard Webhooks secrets."""
    words = secret.split()
    if not words or not words[0].startswith("whsec_"):
        raise SystemExit("load test: the secret of the demo source must be a Standard Webhooks one: whsec_…")
    return base64.b64decode(words[0].removeprefix("whsec_"))


class Writer:
    """Makes targets of submissions."""

    def __init__(self, plan, url, key):
        self._plan, self._url, self._key = plan, url, key

    def target(self, submission):
        """One line: the event, signed now. The number goes into the URL's fragment, which stays in vegeta's results and
        is never sent."""
        number, kind, identity, event_kind = submission
        body = self._plan.body(identity, event_kind)
        event_id = self._plan.event_id(identity)
        timestamp = int(time.time()) - (STALE_S if kind == plans.STALE else 0)
        key = WRONG_KEY if kind == plans.BAD_SIGNATURE else self._key
        mac = hmac.digest(key, b"%b.%d.%b" % (event_id.encode(), timestamp, body), "sha256")
        return (f'{{"method":"POST","url":"{self._url}#{number}","header":{{"Content-Type":["application/json"],'
                f'"webhook-id":["{event_id}"],"webhook-timestamp":["{timestamp}"],'
                f'"webhook-signature":["v1,{_b64(mac)}"]}},"body":"{_b64(body)}"}}\n').encode()


def _b64(data):
    return base64.b64encode(data).decode()


def write_all(writer, plan, most, out):
    """Until vegeta closes the pipe or `most` targets were written. Returns (targets, seconds spent waiting for vegeta)."""
    written, waited, batch = 0, 0.0, []
    for submission in plan.submissions():
        if submission.number == most:
            break
        batch.append(writer.target(submission))
        if len(batch) == BATCH:
            began = time.monotonic()
            if not _write(out, b"".join(batch)):
                return written, waited
            waited += time.monotonic() - began
            written += len(batch)
            batch = []
    return written + (len(batch) if _write(out, b"".join(batch)) else 0), waited


def _write(fd, data):
    """False when the reader has gone."""
    try:
        while data:
            data = data[os.write(fd, data):]
    except BrokenPipeError:
        return False
    return True


def measure(writer, plan, seconds):
    """Prints how many targets a second can be made."""
    began, count = time.process_time(), 0
    for submission in plan.submissions():
        writer.target(submission)
        count += 1
        if count % 1000 == 0 and time.process_time() - began > seconds:
            break
    rate = count / (time.process_time() - began)
    print(f"{rate:.0f} targets per CPU second, {1e6 / rate:.1f} µs each")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080/v1/events/demo")
    parser.add_argument("--seed", default="try", help="part of every id; the plan follows from it")
    parser.add_argument("--began", type=int, default=int(time.time()), help="Unix seconds that occurred_at counts from")
    parser.add_argument("--shares", type=json.loads, default={}, help='JSON: {"duplicate": 0.05, …}; the rest is valid')
    parser.add_argument("--most", type=int, default=1_000_000, help="targets to write at most")
    parser.add_argument("--figures", help="file for this program's own figures")
    parser.add_argument("--measure", type=float, metavar="SECONDS", help="write nothing; print how fast this machine is")
    return parser.parse_args()


def main():
    options = arguments()
    plan = plans.Plan(options.seed, options.shares, options.began)
    writer = Writer(plan, options.url, key_of(os.environ.get("WAYBILL_SECRET_DEMO", "")))
    if options.measure:
        measure(writer, plan, options.measure)
        return
    began = time.monotonic()
    written, waited = write_all(writer, plan, options.most, sys.stdout.fileno())
    if options.figures:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        with open(options.figures, "w", encoding="utf-8") as out:
            json.dump({"written": written, "waited_s": round(waited, 3), "wall_s": round(time.monotonic() - began, 3),
                       "cpu_s": round(usage.ru_utime + usage.ru_stime, 3)}, out)
    os._exit(0)  # without another write to a pipe that is closed


if __name__ == "__main__":
    main()
