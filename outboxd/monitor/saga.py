"""One saga, all of it: steps, history, what it waits for in words, and what would move it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from outboxd.clock import in_words, utc
from outboxd.store import control, journal
from outboxd.store.reading import letters as letter_reading
from outboxd.store.reading import sagas as reading
from outboxd.store.reading.sagas import Instance, OpenCall

from . import sagas, whereabouts
from .files import Files
from .letters import Operation, operations
from .sagas import SagaRow
from .scene import Scene
from .whereabouts import Whereabouts

_OPENED = ("call", "join", "sleep", "until", "receive")
_AT_ONCE = {"run": "done", "sent": "sent", "published": "published", "started": "started"}
_ENDED_AS = {
    "ok": "done",
    "skipped": "skipped",
    "woke": "done",
    "received": "done",
    "dropped": "dropped",
    "rejected": "rejected",
    "timed_out": "timed out",
    "failed": "failed",
    "cancelled": "cancelled",
}

_UNDONE = {"undo_done": "done", "undo_skipped": "skipped"}

_BY_HAND = ("bug", "code changed", "forward")
"""A saga that is stuck so waits for a person, whatever else it waits for."""

_LONGEST_TEXT = 300


class SagaStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step. ``state``: done, sent, published, started, skipped, rejected, timed out, failed,
    cancelled, dropped (what it stood beside has ended), or as the saga's while it is open;
    ``undo``: sent or done, once it is asked for; ``text``: what came back; ``tried_at``: when its
    tries failed.
    """

    pos: int
    kind: str
    name: str
    to: str | None
    state: str
    undo: str | None
    failed_tries: int
    started_at: datetime
    ended_at: datetime | None
    took_s: float | None
    text: str | None
    tried_at: tuple[datetime, ...] = ()

    @property
    def title(self) -> str:
        """Its name for a person: a sleep is called by its span, like ``sleep 3d``."""
        match self.kind:
            case "sleep":
                return f"sleep {in_words(float(self.name.removesuffix('s')))}"
            case "until":
                return f"until {self.name[:16].replace('T', ' ')}"
            case _:
                return self.name


class HistoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the journal; ``since_s``: seconds since the row before; ``data``: all of what was
    recorded, of which ``text`` is the short form.
    """

    n: int
    at: datetime
    since_s: float
    kind: str
    pos: int
    name: str
    text: str | None
    data: msgspec.Raw | None = None


class SagaDetail(msgspec.Struct, frozen=True, kw_only=True):
    """``waits_for``: sentences; ``moves``: commands; ``next``: what happens by itself, and when, or
    what keeps it from happening. ``detail`` may be a whole traceback; ``result`` is what it
    returned, as JSON; ``start`` the message that started it; ``undos`` are those asked for, the
    latest step's first.
    """

    saga: SagaRow
    version: int
    is_forward_only: bool
    stuck: str | None
    ending: str | None
    reason: str | None
    detail: str | None
    result: msgspec.Raw | None
    start: msgspec.Raw | None
    steps: tuple[SagaStep, ...]
    undos: tuple[SagaStep, ...]
    history: tuple[HistoryRow, ...]
    operations: tuple[Operation, ...]
    waits_for: tuple[str, ...]
    moves: tuple[str, ...]
    next: tuple[str, ...] = ()


class _ByHand(msgspec.Struct, frozen=True):
    """What an operator did, as the journal has it."""

    who: str = ""
    reason: str = ""
    value: msgspec.Raw = msgspec.Raw(b"null")


def detail(files: Files, text: str, now: float) -> SagaDetail:
    """All about one saga, by its id or its key; raises NotFound."""
    saga_id = sagas.find(files, text)
    row, saga, waits = sagas.one(files, saga_id, now)
    with files.read(row.participant) as connection:
        rows = journal.rows(connection, saga_id)
        undos = reading.undo_states(connection, saga_id)
        done = operations(connection, saga_id)
        result = reading.result(connection, saga_id)
        start = reading.start(connection, saga_id)
    scene = Scene.of(files, now)
    found = [whereabouts.of(scene, row.participant, call) for call in waits]
    return SagaDetail(
        saga=row,
        version=saga.version,
        is_forward_only=bool(saga.is_forward),
        stuck=saga.stuck,
        ending=saga.ending,
        reason=saga.reason,
        detail=saga.detail,
        result=_json(result),
        start=_json(start),
        steps=tuple(_with_tries(files, saga, s) for s in _steps(files, rows, undos, row)),
        undos=tuple(_with_tries(files, saga, s) for s in _undos(files, rows, row)),
        history=tuple(_history(rows)),
        operations=tuple(done),
        waits_for=tuple(_waits(saga, waits, [place.text for place in found])),
        moves=tuple(_moves(scene, saga, [call.pos for call in waits], found)),
        next=tuple(dict.fromkeys(_next(scene, saga, waits, found))),
    )


def _waits(saga: Instance, waits: list[OpenCall], texts: list[str]) -> Iterable[str]:
    if saga.stuck == "bug":
        yield f"for a person: its code failed: {_last_line(saga.detail)}"
    elif saga.stuck == "code changed":
        yield f"for a person: its code no longer fits its journal: {_last_line(saga.detail)}"
    elif saga.stuck == "forward":
        yield f"for a person: it can only go forward, and {_last_line(saga.detail)}"
    elif saga.stuck is not None and not texts:
        yield f"for a person: {_last_line(saga.detail)}"
    yield from texts
    if saga.state == "running" and not waits:
        yield "for its next message to be handled"


def _next(
    scene: Scene, saga: Instance, waits: list[OpenCall], found: list[Whereabouts]
) -> Iterable[str]:
    """What happens by itself, and when."""
    if saga.ended_at is not None:
        age, took = in_words(scene.now - saga.ended_at), in_words(saga.ended_at - saga.started_at)
        reason = f": {saga.reason}" if saga.reason else ""
        yield f"nothing: it was {saga.state} {age} ago, after {took}{reason}"
        return
    if saga.stuck in _BY_HAND or (saga.stuck is not None and not found):
        yield "nothing, until a person moves it; its deadlines stand still meanwhile"
        return
    idle = scene.at(saga.id.partition("/")[0])
    if idle is not None and saga.stuck is None:
        yield idle.text
    for call, place in zip(waits, found, strict=True):
        if place.next:
            yield place.next
        yield from whereabouts.deadline(scene, call, is_forward=bool(saga.is_forward))


def _moves(
    scene: Scene, saga: Instance, waits: list[int], found: list[Whereabouts]
) -> Iterable[str]:
    if saga.ended_at is not None:
        return
    idle = scene.at(saga.id.partition("/")[0]) if saga.stuck is None else None
    in_the_way = idle.moves if idle is not None else ()
    yield from dict.fromkeys([*in_the_way, *(move for place in found for move in place.moves)])
    for name in (place.letter for place in found if place.letter is not None):
        yield f"outboxd dead replay {name}"
        yield f"outboxd dead discard {name}"
    if saga.stuck in ("bug", "code changed", "forward"):
        yield f"outboxd saga retry {saga.id}"
    if saga.stuck is not None and saga.stuck != "code changed":
        for pos in waits:
            yield f"outboxd saga skip {saga.id}{f' --step {pos}' if len(waits) > 1 else ''}"
    if not saga.is_forward and saga.ending is None and saga.stuck != "code changed":
        yield f"outboxd saga cancel {saga.id}"
    if saga.stuck is not None:
        yield f"outboxd saga resolve {saga.id} completed"
        yield f"outboxd saga resolve {saga.id} compensated"
    yield f"outboxd saga kill {saga.id}"


def _last_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[-1] if lines else "nothing is known of it"


def _history(rows: list[journal.JournalRow]) -> Iterable[HistoryRow]:
    before = rows[0].at if rows else 0.0
    for row in rows:
        yield HistoryRow(
            n=row.n,
            at=utc(row.at),
            since_s=row.at - before,
            kind=row.kind,
            pos=row.pos,
            name=row.name,
            text=_said(row),
            data=_json(row.data),
        )
        before = row.at


def _steps(
    files: Files, rows: list[journal.JournalRow], undos: dict[int, str], saga: SagaRow
) -> list[SagaStep]:
    owners = _owners(files)
    steps: dict[int, SagaStep] = {}
    for row in rows:
        if row.kind in _OPENED or row.kind in _AT_ONCE:
            steps[row.pos] = _opened(row, owners, undos, saga.state)
        elif row.kind in _ENDED_AS and row.pos in steps:
            steps[row.pos] = _ended(steps[row.pos], row)
    return list(steps.values())


def _opened(
    row: journal.JournalRow, owners: dict[str, str], undos: dict[int, str], state: str
) -> SagaStep:
    is_over = row.kind in _AT_ONCE
    return SagaStep(
        pos=row.pos,
        kind=row.kind,
        name=row.name,
        to=owners.get(row.name) if row.kind in ("call", "join", "sent", "started") else None,
        state=_AT_ONCE.get(row.kind, state),
        undo=undos.get(row.pos),
        failed_tries=0,
        started_at=utc(row.at),
        ended_at=utc(row.at) if is_over else None,
        took_s=0.0 if is_over else None,
        text=_text(row.data),
    )


def _ended(step: SagaStep, row: journal.JournalRow) -> SagaStep:
    return msgspec.structs.replace(
        step,
        state=_ENDED_AS[row.kind],
        ended_at=utc(row.at),
        took_s=row.at - step.started_at.timestamp(),
        text=_said(row),
    )


def _with_tries(files: Files, saga: reading.Instance, step: SagaStep) -> SagaStep:
    if step.kind not in ("call", "undo") or step.to is None or not files.has(step.to):
        return step
    tail = "~undo" if step.kind == "undo" else ""
    with files.read(step.to) as connection:
        tried = letter_reading.attempts(connection, f"{saga.sends_as}#{step.pos}{tail}")
    failed_at = tuple(utc(attempt.at) for attempt in tried)
    return msgspec.structs.replace(step, failed_tries=len(tried), tried_at=failed_at)


def _undos(files: Files, rows: list[journal.JournalRow], saga: SagaRow) -> list[SagaStep]:
    """The undos that were asked for: open ones have the saga's state."""
    owners = _owners(files)
    found: dict[int, SagaStep] = {}
    for row in rows:
        if row.kind == "undo_sent" or (row.kind in _UNDONE and row.pos not in found):
            opened = _opened(row, owners, {}, saga.state)
            found[row.pos] = msgspec.structs.replace(
                opened, kind="undo", to=owners.get(row.name), undo="sent"
            )
        if row.kind in _UNDONE:
            took_s = row.at - found[row.pos].started_at.timestamp()
            found[row.pos] = msgspec.structs.replace(
                found[row.pos],
                state=_UNDONE[row.kind],
                undo="done",
                ended_at=utc(row.at),
                took_s=took_s,
            )
    return list(found.values())


def _owners(files: Files) -> dict[str, str]:
    """Message type to its participant, from the catalog."""
    if not files.has_control():
        return {}
    with files.control() as connection:
        return {e.type: e.participant for e in control.catalog(connection).values()}


def _said(row: journal.JournalRow) -> str | None:
    """What a row tells; who did it, where that was a person."""
    if row.kind not in ("skipped", "undo_skipped", "resolved"):
        return _text(row.data)
    by = msgspec.json.decode(row.data or b"{}", type=_ByHand)
    value = _text(bytes(by.value))
    return f"{by.who}: {by.reason}" + (f"; answered {value}" if value else "")


def _json(data: bytes | None) -> msgspec.Raw | None:
    return None if data is None else msgspec.Raw(data)


def _text(data: bytes | None) -> str | None:
    """A recorded value for a person's eyes: the reason where it is one, else short JSON."""
    if data is None or data == b"null":
        return None
    try:
        value: Any = msgspec.json.decode(data)
    except msgspec.DecodeError:
        value = data.decode(errors="replace")
    if isinstance(value, dict):
        said = value.get("reason") or value.get("detail")
        value = said if said else msgspec.json.encode(value).decode()
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
