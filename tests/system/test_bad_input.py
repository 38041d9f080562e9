"""What a stranger can send by a raw socket: a clear 4xx or a closed connection, nothing in Redis, and the next request is
served as if nothing had been."""

import socket
import time

import pytest

from lib import make_event, sign, unique_id, wait_for
from lib.events import encode
from lib.rawhttp import RawConnection, chunked, request

LIMIT = 64 * 1024  # small, so that going over it is cheap
REQUEST_TIMEOUT_MS = 1500


@pytest.fixture(scope="module")
def stack(module_stacks):
    return module_stacks({"WAYBILL_BODY_LIMIT_BYTES": LIMIT, "WAYBILL_REQUEST_TIMEOUT_MS": REQUEST_TIMEOUT_MS}, workers=0)


@pytest.fixture(autouse=True)
def nothing_stays(stack):
    """Around each test: Redis holds what it held, and ingest serves."""
    before = everything(stack.redis.client)
    yield
    assert everything(stack.redis.client) == before
    pid = stack.ingest.pid
    assert stack.send(make_event()).status_code == 202
    assert stack.ingest.alive and stack.ingest.pid == pid


def everything(client):
    """All that Redis holds, comparable; the stream by its length and end."""
    return {key: stream_state(client, key) if client.type(key) == b"stream" else client.dump(key) for key in client.scan_iter()}


def stream_state(client, key):
    info = client.xinfo_stream(key)
    return info["length"], info["last-generated-id"]


def signed(stack, event=None, extra=()):
    """Header pairs and body of a good event."""
    event = event or make_event()
    body = encode(event)
    headers = sign.standard_webhooks(stack.settings["WAYBILL_SECRET_DEMO"], unique_id("msg"), body)
    return [("Content-Type", "application/json"), *headers.items(), *extra], body


def good_head(stack, *lines, event=None):
    """The head of a good request without its end, plus lines; and its body."""
    headers, body = signed(stack, event)
    head = request(headers=headers, length=False).removesuffix(b"\r\n")
    return head + b"".join(line + b"\r\n" for line in lines), body


def check_refused(connection, statuses=(400,), closes=True):
    """A 4xx with a problem document, and (after broken framing) the end of the connection and no second answer."""
    answer = connection.answer()
    assert answer is not None, "closed without an answer"
    assert answer.status in statuses, answer
    assert answer.problem()["status"] == answer.status
    if closes:
        assert connection.is_closed()
    return answer


# framing

SMUGGLED = b"POST /v1/events/demo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"

AMBIGUOUS = {
    "two equal lengths": [b"Content-Length: %d", b"Content-Length: %d"],
    "two different lengths": [b"Content-Length: %d", b"Content-Length: 4"],
    "short length first": [b"Content-Length: 0", b"Content-Length: %d"],
    "a list of lengths": [b"Content-Length: %d, %d"],
    "length and chunked": [b"Content-Length: %d", b"Transfer-Encoding: chunked"],
    "chunked and length": [b"Transfer-Encoding: chunked", b"Content-Length: %d"],
    "zero length and chunked": [b"Content-Length: 0", b"Transfer-Encoding: chunked"],
    "gzip, chunked": [b"Transfer-Encoding: gzip, chunked"],
    "chunked twice": [b"Transfer-Encoding: chunked, chunked"],
    "two transfer-encodings": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    "xchunked": [b"Transfer-Encoding: xchunked"],
    "identity": [b"Transfer-Encoding: identity", b"Content-Length: %d"],
    "chunked with a parameter": [b"Transfer-Encoding: chunked;a=b"],
    "quoted chunked": [b'Transfer-Encoding: "chunked"'],
}


