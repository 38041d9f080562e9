#!/usr/bin/python3
"""Waybill's ingest beside gateways that somebody might build instead: what does an acknowledged event cost?

    make peers                          three gateways in turns, as fast as they can, then at a fixed rate
    bench/peers/run.py --help           fewer systems, more rounds, other rates, other builds of Waybill

Each run has a Redis of its own (appendfsync always) and a gateway that was just started, on loopback ports. Senders are
100 connections with distinct events, signed beforehand: wrk as fast as answers come, vegeta at a fixed rate. Runs of the
systems alternate, and the medians are what is printed: CPU time hardly depends on what else the machine does, events a
second and latencies do.
"""

import argparse
import base64
import contextlib
import grp
import hmac
import json
import os
import pwd
import shutil
import signal
import socket
import statistics
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(ROOT / "loadtest")]

from loadtest.attack import find_vegeta  # noqa: E402
from loadtest.plan import Plan  # noqa: E402
from loadtest.targets import key_of  # noqa: E402

SECRET = "whsec_" + base64.b64encode(b"for a benchmark only, no secret!").decode()
STREAM = "waybill:{0}:events"
CONNECTIONS = 100
WARM_UP_S = 1
SETTLE_S = 0.5  # for what was on its way when the senders stopped
MOST_A_SECOND = 25000  # events that are signed for each second of wrk
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
NGINX_MODULES = "/usr/lib/nginx/modules"


def say(text):
    print(text, flush=True)


class Ports:
    """Free loopback ports from a first one upwards."""

    def __init__(self, first):
        self._next = first

    def take(self):
        while True:
            port, self._next = self._next, self._next + 1
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with contextlib.suppress(OSError):
                    probe.bind(("127.0.0.1", port))
                    return port


# ---- processes ----

def wait_until_open(port, process):
    for _ in range(500):
        if process.poll() is not None:
            raise SystemExit(f"{process.args[0]} has ended with {process.returncode}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.02)
    raise SystemExit(f"{process.args[0]} does not listen on port {port}")


@contextlib.contextmanager
def running(command, folder, name, port, settings=None):
    """A child process while the block runs; its output goes to folder/name.log."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("WAYBILL_")}
    with open(folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen([str(word) for word in command], cwd=folder, stdout=log, stderr=log,
                                   env=env | {key: str(value) for key, value in (settings or {}).items()})
    try:
        wait_until_open(port, process)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def family(pid):
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def cpu_seconds(pid):
    total = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S


# ---- the systems ----

class Waybill:
    def __init__(self, name, bin_dir, threads):
        self.name, self._program, self._threads = name, Path(bin_dir).resolve() / "waybill-ingest", threads

    def prepare(self, _):
        if not self._program.exists():
            raise SystemExit(f"{self._program} is not there: make build")

    def start(self, folder, ports, redis_port):
        port = ports.take()
        return port, running([self._program], folder, "gateway", port, {
            "WAYBILL_LISTEN": f"127.0.0.1:{port}", "WAYBILL_ADMIN_LISTEN": f"127.0.0.1:{ports.take()}",
            "WAYBILL_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0", "WAYBILL_SECRET_DEMO": SECRET,
            "WAYBILL_SCRIPTS": ROOT / "scripts", "WAYBILL_LOG_FORMAT": "json", "WAYBILL_THREADS": self._threads})


def peer_settings(port, redis_port):
    return {"PEER_PORT": port, "PEER_REDIS_PORT": redis_port, "PEER_STREAM": STREAM, "PEER_SECRET": SECRET}


class Nginx:
    name = "nginx"

    def __init__(self, workers):
        self._workers = workers

    def prepare(self, _):
        if not shutil.which("nginx") or not Path(NGINX_MODULES, "ngx_http_lua_module.so").exists():
            raise SystemExit("nginx with Lua is not there: tools/deps.sh peers")

    def start(self, folder, ports, redis_port):
        port = ports.take()
        me = pwd.getpwuid(os.getuid())
        template = string.Template((HERE / "nginx/nginx.conf").read_text())
        (folder / "nginx.conf").write_text(template.substitute(
            modules=NGINX_MODULES, here=HERE / "nginx", port=port, workers=self._workers,
            user=f"{me.pw_name} {grp.getgrgid(me.pw_gid).gr_name}"))
        return port, running(["nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"], folder,
                             "gateway", port, peer_settings(port, redis_port))


class Go:
    name = "go"
    _program = None

    def prepare(self, folder):
        if not shutil.which("go"):
            raise SystemExit("Go is not on PATH (https://go.dev/dl); without it: --systems waybill,nginx")
        self._program = folder / "peer-go"
        subprocess.run(["go", "build", "-o", self._program, "."], cwd=HERE / "go", check=True)

    def start(self, folder, ports, redis_port):
        port = ports.take()
        return port, running([self._program], folder, "gateway", port, peer_settings(port, redis_port))


# ---- events ----

def write_requests(path, seed, count):
    """Whole signed requests, for fire.lua."""
    plan, key, now = Plan(seed, {}, int(time.time())), key_of(SECRET), int(time.time())
    with open(path, "wb") as out:
        for number in range(count):
            body, event_id = plan.body(number, "valid"), plan.event_id(number)
            mac = hmac.digest(key, b"%b.%d.%b" % (event_id.encode(), now, body), "sha256")
            request = (f"POST /v1/events/demo HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: courier/1.0\r\n"
                       f"Content-Type: application/json\r\nwebhook-id: {event_id}\r\nwebhook-timestamp: {now}\r\n"
                       f"webhook-signature: v1,{base64.b64encode(mac).decode()}\r\n"
                       f"Content-Length: {len(body)}\r\n\r\n").encode() + body
            out.write(b"%05d%b" % (len(request), request))


def fire(port, requests, seconds):
    """As fast as answers come."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", HERE / "fire.lua", f"http://127.0.0.1:{port}/",
               "--", requests]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    return json.loads(out.splitlines()[-1])


