"""Starting: what is wrong with settings or scripts is said in one sentence, and nothing half-starts."""

import re
import socket
import subprocess

import pytest

from lib import Stack, executable, free_port, make_event, wait_for
from lib.process import ROOT, clean_environment

SERVICES = ("waybill-ingest", "waybill-worker")


@pytest.fixture
def settings(tmp_path):
    """Settings that are right, apart from servers that are not there (which is no reason not to start)."""
    stack = Stack(tmp_path / "stack")
    return {**stack.settings, "WAYBILL_LISTEN": f"127.0.0.1:{free_port()}", "WAYBILL_ADMIN_LISTEN": f"127.0.0.1:{free_port()}"}


def run(program, settings, *flags, timeout=20):
    return subprocess.run([executable(program), *flags], env=clean_environment(settings), cwd=ROOT, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)


def refusal(program, settings, *flags):
    """What a program that refuses to start says: one line, exit code not 0, no crash."""
    done = run(program, settings, *flags)
    assert 0 < done.returncode < 90, f"exit code {done.returncode}: {done.stderr}"
    lines = [line for line in done.stderr.splitlines() if '"level":"warn"' not in line]
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    return lines[0]


@pytest.mark.parametrize("program", [*SERVICES, "waybillctl"])
def test_misspelt_setting(program, settings):
    words = ["status"] if program == "waybillctl" else []
    assert "WAYBILL_REDIS_ULR" in refusal(program, {**settings, "WAYBILL_REDIS_ULR": "redis://127.0.0.1:1/0"}, *words)


@pytest.mark.parametrize(("name", "value"), [
    ("WAYBILL_LEASE_MS", "soon"), ("WAYBILL_LEASE_MS", "-1"), ("WAYBILL_LEASE_MS", "30s"), ("WAYBILL_LEASE_MS", ""), ("WAYBILL_LEASE_MS", "1e4"),
    ("WAYBILL_LEASE_MS", "99999999999999999999"), ("WAYBILL_THREADS", "0"), ("WAYBILL_THREADS", " 1"), ("WAYBILL_RETRY_ATTEMPTS", "0"),
    ("WAYBILL_BODY_LIMIT_BYTES", "1MiB"), ("WAYBILL_SIMULATE", "yes"), ("WAYBILL_LOG_LEVEL", "loud"), ("WAYBILL_LOG_FORMAT", "xml"),
    ("WAYBILL_REDIS_URL", "http://127.0.0.1:6379"), ("WAYBILL_REDIS_URL", "127.0.0.1:6379"), ("WAYBILL_REDIS_URL", "redis://127.0.0.1:port/0"),
    ("WAYBILL_ADMIN_LISTEN", "9080"), ("WAYBILL_ADMIN_LISTEN", "127.0.0.1:99999"), ("WAYBILL_ADMIN_LISTEN", "127.0.0.1:"),
])
@pytest.mark.parametrize("program", SERVICES)
def test_malformed_value(program, settings, name, value):
    assert name in refusal(program, {**settings, name: value})


@pytest.mark.parametrize("value", ["mysql://127.0.0.1/waybill", "mongodb://", "mongodb://127.0.0.1:27017/waybill?noSuchOption=1"])
def test_malformed_mongo_url(settings, value):
    assert "WAYBILL_MONGO_URL" in refusal("waybill-worker", {**settings, "WAYBILL_MONGO_URL": value})


def test_lease_shorter_than_the_handler_limit(settings):
    line = refusal("waybill-worker", {**settings, "WAYBILL_LEASE_MS": 1000, "WAYBILL_HANDLER_LIMIT_MS": 1000})
    assert "WAYBILL_LEASE_MS" in line and "WAYBILL_HANDLER_LIMIT_MS" in line


def test_retry_cap_below_its_base(settings):
    line = refusal("waybill-worker", {**settings, "WAYBILL_RETRY_BASE_MS": 2000, "WAYBILL_RETRY_CAP_MS": 1000})
    assert "WAYBILL_RETRY_BASE_MS" in line and "WAYBILL_RETRY_CAP_MS" in line


@pytest.mark.parametrize(("program", "name"), [("waybill-ingest", "WAYBILL_LISTEN"), ("waybill-ingest", "WAYBILL_ADMIN_LISTEN"),
                                               ("waybill-worker", "WAYBILL_ADMIN_LISTEN")])
def test_port_in_use(program, name, settings):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        line = refusal(program, {**settings, name: address})
    assert address in line and "in use" in line


@pytest.mark.parametrize(("program", "script"), [("waybill-ingest", "sources.lua"), ("waybill-ingest", "validate.lua"),
                                                 ("waybill-worker", "process.lua"), ("waybill-worker", "retry_policy.lua")])
@pytest.mark.parametrize("text", ["local a = 1\nreturn function(", "local a = 1\nerror('on purpose')"], ids=["syntax", "error at the top"])
def test_broken_script(program, script, text, settings):
    (settings["WAYBILL_SCRIPTS"] / script).write_text(text)
    assert f"{script}:2" in refusal(program, settings)


@pytest.mark.parametrize(("program", "script"), [("waybill-ingest", "validate.lua"), ("waybill-worker", "process.lua")])
def test_script_that_is_missing_or_no_function(program, script, settings):
    (settings["WAYBILL_SCRIPTS"] / script).write_text("return 42")
    assert script in refusal(program, settings)
    (settings["WAYBILL_SCRIPTS"] / script).unlink()
    assert script in refusal(program, settings)


