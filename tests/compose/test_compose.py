"""The Compose file as shipped, on a real engine: from `up` to `down`, in this order."""

import contextlib
import json
import os
import shlex
import subprocess
import time

import pytest
import requests

from lib import make_event, wait_for
from lib.outcomes import check_succeeded_once, wait_succeeded
from lib.process import ROOT
from lib.traffic import traffic

from .composed import SERVICES, inspect, run

OURS = ("ingest", "worker")
IMAGES = {"ingest": "waybill-ingest:test", "worker": "waybill-worker:test", "ctl": "waybill-ctl:test"}
NEW_SOURCE = '    drone = { scheme = "standard-webhooks", secrets = secrets("demo"), courier = require("couriers.standard") },\n'


def paced_event():
    """Some seventy events a second from four senders: traffic, not a load test."""
    time.sleep(0.05)
    return make_event()


# The files

@pytest.mark.parametrize("variables", [{}, {"WAYBILL_PORT": "18080", "WAYBILL_BIND": "0.0.0.0", "IMAGE_TAG": "x", "BASE_IMAGE": "mirror/debian:1",
                                            "REDIS_IMAGE": "mirror/redis:1", "MONGO_IMAGE": "mirror/mongo:1"}], ids=["default", "variables"])
def test_the_file_is_valid_without_a_warning(variables):
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **variables}
    done = run(*shlex.split(os.environ["COMPOSE"]), "--profile", "tools", "--profile", "loadtest", "config", env=env)
    assert done.stderr == ""
    for value in variables.values():
        assert value in done.stdout
    assert "PASSWORD:" not in done.stdout


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_starts_its_program_itself_and_not_as_root(name):
    config = inspect(IMAGES[name], "image")["Config"]
    assert config["User"] == "900:900"
    assert config["Entrypoint"] == ["waybillctl" if name == "ctl" else f"waybill-{name}"]
    assert config["Labels"]["org.opencontainers.image.version"]
    assert config["Labels"]["org.opencontainers.image.revision"] != "unknown"
    said = run("docker", "run", "--rm", "--read-only", "--network=none", "--cap-drop=ALL", IMAGES[name], "--version").stdout
    assert said.endswith(config["Labels"]["org.opencontainers.image.version"] + "\n")


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_holds_no_secret(name):
    wanted = [path.read_bytes().strip() for path in (ROOT / "docker/secrets/development").iterdir()]
    id = run("docker", "create", IMAGES[name]).stdout.strip()
    try:
        with subprocess.Popen(["docker", "export", id], stdout=subprocess.PIPE) as export:
            before, size = b"", 0
            while block := export.stdout.read(1 << 22):
                text, size = before + block, size + len(block)
                assert not [one for one in wanted if one in text]
                before = block[-1000:]
        assert export.returncode == 0 and size > 1 << 20
    finally:
        run("docker", "rm", id)


# Up

@pytest.mark.parametrize("service", SERVICES)
def test_a_container_can_do_little(stack, service):
    facts = stack.container(service).inspect()
    host = facts["HostConfig"]
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] > 0 and host["NanoCpus"] > 0 and host["PidsLimit"] > 0
    assert host["RestartPolicy"]["Name"] == ("always" if service in OURS else "unless-stopped")
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{facts['State']['Pid']}/status", encoding="ascii"))
    assert set(status["Uid"].split()) == {"900" if service in OURS else "999"}
    assert int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0 and status["NoNewPrivs"].strip() == "1"
    assert stack.container(service).execute("touch", "/etc/x").returncode != 0


def test_only_the_port_for_events_is_published_and_only_here(stack):
    published = {service: stack.container(service).inspect()["NetworkSettings"]["Ports"] or {} for service in SERVICES}
    bindings = {(service, port): to for service, ports in published.items() for port, to in ports.items() if to}
    assert bindings == {("ingest", "8080/tcp"): [{"HostIp": "127.0.0.1", "HostPort": str(stack.port)}]}


