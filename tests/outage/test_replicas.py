"""WAYBILL_ACK_REPLICAS: an acknowledged event is on a replica, so that losing the primary loses nothing."""

import contextlib

import pytest

from helpers import STREAM, check_503, check_unharmed
from lib import RedisServer, make_event, wait_for
from lib.traffic import traffic


def make_replica(stack, ends):
    """A replica that follows stack.redis; not started."""
    replica = RedisServer(stack.folder, name="replica")
    replica.argv += ["--replicaof", "127.0.0.1", str(stack.redis.port)]
    ends.callback(replica.kill)
    return replica


def wait_until_it_follows(primary):
    """A replica that has just come counts as connected before it takes note of what is written."""
    def follows():
        with primary.client() as connection:  # WAIT speaks of its own connection's writes
            connection.set("following", 1)
            return connection.execute_command("WAIT", 1, 200)

    wait_for(follows, 10, "a replica that follows")


@pytest.fixture
def replicated(make_stack):
    """(stack without a running worker, its replica). The replica belongs to the primary from the beginning."""
    with contextlib.ExitStack() as ends:
        replicas = []

        def add(stack):
            stack.redis.argv += ["--repl-diskless-sync-delay", "0"]
            replicas.append(make_replica(stack, ends).start(wait=False))

        stack = make_stack({"WAYBILL_ACK_REPLICAS": 1, "WAYBILL_QUEUE_TIMEOUT_MS": 1000}, prepare=add, workers=0,
                           start_store=True)
        wait_until_it_follows(stack.redis.client)
        yield stack, replicas[0]


def test_acknowledged_is_on_the_replica_at_once(replicated):
    stack, replica = replicated
    for count in range(1, 31):
        stack.accept(make_event())
        assert replica.client.xlen(STREAM) == count


@pytest.mark.parametrize("how", ["stopped", "paused"])
def test_without_its_replica_ingest_acknowledges_nothing(replicated, how):
    stack, replica = replicated
    stack.accept(make_event())
    (replica.kill if how == "stopped" else replica.pause)()
    for _ in range(3):
        check_503(stack.send(make_event(), timeout=5))
    wait_for(lambda: stack.ingest.admin("/readyz").status_code == 503, 5)
    assert "replica" in stack.ingest.admin("/readyz").text.lower()
    replica.start() if how == "stopped" else replica.resume()
    wait_for(lambda: stack.send(make_event()).status_code == 202, 15, "recovery by itself")
    wait_for(stack.ingest.is_ready, 5)


def test_failover_loses_nothing_acknowledged(replicated):
    """Nothing was claimed yet, the primary never comes back, and its data with it."""
    stack, replica = replicated
    events = [make_event() for _ in range(40)]
    for event in events:
        stack.accept(event)
    stack.redis.kill()
    replica.client.execute_command("REPLICAOF", "NO", "ONE")
    primary, stack.redis = stack.redis, replica
    try:
        stack.ingest.settings |= {"WAYBILL_REDIS_URL": replica.url, "WAYBILL_ACK_REPLICAS": 0}
        stack.ingest.restart()
        after = make_event()
        stack.accept(after)
        stack.add_worker(WAYBILL_REDIS_URL=replica.url, WAYBILL_ACK_REPLICAS=0).start()
        check_unharmed(stack, [*events, after])
    finally:
        stack.redis = primary


def test_failover_behind_one_address_needs_nobody(replicated, relay_to):
    """The address leads to the new primary; the old one lives, as its replica, and its connections stay open."""
    stack, replica = replicated
    link = relay_to(stack.redis.port)
    url = f"redis://127.0.0.1:{link.port}/0"
    stack.ingest.settings["WAYBILL_REDIS_URL"] = url
    stack.ingest.restart()
    stack.add_worker(WAYBILL_REDIS_URL=url).start()
    replica.client.config_set("repl-diskless-sync-delay", 0)
    with traffic(stack) as flow:
        flow.wait_accepted(100)
        link.lead_to(replica.port)
        stack.redis.client.config_set("min-replicas-to-write", 99)  # what a failover does first: no more writes
        wait_for(lambda: replica.client.info("replication")["slave_repl_offset"] ==
                 stack.redis.client.info("replication")["master_repl_offset"], 5)
        replica.client.execute_command("REPLICAOF", "NO", "ONE")
        stack.redis.client.execute_command("REPLICAOF", "127.0.0.1", replica.port)
        flow.wait_accepted(100)
    assert set(flow.statuses) <= {202, 503}, flow.statuses
    primary, stack.redis = stack.redis, replica
    try:
        flow.check_all_succeeded()
    finally:
        stack.redis = primary
