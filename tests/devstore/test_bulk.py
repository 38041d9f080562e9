"""Bulks report exact indexes, counts and codes; racing writers have one winner."""
import threading

import pytest
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure


def failed(things, operations, ordered):
    with pytest.raises(BulkWriteError) as raised:
        things.bulk_write(operations, ordered=ordered)
    return raised.value.details


def test_ordered_bulk_stops_at_its_first_error(things):
    things.insert_one({"_id": 2})
    details = failed(things, [InsertOne({"_id": 1}), InsertOne({"_id": 2}), InsertOne({"_id": 3})], True)
    assert details["nInserted"] == 1 and things.count_documents({}) == 2
    (error,) = details["writeErrors"]
    assert (error["index"], error["code"]) == (1, 11000)
    assert error["keyPattern"] == {"_id": 1} and error["keyValue"] == {"_id": 2}
    assert error["errmsg"] == (f"E11000 duplicate key error collection: {things.full_name} index: _id_ dup key: "
                               "{ _id: 2 }")


def test_unordered_bulk_does_all_the_rest(things):
    things.insert_many([{"_id": 1, "s": "x"}, {"_id": 2, "n": 1}])
    details = failed(things, [UpdateOne({"_id": 1}, {"$inc": {"s": 1}}), UpdateOne({"_id": 2}, {"$inc": {"n": 1}}),
                              UpdateOne({"_id": 3}, {"$set": {"a": 1}}, upsert=True),
                              UpdateOne({"_id": 2}, {"$set": {"_id": 5}}), UpdateOne({"_id": 9}, {"$set": {"a": 1}}),
                              UpdateOne({"_id": 4}, {"$set": {"a": 1}}, upsert=True)], False)
    assert [(e["index"], e["code"]) for e in details["writeErrors"]] == [(0, 14), (3, 66)]
    assert [(u["index"], u["_id"]) for u in details["upserted"]] == [(2, 3), (5, 4)]
    assert (details["nMatched"], details["nModified"], details["nUpserted"]) == (1, 1, 2)


def test_mixed_bulk(things):
    things.insert_many({"_id": n, "v": n} for n in range(6))
    result = things.bulk_write([
        InsertOne({"_id": 9}), UpdateMany({"v": {"$gte": 3}}, {"$set": {"big": True}}), UpdateOne({"_id": 0}, {"$set": {"v": 0}}),
        ReplaceOne({"_id": 1}, {"r": 1}), DeleteOne({"v": {"$gte": 4}}), DeleteMany({"_id": {"$in": [2, 5, 77]}})])
    assert (result.inserted_count, result.matched_count, result.modified_count, result.deleted_count) == (1, 5, 4, 3)
    assert sorted(d["_id"] for d in things.find()) == [0, 1, 3, 9]


def test_bulk_of_thousands(things):
    things.insert_many({"_id": n} for n in range(20000))
    result = things.bulk_write([UpdateOne({"_id": n}, {"$set": {"v": n}}) for n in range(20000)], ordered=False)
    assert result.modified_count == 20000


def test_malformed_statement_fails_the_command_before_anything_is_written(db, things):
    with pytest.raises(OperationFailure) as refused:
        db.command("update", "things", updates=[{"q": {"_id": 1}, "u": {"$set": {"a": 1}}, "upsert": True},
                                                {"q": {}, "u": {"$set": {"a": 1}}, "colour": "red"}])
    assert refused.value.code == 40415 and things.count_documents({}) == 0


def test_unique_index_holds_for_inserts_updates_and_upserts(things):
    things.create_index([("a", 1), ("b", 1)], unique=True)
    things.insert_many([{"_id": 1, "a": 1, "b": 1}, {"_id": 2, "a": 1, "b": 2}])
    for write in (lambda: things.insert_one({"a": 1.0, "b": 2}),
                  lambda: things.update_one({"_id": 1}, {"$set": {"b": 2}}),
                  lambda: things.update_one({"_id": 3}, {"$set": {"a": 1, "b": 1}}, upsert=True)):
        with pytest.raises(DuplicateKeyError) as refused:
            write()
        assert refused.value.details["keyPattern"] == {"a": 1, "b": 1}
    assert things.count_documents({}) == 2 and things.find_one({"_id": 1})["b"] == 1
    things.delete_one({"_id": 2})
    things.update_one({"_id": 1}, {"$set": {"b": 2}})
    things.insert_many([{"_id": 5, "a": 5, "c": 1}, {"_id": 6, "a": 6, "c": 1}])
    with pytest.raises(DuplicateKeyError):
        things.create_index("c", unique=True)
    assert list(things.index_information()) == ["_id_", "a_1_b_1"]


def race(devstore, clients, attempt):
    """Runs attempt(client number, collection) from several connections at once."""
    barrier, won = threading.Barrier(clients), []

    def run(number, collection):
        barrier.wait()
        if attempt(number, collection):
            won.append(number)

    threads = [threading.Thread(target=run, args=(n, devstore.client().race.things)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_conditional_update_has_one_winner_a_round(devstore, client):
    things, rounds, wins = client.race.things, 100, [[] for _ in range(100)]
    things.drop()
    things.insert_many({"_id": n, "owner": None} for n in range(rounds))

    def attempt(number, collection):
        for n in range(rounds):
            if n % 2:
                won = collection.update_one({"_id": n, "owner": None}, {"$set": {"owner": number}}).modified_count
            else:
                won = collection.find_one_and_update({"_id": n, "owner": None}, {"$set": {"owner": number}})
            if won:
                wins[n].append(number)

    race(devstore, 8, attempt)
    assert [len(w) for w in wins] == [1] * rounds
    assert [d["owner"] for d in things.find().sort("_id", 1)] == [w[0] for w in wins]
    client.drop_database("race")


def test_increments_and_inserts_from_many_connections_are_all_there(devstore, client):
    client.race.things.insert_one({"_id": "sum", "n": 0})

    def attempt(number, collection):
        for n in range(100):
            collection.update_one({"_id": "sum"}, {"$inc": {"n": 1}})
            collection.insert_one({"_id": f"{number}-{n}"})

    race(devstore, 8, attempt)
    assert client.race.things.find_one({"_id": "sum"})["n"] == 800
    assert client.race.things.count_documents({}) == 801
    client.drop_database("race")
