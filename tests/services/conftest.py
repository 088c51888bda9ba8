"""A cast for each test, and memories that are kept or made anew for each transaction."""

from __future__ import annotations

import itertools

import pytest

from outboxd import book
from outboxd.store.connection import Database
from tests.promises.cast import Cast
from tests.services.family import Family


@pytest.fixture
def cast() -> Cast:
    return Cast()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each transaction followed a failed one: coroutines, lanes, numbers are read again."""
    counter = itertools.count(1)
    monkeypatch.setattr(
        Database, "rollbacks", property(lambda _: next(counter), lambda _, __: None), raising=False
    )


@pytest.fixture
def evicting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A saga is dropped from memory as soon as another one moves."""
    monkeypatch.setattr(book, "CACHE_LIMIT", 0)


@pytest.fixture(params=["kept", "forgotten"])
def memory(request: pytest.FixtureRequest) -> None:
    """What holds for a memory that is kept also holds for coroutines rebuilt at each move."""
    if request.param == "forgotten":
        request.getfixturevalue("forgetful")


@pytest.fixture
def family() -> Family:
    return Family()
