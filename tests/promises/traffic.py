"""Traffic over three participants in which every loss, repetition and change of order shows.

``source`` counts off numbers for a few keys: each as a command to ``left`` (a transaction), which
passes it on to ``right`` (an effect), and as an event to ``right`` (a transaction). Each writes
down what came, in order. ``moods`` decides which tries fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from outboxd import Command, Context, Event, Participant, Policy, Retry, Tx
from outboxd.testing import Faults, Harness

STUBBORN = Policy(attempts=50, base_s=0.0)


class Emit(Command[None], to="source", key="key"):
    """Counts from ``first`` up to ``last``, for one key."""

    key: str
    first: int
    last: int


class Take(Command[None], to="left", key="key"):
    """One number of one key."""

    key: str
    number: int


class Pass(Command[None], to="right", key="key"):
    """The same number, passed on."""

    key: str
    number: int


class Said(Event, source="source", key="key"):
    """The same number, for whoever listens."""

    key: str
    number: int


CAME = """
    CREATE TABLE came (
        n      INTEGER PRIMARY KEY,
        kind   TEXT NOT NULL,
        key    TEXT NOT NULL,
        number INTEGER NOT NULL
    ) STRICT;
"""

INSERT = "INSERT INTO came (kind, key, number) VALUES (?, ?, ?)"


def weather(chance: random.Random) -> Faults:
    """Everything goes wrong, now more, now less."""
    return Faults(
        lose=chance.uniform(0, 0.06),
        duplicate=chance.uniform(0, 0.2),
        reorder=chance.uniform(0, 0.1),
        publish_before=chance.uniform(0, 0.1),
        publish_after=chance.uniform(0, 0.1),
        read_after=chance.uniform(0, 0.05),
        ack_before=chance.uniform(0, 0.05),
        ack_after=chance.uniform(0, 0.05),
    )


def calm(_: str, __: int) -> None:
    """Nothing fails."""


def moody(chance: random.Random, probability: float) -> Callable[[str, int], None]:
    """A handler fails by chance, and asks to be tried again soon."""

    def fail(_: str, __: int) -> None:
        if chance.random() < probability:
            raise Retry("in a bad mood", after=chance.choice((0.0, 0.05, 1.0)))

    return fail


class Traffic:
    """The three participants; ``mood(key, number)`` is asked before each piece of work."""

    def __init__(self, mood: Callable[[str, int], None] = calm) -> None:
        self.mood = mood
        self.emitted: dict[str, int] = {}
        self.source = self._source()
        self.left = self._left()
        self.right = self._right()

    @property
    def participants(self) -> list[Participant]:
        return [self.source, self.left, self.right]

    async def emit(self, harness: Harness, **counts: int) -> None:
        """Counts on, for each key so far."""
        commands: list[Emit] = []
        for key, count in counts.items():
            first = self.emitted.get(key, 0)
            self.emitted[key] = first + count
            commands.append(Emit(key=key, first=first, last=first + count))
        await harness.send_all(*commands)

    async def arrival(self, harness: Harness, step_s: float = 0.1, said: str = "") -> None:
        """Waits until all that was emitted is there; it must have come once and in order."""
        await harness.hurry(lambda: self.has_arrived(harness), step_s, f"all has come {said}")
        assert await self.errors(harness) == [], said

    async def has_arrived(self, harness: Harness) -> bool:
        """Whether as much has come as was sent; more would show in ``errors``."""
        total = sum(self.emitted.values())
        sql = "SELECT count(*) FROM came"
        [left], [right] = await harness.column("left", sql), await harness.column("right", sql)
        return bool(left >= total and right >= 2 * total)

    async def errors(self, harness: Harness) -> list[str]:
        """A sentence for each key that did not come once and in order."""
        found: list[str] = []
        for participant, kinds in (("left", ("take",)), ("right", ("pass", "said"))):
            for kind in kinds:
                for key, count in self.emitted.items():
                    came = await harness.column(
                        participant,
                        "SELECT number FROM came WHERE kind = ? AND key = ? ORDER BY n",
                        kind,
                        key,
                    )
                    if came != list(range(count)):
                        found.append(f"{participant} {kind} {key}: {came}, of {count}")
        return found

    def _source(self) -> Participant:
        source = Participant("source")

        @source.handle
        def emit(tx: Tx, cmd: Emit) -> None:
            for number in range(cmd.first, cmd.last):
                tx.send(Take(key=cmd.key, number=number))
                tx.publish(Said(key=cmd.key, number=number))

        return source

    def _left(self) -> Participant:
        left = Participant("left", schema=CAME)

        @left.handle(retry=STUBBORN)
        def take(tx: Tx, cmd: Take) -> None:
            tx.execute(INSERT, ("take", cmd.key, cmd.number))
            tx.send(Pass(key=cmd.key, number=cmd.number))
            self.mood(cmd.key, cmd.number)

        return left

    def _right(self) -> Participant:
        right = Participant("right", schema=CAME)

        @right.handle(retry=STUBBORN, timeout="1s")
        async def passed(ctx: Context, cmd: Pass) -> None:
            self.mood(cmd.key, cmd.number)
            await ctx.commit(note, cmd)

        @right.handle(retry=STUBBORN)
        def said(tx: Tx, event: Said) -> None:
            tx.execute(INSERT, ("said", event.key, event.number))
            self.mood(event.key, event.number)

        return right


def note(tx: Tx, cmd: Pass) -> Any:
    """The transaction of the effect."""
    tx.execute(INSERT, ("pass", cmd.key, cmd.number))
