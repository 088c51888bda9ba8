"""Operators' and senders' requests, applied: each in its participant's own transaction, once.

A request is idempotent by its id; a row in ``outboxd_applied`` says who asked, why, and what came
of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from . import standing
from .batch import Batch
from .errors import OutboxdError, Refused
from .lanes import HELD, WAITING
from .message import (
    BadKey,
    Envelope,
    Event,
    TooBig,
    Undecodable,
    checked_size,
    decode_data,
    decode_envelope,
    encode,
    key_of,
)
from .store import applied, dead, fence, inbox, pausing
from .store.control import Request
from .store.dead import Letter
from .store.inbox import Held
from .store.pausing import Pause

if TYPE_CHECKING:
    from .delivery import Delivery

REPLAY = "replay"


class SendArgs(msgspec.Struct, frozen=True):
    """Arguments of ``send``."""

    id: str
    data: msgspec.Raw
    key: str | None = None
    source: str = "client"


class LetterArgs(msgspec.Struct, frozen=True):
    """Arguments of ``dead.replay`` and ``dead.discard``."""

    letters: list[int]


class SkipArgs(msgspec.Struct, frozen=True):
    """Arguments of ``saga.skip``: what the step is answered with; ``step`` if there are several."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    step: int | None = None


class ResolveArgs(msgspec.Struct, frozen=True):
    """Arguments of ``saga.resolve``."""

    state: Literal["completed", "compensated"]
    result: msgspec.Raw = msgspec.Raw(b"null")


def apply(delivery: Delivery, batch: Batch, request: Request) -> str:
    """Applies ``request`` and says what came of it; a second time it only says so again.

    Raises Refused where it cannot apply.
    """
    before = applied.get(batch.connection, request.id)
    if before is not None:
        return before
    try:
        answer = _apply(delivery, batch, request)
    except (Undecodable, TooBig, BadKey) as err:
        raise Refused(err.message, hint=err.hint) from err
    applied.add(batch.connection, request, batch.now, answer)
    return answer


def _apply(delivery: Delivery, batch: Batch, request: Request) -> str:
    match request.kind:
        case "send":
            return _send(delivery, batch, request)
        case "dead.replay" | "dead.discard":
            return _on_letters(delivery, batch, request)
        case "participant.pause" | "participant.resume":
            return _pause(delivery, batch, request)
        case "sender.trust":
            return _trust(delivery, batch, request.target)
        case "subscriber.remove":
            return delivery.subscribing.remove(batch, request.target)
        case "saga.cancel":
            standing.cancel(delivery.conductor, batch, request.target, request.reason)
        case "saga.kill":
            standing.kill(delivery.conductor, batch, request.target, request.reason)
        case "saga.retry":
            standing.retry(delivery.conductor, batch, request.target)
        case "saga.skip" | "saga.resolve":
            _by_hand(delivery, batch, request)
        case _:
            raise Refused(f"no request of kind {request.kind!r} is known here")
    _wake_held(delivery, batch, request.target)
    return "done"


def cancel_child(delivery: Delivery, batch: Batch, envelope: Envelope) -> None:
    """Whoever called for a saga takes that back. One that cannot be cancelled goes to its end."""
    saga_id = envelope.correlationid or ""
    reason = decode_data(envelope.data, dict[str, str])["reason"]
    try:
        standing.cancel(delivery.conductor, batch, saga_id, reason)
    except Refused:
        return
    _wake_held(delivery, batch, saga_id)


def _by_hand(delivery: Delivery, batch: Batch, request: Request) -> None:
    """An operator says what a step was answered with, or how the saga ended."""
    if not request.reason.strip():
        raise Refused("this needs a reason, for whoever reads the audit trail later")
    by = standing.By(request.who, request.reason)
    if request.kind == "saga.skip":
        skip = decode_data(request.args, SkipArgs)
        value = bytes(skip.value)
        standing.skip(delivery.conductor, batch, request.target, skip.step, value, by)
    else:
        end = decode_data(request.args, ResolveArgs)
        result = bytes(end.result)
        standing.resolve(delivery.conductor, batch, request.target, end.state, result, by)


def _on_letters(delivery: Delivery, batch: Batch, request: Request) -> str:
    act = _replay if request.kind == "dead.replay" else _discard
    numbers = decode_data(request.args, LetterArgs).letters
    for n in numbers:
        letter = dead.get(batch.connection, n)
        if letter is None:
            raise Refused(f"{delivery.name} has no dead letter d-{n}")
        act(delivery, batch, letter, request.reason)
    return f"{len(numbers)} letter{'' if len(numbers) == 1 else 's'}"


