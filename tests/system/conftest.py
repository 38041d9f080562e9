"""Fixtures of the system tests, and the logs of all processes beside a failed test."""

import contextlib
import os

import pytest

from lib import Stack

_running = []  # stacks that a failing test may concern


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for stack in _running:
            report.sections.append((f"logs in {stack.folder}", stack.logs()))


class _Watched:
    """Runs a stack and has its logs shown for as long as a test can fail because of it."""

    def __init__(self, stack):
        self.stack = stack

    def __enter__(self):
        _running.append(self.stack)
        try:
            return self.stack.__enter__()
        except BaseException:
            _running.remove(self.stack)
            print(self.stack.logs())
            raise

    def __exit__(self, *reason):
        try:
            self.stack.__exit__(*reason)
        except BaseException:
            print(self.stack.logs())
            raise
        finally:
            _running.remove(self.stack)


def _stack_maker(tmp_path_factory):
    """A fixture's body: yields make(settings, prepare, …) -> a running stack; all end with the fixture."""
    with contextlib.ExitStack() as ends:
        def make(settings=None, prepare=None, **options):
            stack = Stack(tmp_path_factory.mktemp("stack"), settings, **options)
            if prepare:
                prepare(stack)
            return ends.enter_context(_Watched(stack))

        yield make


@pytest.fixture(scope="module")
def module_stacks(tmp_path_factory):
    """Makes running stacks that the tests of a module share."""
    yield from _stack_maker(tmp_path_factory)


@pytest.fixture
def make_stack(tmp_path_factory):
    """Makes running stacks for one test: make_stack(settings, prepare=function of the stack before it starts, …)."""
    yield from _stack_maker(tmp_path_factory)


@pytest.fixture(scope="module")
def stack(module_stacks):
    """One running stack for the tests of a module, which use identities of their own."""
    return module_stacks()


@pytest.fixture
def own_store():
    """For tests that kill or pause the store."""
    if os.environ.get("WAYBILL_TEST_MONGO_URL"):
        pytest.skip("the store is not ours to kill")
