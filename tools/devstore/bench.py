#!/usr/bin/python3
"""Measures a running waybill-devstore: bench.py PORT [--seconds 3] [--clients 1]

Prints operations a second, and the server's CPU time an operation, for the writes that the worker makes.
"""
import argparse
import os
import random
import threading
import time

import pymongo
from pymongo import InsertOne, UpdateOne

BULK = 64
CLOCK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


def document(number):
    return {"_id": f"demo/evt-{number:08d}", "status": "processing", "claim": {"token": f"t{number}", "by": "w1"},
            "n": 0, "body": "x" * 200, "attempts": [{"number": 1, "worker": "w1", "outcome": "succeeded"}]}


def measure(name, port, pid, seconds, clients, make):
    """Runs bulks made by make(random) from several clients for a while."""
    counts = [0] * clients

    def run(slot):
        rng = random.Random(slot)
        collection = pymongo.MongoClient("127.0.0.1", port).bench.events
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            collection.bulk_write(make(rng), ordered=False)
            counts[slot] += BULK

    before, start = cpu_seconds(pid), time.monotonic()
    threads = [threading.Thread(target=run, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = sum(counts) / (time.monotonic() - start)
    cpu = (cpu_seconds(pid) - before) / sum(counts) * 1e6
    print(f"{name:44s} {rate:9.0f} a second {cpu:7.1f} us of server CPU each", flush=True)
    return rate


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--clients", type=int, default=1)
    options = parser.parse_args()
    client = pymongo.MongoClient("127.0.0.1", options.port)
    pid = client.admin.command("serverStatus")["pid"]
    run = (options.port, pid, options.seconds, options.clients)
    serial = iter(range(10**9, 2 * 10**9))
    rates = {}
    for size in (1000, 100000):
        client.drop_database("bench")
        for start in range(0, size, 1000):
            client.bench.events.insert_many([document(n) for n in range(start, start + 1000)])
        rates[size] = measure(f"updateOne by _id, {size} documents", *run, lambda rng: [
            UpdateOne({"_id": f"demo/evt-{rng.randrange(size):08d}"}, {"$inc": {"n": 1}, "$set": {"status": "succeeded"}})
            for _ in range(BULK)])
    print(f"{'1,000 to 100,000 documents: factor':44s} {rates[1000] / rates[100000]:9.2f}")
    measure("updateOne by _id and claim.token, 100000", *run, lambda rng: [
        UpdateOne({"_id": f"demo/evt-{n:08d}", "claim.token": f"t{n}"}, {"$inc": {"n": 1}})
        for n in (rng.randrange(100000) for _ in range(BULK))])
    measure("insert", *run, lambda rng: [InsertOne(document(next(serial))) for _ in range(BULK)])
    measure("guarded upsert", *run, lambda rng: [
        UpdateOne({"_id": f"parcel-{rng.randrange(20000)}", "applied": {"$ne": f"k{next(serial)}"}},
                  {"$push": {"applied": {"$each": [f"k{next(serial)}"], "$slice": -20}}, "$setOnInsert": {"created": 1},
                   "$max": {"latest": {"at": rng.random(), "status": "in_transit"}}}, upsert=True)
        for _ in range(BULK)])


if __name__ == "__main__":
    main()
