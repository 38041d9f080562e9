"""HTTP/1.1 by hand, for what a client library refuses to send."""

import contextlib
import json
import socket


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        """The value of a header, or None; an error when it is there twice."""
        values = [value for have, value in self.headers if have == name.lower()]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    def problem(self):
        """The body as RFC 9457 problem details."""
        assert self.header("content-type") == "application/problem+json", f"{self!r}"
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {dict(self.headers)} {self.body[:300]!r}"


class RawConnection:
    """One connection to 127.0.0.1. Reading has a time limit: a hang is a TimeoutError, not a stuck test."""

    def __init__(self, port, timeout=8):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._file.close()
        self.socket.close()

    def send(self, data):
        """False when the other side has closed meanwhile, which is its right after an error."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def finish_sending(self):
        """Closes our half; harmless when the other side has closed already."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def answer(self, has_body=True):
        """The next answer that is not 1xx; None when the connection ended before one began."""
        while True:
            answer = self._one_answer(has_body)
            if answer is None or answer.status >= 200:
                return answer

    def rest(self):
        """What is left to read until the other side closes."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""

    def is_closed(self):
        """Waits for the end: true when nothing more came before it."""
        return self.rest() == b""

    def _line(self):
        try:
            return self._file.readline()
        except ConnectionResetError:
            return b""

    def _one_answer(self, has_body):
        line = self._line()
        if not line:
            return None
        version, status, *_ = line.decode("latin-1").split(" ", 2)
        assert version.startswith("HTTP/1."), f"not a status line: {line!r}"
        headers = []
        while (line := self._line()) not in (b"\r\n", b"\n", b""):
            name, colon, value = line.decode("latin-1").partition(":")
            assert colon, f"not a header line: {line!r}"
            headers.append((name.lower(), value.strip()))
        answer = Answer(int(status), headers, b"")
        if has_body and answer.status >= 200 and answer.status not in (204, 304):
            answer.body = self._body(answer)
        return answer

    def _body(self, answer):
        if answer.header("transfer-encoding") == "chunked":
            return self._chunked()
        length = answer.header("content-length")
        return self.rest() if length is None else self._file.read(int(length))

    def _chunked(self):
        body = b""
        while size := int(self._line().split(b";")[0], 16):
            body += self._file.read(size)
            self._line()
        self._line()
        return body


def request(method="POST", path="/v1/events/demo", headers=None, body=b"", length=True):
    """The bytes of a request. headers: a dict or a list of pairs. length: whether to add Content-Length."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    lines = [f"{method} {path} HTTP/1.1", "Host: waybill.test", *(f"{name}: {value}" for name, value in pairs)]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(body, size=1000):
    """body in the chunked transfer coding."""
    pieces = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
