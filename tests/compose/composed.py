"""The Compose file of the repository, run under a project name of its own, as an object like lib.Stack."""

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pymongo
import redis
import requests

from lib import free_port, sign, wait_for
from lib.events import encode
from lib.process import ROOT, clean_environment

SERVICES = ("redis", "mongo", "ingest", "worker")

# Small times, so that leases and retries can be waited for.
SETTINGS = {
    "WAYBILL_SIMULATE": 1,
    "WAYBILL_LEASE_MS": 3000,
    "WAYBILL_HANDLER_LIMIT_MS": 2000,
    "WAYBILL_RETRY_BASE_MS": 50,
}


def run(*words, env=None, check=True, timeout=120):
    """One command; its CompletedProcess with text output. AssertionError with what it said when it fails."""
    done = subprocess.run([str(word) for word in words], env=env, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=timeout, check=False)
    assert not check or done.returncode == 0, f"{shlex.join(done.args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done


def inspect(name, kind="container"):
    """What the engine knows of a container, image, ..."""
    return json.loads(run("docker", kind, "inspect", name).stdout)[0]


def store_has_passwords():
    """The development store knows none."""
    return os.environ.get("MONGO_URL_SECRET", "mongo_url") == "mongo_url"


class Container:
    """One container, by its id."""

    def __init__(self, id):
        self.id = id

    def inspect(self):
        return inspect(self.id)

    @property
    def state(self):
        return self.inspect()["State"]

    @property
    def address(self):
        """Where this machine reaches it; another one after a restart."""
        networks = self.inspect()["NetworkSettings"]["Networks"]
        return next(network["IPAddress"] for name, network in networks.items() if name.endswith("_data"))

    def is_healthy(self):
        return self.state.get("Health", {}).get("Status") == "healthy"

    def execute(self, *words, check=False):
        return run("docker", "exec", self.id, *words, check=check)

    def crash(self):
        """SIGKILL from outside, unseen by the engine's client: the restart policy has to bring it back."""
        before = self.state
        if os.geteuid() == 0:
            os.kill(before["Pid"], signal.SIGKILL)
        else:
            run("docker", "kill", self.id)  # after which the restart policy rests
            run("docker", "start", self.id)
        wait_for(lambda: self.state["Running"] and self.state["StartedAt"] != before["StartedAt"], 30, "a restart", 0.1)

    @contextlib.contextmanager
    def paused(self):
        run("docker", "pause", self.id)
        try:
            yield
        finally:
            run("docker", "unpause", self.id)


class Store:
    """What the tests read from MongoDB, from outside of the networks."""

    def __init__(self, composed):
        self._composed, self._client = composed, None

    @property
    def _db(self):
        if self._client is None:
            login = {"username": "waybill", "password": self._composed.password} if store_has_passwords() else {}
            self._client = pymongo.MongoClient(self._composed.container("mongo").address, directConnection=True,
                                               serverSelectionTimeoutMS=10000, **login)
        return self._client["waybill"]

    @property
    def events(self):
        return self._db["events"]

    @property
    def shipments(self):
        return self._db["shipments"]

    def event(self, key):
        return self.events.find_one({"_id": key})

    def status(self, key):
        document = self.events.find_one({"_id": key}, {"status": 1})
        return document and document["status"]

    def forget_address(self):
        if self._client:
            self._client.close()
            self._client = None


class Queue:
    def __init__(self, composed):
        self._composed = composed

    def stream_length(self):
        address = self._composed.container("redis").address
        with redis.Redis(address, username="waybill", password=self._composed.password, socket_timeout=10) as client:
            return client.xlen("waybill:{0}:events")


class Composed:
    """project, port, scripts (a copy, for editing), secret (of the source demo), store, redis."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.project = f"waybilltest{os.getpid()}x{secrets.token_hex(3)}"
        self.port = free_port()
        self.scripts = self.folder / "scripts"
        shutil.copytree(ROOT / "scripts", self.scripts)
        self.secret = sign.whsec(secrets.token_bytes(32))
        self.password = secrets.token_hex(16)
        self.store, self.redis = Store(self), Queue(self)
        self.environment = clean_environment({
            **SETTINGS, "COMPOSE_PROJECT_NAME": self.project, "WAYBILL_PORT": self.port, "WAYBILL_SCRIPTS_DIR": self.scripts,
            "WAYBILL_SECRETS_DIR": self._write_secrets(), "LOADTEST_RESULTS": self._open_folder("results")})

    def _open_folder(self, name):
        """A folder that a container's user may write to."""
        folder = self.folder / name
        folder.mkdir()
        folder.chmod(0o777)
        return folder

    def _write_secrets(self):
        """The development secrets with random passwords in the places of theirs."""
        folder = self.folder / "secrets"
        folder.mkdir()
        for path in (ROOT / "docker/secrets/development").iterdir():
            text = path.read_text().replace("development-only-do-not-use", self.password)
            (folder / path.name).write_text(self.secret if path.name == "demo" else text)
        return folder

    def compose(self, *words, check=True, timeout=180, **environment):
        return run(*shlex.split(os.environ["COMPOSE"]), *words, check=check, timeout=timeout,
                   env={**self.environment, **environment})

    def up(self, *words):
        self.compose("up", "-d", *words)
        self.wait_healthy()

    def down(self):
        """From whatever state it is in; what Compose leaves behind goes too."""
        self.store.forget_address()
        self.compose("--profile", "tools", "--profile", "loadtest", "down", "-v", "--remove-orphans", "--timeout", "5", check=False)
        left = self.leftovers()
        if left["container"]:
            run("docker", "rm", "-f", "-v", *left["container"], check=False)
        for kind in ("volume", "network"):
            if left[kind]:
                run("docker", kind, "rm", *left[kind], check=False)

    def leftovers(self):
        """Ids of what the engine has of this project."""
        label = f"label=com.docker.compose.project={self.project}"
        return {"container": run("docker", "ps", "-aq", "--filter", label).stdout.split(),
                "volume": run("docker", "volume", "ls", "-q", "--filter", label).stdout.split(),
                "network": run("docker", "network", "ls", "-q", "--filter", label).stdout.split()}

    def containers(self, service):
        """All of a service, running or not, apart from one-off ones."""
        label = "label=com.docker.compose."
        found = run("docker", "ps", "-aq", "--filter", f"{label}project={self.project}", "--filter", f"{label}service={service}",
                    "--filter", f"{label}oneoff=False")
        return [Container(id) for id in found.stdout.split()]

    def container(self, service):
        return self.containers(service)[0]

    def wait_healthy(self, *services, timeout=60):
        services = services or SERVICES

        def sick():
            return [name for name in services for one in self.containers(name) or [None] if one is None or not one.is_healthy()]

        wait_for(lambda: not sick(), timeout, lambda: f"healthy containers; not: {sick()}", 0.2)
        self.store.forget_address()

    def logs(self):
        return self.compose("logs", "--no-color", "--tail=40", check=False).stdout

    # Using it

    def send(self, event, source="demo", secret=None, session=requests):
        """Signs an event and posts it to the published port."""
        body = encode(event)
        headers = sign.standard_webhooks(secret or self.secret, event["event_id"], body)
        return session.post(f"http://127.0.0.1:{self.port}/v1/events/{source}", data=body, timeout=10, allow_redirects=False,
                            headers={"Content-Type": "application/json", **headers})

    def ctl(self, *words):
        """waybillctl in its own container."""
        return self.compose("run", "--rm", "-T", "ctl", *words, check=False)
