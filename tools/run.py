#!/usr/bin/env python3
"""`make run`: a whole gateway on this machine until Ctrl-C. Everything about it is in WAYBILL_RUN_DIR (default .run).

Settings of docs/configuration.md are honoured: WAYBILL_REDIS_URL and WAYBILL_MONGO_URL name servers to use in the place
of private ones, WAYBILL_LISTEN and WAYBILL_ADMIN_LISTEN the addresses (the worker's admin listener is the next port up,
or WAYBILL_WORKER_ADMIN_LISTEN), WAYBILL_SECRET_DEMO the secret of the demo source.
"""

import os
import re
import signal
import sys
import time

from local_stack import PRIVATE_MARK, ROOT, LocalStack, RunDir, StackError, Stopped, nice_path, split_address

LOCK_WAIT_S = 3


class Signals:
    """Counts the wishes to stop: the first stops in good order, another one at once."""

    def __init__(self, parent):
        self.count, self.parent = 0, parent
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number, _frame):
        self.count += 1

    def stop(self):
        return self.count > 0 or (self.parent is not None and os.getppid() != self.parent)

    def hurry(self):
        return self.count > 1


def say(text=""):
    """The terminal may be gone already when there is something left to say."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")


def recorded(path, name, mark=""):
    """What a run's env file says a setting is, or None. With a mark: only where that stands behind it."""
    try:
        with open(path) as env:
            match = re.search(rf"^export {name}=(\S+).*{mark}$", env.read(), re.MULTILINE)
    except OSError:
        return None
    return match and match[1].strip("'")


def open_run_dir(environment):
    """The folder of this run. When the default one belongs to a running stack with other addresses, one below it."""
    path = environment.pop("WAYBILL_RUN_DIR", "") or os.path.join(ROOT, ".run")
    named = path != os.path.join(ROOT, ".run")
    run_dir = RunDir(os.path.abspath(path))
    if run_dir.acquire(LOCK_WAIT_S):
        return run_dir
    listen = environment.get("WAYBILL_LISTEN", "127.0.0.1:8080")
    if not named and listen != recorded(run_dir.file("env"), "WAYBILL_LISTEN"):
        second = RunDir(run_dir.file(str(split_address(listen)[1])))
        if second.acquire(0):
            return second
    raise StackError(f"a stack is running in {nice_path(run_dir.path)} already (process {run_dir.owner()}): stop it, or start "
                     "another one with WAYBILL_RUN_DIR, WAYBILL_LISTEN and WAYBILL_ADMIN_LISTEN set to other values")


def forget_own_servers(environment, run_dir):
    """Whoever sourced .run/env and then says `make run` does not mean the private servers of the last run."""
    for name in ("WAYBILL_REDIS_URL", "WAYBILL_MONGO_URL"):
        if name in environment and environment[name] == recorded(run_dir.file("env"), name, PRIVATE_MARK):
            del environment[name]


def without_password(url):
    return re.sub(r"//[^@/]*@", "//…@", url)


def print_account(stack, seconds):
    env = stack.environment
    run_dir = nice_path(stack.run_dir.path)
    scheme = "https" if env.get("WAYBILL_TLS_CERT_FILE") else "http"
    redis = without_password(env.get("WAYBILL_REDIS_URL", "see WAYBILL_REDIS_URL_FILE"))
    store = without_password(env.get("WAYBILL_MONGO_URL", "see WAYBILL_MONGO_URL_FILE"))
    say(f"Waybill is ready ({seconds:.1f} s). Ctrl-C stops it.\n")
    say(f"  events        {scheme}://{stack.listen}/v1/events/demo")
    say(f"  ingest admin  http://{env['WAYBILL_INGEST_ADMIN']}/status   (/readyz, /metrics)")
    say(f"  worker admin  http://{env['WAYBILL_WORKER_ADMIN']}/status")
    say(f"  Redis         {redis}" + ("" if stack.redis_is_ours else "   (yours)"))
    say(f"  store         {store}" + ("" if stack.store_is_ours else "   (yours)"))
    say(f"  logs          {run_dir}/*.log\n")


def print_lines_to_paste(stack):
    env_file = nice_path(stack.run_dir.file("env"))
    if not env_file.startswith("/"):
        env_file = "./" + env_file  # `.` looks for a bare name in PATH
    ctl = nice_path(os.path.join(stack.bin_dir, "waybillctl"))
    event = ["--type", "parcel.out_for_delivery", "--tracking-number", "WB123456785GB", "--location", "Leeds"]
    curl = stack.ctl("send", "--print-curl", *event)
    if curl.returncode != 0:
        raise StackError(curl.stderr.strip())
    say("Send an event, in another terminal, in this folder:\n")
    say(f"( . {env_file} && {ctl} send {' '.join(event)} )\n")
    say("The same with curl (its signature is good for five minutes; `waybillctl send --print-curl` prints a new one):\n")
    say(curl.stdout)
    say(f"What became of events: ( . {env_file} && {ctl} status )")
    say(f"After a change in scripts/: ( . {env_file} && {ctl} reload )")


def keep_running(stack, signals):
    """Returns when the user wants to stop; raises when a program ended by itself."""
    while not signals.stop():
        failure = stack.failed()
        if failure is not None:
            raise failure
        time.sleep(0.1)


def run(stack, signals, started):
    try:
        stack.start()
        print_account(stack, time.monotonic() - started)
        print_lines_to_paste(stack)
        keep_running(stack, signals)
        say("\nStopping …")
    except Stopped:
        say("\nStopping …")
    finally:
        stack.stop(signals.hurry)
    say("Stopped.")


def main():
    started = time.monotonic()
    signals = Signals(os.getppid() if "--stop-with-parent" in sys.argv[1:] else None)
    environment = dict(os.environ)
    try:
        run_dir = open_run_dir(environment)
        forget_own_servers(environment, run_dir)
        run(LocalStack(run_dir, environment, signals.stop), signals, started)
    except StackError as error:
        print(f"make run: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
