"""Fixtures of the compose tests, their plain count, and the containers' logs beside a failed test."""

import os

import pytest

from .composed import Composed

# They need images, which run.sh makes first; a bare `pytest` leaves them out.
collect_ignore_glob = [] if os.environ.get("WAYBILL_TEST_COMPOSE") else ["test_*.py"]

_running = []


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """The whole Compose file, up and healthy, under a project name of its own; taken down whatever happens."""
    composed = Composed(tmp_path_factory.mktemp("compose"))
    _running.append(composed)
    try:
        composed.up()
        yield composed
    finally:
        composed.down()
        _running.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for composed in _running:
            report.sections.append(("containers", composed.logs()))


def pytest_unconfigure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    counts = {name: len(reporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['passed']} passed, {counts['failed'] + counts['error']} failed{skipped}", flush=True)
