"""Filters find what MongoDB's manual says they find."""
import datetime
import re

import bson
import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from pymongo.errors import OperationFailure

DOCUMENTS = [
    {"_id": 1, "n": 5, "s": "Apple", "tags": ["red", "round"], "at": {"city": "Berlin"}},
    {"_id": 2, "n": 10.5, "s": "banana", "tags": ["yellow"], "items": [{"sku": "a", "qty": 1}, {"sku": "b", "qty": 9}]},
    {"_id": 3, "n": Int64(7), "s": None, "tags": [], "items": [{"sku": "a", "qty": 9}]},
    {"_id": 4, "n": "5", "grid": [[1, 2], [3]], "tags": "red"},
    {"_id": 5, "n": float("nan"), "scores": [1, 20]},
    {"_id": 6, "n": [4, 6], "at": [{"city": "Oslo"}, {"city": "Rom"}, 3]},
]


@pytest.fixture(scope="module")
def fruit(client):
    collection = client.t_query.fruit
    collection.insert_many(DOCUMENTS)
    yield collection
    client.drop_database("t_query")


@pytest.mark.parametrize("query, ids", [
    ({"n": 5}, [1]),
    ({"n": 7.0}, [3]),
    ({"n": {"$gt": 5}}, [2, 3, 6]),
    ({"n": {"$gte": 5, "$lt": 10.5}}, [1, 3, 6]),
    ({"n": {"$lt": 5}}, [6]),
    ({"n": {"$gt": 4, "$lt": 6}}, [1, 6]),
    ({"n": float("nan")}, [5]),
    ({"n": {"$lte": float("nan")}}, [5]),
    ({"n": {"$ne": 4}}, [1, 2, 3, 4, 5]),
    ({"n": {"$in": [5, "5", 6]}}, [1, 4, 6]),
    ({"n": {"$nin": [5, "5", 6]}}, [2, 3, 5]),
    ({"n": [4, 6]}, [6]),
    ({"n": {"$type": "string"}}, [4]),
    ({"n": {"$type": "number"}}, [1, 2, 3, 5, 6]),
    ({"n": {"$type": ["array", "long"]}}, [3, 6]),
    ({"n": {"$type": ["number", "long", 18]}}, [1, 2, 3, 5, 6]),
    ({"n": {"$mod": [5, 0]}}, [1, 2]),
    ({"s": None}, [3, 4, 5, 6]),
    ({"s": {"$exists": False}}, [4, 5, 6]),
    ({"s": {"$exists": True, "$ne": None}}, [1, 2]),
    ({"s": re.compile("^a", re.I)}, [1]),
    ({"s": {"$regex": "AN", "$options": "i"}}, [2]),
    ({"s": {"$not": re.compile("a")}}, [1, 3, 4, 5, 6]),
    ({"s": {"$in": [re.compile("^b"), "Apple"]}}, [1, 2]),
    ({"tags": "red"}, [1, 4]),
    ({"tags": {"$all": ["round", "red"]}}, [1]),
    ({"tags": {"$size": 0}}, [3]),
    ({"tags": []}, [3]),
    ({"tags.0": "red"}, [1]),
    ({"at.city": "Berlin"}, [1]),
    ({"at.city": {"$in": ["Rom", "Paris"]}}, [6]),
    ({"at.1.city": "Rom"}, [6]),
    ({"at.city": None}, [2, 3, 4, 5]),
    ({"items.sku": "b"}, [2]),
    ({"items.sku": "a", "items.qty": 9}, [2, 3]),
    ({"items": {"$elemMatch": {"sku": "a", "qty": 9}}}, [3]),
    ({"items": {"$not": {"$elemMatch": {"sku": "a", "qty": 9}}}}, [1, 2, 4, 5, 6]),
    ({"scores": {"$gt": 5, "$lt": 10}}, [5]),
    ({"scores": {"$elemMatch": {"$gt": 5, "$lt": 10}}}, []),
    ({"grid": [3]}, [4]),
    ({"grid.0.1": 2}, [4]),
    ({"at": {"city": "Berlin"}}, [1]),
    ({"$or": [{"n": 5}, {"tags": "yellow"}]}, [1, 2]),
    ({"$nor": [{"n": {"$exists": True}}]}, []),
    ({"$and": [{"n": {"$gt": 1}}, {"$or": [{"s": "Apple"}, {"s": None}]}]}, [1, 3, 6]),
    ({"_id": {"$gt": 2, "$lte": 4}}, [3, 4]),
    ({"_id": {"$in": [6, 1, 99, 1]}}, [1, 6]),
    ({"_id": {"$gt": MinKey(), "$lt": MaxKey()}}, [1, 2, 3, 4, 5, 6]),
    ({"$comment": "nothing to see", "n": 5}, [1]),
])
def test_filter(fruit, query, ids):
    assert sorted(d["_id"] for d in fruit.find(query)) == ids


