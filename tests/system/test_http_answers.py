"""Each row of the table of HTTP answers, with its code (DESIGN.md, "HTTP")."""

import concurrent.futures
import json

import pytest
import requests

from lib import make_event, sign, unique_id, wait_for
from lib.events import encode
from lib.rawhttp import RawConnection, chunked, request

LIMIT = 1024 * 1024


@pytest.fixture(scope="module")
def stack(module_stacks):
    """Ingest and Redis alone: what was accepted stays on the stream and can be counted."""
    return module_stacks(workers=0)


def signed(stack, event, **headers):
    """(headers, body) of an event for the demo source."""
    body = encode(event)
    secret = stack.settings["WAYBILL_SECRET_DEMO"]
    event_id = event["event_id"] if isinstance(event, dict) else unique_id()
    return {"Content-Type": "application/json", **sign.standard_webhooks(secret, event_id, body), **headers}, body


def raw(stack, *words, has_body=True, **options):
    """The answer to one request by hand (see rawhttp.request)."""
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(*words, **options))
        return connection.answer(has_body)


def check_problem(answer, status, code):
    """The answer is the problem document for this status and code; returns it."""
    problem = answer.problem() if not isinstance(answer, requests.Response) else response_problem(answer)
    have = answer.status_code if isinstance(answer, requests.Response) else answer.status
    assert have == status, f"{have} {problem}"
    assert problem["status"] == status
    assert problem["code"] == code, problem
    assert isinstance(problem["title"], str) and problem["title"]
    assert isinstance(problem["detail"], str) and problem["detail"]
    assert isinstance(problem.get("type", "about:blank"), str)
    return problem


def response_problem(answer):
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.json()


def test_accepted(stack):
    event = make_event()
    answer = stack.send(event)
    assert answer.status_code == 202
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert body["status"] == "accepted" and body["event_id"] == event["event_id"]
    assert body["ingest_id"] and body["received_at"].endswith("Z")
    assert "Server" not in answer.headers
    entry = dict(stack.redis.client.xrevrange("waybill:{0}:events", count=1)[0][1])
    assert entry[b"event_id"].decode() == event["event_id"]
    assert entry[b"ingest_id"].decode() == body["ingest_id"]
    assert entry[b"body"] == encode(event)
    assert entry[b"source"] == b"demo" and entry[b"type"] == event["type"].encode()


def test_accepted_again_gets_an_ingest_id_of_its_own(stack):
    event = make_event()
    assert stack.accept(event)["ingest_id"] != stack.accept(event)["ingest_id"]


def test_body_is_kept_byte_for_byte(stack):
    event = make_event(note="Zażółć gęślą jaźń – 🚚", number=12345678901234567890)
    body = json.dumps(event, indent=3, ensure_ascii=False).encode().replace(b"\n", b" \r\n\t")
    headers = sign.standard_webhooks(stack.settings["WAYBILL_SECRET_DEMO"], event["event_id"], body)
    assert stack.ingest.post(body, headers).status_code == 202
    assert dict(stack.redis.client.xrevrange("waybill:{0}:events", count=1)[0][1])[b"body"] == body