def _send(delivery: Delivery, batch: Batch, request: Request) -> str:
    """A message from outside, checked against its type: a command for us, or an event of ours."""
    args: SendArgs = decode_data(request.args, SendArgs)
    message_type = delivery.registry.message(request.target)
    is_event = message_type is not None and issubclass(message_type, Event)
    owner = message_type.__outboxd__.source if is_event and message_type else None
    if message_type is None or (owner or delivery.registry.owner(request.target)) != delivery.name:
        raise Refused(f"{delivery.name} does not own {request.target}")
    message = decode_data(args.data, message_type)
    envelope = Envelope(
        specversion="1.0",
        id=args.id,
        type=message_type.__name__,
        source=delivery.name if is_event else args.source,
        time=batch.time,
        subject=args.key or key_of(message),
        data=args.data,
        kind="event" if is_event else "command",
        correlationid=args.id,
        schemaversion=message.__outboxd__.version,
    )
    if is_event:
        batch.publish(envelope)
    else:
        delivery.arrival.take_foreign(batch, envelope, checked_size(encode(envelope)))
    return args.id


def _pause(delivery: Delivery, batch: Batch, request: Request) -> str:
    """It takes no more messages and begins no attempts; or it does so again."""
    was = delivery.paused
    is_pause = request.kind == "participant.pause"
    if is_pause and was is not None:
        return f"{delivery.name} was paused already, by {was.who}: {was.reason}"
    if not is_pause and was is None:
        return f"{delivery.name} was not paused"
    delivery.paused = Pause(batch.now, request.who, request.reason) if is_pause else None
    pausing.put(batch.connection, delivery.paused)
    batch.note("paused" if is_pause else "resumed", by=request.who, reason=request.reason)
    return "paused" if is_pause else "resumed"


def _trust(delivery: Delivery, batch: Batch, sender: str) -> str:
    """A restored store of ``sender`` is believed: its numbers begin anew, in its new epoch."""
    epoch = delivery.arrival.strangers.pop(sender, None)
    if epoch is None:
        return f"{delivery.name} holds nothing back from {sender}"
    for key, row in delivery.holding.senders.items():
        if key[0] == sender:
            row.epoch, row.since, row.accepted, row.done = epoch, 0, 0, 0
            batch.touched.add(key)
    return f"{sender} is trusted in epoch {epoch}"


def _replay(delivery: Delivery, batch: Batch, letter: Letter, reason: str) -> None:
    """The letter's message comes again, exempt from order unless it holds its key."""
    if letter.state != "dead":
        raise Refused(f"{letter.name} is {letter.state}: {letter.reason or 'it is under way'}")
    known = fence.get(batch.connection, letter.id)
    if known is not None and known.state in ("closed", "undone"):
        raise Refused(f"{letter.name} belongs to a call that its saga has closed")
    dead.set_state(batch.connection, letter.n, "replaying", reason or None)
    _tell_waiting(batch, letter, "replaying")
    held = inbox.by_id(batch.connection, letter.id)
    if held is not None and held.state == HELD:
        held.attempts, held.crashes, held.letter = 0, 0, letter.n
        delivery.holding.put_back(batch, held, WAITING, batch.now)
        return
    delivery.holding.hold(
        batch,
        Held(
            n=0,
            lane=f"{REPLAY}#{letter.n}",
            id=letter.id,
            sender=letter.sender,
            kind=letter.kind,
            type=letter.type,
            key=letter.key,
            state=WAITING,
            is_suspect=0,
            attempts=0,
            crashes=0,
            letter=letter.n,
            at=batch.now,
            due_at=batch.now,
            started_at=None,
            error=None,
            body=letter.body,
        ),
    )


def _discard(delivery: Delivery, batch: Batch, letter: Letter, reason: str) -> None:
    """Given up, with a reason; whoever waits for it is told, and it can never run again."""
    if letter.state != "dead":
        raise Refused(f"{letter.name} is {letter.state}")
    delivery.letters.discard(batch, letter, reason)
    held = inbox.by_id(batch.connection, letter.id)
    if held is not None and held.state == HELD:
        delivery.holding.leave(batch, held)
    _tell_waiting(batch, letter, "discarded", encode({"reason": f"discarded: {reason}"}))


def _tell_waiting(batch: Batch, letter: Letter, outcome: str, data: bytes = b"null") -> None:
    try:
        envelope = decode_envelope(letter.body)
    except Undecodable:
        return  # whoever sent it, nobody can be told
    # The replay count makes each of these answers a message of its own.
    answer = msgspec.structs.replace(envelope, id=f"{envelope.id}:{letter.replays}")
    batch.reply(answer, outcome, data)


def _wake_held(delivery: Delivery, batch: Batch, saga_id: str) -> None:
    """The messages that were held while the saga was stuck come again, with fresh attempts."""
    for held in inbox.held_for(batch.connection, saga_id):
        held.attempts, held.crashes, held.error = 0, 0, None
        delivery.holding.put_back(batch, held, WAITING, batch.now)


def problem(err: OutboxdError) -> str:
    """A refusal as one line."""
    return f"{err.message}; {err.hint}" if err.hint else err.message
