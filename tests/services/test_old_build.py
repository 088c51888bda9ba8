"""What a build with the first tables left, killed in the middle of its work, ends in this one.

``old_build/`` has the databases as text, as that build wrote them with messages that have other
names, fields and versions by now::

    class ChargeCard(Command[str], to="till", key="id", timeout="10m"):  # now Charge, in cents
        id: str
        euros: int

    class VoidCard(Command[None], to="till", key="id"): ...              # now Void
    class Pack(Command[None], to="till", key="id"): ...                  # now Wrap, in some paper
    class Charged(Event, source="till", key="id"): ...                   # now Paid, in cents

Its broker is gone, as brokers may be.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from outboxd import Command, Context, Event, Participant, Policy, Reject, Saga, Tx
from outboxd.store import schema
from outboxd.testing import FakeClock, Harness, wait_until
from tests.promises.cast import LOG, hosting, letters, log, write

pytestmark = pytest.mark.anyio

LEFT = Path(__file__).parent / "old_build"
KILLED_AT = 1_700_003_602.0


def to_cents(data: dict[str, Any], version: int) -> dict[str, Any]:
    data["cents"] = data.pop("euros") * 100
    return data


class Order(Command[str], to="desk", key="id"):
    """As it was."""

    id: str


class Charge(
    Command[str],
    to="till",
    key="id",
    timeout="10m",
    version=2,
    aliases=("ChargeCard",),
    upcast=to_cents,
):
    """Renamed, of another unit, with one more field."""

    id: str
    cents: int
    currency: str = "EUR"


class Void(Command[None], to="till", key="id", aliases=("VoidCard",)):
    """Renamed."""

    id: str


class Wrap(Command[None], to="till", key="id", aliases=("Pack",)):
    """Renamed, with one more field."""

    id: str
    paper: str = "plain"


class Ship(Command[str], to="courier", key="id", timeout="10m"):
    """As it was."""

    id: str


class Paid(Event, source="till", key="id", version=2, aliases=("Charged",), upcast=to_cents):
    """Renamed, of another unit."""

    id: str
    cents: int


def company() -> list[Participant]:
    """The same four participants, today."""
    desk, till, courier, books = (
        Participant(name, schema=LOG) for name in ("desk", "till", "courier", "books")
    )

    @desk.saga
    async def fulfil(saga: Saga, order: Order) -> str:
        await saga.run(write, order.id, "begun")
        charge = await saga.call(Charge(id=order.id, cents=300), undo=Void(id=order.id))
        await saga.sleep("1h")
        await saga.send(Wrap(id=order.id), delay="2h")
        shipment = await saga.call(Ship(id=order.id))
        return f"{charge}, {shipment}"

    @till.handle(retry=Policy(attempts=3, base_s=0.01))
    def charge_card(tx: Tx, cmd: Charge) -> str:
        tx.publish(Paid(id=cmd.id, cents=cmd.cents))
        return write(tx, cmd.id, f"charged {cmd.cents} {cmd.currency}")

    @till.handle
    def void(tx: Tx, cmd: Void) -> None:
        assert tx.step is not None
        write(tx, cmd.id, f"voided {tx.step.known}")

    @till.handle
    def wrap(tx: Tx, cmd: Wrap) -> None:
        write(tx, cmd.id, f"wrapped in {cmd.paper} paper")

    @courier.handle(timeout="60s")
    async def ship(ctx: Context, cmd: Ship) -> str:
        if cmd.id == "undoing":
            raise Reject("no such place")
        return await ctx.commit(write, cmd.id, "shipped")

    @books.handle
    def on_paid(tx: Tx, event: Paid) -> None:
        write(tx, event.id, f"booked {event.cents} cents")

    return [desk, till, courier, books]


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A data directory with what was left."""
    for dump in LEFT.glob("*.sql"):
        with closing(sqlite3.connect(tmp_path / f"{dump.stem}.db")) as connection:
            connection.executescript(dump.read_text())
            assert schema._version(connection) == 1
    return tmp_path


async def state_of(harness: Harness, key: str) -> tuple[str, str | None, bytes | None]:
    row = await harness.saga(f"desk/fulfil/{key}")
    return row.state, row.stuck, row.result


async def test_what_an_old_build_left_in_flight_comes_to_its_right_end(left: Path) -> None:
    """Asleep, at work outside, to be tried again, dead, not yet sent, to be undone, delayed."""
    clock = FakeClock(KILLED_AT + 60)
    async with hosting(*company(), data=left, clock=clock) as harness:
        assert await harness.column("desk", "SELECT value FROM outboxd_meta WHERE key = 'tables'")
        assert await state_of(harness, "done") == (
            "completed",
            None,
            b'"charged 3 euros, shipped"',
        )
        done = await harness.start(Order(id="done"), message_id="another-order")
        assert await done.result() == "charged 3 euros, shipped"
        row = await harness.until_saga("desk/fulfil/shipping", "completed")
        assert row.result == b'"charged 3 euros, shipped"'
        assert await state_of(harness, "dead") == ("stuck", "letter", None)
        assert await letters(harness, "till") == [("ChargeCard", "dead")]
        await harness.replay("till", 1)
        harness.advance(300)
        await harness.until_saga("desk/fulfil/undoing", "compensated")
        for key in ("dead", "retrying", "sending"):
            await until_asleep(harness, key)
        harness.advance(3600)
        for key in ("sleeping", "dead", "retrying", "sending"):
            row = await harness.until_saga(f"desk/fulfil/{key}", "completed")
            charged = "charged 3 euros" if key == "sleeping" else "charged 300 EUR"
            assert row.result == f'"{charged}, shipped"'.encode()
        harness.advance(2 * 3600)
        await wait_until(lambda: has_wrapped(harness, 7), "all that was delayed has come")
        await harness.until_idle()
        assert await log(harness, "till", "dead") == [
            "charged 300 EUR",
            "wrapped in plain paper",
        ]
        assert await log(harness, "till", "undoing") == [
            "charged 3 euros",
            "voided True",
            "wrapped in plain paper",
        ]
        assert await log(harness, "till", "outside") == ["charged 7 euros"]
        assert await log(harness, "books", "outside") == ["booked 700 cents"]
        assert await log(harness, "books", "done") == ["booked 3 euros"]
        assert sorted(await log(harness, "books", "dead")) == ["booked 300 cents"]
        shipped = await log(harness, "courier")
        assert shipped == ["shipped"] * 6


async def has_wrapped(harness: Harness, count: int) -> bool:
    sql = "SELECT count(*) FROM log WHERE what LIKE 'wrapped%'"
    return await harness.column("till", sql) == [count]


async def until_asleep(harness: Harness, key: str) -> None:
    async def is_asleep() -> bool:
        return (await harness.saga(f"desk/fulfil/{key}")).step == "sleep 3600s"

    await wait_until(is_asleep, f"{key} sleeps")