def test_secrets_are_in_no_environment(stack):
    for service in SERVICES:
        text = json.dumps(stack.container(service).inspect()["Config"])
        assert stack.secret not in text and stack.password not in text


def test_redis_obeys_only_who_knows_the_password(stack):
    redis = stack.container("redis")
    assert "NOAUTH" in redis.execute("redis-cli", "ping").stdout
    assert "WRONGPASS" in redis.execute("redis-cli", "--user", "default", "--pass", stack.password, "ping").stderr
    health = ("redis-cli", "--no-auth-warning", "--user", "health", "--pass", "none")
    assert redis.execute(*health, "ping").stdout == "PONG\n"
    assert "NOPERM" in redis.execute(*health, "xlen", "waybill:{0}:events").stdout
    login = ("redis-cli", "--no-auth-warning", "--user", "waybill", "--pass", stack.password)
    assert redis.execute(*login, "xlen", "waybill:{0}:events").stdout == "0\n"
    assert "NOPERM" in redis.execute(*login, "flushall").stdout
    settings = redis.execute(*login, "config", "get", "appendonly", "appendfsync", "maxmemory-policy").stdout.split()
    assert dict(zip(settings[::2], settings[1::2])) == {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


def test_a_signed_event_from_outside_succeeds_and_waybillctl_shows_it(stack):
    event = make_event(event_id="evt_compose_1")
    answer = stack.send(event)
    assert answer.status_code == 202, answer.text
    wait_succeeded(stack, event)
    check_succeeded_once(stack, event)
    shown = stack.ctl("events", "show", "demo/evt_compose_1", "--json")
    assert shown.returncode == 0 and json.loads(shown.stdout)["status"] == "succeeded"
    status = stack.ctl("status")
    assert status.returncode == 0, status.stdout + status.stderr
    sent = stack.ctl("send", "--event-id", "evt_compose_2")
    assert sent.returncode == 0 and "202" in sent.stdout
    wait_succeeded(stack, {"event_id": "evt_compose_2"})


def test_a_wrong_signature_is_refused(stack):
    event = make_event()
    assert stack.send(event, secret="whsec_AAAA").status_code == 401
    assert stack.store.status(f"demo/{event['event_id']}") is None


def test_a_failing_event_is_tried_again(stack):
    event = make_event(simulate={"fail": "transient", "times": 2})
    assert stack.send(event).status_code == 202
    assert [one["outcome"] for one in wait_succeeded(stack, event)["attempts"]] == ["transient", "transient", "success"]


def test_health_checks_tell_alive_from_ready(stack):
    ingest = stack.container("ingest")
    live, ready = ("waybill-ingest", "--check-live"), ("waybill-ingest", "--check-ready")
    assert ingest.execute(*live).returncode == 0 and ingest.execute(*ready).returncode == 0
    with stack.container("redis").paused():
        wait_for(lambda: ingest.execute(*ready).returncode == 1, 20, "not ready without Redis")
        assert ingest.execute(*live).returncode == 0
        answer = stack.send(make_event())
        assert answer.status_code == 503 and answer.headers["Retry-After"]
    wait_for(lambda: ingest.execute(*ready).returncode == 0, 20, "ready with Redis")
    stack.wait_healthy()  # the engine calls what was paused unhealthy until it has looked again


def test_three_workers_share_the_work(stack):
    stack.up("--no-recreate", "--scale", "worker=3")
    assert len(stack.containers("worker")) == 3
    events = [make_event(simulate={"delay_ms": 30}) for _ in range(150)]
    with requests.Session() as session:
        assert {stack.send(event, session=session).status_code for event in events} == {202}
    workers = {wait_succeeded(stack, event, 30)["attempts"][0]["worker"] for event in events}
    assert len(workers) == 3


def test_the_load_test_attacks_and_reconciles(stack):
    if subprocess.run([ROOT / "tools/go_tools.sh"], capture_output=True, check=False).returncode != 0:
        pytest.skip("vegeta cannot be built here: no Go, or no module proxy")
    stack.compose("--profile", "loadtest", "build", "loadtest", timeout=300)
    # With its dependencies, Compose v2 would bring the workers back to one.
    done = stack.compose("--profile", "loadtest", "run", "--rm", "-T", "--no-deps", "loadtest", check=False)
    assert done.returncode == 0 and ", 0 failed" in done.stdout, done.stdout + done.stderr
    results, = (stack.folder / "results").iterdir()
    summary = json.loads((results / "summary.json").read_text())
    assert summary["resolved"] == summary["identities"] > 1000
    assert (results / "report.html").stat().st_size > 1000


def generations(stack):
    """The script generation of each worker, from its admin listener."""
    return [requests.get(f"http://{worker.address}:9081/status", timeout=5).json()["scripts"]["generation"]
            for worker in stack.containers("worker")]


def test_an_edited_script_is_taken_on_a_signal(stack):
    event = make_event()
    assert stack.send(event, source="drone").status_code == 401
    script = stack.scripts / "sources.lua"
    script.write_text(script.read_text().replace("return {\n", "return {\n" + NEW_SOURCE, 1))
    stack.compose("kill", "-s", "HUP", "worker", "ingest")
    wait_for(lambda: generations(stack) == [2, 2, 2], 20, lambda: f"second generations; have {generations(stack)}")
    wait_for(lambda: stack.send(event, source="drone").status_code == 202, 20, "the new source is taken")
    wait_for(lambda: stack.store.status(f"drone/{event['event_id']}") == "succeeded", 20, "the new source's event succeeds")


def test_a_broken_script_changes_nothing(stack):
    script = stack.scripts / "process.lua"
    good = script.read_text()
    script.write_text("return function(\n")
    try:
        stack.compose("kill", "-s", "HUP", "worker", "ingest")
        wait_for(lambda: stack.compose("logs", "--no-color", "worker").stdout.count("reload failed") == 3, 20, "three refusals")
        assert generations(stack) == [2, 2, 2]
        event = make_event()
        assert stack.send(event).status_code == 202
        wait_succeeded(stack, event)
    finally:
        script.write_text(good)


def test_redis_keeps_what_waits_when_it_crashes(stack):
    events = [make_event() for _ in range(50)]
    with contextlib.ExitStack() as pauses:
        for worker in stack.containers("worker"):
            pauses.enter_context(worker.paused())
        assert {stack.send(event).status_code for event in events} == {202}
        stack.container("redis").crash()
        stack.wait_healthy("redis", "ingest")
    for event in events:
        wait_succeeded(stack, event, 30)
        check_succeeded_once(stack, event)
    stack.wait_healthy()


def test_every_container_may_crash_under_traffic(stack):
    with traffic(stack, threads=4, make=paced_event) as flow:
        flow.wait_accepted(20)
        for service in SERVICES:
            for container in stack.containers(service):
                container.crash()
                stack.wait_healthy()
                flow.wait_accepted(20, 30)
    flow.check_all_succeeded(60)
    assert len(flow.accepted) > 100
    assert stack.ctl("status").returncode == 0


def test_stopping_is_orderly_and_keeps_everything(stack):
    with traffic(stack, threads=4, make=paced_event) as flow:
        flow.wait_accepted(50)
        began = time.monotonic()
        stack.compose("stop")
        assert time.monotonic() - began < 60
    codes = {service: {one.state["ExitCode"] for one in stack.containers(service)} for service in SERVICES}
    assert codes == {service: {0} for service in SERVICES}
    stack.compose("start")
    stack.wait_healthy()
    flow.check_all_succeeded(60)


def test_down_leaves_nothing(stack):
    stack.down()
    assert stack.leftovers() == {"container": [], "volume": [], "network": []}
