#!/usr/bin/python3
"""Runs Waybill's tests and ends with a plain count: "N passed, N failed".

    tools/test.py              what `make test` runs: unit, store and system tests, then the same under sanitizers
    tools/test.py --all        also under ThreadSanitizer, the protocol model, chaos, and the compose file where there is a Docker engine
    tools/test.py unit system  only these steps

Each step builds what it needs, runs bounded in time, and leaves its log in build/test-logs/.
"""

import argparse
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(ROOT, "build", "test-logs")
PYTHON = "/usr/bin/python3"


class Count:
    """How many tests passed and failed."""

    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def __add__(self, other):
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")


def run(name, command, timeout_s, env=None):
    """Runs a command with its output in a log; returns (exit status, the log's text)."""
    os.makedirs(LOGS, exist_ok=True)
    path = os.path.join(LOGS, name + ".log")
    with open(path, "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                   env={**os.environ, **(env or {})}, start_new_session=True)
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # the group that this call made
            process.wait()
            log.write(f"\nstopped after {timeout_s} s\n")
            status = 124
    with open(path, encoding="utf-8", errors="replace") as log:
        return status, log.read()


def build(preset):
    """Configures and builds a preset; its folder is build/ for release, build/PRESET for the others."""
    for name, command in (("configure", ["cmake", "--preset", preset]),
                          ("build", ["cmake", "--build", "--preset", preset])):
        status, text = run(f"{name}-{preset}", command, 900)
        if status != 0:
            print(text[-6000:])
            sys.exit(f"the {preset} build failed")
    return os.path.join(ROOT, "build" if preset == "release" else f"build/{preset}")


def count_ctest(path):
    """Counts the cases that the cmocka programs printed, and each program that failed without a failed case."""
    count = Count()
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        text = case.findtext("system-out") or ""
        passed, failed = len(re.findall(r"^\[       OK \]", text, re.M)), len(re.findall(r"^\[  FAILED  \] \w+$", text, re.M))
        if case.get("status") == "fail" or case.find("failure") is not None:
            failed = max(failed // 2, 1)  # cmocka names a failed case twice
        count += Count(passed, failed)
    return count


def unit(preset, label, only="."):
    """only: a pattern for the names of the programs to run."""
    folder = build(preset)
    report = os.path.join(LOGS, f"{label}.xml")
    status, text = run(label, ["ctest", "--test-dir", folder, "--output-on-failure", "--output-junit", report, "-R", only,
                               "--test-output-size-passed", "1000000", "--timeout", "240"], 900)
    count = count_ctest(report) if os.path.exists(report) else Count(failed=1)
    if status != 0 and count.failed == 0:
        count.failed = 1
    return count, text


def pytest(folder, label, preset="release", extra=()):
    bin_dir = os.path.join(build(preset), "bin")
    report = os.path.join(LOGS, f"{label}.xml")
    env = {"WAYBILL_BIN_DIR": bin_dir, "PYTHONDONTWRITEBYTECODE": "1"}
    status, text = run(label, [PYTHON, "-m", "pytest", folder, "-q", "-p", "no:cacheprovider", f"--junitxml={report}",
                               *extra], 1200, env)
    count = Count(failed=1)
    if os.path.exists(report) and status in (0, 1):
        suite = ElementTree.parse(report).getroot().find("testsuite")
        total, bad, skipped = (int(suite.get(key)) for key in ("tests", "failures", "skipped"))
        bad += int(suite.get("errors"))
        count = Count(total - bad - skipped, bad, skipped)
    return count, text


def script(label, command, timeout_s):
    """A step that counts by itself (its last 'N passed, N failed' line), or is one test."""
    build("release")
    status, text = run(label, command, timeout_s)
    found = re.findall(r"^(?:\w+: )?(\d+) passed, (\d+) failed", text, re.M)
    count = Count(int(found[-1][0]), int(found[-1][1])) if found else Count(int(status == 0), int(status != 0))
    if status != 0 and count.failed == 0:
        count.failed = 1
    return count, text


STEPS = {
    "unit": lambda: unit("release", "unit"),
    "devstore": lambda: pytest("tests/devstore", "devstore"),
    "system": lambda: pytest("tests/system", "system"),
    "outage": lambda: pytest("tests/outage", "outage"),
    "unit-asan": lambda: unit("asan", "unit-asan"),
    "system-asan": lambda: pytest("tests/system", "system-asan", "asan", ("-m", "not slow")),
    # What is threaded: adding with its look-up thread, connections and drain, the admin thread, reloads under traffic.
    "unit-tsan": lambda: unit("tsan", "unit-tsan", "queue_add|connections|rate|admin"),
    "system-tsan": lambda: pytest("tests/system/test_reload.py", "system-tsan", "tsan"),
    "model": lambda: script("model", ["make", "model"], 300),
    "chaos": lambda: script("chaos", ["make", "chaos", "SECONDS=45", "SEED=20260131"], 420),
    "chaos-random": lambda: script("chaos-random", ["make", "chaos", "SECONDS=45"], 420),
    "loadtest": lambda: script("loadtest", ["make", "loadtest", "PROFILE=smoke"], 300),
    "loadtest-page": lambda: pytest("tests/loadtest", "loadtest-page"),
    "compose": lambda: script("compose", ["make", "test-compose"], 900),
}
DEFAULT = ["unit", "devstore", "system", "outage", "unit-asan", "system-asan"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", choices=[[], *STEPS], help="default: " + " ".join(DEFAULT))
    parser.add_argument("--all", action="store_true", help="every step")
    options = parser.parse_args()
    total, width = Count(), max(map(len, STEPS))
    for name in list(STEPS) if options.all else options.steps or DEFAULT:
        started = time.monotonic()
        count, text = STEPS[name]()
        total += count
        print(f"{name:{width}}  {count}  ({time.monotonic() - started:.0f} s)", flush=True)
        if count.failed:
            print(text[-8000:])
            print(f"-- the whole log: build/test-logs/{name}.log", flush=True)
    print(total)
    sys.exit(1 if total.failed or not total.passed else 0)


if __name__ == "__main__":
    main()
