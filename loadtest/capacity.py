#!/usr/bin/python3
"""How capacity grows: the profile "capacity" with different numbers of workers and of ingest's threads, as a table.

    loadtest/capacity.py --repeat 3        each configuration three times, in turns; the table shows medians

Every run starts a stack of its own. Figures are of this machine, on which senders, gateway, Redis and store share the CPUs;
"others" is what went to work that has nothing to do with the load test.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# (threads of ingest, worker processes)
CONFIGURATIONS = ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3))

HEAD = ("ingest threads", "workers", "acknowledged/s", "p50", "p99", "resolved/s meanwhile", "resolved/s after", "CPUs meanwhile: senders",
        "ingest", "redis", "workers", "store", "others", "CPUs after: workers", "store", "redis")


def measure(ingest_threads, workers, profile):
    """One run's summary, or None when it failed."""
    with tempfile.TemporaryDirectory(prefix="waybill-capacity-") as folder:
        words = ["--profile", profile, "--results", folder, "--ingest-threads", str(ingest_threads), "--workers", str(workers)]
        run = subprocess.run([sys.executable, ROOT / "loadtest/run.py", *words], capture_output=True, text=True, timeout=1800, check=False)
        found = list(Path(folder).glob("*/summary.json"))
        if run.returncode == 2 or not found:
            sys.exit(run.stderr or run.stdout)
        summary = json.loads(found[0].read_text(encoding="utf-8"))
    failed = [one["name"] for one in summary["criteria"] if one["verdict"] is False]
    print(f"ingest on {ingest_threads}, {workers} workers: {summary['acked'] / summary['attack_s']:.0f} acknowledged/s"
          + (f"; not met: {', '.join(failed)}" if failed else ""), file=sys.stderr, flush=True)
    return row(summary)


def row(summary):
    """The figures of one run, in the order of HEAD but for the configuration."""
    attack_s, meanwhile, after = summary["attack_s"], summary["cpus_attack"], summary["cpus_draining"]

    def of(cpus, *names):
        return sum(value for name, value in cpus.items() if name.startswith(names))

    busy = [share for share in summary["curves"]["busy"][: int(attack_s / summary["curves"]["step_s"])] if share is not None]
    others = statistics.mean(busy) / 100 * summary["machine"]["cpus"] - of(meanwhile, "") if busy else 0.0
    return (summary["acked"] / attack_s, summary["ack_s"]["50"] * 1000, summary["ack_s"]["99"] * 1000,
            summary["resolved_in_attack"] / attack_s, summary["drain_rate"] or 0, of(meanwhile, "vegeta", "targets"),
            of(meanwhile, "ingest"), of(meanwhile, "redis"), of(meanwhile, "worker"), of(meanwhile, "store"), others,
            of(after, "worker"), of(after, "store"), of(after, "redis"))


def table(runs):
    """Medians of each configuration. runs: {configuration: [row, …]}."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + " ---: |" * len(HEAD)]
    for configuration, rows in runs.items():
        median = [statistics.median(values) for values in zip(*rows)]
        cells = [f"{median[0]:.0f}", f"{median[1]:.1f} ms", f"{median[2]:.1f} ms", f"{median[3]:.0f}", f"{median[4]:.0f}",
                 *(f"{value:.2f}" for value in median[5:])]
        lines.append("| " + " | ".join([*map(str, configuration), *cells]) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--profile", default="capacity")
    options = parser.parse_args()
    runs = {configuration: [] for configuration in CONFIGURATIONS}
    for _ in range(options.repeat):
        for configuration, rows in runs.items():
            rows.append(measure(*configuration, options.profile))
    print(f"{options.repeat} runs each, medians; {os.cpu_count()} CPUs\n\n{table(runs)}")


if __name__ == "__main__":
    main()
