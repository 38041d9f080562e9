"""What a hostile and competent stranger tries: bytes that a proxy in front may read differently, and names that break
things further in."""

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
