"""The five participants on bare in-memory databases, and a saga stepped by hand.

No numbers, no inbox, no stream: what is proved here is the plugins' own code.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from outboxd import Command, Context, Db, Event, Participant, Reject, Rejected, Tx
from outboxd.errors import SagaEnd
from outboxd.instance import Instance, Returned, Steps, Unwound
from outboxd.message import Envelope, Message, key_of
from outboxd.participant import Step
from outboxd.registry import Registry
from outboxd.saga import Call, Publish, Run, Saga, Undo
from outboxd.saga import Step as Asked
from plugins.inventory import inventory
from plugins.notifications import notifications
from plugins.notifications.mailer import Mailer
from plugins.orders import fulfil, orders
from plugins.orders.messages import PlaceOrder
from plugins.payments import payments
from plugins.shipping import shipping
from plugins.shipping.courier import Courier

M = TypeVar("M", bound=Message)
T = TypeVar("T")

PARTICIPANTS = [orders, payments, inventory, shipping, notifications]


class InstantCourier(Courier):
    """The courier on a good day: at once, and never in doubt."""

    @asynccontextmanager
    async def _wire(self, request: str) -> AsyncIterator[None]:
        yield


def envelope(message: Message, message_id: str) -> Envelope:
    return Envelope(
        specversion="1.0",
        id=message_id,
        type=type(message).__name__,
        source="test",
        time=datetime(2024, 1, 1, tzinfo=UTC),
        subject=key_of(message),
    )


class Remembered:
    """Effects that record in memory; kept from one attempt to the next."""

    def __init__(self, desk: Desk, message: Message, message_id: str) -> None:
        self.results: dict[str, Any] = {}
        self._desk = desk
        self._message = message
        self._message_id = message_id

    async def once(self, name: str, call: Callable[[], Awaitable[Any]], wanted: Any) -> Any:
        if name not in self.results:
            self.results[name] = await call()
        return self.results[name]

    async def commit(self, fn: Callable[[Tx], Any]) -> Any:
        return self._desk.transact(fn, self._message, self._message_id)


class Desk:
    """One participant's database, and what its transactions sent."""

    def __init__(self, participant: Participant) -> None:
        self.name = participant.name
        self.participant = participant
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.connection.executescript(participant.schema or "")
        self.sent: list[Envelope] = []
        self.db = Db(self.connection)

    def __del__(self) -> None:
        # One per example of a property: Python 3.13 warns of a connection that is only dropped. In
        # whatever thread the collector runs, so no thread is checked.
        self.connection.close()

    def transact(self, fn: Callable[[Tx], T], message: Message, message_id: str = "m-1") -> T:
        """All of ``fn`` or nothing."""
        tx = Tx(self.connection, self.name, envelope(message, message_id), 0.0)
        self.connection.execute("BEGIN")
        try:
            value = fn(tx)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        self.sent += [outgoing.envelope for outgoing in tx.outgoing]
        return value

    def handle(self, fn: Callable[[Tx, M], T], message: M) -> T:
        return self.transact(lambda tx: fn(tx, message), message)

    def context(
        self, message: Message, resource: Any, message_id: str = "m-1", step: Step | None = None
    ) -> Context:
        effects = Remembered(self, message, message_id)
        return Context(envelope(message, message_id), 1, step, resource, effects)


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs an effect that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("it waits")


class Shop:
    """All five, a courier and a mail server."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(PARTICIPANTS)
        self.desks = {participant.name: Desk(participant) for participant in PARTICIPANTS}
        self.courier = InstantCourier(folder / "courier.jsonl")
        self.mailer = Mailer(folder / "mail.jsonl")
        self.published: list[Event] = []

    def __enter__(self) -> Shop:
        return self

    def __exit__(self, *_: object) -> None:
        self.courier.close()
        self.mailer.close()
        for desk in self.desks.values():
            desk.connection.close()

    def ask(self, command: Command[Any], step: Step | None = None) -> Any:
        """What the command's owner answers; raises its Reject."""
        name, owner = type(command).__name__, command.__outboxd__.to or ""
        handler = self.registry.handler(owner, name)
        assert handler is not None
        desk = self.desks[owner]
        if not handler.is_effect:
            return desk.handle(handler.spec.fn, command)
        message_id = f"{name} {key_of(command)}"
        return finish(
            handler.spec.fn(desk.context(command, self.courier, message_id, step), command)
        )

    def violations(self) -> list[str]:
        """What every invariant of every participant yields."""
        return [
            sentence
            for desk in self.desks.values()
            for invariant in desk.participant.invariants
            for sentence in invariant.fn(
                Db(desk.connection, lambda name: self.desks[name].connection)
            )
        ]


class Fulfilment:
    """One saga, a step at a time; ``outcomes`` says which calls end otherwise than answered."""

    def __init__(
        self,
        shop: Shop,
        order: PlaceOrder,
        outcomes: dict[type[Command[Any]], SagaEnd] | None = None,
    ) -> None:
        self.steps: list[str] = []
        self.undone: list[str] = []
        self.result: Returned | Unwound | None = None
        self._shop = shop
        self._order = order
        self._outcomes = outcomes or {}
        self._instance = Instance(
            Saga(f"orders/fulfil/{order.order_id}", order.order_id), fulfil, order
        )

    @property
    def saga(self) -> Saga:
        return self._instance.saga

    def run(self) -> Fulfilment:
        for _ in self.walk():
            pass
        return self

    def walk(self) -> Generator[None, None, None]:
        """Yields after each step and each undo, so that others can come between."""
        moved = self._instance.start(0.0)
        while isinstance(moved, Asked):
            self.steps.append(moved.name)
            try:
                value = self._take(moved)
            except SagaEnd as error:
                moved = self._instance.throw(
                    0.0, error, may_have_run=not isinstance(error, Rejected)
                )
            else:
                moved = self._instance.resume(0.0, value)
            yield
        assert not isinstance(moved, Steps)
        self.result = moved
        if isinstance(moved, Unwound):
            for undo in reversed(self._instance.undos):
                self._undo(undo)
                yield

    def _take(self, step: Asked) -> Any:
        match step.action:
            case Run(fn=fn, args=args):
                return self._own(fn, args)
            case Publish(event=event):
                self._shop.published.append(event)
            case Call(command=command):
                return self._call(command)
            case other:
                raise AssertionError(other)

    def _call(self, command: Command[Any]) -> Any:
        if type(command) in self._outcomes:
            raise self._outcomes[type(command)]
        try:
            return self._shop.ask(command)
        except Reject as no:
            raise Rejected(no.reason) from no

    def _undo(self, undo: Undo) -> None:
        if undo.step is None:
            assert undo.fn is not None
            self.undone.append(undo.fn.__name__)
            self._own(undo.fn, undo.args)
        elif undo.step.undo is not None:
            self.undone.append(type(undo.step.undo).__name__)
            name = f"{type(undo.step.command).__name__} {key_of(undo.step.command)}"
            self._shop.ask(undo.step.undo, Step(name, known=False, result=None))

    def _own(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return self._shop.desks["orders"].transact(lambda tx: fn(tx, *args), self._order)
