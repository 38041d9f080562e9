"""What a hostile and competent stranger tries: bytes that a proxy in front may read differently, and names that break
things further in."""

import json
import shlex

import pytest

from lib import sign
from lib.events import encode, identity, make_event
from lib.rawhttp import RawConnection, request
from lib.stack import DEMO_SECRET
from lib.wait import wait_for

STOWAWAY = request("GET", "/stowaway")


def signed(event):
    body = encode(event)
    return body, {"Content-Type": "application/json", **sign.standard_webhooks(DEMO_SECRET, event["event_id"], body)}


def assert_serves(stack):
    """The next request is served as if nothing had been."""
    stack.accept(make_event())


# Chunks -------------------------------------------------------------------------------------------------------------

LAX_CHUNKS = {
    "hex prefix, read as the last chunk": b"0x5\r\nhello\r\n0\r\n\r\n",
    "line ended by LF": b"5\nhello\r\n0\r\n\r\n",
    "extension ended by LF": b"5;a\nhello\r\n0\r\n\r\n",
    "data ended by LF": b"5\r\nhello\n0\r\n\r\n",
    "CR in a line": b"5\rX\nhello\r\n0\r\n\r\n",
    "space behind the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;\0\r\nhello\r\n0\r\n\r\n",
    "trailer ended by LF": b"5\r\nhello\r\n0\r\nT: 1\n\r\n",
    "extension without end": b"5;" + b"e" * 20000 + b"\r\nhello\r\n0\r\n\r\n",
    "trailers without end": b"5\r\nhello\r\n0\r\n" + b"T: 1\r\n" * 5000 + b"\r\n",
    "size beyond all numbers": b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("chunks", LAX_CHUNKS.values(), ids=LAX_CHUNKS.keys())
def test_chunks_that_others_may_read_differently(stack, chunks):
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=headers, length=False) + chunks + STOWAWAY)
        answer = connection.answer()
        assert (answer.status, answer.problem()["code"]) == (400, "bad_framing")
        assert connection.is_closed(), "what is behind was served"
    assert_serves(stack)


def test_chunks_with_all_that_is_allowed(stack):
    event = make_event()
    body, headers = signed(event)
    chunks = b"".join(b'%X;name="a;b" ; other\r\n%s\r\n' % (len(body[i:i + 7]), body[i:i + 7]) for i in range(0, len(body), 7))
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers={**headers, "Transfer-Encoding": "chunked"}, length=False) + chunks +
                        b"000\r\nContent-Length: 5\r\nHost: other\r\n\r\n" + STOWAWAY)
        assert connection.answer().status == 202
        assert connection.answer().status == 404, "the next request begins behind the trailers"
    wait_for(lambda: stack.store.status(identity(event)) == "succeeded", 10, "succeeded")


@pytest.mark.parametrize("host", ["a b", "a/b", "user@host", "\u00ff"])
def test_host_that_is_no_host_name(stack, host):
    head = request().replace(b"Host: waybill.test", b"Host: " + host.encode("latin-1"))
    with RawConnection(stack.ingest.port) as connection:
        connection.send(head + STOWAWAY)
        answer = connection.answer()
        assert (answer.status, answer.problem()["code"]) == (400, "bad_framing")
        assert connection.is_closed()
    assert_serves(stack)


# Names --------------------------------------------------------------------------------------------------------------

STRANGE_IDS = ["a/b/c", "a b", " lead", "'single'", '"double"', "x'; touch /tmp/pwned; '", "$(id)", "`id`", "{x}", "*", "?[a]", "$set",
               "a.b", "..", "../..", "%2f%00%s", "\\n", "-x", "--json", "null", "demo/x", "\u65e5\u672c", "\U0001f600", "id\u202egpj",
               "\ufeffbom", "\u00e9" * 128]