def drip(port, folder, seed, rate, seconds):
    """At a fixed rate, whatever the answers do."""
    url = f"http://127.0.0.1:{port}/v1/events/demo"
    generator = subprocess.Popen([sys.executable, ROOT / "loadtest/targets.py", "--url", url, "--seed", seed],
                                 stdout=subprocess.PIPE, env=os.environ | {"WAYBILL_SECRET_DEMO": SECRET})
    vegeta, raw = find_vegeta(), folder / "vegeta.bin"
    try:
        subprocess.run([vegeta, "attack", "-lazy", "-format=json", f"-rate={rate}", f"-duration={seconds}s",
                        f"-workers={CONNECTIONS}", f"-max-workers={CONNECTIONS}", "-timeout=10s", "-max-body=0",
                        "-http2=false", f"-output={raw}"], stdin=generator.stdout, check=True, timeout=seconds + 60)
    finally:
        generator.stdout.close()
        generator.kill()
        generator.wait()
    report = json.loads(subprocess.run([vegeta, "report", "-type=json", raw], capture_output=True, check=True).stdout)
    codes, latencies = report["status_codes"], report["latencies"]
    return {"answers": report["requests"], "seconds": (report["duration"] + report["wait"]) / 1e9,
            "refused": report["requests"] - codes.get("202", 0) - codes.get("0", 0), "broken": codes.get("0", 0),
            "p50_us": latencies["50th"] / 1e3, "p99_us": latencies["99th"] / 1e3}


# ---- one run ----

class Run:
    """A gateway and its Redis, both fresh."""

    def __init__(self, system, ports, parent):
        self._system, self._ports = system, ports
        self._folder = Path(tempfile.mkdtemp(prefix=f"{system.name}-", dir=parent))

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            port = self._ports.take()
            server = stack.enter_context(running(
                ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", self._folder, "--save", "",
                 "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"],
                self._folder, "redis", port))
            self._redis = stack.enter_context(contextlib.closing(redis.Redis(port=port)))
            self.port, starting = self._system.start(self._folder, self._ports, port)
            gateway = stack.enter_context(starting)
            self._pids = {"gateway": gateway.pid, "redis": server.pid}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def folder(self):
        return self._folder

    def _now(self):
        return self._redis.xlen(STREAM), {name: cpu_seconds(pid) for name, pid in self._pids.items()}

    def measure(self, send):
        """Figures of what send() does; every answer must have been a 202, and Redis must have the events."""
        before, cpu_before = self._now()
        sent = send()
        time.sleep(SETTLE_S)
        after, cpu_after = self._now()
        events = after - before
        # wrk leaves at most one request a connection without having seen its answer.
        if sent["refused"] or sent["broken"] or not 0 <= events - sent["answers"] <= CONNECTIONS:
            raise SystemExit(f"{self._system.name}: not every event was accepted: {sent}, {events} in Redis")
        figures = {name: (cpu_after[name] - cpu_before[name]) / events * 1e6 for name in self._pids}
        return figures | {"rate": sent["answers"] / sent["seconds"], "p50": sent["p50_us"] / 1e3,
                          "p99": sent["p99_us"] / 1e3}


