"""A TCP relay in front of a server: a link that can be cut or narrow, and that counts who tries to connect."""

import contextlib
import socket
import threading
import time

PASS, CLOSE, SILENT = "pass", "close", "silent"


class Relay:
    """PASS: bytes flow. CLOSE: connections are taken and closed at once. SILENT: taken, and nothing ever comes."""

    def __init__(self, target_port):
        self._target = target_port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._listener.getsockname()[1]
        self._mode, self._open, self._lock = PASS, set(), threading.Lock()
        self.accepted_at = []  # when each connection was taken
        self.bytes_per_s = None  # towards the server
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, mode=CLOSE):
        """Ends what is open; from now on connections are treated by mode."""
        with self._lock:
            self._mode = mode
            connections, self._open = self._open, set()
        for connection in connections:
            _end(connection)

    def mend(self):
        self.cut(PASS)

    def lead_to(self, target_port):
        """Another server from now on; what is connected stays connected, as with a name or address that moves."""
        self._target = target_port

    def close(self):
        self.cut()
        self._listener.close()

    def accepted_since(self, moment):
        return [at for at in self.accepted_at if at >= moment]

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.accepted_at.append(time.monotonic())
                self._serve(near)

    def _serve(self, near):
        with self._lock:
            mode = self._mode
            if mode != CLOSE:
                self._open.add(near)
        if mode == CLOSE:
            near.close()
        elif mode == PASS:
            self._connect(near)

    def _connect(self, near):
        try:
            far = socket.create_connection(("127.0.0.1", self._target), 5)
        except OSError:
            _end(near)
            return
        far.settimeout(None)
        with self._lock:
            self._open.add(far)
        threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
        threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source, sink, forth):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if forth and self.bytes_per_s:
                    time.sleep(len(data) / self.bytes_per_s)
                sink.sendall(data)
        for end in (source, sink):
            _end(end)
        with self._lock:
            self._open -= {source, sink}


def _end(connection):
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