NOT_JSON = {
    "empty": b"", "space": b"  ", "cut": b'{"a":1', "after the end": b'{"a":1} x', "two": b"{} {}", "NUL after": b"{}\0",
    "NUL inside": b'{"a":"\0"}', "NaN": b'{"a":NaN}', "Infinity": b'{"a":-Infinity}', "leading zero": b'{"a":01}',
    "plus": b'{"a":+1}', "no fraction": b'{"a":1.}', "no integer": b'{"a":.5}', "hex": b'{"a":0x10}', "exponent": b'{"a":1e}',
    "single quotes": b"{'a':1}", "trailing comma": b'{"a":1,}', "only comma": b"{,}", "no colon": b'{"a" 1}', "no quotes": b"{a:1}",
    "comment": b'{"a":1 /* x */}', "raw line feed": b'{"a":"\n"}', "bad escape": b'{"a":"\\x41"}', "bad unicode escape": b'{"a":"\\u12g4"}',
    "invalid UTF-8": b'{"a":"\xff"}', "overlong": b'{"a":"\xc0\xaf"}', "surrogate": b'{"a":"\xed\xa0\x80"}', "cut UTF-8": b'{"a":"\xe2\x82"}',
    "beyond Unicode": b'{"a":"\xf4\x90\x80\x80"}', "byte order mark": b"\xef\xbb\xbf{}", "UTF-16": '{"a":1}'.encode("utf-16"),
    "deep arrays": b'{"a":' + b"[" * 100000 + b"]" * 100000 + b"}", "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "deep and cut": b"[" * 500000, "65 levels": b'{"a":' * 65 + b"1" + b"}" * 65, "literal": b'{"a":True}', "too large": b'{"a":1e999}',
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_400_not_json(stack, body):
    length = stack.redis.stream_length()
    headers, body = signed(stack, body)
    check_problem(stack.ingest.post(body, headers), 400, "invalid_json")
    assert stack.redis.stream_length() == length


def test_64_levels_are_taken(stack):
    event = make_event(deep=1)
    body = encode(event).replace(b'"deep": 1', b'"deep": ' + b"[" * 62 + b"]" * 62)
    headers = sign.standard_webhooks(stack.settings["WAYBILL_SECRET_DEMO"], event["event_id"], body)
    assert stack.ingest.post(body, headers).status_code == 202


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"1", b"true", b'[{"event_id":"x"}]'])
def test_400_not_an_object(stack, body):
    headers, body = signed(stack, body)
    check_problem(stack.ingest.post(body, headers), 400, "not_an_object")


def test_401_unknown_source_and_bad_signature_look_the_same(stack):
    event = make_event()
    headers, body = signed(stack, event)
    wrong = {**headers, "webhook-signature": "v1," + sign.b64(bytes(32))}
    answers = [stack.ingest.post(body, wrong), stack.ingest.post(body, headers, source="nobody"),
               stack.ingest.post(body, {"Content-Type": "application/json"})]
    for answer in answers:
        check_problem(answer, 401, "unauthorized")
    assert len({answer.content for answer in answers}) == 1
    visible = [{name: value for name, value in answer.headers.items() if name != "Date"} for answer in answers]
    assert visible[0] == visible[1] == visible[2]


@pytest.mark.parametrize("left_out", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_401_missing_signature_header(stack, left_out):
    headers, body = signed(stack, make_event())
    del headers[left_out]
    check_problem(stack.ingest.post(body, headers), 401, "unauthorized")


def test_401_other_body_than_signed(stack):
    headers, body = signed(stack, make_event())
    check_problem(stack.ingest.post(body + b" ", headers), 401, "unauthorized")


@pytest.mark.parametrize("source", ["Demo", "DEMO", "demo%20", "dem%6f", "demo.", "nobody", "x" * 300, "..;", "de\u00ffmo"])
def test_sources_that_are_not_exactly_right(stack, source):
    headers, body = signed(stack, make_event())
    answer = raw(stack, path=f"/v1/events/{source}", headers=headers, body=body)
    assert answer.status in (400, 401, 404), answer
    assert answer.problem()["status"] == answer.status


@pytest.mark.parametrize("path", [
    "/", "/v1", "/v1/events", "/v1/events/", "/v1/events/demo/", "/v1/events/demo/x", "//v1/events/demo", "/v1//events/demo",
    "/v1/events//demo", "/v1/./events/demo", "/v1/x/../events/demo", "/v1/%2e/events/demo", "/v1/x/%2e%2e/events/demo",
    "/v1/events/demo/.", "/v1/events/demo/%2e", "/V1/events/demo", "/v1/Events/demo", "/v1/event/demo", "/v1/eventsx/demo", "/v2/events/demo",
    "/x/v1/events/demo", "/%76%31/events/demo", "/v1%2fevents%2fdemo", "/v1/events%2fdemo", "/v1/events/demo?a=b", "/v1/events/demo?", "/v1/events/demo;a", "/events/demo",
    "/livez", "/metrics", "/status", "/reload",
])
def test_404_any_other_path(stack, path):
    headers, body = signed(stack, make_event())
    answer = raw(stack, path=path, headers=headers, body=body)
    check_problem(answer, 404, "not_found")
    assert answer.header("location") is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "PROPFIND"])
