"""What every test has: the event loop, a bounded search, a way to wait, and a look at what it left.

``--storm N`` (or the environment's ``OUTBOXD_STORM``) multiplies the examples of every property and
the length of every fault storm; 1 is what runs on each commit.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, settings

EXAMPLES = 60
STEPS = 40

GRACE_S = 5.0
"""A worker thread that was told to end may take so long; one that was not told never ends."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--storm",
        type=int,
        default=int(os.environ.get("OUTBOXD_STORM", "1")),
        metavar="N",
        help="multiply hypothesis examples and fault storms by N (default: $OUTBOXD_STORM or 1)",
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile(
        "outboxd",
        max_examples=EXAMPLES * config.getoption("storm"),
        stateful_step_count=STEPS,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("outboxd")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """More than one file is run by a process for each core; ``-n N`` says how many, 0 for none.

    A file stays in one process. They come in their order: the plugin's own is by their number of
    tests, and those with few tests take the longest.
    """
    option = config.option
    is_told = getattr(option, "numprocesses", 0) is not None or option.usepdb
    is_one_file = len(config.args) == 1 and ".py" in config.args[0]
    is_worker = hasattr(config, "workerinput")  # it must not have workers of its own
    if not (is_told or is_one_file or is_worker):
        option.numprocesses, option.dist, option.loadscopereorder = "auto", "loadfile", False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A longer search may take longer."""
    storm, limit = config.getoption("storm"), float(config.getini("timeout"))
    for item in items:
        if storm > 1 and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(limit * storm))


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """The command line sets up the logger of its process; the next test gets it as it was."""
    logger = logging.getLogger("outboxd")
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    for handler in logger.handlers:
        if handler not in before[2]:
            handler.close()
    logger.level, logger.propagate, logger.handlers = before


@pytest.fixture(scope="session")
def storm(pytestconfig: pytest.Config) -> int:
    """By how much this run is longer than the one on each commit."""
    factor: int = pytestconfig.getoption("storm")
    return factor


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Fails a test whose threads or child processes outlive it."""
    threads, children = set(threading.enumerate()), children_of_this_process()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(GRACE_S)
    left = [f"thread {thread.name}" for thread in set(threading.enumerate()) - threads]
    left += [f"process {pid}" for pid in children_of_this_process() - children]
    assert not left, f"left behind: {', '.join(left)}"


def children_of_this_process() -> set[str]:
    """Pids of direct children, unreaped ones too; empty where the system has no /proc for it."""
    found: set[str] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(listing.read_text().split())
        except OSError:  # the thread has ended in between; its children are listed elsewhere
            continue
    return found


async def wait_until(
    predicate: Callable[[], bool | Awaitable[bool]], description: str, timeout: float = 30.0
) -> None:
    """Waits until ``predicate()`` holds; fails with ``description`` after ``timeout`` seconds.

    The only place in the tests that sleeps.
    """
    with anyio.move_on_after(timeout):
        while True:
            holds = predicate()
            if inspect.isawaitable(holds):
                holds = await holds
            if holds:
                return
            await anyio.sleep(0.005)
    pytest.fail(f"not within {timeout:g} s: {description}")
