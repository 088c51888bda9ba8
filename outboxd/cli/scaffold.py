"""``outboxd plugin new``: a plugin that works, to be changed piece by piece."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template

from outboxd.errors import ConfigError, Refused

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

_RESERVED = ("control", "plugins", "test", "tests", "outboxd")

MESSAGES = '''"""What $name can be asked for, and what it tells: types, for others to import."""

from outboxd import Command, Event


class Start$title(Command[int], to="$name", key="id"):
    """Starts the workflow; its result is what was booked in all."""

    id: str
    amount: int


class Book$title(Command[int], to="$name", key="id"):
    """A step of it, which can be undone."""

    id: str
    amount: int


class Unbook$title(Command[None], to="$name", key="id"):
    """Undoes it."""

    id: str


class ${title}Booked(Event, source="$name", key="id"):
    """Told to whoever subscribes."""

    id: str
    amount: int
'''

PLUGIN = '''"""$title: books amounts, each once, and takes back what cannot be finished."""

from collections.abc import Iterable

from outboxd import Db, Participant, Reject, Saga, Tx

from .messages import $types

LIMIT = 100

$name = Participant(
    "$name",
    schema="""
    CREATE TABLE booking (
        id     TEXT PRIMARY KEY,
        amount INTEGER NOT NULL CHECK (amount > 0),
        state  TEXT NOT NULL CHECK (state IN ('booked', 'final', 'undone'))
    ) STRICT;
    """,
)


@$name.saga
async def book_$name(saga: Saga, start: Start$title) -> int:
    """Each await is a durable step; whatever ends the saga early undoes the calls, last first."""
    await saga.call(
        Book$title(id=start.id, amount=start.amount),
        undo=Unbook$title(id=start.id),
    )
    total = await saga.run(count)
    if total > LIMIT:
        saga.fail(f"that would be {total} in all, the limit is {LIMIT}")
    await saga.run(finish, start)
    return total


def count(tx: Tx) -> int:
    """A step in a transaction of the saga's own participant; what it returns is remembered."""
    total: int = tx.value("SELECT SUM(amount) FROM booking WHERE state <> 'undone'")
    return total


def finish(tx: Tx, start: Start$title) -> None:
    """Row and event leave together."""
    tx.execute("UPDATE booking SET state = 'final' WHERE id = ?", (start.id,))
    tx.publish(${title}Booked(id=start.id, amount=start.amount))


@$name.handle
def book(tx: Tx, cmd: Book$title) -> int:
    """Runs inside the commit: row, reply and events are kept together or not at all."""
    if cmd.amount <= 0:
        raise Reject("the amount must be above zero")
    tx.execute("INSERT INTO booking VALUES (?, ?, 'booked')", (cmd.id, cmd.amount))
    return cmd.amount


@$name.handle
def unbook(tx: Tx, cmd: Unbook$title) -> None:
    """The undo of ``book``: right also where nothing was booked."""
    tx.execute("UPDATE booking SET state = 'undone' WHERE id = ?", (cmd.id,))


@$name.invariant("no more is booked than the limit", when="idle")
def within_limit(db: Db) -> Iterable[str]:
    """`outboxd prove` and `outboxd audit` check it, and each test; yields a sentence each."""
    total = db.value("SELECT SUM(amount) FROM booking WHERE state <> 'undone'") or 0
    if total > LIMIT:
        yield f"{total} is booked, the limit is {LIMIT}"


$name.example(Start$title(id="a", amount=60))  # what `outboxd prove` starts with
'''

TEST = '''"""$title in a simulation, with whatever should go wrong: pytest $place"""

from outboxd.testing import simulated

from . import $name
from .messages import $tested


def test_what_is_booked_is_final_and_counted() -> None:
    with simulated($name) as sim:
        first = sim.send(Start$title(id="a", amount=60))
        assert first.result == 60
        again = sim.send(Start$title(id="a", amount=60))
        assert again.result == 60  # the same saga: nothing was booked twice
        assert sim.rows("$name", "SELECT * FROM booking") == [("a", 60, "final")]
        assert sim.sent(${title}Booked) == [${title}Booked(id="a", amount=60)]


def test_what_is_over_the_limit_is_undone() -> None:
    with simulated($name) as sim:
        sim.send(Start$title(id="a", amount=60))
        second = sim.send(Start$title(id="b", amount=50))
        assert second.state == "compensated"
        assert second.reason == "that would be 110 in all, the limit is 100"
        assert second.undone == ["Unbook$title"]
        states = sim.rows("$name", "SELECT state FROM booking ORDER BY id")
        assert states == [("final",), ("undone",)]


def test_a_process_killed_in_the_middle_books_once() -> None:
    with simulated($name) as sim:
        sim.crash_at("after commit", Book$title)
        saga = sim.send(Start$title(id="a", amount=60))
        sim.run()
        assert saga.result == 60
        assert len(sim.handled(Book$title)) == 1
'''

FILES = {"messages.py": MESSAGES, "__init__.py": PLUGIN, "test_{name}.py": TEST}


def create(name: str, parent: Path) -> list[Path]:
    """Writes a plugin into ``parent/name``; returns its files.

    Raises ConfigError for a name that cannot be one, Refused where something is there already.
    """
    _check(name)
    folder = parent / name
    if folder.exists() or folder.with_suffix(".py").exists():
        raise Refused(f"{folder} is there already", hint="give another name, or remove it first")
    title = title_of(name)
    tested = sorted([f"Book{title}", f"Start{title}", f"{title}Booked"])
    values = {
        "name": name,
        "title": title,
        "types": ", ".join(sorted([*tested, f"Unbook{title}"])),
        "tested": ", ".join(tested),
        "place": str(folder),
    }
    written = []
    try:
        folder.mkdir(parents=True)
        for pattern, text in FILES.items():
            path = folder / pattern.format(name=name)
            with path.open("x", encoding="utf-8") as file:
                file.write(Template(text).substitute(values))
            written.append(path)
    except OSError as err:
        raise ConfigError(f"cannot write {folder}: {err.strerror}") from err
    return written


def title_of(name: str) -> str:
    """``card_payments`` → ``CardPayments``, as types are named."""
    return "".join(part.capitalize() for part in name.split("_"))


def _check(name: str) -> None:
    if not _NAME.fullmatch(name) or name.endswith("_"):
        near = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")[:40].rstrip("_")
        raise ConfigError(
            f"{name!r} is no name for a plugin",
            hint="use lower case letters, digits and _"
            + (f", such as {near}" if _NAME.fullmatch(near) else ""),
        )
    if keyword.iskeyword(name) or name in _RESERVED:
        raise ConfigError(f"{name!r} is taken", hint=f"use another name, such as {name}_service")