@pytest.mark.parametrize("lines", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_framing(stack, lines):
    headers, body = signed(stack)
    head, _ = good_head(stack)
    lengths = [line.replace(b"%d", str(len(body)).encode()) for line in lines]
    with RawConnection(stack.ingest.port) as connection:
        connection.send(head + b"\r\n".join(lengths) + b"\r\n\r\n" + chunked(body) + SMUGGLED)
        check_refused(connection, statuses=(400, 501))


@pytest.mark.parametrize("length", [b"-1", b"+5", b"0x10", b"1e3", b"12abc", b"1 2", b"", b" ", b"99999999999999999999", b"18446744073709551617", b"5,", b"\xb2"])
def test_length_that_is_no_number(stack, length):
    head, body = good_head(stack, b"Content-Length: " + length)
    with RawConnection(stack.ingest.port) as connection:
        connection.send(head + b"\r\n" + body)
        check_refused(connection, statuses=(400, 413))


BAD_LINES = {
    "no colon": b"this line has no colon",
    "only a colon": b": value",
    "space before the colon": b"X-Thing : value",
    "tab before the colon": b"X-Thing\t: value",
    "space in the name": b"X Thing: value",
    "folded": b"X-Thing: a\r\n b",
    "folded with a tab": b"X-Thing: a\r\n\tb",
    "NUL in the value": b"X-Thing: a\0b",
    "NUL in the name": b"X-Th\0ing: a",
    "control character": b"X-Thing: a\x01b",
    "bare carriage return": b"X-Thing: a\rb",
    "not ASCII in the name": b"X-Th\xefng: a",
    "folded length": b"Content-Length:\r\n 5",
    "space before the colon of a length": b"Content-Length : 5",
    "space before the colon of an encoding": b"Transfer-Encoding : chunked",
    "first line folded": b" folded: yes",
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_header_line_that_is_none(stack, line):
    head, body = good_head(stack)
    with RawConnection(stack.ingest.port) as connection:
        connection.send(head + line + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        check_refused(connection)


BAD_STARTS = {
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), "HTTP/0.9": b"GET /v1/events/demo\r\n\r\n",
    "HTTP/9.9": b"POST /v1/events/demo HTTP/9.9\r\n\r\n", "no path": b"POST  HTTP/1.1\r\n\r\n", "one word": b"POST\r\n\r\n",
    "TLS hello": bytes.fromhex("160301020001000001fc0303") + bytes(40) + b"\r\n\r\n", "NULs": bytes(200) + b"\r\n\r\n",
    "noise": bytes(range(256)) + b"\r\n\r\n", "NUL in the path": b"POST /v1/events/de\0mo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    "redis": b"*1\r\n$4\r\nPING\r\n\r\n\r\n", "four words": b"POST /v1/events/demo x HTTP/1.1\r\n\r\n", "lower case": b"POST /v1/events/demo http/1.1\r\n\r\n",
}


@pytest.mark.parametrize("start", BAD_STARTS.values(), ids=BAD_STARTS.keys())
def test_not_a_request(stack, start):
    with RawConnection(stack.ingest.port) as connection:
        connection.send(start)
        answer = check_refused(connection)
        assert answer.problem()["code"] == "bad_framing"


# sizes

@pytest.mark.parametrize("lines", [
    [b"X-Giant: " + b"a" * 600_000],
    [b"X-%d: a" % i for i in range(300)],
    [b"X" * 600_000 + b": a"],
], ids=["a giant header", "300 headers", "a giant name"])
def test_giant_head(stack, lines):
    head, body = good_head(stack)
    with RawConnection(stack.ingest.port) as connection:
        connection.send(head + b"\r\n".join(lines) + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        answer = connection.answer()
        assert answer is None or answer.status in (400, 413, 414, 431), answer
        assert connection.is_closed()


def test_giant_path(stack):
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(path="/v1/events/" + "a" * 100_000, body=b"{}"))
        answer = connection.answer()
        assert answer is None or answer.status in (400, 401, 404, 414), answer


def test_length_over_the_limit(stack):
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=[("Content-Type", "application/json"), ("Content-Length", LIMIT + 2)], length=False))
        check_refused(connection, statuses=(413,), closes=False)


def test_giant_length_with_little_sent(stack):
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=[("Content-Type", "application/json"), ("Content-Length", 10**12)], length=False) + b"{}")
        check_refused(connection, statuses=(413,), closes=False)


@pytest.mark.parametrize("size", [LIMIT + 1, 4 * LIMIT])
def test_chunked_over_the_limit(stack, size):
    headers, body = signed(stack)
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=[*headers, ("Transfer-Encoding", "chunked")], length=False))
        connection.send(chunked(b" " * size))
        check_refused(connection, statuses=(413,))


def test_chunked_without_end_is_stopped_at_the_limit(stack):
    headers, body = signed(stack)
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=[*headers, ("Transfer-Encoding", "chunked")], length=False))
        sent = 0
        while sent < 100 * LIMIT and connection.send(b"1000\r\n" + b"x" * 0x1000 + b"\r\n"):
            sent += 0x1000
        assert sent < 100 * LIMIT, "it read on and on"


