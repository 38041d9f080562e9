"""Toxiproxy between the services and their servers: cuts, delays and thins the connections."""

import requests

from tests.lib.process import ROOT, Process, free_port


class Toxiproxy(Process):
    """One server with a proxy for each link."""

    def __init__(self, folder):
        self.port = free_port()
        program = ROOT / "build/tools/toxiproxy-server"
        super().__init__("toxiproxy", folder, [program, "-host", "127.0.0.1", "-port", self.port])
        self.links = {}

    def is_ready(self):
        try:
            return requests.get(self._url("version"), timeout=1).ok
        except requests.RequestException:
            return False

    def _url(self, path):
        return f"http://127.0.0.1:{self.port}/{path}"

    def _call(self, method, path, **body):
        answer = requests.request(method, self._url(path), json=body or None, timeout=5)
        answer.raise_for_status()

    def add_link(self, name, upstream_port):
        """Returns the port to connect to."""
        port = self.links[name] = free_port()
        self._call("POST", "proxies", name=name, listen=f"127.0.0.1:{port}", upstream=f"127.0.0.1:{upstream_port}",
                   enabled=True)
        return port

    def cut(self, name):
        """Closes all connections and refuses new ones."""
        self._call("POST", f"proxies/{name}", enabled=False)

    def mend(self, name):
        self._call("POST", f"proxies/{name}", enabled=True)

    def add_toxic(self, name, kind, **attributes):
        """latency (latency, jitter in ms), timeout (0: silence), slicer, bandwidth (rate in kB/s), …"""
        self._call("POST", f"proxies/{name}/toxics", name=kind, type=kind, stream="downstream", toxicity=1.0,
                   attributes=attributes)

    def remove_toxic(self, name, kind):
        self._call("DELETE", f"proxies/{name}/toxics/{kind}")