@pytest.mark.parametrize("event_id", STRANGE_IDS)
def test_strange_event_id_works_everywhere(stack, event_id):
    good = make_event(event_id, tracking_number=event_id[:100])
    bad = make_event(event_id[:120] + " dead", tracking_number=event_id[:100], simulate={"fail": "permanent", "until_replay": True})
    for event in (good, bad):
        assert stack.ingest.post(encode(event), sign.standard_webhooks(DEMO_SECRET, "msg_1", encode(event))).status_code == 202
    wait_for(lambda: stack.store.status(identity(good)) == "succeeded", 10, "succeeded")
    wait_for(lambda: stack.store.status(identity(bad)) == "dead", 10, "dead")
    assert stack.store.shipments.find_one({"_id": "demo/" + event_id[:100]})

    shown = stack.ctl("events", "show", identity(good))
    assert shown.returncode == 0 and "succeeded" in shown.stdout, shown
    assert json.loads(stack.ctl("events", "show", identity(good), "--json").stdout)["status"] == "succeeded"
    shown = stack.ctl("dlq", "show", identity(bad))
    hint = next(line for line in shown.stdout.splitlines() if line.startswith("Try it again:"))
    words = shlex.split(hint.removeprefix("Try it again:"))
    assert words == ["waybillctl", "dlq", "replay", identity(bad)], "a shell reads what is pasted otherwise"
    assert stack.ctl(*words[1:]).returncode == 0
    wait_for(lambda: stack.store.status(identity(bad)) == "succeeded", 10, "succeeded after the replay")


@pytest.mark.parametrize("event_id", ["a\u009b31m", "a\u0085b", "\u007f", "a\u001b[31m", "a\nb", "a\0"])
def test_event_id_that_a_terminal_would_obey(stack, event_id):
    body = json.dumps(make_event(event_id)).encode()
    answer = stack.ingest.post(body, sign.standard_webhooks(DEMO_SECRET, "msg_1", body))
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "invalid_field", "event_id")


def test_texts_that_a_terminal_would_obey(stack):
    event = make_event(note="red \u009b31m \x7f", simulate={"fail": "permanent"})
    stack.accept(event)
    wait_for(lambda: stack.store.status(identity(event)) == "dead", 10, "dead")
    for words in (("dlq", "show", identity(event)), ("events", "show", identity(event))):
        text = stack.ctl(*words).stdout
        assert "red ?31m ?" in text


# At three in the morning -----------------------------------------------------------------------------------------------


def test_status_tells_of_a_reload_that_only_one_service_took(make_stack):
    stack = make_stack()
    assert "different scripts" not in stack.ctl("status").stdout
    (stack.scripts / "process.lua").write_text("return function( end\n")
    assert stack.ctl("reload").returncode == 1
    assert "different scripts" in stack.ctl("status").stdout


# What was put into Redis by somebody else -------------------------------------------------------------------------------

FOREIGN = {"source": "demo", "event_id": "foreign", "type": "t", "occurred_at": "2026-01-31T12:00:00Z", "received_at": "1700000000000",
           "ingest_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "body": "{}"}


@pytest.mark.parametrize("fields", [
    {"x": "y"},
    {**FOREIGN, "body": "x" * 20_000_000},
    {**FOREIGN, "headers": "x" * 20_000_000},
    {"n" * 20_000_000: "name"},
    {f"field{n}": "x" * 100_000 for n in range(250)},
    {**FOREIGN, "received_at": str(2**63 - 1)},
    {**FOREIGN, "event_id": b"\xff"},
], ids=["no envelope", "body that no store takes", "headers that no store takes", "giant name", "many fields", "time beyond all years", "no UTF-8"])
def test_foreign_entry_does_not_hold_up_others(stack, fields):
    entry = stack.redis.client.xadd("waybill:{0}:events", fields).decode()
    event = make_event()
    stack.accept(event)
    wait_for(lambda: stack.store.status(identity(event)) == "succeeded", 15, "succeeded behind a foreign entry")
    wait_for(lambda: stack.redis.stream_length() == 0, 15, "the foreign entry is gone")
    letter = stack.store.dead_letters.find_one({"_id": "malformed/" + entry})
    assert letter and letter["reason"] == "malformed"
