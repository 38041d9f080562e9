"""Everything that is broken on purpose. Each fault is a function of (world, random): it breaks, waits, and mends again.

A part has at most one fault at a time (its lock); parts break independently of each other."""

import contextlib
import os
import shutil
import socket
import time

from tests.lib.process import ROOT


def kill_ingest(world, rng):
    with world.part("ingest"):
        world.ingest.kill()
        time.sleep(rng.uniform(0, 1))
        world.start_again(world.ingest, "ingest")


def kill_worker(world, rng):
    worker = rng.choice(world.workers)
    with world.part(worker.name):
        pid = worker.pid
        worker.kill()
        world.watch_orphans(pid)
        time.sleep(rng.uniform(0, 1))
        world.start_again(worker, "worker")


def kill_redis(world, rng):
    with world.part("redis"):
        world.redis.kill()
        time.sleep(rng.uniform(0, 1.5))
        world.start_again(world.redis, "redis")


def kill_store(world, rng):
    with world.part("store"):
        world.store.kill()
        time.sleep(rng.uniform(0, 1.5))
        world.start_again(world.store.process, "store")


def zombie(world, rng):
    """A worker stalls for longer than its lease, and wakes up when others have its events."""
    worker = rng.choice(world.workers)
    with world.part(worker.name):
        worker.pause()
        time.sleep(world.lease_s + rng.uniform(0.2, 2))
        worker.resume()


def drain_worker(world, rng):
    worker = rng.choice(world.workers)
    with world.part(worker.name):
        worker.stop(30)
        world.start_again(worker, "worker")


def drain_ingest(world, _rng):
    with world.part("ingest"):
        world.ingest.stop(30)
        world.start_again(world.ingest, "ingest")


def freeze_redis(world, rng):
    with world.part("redis"):
        world.redis.pause()
        time.sleep(rng.uniform(0.2, 3))
        world.redis.resume()


def freeze_store(world, rng):
    with world.part("store"):
        world.store.pause()
        time.sleep(rng.uniform(0.2, 3))
        world.store.resume()


def cut_link(world, rng):
    link = rng.choice(list(world.proxy.links))
    with world.part(f"link {link}"):
        world.proxy.cut(link)
        time.sleep(rng.uniform(0.05, 2))
        world.proxy.mend(link)


def slow_link(world, rng):
    link = rng.choice(list(world.proxy.links))
    with world.part(f"link {link}"):
        kind, attributes = rng.choice([
            ("latency", {"latency": rng.randint(5, 300), "jitter": rng.randint(0, 50)}),
            ("slicer", {"average_size": 64, "size_variation": 32, "delay": 200}),
            ("timeout", {"timeout": 0}),
        ])
        world.proxy.add_toxic(link, kind, **attributes)
        time.sleep(rng.uniform(0.2, 2))
        world.proxy.remove_toxic(link, kind)


def store_fails(world, rng):
    """The store answers with errors, closes in the middle, or takes its time."""
    with world.part("store"):
        commands = rng.choice([("insert",), ("update",), ("find",), ("insert", "update", "find")])
        how = rng.choice([{"error_code": 91}, {"error_code": 11600}, {"close_connection": True},
                          {"block_ms": rng.randint(50, 800)}])
        world.store.fail(commands, "alwaysOn", **how)
        time.sleep(rng.uniform(0.1, 1.5))
        world.store.heal()


def garbage(world, rng):
    """A stranger connects and sends noise, half of a request, or nothing."""
    noise = rng.choice([rng.randbytes(rng.randint(1, 5000)), b"POST /v1/events/demo HTTP/1.1\r\ncontent-length: 99999\r\n\r\n{",
                        b"\x16\x03\x01" + rng.randbytes(200), b"GET / HTTP/9.9\r\n\r\n", b""])
    port = rng.choice([world.ingest.port, world.ingest.admin_port, world.store.port, world.redis.port])
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as stranger:
        stranger.settimeout(1)
        if port != world.redis.port:  # Redis would take a command that the noise may be
            stranger.sendall(noise)
        stranger.recv(1000)


def reload_good(world, rng):
    with world.part("scripts"):
        text = (ROOT / "scripts/process.lua").read_text() + f"\n-- edition {rng.getrandbits(32)}\n"
        replace(world.scripts / "process.lua", text)
        world.hup()


def reload_broken(world, rng):
    """A reload that fails must leave the running scripts; the good file is back at once, as a started process reads it."""
    with world.part("scripts"), world.part("ingest"), contextlib.ExitStack() as parts:
        for worker in world.workers:
            parts.enter_context(world.part(worker.name))
        broken = rng.choice(["return function(", "error('no')", "return 7", "while true do end", "return nonsense.field"])
        name = rng.choice(["process.lua", "validate.lua", "retry_policy.lua"])
        replace(world.scripts / name, broken)
        world.hup()
        time.sleep(rng.uniform(0.2, 1))
        replace(world.scripts / name, (ROOT / "scripts" / name).read_text())


def replace(path, text):
    """As an editor does it: another file, renamed into place."""
    aside = path.with_suffix(".new")
    aside.write_text(text)
    shutil.copymode(path, aside)
    os.replace(aside, path)


# fault: weight
FAULTS = {
    kill_ingest: 3, kill_worker: 4, kill_redis: 3, kill_store: 3, zombie: 2, drain_worker: 2, drain_ingest: 1,
    freeze_redis: 1, freeze_store: 1, cut_link: 4, slow_link: 3, store_fails: 3, garbage: 3, reload_good: 2, reload_broken: 1,
}
