"""waybillctl: what it prints for programs, and its exit codes."""

import json
import shlex
import subprocess

import pytest

from lib import identity, make_event, unique_id
from lib.events import encode
from lib.outcomes import as_bytes, wait_dead, wait_succeeded

OK, NOT_GOOD, USAGE, UNREACHABLE, NOT_FOUND = range(5)


def ctl(stack, *words, code=OK, **options):
    """Runs waybillctl, checks the exit code; returns what it printed, as JSON when --json is among the words and it is
    one line."""
    done = stack.ctl(*words, **options)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    if "--json" in words and done.stdout.count("\n") == 1:
        return json.loads(done.stdout)
    return done.stdout + done.stderr


@pytest.fixture
def dead(stack):
    """An event in the dead letters that succeeds when it is replayed."""
    event = make_event(simulate={"fail": "permanent", "until_replay": True})
    stack.accept(event)
    wait_dead(stack, event)
    return event


@pytest.fixture(scope="module")
def stack(module_stacks):
    return module_stacks({"WAYBILL_RETRY_ATTEMPTS": 2})


def test_send_fields(stack):
    event_id = unique_id()
    answer = ctl(stack, "send", "--event-id", event_id, "--tracking-number", "TRK-1", "--json")
    assert answer["status"] == 202 and answer["event_id"] == event_id and answer["body"]["ingest_id"]
    wait_succeeded(stack, {"event_id": event_id})


def test_send_file_and_stdin(stack, tmp_path):
    event = make_event(note="żółw")
    path = tmp_path / "event.json"
    path.write_bytes(encode(event))
    ctl(stack, "send", "--file", path)
    wait_succeeded(stack, event)
    assert as_bytes(stack.store.event(identity(event))["body"]) == encode(event)
    event = make_event()
    ctl(stack, "send", "--file", "-", input=encode(event).decode())
    wait_succeeded(stack, event)


def test_send_refused(stack, tmp_path):
    path = tmp_path / "event.json"
    path.write_text('{"event_id":"x"}')
    assert "422" in ctl(stack, "send", "--file", path, code=NOT_GOOD)
    assert "401" in ctl(stack, "send", "--event-id", unique_id(), code=NOT_GOOD, WAYBILL_SECRET_DEMO="whsec_d3JvbmctZm9yLXRlc3RzLW9ubHktMDAwMDA=")


def test_send_prints_a_curl_command_that_works(stack):
    event_id = unique_id("it's")
    line = ctl(stack, "send", "--event-id", event_id, "--print-curl")
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=20)
    assert "202" in done.stdout and event_id in done.stdout, done
    assert shlex.split(line)[0] == "curl"
    wait_succeeded(stack, {"event_id": event_id})


def test_send_prints_json_for_other_tools(stack):
    message = json.loads(ctl(stack, "send", "--event-id", unique_id(), "--print-json"))
    headers = {name.lower(): value for name, value in message["headers"].items()}
    assert {"webhook-id", "webhook-timestamp", "webhook-signature", "content-type"} <= set(headers)
    assert message["url"].endswith("/v1/events/demo")
    assert message["body"]


def test_events_show(stack):
    event = make_event()
    stack.accept(event)
    wait_succeeded(stack, event)
    shown = ctl(stack, "events", "show", identity(event), "--json")
    assert shown["key"] == identity(event) and shown["status"] == "succeeded"
    assert len(shown["attempts"]) == 1
    text = ctl(stack, "events", "show", identity(event))
    assert "succeeded" in text and event["event_id"] in text


def test_events_show_of_nothing(stack):
    ctl(stack, "events", "show", "demo/nothing", code=NOT_FOUND)


def test_dlq_list_and_show(stack, dead):
    letters = ctl(stack, "dlq", "list", "--json")
    letter = next(one for one in letters if one["key"] == identity(dead))
    assert letter["reason"] == "permanent_failure"
    assert "body" not in letter
    shown = ctl(stack, "dlq", "show", identity(dead), "--json")
    assert shown["key"] == identity(dead) and shown["reason"] == "permanent_failure"
    assert "permanent_failure" in ctl(stack, "dlq", "show", identity(dead))
    assert event_line(ctl(stack, "dlq", "list"), dead)


def event_line(text, event):
    return next((line for line in text.splitlines() if identity(event) in line), None)


def test_dlq_show_of_nothing(stack):
    ctl(stack, "dlq", "show", "demo/nothing", code=NOT_FOUND)
    ctl(stack, "dlq", "replay", "demo/nothing", code=NOT_FOUND)


def test_replay_of_what_is_not_dead(stack):
    event = make_event()
    stack.accept(event)
    wait_succeeded(stack, event)
    assert "succeeded" in ctl(stack, "dlq", "replay", identity(event), code=NOT_GOOD)


