"""Reloading scripts: a broken one changes nothing, a good one is taken without dropping a request (promise P6)."""

import concurrent.futures
import signal

import pytest

from lib import make_event, sign, wait_for
from lib.outcomes import attempts, wait_succeeded
from lib.traffic import traffic

@pytest.fixture(scope="module")
def stack(module_stacks):
    """Scripts may take ten times this limit to load, and 2 s at least."""
    return module_stacks({"WAYBILL_HANDLER_LIMIT_MS": 200})


BROKEN = "local a = 1\nreturn function(\n"


@pytest.fixture(params=["ingest", "worker"])
def service(request, stack):
    return getattr(stack, request.param)


SCRIPT = {"ingest": "validate.lua", "worker1": "process.lua"}


@pytest.fixture
def script(stack, service):
    """The service's main script; as it was before, afterwards."""
    path = stack.scripts / SCRIPT[service.name]
    text = path.read_text()
    yield path
    path.write_text(text)
    answer = service.reload()
    assert answer.status_code == 200, answer.text


def scripts_of(service):
    status = service.status()["scripts"]
    return status["generation"], status["hash"]


@pytest.mark.parametrize("how", ["signal", "admin"])
@pytest.mark.parametrize("text", [BROKEN, "local a = 1\nerror('on purpose')", "local a = 1\nlocal b = nil .. a"], ids=["syntax", "throws", "run time"])
def test_broken_script_changes_nothing(stack, service, script, text, how):
    before = scripts_of(service)
    seen = service.log_size()
    script.write_text(text)
    if how == "signal":
        service.signal(signal.SIGHUP)
    else:
        answer = service.reload()
        assert answer.status_code == 409
        assert f"{script.name}:" in answer.json()["error"]
    wait_for(lambda: f"{script.name}:" in service.log()[seen:], 10, "a log line with file and line")
    line = next(line for line in service.log()[seen:].splitlines() if f"{script.name}:" in line)
    assert '"level":"error"' in line
    assert f"{script.name}:2" in line or f"{script.name}:3" in line
    assert scripts_of(service) == before
    event = make_event()
    stack.accept(event)
    wait_succeeded(stack, event)


def test_no_function_changes_nothing(stack, service, script):
    before = scripts_of(service)
    script.write_text("return 42")
    assert service.reload().status_code == 409
    assert scripts_of(service) == before


def test_endless_script_changes_nothing_and_holds_up_nobody(stack, service, script):
    before = scripts_of(service)
    seen = service.log_size()
    script.write_text("while true do end")
    service.signal(signal.SIGHUP)
    for _ in range(20):
        event = make_event()
        stack.accept(event, timeout=5)
    wait_succeeded(stack, event)
    wait_for(lambda: f"{script.name}" in service.log()[seen:], 30)
    assert scripts_of(service) == before


@pytest.mark.parametrize("how", ["signal", "admin"])
@pytest.mark.parametrize("name", ["ingest", "worker"])
def test_a_reload_without_end_hides_nothing_and_a_stop_ends_it(make_stack, name, how):
    """Even where scripts have much time: while one loads the admin listener answers, and SIGTERM is not kept waiting."""
    stack = make_stack({"WAYBILL_HANDLER_LIMIT_MS": 20000, "WAYBILL_LEASE_MS": 60000, "WAYBILL_VALIDATE_LIMIT_MS": 5000})
    service = getattr(stack, name)
    stack.write_script(SCRIPT[service.name], "log.info('it begins')\nwhile true do end\n")
    seen = service.log_size()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        if how == "signal":
            service.signal(signal.SIGHUP)
        else:
            pool.submit(service.reload)  # answered or cut off by the stop
        wait_for(lambda: "it begins" in service.log()[seen:], 10, "the script loads")
        for path in ("/livez", "/readyz", "/metrics", "/status"):
            assert service.admin(path, timeout=10).status_code == 200
        assert "reload failed" not in service.log()[seen:]
        assert service.stop() == 0
        assert "loading was given up" in service.log()[seen:]


@pytest.mark.parametrize("how", ["signal", "admin"])
def test_good_script_is_taken(stack, service, script, how):
    generation, digest = scripts_of(service)
    script.write_text(script.read_text() + "\n-- changed\n")
    if how == "signal":
        service.signal(signal.SIGHUP)
        wait_for(lambda: scripts_of(service)[0] == generation + 1, 10)
    else:
        assert service.reload().json() == {"generation": generation + 1, "hash": scripts_of(service)[1]}
    assert scripts_of(service)[1] != digest
    event = make_event()
    stack.accept(event)
    wait_succeeded(stack, event)
    assert attempts(stack, event)[-1]["script_hash"] == stack.worker.status()["scripts"]["hash"]


def test_new_rule_is_in_force(make_stack):
    """A changed rule of both scripts, taken by waybillctl reload."""
    stack = make_stack()
    before = make_event()
    stack.accept(before)
    wait_succeeded(stack, before)
    stack.write_script("validate.lua", 'return function() return reject{ status=422, code="closed", field="type", detail="closed for today" } end\n')
    done = stack.ctl("reload")
    assert done.returncode == 0, done
    answer = stack.send(make_event())
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "closed", "type")
    assert stack.worker.status()["scripts"]["generation"] == 2


