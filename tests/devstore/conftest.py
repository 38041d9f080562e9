"""A server for the whole session, one for a test alone, and databases that go with their test."""
import pytest
from devstore_process import Devstore


@pytest.fixture(scope="session")
def devstore(tmp_path_factory):
    store = Devstore(tmp_path_factory.mktemp("devstore") / "data.sqlite").start()
    yield store
    assert store.stop() == 0


@pytest.fixture
def own_devstore(tmp_path):
    """A server of the test's own, to be killed or configured."""
    store = Devstore(tmp_path / "data.sqlite").start()
    yield store
    if store.process.poll() is None:
        store.stop()


@pytest.fixture(scope="session")
def client(devstore):
    return devstore.client()


@pytest.fixture
def db(client, request):
    name = "t_" + "".join(c if c.isalnum() else "_" for c in request.node.name)[:50]
    yield client[name]
    client.drop_database(name)


@pytest.fixture
def things(db):
    return db.things


@pytest.fixture
def examined(client):
    """How many documents the server looks at while a function runs."""
    def count(function):
        def status():
            return client.admin.command("serverStatus")["devstore"]["docsExamined"]
        before = status()
        function()
        return status() - before
    return count
