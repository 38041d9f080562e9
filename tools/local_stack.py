"""A whole gateway on this machine: Redis, a store, ingest and a worker, started, watched and stopped together.

tools/run.py keeps one for people, tools/demo.py one for a minute. Only Python's standard library is used.
"""

import ctypes
import errno
import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# base64 of "development-only-secret-do-not-use": good for trying things on one machine, and for nothing else.
DEVELOPMENT_SECRET = "whsec_ZGV2ZWxvcG1lbnQtb25seS1zZWNyZXQtZG8tbm90LXVzZQ=="

# Stands in the env file behind the address of a server that belongs to the stack.
PRIVATE_MARK = "# private to this stack"

READY_TIMEOUT_S = 20
SERVER_TIMEOUT_S = 15
KILL_MARGIN_S = 5
FIRST_REDIS_PORT, FIRST_STORE_PORT = 16379, 27117

_no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_prctl = ctypes.CDLL(None, use_errno=True).prctl
PR_SET_PDEATHSIG = 1


class StackError(Exception):
    """A sentence for the user that says what to do."""


class Stopped(Exception):
    """The user asked to stop while the stack was still starting."""


def split_address(text):
    """("host", port) of "host:port", "[v6]:port" or ":port"."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise StackError(f"'{text}' is not an address: give host:port, as in 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def join_address(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable_address(text):
    """Where a listener is reached from this machine: "all interfaces" is no address to connect to."""
    host, port = split_address(text)
    return join_address({"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)


def bind_error(host, port):
    """Why nobody could listen there now, or None."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            return error
    return None


def check_listener(variable, address, what):
    host, port = split_address(address)
    try:
        error = bind_error(host, port)
    except socket.gaierror as unknown:
        error = unknown
    if error is None:
        return
    if error.errno == errno.EADDRINUSE:
        why = "is in use by another program: stop that, or"
    elif error.errno == errno.EACCES:
        why = "is not allowed to this user (ports below 1024 are root's):"
    else:
        why = f"cannot be listened on ({error.strerror or error}):"
    example = join_address(host or "127.0.0.1", port + 10 if 1024 <= port < 65000 else 8090)
    raise StackError(f"{address} ({what}) {why} choose another address, as in {variable}={example}")


def free_port(first, last):
    for port in range(first, last):
        if bind_error("127.0.0.1", port) is None:
            return port
    raise StackError(f"no port from {first} to {last - 1} is free on 127.0.0.1: stop other programs that listen there")


def die_with_parent():
    """In a child: end when the runner is gone, even if that was killed and could stop nobody."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One started program, its log file and its end."""

    def __init__(self, name, command, environment, log_path, inherited):
        self.name, self.log_path = name, log_path
        if os.path.exists(log_path):
            os.replace(log_path, log_path + ".1")  # what the run before said
        with open(log_path, "ab", buffering=0) as log:
            try:
                # In a session of its own: Ctrl-C goes to the runner alone, which stops everybody in the right order.
                self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                                stderr=log, start_new_session=True, pass_fds=inherited,
                                                preexec_fn=die_with_parent)
            except OSError as error:
                raise StackError(f"cannot start {command[0]}: {error.strerror}") from error

    def ended(self):
        return self.process.poll() is not None

    def how_it_ended(self):
        code = self.process.returncode
        return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"

    def log_tail(self, lines=12):
        """The last lines that it said."""
        with open(self.log_path, "rb") as log:
            return log.read().decode(errors="replace").splitlines()[-lines:]

    def terminate(self):
        if not self.ended():
            self.process.terminate()

    def wait(self, seconds, hurry):
        """Waits for the end; kills when time is up or hurry() says so."""
        deadline = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > deadline or hurry():
                self.process.kill()
                self.process.wait()
                return
            time.sleep(0.02)