def test_405_method(stack, method):
    answer = raw(stack, method, has_body=method != "HEAD", length=method not in ("GET", "HEAD"))
    assert answer.status == 405, answer
    assert answer.header("allow") == "POST"
    if method != "HEAD":
        check_problem(answer, 405, "method_not_allowed")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_404_wins_over_405(stack, method):
    assert raw(stack, method, "/v1/nothing", length=False).status == 404


def test_411_length(stack):
    check_problem(raw(stack, headers={"Content-Type": "application/json"}, length=False), 411, "length_required")


def test_413_size_announced(stack):
    with RawConnection(stack.ingest.port) as connection:
        head = request(headers={"Content-Type": "application/json", "Content-Length": LIMIT + 2}, length=False)
        connection.send(head)
        check_problem(connection.answer(), 413, "too_large")


def test_413_size_sent(stack):
    headers, body = signed(stack, make_event(padding="x" * LIMIT))
    try:
        answer = stack.ingest.post(body, headers)
    except requests.ConnectionError:
        pytest.skip("closed before the client read the answer, as HTTP allows; the announced size is tested above")
    check_problem(answer, 413, "too_large")


@pytest.mark.parametrize("encoding", ["with a length", "chunked"])
@pytest.mark.parametrize(("over", "status"), [(-1, 202), (0, 202), (1, 413)])
def test_size_around_the_limit(stack, encoding, over, status):
    event = make_event(padding="")
    event["data"]["padding"] = "x" * (LIMIT + over - len(encode(event)))
    headers, body = signed(stack, event)
    assert len(body) == LIMIT + over
    if encoding == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    answer = raw(stack, headers=headers, body=chunked(body, 10_000) if encoding == "chunked" else body, length=encoding != "chunked")
    assert answer.status == status, answer
    if status == 413:
        check_problem(answer, 413, "too_large")


@pytest.mark.parametrize("content_type", [
    "text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx",
    "text/json", "json", "", "application/", "application/json, text/plain",
])
def test_415_content_type(stack, content_type):
    headers, body = signed(stack, make_event())
    check_problem(raw(stack, headers={**headers, "Content-Type": content_type}, body=body), 415, "unsupported_media_type")