@pytest.mark.parametrize("query, code", [
    ({"n": {"$foo": 1}}, 2),
    ({"$foo": 1}, 2),
    ({"n": {"$in": 5}}, 2),
    ({"n": {"$regex": "("}}, 51091),
    ({"n": {"$mod": [0, 1]}}, 2),
    ({"n": {"$type": "fruit"}}, 2),
    ({"n": {"$size": -1}}, 2),
    ({"$or": []}, 2),
    ({"n": {"$not": 5}}, 2),
    ({"$where": "true"}, 2),
    ({"$expr": {"$eq": ["$s", "$at.city"]}}, 2),
])
def test_bad_filter_is_refused_even_when_nothing_is_stored(db, query, code):
    with pytest.raises(OperationFailure) as refused:
        list(db.nothing.find(query))
    assert refused.value.code == code


IN_ORDER = [MinKey(), None, float("nan"), -float("inf"), -5, -0.5, 0, Decimal128("0.25"), 1, Int64(2**53), Int64(2**53 + 1),
            float(2**53 + 2), Int64(2**63 - 1), 1e300, "", "a", "a\0b", "ab", "b", {}, {"a": 1}, {"a": 2}, {"b": 1},
            b"a", b"b", b"aa", bson.ObjectId("0" * 24), bson.ObjectId("f" * 24), False, True,
            datetime.datetime(1969, 1, 1), datetime.datetime(2024, 1, 1), bson.Timestamp(1, 1), bson.Timestamp(1, 2),
            bson.Regex("a"), bson.Regex("b"), MaxKey()]


def test_types_sort_in_bson_order_with_and_without_an_index(things):
    things.insert_many({"_id": n, "v": v} for n, v in reversed(list(enumerate(IN_ORDER))))
    expected = list(range(len(IN_ORDER)))
    assert [d["_id"] for d in things.find().sort("v", 1)] == expected
    things.create_index("v")
    assert [d["_id"] for d in things.find().sort("v", 1)] == expected
    assert [d["_id"] for d in things.find().sort("v", -1)] == expected[::-1]
    for n, value in enumerate(IN_ORDER):
        if not isinstance(value, (bson.Regex, type(None))):
            assert [d["_id"] for d in things.find({"v": {"$eq": value}})] == [n], value


def test_every_type_comes_back_as_it_was_and_is_an_id(things):
    for value in IN_ORDER:
        if isinstance(value, bson.Regex):
            continue
        things.insert_one({"_id": value, "v": value})
        found = things.find_one({"_id": value})
        assert repr(found["v"]) == repr(value) and type(found["_id"]) is type(value)


def test_sort_by_arrays_uses_least_or_greatest_element(things):
    things.insert_many([{"_id": 1, "v": [3, 9]}, {"_id": 2, "v": 4}, {"_id": 3, "v": [1, 5]}, {"_id": 4}])
    assert [d["_id"] for d in things.find().sort("v", 1)] == [4, 3, 1, 2]
    assert [d["_id"] for d in things.find().sort("v", -1)] == [1, 3, 2, 4]
    things.create_index("v")
    assert [d["_id"] for d in things.find().sort("v", 1)] == [4, 3, 1, 2]
    assert [d["_id"] for d in things.find({"v": {"$gte": 4, "$lte": 5}})] == [1, 2, 3]


@pytest.mark.parametrize("projection, shown", [
    ({"a": 1}, {"_id": 1, "a": 1}),
    ({"a": 1, "_id": 0}, {"a": 1}),
    ({"b": 0}, {"_id": 1, "a": 1, "l": [{"x": 1, "y": 2}, {"x": 3}, 4]}),
    ({"_id": 0}, {"a": 1, "b": {"c": 2, "d": 3}, "l": [{"x": 1, "y": 2}, {"x": 3}, 4]}),
    ({"_id": 1}, {"_id": 1}),
    ({"b.c": 1}, {"_id": 1, "b": {"c": 2}}),
    ({"b.c": 0, "l": 0}, {"_id": 1, "a": 1, "b": {"d": 3}}),
    ({"l.x": 1, "_id": 0}, {"l": [{"x": 1}, {"x": 3}]}),
    ({"l.x": 0, "_id": 0, "a": 0, "b": 0}, {"l": [{"y": 2}, {}, 4]}),
    ({"_id": 0, "copy": "$b.d"}, {"copy": 3}),
    ({"_id": 0, "b": {"c": 1}}, {"b": {"c": 2}}),
    ({"_id": 0, "b": {"c": 0}, "l": {"x": 0}}, {"a": 1, "b": {"d": 3}, "l": [{"y": 2}, {}, 4]}),
    ({"_id": 0, "b": {"c": 1, "e": "$a"}, "new.at": "$b.d"}, {"b": {"c": 2, "e": 1}, "new": {"at": 3}}),
    ({"_id": 0, "list": ["$a", "$none", 7]}, {"list": [1, None, 7]}),
])
def test_projection(things, projection, shown):
    things.insert_one({"_id": 1, "a": 1, "b": {"c": 2, "d": 3}, "l": [{"x": 1, "y": 2}, {"x": 3}, 4]})
    assert things.find_one({}, projection) == shown


