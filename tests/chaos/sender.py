"""A courier's system, as one process: sends its plan over a few keep-alive connections and behaves like a real one:
what is not acknowledged for the gateway's reasons (5xx, 429, no answer) is sent again, with the same event_id and a fresh
signature, until it is. Writes a ledger: one line an event when it is through with it."""

import base64
import hashlib
import hmac
import json
import random
import socket
import threading
import time

from .plan import Plan, simulate_of

ANSWER_TIMEOUT_S = 6  # a real sender's; the gateway promises less
COPIES = 4            # of a concurrent event


class Connection:
    """One keep-alive HTTP/1.1 connection that knows just enough; reconnects by itself."""

    def __init__(self, port):
        self._port, self._socket, self._rest = port, None, b""

    def close(self):
        if self._socket:
            self._socket.close()
        self._socket, self._rest = None, b""

    def post(self, path, headers, body):
        """The status of the answer; None when there was none."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), ANSWER_TIMEOUT_S)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head = f"POST {path} HTTP/1.1\r\nhost: chaos\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            head += "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
            self._socket.sendall(head.encode() + body)
            return self._answer()
        except OSError:
            self.close()
            return None

    def _answer(self):
        data = self._rest
        while b"\r\n\r\n" not in data:
            data = self._more(data)
        head, data = data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        length = int(fields.get("content-length", 0))
        while len(data) < length:
            data = self._more(data)
        self._rest = data[length:]
        if fields.get("connection") == "close":
            self.close()
        return int(lines[0].split(" ")[1])

    def _more(self, data):
        more = self._socket.recv(65536)
        if not more:
            raise ConnectionError("closed")
        return data + more


class Sender:
    """shared: see chaos.py (until, gave_up_at, acked, last_ack)."""

    def __init__(self, number, seed, port, secret, threads, ledger_path, shared):
        self._port, self._threads, self._shared = port, threads, shared
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self._plan, self._random = Plan(seed, number), random.Random(f"{seed}/sender/{number}")
        self._lock = threading.Lock()
        self._ledger = open(ledger_path, "a", encoding="utf-8", buffering=1 << 16)

    def run(self):
        threads = [threading.Thread(target=self._send_on) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._ledger.close()

    def _send_on(self):
        connection = Connection(self._port)
        while time.time() < self._shared.until.value:
            with self._lock:
                event = self._plan.next()
            self._deliver(connection, *event)
        connection.close()

    def _deliver(self, connection, event_id, kind, parcel, event_type):
        body = self._body(event_id, kind, parcel, event_type)
        acks, statuses = 0, {}
        if kind == "concurrent":
            acks += self._send_copies(event_id, kind, body, statuses)
        acks += self._send_until_answered(connection, event_id, kind, body, statuses)
        if kind == "repeated" and acks:
            acks += self._send_until_answered(connection, event_id, kind, body, statuses)
        with self._lock:
            self._ledger.write(json.dumps([event_id, kind, parcel, acks, statuses]) + "\n")

    def _send_copies(self, event_id, kind, body, statuses):
        """Several at the same moment, each once, whatever the answer."""
        answers = []

        def send():
            connection = Connection(self._port)
            answers.append(self._post(connection, event_id, kind, body))
            connection.close()

        threads = [threading.Thread(target=send) for _ in range(COPIES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for status in answers:
            statuses[str(status)] = statuses.get(str(status), 0) + 1
        return sum(status == 202 for status in answers)

    def _send_until_answered(self, connection, event_id, kind, body, statuses):
        """1 when it was acknowledged, 0 when it was rejected or the time is up."""
        wait = 0.02
        while True:
            status = self._post(connection, event_id, kind, body)
            statuses[str(status)] = statuses.get(str(status), 0) + 1
            if status == 202:
                return 1
            if status is not None and status < 500 and status != 429:
                return 0
            if time.time() > self._shared.gave_up_at.value:
                return 0
            time.sleep(wait * self._random.uniform(0.5, 1))
            wait = min(wait * 2, 1)

    def _post(self, connection, event_id, kind, body):
        timestamp = str(int(time.time()) - (3600 if kind == "stale" else 0))
        signed = f"{event_id}.{timestamp}.".encode() + body
        mac = hmac.new(self._key, signed, hashlib.sha256).digest()
        if kind == "bad-signature":
            mac = mac[::-1]
        headers = (("webhook-id", event_id), ("webhook-timestamp", timestamp),
                   ("webhook-signature", "v1," + base64.b64encode(mac).decode()))
        status = connection.post("/v1/events/demo", headers, body)
        if status == 202:
            self._shared.last_ack.value = time.time()
            with self._shared.acked.get_lock():
                self._shared.acked.value += 1
        return status

    @staticmethod
    def _body(event_id, kind, parcel, event_type):
        data = {"tracking_number": parcel, "location": {"city": "Köln", "country": "DE"}}
        if kind == "missing-field":
            del data["tracking_number"]
        simulate = simulate_of(kind)
        if simulate:
            data["simulate"] = simulate
        event = {"event_id": event_id, "type": event_type, "occurred_at": "2026-01-31T09:41:07.123+01:00", "data": data}
        return json.dumps(event, ensure_ascii=False).encode()


def run_sender(*arguments):
    """A process' main."""
    Sender(*arguments).run()


