"""Updates change what MongoDB's manual says they change."""
import datetime

import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure, WriteError


@pytest.mark.parametrize("before, update, after", [
    ({"a": 1}, {"$set": {"b.c.d": 2}}, {"a": 1, "b": {"c": {"d": 2}}}),
    ({"z": 1, "a": 2}, {"$set": {"z": 3, "y": 1, "b": 2}}, {"z": 3, "a": 2, "b": 2, "y": 1}),
    ({"l": [1]}, {"$set": {"l.3": 9}}, {"l": [1, None, None, 9]}),
    ({"l": [{"x": 1}, {"x": 2}]}, {"$set": {"l.1.x": 5}}, {"l": [{"x": 1}, {"x": 5}]}),
    ({"a": {"b": 1, "c": 2}, "l": [1, 2]}, {"$unset": {"a.b": "", "l.0": "", "no.such": ""}}, {"a": {"c": 2}, "l": [None, 2]}),
    ({"n": 1}, {"$inc": {"n": 2, "m": 5}}, {"n": 3, "m": 5}),
    ({"n": 2**31 - 1}, {"$inc": {"n": 1}}, {"n": Int64(2**31)}),
    ({"n": Int64(1)}, {"$inc": {"n": 1}}, {"n": Int64(2)}),
    ({"n": 1}, {"$inc": {"n": 0.5}}, {"n": 1.5}),
    ({"n": 3}, {"$mul": {"n": 4, "m": 7}}, {"n": 12, "m": 0}),
    ({"a": 5, "b": 5}, {"$min": {"a": 3, "b": 9, "c": 1}}, {"a": 3, "b": 5, "c": 1}),
    ({"a": 5, "b": 5}, {"$max": {"a": 3, "b": 9}}, {"a": 5, "b": 9}),
    ({"d": {"at": 5, "s": "z"}}, {"$max": {"d": {"at": 6, "s": "a"}}}, {"d": {"at": 6, "s": "a"}}),
    ({"d": {"at": 5, "s": "z"}}, {"$max": {"d": {"at": 4, "s": "zz"}}}, {"d": {"at": 5, "s": "z"}}),
    ({"old": 1, "k": 2}, {"$rename": {"old": "new.name", "none": "x"}}, {"k": 2, "new": {"name": 1}}),
    ({"a": 1}, {"$setOnInsert": {"a": 9}}, {"a": 1}),
    ({"l": [1]}, {"$push": {"l": 2, "m": 3}}, {"l": [1, 2], "m": [3]}),
    ({"l": [1]}, {"$push": {"l": [2, 3]}}, {"l": [1, [2, 3]]}),
    ({"l": [5, 1]}, {"$push": {"l": {"$each": [3, 2], "$sort": 1, "$slice": 3}}}, {"l": [1, 2, 3]}),
    ({"l": [1, 2]}, {"$push": {"l": {"$each": [7, 8], "$position": 1}}}, {"l": [1, 7, 8, 2]}),
    ({"l": [1, 2, 3]}, {"$push": {"l": {"$each": [4], "$slice": -2}}}, {"l": [3, 4]}),
    ({"l": [{"s": 2}]}, {"$push": {"l": {"$each": [{"s": 9}, {"s": 1}], "$sort": {"s": -1}}}}, {"l": [{"s": 9}, {"s": 2}, {"s": 1}]}),
    ({"l": [1, 2]}, {"$addToSet": {"l": 2.0}}, {"l": [1, 2]}),
    ({"l": [1]}, {"$addToSet": {"l": {"$each": [2, 1, 2]}}}, {"l": [1, 2]}),
    ({"l": [1, 5, 9]}, {"$pull": {"l": {"$gte": 5}}}, {"l": [1]}),
    ({"l": [1, 5, 1]}, {"$pull": {"l": 1}}, {"l": [5]}),
    ({"l": [{"a": 1, "b": 2}, {"a": 2}, 7]}, {"$pull": {"l": {"a": 1}}}, {"l": [{"a": 2}, 7]}),
    ({"l": [{"a": 1}, {"a": 2}, {"a": 3}, 7]}, {"$pull": {"l": {"$or": [{"a": 1}, {"a": {"$gt": 2}}]}}}, {"l": [{"a": 2}, 7]}),
    ({"l": [{"a": 1}, 7]}, {"$pull": {"l": {"$nor": [{"a": 2}]}}}, {"l": [7]}),
    ({"l": [{"x": None, "k": 1}, {"k": 2}]}, {"$push": {"l": {"$each": [], "$sort": {"x": 1}}}}, {"l": [{"x": None, "k": 1}, {"k": 2}]}),
    ({"l": [1, 2, 3, 2]}, {"$pullAll": {"l": [2, 3]}}, {"l": [1]}),
    ({"l": [1, 2, 3], "m": [1, 2]}, {"$pop": {"l": 1, "m": -1}}, {"l": [1, 2], "m": [2]}),
])
def test_operator(things, before, update, after):
    things.insert_one({"_id": 1, **before})
    result = things.update_one({"_id": 1}, update)
    found = things.find_one()
    assert found == {"_id": 1, **after} and list(found) == ["_id", *after]
    assert [type(v) for v in found.values()][1:] == [type(v) for v in after.values()]
    assert (result.matched_count, result.modified_count) == (1, int(before != after))