@pytest.mark.parametrize("stage, code", [
    ({"$project": bson.SON([("a", 1), ("b", 0)])}, 31254), ({"$project": bson.SON([("a", 1), ("a.b", 1)])}, 31249),
    ({"$project": bson.SON([("a.b", 1), ("a", 1)])}, 31250), ({"$project": {"a": {}}}, 51270), ({"$project": {"a..b": 1}}, 56),
    ({"$group": {"_id": 1, "n": {"$sum": 1, "$max": 2}}}, 40238), ({"$group": {"_id": 1, "a.b": {"$sum": 1}}}, 40235),
    ({"$group": 5}, 15947), ({"$sort": 5}, 15973), ({"$skip": -1}, 5107200), ({"$limit": -1}, 5107201), ({"$limit": 0}, 15958),
])
def test_stage_that_cannot_be_is_refused(things, stage, code):
    with pytest.raises(OperationFailure) as refused:
        things.aggregate([stage])
    assert refused.value.code == code


def test_cursor_goes_on_where_it_was_while_others_write(things):
    things.insert_many({"_id": n, "k": n % 7} for n in range(500))
    things.create_index("k")
    for sort, query in (None, {}), (("_id", -1), {}), (("k", 1), {"k": {"$gte": 2}}), (("x", 1), {}):
        cursor = things.find(query, batch_size=20)
        cursor = cursor.sort(*sort) if sort else cursor
        seen = []
        for document in cursor:
            seen.append(document["_id"])
            if len(seen) % 50 == 0:
                things.update_one({"_id": document["_id"]}, {"$inc": {"touched": 1}})
        assert len(seen) == len(set(seen)) == things.count_documents(query)


def test_killed_cursor_is_gone(db, things):
    things.insert_many({"_id": n} for n in range(300))
    cursor = db.command("find", "things", batchSize=10)["cursor"]
    assert db.command("killCursors", "things", cursors=[cursor["id"], 1])["cursorsNotFound"] == [1]
    with pytest.raises(OperationFailure) as gone:
        db.command("getMore", cursor["id"], collection="things")
    assert gone.value.code == 43


def test_limit_skip_and_count(things):
    things.insert_many({"_id": n} for n in range(30))
    assert [d["_id"] for d in things.find().sort("_id", 1).skip(5).limit(3)] == [5, 6, 7]
    assert [d["_id"] for d in things.find().limit(-2)] == [0, 1]
    assert things.count_documents({"_id": {"$gte": 10}}, skip=5, limit=100) == 15
    assert things.estimated_document_count() == 30


def test_aggregate(things):
    things.insert_many([{"_id": 1, "k": "a", "v": 1}, {"_id": 2, "k": "b", "v": 5}, {"_id": 3, "k": "a", "v": 2.5}])
    grouped = things.aggregate([
        {"$match": {"v": {"$gt": 0}}}, {"$sort": {"v": 1}},
        {"$group": {"_id": "$k", "n": {"$sum": 1}, "sum": {"$sum": "$v"}, "avg": {"$avg": "$v"}, "min": {"$min": "$v"},
                    "max": {"$max": "$v"}, "first": {"$first": "$_id"}, "last": {"$last": "$_id"},
                    "all": {"$push": "$v"}, "set": {"$addToSet": "$k"}}}, {"$sort": {"_id": 1}}])
    assert list(grouped) == [
        {"_id": "a", "n": 2, "sum": 3.5, "avg": 1.75, "min": 1, "max": 2.5, "first": 1, "last": 3, "all": [1, 2.5],
         "set": ["a"]},
        {"_id": "b", "n": 1, "sum": 5, "avg": 5.0, "min": 5, "max": 5, "first": 2, "last": 2, "all": [5], "set": ["b"]}]
    assert list(things.aggregate([{"$sort": {"_id": -1}}, {"$skip": 1}, {"$limit": 1}, {"$project": {"k": 1}}])) == [
        {"_id": 2, "k": "b"}]
    assert list(things.aggregate([{"$count": "total"}])) == [{"total": 3}]
    with pytest.raises(OperationFailure) as refused:
        things.aggregate([{"$lookup": {}}])
    assert refused.value.code == 40324


def test_distinct_takes_arrays_apart(things):
    things.insert_many([{"v": [1, 2]}, {"v": 2.0}, {"v": "x"}, {}])
    assert things.distinct("v") == [1, 2, "x"]
    assert things.distinct("v", {"v": 1}) == [1, 2]