# ---- all of them ----

COLUMNS = (("gateway", "gateway CPU µs/event", ".1f"), ("redis", "Redis CPU µs/event", ".1f"),
           ("rate", "acknowledged/s", ".0f"), ("p50", "p50 ms", ".2f"), ("p99", "p99 ms", ".2f"))


def print_table(title, systems, results):
    say(f"\n{title}\n\n| system | {' | '.join(head for _, head, _ in COLUMNS)} | runs |\n"
        f"| --- |{' ---: |' * (len(COLUMNS) + 1)}")
    for system in systems:
        runs = results[system.name]
        cells = []
        for key, _, form in COLUMNS:
            values = [run[key] for run in runs]
            cells.append(f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})")
        say(f"| {system.name} | {' | '.join(cells)} | {len(runs)} |")


def compare(title, systems, options, ports, folder, send):
    """send(run, name of the round) -> what wrk or vegeta said."""
    results = {system.name: [] for system in systems}
    for number in range(options.rounds):
        # Who comes first changes, so that nobody always follows the same one.
        for system in systems[number % len(systems):] + systems[:number % len(systems)]:
            with Run(system, ports, folder) as run:
                send(run, WARM_UP_S, f"w{number}")
                time.sleep(SETTLE_S)
                figures = run.measure(lambda: send(run, options.seconds, f"r{number}"))
            results[system.name].append(figures)
            say("  " + f"{system.name:10}" + "  ".join(f"{key} {figures[key]:{form}}" for key, _, form in COLUMNS))
    print_table(title, systems, results)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default="waybill,nginx,go", help="which, with commas (default: %(default)s)")
    parser.add_argument("--build", action="append", default=[], metavar="NAME=FOLDER",
                        help="one more system: another build of Waybill, by its folder of executables")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each system (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=8, help="length of a run (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=3000, help="the fixed rate; 0: leave it out (default: %(default)s)")
    parser.add_argument("--no-flat-out", action="store_true", help="only the fixed rate")
    parser.add_argument("--threads", type=int, default=1, help="of Waybill, and nginx's workers (default: %(default)s)")
    parser.add_argument("--first-port", type=int, default=28000, help="ports to use are from here on")
    return parser.parse_args()


def systems_of(options):
    known = {"waybill": Waybill("waybill", ROOT / "build/bin", options.threads), "nginx": Nginx(options.threads),
             "go": Go()}
    names = [name for name in options.systems.split(",") if name]
    if not set(names) <= set(known):
        raise SystemExit(f"--systems: choose of {', '.join(known)}")
    builds = [build.partition("=") for build in options.build]
    return [known[name] for name in names] + [Waybill(name, path, options.threads) for name, _, path in builds]


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # nothing is left running
    options = arguments()
    systems, ports = systems_of(options), Ports(options.first_port)
    with tempfile.TemporaryDirectory(prefix="waybill-peers-") as name:
        folder = Path(name)
        for system in systems:
            system.prepare(folder)
        requests = folder / "requests"
        signed_at = float("-inf")

        def flat_out(run, seconds, _):
            nonlocal signed_at
            if time.monotonic() - signed_at > 120:  # signatures are good for 300 s
                write_requests(requests, "peers", options.seconds * MOST_A_SECOND)
                signed_at = time.monotonic()
            return fire(run.port, requests, seconds)

        def fixed(run, seconds, label):
            return drip(run.port, run.folder, label, options.rate, seconds)

        if not options.no_flat_out:
            compare(f"As fast as answers come, {CONNECTIONS} connections:", systems, options, ports, folder, flat_out)
        if options.rate:
            compare(f"At {options.rate} events a second:", systems, options, ports, folder, fixed)


if __name__ == "__main__":
    main()
