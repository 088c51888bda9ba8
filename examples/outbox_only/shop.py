"""An application of its own: `python shop.py order ID CENTS`, and `python shop.py relay` beside it.

Taking an order uses nothing but sqlite3; that is what any other language would do.
"""

import json
import sqlite3
import sys
from pathlib import Path

FILE = Path("shop.db")
BROKER = f"unix://{Path('ledger/broker/sock').resolve()}"

TABLES = """
CREATE TABLE IF NOT EXISTS orders (
    order_id TEXT PRIMARY KEY,
    cents    INTEGER NOT NULL CHECK (cents > 0)
);
"""

SEND = "INSERT INTO outboxd_send (type, key, data, recipient) VALUES (?, ?, ?, ?)"


def take_order(order_id: str, cents: int) -> None:
    """The order and its message: both or neither."""
    connection = sqlite3.connect(FILE, timeout=10)
    try:
        connection.execute(TABLES)
        with connection:  # one transaction
            data = json.dumps({"order_id": order_id, "cents": cents})
            connection.execute(SEND, ("BookOrder", order_id, data, "ledger"))
            connection.execute("INSERT INTO orders VALUES (?, ?)", (order_id, cents))
    finally:
        connection.close()


async def relay() -> None:
    """Carries what is committed, until it is stopped."""
    import anyio

    from outboxd import Outbox

    async with Outbox(FILE, name="shop", redis=BROKER):
        await anyio.sleep_forever()


if __name__ == "__main__":
    if sys.argv[1:] == ["relay"]:
        import anyio

        anyio.run(relay)
    else:
        _, _, order_id, cents = sys.argv
        try:
            take_order(order_id, int(cents))
        except sqlite3.Error as err:
            hint = "; the relay makes it, start that first" if "no such table" in str(err) else ""
            sys.exit(f"order {order_id} is not taken: {err}{hint}")