def test_reload_by_waybillctl_reports_a_broken_script(stack, service, script):
    script.write_text(BROKEN)
    done = stack.ctl("reload")
    assert done.returncode == 1
    assert f"{script.name}:" in done.stdout + done.stderr


def test_check_finds_what_is_broken(stack, service, script):
    assert stack.ctl("check").returncode == 0
    script.write_text(BROKEN)
    done = stack.ctl("check")
    assert done.returncode == 1
    assert f"{script.name}:" in done.stdout + done.stderr


def test_reload_under_traffic_drops_nothing(make_stack):
    stack = make_stack()
    with traffic(stack) as flow:
        for turn in range(10):
            flow.wait_accepted(20)
            for name in ("validate.lua", "process.lua"):
                path = stack.scripts / name
                path.write_text(path.read_text() + f"\n-- turn {turn}\n")
            for service in (stack.ingest, stack.worker):
                service.signal(signal.SIGHUP)
            wait_for(lambda: scripts_of(stack.ingest)[0] == turn + 2 and scripts_of(stack.worker)[0] == turn + 2, 10)
    assert set(flow.statuses) == {202}, flow.statuses
    flow.check_all_succeeded()
    hashes = {attempt["script_hash"] for event in flow.accepted for attempt in attempts(stack, event)}
    assert len(hashes) > 3


def test_many_signals_at_once(stack, service):
    for _ in range(50):
        service.signal(signal.SIGHUP)
    event = make_event()
    stack.accept(event)
    wait_succeeded(stack, event)
    assert service.alive


SECRETS = ["whsec_" + sign.b64(f"secret number {n} of the reload tests".encode()) for n in range(3)]


@pytest.fixture
def rotating(make_stack, tmp_path):
    """A stack, and the file of its demo source's secrets."""
    path = tmp_path / "demo"
    path.write_text(SECRETS[0])
    return make_stack({"WAYBILL_SECRET_DEMO": None, "WAYBILL_SECRET_DEMO_FILE": path, "WAYBILL_THREADS": 2}, workers=0), path


def valid(stack):
    """Which secrets the gateway takes."""
    statuses = [stack.ingest.send(make_event(), secret).status_code for secret in SECRETS]
    assert set(statuses) <= {202, 401}
    return [n for n, status in enumerate(statuses) if status == 202]


@pytest.mark.parametrize("how", ["signal", "admin"])
def test_secrets_are_read_again(rotating, how):
    stack, path = rotating
    assert valid(stack) == [0]
    for text, expected in ((f"{SECRETS[0]} {SECRETS[1]}", [0, 1]), (f"{SECRETS[1]}\n{SECRETS[2]}\n", [1, 2])):
        path.write_text(text)
        if how == "signal":
            stack.ingest.signal(signal.SIGHUP)
        else:
            assert stack.ingest.reload().status_code == 200
        wait_for(lambda: valid(stack) == expected, 10, f"{expected} valid")


@pytest.mark.parametrize(("damage", "said"), [
    (lambda path: path.unlink(), "cannot open"), (lambda path: path.write_text(" \n"), "empty"), (lambda path: path.write_text("whsec_no!base64"), "secret 1"),
], ids=["missing", "empty", "malformed"])
def test_secret_file_that_cannot_be_read_changes_nothing(rotating, damage, said):
    stack, path = rotating
    before = scripts_of(stack.ingest)
    damage(path)
    answer = stack.ingest.reload()
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert said in error and ("WAYBILL_SECRET_DEMO_FILE" in error or "'demo'" in error) and "no!base64" not in error, error
    assert scripts_of(stack.ingest) == before
    assert valid(stack) == [0]


def test_what_sources_lack_is_said_once_a_load(make_stack):
    """However many threads there are; and waybillctl check says it, too."""
    stack = make_stack({"WAYBILL_THREADS": 3, "WAYBILL_SECRET_NOBODY": "x"}, workers=0)

    def warnings():
        warned = [entry for entry in stack.ingest.log_entries() if entry["level"] == "warn"]
        return sorted(entry.get("set") or entry["source"] for entry in warned if {"set", "source"} & set(entry))

    once = ["WAYBILL_SECRET_AFTERSHIP", "WAYBILL_SECRET_EASYPOST", "nobody"]
    assert warnings() == once
    assert stack.ingest.reload().status_code == 200
    assert warnings() == sorted(once * 2)
    done = stack.ctl("check")
    assert done.returncode == 0 and all(done.stderr.count(name) == 1 for name in once), done


def test_misspelt_field_of_a_source_is_found_without_its_secret(make_stack):
    stack = make_stack(workers=0)
    path = stack.scripts / "sources.lua"
    path.write_text(path.read_text().replace("prefix =", "prefx ="))
    done = stack.ctl("check")
    assert done.returncode == 1
    assert "sources.lua: source 'easypost'" in done.stdout and "'prefx'" in done.stdout
    assert stack.ingest.reload().status_code == 409
