"""Operators' and senders' requests, applied: each in its participant's own transaction, once.

A request is idempotent by its id; a row in ``outboxd_applied`` says who asked, why, and what came of it.
"""

from __future__ import annotations

import msgspec

from .batch import Batch, Outcome
from .delivery import Delivery
from .errors import OutboxdError, Refused
from .lanes import HELD, WAITING
from .message import Envelope, Undecodable, decode_data, decode_envelope, encode, key_of
from .store import applied, dead, fence, inbox
from .store.connection import Connection
from .store.control import Request
from .store.dead import Letter
from .store.inbox import Held

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


def apply(delivery: Delivery, connection: Connection, request: Request) -> Outcome:
    """Applies ``request``; ``Outcome.answer`` says what came of it.

    Raises Refused, with nothing changed, where it cannot apply.
    """
    with delivery.batch(connection) as batch:
        before = applied.get(connection, request.id)
        if before is not None:
            batch.outcome.answer = before
            return batch.outcome
        try:
            batch.outcome.answer = _apply(delivery, batch, request)
        except (Undecodable, msgspec.MsgspecError) as err:
            raise Refused(str(err)) from err
        applied.add(connection, request, batch.now, batch.outcome.answer)
    return batch.outcome


def _apply(delivery: Delivery, batch: Batch, request: Request) -> str:
    match request.kind:
        case "send":
            return _send(delivery, batch, request)
        case "dead.replay" | "dead.discard":
            numbers = decode_data(request.args, LetterArgs).letters
            act = _replay if request.kind == "dead.replay" else _discard
            for n in numbers:
                letter = dead.get(batch.connection, n)
                if letter is None:
                    raise Refused(f"{delivery.name} has no dead letter d-{n}")
                act(delivery, batch, letter, request.reason)
            return f"{len(numbers)} letters"
        case "saga.cancel":
            delivery.conductor.cancel(batch, request.target, request.reason)
        case "saga.kill":
            delivery.conductor.kill(batch, request.target, request.reason)
        case "saga.retry":
            delivery.conductor.retry(batch, request.target)
        case _:
            raise Refused(f"no request of kind {request.kind!r} is known here")
    _wake_held(delivery, batch, request.target)
    return "done"


def _send(delivery: Delivery, batch: Batch, request: Request) -> str:
    """A message from outside; checked against its type before it is ours."""
    args: SendArgs = decode_data(request.args, SendArgs)
    message_type = delivery.registry.messages.get(request.target)
    if message_type is None or delivery.registry.owner(request.target) != delivery.name:
        raise Refused(f"{delivery.name} does not own {request.target}")
    message = decode_data(args.data, message_type)
    envelope = Envelope(
        specversion="1.0",
        id=args.id,
        type=request.target,
        source=args.source,
        time=batch.time,
        subject=args.key or key_of(message),
        data=args.data,
        kind="command",
        correlationid=args.id,
    )
    delivery.take_foreign(batch, envelope, encode(envelope))
    return args.id


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
        held.attempts, held.letter = 0, letter.n
        delivery.put_back(batch, held, WAITING, batch.now)
        return
    delivery.hold(
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
    dead.set_state(batch.connection, letter.n, "discarded", reason)
    delivery.letters -= 1
    held = inbox.by_id(batch.connection, letter.id)
    if held is not None and held.state == HELD:
        delivery.leave(batch, held)
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
        held.attempts, held.error = 0, None
        delivery.put_back(batch, held, WAITING, batch.now)


def problem(err: OutboxdError) -> str:
    """A refusal as one line."""
    return f"{err.message}; {err.hint}" if err.hint else err.message
