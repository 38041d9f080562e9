"""Runs vegeta with the target generator at its standard input, and reads its results."""

import collections
import csv
import json
import os
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
    built = subprocess.run([ROOT / "tools/go_tools.sh"], capture_output=True, text=True, check=False)
    if built.returncode != 0:
        reason = (built.stderr.strip().splitlines() or ["tools/go_tools.sh failed"])[-1]
        raise AttackError(f"vegeta is not on PATH and could not be built: {reason}")
    return str(Path(built.stdout.strip()) / "vegeta")


def vegeta_version(vegeta):
    """As the program says, or what its Go module was."""
    said = subprocess.run([vegeta, "-version"], capture_output=True, text=True, check=False).stdout
    words = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    version = words.get("Version", "").strip()
    if not version:
        for line in (ROOT / "tools/go.mod").read_text().splitlines():
            if "tsenart/vegeta/v12 v" in line:
                version = line.split()[1]
    return f"{version} ({words.get('Runtime', '').strip()})"


class Phase:
    """One attack: a rate for a time. After run(): results, generator (its figures)."""

    def __init__(self, settings, profile, seed, began, folder):
        self.settings, self._profile, self._folder = settings, profile, Path(folder)
        self.plan = Plan(seed, profile["shares"], began)
        self.results, self.generator, self.ended_early = [], {}, False

    def run(self, vegeta, gateway, on_start=lambda name, pid: None):
        """Attacks, and returns when every answer is in."""
        seed = self.plan.seed
        raw, figures = self._folder / f"{seed}.bin", self._folder / f"{seed}.generator.json"
        generator = subprocess.Popen(self._generator_command(gateway, figures), stdout=subprocess.PIPE,
                                     env={**os.environ, "WAYBILL_SECRET_DEMO": gateway.secret})
        attack = None
        try:
            attack = subprocess.Popen(self._vegeta_command(vegeta, raw), stdin=generator.stdout)
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
        self._read(vegeta, raw)
        return raw

    def _generator_command(self, gateway, figures):
        return [sys.executable, ROOT / "loadtest/targets.py", "--url", f"{gateway.url}/v1/events/demo",
                "--seed", self.plan.seed, "--began", str(self.plan.began), "--shares", json.dumps(self._profile["shares"]),
                "--most", str(self._profile["most_targets"]), "--figures", figures]

    def _vegeta_command(self, vegeta, raw):
        phase = self.settings
        return [vegeta, "attack", "-lazy", "-format=json", f"-rate={phase['rate']}", f"-duration={phase['duration_s']}s",
                f"-workers={phase['senders']}", f"-max-workers={phase['most_senders']}",
                f"-timeout={self._profile['request_timeout_s']}s", "-redirects=-1", "-max-body=0", "-http2=false",
                f"-output={raw}"]

    def _read(self, vegeta, raw):
        encode = subprocess.Popen([vegeta, "encode", "-to", "csv", raw], stdout=subprocess.PIPE, text=True)
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
