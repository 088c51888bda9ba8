"""A call's answer, recorded with what it tells of: a second time it is only said again.

The fence is the record. A call that was closed before it came is not executed, and not answered.
"""

from __future__ import annotations

from .batch import Batch
from .message import Envelope
from .store import fence


def conclude(batch: Batch, envelope: Envelope, result: bytes) -> None:
    """Records and answers a call that was carried out, or an undo."""
    if envelope.is_undo:
        fence.put(batch.connection, envelope.undoes or "", "undone", batch.now)
        batch.reply(envelope, "undone", result)
    elif envelope.call is not None:
        fence.put(batch.connection, envelope.id, "done", batch.now, result)
        batch.reply(envelope, "ok", result)


def is_refused(batch: Batch, envelope: Envelope) -> bool:
    """Whether the call was closed while its effect ran: what it learned is not committed."""
    if envelope.call is None or envelope.is_undo:
        return False
    known = fence.get(batch.connection, envelope.id)
    return known is not None and known.state in ("closed", "undone")


def answer_again(batch: Batch, envelope: Envelope) -> bool:
    """Whether this call was carried out or closed before; then it is not executed."""
    if envelope.call is None:
        return False
    known = fence.get(batch.connection, envelope.id)
    if known is None or known.state == "started":
        return False
    if known.state == "done":
        batch.reply(envelope, "ok", known.result or b"null")
    return True
