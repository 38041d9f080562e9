"""What the run costs: CPU seconds and memory of each process, how busy the machine is, how much waits in the queue."""

import collections
import os
import platform
import tempfile
import threading
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
INTERVAL_S = 0.5


# at: Unix seconds; busy: share of the machine since the sample before; waiting: events in the queue, or None;
# memory: {name: resident bytes}; cpu: {name: CPU seconds so far}.
Sample = collections.namedtuple("Sample", "at busy waiting memory cpu")


class Meter:
    """Looks at /proc and at the queue twice a second, in a thread, from start() to stop().

    usage: {name: {"cpu_s", "rss_peak_bytes"}}; a name may stand for several processes, one after the other.
    samples: [Sample], oldest first.
    """

    def __init__(self, processes, queue=None):
        self.usage, self.samples = {}, []
        self._queue = queue
        self._pids, self._seen = {}, {}
        self._lock, self._end = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._busy = _machine_ticks()
        for name, pid in processes.items():
            self.watch(name, pid)

    def watch(self, name, pid):
        """Counts a process from now on."""
        with self._lock:
            self._pids[pid] = name
            self._seen[pid] = _cpu_seconds(pid) or 0.0
            self.usage.setdefault(name, {"cpu_s": 0.0, "rss_peak_bytes": 0})

    def start(self):
        self._look()
        self._thread.start()
        return self

    def stop(self):
        self._end.set()
        self._thread.join()
        self._look()

    def _run(self):
        while not self._end.wait(INTERVAL_S):
            self._look()

    def _look(self):
        with self._lock:
            for pid, name in self._pids.items():
                self._look_at(pid, self.usage[name])
            cpu = {name: usage["cpu_s"] for name, usage in self.usage.items()}
        busy = _machine_ticks()
        total = busy[1] - self._busy[1]
        share = (busy[0] - self._busy[0]) / total if total else 0.0
        self._busy = busy
        self.samples.append(Sample(time.time(), round(share, 3), self._waiting(), self._memory(), cpu))

    def _look_at(self, pid, usage):
        seconds = _cpu_seconds(pid)
        if seconds is not None:
            usage["cpu_s"] += seconds - self._seen[pid]
            self._seen[pid] = seconds
            usage["rss_peak_bytes"] = max(usage["rss_peak_bytes"], _memory_of(pid, "VmHWM"))

    def _memory(self):
        with self._lock:
            sizes = {name: _memory_of(pid, "VmRSS") for pid, name in self._pids.items()}
        return {name: size for name, size in sizes.items() if size}

    def _waiting(self):
        try:
            return self._queue.waiting() if self._queue else None
        except Exception:  # noqa: BLE001 (a look that failed is a gap in a curve; the attack itself tells of an outage)
            return None


def _cpu_seconds(pid):
    """User and system time of a process and of its ended children; None when it has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return sum(int(field) for field in fields[11:15]) / TICKS


def _memory_of(pid, field):
    """Bytes in a line of a process's status: VmRSS, VmHWM (the peak). 0 when it has gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _machine_ticks():
    """(busy, all) since boot. What a hypervisor stole counts as busy: it was not there for us."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    ticks = [int(word) for word in words]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def machine():
    """What a reader must know of the machine to make something of the figures."""
    model, memory = "unknown CPU", 0
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            memory = int(line.split()[1]) * 1024
    return {"cpus": len(os.sched_getaffinity(0)), "cpu": model, "memory_bytes": memory, "kernel": platform.release(),
            "python": platform.python_version()}


def disk(folder, tries=40):
    """What an fsync costs where the stack keeps its data: it is in every acknowledgement."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(tries):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return {"fsync_median_ms": round(sorted(times)[tries // 2] * 1000, 3), "fsync_longest_ms": round(max(times) * 1000, 3)}


def load_average():
    return os.getloadavg()[0]