@pytest.mark.parametrize("program", SERVICES)
def test_endless_top_level(program, settings):
    script = "validate.lua" if program == "waybill-ingest" else "process.lua"
    (settings["WAYBILL_SCRIPTS"] / script).write_text("local n = 0\nwhile true do n = n + 1 end")
    assert script in refusal(program, {**settings, "WAYBILL_HANDLER_LIMIT_MS": 200})


@pytest.mark.parametrize("program", SERVICES)
def test_missing_scripts_folder(program, settings, tmp_path):
    assert "nowhere" in refusal(program, {**settings, "WAYBILL_SCRIPTS": tmp_path / "nowhere"})


def test_secret_from_a_file(make_stack, tmp_path):
    secret = Stack(tmp_path / "other").settings["WAYBILL_SECRET_DEMO"]
    path = tmp_path / "secret"
    path.write_text(secret + "\n")
    path.chmod(0o600)
    stack = make_stack({"WAYBILL_SECRET_DEMO": None, "WAYBILL_SECRET_DEMO_FILE": path}, workers=0)
    assert stack.ingest.send(make_event(), secret).status_code == 202


def test_secret_file_that_is_missing(settings, tmp_path):
    line = refusal("waybill-ingest", {**settings, "WAYBILL_SECRET_DEMO": None, "WAYBILL_SECRET_DEMO_FILE": tmp_path / "nowhere"})
    assert "WAYBILL_SECRET_DEMO_FILE" in line and "nowhere" in line


def test_malformed_secret_is_named_but_not_shown(settings):
    line = refusal("waybill-ingest", {**settings, "WAYBILL_SECRET_DEMO": "whsec_not!base64!text"})
    assert "not!base64!text" not in line
    assert "WAYBILL_SECRET_DEMO" in line or "demo" in line


@pytest.mark.parametrize("program", SERVICES)
def test_secret_is_refused_on_the_command_line(program, settings):
    line = refusal(program, settings, "--secret-demo", "whsec_c2VjcmV0c2VjcmV0c2VjcmV0")
    assert "whsec_c2VjcmV0" not in line


@pytest.mark.parametrize("program", SERVICES)
def test_flags_have_the_names_of_settings(program, settings):
    assert "--lease-ms" in refusal(program, settings, "--lease-ms", "soon") or "WAYBILL_LEASE_MS" in refusal(program, settings, "--lease-ms", "soon")
    assert "--no-such-flag" in refusal(program, settings, "--no-such-flag", "1")


@pytest.mark.parametrize("program", [*SERVICES, "waybillctl"])
def test_help_and_version(program, settings):
    shown = run(program, {}, "--help")
    assert shown.returncode == 0 and "WAYBILL_REDIS_URL" in shown.stdout + shown.stderr
    version = run(program, {}, "--version")
    assert version.returncode == 0 and re.search(r"\d+\.\d+\.\d+", version.stdout)


def test_ready_only_when_redis_is_there(make_stack, tmp_path):
    stack = Stack(tmp_path / "stack", workers=0)
    try:
        stack.ingest.start(wait=False)
        wait_for(stack.ingest.is_live, 10)
        assert stack.ingest.admin("/readyz").status_code == 503
        assert "redis" in stack.ingest.admin("/readyz").text.lower()
        assert stack.send(make_event()).status_code == 503
        stack.redis.start()
        wait_for(stack.ingest.is_ready, 10)
        assert stack.send(make_event()).status_code == 202
    finally:
        stack.stop()


def test_worker_waits_for_servers_that_are_not_there(own_store, tmp_path):
    stack = Stack(tmp_path / "stack")
    try:
        stack.worker.start(wait=False)
        wait_for(stack.worker.is_live, 10)
        assert stack.worker.admin("/readyz").status_code == 503
        stack.redis.start()
        stack.ingest.start()
        event = make_event()
        stack.accept(event)
        assert stack.worker.admin("/readyz").status_code == 503
        stack.store.start()
        wait_for(stack.worker.is_ready, 15)
        wait_for(lambda: stack.store.status(f"demo/{event['event_id']}") == "succeeded", 15)
    finally:
        stack.stop()


def test_simulation_is_announced_loudly(make_stack):
    stack = make_stack()
    assert any(entry.get("level") == "warn" and "simulat" in str(entry).lower() for entry in stack.worker.log_entries())


def test_secrets_are_not_logged(make_stack):
    stack = make_stack({"WAYBILL_LOG_LEVEL": "debug"})
    stack.accept(make_event())
    secret = stack.settings["WAYBILL_SECRET_DEMO"].removeprefix("whsec_")
    assert not [process.name for process in stack.processes() if secret in process.log()]


@pytest.mark.parametrize("program", SERVICES)
def test_stop_at_once_when_idle(program, settings, tmp_path):
    """SIGTERM before anything was ever reached ends it with 0."""
    stack = Stack(tmp_path / "idle")
    service = stack.ingest if program == "waybill-ingest" else stack.worker
    try:
        service.start(wait=False)
        wait_for(service.is_live, 10)
        assert service.stop(timeout=8) == 0
    finally:
        stack.stop()
