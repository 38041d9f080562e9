"""Scripts that throw, loop or take all memory are stopped and reported; the next event is served (promise P6)."""

import pytest

from lib import identity, make_event, wait_for
from lib.outcomes import attempts, wait_dead, wait_succeeded

PROCESS = """\
local acts = {}

function acts.throw()
    local parcel = nil
    return parcel.number -- line 5
end
function acts.throw_table()
    error({ a = 1 })
end
function acts.throw_nil()
    error()
end
function acts.loop()
    while true do
    end -- line 15
end
function acts.caught_loop()
    while true do
        pcall(function() while true do end end)
    end
end
function acts.recursion()
    local function again(n) return 1 + again(n + 1) end
    return again(0)
end
function acts.memory()
    local hoard = {}
    while true do hoard[#hoard + 1] = ("x"):rep(100000) .. #hoard end
end
function acts.one_big_string()
    return { text = ("x"):rep(1 << 40) }
end
function acts.pattern()
    return { found = ("a"):rep(100000):find(("a*"):rep(30) .. "b") }
end
function acts.coroutine()
    return { made = coroutine.wrap(function() while true do end end)() }
end
function acts.nonsense()
    return 42
end
function acts.cyclic()
    local a = {}
    a.a = a
    return a
end
function acts.global()
    leaked = 1
end
function acts.files()
    return io.open("/etc/passwd")
end
function acts.system()
    return os.execute("true")
end
function acts.bad_write(ctx)
    ctx:write { collection = "system.users", id = "x", update = { ["$set"] = { a = 1 } } }
end
function acts.bad_operator(ctx)
    ctx:write { collection = "things", id = "x", update = { ["$nonsense"] = { a = 1 } } }
end
function acts.snooze(ctx)
    if ctx.attempt < 4 then return snooze(40) end
end
function acts.snooze_then_fail(ctx)
    if ctx.attempt == 1 then return snooze(10) end
    if ctx.attempt == 2 then return fail.transient("once") end
end
function acts.retry_after(ctx)
    if ctx.attempt == 1 then return fail.transient("busy", { retry_after_ms = 700, kind = "busy" }) end
end
function acts.permanent()
    return fail.permanent("no such parcel", { kind = "unknown_parcel" })
end
function acts.write(ctx)
    ctx:write { collection = "things", id = "counter", update = { ["$inc"] = { n = 1 } } }
    if ctx.attempt < 3 then return fail.transient("after the write") end
    return { done = true }
end
function acts.publish(ctx)
    ctx:publish("parcels", { hello = "wörld" })
    if ctx.attempt < 2 then return fail.transient("after the publish") end
end
function acts.policy_throws()
    return fail.transient("ask the policy", { kind = "policy_throws" })
end
function acts.policy_dead()
    return fail.transient("ask the policy", { kind = "policy_dead" })
end
function acts.policy_retry(ctx)
    if ctx.attempt < 3 then return fail.transient("ask the policy", { kind = "policy_retry" }) end
end

return function(event, ctx)
    local act = event:json().data.act
    if act then
        return acts[act](ctx)
    end
    return { fine = true }
end
"""

POLICY = """\
return function(failure)
    if failure.kind == "policy_throws" then
        error("on purpose") -- line 3
    elseif failure.kind == "policy_dead" then
        return dead("my_own_reason")
    elseif failure.kind == "policy_retry" then
        return retry(5)
    end
    return default()
end
"""


@pytest.fixture(scope="module")
def stack(module_stacks):
    def prepare(stack):
        stack.write_script("process.lua", PROCESS)
        stack.write_script("retry_policy.lua", POLICY)
    settings = {"WAYBILL_RETRY_ATTEMPTS": 3, "WAYBILL_RETRY_BASE_MS": 20, "WAYBILL_HANDLER_LIMIT_MS": 300,
                "WAYBILL_SCRIPT_MEMORY_BYTES": 16 * 1024 * 1024}
    return module_stacks(settings, prepare)


def run(stack, act):
    event = make_event(act=act)
    stack.accept(event)
    return event


def next_is_served(stack):
    event = make_event()
    stack.accept(event)
    wait_succeeded(stack, event)


STOPPED = {
    "throw": ("error", "process.lua:5:"), "throw_table": ("error", "process.lua:8:"), "throw_nil": ("error", "process.lua:11:"), "loop": ("time_limit", "process.lua:1"),
    "caught_loop": ("time_limit", "process.lua:"), "recursion": ("error", "process.lua:"), "memory": ("memory_limit", "process.lua:"), "one_big_string": ("memory_limit", "process.lua:"),
    "pattern": ("time_limit", "process.lua:"), "nonsense": ("error", "process.lua"), "cyclic": ("error", ""), "coroutine": ("error", "process.lua:"),
    "global": ("error", "process.lua:"), "files": ("error", "process.lua:"), "system": ("error", "process.lua:"),
    "bad_write": ("error", "system.users"),
}


