"""Makes orders.jsonl, the feed of the running example: python examples/make_orders.py.

Seeded: every run writes the same bytes. Which orders run short of stock depends on who comes first,
but how many do not: only lamps and vases are scarce, and nothing else can fail an order for one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FEED = Path(__file__).with_name("orders.jsonl")

GOOD = 232
OVER_THE_LIMIT = 20  # 13 kettles and more; payments declines above 100,000 cents
ZONE_ZZ = 15  # no courier goes there
LAMPS = 12  # inventory has 5
VASES = 8  # inventory has 3
WITHOUT_AT = 1  # fulfilled, but its mail cannot be sent
EXACT_DUPLICATES = 8
REPEATED_ORDERS = 2

PRICES = {"bowl": 1800, "candle": 650, "kettle": 7900, "mug": 1250, "plate": 1500, "teapot": 5400}
SCARCE_PRICES = {"lamp": 12900, "vase": 8800}
NAMES = ["ada", "bela", "chen", "dara", "emil", "femi", "gita", "hugo", "inga", "jun"]
ZONES = ["N1", "N2", "E1", "E2", "S1", "S2", "W1", "W2"]

Order = dict[str, Any]


def orders(rng: random.Random) -> list[Order]:
    """Every order once, in a shuffled order, numbered."""
    kinds: list[Order] = [
        *({} for _ in range(GOOD)),
        *({"sku": "kettle", "quantity": rng.randint(13, 30)} for _ in range(OVER_THE_LIMIT)),
        *({"zone": "ZZ"} for _ in range(ZONE_ZZ)),
        *({"sku": "lamp", "quantity": 1} for _ in range(LAMPS)),
        *({"sku": "vase", "quantity": 1} for _ in range(VASES)),
        *({"email": "nobody.example.org"} for _ in range(WITHOUT_AT)),
    ]
    rng.shuffle(kinds)
    return [order(rng, f"order-{10001 + n}", kind) for n, kind in enumerate(kinds)]


def order(rng: random.Random, order_id: str, special: Order) -> Order:
    """An order that succeeds, unless `special` says otherwise."""
    sku = special.get("sku") or rng.choice(list(PRICES))
    quantity = special.get("quantity") or rng.randint(1, 4)
    return {
        "order_id": order_id,
        "email": f"{rng.choice(NAMES)}{rng.randint(1, 99)}@example.org",
        "sku": sku,
        "quantity": quantity,
        "cents": quantity * (PRICES | SCARCE_PRICES)[sku],
        "zone": rng.choice(ZONES),
    } | special


def line(name: str, data: Order, type_name: str = "PlaceOrder") -> str:
    """One line of the feed; its id makes sending it twice harmless."""
    return json.dumps({"type": type_name, "id": f"feed-{name}", "data": data})


def lines(seed: int = 7) -> list[str]:
    """The whole feed."""
    rng = random.Random(seed)
    placed = orders(rng)
    feed = [line(data["order_id"], data) for data in placed]
    for place, extra in extras(rng, placed, list(feed)):
        feed.insert(place, extra)
    return feed


def extras(rng: random.Random, placed: list[Order], feed: list[str]) -> Iterator[tuple[int, str]]:
    """What a real feed has besides orders, each with its place: behind the line that it repeats."""
    for n in sorted(rng.sample(range(len(feed) - 20), EXACT_DUPLICATES), reverse=True):
        yield n + rng.randint(1, 20), feed[n]
    for n in sorted(rng.sample(range(len(feed) - 20), REPEATED_ORDERS), reverse=True):
        again = {"type": "PlaceOrder", "id": f"again-{n + 1}", "data": placed[n]}
        yield n + 20, json.dumps(again, separators=(",", ":"))
    yield 100, line("mistyped", placed[0] | {"order_id": "order-99998"}, "PlaceOrdr")
    yield 200, line("cut", placed[0] | {"order_id": "order-99999"})[:90]


def main() -> None:
    """Writes the file."""
    feed = lines()
    FEED.write_text("\n".join(feed) + "\n", encoding="utf-8")
    print(f"{FEED}: {len(feed)} lines")


if __name__ == "__main__":
    main()
