"""Good requests in unusual but lawful forms."""

import pytest

from lib import make_event, sign
from lib.events import encode
from lib.rawhttp import RawConnection, chunked, request


@pytest.fixture(scope="module")
def stack(module_stacks):
    return module_stacks(workers=0)


def good(stack, event=None, extra=(), **options):
    event = event or make_event()
    body = encode(event)
    headers = sign.standard_webhooks(stack.settings["WAYBILL_SECRET_DEMO"], event["event_id"], body)
    return request(headers=[("Content-Type", "application/json"), *headers.items(), *extra], body=body, **options)


def test_pipelined_answers_come_in_order(stack):
    events = [make_event() for _ in range(3)]
    refused = request(headers={"Content-Type": "application/json"}, body=b"{}")
    with RawConnection(stack.ingest.port) as connection:
        connection.send(good(stack, events[0]) + refused + good(stack, events[1]) + request(path="/x", body=b"{}") + good(stack, events[2]))
        answers = [connection.answer() for _ in range(5)]
        assert [answer.status for answer in answers] == [202, 401, 202, 404, 202]
        ids = [answer.body for answer in answers if answer.status == 202]
        assert all(event["event_id"].encode() in body for event, body in zip(events, ids, strict=True))


def test_chunked_body(stack):
    event = make_event(note="x" * 5000)
    head = good(stack, event, [("Transfer-Encoding", "chunked")], length=False).removesuffix(encode(event))
    with RawConnection(stack.ingest.port) as connection:
        connection.send(head + chunked(encode(event), 700))
        assert connection.answer().status == 202
    entry = dict(stack.redis.client.xrevrange("waybill:{0}:events", count=1)[0][1])
    assert entry[b"body"] == encode(event)


def test_byte_by_byte(stack):
    data = good(stack)
    with RawConnection(stack.ingest.port) as connection:
        for at in range(len(data)):
            connection.send(data[at:at + 1])
        assert connection.answer().status == 202


def test_expect_100_continue(stack):
    event = make_event()
    data = good(stack, event, [("Expect", "100-continue")])
    with RawConnection(stack.ingest.port) as connection:
        connection.send(data.removesuffix(encode(event)))
        assert connection._one_answer(has_body=False).status == 100
        connection.send(encode(event))
        assert connection.answer().status == 202


def test_half_closed_client_gets_its_answer(stack):
    with RawConnection(stack.ingest.port) as connection:
        connection.send(good(stack))
        connection.finish_sending()
        assert connection.answer().status == 202


def test_header_names_in_any_case(stack):
    event = make_event()
    body = encode(event)
    headers = sign.standard_webhooks(stack.settings["WAYBILL_SECRET_DEMO"], event["event_id"], body)
    shouted = {name.upper(): value for name, value in headers.items()}
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(headers={"CONTENT-TYPE": "application/json", **shouted}, body=body))
        assert connection.answer().status == 202


def test_target_with_a_host(stack):
    with RawConnection(stack.ingest.port) as connection:
        connection.send(good(stack, path="http://any.host:8080/v1/events/demo"))
        assert connection.answer().status == 202


def test_many_headers(stack):
    with RawConnection(stack.ingest.port) as connection:
        connection.send(good(stack, extra=[(f"X-Note-{i}", "a" * 100) for i in range(60)]))
        assert connection.answer().status == 202