# What stops it first depends on sizes; that it is stopped does not.
EITHER = {"one_big_string": {"error"}, "pattern": {"error"}, "recursion": {"memory_limit"}}


@pytest.mark.parametrize("act", STOPPED)
def test_stopped_and_reported(stack, act):
    outcome, where = STOPPED[act]
    pid = stack.worker.pid
    errors = stack.worker.metrics().total("waybill_script_errors_total")
    event = run(stack, act)
    letter = wait_dead(stack, event, 15)
    records = attempts(stack, event)
    allowed = {outcome, *EITHER.get(act, ())}
    assert {record["outcome"] for record in records} <= allowed, records
    assert all(where in record["message"] for record in records), records
    assert letter["reason"] == "retries_exhausted" and letter["error"]["message"]
    assert len(records) == 3
    for record in records:
        assert record["ended_at"].timestamp() - record["started_at"].timestamp() < 2
    assert stack.worker.pid == pid and stack.worker.alive
    assert stack.worker.metrics().total("waybill_script_errors_total") >= errors + 3
    assert any(identity(event) in str(entry) and where in str(entry) for entry in stack.worker.log_entries())
    next_is_served(stack)


def test_write_that_the_store_refuses_is_dead(stack):
    event = run(stack, "bad_operator")
    letter = wait_dead(stack, event)
    assert letter["reason"] in ("write_refused", "retries_exhausted")
    assert "$nonsense" in letter["error"]["message"]
    next_is_served(stack)


def test_snooze_burns_no_attempt(stack):
    """Snoozed as often as an event may fail: it still succeeds."""
    event = run(stack, "snooze")
    document = wait_succeeded(stack, event)
    assert [record["outcome"] for record in document["attempts"]] == ["snooze"] * 3 + ["success"]
    assert [record["charged"] for record in document["attempts"]] == [False] * 4
    assert document["failures"] == 0
    records = document["attempts"]
    assert all(later["started_at"] >= earlier["ended_at"] for earlier, later in zip(records, records[1:]))
    assert all(record["delay_ms"] == 40 for record in records[:3])


def test_snooze_keeps_earlier_failures(stack):
    document = wait_succeeded(stack, run(stack, "snooze_then_fail"))
    assert [record["outcome"] for record in document["attempts"]] == ["snooze", "transient", "success"]
    assert document["failures"] == 1


def test_retry_after_of_the_other_side_is_kept(stack):
    document = wait_succeeded(stack, run(stack, "retry_after"))
    first, second = document["attempts"]
    assert first["error_kind"] == "busy" and first["delay_ms"] >= 700
    assert (second["started_at"] - first["ended_at"]).total_seconds() >= 0.69


def test_permanent(stack):
    event = run(stack, "permanent")
    letter = wait_dead(stack, event)
    assert letter["error"] == {"kind": "unknown_parcel", "message": "no such parcel"}


def test_write_of_a_failed_attempt_is_not_applied(stack):
    before = (stack.store.db["things"].find_one({"_id": "counter"}) or {"n": 0})["n"]
    wait_succeeded(stack, run(stack, "write"))
    assert stack.store.db["things"].find_one({"_id": "counter"})["n"] == before + 1


def test_publish_once(stack):
    def messages():
        streams = [key for key in stack.redis.client.scan_iter() if b"parcels" in key]
        return [entry for key in streams for entry in stack.redis.client.xrange(key)]
    wait_succeeded(stack, run(stack, "publish"))
    wait_for(messages, 5)
    assert len(messages()) == 1
    assert "wörld" in str({name.decode(): value.decode() for name, value in messages()[0][1].items()})


def test_retry_policy_that_throws_falls_back_to_the_schedule(stack):
    event = run(stack, "policy_throws")
    letter = wait_dead(stack, event)
    assert letter["reason"] == "retries_exhausted"
    assert len(attempts(stack, event)) == 3
    assert any("retry_policy.lua:3" in str(entry) for entry in stack.worker.log_entries())
    assert stack.worker.metrics().total("waybill_script_errors_total", script="retry_policy") >= 3


def test_retry_policy_gives_a_reason_of_its_own(stack):
    event = run(stack, "policy_dead")
    assert wait_dead(stack, event)["reason"] == "my_own_reason"
    assert len(attempts(stack, event)) == 1


