"""`make run` and `make demo`, without make: a stack that starts, tells how to use it, and leaves nothing behind."""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from lib import bin_dir, free_port, wait_for
from lib.process import ROOT, clean_environment

PYTHON = "/usr/bin/python3"


class Runner:
    """tools/run.py with a folder and ports of its own."""

    def __init__(self, folder, **settings):
        admin = free_port()
        self.listen = f"127.0.0.1:{free_port()}"
        self.folder = folder
        self.env = clean_environment({"WAYBILL_RUN_DIR": folder, "WAYBILL_LISTEN": self.listen,
                                      "WAYBILL_ADMIN_LISTEN": f"127.0.0.1:{admin}", "WAYBILL_BIN_DIR": bin_dir(),
                                      "WAYBILL_WORKER_ADMIN_LISTEN": f"127.0.0.1:{free_port()}", **settings})
        self.output = folder.parent / f"{folder.name}.out"
        with open(self.output, "wb") as out:
            self.child = subprocess.Popen([PYTHON, "tools/run.py"], cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL,
                                          stdout=out, stderr=subprocess.STDOUT, start_new_session=True)

    def text(self):
        return self.output.read_text()

    def wait_ready(self):
        wait_for(lambda: "After a change" in self.text() or self.child.poll() is not None, 40, what=self.text)
        assert self.child.poll() is None, self.text()
        return self

    def wait_end(self):
        return self.child.wait(40)

    def children(self):
        """Process ids by program."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, rest = path.read_text().split("(", 1)[1].rsplit(")", 1)
            except OSError:
                continue  # it ended meanwhile
            if int(rest.split()[1]) == self.child.pid:
                found[name] = int(path.parent.name)
        return found

    def line(self, start):
        return next(line for line in self.text().splitlines() if line.startswith(start))


@pytest.fixture
def start(tmp_path):
    """Starts runners, ends what is left of them."""
    runners = []

    def start(name="run", **settings):
        runners.append(Runner(tmp_path / name, **settings))
        return runners[-1]

    yield start
    for runner in runners:
        if runner.child.poll() is None:
            runner.child.terminate()
            runner.wait_end()


def ended(pids):
    return all(not Path(f"/proc/{pid}").exists() for pid in pids)


def shell(line, env):
    return subprocess.run(["sh", "-c", line], cwd=ROOT, env=env, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_starts_and_stops(start, number):
    runner = start().wait_ready()
    pids = runner.children()
    assert {"redis-server", "waybill-ingest", "waybill-worker"} <= set(pids)
    runner.child.send_signal(number)
    assert runner.wait_end() == 0, runner.text()
    assert ended(pids.values())


def test_lines_to_paste_work(start):
    runner = start().wait_ready()
    bare = clean_environment()  # another terminal: it knows none of the settings
    sent = shell(runner.line("( . "), bare)
    assert sent.returncode == 0 and sent.stdout.startswith("202 accepted"), sent
    curl = shell(runner.line("curl "), bare)
    assert curl.stdout.startswith("HTTP/1.1 202"), curl
    status = shell(re.search(r"What became of events: (.*)", runner.text())[1], bare)
    assert status.returncode == 0, status


def readme_lines(step, runner):
    """What the README tells to type in this step, for this runner's stack."""
    text = re.search(rf"^\*\*{step}.*?^```\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]
    return text.replace(". .run/env", f". {runner.folder}/env").replace("build/bin", str(bin_dir())).splitlines()


def test_the_readmes_first_event_is_a_duplicate_when_sent_again(start):
    settings, send, show = readme_lines("1. Send an event", start().wait_ready())
    bare = clean_environment()

    def shown():
        return shell(f"{settings}\n{show}", bare).stdout

    for duplicates in ("0", "1"):
        sent = shell(f"{settings}\n{send}", bare)
        assert sent.stdout.startswith("202 accepted"), sent
        wait_for(lambda: "succeeded" in shown() and re.search(rf"duplicates +{duplicates}\n", shown()), 20, what=shown)
    assert "conflicts" not in shown()


def test_nothing_outlives_a_killed_runner_and_the_data_stays(start):
    runner = start().wait_ready()
    pids = runner.children()
    runner.child.kill()
    runner.wait_end()
    wait_for(lambda: ended(pids.values()), 20)
    again = start().wait_ready()
    assert (again.folder / "redis" / "appendonlydir").is_dir()


@pytest.mark.parametrize("program", ["waybill-worker", "redis-server"])
def test_a_crash_ends_the_run(start, program):
    runner = start().wait_ready()
    pids = runner.children()
    os.kill(pids[program], signal.SIGKILL)
    assert runner.wait_end() == 1
    assert "was killed by signal 9" in runner.text()
    assert ended(pids.values())


def test_port_in_use(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        runner = start(WAYBILL_LISTEN=address)
        assert runner.wait_end() == 1
    assert re.fullmatch(rf"make run: {address} .* in use .* WAYBILL_LISTEN=127\.0\.0\.1:\d+\n", runner.text())


def test_one_stack_a_folder(start):
    first = start().wait_ready()
    second = start()
    assert second.wait_end() == 1
    assert str(first.child.pid) in second.text() and "WAYBILL_RUN_DIR" in second.text()
    assert first.child.poll() is None


def test_two_stacks_side_by_side(start):
    first, second = start("one").wait_ready(), start("two").wait_ready()
    for runner in (first, second):
        assert shell(runner.line("( . "), clean_environment()).returncode == 0
    ports = [re.search(r"REDIS_URL=\S*:(\d+)", (runner.folder / "env").read_text())[1] for runner in (first, second)]
    assert ports[0] != ports[1]


@pytest.mark.parametrize("settings, words", [
    ({"WAYBILL_REDIS_URL": "redis://127.0.0.1:1"}, "nobody answers at 127.0.0.1:1, which WAYBILL_REDIS_URL names"),
    ({"WAYBILL_MONGO_URL": "mongodb://127.0.0.1:1/x"}, "nobody answers at 127.0.0.1:1, which WAYBILL_MONGO_URL names"),
    ({"WAYBILL_LISTEN": "8080"}, "give host:port"),
    ({"WAYBILL_THREADS": "many"}, "WAYBILL_THREADS"),
    ({"WAYBILL_SCRIPTS": "/nowhere"}, "/nowhere"),
])
def test_bad_settings(start, settings, words):
    runner = start(**settings)
    assert runner.wait_end() == 1
    assert words in runner.text()


def test_demo():
    done = subprocess.run([PYTHON, "tools/demo.py"], cwd=ROOT, env=clean_environment({"WAYBILL_BIN_DIR": bin_dir()}),
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT SO" not in done.stdout