class RunDir:
    """The folder of a stack's data and logs. Locked while any program of the stack lives, so that two stacks never
    share the files of one Redis."""

    def __init__(self, path):
        self.path = path
        try:
            os.makedirs(path, exist_ok=True)
            self.lock = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StackError(f"cannot use the folder {path} ({error.strerror}): set WAYBILL_RUN_DIR to one that you may "
                             "write to") from error

    def acquire(self, seconds):
        """False when another stack has it. The programs of a killed runner are given some seconds to end."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._record_owner()
                return True
            except BlockingIOError:
                if self.owner_lives() or time.monotonic() > deadline:
                    return False
                time.sleep(0.05)

    def owner(self):
        return os.pread(self.lock, 32, 0).decode().strip()

    def owner_lives(self):
        return self.owner().isdigit() and os.path.exists(f"/proc/{self.owner()}")

    def _record_owner(self):
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, str(os.getpid()).encode(), 0)

    def file(self, name):
        return os.path.join(self.path, name)


def given(environment, name):
    """A setting may also come from a file (NAME_FILE)."""
    return bool(environment.get(name) or environment.get(name + "_FILE"))


class LocalStack:
    """start(), then failed() now and then, stop() in the end. should_stop: True when the user wants to leave."""

    def __init__(self, run_dir, environment, should_stop=lambda: False):
        self.run_dir, self.should_stop = run_dir, should_stop
        self.environment = dict(environment)
        self.bin_dir = environment.get("WAYBILL_BIN_DIR") or os.path.join(ROOT, "build", "bin")
        self.children = []  # in the order in which they were started
        self.redis_is_ours = not given(self.environment, "WAYBILL_REDIS_URL")
        self.store_is_ours = not given(self.environment, "WAYBILL_MONGO_URL")
        self._settle_addresses()

    def _settle_addresses(self):
        env = self.environment
        env.setdefault("WAYBILL_SIMULATE", "1")
        if not given(env, "WAYBILL_SECRET_DEMO"):
            env["WAYBILL_SECRET_DEMO"] = DEVELOPMENT_SECRET
        env.setdefault("WAYBILL_LOG_FORMAT", "text")
        self.listen = env.setdefault("WAYBILL_LISTEN", "127.0.0.1:8080")
        self.ingest_admin = env.pop("WAYBILL_ADMIN_LISTEN", "127.0.0.1:9080")
        host, port = split_address(self.ingest_admin)
        self.worker_admin = env.pop("WAYBILL_WORKER_ADMIN_LISTEN", join_address(host, port + 1))
        env["WAYBILL_INGEST_ADMIN"] = reachable_address(self.ingest_admin)
        env["WAYBILL_WORKER_ADMIN"] = reachable_address(self.worker_admin)

    # Starting

    def start(self):
        check_listener("WAYBILL_LISTEN", self.listen, "for events")
        check_listener("WAYBILL_ADMIN_LISTEN", self.ingest_admin, "ingest's admin listener")
        check_listener("WAYBILL_WORKER_ADMIN_LISTEN", self.worker_admin, "the worker's admin listener")
        self._check_named_servers()
        if self.redis_is_ours:
            self._start_server("redis", self._redis_command, FIRST_REDIS_PORT, redis_answers)
        if self.store_is_ours:
            self._start_server("store", self._store_command, FIRST_STORE_PORT, port_is_open)
        worker = self._start_child("worker", [self._executable("waybill-worker")],
                                   WAYBILL_ADMIN_LISTEN=self.worker_admin)
        ingest = self._start_child("ingest", [self._executable("waybill-ingest")],
                                   WAYBILL_ADMIN_LISTEN=self.ingest_admin)
        self._wait_until_ready(worker, self.environment["WAYBILL_WORKER_ADMIN"])
        self._wait_until_ready(ingest, self.environment["WAYBILL_INGEST_ADMIN"])
        self._write_env()

    def _check_named_servers(self):
        """A server that the user named and that nobody answers for is said at once, not after a long wait."""
        for name, default_port in (("WAYBILL_REDIS_URL", 6379), ("WAYBILL_MONGO_URL", 27017)):
            address = single_address(self.environment.get(name, ""), default_port)
            if address is not None and not is_open(*address):
                raise StackError(f"nobody answers at {join_address(*address)}, which {name} names: start that server, or "
                                 f"unset {name} to get a private one")

    def _executable(self, name):
        path = os.path.join(self.bin_dir, name)
        if not os.access(path, os.X_OK):
            raise StackError(f"{path} is not there: run `make build` first")
        return path

    def _start_child(self, name, command, **settings):
        log_path = self.run_dir.file(name + ".log")
        child = Child(name, command, {**self.environment, **settings}, log_path, [self.run_dir.lock])
        self.children.append(child)
        return child

    def _redis_command(self, port):
        if shutil.which("redis-server") is None:
            raise StackError("redis-server is not installed: run `make deps`, or name a Redis with WAYBILL_REDIS_URL")
        folder = self.run_dir.file("redis")
        os.makedirs(folder, exist_ok=True)
        self.environment["WAYBILL_REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
        return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--appendonly", "yes",
                "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no"]

    def _store_command(self, port):
        self.environment["WAYBILL_MONGO_URL"] = f"mongodb://127.0.0.1:{port}/waybill"
        if shutil.which("mongod") is not None:
            folder = self.run_dir.file("mongo")
            os.makedirs(folder, exist_ok=True)
            return ["mongod", "--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1"]
        return [self._executable("waybill-devstore"), "--listen", f"127.0.0.1:{port}", "--file",
                self.run_dir.file("store.db")]

    def _start_server(self, name, command, first_port, answers):
        """Starts it on the first free port; when another program was quicker to take that, on the next."""
        port = first_port
        while True:
            port = free_port(port, first_port + 100)
            child = self._start_child(name, command(port))
            if self._wait(lambda: answers(port) or child.ended(), SERVER_TIMEOUT_S) and not child.ended():
                return
            if child.ended() and bind_error("127.0.0.1", port) is not None:
                self.children.remove(child)
                continue
            raise self._failure(child, f"did not answer within {SERVER_TIMEOUT_S} s")

    def _wait(self, condition, seconds):
        deadline = time.monotonic() + seconds
        while not condition():
            if self.should_stop():
                raise Stopped()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.03)
        return True

    def _wait_until_ready(self, child, admin):
        answer = [""]

        def ready():
            status, answer[0] = get(f"http://{admin}/readyz")
            return status == 200

        if not self._wait(lambda: child.ended() or ready(), READY_TIMEOUT_S) or child.ended():
            detail = " ".join(answer[0].split())
            raise self._failure(child, f"was not ready within {READY_TIMEOUT_S} s" + (f" ({detail})" if detail else ""))

    def _failure(self, child, what):
        if child.ended():
            what = child.how_it_ended()
        tail = "".join(f"\n    {line}" for line in child.log_tail())
        return StackError(f"{child.name} {what}; the end of {nice_path(child.log_path)}:{tail}")

    # Running

    def settings(self):
        """The variables with which waybillctl finds this stack."""
        names = ["WAYBILL_LISTEN", "WAYBILL_INGEST_ADMIN", "WAYBILL_WORKER_ADMIN", "WAYBILL_REDIS_URL",
                 "WAYBILL_MONGO_URL", "WAYBILL_SECRET_DEMO", "WAYBILL_SCRIPTS", "WAYBILL_PARTITIONS",
                 "WAYBILL_TLS_CERT_FILE", "WAYBILL_TLS_KEY_FILE"]
        names += [name + "_FILE" for name in names]
        return {name: self.environment[name] for name in names if name in self.environment}

    def _write_env(self):
        path = self.run_dir.file("env")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as env:
            env.write("# Settings for waybillctl of the stack that `make run` started last.\n")
            for name, value in self.settings().items():
                private = (name == "WAYBILL_REDIS_URL" and self.redis_is_ours or
                           name == "WAYBILL_MONGO_URL" and self.store_is_ours)
                env.write(f"export {name}={shlex.quote(value)}{'  ' + PRIVATE_MARK if private else ''}\n")

    def ctl(self, *words, **settings):
        """Runs waybillctl against this stack; its CompletedProcess, output as text."""
        environment = {**self.environment, **settings}
        return subprocess.run([self._executable("waybillctl"), *words], cwd=ROOT, env=environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)

    def failed(self):
        """A StackError when a program of the stack ended by itself, else None."""
        for child in self.children:
            if child.ended():
                return self._failure(child, "ended")
        return None

    # Stopping

    def stop(self, hurry=lambda: False):
        """Ingest first, so that nothing new comes in; then the worker; then what both need."""
        drain_ms = self.environment.get("WAYBILL_DRAIN_MS", "")
        drain_s = int(drain_ms) / 1000 if drain_ms.isdecimal() else 15  # what is no number, the services refuse
        for child in reversed(self.children):
            child.terminate()
            child.wait(drain_s + KILL_MARGIN_S, hurry)
        self.children.clear()


def get(url):
    """(status, text) of a GET; (0, "") when nobody answers."""
    try:
        with _no_proxy.open(url, timeout=2) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")
    except OSError:
        return 0, ""


def single_address(url, default_port):
    """(host, port) of a redis:// or mongodb:// URL with one host; None for anything else (sockets, clusters, SRV)."""
    match = re.match(r"(?:redis|mongodb)://(?:[^@/]*@)?(\[[^]]*\]|[^:,/?]+)(?::(\d+))?(?:[/?]|$)", url)
    return match and (match[1].strip("[]"), int(match[2] or default_port))


def is_open(host, port):
    try:
        socket.create_connection((host, port), timeout=2).close()
        return True
    except (OSError, OverflowError):
        return False


def port_is_open(port):
    return is_open("127.0.0.1", port)


def redis_answers(port):
    """True once Redis has loaded its data."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def nice_path(path):
    """As short as it can be from where the user is."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