def test_retry_policy_chooses_the_delay(stack):
    document = wait_succeeded(stack, run(stack, "policy_retry"))
    assert [record.get("delay_ms") for record in document["attempts"]] == [5, 5, None]


def test_many_bad_events_do_not_hold_up_good_ones_for_long(stack):
    bad = [run(stack, "loop") for _ in range(3)]
    good = [make_event() for _ in range(10)]
    for event in good:
        stack.accept(event)
    for event in good:
        wait_succeeded(stack, event, 15)
    for event in bad:
        wait_dead(stack, event, 15)


# ingest

VALIDATE = """\
return function(request, source)
    local act = request:json().act
    if act == "throw" then
        local nothing = nil
        return nothing.at_all -- line 5
    elseif act == "loop" then
        while true do end
    elseif act == "memory" then
        local hoard = {}
        while true do hoard[#hoard + 1] = ("x"):rep(100000) .. #hoard end
    elseif act == "nonsense" then
        return 42
    elseif act == "redirect" then
        return reject { status = 302, code = "moved", detail = "elsewhere" }
    elseif act == "gone" then
        return reject { status = 410, code = "gone", detail = "gone" }
    elseif act == "server_error" then
        return reject { status = 500, code = "broken", detail = "broken" }
    elseif act == "own_code" then
        return reject { status = 403, code = "not_today", field = "data.day", detail = "closed on Sundays" }
    end
    return accept { event_id = request:json().event_id, type = "a.b", occurred_at = "2026-01-31T00:00:00Z" }
end
"""


@pytest.fixture(scope="module")
def ingest(module_stacks):
    def prepare(stack):
        stack.write_script("validate.lua", VALIDATE)
    return module_stacks({"WAYBILL_VALIDATE_LIMIT_MS": 200, "WAYBILL_SCRIPT_MEMORY_BYTES": 16 * 1024 * 1024}, prepare, workers=0)


@pytest.mark.parametrize(("act", "where"), [("throw", "validate.lua:5:"), ("loop", "validate.lua:7"), ("memory", "validate.lua"), ("nonsense", "validate.lua"),
                                            ("redirect", "validate.lua"), ("gone", "validate.lua"), ("server_error", "validate.lua")])
def test_broken_validation_is_503_and_the_next_request_is_served(ingest, act, where):
    """Our fault, so that the sender tries again; the stranger does not see our files. The log thins out what is repeated."""
    stack = ingest
    length = stack.redis.stream_length()
    seen = stack.ingest.log_size()
    errors = stack.ingest.metrics().total("waybill_script_errors_total", script="validate")
    answers = []

    def reported():
        answers.append(stack.ingest.post(b'{"act":"%s","event_id":"x"}' % act.encode()))
        return where in stack.ingest.log()[seen:]

    wait_for(reported, 5, "a log line with the place")
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "script_fault"), answer.text
        assert int(answer.headers["Retry-After"]) >= 1
        assert "validate.lua" not in answer.text
    assert stack.redis.stream_length() == length
    assert stack.ingest.metrics().total("waybill_script_errors_total", script="validate") == errors + len(answers)
    assert stack.ingest.post(b'{"event_id":"%s"}' % act.encode()).status_code == 202


def test_reject_with_a_code_of_its_own(ingest):
    answer = ingest.ingest.post(b'{"act":"own_code"}')
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"], problem["detail"]) == (403, "not_today", "data.day", "closed on Sundays")


def test_texts_of_a_script_break_neither_log_nor_metrics(make_stack):
    """Names of log fields may be a sender's; they are written as one line, and not at any length."""
    name = r'a\n{\"level\":\"error\"}\n'
    script = f"""
local seen = metrics.counter("seen", "One\\nTwo \\\\ Three")
return function(event)
    log.info("names", {{ ["{name}"] = 1, [("k"):rep(5000)] = 2 }})
    seen:add()
end
"""
    stack = make_stack({"WAYBILL_LOG_FORMAT": "text"}, lambda stack: stack.write_script("process.lua", script))
    event = make_event()
    stack.accept(event)
    wait_succeeded(stack, event)
    metrics = stack.worker.metrics()
    assert metrics.total("waybill_script_seen_total") == 1
    assert metrics.help["waybill_script_seen_total"] == "One\\nTwo \\\\ Three"
    [line] = [line for line in stack.worker.log().splitlines() if "text=names" in line]
    assert "level" in line and f" {'k' * 1000}=2" in line, line
    assert not [line for line in stack.worker.log().splitlines() if line.startswith("{")]
