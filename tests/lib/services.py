"""Waybill's two services as objects."""

import requests

from . import sign
from .events import encode
from .metrics import parse_metrics
from .process import Process, executable, free_port


class Service(Process):
    """A service with an admin listener. settings are environment variables; None leaves one out."""

    program = None

    def __init__(self, folder, settings, name):
        self.admin_port = free_port()
        super().__init__(name, folder, [executable(self.program)],
                         {"WAYBILL_ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}", **settings})

    def admin(self, path, method="GET", timeout=5):
        """One request to the admin listener."""
        return requests.request(method, f"http://127.0.0.1:{self.admin_port}{path}", timeout=timeout)

    def _says_200(self, path):
        try:
            return self.admin(path).status_code == 200
        except requests.RequestException:
            return False

    def is_ready(self):
        """Whether it can do its work (Redis and, for the worker, the store are there)."""
        return self._says_200("/readyz")

    def is_live(self):
        return self._says_200("/livez")

    def status(self):
        return self.admin("/status").json()

    def metrics(self):
        return parse_metrics(self.admin("/metrics").text)

    def reload(self):
        """POST /reload: waits for the outcome."""
        return self.admin("/reload", "POST", timeout=20)


class Ingest(Service):
    program = "waybill-ingest"

    def __init__(self, folder, settings=None, name="ingest"):
        self.port = free_port()
        super().__init__(folder, {"WAYBILL_LISTEN": f"127.0.0.1:{self.port}", **(settings or {})}, name)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def post(self, body, headers=None, source="demo", session=requests, timeout=15):
        """POSTs body (bytes) as JSON, with headers on top; never follows a redirect."""
        return session.post(f"{self.url}/v1/events/{source}", data=body, timeout=timeout, allow_redirects=False,
                            headers={"Content-Type": "application/json", **(headers or {})})

    def send(self, event, secret, source="demo", session=requests, timeout=15):
        """Signs an event (dict, or bytes with an id in event_id) by Standard Webhooks and posts it."""
        body = encode(event)
        headers = sign.standard_webhooks(secret, event["event_id"], body)
        return self.post(body, headers, source, session, timeout)


class Worker(Service):
    program = "waybill-worker"

    def __init__(self, folder, settings=None, name="worker"):
        super().__init__(folder, dict(settings or {}), name)
