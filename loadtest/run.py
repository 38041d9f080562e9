#!/usr/bin/python3
"""Attacks a gateway with a profile, waits until the backlog has drained, reconciles, and reports.

    make loadtest PROFILE=smoke                                  a stack of its own on this machine
    loadtest/run.py --profile smoke --url http://127.0.0.1:8080  a gateway that runs already

For a running gateway the demo source's secret comes from WAYBILL_SECRET_DEMO (or WAYBILL_SECRET_DEMO_FILE), the store to
reconcile with from WAYBILL_MONGO_URL (_FILE), the queue to watch from WAYBILL_REDIS_URL (_FILE). It must run with
WAYBILL_SIMULATE=1, or --no-simulate leaves failures out. Exit status: 0 when every criterion is met, 1 when one is
not, 2 when the load test could not be run.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from loadtest import figures, page, report  # noqa: E402
from loadtest.attack import AttackError, Phase, find_vegeta, vegeta_version, write_reports  # noqa: E402
from loadtest.gateway import GatewayError, LocalGateway, Queue, RemoteGateway, from_environment, wait_drained  # noqa: E402
from loadtest.meter import Meter, disk, load_average, machine  # noqa: E402
from loadtest.plan import PERMANENT, TRANSIENT, VALID  # noqa: E402
from loadtest.reconcile import Account, PhaseLedger  # noqa: E402


def say(text):
    print(text, flush=True)


def load_profile(name):
    """A profile with the defaults filled in."""
    with open(ROOT / "loadtest/profiles.toml", "rb") as file:
        known = tomllib.load(file)
    if name not in known["profiles"]:
        raise GatewayError(f"there is no profile '{name}': choose one of {', '.join(known['profiles'])}")
    defaults, own = known["defaults"], known["profiles"][name]
    merged = {**defaults, **own, "name": name}
    for table in ("shares", "criteria"):
        merged[table] = {**defaults[table], **own.get(table, {})}
    return merged


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smoke", help="one of loadtest/profiles.toml (default: smoke)")
    parser.add_argument("--url", help="a gateway that runs already; without: a stack of its own")
    parser.add_argument("--no-simulate", action="store_true", default=os.environ.get("WAYBILL_SIMULATE") == "0",
                        help="the gateway runs without WAYBILL_SIMULATE: send no failures (also when that is 0 here)")
    parser.add_argument("--workers", type=int, help="worker processes of a stack of its own")
    parser.add_argument("--worker-threads", type=int, help="pipelines of each worker")
    parser.add_argument("--ingest-threads", type=int, help="loop threads of ingest")
    parser.add_argument("--results", type=Path, default=ROOT / "loadtest/results", help="the folder for results")
    parser.add_argument("--keep", type=Path, help="folder for the stack's logs and data, kept afterwards")
    return parser.parse_args()


def settings_of(options):
    profile = load_profile(options.profile)
    for name in ("workers", "worker_threads", "ingest_threads"):
        if getattr(options, name) is not None:
            profile[name] = getattr(options, name)
    # A gateway of somebody else's Compose file, say: whoever switched it off there has told it here too.
    if options.no_simulate or (options.url and os.environ.get("WAYBILL_SIMULATE") == "0"):
        profile["shares"].update({TRANSIENT: 0, PERMANENT: 0})
    return profile


def open_gateway(options, profile):
    if options.url is None:
        return LocalGateway(profile, options.keep)
    return RemoteGateway(options.url, from_environment("WAYBILL_SECRET_DEMO"), from_environment("WAYBILL_MONGO_URL"),
                         from_environment("WAYBILL_REDIS_URL"))


class Run:
    """One load test from the first request to the verdict."""

    def __init__(self, profile, gateway, vegeta, scratch):
        self.profile, self.gateway, self._vegeta, self._scratch = profile, gateway, vegeta, scratch
        self.began = time.time()
        self.seed = f"{time.strftime('%m%d%H%M%S', time.gmtime(self.began))}{os.urandom(2).hex()}"
        self.phases, self.account = [], Account()
        self.drained, self.drain_s, self.attack_s = False, 0.0, 0.0
        self.load_before = load_average()
        self.disk = disk(gateway.folder) if gateway.is_local else None

    def run(self):
        queue = Queue(self.gateway.redis) if self.gateway.redis is not None else None
        self.meter = Meter(self.gateway.processes(), queue).start()
        try:
            self._attack()
            if queue:
                say("attack over; waiting for the backlog to drain")
                self.drained = wait_drained(self.gateway, self.profile["drain_s"], say)
        finally:
            self.meter.stop()
        over = time.time()
        self._read()
        self.acks, self.versions = self.gateway.acks(), self.gateway.versions()
        if self.gateway.database is not None:
            self._reconcile()
            over = max((resolved for _, resolved, _ in self.account.times), default=over)
        self.drain_s = max(0.0, over - self.attack_ended)

    def _attack(self):
        for index, settings in enumerate(self.profile["phases"]):
            phase = Phase(settings, self.profile, f"{self.seed}p{index}", int(self.began), self._scratch)
            say(f"attack: {report.describe_phase(settings)}")
            phase.run(self._vegeta, self.gateway, self.meter.watch)
            self.phases.append(phase)

    def _read(self):
        """What vegeta wrote down."""
        for phase in self.phases:
            phase.read(self._vegeta)
        results = [result for phase in self.phases for result in phase.results]
        if not results:
            raise AttackError("vegeta sent nothing")
        self.attack_ended = max(result.at + result.latency for result in results)
        self.attack_s = self.attack_ended - min(result.at for result in results)
        self.ledgers = [PhaseLedger(phase, self.profile["criteria"]["ack_within_s"], self.account) for phase in self.phases]

    def _reconcile(self):
        """An empty queue is a hint; the store has the last word."""
        say("reconciling …")
        database = self.gateway.database
        limit_s = 10 if self.gateway.redis is not None else self.profile["drain_s"]
        self.drained = wait_drained(self.gateway, limit_s, say, lambda: all(one.is_resolved(database) for one in self.ledgers))
        for ledger in self.ledgers:
            ledger.reconcile(database)

    def latencies(self):
        """Seconds of all acknowledged submissions."""
        return [result.latency for phase in self.phases for result in phase.results if 200 <= result.code < 300]

    def summary(self):
        """Everything that the reports show, as plain data."""
        account, latencies, samples = self.account, self.latencies(), self.meter.samples
        draining = figures.draining(account, self.attack_ended)
        verdicts = figures.criteria(self.profile, account, latencies, self.gateway.database is not None, self.drained)
        return {
            "profile": self.profile, "began": self.began, "seed": self.seed, "machine": machine(),
            "load_average": {"before": self.load_before, "after": load_average()},
            "versions": {**self.versions, "vegeta": vegeta_version(self._vegeta)},
            "gateway": "a stack of its own" if self.gateway.is_local else self.gateway.url,
            "attack_s": self.attack_s, "drain_s": self.drain_s, "drained": self.drained,
            "criteria": [one._asdict() for one in verdicts],
            "sent": dict(account.sent), "answers": {f"{kind} {code}": count for (kind, code), count in account.answers.items()},
            "acked": account.acked, "identities": account.identities, "resolved": account.resolved,
            "extra_attempts": account.extra_attempts, "duplicates_counted": account.duplicates_counted,
            "wrong": {what: {"count": account.wrong_count[what], "examples": examples} for what, examples in account.wrong.items()},
            "ack_s": figures.percentiles(latencies), "gateway_ack_s": self.acks,
            "end_to_end_s": self._end_to_end(), "usage": self.meter.usage, "cpus_attack": figures.cpus(samples, self.attack_ended - self.attack_s, self.attack_ended),
            "cpus_draining": figures.cpus(samples, self.attack_ended, draining["until"]) if draining else {},
            "resolved_in_attack": sum(resolved <= self.attack_ended for _, resolved, _ in account.times),
            "drain_rate": draining and draining["rate"], "disk": self.disk,
            "generators": [phase.generator for phase in self.phases], "targets_ran_out": any(phase.ended_early for phase in self.phases),
            "curves": figures.curves(self.phases, account, samples), "histogram": figures.histogram(latencies),
            "outcome_histogram": figures.histogram([end - start for start, end, kind in account.times if kind == VALID]),
        }

    def _end_to_end(self):
        times = self.account.times
        return {
            "succeeded at once": figures.percentiles([end - start for start, end, kind in times if kind == VALID]),
            "after failures": figures.percentiles([end - start for start, end, kind in times if kind == TRANSIENT]),
        }


def write_results(run, summary, folder, vegeta):
    folder.mkdir(parents=True)
    write_reports(vegeta, [phase.raw for phase in run.phases], folder)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(report.markdown(summary), encoding="utf-8")
    (folder / "report.html").write_text(page.html(summary), encoding="utf-8")


def load_test(options):
    """Returns the summary."""
    profile, vegeta = settings_of(options), find_vegeta()
    say(f"profile {profile['name']}: {profile['about']}")
    with tempfile.TemporaryDirectory(prefix="waybill-loadtest-raw-") as scratch, contextlib.ExitStack() as ends:
        gateway = ends.enter_context(open_gateway(options, profile))
        run = Run(profile, gateway, vegeta, scratch)
        run.run()
        ends.close()  # the stack has told all it knows
        summary = run.summary()
        stamp = time.strftime("%Y-%m-%d-%H%M%S", time.gmtime(run.began))
        folder = options.results / f"{stamp}-{profile['name']}"
        write_results(run, summary, folder, vegeta)
    say("\n" + report.console(summary, os.path.relpath(folder)))
    return summary


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    try:
        summary = load_test(arguments())
    except (AttackError, GatewayError) as error:
        print(f"load test: {error}", file=sys.stderr)
        return 2
    failed = sum(one["verdict"] is False for one in summary["criteria"])
    passed = sum(one["verdict"] is True for one in summary["criteria"])
    print(f"loadtest: {passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