@pytest.mark.parametrize("chunks", [
    b"zz\r\nab\r\n0\r\n\r\n", b"-1\r\na\r\n0\r\n\r\n", b"ffffffffffffffff\r\n" + b"a" * 100, b"fffffffffffffffff\r\n" + b"a" * 100,
    b"0x2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}xx\r\n0\r\n\r\n", b"\r\n\r\n", b" 2\r\n{}\r\n0\r\n\r\n",
])
def test_chunks_that_are_none(stack, chunks):
    headers, _ = signed(stack)
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=[*headers, ("Transfer-Encoding", "chunked")], length=False) + chunks + SMUGGLED)
        connection.finish_sending()
        answers = connection.rest()
        assert answers == b"" or answers.split(b" ")[1] in (b"400", b"401", b"413"), answers
        assert b" 202 " not in answers


# time and truncation

@pytest.mark.parametrize("part", [b"", b"P", b"POST /v1/events/demo HT", b"POST /v1/events/demo HTTP/1.1\r\nHost: x\r\nContent-Le"])
@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
def test_truncated_head(stack, part, end):
    with RawConnection(stack.ingest.port) as connection:
        connection.send(part)
        end_connection(connection, end)


@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
def test_truncated_body(stack, end):
    head, body = good_head(stack, b"Content-Length: %d" % (len(encode(make_event())) + 500))
    with RawConnection(stack.ingest.port) as connection:
        connection.send(head + b"\r\n" + body)
        end_connection(connection, end)


@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
def test_truncated_chunks(stack, end):
    head, body = good_head(stack, b"Transfer-Encoding: chunked")
    with RawConnection(stack.ingest.port) as connection:
        connection.send(head + b"\r\n" + chunked(body).removesuffix(b"0\r\n\r\n"))
        end_connection(connection, end)


def end_connection(connection, how):
    if how == "reset":
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    elif how == "half-close":
        connection.finish_sending()
        answer = connection.rest()
        assert answer == b"" or answer.split(b" ")[1][:1] == b"4", answer
    else:
        connection.close()


@pytest.mark.parametrize("start", [b"", b"POST /v1/events/demo HTTP/1.1\r\nHost: x\r\n",
                                   b"POST /v1/events/demo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"],
                         ids=["idle", "in the head", "in the body"])
def test_slow_sender_is_cut_off(stack, start):
    slow = stack.ingest.metrics().total("waybill_ingest_slow_senders_total")
    with RawConnection(stack.ingest.port) as connection:
        began = time.monotonic()
        connection.send(start)
        answer = connection.rest()
        assert answer == b"" or answer.split(b" ")[1] == b"408", answer
        remote = "%s:%d" % connection.socket.getsockname()
        assert REQUEST_TIMEOUT_MS / 1000 * 0.5 < time.monotonic() - began < REQUEST_TIMEOUT_MS / 1000 + 3
    entries = [entry for entry in stack.ingest.log_entries() if entry.get("remote") == remote]
    assert [entry["message"] for entry in entries] == ["rejected"] * bool(start), "an idle connection is none of them"
    assert stack.ingest.metrics().total("waybill_ingest_slow_senders_total") == slow + len(entries)


def test_stop_that_cuts_a_slow_sender_off_says_so(make_stack):
    stack = make_stack({"WAYBILL_DRAIN_MS": 100}, workers=0)
    with RawConnection(stack.ingest.port) as connection:
        connection.send(b"POST /v1/events/demo HT")
        wait_for(lambda: stack.ingest.status()["connections"] == 1, 5)
        stack.accept(make_event())  # when this was read, so was what came before
        assert stack.ingest.stop() == 1
        assert connection.is_closed()
    entry, = (entry for entry in stack.ingest.log_entries() if "cut off" in entry["message"])
    assert entry["connections"] == 1
    stack.ingest.start()


# header values

@pytest.mark.parametrize("timestamp", ["{}.0", "+{}", " {} 1", "0x6553f100", "{}a", "1e9", "", "-{}", "{}000", "\u00b2", "99999999999999999999999", "{}, {}"])
def test_timestamp_that_is_not_decimal_digits(stack, timestamp):
    """Signed as it is sent, so that only the form of the number is wrong."""
    value = timestamp.replace("{}", str(int(time.time())))
    event = make_event()
    body = encode(event)
    key = stack.settings["WAYBILL_SECRET_DEMO"]
    headers = sign.standard_headers(event["event_id"], value, sign.standard_v1(key, event["event_id"], value, body))
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=[("Content-Type", "application/json"), *headers.items()], body=body))
        assert connection.answer().status in (400, 401)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature", "content-type"])
@pytest.mark.parametrize("same", [True, False], ids=["same value", "other value"])
def test_duplicate_header(stack, name, same):
    headers, body = signed(stack)
    value = next(value for have, value in headers if have.lower() == name)
    other = {"webhook-id": "msg_other", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA", "content-type": "text/plain"}[name]
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=[*headers, (name, value if same else other)], body=body))
        answer = connection.answer()
        assert 400 <= answer.status < 500, answer
        assert answer.problem()["status"] == answer.status


