"""Runs vegeta with the target generator at its standard input, and reads its results."""

import collections
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from loadtest.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
MARGIN_S = 30  # beyond duration and request timeout vegeta is stuck

# One request as vegeta saw it. number: of the submission in its phase's plan; at: Unix seconds when it began;
# latency: seconds until the answer was read; code 0: no answer (error says why).
Result = collections.namedtuple("Result", "number code at latency error")


class AttackError(Exception):
    """With a sentence for the user."""


def find_vegeta():
    """The path of vegeta: from PATH, else built from its pinned Go module."""
    found = shutil.which("vegeta")
    if found:
        return found
    if not (ROOT / "tools/go_tools.sh").exists():
        raise AttackError("vegeta is not on PATH")
    built = subprocess.run([ROOT / "tools/go_tools.sh"], capture_output=True, text=True, check=False)
    if built.returncode != 0:
        reason = (built.stderr.strip().splitlines() or ["tools/go_tools.sh failed"])[-1]
        raise AttackError(f"vegeta is not on PATH and could not be built: {reason}")
    return str(Path(built.stdout.strip()) / "vegeta")


def vegeta_version(vegeta):
    """As the program says, or what its Go module was."""
    said = subprocess.run([vegeta, "-version"], capture_output=True, text=True, check=False).stdout
    words = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    version, pinned = words.get("Version", "").strip(), ROOT / "tools/go.mod"
    if not version and pinned.exists():
        version = re.search(r"tsenart/vegeta/v12 (v\S+)", pinned.read_text(encoding="utf-8"))[1]
    return f"{version} ({words.get('Runtime', '').strip()})"


class Phase:
    """One attack: a rate for a time. After run(): generator (its figures), raw (vegeta's results); after read(): results."""

    def __init__(self, settings, profile, seed, began, folder):
        self.settings, self._profile, self._folder = settings, profile, Path(folder)
        self.plan, self.raw = Plan(seed, profile["shares"], began), self._folder / f"{seed}.bin"
        self.results, self.generator, self.ended_early = [], {}, False

    def run(self, vegeta, gateway, on_start=lambda name, pid: None):
        """Attacks, and returns when every answer is in. read() is for later: it takes CPU time from who works on."""
        figures = self._folder / f"{self.plan.seed}.generator.json"
        generator = subprocess.Popen(self._generator_command(gateway, figures), stdout=subprocess.PIPE,
                                     env={**os.environ, "WAYBILL_SECRET_DEMO": gateway.secret})
        attack = None
        try:
            attack = subprocess.Popen(self._vegeta_command(vegeta), stdin=generator.stdout)
            generator.stdout.close()  # vegeta's end alone keeps the pipe open
            on_start("vegeta", attack.pid)
            on_start("targets.py", generator.pid)
            limit = self.settings["duration_s"] + self._profile["request_timeout_s"] + MARGIN_S
            if attack.wait(limit) != 0:
                raise AttackError(f"vegeta ended with status {attack.returncode}; its words are above")
            generator.wait(MARGIN_S)
        except subprocess.TimeoutExpired:
            raise AttackError(f"the attack did not end within {limit} s") from None
        finally:
            for child in (attack, generator):
                if child and child.poll() is None:
                    child.send_signal(signal.SIGKILL)
                    child.wait()
        self.generator = json.loads(figures.read_text())

    def _generator_command(self, gateway, figures):
        return [sys.executable, ROOT / "loadtest/targets.py", "--url", f"{gateway.url}/v1/events/demo",
                "--seed", self.plan.seed, "--began", str(self.plan.began), "--shares", json.dumps(self._profile["shares"]),
                "--most", str(self._profile["most_targets"]), "--figures", figures]

    def _vegeta_command(self, vegeta):
        phase = self.settings
        name = f"-name={self.plan.seed}"  # vegeta's plot wants a name for each phase
        return [vegeta, "attack", "-lazy", "-format=json", name, f"-rate={phase['rate']}", f"-duration={phase['duration_s']}s",
                f"-workers={phase['senders']}", f"-max-workers={phase['most_senders']}",
                f"-timeout={self._profile['request_timeout_s']}s", "-redirects=-1", "-max-body=0", "-http2=false",
                f"-output={self.raw}"]

    def read(self, vegeta):
        """Fills in results."""
        encode = subprocess.Popen([vegeta, "encode", "-to", "csv", self.raw], stdout=subprocess.PIPE, text=True)
        with encode:
            for row in csv.reader(encode.stdout):
                at, code, latency, error, url = int(row[0]), int(row[1]), int(row[2]), row[5], row[10]
                number = url.rpartition("#")[2]
                if number.isdigit():
                    self.results.append(Result(int(number), code, at / 1e9, latency / 1e9, error))
                else:
                    self.ended_early = True  # there was no target left for this request
        if encode.returncode != 0:
            raise AttackError("vegeta could not read its own results")


def write_reports(vegeta, raws, folder):
    """vegeta's own reports over all phases: text, JSON, HDR histogram, and the plot of latencies over time."""
    for name, words in (("vegeta.txt", ["report", "-type=text"]), ("vegeta.json", ["report", "-type=json"]),
                        ("latency.hdr", ["report", "-type=hdrplot"]),
                        ("latency-plot.html", ["plot", "-title=Latency over time", "-threshold=2000"])):
        with open(Path(folder) / name, "wb") as out:
            subprocess.run([vegeta, *words, *raws], stdout=out, check=True, timeout=600)
