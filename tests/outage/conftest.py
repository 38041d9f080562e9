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