@pytest.mark.parametrize("msg_id", ["with.dot", "", ".", " "])
def test_strange_message_id(stack, msg_id):
    event = make_event()
    body = encode(event)
    key = stack.settings["WAYBILL_SECRET_DEMO"]
    now = int(time.time())
    text = msg_id.encode("latin-1") + b".%d." % now + body
    signature = "v1," + sign.b64(sign.hmac_sha256(sign.base64.b64decode(key.removeprefix("whsec_")), text))
    headers = sign.standard_headers(msg_id, now, signature)
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=[("Content-Type", "application/json"), *headers.items()], body=body))
        answer = connection.answer()
        assert answer.status in (400, 401), answer


@pytest.mark.parametrize("signature", ["", "v1", "v1,", ",", "v1,!!!!", "v2,{}", "V1,{}", "v1;{}", "v1,{}x", "{}", "v1 ,{}", "v1,v1,{}", "v1a,{}", "v1," + "A" * 44,
                                       " ".join(["v1,AAAA"] * 5000)])
def test_signature_that_is_none(stack, signature):
    event = make_event()
    body = encode(event)
    good = sign.standard_webhooks(stack.settings["WAYBILL_SECRET_DEMO"], event["event_id"], body)
    digest = good["webhook-signature"].removeprefix("v1,")
    headers = {**good, "webhook-signature": signature.replace("{}", digest), "Content-Type": "application/json"}
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=headers, body=body))
        assert connection.answer().status in (400, 401)


# several requests on one connection

def test_refused_request_leaves_the_connection_usable(stack):
    with RawConnection(stack.ingest.port) as connection:
        for _ in range(10):
            connection.send(request(headers={"Content-Type": "application/json"}, body=b"{}"))
            assert connection.answer().status == 401


def test_unread_body_of_a_refused_request_is_no_request(stack):
    """405 and 404 are known after the head; the body that follows must not be taken for a request."""
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request("PUT", body=SMUGGLED))
        assert connection.answer().status == 405
        connection.send(request(path="/nothing", body=b"{}"))
        second = connection.answer()
        assert second is None or second.status == 404


@pytest.mark.parametrize("values", [["close"], ["close, keep-alive"], ["keep-alive,Close"], ["close", "keep-alive"], ["x, close ,y"]], ids=" and ".join)
def test_nothing_after_connection_close(stack, values):
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=[("Connection", value) for value in values], body=b"{}") + request(body=b"{}"))
        assert connection.answer().status in (401, 415)
        assert connection.is_closed()


def test_unknown_expectation(stack):
    headers, body = signed(stack, extra=[("Expect", "a-miracle")])
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=headers, body=body))
        assert connection.answer().status == 417


@pytest.mark.parametrize(("code", "status", "lines", "body"), [
    ("too_large", 413, [("Content-Length", 10 * LIMIT)], b""),
    ("too_large", 413, [("Transfer-Encoding", "chunked")], chunked(b" " * (LIMIT + 1))),
    ("expectation_failed", 417, [("Expect", "a-miracle"), ("Content-Length", 2)], b"{}"),
    ("bad_framing", 400, [("Content-Length", "many")], b""),
    ("bad_framing", 400, [("Transfer-Encoding", "chunked")], b"zz\r\n"),
    ("bad_framing", 400, [("Transfer-Encoding", "gzip")], b""),
    ("bad_framing", 400, [("X", "y\r\nno colon")], b""),
], ids=["a giant length", "too many chunks", "an expectation", "no length", "no chunk", "an encoding", "no header"])
def test_refusal_is_logged_and_counted(stack, code, status, lines, body):
    before = stack.ingest.metrics().total("waybill_ingest_requests_total", code=code)
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers=[("Content-Type", "application/json"), *lines], length=False) + body)
        assert check_refused(connection, statuses=(status,), closes=False).problem()["code"] == code
        remote = "%s:%d" % connection.socket.getsockname()
    assert stack.ingest.metrics().total("waybill_ingest_requests_total", code=code) == before + 1
    entry, = (entry for entry in stack.ingest.log_entries() if entry.get("remote") == remote)
    assert (entry["message"], entry["status"], entry["code"]) == ("rejected", status, code) and entry["reason"]


def test_deep_json(stack):
    body = b'{"event_id":' * 10_000
    headers = sign.standard_webhooks(stack.settings["WAYBILL_SECRET_DEMO"], "msg_1", body[:LIMIT])
    answer = stack.ingest.post(body[:LIMIT], headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
