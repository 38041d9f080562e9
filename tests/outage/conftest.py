"""The fixtures of the system tests, and relays."""

import contextlib

import pytest
from system.conftest import make_stack, own_store, pytest_runtest_makereport  # noqa: F401 (fixtures and a hook)

from relay import Relay


@pytest.fixture
def relay_to():
    """Makes relays: relay_to(port of a server) -> Relay."""
    with contextlib.ExitStack() as ends:
        def make(port):
            relay = Relay(port)
            ends.callback(relay.close)
            return relay

        yield make


@pytest.fixture
def over_link(make_stack, relay_to, own_store, request):
    """(stack, the relay between its worker and the store); settings by indirect parameter"""
    links = []

    def through_relay(stack):
        links.append(relay_to(stack.store.port))
        stack.worker.settings["WAYBILL_MONGO_URL"] = \
            f"mongodb://127.0.0.1:{links[0].port}/{stack.store.database_name}"

    stack = make_stack(getattr(request, "param", None), prepare=through_relay)
    return stack, links[0]
