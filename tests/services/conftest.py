"""A cast for each test, and sagas that are kept in memory or rebuilt for each move."""

from __future__ import annotations

import sys

import pytest

from tests.promises.cast import Cast


@pytest.fixture
def cast() -> Cast:
    return Cast()


@pytest.fixture
def rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """No coroutine stays in memory: each move of a saga rebuilds it from its journal."""
    for name, module in list(sys.modules.items()):
        if name.startswith("outboxd.") and hasattr(module, "CACHE_LIMIT"):
            monkeypatch.setattr(module, "CACHE_LIMIT", 0)