@pytest.mark.parametrize("update, code", [
    ({"$set": {"a": 1, "a.b": 2}}, 40),
    ({"$set": {"a": 1}, "$inc": {"a": 1}}, 40),
    ({"$set": {"_id": 2}}, 66),
    ({"$inc": {"s": 1}}, 14),
    ({"$inc": {"n": "x"}}, 14),
    ({"$push": {"n": 1}}, 2),
    ({"$addToSet": {"n": 1}}, 2),
    ({"$pop": {"n": 1}}, 14),
    ({"$pop": {"l": 5}}, 9),
    ({"$set": {"n.x": 1}}, 28),
    ({"$set": {"l.x": 1}}, 28),
    ({"$pull": {"l.x": 1}}, 28),
    ({"$pullAll": {"s.x": [1]}}, 28),
    ({"$pop": {"s.x": 1}}, 28),
    ({"$rename": {"n": "n.m"}}, 2),
    ({"$rename": {"l.0": "m"}}, 2),
    ({"$rename": {"n": "l.0"}}, 2),
    ({"$set": {"": 1}}, 56),
    ({"$set": {"a..b": 1}}, 56),
    ({"$foo": {"a": 1}}, 9),
    ({"$set": 5}, 9),
    ({"$inc": {"big": 1}}, 2),
    ({"$set": {"l.$": 1}}, 2),
    ({"$set": {"l.$[x]": 1}}, 2),
    ({"$inc": {"l.$[]": 1}}, 2),
    ({"$inc": {"n": Decimal128("1")}}, 2),
    ([{"$set": {"a": 1}}], 115),
])
def test_refused_update_changes_nothing(things, update, code):
    document = {"_id": 1, "n": 5, "s": "x", "l": [1, 2], "big": Int64(2**63 - 1)}
    things.insert_one(document)
    with pytest.raises(OperationFailure) as refused:
        things.update_one({"_id": 1}, update)
    assert refused.value.code == code
    assert things.find_one() == document


def test_array_filters_are_refused(things):
    things.insert_one({"_id": 1, "l": [1, 2]})
    with pytest.raises(OperationFailure) as refused:
        things.update_one({}, {"$set": {"a": 1}}, array_filters=[{"x": 1}])
    assert refused.value.code == 115
    with pytest.raises(OperationFailure) as refused:
        things.find_one_and_update({}, {"$set": {"a": 1}}, array_filters=[{"x": 1}])
    assert refused.value.code == 115
    assert things.find_one() == {"_id": 1, "l": [1, 2]}


def test_current_date(things):
    things.update_one({"_id": 1}, {"$currentDate": {"d": True, "t": {"$type": "timestamp"}}}, upsert=True)
    found = things.find_one()
    assert abs(found["d"] - datetime.datetime.utcnow()) < datetime.timedelta(seconds=30)
    assert abs(found["t"].as_datetime().replace(tzinfo=None) - found["d"]) < datetime.timedelta(seconds=30)


