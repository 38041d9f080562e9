"""Queries with an index do not look at the rest of the collection."""
import pytest
from pymongo.errors import OperationFailure

SIZE = 3000


@pytest.fixture(scope="module")
def many(client):
    collection = client.t_index.many
    collection.insert_many({"_id": n, "status": f"s{n % 100}", "at": n, "tags": [n % 500, -1], "deep": {"k": n}}
                           for n in range(SIZE))
    collection.create_index([("status", 1), ("at", -1)])
    collection.create_index("tags")
    collection.create_index("deep.k")
    yield collection
    client.drop_database("t_index")


@pytest.mark.parametrize("query, sort, expected, most", [
    ({"_id": 17}, None, [17], 1),
    ({"_id": {"$in": [5, 3, 9999]}}, None, [3, 5], 2),
    ({"_id": {"$gte": 10, "$lt": 13}}, None, [10, 11, 12], 4),
    ({"status": "s7", "at": {"$lt": 300}}, None, [7, 107, 207], 3),
    ({"status": "s7", "at": {"$gt": 100, "$lte": 207}}, [("at", -1)], [207, 107], 2),
    ({"status": {"$in": ["s1", "s2"]}, "at": {"$lt": 150}}, None, [1, 2, 101, 102], 60),
    ({"tags": 44}, None, [44 + 500 * n for n in range(6)], 6),
    ({"deep.k": 8}, None, [8], 1),
    ({"deep.k": {"$gt": 2996}}, [("deep.k", -1)], [2999, 2998, 2997], 4),
    ({"$and": [{"status": "s9"}, {"at": 9}]}, None, [9], 1),
    ({"_id": 4, "status": "other"}, None, [], 1),
])
def test_documents_examined(many, examined, query, sort, expected, most):
    found = []
    looked_at = examined(lambda: found.extend(d["_id"] for d in many.find(query, sort=sort)))
    assert (found if sort else sorted(found)) == expected
    assert looked_at <= most


def test_sort_by_an_index_stops_at_the_limit(many, examined):
    assert examined(lambda: list(many.find().sort("deep.k", -1).limit(5))) <= 6
    assert examined(lambda: list(many.find({"status": "s1"}).sort("at", 1).limit(2))) <= 3


def test_writes_by_index_look_at_what_they_change(many, examined):
    assert examined(lambda: many.update_many({"status": "s5"}, {"$set": {"x": 1}})) <= SIZE / 100
    assert examined(lambda: many.find_one_and_update({"status": "s6"}, {"$set": {"x": 1}}, sort=[("at", -1)])) == 1
    assert examined(lambda: many.delete_one({"deep.k": 2222})) == 1
    assert many.count_documents({"deep.k": 2222}) == 0


def test_index_follows_updates(things):
    things.create_index("v")
    things.insert_one({"_id": 1, "v": 1})
    things.update_one({"_id": 1}, {"$set": {"v": [2, 3]}})
    assert things.find_one({"v": 1}) is None
    assert things.find_one({"v": 2}) == things.find_one({"v": 3}) == {"_id": 1, "v": [2, 3]}
    things.update_one({"_id": 1}, {"$unset": {"v": 1}})
    assert things.find_one({"v": {"$in": [2, 3]}}) is None and things.find_one({"v": None}) == {"_id": 1}


def test_hint(many, examined):
    assert examined(lambda: list(many.find({"deep.k": 8}, hint="_id_"))) > 2000
    assert examined(lambda: list(many.find({"deep.k": 8}, hint=[("deep.k", 1)]))) == 1
    with pytest.raises(OperationFailure) as refused:
        list(many.find({}, hint="no_such"))
    assert refused.value.code == 2


def test_index_life(things):
    with pytest.raises(OperationFailure) as missing:
        things.database.command("listIndexes", "things")
    assert missing.value.code == 26
    assert things.create_index([("a", 1), ("b", -1)], unique=True) == "a_1_b_-1"
    assert things.create_index([("a", 1), ("b", -1)], unique=True) == "a_1_b_-1"
    info = things.index_information()
    assert info["a_1_b_-1"] == {"v": 2, "key": [("a", 1), ("b", -1)], "unique": True}
    for spec, options, code in ([("a", 1), ("b", -1)], {}, 86), ([("a", 1), ("b", -1)], {"name": "x"}, 85), \
            ([("c", "text")], {}, 67), ([("c", 1)], {"expireAfterSeconds": 5}, 115):
        with pytest.raises(OperationFailure) as refused:
            things.create_index(spec, **options)
        assert refused.value.code == code
    things.drop_index("a_1_b_-1")
    assert list(things.index_information()) == ["_id_"]
    with pytest.raises(OperationFailure) as gone:
        things.drop_index("a_1_b_-1")
    assert gone.value.code == 27
    things.insert_many([{"a": [1, 2], "b": [3]}])
    with pytest.raises(OperationFailure) as parallel:
        things.create_index([("a", 1), ("b", 1)])
    assert parallel.value.code == 171
