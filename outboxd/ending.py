"""How a saga ends: undone step by step, the last first, and answered to whoever started it."""

from __future__ import annotations

from typing import Any

from . import asking
from .batch import Batch
from .book import Book, Live
from .errors import SagaMisuse
from .message import Envelope, decode_envelope, encode, encode_raw, in_stream, key_of
from .saga import Call, Publish, Send, Start, Undo
from .store import fence, journal
from .store.journal import CallRow
from .tx import Tx

LEFT = "left"
"""The outcome that the close of a call carries whose caller was ended by hand."""

SETTLED = "settled"
"""The outcome that a close of an undo carries: an operator says that nothing is left to undo."""


class Ending:
    """Unwinds and ends the sagas of one participant."""

    def __init__(self, book: Book) -> None:
        self.name = book.name
        self._book = book

    def unwind(self, batch: Batch, live: Live) -> None:
        """Undoes what was or may have been done; waits for each answer before the next."""
        for undo in reversed(self._book.instance(batch, live).undos):
            state = live.undos.get(undo.pos)
            if state == "done":
                continue
            if state is None:
                self.ask(batch, live, undo)
            if undo.fn is None:
                live.row.step = f"undo {_name(undo)}"
                self._book.save(batch, live)
                return
        self.end_if_answered(batch, live)

    def ask(self, batch: Batch, live: Live, undo: Undo) -> None:
        """Asks for one undo, or runs it if it is a function of the saga's own participant."""
        name = _name(undo)
        if undo.fn is not None:
            self.run(batch, live, undo.pos, undo.fn, undo.args, {})
            self._book.set_undo(batch, live, undo.pos, name, "done")
            self._book.journal(batch, live, "undo_done", undo.pos, name)
            return
        if undo.step is None:
            raise SagaMisuse(f"the undo at step {undo.pos} has neither a call nor a function")
        self._send(batch, live, undo.pos, undo.step, "done" if undo.was_done else None)
        self._book.set_undo(batch, live, undo.pos, name, "sent")
        self._book.journal(batch, live, "undo_sent", undo.pos, name)

    def close(self, batch: Batch, live: Live, call: CallRow) -> None:
        """A call that nobody waits for any more is closed at its receiver, and never runs late.

        A saga that it has started is cancelled. Nobody waits for an answer: the outbox does not
        lose it.
        """
        self._send_close(batch, live, call.to_name, call.name, call.pos, None)

    def leave(self, batch: Batch, live: Live, call: CallRow) -> None:
        """Like ``close``, but what has begun goes on."""
        self._send_close(batch, live, call.to_name, call.name, call.pos, LEFT)

    def settle_undo(self, batch: Batch, live: Live, pos: int, to: str | None, name: str) -> None:
        """An undo that an operator answers for is not carried out any more."""
        self._book.set_undo(batch, live, pos, name, "done")
        if to is not None:
            self._send_close(batch, live, to, name, pos, SETTLED)

    def answered(self, batch: Batch, live: Live, envelope: Envelope) -> None:
        """An undo or a close was carried out."""
        pos = envelope.call or 0
        self._book.set_undo(batch, live, pos, envelope.type, "done")
        self._book.journal(batch, live, "undo_done", pos, envelope.type, bytes(envelope.data))
        self.go_on(batch, live)

    def go_on(self, batch: Batch, live: Live) -> None:
        """One undo or close less is to be waited for."""
        if live.row.state == "compensating":
            self.unwind(batch, live)
        elif live.row.ending is not None:
            self.end_if_answered(batch, live)
        else:
            self._book.save(batch, live)

    def end_if_answered(self, batch: Batch, live: Live) -> None:
        """The end, unless an undo or a close that was asked for is still without an answer."""
        row = live.row
        if "sent" in live.undos.values():
            row.step = "closing"
            self._book.save(batch, live)
            return
        self._book.become(live, row.ending or "completed")
        row.ended_at, row.step, row.stuck, row.detail = batch.now, None, None, None
        self._book.journal(batch, live, "ended", 0, row.state)
        self._book.save(batch, live)
        self.answer(batch, decode_envelope(row.start), live)
        for body in journal.take_waiters(batch.connection, row.id):
            waiter = decode_envelope(body)
            if waiter.is_undo:
                batch.outcome.freed.append(waiter.id)
            else:
                self.answer(batch, waiter, live)
        batch.outcome.ended.append(row.id)

    def answer(self, batch: Batch, start: Envelope, live: Live) -> None:
        """Tells whoever called for this saga how it ended."""
        row = live.row
        if start.call is not None and row.state == "completed":
            known = fence.get(batch.connection, start.id)
            if known is not None and known.state == "started":
                fence.put(batch.connection, start.id, "done", batch.now, row.result)
        if row.state == "completed":
            batch.reply(start, "ok", row.result or b"null")
        else:
            batch.reply(start, "rejected", encode({"reason": row.reason or row.state}))

    def run(
        self, batch: Batch, live: Live, pos: int, fn: Any, args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        """Runs a function of the saga's participant inside the transaction that moves the saga."""
        with self._tx(batch, live, pos) as tx:
            value = fn(tx, *args, **kwargs)
        batch.send_all(tx.outgoing)
        return value

    def tell(self, batch: Batch, live: Live, pos: int, action: Send | Publish | Start) -> None:
        """Sends, publishes or starts without waiting."""
        if isinstance(action, Start):
            asking.start(batch, live.row, pos, action)
            return
        tx = self._tx(batch, live, pos)
        if isinstance(action, Send):
            tx.send(action.command, delay=action.delay_s)
        else:
            tx.publish(action.event)
        batch.send_all(tx.outgoing)

    def _tx(self, batch: Batch, live: Live, pos: int) -> Tx:
        cause = Envelope(
            specversion="1.0",
            id=asking.message_id(live.row, pos),
            type=live.row.name,
            source=self.name,
            time=batch.time,
            subject=live.row.key,
            correlationid=live.row.id,
        )
        return Tx(batch.connection, self.name, cause, batch.now)

    def _send_close(
        self, batch: Batch, live: Live, to: str, name: str, pos: int, outcome: str | None
    ) -> None:
        """A close without a key: it finds its step whatever the step's lane is."""
        step_id = asking.message_id(live.row, pos)
        batch.send(
            in_stream(to),
            Envelope(
                specversion="1.0",
                id=f"{step_id}~{SETTLED if outcome == SETTLED else 'close'}",
                type=name,
                source=self.name,
                time=batch.time,
                kind="close",
                correlationid=live.row.id,
                call=pos,
                outcome=outcome,
                undoes=step_id,
            ),
        )

    def _send(self, batch: Batch, live: Live, pos: int, step: Call, outcome: str | None) -> None:
        """An undo, or without one a close, in the lane of its step; ``outcome``: the step's."""
        command = step.undo or step.command
        batch.send(
            in_stream(step.command.__outboxd__.to or ""),
            Envelope(
                specversion="1.0",
                id=asking.undo_id(live.row, pos),
                type=type(command).__name__,
                source=self.name,
                time=batch.time,
                subject=key_of(step.command),
                data=encode_raw(command),
                kind="undo" if step.undo is not None else "close",
                correlationid=live.row.id,
                replyto=self.name,
                call=pos,
                outcome=outcome,
                undoes=asking.message_id(live.row, pos),
                schemaversion=command.__outboxd__.version,
            ),
        )


def _name(undo: Undo) -> str:
    if undo.step is None:
        return getattr(undo.fn, "__name__", "undo")
    return type(undo.step.undo or undo.step.command).__name__
