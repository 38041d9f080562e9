"""One child process: started, watched and ended by its process id; its output goes to a file."""

import json
import os
import random
import signal
import socket
import subprocess
import threading
from pathlib import Path

from .wait import wait_for

ROOT = Path(__file__).resolve().parents[2]
SANITIZER_SIGNS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer", ": runtime error:")

_ports_given = set()


class SanitizerReport(AssertionError):
    """A process of a sanitizer build found a fault in itself."""


def bin_dir():
    return Path(os.environ.get("WAYBILL_BIN_DIR") or ROOT / "build/bin").resolve()


def executable(name):
    path = bin_dir() / name
    assert path.exists(), f"{path} is missing: build it (make build), or let WAYBILL_BIN_DIR name its folder"
    return str(path)


def free_port():
    """A loopback port that nobody listens on, outside the kernel's range for outgoing connections."""
    while True:
        port = random.randint(10000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _ports_given:
            _ports_given.add(port)
            return port


def clean_environment(settings=None):
    """The environment without any WAYBILL_ variable of the caller's, plus settings (None values are left out)."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("WAYBILL_")}
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:exitcode=99:abort_on_error=0")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:exitcode=99")
    env["LSAN_OPTIONS"] = f"suppressions={Path(__file__).with_name('lsan.supp')}:print_suppressions=0"
    env.setdefault("TSAN_OPTIONS", f"suppressions={Path(__file__).with_name('tsan.supp')}:exitcode=99")
    env.update({name: str(value) for name, value in (settings or {}).items() if value is not None})
    return env


class Process:
    """A program that can be started again after it ended. Its output is appended to folder/name.log."""

    def __init__(self, name, folder, argv, settings=None):
        self.name = name
        self.folder = Path(folder)
        self.argv = [str(word) for word in argv]
        self.settings = dict(settings or {})
        self.log_path = self.folder / f"{name}.log"
        self._child = None

    def is_ready(self):
        """Whether it serves; subclasses know."""
        return True

    def start(self, wait=True, timeout=20.0):
        assert not self.alive, f"{self.name} runs already"
        argv = self.argv
        if threading.current_thread() is threading.main_thread():
            # Nothing may outlive a killed test run. The kernel ties this to the parent's thread, hence only in the main one.
            argv = ["setpriv", "--pdeathsig", "KILL", *argv]
        with open(self.log_path, "ab") as log:
            self._child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                                           env=clean_environment(self.settings))
        if wait:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=20.0):
        def ready():
            assert self.alive, f"{self.name} ended with {self.exit_code} while starting:\n{self.log_tail()}"
            return self.is_ready()

        wait_for(ready, timeout, what=lambda: f"{self.name} ready\n{self.log_tail()}")

    @property
    def pid(self):
        return self._child.pid if self._child else None

    @property
    def alive(self):
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self):
        """None while it runs; -9 after SIGKILL."""
        return self._child.poll() if self._child else None

    def signal(self, number):
        assert self.alive, f"{self.name} does not run:\n{self.log_tail()}"
        self._child.send_signal(number)

    def terminate(self):
        """SIGTERM, without waiting."""
        self.signal(signal.SIGTERM)

    def wait(self, timeout=20.0):
        """Waits for the end and returns the exit code."""
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout} s:\n{self.log_tail()}") from None

    def stop(self, timeout=20.0):
        """SIGTERM, then waits; returns the exit code. Harmless when it has ended. SIGKILL (and an error) when it does not end."""
        if not self.alive:
            return self.exit_code
        self._child.send_signal(signal.SIGCONT)
        self.terminate()
        try:
            return self.wait(timeout)
        except AssertionError:
            self.kill()
            raise

    def kill(self):
        """SIGKILL: no chance to tidy up."""
        if self.alive:
            self._child.kill()
            self._child.wait(20)

    def pause(self):
        """SIGSTOP: it stays, and answers nobody."""
        self.signal(signal.SIGSTOP)
        wait_for(lambda: process_state(self.pid) == "T", 5, f"{self.name} stopped")

    def resume(self):
        self.signal(signal.SIGCONT)

    def restart(self, **start_options):
        self.stop()
        return self.start(**start_options)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_size(self):
        """Where the log ends now: for log()[size:] later, in characters."""
        return len(self.log())

    def log_entries(self):
        """The lines that are JSON objects."""
        entries = []
        for line in self.log().splitlines():
            if line.startswith("{"):
                try:
                    entries.append(json.loads(line))
                except ValueError:
                    continue  # a line that was cut off by SIGKILL
        return entries

    def log_tail(self, lines=60):
        return "\n".join(self.log().splitlines()[-lines:])

    def check_sanitizers(self):
        """SanitizerReport when the log holds a report of ASan, LSan, TSan or UBSan."""
        log = self.log()
        for sign in SANITIZER_SIGNS:
            at = log.find(sign)
            if at >= 0:
                raise SanitizerReport(f"{self.name}:\n{log[max(0, at - 200):at + 6000]}")


def process_state(pid):
    """One letter, as ps shows it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
