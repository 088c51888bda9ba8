"""``outboxd subscriber``: who reads whose events, and the request that ends it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outboxd.store import control, subscriber
from tests.cli import filling
from tests.cli.conftest import Run
from tests.cli.filling import store


@pytest.fixture
def read(shop: Path) -> Path:
    """A shop whose orders have a subscriber that is gone."""
    with store(shop, "orders") as connection:
        subscriber.add(connection, "reports", 0, filling.now())
    return shop


def test_subscribers_are_listed_with_what_is_kept_for_them(read: Path, run: Run) -> None:
    assert run("subscriber", "list").stdout.startswith("reports\torders\t")
    (found,) = json.loads(run("subscriber", "list", "--json").stdout)
    assert (found["name"], found["publisher"], found["kept"]) == ("reports", "orders", 0)


def test_a_removal_is_a_request_with_a_reason(read: Path, run: Run) -> None:
    remove = ("subscriber", "remove", "reports", "--from")
    assert run(*remove, "orders", "--yes").exit_code == 4
    assert run(*remove, "order", "--reason", "retired", "--yes").exit_code == 3
    assert run(*remove, "orders", "--reason", "retired").exit_code == 4
    done = run(*remove, "orders", "--reason", "retired", "--yes")
    assert done.exit_code == 0, done.output
    with control.client(read) as connection:
        (request,) = control.pending(connection, 10)
    assert (request.kind, request.participant, request.target, request.reason) == (
        "subscriber.remove",
        "orders",
        "reports",
        "retired",
    )