def test_upsert_starts_from_the_equalities_of_the_filter(things):
    result = things.update_one({"_id": "k", "a.b": 1, "$and": [{"c": {"$eq": 2}}], "n": {"$gt": 5}, "applied": {"$ne": "x"}},
                               {"$push": {"applied": "x"}, "$setOnInsert": {"new": True}, "$max": {"m": 3}}, upsert=True)
    assert result.upserted_id == "k" and result.matched_count == 0
    assert things.find_one() == {"_id": "k", "a": {"b": 1}, "c": 2, "applied": ["x"], "m": 3, "new": True}
    assert things.replace_one({"q": 5}, {"r": 1}, upsert=True).upserted_id == things.find_one({"r": 1})["_id"]
    assert "q" not in things.find_one({"r": 1})


@pytest.mark.parametrize("query, made", [
    ({"a": {"$in": [5]}}, {"a": 5}),
    ({"a": {"$in": [5, 6]}}, {}),
    ({"a": {"$all": [5]}}, {"a": 5}),
    ({"$or": [{"a": 5, "b": 6}]}, {"a": 5, "b": 6}),
    ({"$or": [{"a": 5}, {"b": 6}]}, {}),
    ({"$nor": [{"a": 5}]}, {}),
])
def test_upsert_takes_what_can_only_be_equal(things, query, made):
    things.update_one(query, {"$set": {"x": 1}}, upsert=True)
    assert things.find_one({}, {"_id": 0}) == {**made, "x": 1}
    things.update_one({"_id": {"$in": ["k"]}}, {"$set": {"x": 1}}, upsert=True)
    assert things.find_one({"_id": "k"})


def test_guarded_upsert_tells_by_its_duplicate_key_that_it_was_applied(things):
    update = {"$push": {"applied": "k1"}, "$inc": {"n": 1}}
    things.update_one({"_id": 1, "applied": {"$ne": "k1"}}, update, upsert=True)
    with pytest.raises(DuplicateKeyError):
        things.update_one({"_id": 1, "applied": {"$ne": "k1"}}, update, upsert=True)
    assert things.find_one() == {"_id": 1, "applied": ["k1"], "n": 1}


def test_replacement_keeps_the_id(things):
    things.insert_one({"_id": 1, "a": 1})
    things.replace_one({"a": 1}, {"b": 2})
    assert things.find_one() == {"_id": 1, "b": 2}
    with pytest.raises(WriteError) as refused:
        things.replace_one({"_id": 1}, {"_id": 2})
    assert refused.value.code == 66


def test_update_many_counts_what_changed(things):
    things.insert_many({"_id": n, "v": n % 2} for n in range(10))
    result = things.update_many({"_id": {"$lt": 8}}, {"$set": {"v": 1}})
    assert (result.matched_count, result.modified_count) == (8, 4)


def test_update_many_does_not_meet_its_own_results(things):
    things.create_index("v")
    things.insert_many({"v": n} for n in range(100))
    things.update_many({"v": {"$gte": 0}}, {"$inc": {"v": 50}})
    assert sorted(d["v"] for d in things.find()) == list(range(50, 150))


def test_find_and_modify(db, things):
    things.insert_many({"_id": n, "v": n} for n in range(4))
    assert things.find_one_and_update({"v": {"$gt": 0}}, {"$set": {"won": 1}}, sort=[("v", -1)]) == {"_id": 3, "v": 3}
    assert things.find_one_and_update({"_id": 3}, {"$inc": {"v": 1}}, {"v": 1, "_id": 0},
                                      return_document=ReturnDocument.AFTER) == {"v": 4}
    assert things.find_one_and_delete({}, sort=[("v", 1)]) == {"_id": 0, "v": 0}
    assert things.find_one_and_update({"_id": 9}, {"$set": {"a": 1}}) is None
    answer = db.command("findAndModify", "things", query={"_id": 9}, update={"$set": {"a": 1}}, upsert=True, new=True)
    assert answer["lastErrorObject"] == {"n": 1, "updatedExisting": False, "upserted": 9}
    assert answer["value"] == {"_id": 9, "a": 1}
    answer = db.command("findAndModify", "things", query={"_id": 9}, remove=True)
    assert answer["lastErrorObject"] == {"n": 1} and answer["value"] == {"_id": 9, "a": 1}
    with pytest.raises(OperationFailure) as refused:
        db.command("findAndModify", "things", remove=True, update={})
    assert refused.value.code == 9
