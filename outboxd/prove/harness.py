"""Tests of participants in virtual time: everything happens at once, and only what the test says.

``simulated`` hosts participants on the simulator of ``outboxd prove``, with the real engine in
between. Time passes when the test says so; what goes wrong is what the test asks for; at the end
invariants and outboxd's own promises are checked. Nothing waits, nothing is random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NoReturn, TypeVar, overload

from outboxd.clock import seconds, utc
from outboxd.errors import ConfigError, NotFound
from outboxd.message import (
    Command,
    Envelope,
    Event,
    Message,
    decode_envelope,
    decode_message,
    encode_raw,
    key_of,
)

from .mishaps import Mishaps
from .oracles import Violated
from .report import story
from .seen import DeadLetter, Seen
from .stage import Stage
from .standins import StandIns

R = TypeVar("R")
M = TypeVar("M", bound=Message)


class Failed(AssertionError):
    """Something does not hold; the text has the story of all that happened."""


class Simulation(Mishaps):
    """Participants on the simulator, and what a test does to them and asks of them.

    Whatever is done is done when the call returns: everything has happened that could happen
    without time passing. Message types are given as classes or by name.
    """

    def __init__(self, stage: Stage, stand_ins: StandIns) -> None:
        super().__init__(stage, stand_ins)
        self._sent = 0
        self._looked = False

    # What the test does.

    @overload
    def send(self, message: Command[R], *, id: str | None = ...) -> Seen[R]: ...
    @overload
    def send(self, message: Event, *, id: str | None = ...) -> Seen[None]: ...
    def send(self, message: Message, *, id: str | None = None) -> Seen[Any]:
        """A message from outside: a command to its owner, an event to whoever subscribes to it.

        ``id``: to send one message twice. Returns what becomes of it: ``state``, ``result`` …
        """
        __tracebackhide__ = True
        name = self._types.known(type(message))
        self._sent += 1
        envelope = Envelope(
            specversion="1.0",
            id=id or f"sent-{self._sent}",
            type=name,
            source="test",
            time=utc(self._stage.clock.at),
            subject=key_of(message),
            data=encode_raw(message),
            kind="event" if isinstance(message, Event) else "command",
            schemaversion=message.__outboxd__.version,
        )
        takers = self._types.takers(name)
        for taker in takers:
            self._stage.start(taker, envelope)
        self._go_on(self._stage.clock.at)
        return Seen(self._stage, takers[0], envelope, self._registry.sagas.get((takers[0], name)))

    def advance(self, span: str | float) -> None:
        """Lets time pass ("30s" or seconds), and everything happen that falls due in it."""
        __tracebackhide__ = True
        self._go_on(self._stage.clock.at + seconds(span))

    def run(self) -> None:
        """Lets time pass until nothing more will happen by itself, but for schedules."""
        __tracebackhide__ = True
        self._go_on(None)

    def cancel(self, saga: Seen[Any] | str) -> None:
        """Cancels a saga. Raises Refused where that does not apply."""
        self._ask(_saga_id(saga).partition("/")[0], "saga.cancel", _saga_id(saga))

    def retry(self, saga: Seen[Any] | str) -> None:
        """Retries a stuck saga. Raises Refused where that does not apply."""
        self._ask(_saga_id(saga).partition("/")[0], "saga.retry", _saga_id(saga))

    def replay(self, *letters: DeadLetter | str) -> None:
        """Replays dead letters, as ``payments/d-1``; without any, all of them. Raises Refused."""
        self._on_letters("dead.replay", letters or self.letters())

    def discard(self, *letters: DeadLetter | str) -> None:
        """Discards dead letters, so that nobody replays them. Raises Refused."""
        self._on_letters("dead.discard", letters)

    def restart(self, participant: str | None = None) -> None:
        """Stops and starts a participant, or all: memory goes, what was committed stays."""
        for name in self._names(participant):
            node = self._stage.nodes[name]
            if node.is_up:
                self._stage.tell(name, "is stopped and started")
                node.restart()
        self._go_on(self._stage.clock.at)

    def kill(self, participant: str | None = None) -> None:
        """kill -9 of a participant, or of all, and its next start."""
        for name in self._names(participant):
            self._stage.nodes[name].kill()
            self._stage.tell(name, "is killed", is_fault=True)
        self._go_on(self._stage.clock.at)

    def lose_broker(self) -> None:
        """The broker loses everything that it holds."""
        self._stage.empty_broker()
        self._go_on(self._stage.clock.at)

    def away(self, participant: str, span: str | float) -> None:
        """For ``span`` a participant reads nothing from the broker."""
        for name in self._names(participant):
            for feed in self._stage.cast.feeds[name]:
                self._stage.away[feed] = self._stage.clock.at + seconds(span)
            self._stage.tell(name, f"does not read for {span}", is_fault=True)

    # What the test asks.

    @property
    def now(self) -> datetime:
        """The virtual time (aware UTC)."""
        return utc(self._stage.clock.at)

    def rows(self, participant: str, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """All rows of a statement on a participant's database."""
        return self._stage.node(self._names(participant)[0]).rows(sql, *args)

    def sent(self, kind: type[M]) -> list[M]:
        """The messages of a type that were sent or published, in order; undos are among them."""
        name = self._types.known(kind)
        return [
            decode_message(envelope, kind)
            for envelope in self._stage.recorder.sent
            if envelope.type == name and envelope.kind in ("command", "event", "undo")
        ]

    def handled(self, kind: type[M], *, at: str | None = None) -> list[M]:
        """The messages of a type that a handler has carried out, in order."""
        name = self._types.handled(kind)
        return [
            decode_message(envelope, kind)
            for who, envelope in self._stage.watching.handled
            if envelope.type == name and envelope.kind != "close" and at in (None, who)
        ]

    def letters(self, kind: type[Message] | str | None = None) -> list[DeadLetter]:
        """The dead letters that wait for somebody, by participant and number.

        A letter for which the test is not to blame fails ``check()``, unless it was asked for here.
        """
        name = None if kind is None else self._types.known(kind)
        self._looked = True
        return [letter for letter in self._letters() if name in (None, letter.type)]

    def saga(self, saga_id: str) -> Seen[Any]:
        """A saga by its id, as ``orders/fulfil/1``. Raises NotFound."""
        for (owner, _), kind in self._registry.sagas.items():
            rows = self._stage.nodes[owner].rows(
                "SELECT start FROM outboxd_saga WHERE id = ? AND name = ?", saga_id, kind.name
            )
            for (start,) in rows:
                return Seen(self._stage, owner, decode_envelope(start), kind)
        raise NotFound(f"there is no saga {saga_id}; there are {self._saga_ids() or 'none'}")

    def resource(self, participant: str) -> Any:
        """What stands for ``ctx.resource``: what ``@participant.fake`` made, to look at it."""
        return self._stage.resource(self._names(participant)[0])

    def story(self) -> list[str]:
        """All that happened so far, line by line."""
        return story(self._stage.story)

    # What must hold.

    def check(self) -> None:
        """Everything goes on to its end, and is checked; done at the end of the block by itself.

        What the test asked to go wrong is over; time passes; what died of it is replayed. Then all
        invariants must hold, every saga must have ended, with exactly what it did undone, each
        message was handled once and in order, and nothing is lost or left over. Where a letter of
        another cause remains, and the test has looked at it, only what must hold always is checked.
        """
        __tracebackhide__ = True
        stage = self._stage
        stage.script.end()
        stage.assistant.is_helping = True
        self._go_on(None)
        stage.assistant.is_helping = False
        left = self._letters()
        if left and not self._looked:
            self._fail(
                f"{left[0].name}, {left[0].type} {left[0].key or ''}, is a dead letter",
                [left[0].error, "a test that expects it asks for shop.letters()"],
            )
        self._hold(stage.oracles.at_the_end if not left else lambda: stage.oracles.check("always"))

    def check_script(self) -> None:
        """All that the test asked to go wrong has come. Raises AssertionError where it has not."""
        __tracebackhide__ = True
        unused = self._stage.script.unused()
        if unused:
            calls = ", ".join(sorted(self._stage.script.calls)) or "none"
            hint = f" (calls to the outside: {calls})" if "outside" in unused[0] else ""
            self._fail(f"{', '.join(unused)}: asked for, and never came{hint}", [])

    # How.

    def _go_on(self, until: float | None) -> None:
        __tracebackhide__ = True
        self._stage.must_be_on()
        self._stage.steps = 0
        self._hold(lambda: self._stage.settle(until))

    def _hold(self, act: Callable[[], None]) -> None:
        """Does something during which everything must hold."""
        __tracebackhide__ = True
        try:
            act()
        except Violated as err:
            found = err
        else:
            return
        self._fail(found.rule, found.details)

    def _fail(self, rule: str, details: Sequence[str]) -> NoReturn:
        __tracebackhide__ = True
        told = [*self.story(), f"{'':>10} ✗ {rule}"]
        raise Failed("\n".join([rule, *(f"    {line}" for line in details[:20]), "", *told]))

    def _ask(self, participant: str, kind: str, target: str = "", args: Any = None) -> None:
        node = self._stage.node(self._names(participant)[0])
        self._hold(lambda: self._stage.assistant.ask(node, kind, target, args))
        self._go_on(self._stage.clock.at)

    def _on_letters(self, kind: str, letters: Sequence[DeadLetter | str]) -> None:
        self._looked = True
        for letter in letters:
            name = letter if isinstance(letter, str) else letter.name
            participant, _, number = name.partition("/d-")
            if not number.isdigit():
                raise ConfigError(f"{name!r} is no letter: write it as payments/d-1")
            self._ask(participant, kind, args={"letters": [int(number)]})

    def _letters(self) -> list[DeadLetter]:
        return [
            DeadLetter(f"{node.name}/d-{n}", *rest)
            for node in self._stage.nodes.values()
            for n, *rest in node.rows(
                "SELECT n, type, key, error_type || ': ' || error, state, id "
                "FROM outboxd_dead WHERE state = 'dead' ORDER BY n"
            )
        ]

    def _saga_ids(self) -> str:
        found = [
            saga_id
            for node in self._stage.nodes.values()
            for (saga_id,) in node.rows("SELECT id FROM outboxd_saga ORDER BY id LIMIT 9")
        ]
        return ", ".join(found)


def _saga_id(saga: Seen[Any] | str) -> str:
    return saga if isinstance(saga, str) else saga.saga_id