def test_replay(stack, dead):
    ctl(stack, "dlq", "replay", identity(dead))
    wait_succeeded(stack, dead)
    assert stack.store.dead_letters.find_one({"_id": identity(dead)})["review"]["status"] == "replayed"


def test_replay_of_more_than_a_page(stack):
    events = [make_event(simulate={"fail": "permanent", "until_replay": True}) for _ in range(105)]
    for event in events:
        stack.accept(event)
    for event in events:
        wait_dead(stack, event)
    lines = ctl(stack, "dlq", "replay", "--all", "--source", "demo", "--rate", "0", "--json").splitlines()
    replayed = [json.loads(line)["key"] for line in lines]
    assert sorted(set(replayed)) == sorted(replayed) and {identity(event) for event in events} <= set(replayed)
    for event in events:
        wait_succeeded(stack, event)


def test_what_was_discarded_is_replayed_only_when_that_is_meant(stack, dead):
    ctl(stack, "dlq", "discard", identity(dead), "--note", "a test parcel")
    refused = ctl(stack, "dlq", "replay", identity(dead), code=NOT_GOOD)
    assert "was discarded by" in refused and "a test parcel" in refused and "--discarded" in refused
    assert stack.store.event(identity(dead))["status"] == "dead"
    shown = ctl(stack, "events", "show", identity(dead))
    assert "discarded by" in shown and "Try it again" not in shown
    ctl(stack, "dlq", "replay", "--all", "--discarded", code=USAGE)
    ctl(stack, "dlq", "replay", "--discarded", identity(dead))
    wait_succeeded(stack, dead)


def test_status(stack):
    status = ctl(stack, "status", "--json")
    assert status["ok"] is True
    assert status["ingest"]["ready"] and status["worker"]["ready"] and status["redis"]["reached"] and status["store"]["reached"]
    assert "dead letters" in ctl(stack, "status")


def test_status_when_a_service_is_away(stack):
    ctl(stack, "status", code=UNREACHABLE, WAYBILL_INGEST_ADMIN="127.0.0.1:1", WAYBILL_WORKER_ADMIN="127.0.0.1:1")


def test_unreachable(stack):
    ctl(stack, "send", "--event-id", unique_id(), code=UNREACHABLE, WAYBILL_LISTEN="127.0.0.1:1")
    ctl(stack, "reload", code=UNREACHABLE, WAYBILL_INGEST_ADMIN="127.0.0.1:1", WAYBILL_WORKER_ADMIN="127.0.0.1:1")
    ctl(stack, "events", "show", "demo/x", code=UNREACHABLE, WAYBILL_MONGO_URL="mongodb://127.0.0.1:1/waybill")


@pytest.mark.parametrize("words", [["nonsense"], [], ["events"], ["events", "show"], ["dlq", "nonsense"], ["status", "extra"], ["send", "--no-such-flag"],
                                   ["dlq", "list", "--limit", "many"]])
def test_usage(stack, words):
    assert ctl(stack, *words, code=USAGE)


def test_bad_setting_is_usage(stack):
    assert "WAYBILL_LEASE_MS" in ctl(stack, "status", code=USAGE, WAYBILL_LEASE_MS="soon")


@pytest.mark.parametrize("words", [["--help"], ["send", "--help"], ["dlq", "list", "--help"], ["dlq", "--help"], ["help", "dlq"],
                                   ["events", "--help"]])
def test_help(stack, words):
    assert "waybillctl" in ctl(stack, *words)


AWAY = {"WAYBILL_LISTEN": "127.0.0.1:1", "WAYBILL_MONGO_URL": "mongodb://127.0.0.1:1/waybill", "WAYBILL_REDIS_URL": "redis://127.0.0.1:1/0"}


@pytest.mark.parametrize("words, code, settings", [
    (["send"], UNREACHABLE, AWAY),
    (["send", "--source", "nobody"], USAGE, {}),
    (["events", "show", "demo/nothing"], NOT_FOUND, {}),
    (["events", "show", "demo/nothing"], UNREACHABLE, AWAY),
    (["events", "show", "nothing"], USAGE, {}),
    (["dlq", "list"], UNREACHABLE, AWAY),
    (["dlq", "list", "--limit", "many"], USAGE, {}),
    (["dlq", "show", "demo/nothing"], NOT_FOUND, {}),
    (["dlq", "replay", "demo/nothing"], NOT_FOUND, {}),
    (["dlq", "replay", "--all"], UNREACHABLE, AWAY),
    (["dlq", "discard", "demo/nothing", "--note", "x"], NOT_FOUND, {}),
    (["check", "/nowhere"], NOT_GOOD, {}),
    (["status"], USAGE, {"WAYBILL_LEASE_MS": "soon"}),
    (["nonsense"], USAGE, {}),
])
def test_a_failure_is_json_too(stack, words, code, settings):
    failure = ctl(stack, *words, "--json", code=code, **settings)  # one line, one object
    assert failure["error"] and isinstance(failure["error"], str)
