"""A terminated run ends in good order, so that fixtures stop what they started."""

import signal
import sys


def pytest_configure(config):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