def test_415_without_content_type(stack):
    headers, body = signed(stack, make_event())
    del headers["Content-Type"]
    check_problem(raw(stack, headers=headers, body=body), 415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON"])
def test_content_types_that_are_json(stack, content_type):
    headers, body = signed(stack, make_event())
    assert raw(stack, headers={**headers, "Content-Type": content_type}, body=body).status == 202


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip", "identityx", "GZIP"])
def test_415_content_encoding(stack, coding):
    headers, body = signed(stack, make_event())
    check_problem(raw(stack, headers={**headers, "Content-Encoding": coding}, body=body), 415, "unsupported_encoding")


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_content_encodings_that_are_none(stack, coding):
    headers, body = signed(stack, make_event())
    assert raw(stack, headers={**headers, "Content-Encoding": coding}, body=body).status == 202


MISSING = {"event_id": ["event_id"], "type": ["type"], "occurred_at": ["occurred_at"], "data.tracking_number": ["data", "tracking_number"]}


@pytest.mark.parametrize("field", MISSING)
def test_422_missing_field(stack, field):
    event = make_event()
    *parents, last = MISSING[field]
    parent = event
    for name in parents:
        parent = parent[name]
    del parent[last]
    headers, body = signed(stack, encode(event))
    problem = check_problem(stack.ingest.post(body, headers), 422, "missing_field")
    assert problem["field"] == field
    assert field.rpartition(".")[2] in problem["detail"]


WRONG = [
    ("event_id", 123), ("event_id", ""), ("event_id", None), ("event_id", ["x"]), ("event_id", True), ("event_id", "x" * 257), ("event_id", "a\nb"),
    ("type", 1), ("type", ""), ("type", {}), ("type", "x" * 129), ("occurred_at", 1700000000), ("occurred_at", "yesterday"),
    ("occurred_at", "2026-13-01T00:00:00Z"), ("occurred_at", "2026-02-30T00:00:00Z"), ("occurred_at", "2026-01-01"), ("occurred_at", ""),
    ("data", "text"), ("data", []), ("data", None), ("data.tracking_number", 42), ("data.tracking_number", ""), ("data.tracking_number", None),
    ("data.tracking_number", {"a": 1}),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=[f"{field}={str(value)[:20]!r}" for field, value in WRONG])
def test_422_wrong_field(stack, field, value):
    length = stack.redis.stream_length()
    event = make_event()
    parent = event["data"] if field.startswith("data.") else event
    parent[field.rpartition(".")[2]] = value
    headers, body = signed(stack, encode(event))
    answer = stack.ingest.post(body, headers)
    problem = check_problem(answer, 422, answer.json().get("code"))
    assert problem["code"] in ("missing_field", "invalid_field"), problem
    assert problem["field"].startswith(field), problem
    assert stack.redis.stream_length() == length


def test_429_backlog(make_stack):
    stack = make_stack({"WAYBILL_MAX_BACKLOG": 5}, workers=0)

    def refused():
        answer = stack.send(make_event())
        assert answer.status_code in (202, 429), answer.text
        return [answer] if answer.status_code == 429 else None  # an answer with an error status counts as false

    answer, = wait_for(refused, 10, "429 once the backlog is over its limit")
    check_problem(answer, 429, "backlog_full")
    assert int(answer.headers["Retry-After"]) >= 1
    stack.redis.client.xtrim("waybill:{0}:events", maxlen=0)
    wait_for(lambda: stack.send(make_event()).status_code == 202, 5, "202 when the backlog is gone")


def test_503_redis_away(make_stack):
    stack = make_stack(workers=0)
    stack.redis.kill()
    wait_for(lambda: stack.send(make_event()).status_code == 503, 5)
    answer = stack.send(make_event())
    check_problem(answer, 503, "queue_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert stack.ingest.post(b"{}").status_code == 401, "what is wrong with the request is still said"
    stack.redis.start()
    wait_for(lambda: stack.send(make_event()).status_code == 202, 10, "recovery without a restart")


def test_never_a_redirect_or_gone(stack):
    """A sweep: whatever is asked, the answer is not 3xx, 410 or 5xx."""
    paths = ["/", "", "/v1/events", "/v1/events/demo", "/v1/events/demo/", "/v1/events/demo?a=b", "/v1/events/demo#x", "*", "http://x/v1/events/demo",
             "/v1/events/demo/..", "/favicon.ico", "/index.html", "/.well-known/x", "/v1/events/%00", "/v1/events/demo%0d%0aX: y", "\\v1\\events\\demo"]
    for method in ("GET", "POST", "OPTIONS", "PUT"):
        for path in paths:
            answer = raw(stack, method, path)
            assert answer is None or (400 <= answer.status < 500 and answer.status != 410) or answer.status in (200, 202), (method, path, answer)


def test_keep_alive_serves_many_requests_on_one_connection(stack):
    with RawConnection(stack.ingest.port) as connection:
        for _ in range(20):
            headers, body = signed(stack, make_event())
            connection.send(request(headers=headers, body=body))
            assert connection.answer().status == 202


def test_many_connections_at_once(stack):
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=32))
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: stack.send(make_event(), session=session).status_code, range(300)))
    assert answers == [202] * 300
