"""What must come out: the right end of each order, told from the lines of the feed alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "orders.jsonl"

LIMIT_CENTS = 100_000
SCARCE = {"lamp": 5, "vase": 3}

Order = dict[str, Any]


class Expected(msgspec.Struct):
    """``completed`` and ``failed``: ids of orders; ``scarce``: goods to orders, of which only some
    complete; ``unmailed``: those whose mail cannot be sent.
    """

    completed: set[str] = msgspec.field(default_factory=set)
    failed: set[str] = msgspec.field(default_factory=set)
    scarce: dict[str, set[str]] = msgspec.field(default_factory=dict)
    unmailed: set[str] = msgspec.field(default_factory=set)
    lines: int = 0
    refused: int = 0

    @property
    def orders(self) -> set[str]:
        return self.completed | self.failed | set().union(*self.scarce.values())

    @property
    def completed_count(self) -> int:
        return len(self.completed) + sum(
            min(len(orders), SCARCE[sku]) for sku, orders in self.scarce.items()
        )


def example(first: int | None = None) -> list[str]:
    """The lines of the running example, or the first so many of them."""
    return EXAMPLE.read_text(encoding="utf-8").splitlines()[:first]


def order(number: int, **special: Any) -> Order:
    """An order that completes, unless ``special`` says otherwise."""
    return {
        "order_id": f"o-{number}",
        "email": f"c{number}@example.org",
        "sku": "mug",
        "quantity": 1,
        "cents": 1250,
        "zone": "N1",
    } | special


def line(data: Order, type_name: str = "PlaceOrder") -> str:
    """One line of a feed."""
    return json.dumps({"type": type_name, "id": f"feed-{data.get('order_id')}", "data": data})


def expected(lines: Sequence[str]) -> Expected:
    """Reads a feed as its author meant it."""
    found = Expected(lines=len(lines))
    for text in lines:
        placed = _order_in(text)
        if placed is None:
            found.refused += 1
        else:
            _expect(found, placed)
    return found


def _order_in(text: str) -> Order | None:
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document["data"] if document["type"] == "PlaceOrder" else None


def _expect(found: Expected, placed: Order) -> None:
    order_id = placed["order_id"]
    if placed["cents"] > LIMIT_CENTS or placed["zone"] == "ZZ":
        found.failed.add(order_id)
    elif placed["sku"] in SCARCE:
        found.scarce.setdefault(placed["sku"], set()).add(order_id)
    else:
        found.completed.add(order_id)
    if "@" not in placed["email"]:
        found.unmailed.add(order_id)


def complaints(
    wanted: Expected, states: dict[str, str], bookings: Sequence[str], charged: Sequence[str]
) -> list[str]:
    """A sentence for each order that did not end right.

    ``states``: order to its state; ``bookings``: orders of the courier's live bookings;
    ``charged``: orders of the ledger.
    """
    completed = {order for order, state in states.items() if state == "completed"}
    said = [f"{order} is not known" for order in sorted(wanted.orders - states.keys())]
    said += [f"{order} was never ordered" for order in sorted(states.keys() - wanted.orders)]
    said += [f"{o} is {s}" for o, s in states.items() if s not in ("completed", "failed")]
    said += [f"{o} should be completed" for o in sorted(wanted.completed - completed)]
    said += [f"{o} should have failed" for o in sorted(wanted.failed & completed)]
    for sku, orders in wanted.scarce.items():
        if len(orders & completed) != min(len(orders), SCARCE[sku]):
            said.append(f"{len(orders & completed)} orders for a {sku} are completed")
    for what, of in (("shipments", Counter(bookings)), ("charges", Counter(charged))):
        said += [f"{o} has {of[o]} {what}" for o in sorted(completed) if of[o] != 1]
        said += [f"{o} is not completed and has {what}" for o in sorted(of.keys() - completed)]
    return said
