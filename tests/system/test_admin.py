"""The admin listeners: health, metrics, status."""

import re

import pytest

from lib import identity, make_event, wait_for
from lib.outcomes import wait_succeeded
from lib.rawhttp import RawConnection, request


@pytest.fixture(params=["ingest", "worker"])
def service(request, stack):
    return getattr(stack, request.param)


def test_live_and_ready(service):
    assert service.admin("/livez").status_code == 200
    ready = service.admin("/readyz")
    assert ready.status_code == 200 and "redis: ok" in ready.text


def test_status(service, stack):
    status = service.status()
    assert status["service"] == f"waybill-{service.name.rstrip('1')}"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", status["version"])
    assert status["pid"] == service.pid
    assert status["scripts"]["generation"] >= 1
    assert re.fullmatch(r"[0-9a-f]{12}", status["scripts"]["hash"])
    assert isinstance(status["backlog"], int)
    assert stack.ingest.status()["scripts"]["hash"] == stack.worker.status()["scripts"]["hash"]


def test_metrics_are_prometheus_text(service, stack):
    stack.accept(make_event())
    answer = service.admin("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    metrics = service.metrics()
    assert len(metrics) > 5
    for name in metrics.names():
        assert re.fullmatch(r"waybill_[a-z0-9_]+", name), name
        family = metrics.family(name)
        assert family, f"no TYPE line for {name}"
        assert metrics.help.get(family), f"no HELP line for {family}"
        if metrics.types[family] == "counter":
            assert family.endswith("_total"), family


def test_counters_count(stack):
    def counted(what):
        metrics = stack.ingest.metrics()
        return metrics.total("waybill_ingest_requests_total", code=what)

    accepted, refused = counted("accepted"), counted("unauthorized")
    event = make_event()
    stack.accept(event)
    assert stack.ingest.post(b"{}").status_code == 401
    assert counted("accepted") == accepted + 1
    assert counted("unauthorized") == refused + 1
    wait_succeeded(stack, event)


def test_no_event_id_in_labels(stack):
    event = make_event()
    stack.accept(event)
    wait_succeeded(stack, event)
    assert event["event_id"] not in stack.ingest.admin("/metrics").text + stack.worker.admin("/metrics").text


def test_worker_counts_outcomes(stack):
    event = make_event(simulate={"fail": "permanent"})
    stack.accept(event)
    wait_for(lambda: stack.store.status(identity(event)) == "dead", 10)
    assert stack.worker.metrics().total("waybill_worker_attempts_total", outcome="permanent") >= 1
    assert stack.worker.metrics().total("waybill_worker_attempts_total") >= 2


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/nothing", 404), ("GET", "/", 404), ("POST", "/livez", 405), ("GET", "/reload", 405), ("DELETE", "/metrics", 405), ("GET", "/metrics/", 404),
    ("POST", "/v1/events/demo", 404),
])
def test_other_requests(service, method, path, status):
    answer = service.admin(path, method)
    assert answer.status_code == status
    if status == 405:
        assert answer.headers["Allow"]


def test_noise_does_no_harm(service):
    with RawConnection(service.admin_port) as connection:
        connection.send(bytes(range(256)) * 100)
        connection.finish_sending()
        connection.rest()
    with RawConnection(service.admin_port) as connection:
        connection.send(request("GET", "/livez", length=False))
        assert connection.answer().status == 200
