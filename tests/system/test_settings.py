"""Settings that change how the parts are wired: the same events end the same way."""

import concurrent.futures

import pytest

from lib import make_event, wait_for
from lib.outcomes import check_succeeded_once, wait_succeeded
from lib.rawhttp import RawConnection, request


def send_some(stack, count=20):
    events = [make_event() for _ in range(count)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(stack.accept, events))
    for event in events:
        wait_succeeded(stack, event)
        check_succeeded_once(stack, event)


def test_partitions_and_threads(make_stack):
    stack = make_stack({"WAYBILL_PARTITIONS": 4, "WAYBILL_THREADS": 3})
    send_some(stack, 60)
    used = [n for n in range(4) if int(stack.redis.client.xinfo_stream(f"waybill:{{{n}}}:events")["last-generated-id"].split(b"-")[0])]
    assert used == [0, 1, 2, 3]
    wait_for(lambda: all(stack.redis.stream_length(n) == 0 for n in range(4)), 5)


def test_retries_in_all_partitions(make_stack):
    stack = make_stack({"WAYBILL_PARTITIONS": 4})
    events = [make_event(simulate={"fail": "transient", "times": 1}) for _ in range(20)]
    for event in events:
        stack.accept(event)
    for event in events:
        wait_succeeded(stack, event)


def test_batches_of_one(make_stack):
    send_some(make_stack({"WAYBILL_BATCH": 1}))


def use_redis_url(stack, url):
    """Before the stack starts."""
    stack.settings["WAYBILL_REDIS_URL"] = url
    for service in (stack.ingest, *stack.workers):
        service.settings["WAYBILL_REDIS_URL"] = url


def test_redis_with_a_password(make_stack):
    password, escaped = "for/tests:only@x", "for%2Ftests%3Aonly%40x"

    def prepare(stack):
        stack.redis.argv += ["--requirepass", password]
        stack.redis.client.connection_pool.connection_kwargs["password"] = password
        use_redis_url(stack, f"redis://:{escaped}@127.0.0.1:{stack.redis.port}/0")

    stack = make_stack(None, prepare)
    send_some(stack, 5)
    assert not [process.name for process in (stack.ingest, stack.worker) if password in process.log() or escaped in process.log()]


def test_missing_redis_password_is_said(make_stack):
    stack = make_stack(workers=0)
    stack.redis.client.config_set("requirepass", "another")
    stack.redis.client.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
    wait_for(lambda: stack.ingest.admin("/readyz").status_code == 503, 10)
    answer = stack.send(make_event())
    assert answer.status_code == 503 and "Retry-After" in answer.headers
    wait_for(lambda: "NOAUTH" in stack.ingest.log(), 5)
    stack.redis.client.execute_command("AUTH", "another")
    stack.redis.client.config_set("requirepass", "")
    wait_for(lambda: stack.send(make_event()).status_code == 202, 10)


def test_redis_on_a_unix_socket(make_stack):
    def prepare(stack):
        path = stack.folder / "redis.sock"
        stack.redis.argv += ["--unixsocket", str(path)]
        use_redis_url(stack, f"unix://{path}")

    send_some(make_stack(None, prepare), 5)


@pytest.mark.parametrize("threads", [1, 2])
def test_connections_beyond_the_cap_wait(make_stack, threads):
    stack = make_stack({"WAYBILL_MAX_CONNECTIONS": 8, "WAYBILL_THREADS": threads, "WAYBILL_REQUEST_TIMEOUT_MS": 20_000}, workers=0)
    idle = [RawConnection(stack.ingest.port) for _ in range(12)]
    wait_for(lambda: stack.ingest.status()["connections"] == 8, 5, lambda: stack.ingest.status())
    with RawConnection(stack.ingest.port) as late:
        late.send(request(headers={"Content-Type": "application/json"}, body=b"{}"))
        assert stack.ingest.admin("/livez").status_code == 200
        for connection in idle:
            connection.close()
        assert late.answer().status == 401
    assert stack.send(make_event()).status_code == 202
