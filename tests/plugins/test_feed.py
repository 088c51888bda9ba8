"""The feed: its totals are what examples/README.md says, in whatever order things happen."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import make_orders
from outboxd.instance import Returned
from outboxd.message import Event
from plugins.notifications import completed, failed
from plugins.orders.messages import OrderCompleted, OrderFailed, PlaceOrder
from tests.plugins.shop import Fulfilment, Shop, finish

README = make_orders.FEED.with_name("README.md").read_text(encoding="utf-8")


def told() -> dict[str, int]:
    """The totals of the README."""
    table = README.partition("| total |")[2].partition("## ")[0]
    return {
        name: int(number) for name, number in re.findall(r"^\| ([\w ]+) \| (\d+) \|$", table, re.M)
    }


def placed(lines: list[str]) -> list[PlaceOrder]:
    """The orders of all lines that are messages of a known type."""
    found: list[PlaceOrder] = []
    for line in lines:
        with suppress(json.JSONDecodeError):
            document: dict[str, Any] = json.loads(line)
            if document["type"] == "PlaceOrder":
                found.append(msgspec.convert(document["data"], PlaceOrder))
    return found


def interleaved(sagas: list[Fulfilment], rng: random.Random) -> None:
    """One step of one saga after another, until all have ended."""
    under_way = [saga.walk() for saga in sagas]
    while under_way:
        n = rng.randrange(len(under_way))
        try:
            next(under_way[n])
        except StopIteration:
            under_way[n] = under_way[-1]
            under_way.pop()


def events(shop: Shop) -> Iterator[Event]:
    yield from shop.published
    for envelope in shop.desks["orders"].sent:
        yield msgspec.json.decode(envelope.data, type=OrderFailed)


def dead_letters(shop: Shop) -> int:
    """How many events notifications cannot handle."""
    count = 0
    for event in events(shop):
        ctx = shop.desks["notifications"].context(event, shop.mailer)
        try:
            if isinstance(event, OrderCompleted):
                finish(completed(ctx, event))
            elif isinstance(event, OrderFailed):
                finish(failed(ctx, event))
        except ValueError:
            count += 1
    return count


def test_the_feed_is_what_its_script_makes() -> None:
    assert make_orders.FEED.read_text(encoding="utf-8").splitlines() == make_orders.lines()


def test_an_order_that_comes_again_has_the_same_content() -> None:
    feed = placed(make_orders.lines())
    assert len(feed) - len(set(feed)) == make_orders.EXACT_DUPLICATES + make_orders.REPEATED_ORDERS
    assert len({order.order_id for order in feed}) == len(set(feed))


@settings(max_examples=5, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_totals_do_not_depend_on_who_comes_first(rng: random.Random) -> None:
    lines = make_orders.FEED.read_text(encoding="utf-8").splitlines()
    feed = placed(lines)
    with TemporaryDirectory() as folder, Shop(Path(folder)) as shop:
        sagas = [Fulfilment(shop, order) for order in dict.fromkeys(feed)]
        interleaved(sagas, random.Random(rng.random()))
        done = sum(isinstance(saga.result, Returned) for saga in sagas)
        assert told() == {
            "lines": len(lines),
            "orders started": len(sagas),
            "completed": done,
            "compensated": len(sagas) - done,
            "dead letters": dead_letters(shop),
            "refused lines": len(lines) - len(feed),
        }
        assert not shop.violations()
