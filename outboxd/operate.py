"""What people and programs ask for: each a request in control.db, which the daemon applies.

Nothing here touches a participant's database. A request is durable when its function returns, and
waits there while the daemon is down; ``wait`` tells what became of it.
"""

from __future__ import annotations

import getpass
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from .clock import SystemClock
from .datadir import is_claimed
from .errors import ConfigError, NotFound, Refused
from .shape import fields, misfit
from .store import control, reading
from .store.connection import Connection, open_reader
from .store.control import CatalogEntry, Request
from .words import nearest

LETTERS_PER_REQUEST = 500
"""A request is one transaction of its participant, which must not hold up its messages for long."""

POLL_S = 0.02
"""Between two looks at PRAGMA data_version, which costs some microseconds."""

_POSITION = re.compile(r"\(byte (\d+)\)")


def me() -> str:
    """Who asks, as the audit trail names them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def send(
    data: Path,
    type_name: str,
    payload: bytes,
    *,
    key: str | None = None,
    message_id: str | None = None,
    who: str | None = None,
) -> Request:
    """Sends a message to its participant: durable when this returns, accepted when it is applied.

    ``payload`` is JSON; ``key`` may stand for the field that its type is keyed by; ``message_id``
    makes it idempotent: the same again is no second message.

    Raises NotFound for a type that is not known here, ConfigError for what is no JSON object, and
    Refused if it does not fit the type or if the id was used for other content.
    """
    payload = payload.strip() or b"{}"
    given = _object(payload)
    with control.client(data) as connection:
        entry = _entry(control.catalog(connection), type_name)
        body, found_key = _keyed(entry, given, payload, key)
        _check_fit(entry, body)
        unique = message_id or uuid.uuid4().hex
        request = Request(
            id=f"send-{unique}",
            at=SystemClock().now(),
            kind="send",
            participant=entry.participant,
            target=type_name,
            args=msgspec.json.encode({"id": unique, "key": found_key, "data": msgspec.Raw(body)}),
            who=who or me(),
        )
        return control.transact(connection, lambda c: control.add_request(c, request))


def is_known(data: Path) -> bool:
    """Whether outboxd has run here, so that it is known what can be sent."""
    if not (data / control.FILE).is_file():
        return False
    with control.client(data) as connection:
        return bool(control.catalog(connection))


def replay(
    data: Path, letters: Iterable[tuple[str, int]], *, who: str | None = None, reason: str = ""
) -> list[Request]:
    """Asks for dead letters, as (participant, number), to be handled again."""
    return _about_letters(data, "dead.replay", letters, who or me(), reason)


def discard(
    data: Path, letters: Iterable[tuple[str, int]], *, who: str | None = None, reason: str
) -> list[Request]:
    """Asks for dead letters to be given up for good; a saga that waits for one unwinds."""
    return _about_letters(data, "dead.discard", letters, who or me(), _given(reason))


def cancel(data: Path, saga_id: str, *, who: str | None = None, reason: str) -> list[Request]:
    """Asks for a saga to be cancelled: what it did is undone."""
    return _about_saga(data, "saga.cancel", saga_id, who or me(), _given(reason))


def retry(data: Path, saga_id: str, *, who: str | None = None, reason: str) -> list[Request]:
    """Asks for a stuck saga's step to be made again, after a fix."""
    return _about_saga(data, "saga.retry", saga_id, who or me(), _given(reason))


def skip(
    data: Path,
    saga_id: str,
    value: bytes = b"null",
    *,
    step: int | None = None,
    who: str | None = None,
    reason: str,
) -> list[Request]:
    """Asks for the step that a saga waits for to be answered with ``value``, which is JSON.

    ``step``: its number, where the saga waits for several. Raises ConfigError for what is no JSON.
    """
    args = {"value": msgspec.Raw(_json(value)), "step": step}
    return _about_saga(data, "saga.skip", saga_id, who or me(), _given(reason), args)


def resolve(
    data: Path,
    saga_id: str,
    state: Literal["completed", "compensated"],
    result: bytes = b"null",
    *,
    who: str | None = None,
    reason: str,
) -> list[Request]:
    """Asks for a saga to be ended as ``state``, with ``result`` as JSON; nothing more is done."""
    args = {"state": state, "result": msgspec.Raw(_json(result))}
    return _about_saga(data, "saga.resolve", saga_id, who or me(), _given(reason), args)


def kill(data: Path, saga_id: str, *, who: str | None = None, reason: str) -> list[Request]:
    """Asks for a saga to be ended as it stands: nothing is undone."""
    return _about_saga(data, "saga.kill", saga_id, who or me(), _given(reason))


def pause(
    data: Path, participants: Sequence[str] = (), *, who: str | None = None, reason: str
) -> list[Request]:
    """Asks participants, by default all of them, to take no messages and begin no attempts."""
    return _about_participants(data, "participant.pause", participants, who or me(), _given(reason))


def resume(
    data: Path, participants: Sequence[str] = (), *, who: str | None = None, reason: str = ""
) -> list[Request]:
    """Asks participants, by default all of them, to go on."""
    return _about_participants(data, "participant.resume", participants, who or me(), reason)


def trust(data: Path, sender: str, *, who: str | None = None, reason: str) -> list[Request]:
    """Asks every other participant to believe the store that ``sender`` has now."""
    expect(data, [sender])
    stores = _stores(data)
    operation, at = _new_id(), SystemClock().now()
    requests = [
        Request(
            id=f"{operation}.{number}",
            at=at,
            kind="sender.trust",
            participant=participant,
            target=sender,
            who=who or me(),
            reason=_given(reason),
        )
        for number, participant in enumerate(sorted(stores), 1)
    ]
    return _add(data, requests)


def remove_subscriber(
    data: Path, name: str, publisher: str, *, who: str | None = None, reason: str
) -> list[Request]:
    """Asks ``publisher`` to keep its events no longer for ``name``, which is gone for good."""
    expect(data, [publisher])
    request = Request(
        id=_new_id(),
        at=SystemClock().now(),
        kind="subscriber.remove",
        participant=publisher,
        target=name,
        who=who or me(),
        reason=_given(reason),
    )
    return _add(data, [request])


def expect(data: Path, participants: Sequence[str]) -> None:
    """Raises NotFound for a participant that is not here: before anybody is asked anything."""
    known = _stores(data)
    if not known:
        raise control.no_data(data)
    for name in participants:
        _known(data, known, name)


def wait(data: Path, ids: Sequence[str], timeout_s: float) -> list[Request]:
    """The requests, as soon as none of them is pending, or as they are after ``timeout_s``.

    Returns at once where no daemon runs (any more).
    """
    ends_at = time.monotonic() + timeout_s
    connection = open_reader(data / control.FILE)
    try:
        seen: int | None = None
        while True:
            version = control.data_version(connection)
            is_over = time.monotonic() >= ends_at or not is_claimed(data)
            if version != seen or is_over:
                seen = version
                found = _all(connection, ids)
                if is_over or all(request.state != "pending" for request in found):
                    return found
            time.sleep(POLL_S)
    finally:
        connection.close()


def _all(connection: Connection, ids: Sequence[str]) -> list[Request]:
    with reading.snapshot(connection, control.FILE):
        found = [control.get(connection, request_id) for request_id in ids]
    return [request for request in found if request is not None]


def _about_letters(
    data: Path, kind: str, letters: Iterable[tuple[str, int]], who: str, reason: str
) -> list[Request]:
    """One request per participant, and per so many letters of it."""
    numbers: dict[str, list[int]] = {}
    for participant, n in dict.fromkeys(letters):
        numbers.setdefault(participant, []).append(n)
    parts = [
        (participant, chosen[first : first + LETTERS_PER_REQUEST])
        for participant, chosen in numbers.items()
        for first in range(0, len(chosen), LETTERS_PER_REQUEST)
    ]
    operation = _new_id()
    requests = [
        Request(
            id=operation if len(parts) == 1 else f"{operation}.{number}",
            at=SystemClock().now(),
            kind=kind,
            participant=participant,
            target=" ".join(f"d-{n}" for n in chosen),
            args=msgspec.json.encode({"letters": chosen}),
            who=who,
            reason=reason,
        )
        for number, (participant, chosen) in enumerate(parts, 1)
    ]
    return _add(data, requests)


def _about_participants(
    data: Path, kind: str, participants: Sequence[str], who: str, reason: str
) -> list[Request]:
    expect(data, participants)
    known = _stores(data)
    operation, at = _new_id(), SystemClock().now()
    chosen = list(dict.fromkeys(participants)) or sorted(known)
    requests = [
        Request(
            id=operation if len(chosen) == 1 else f"{operation}.{number}",
            at=at,
            kind=kind,
            participant=name,
            target=name,
            who=who,
            reason=reason.strip(),
        )
        for number, name in enumerate(chosen, 1)
    ]
    return _add(data, requests)


def _stores(data: Path) -> set[str]:
    return {path.stem for path in data.glob("*.db") if path.name != control.FILE}


def _known(data: Path, stores: set[str], name: str) -> None:
    if name not in stores:
        near = nearest(name, stores)
        raise NotFound(
            f"there is no participant {name!r} in {data}",
            hint=f"did you mean {near}?" if near else None,
        )


def _about_saga(
    data: Path, kind: str, saga_id: str, who: str, reason: str, args: dict[str, Any] | None = None
) -> list[Request]:
    request = Request(
        id=_new_id(),
        at=SystemClock().now(),
        kind=kind,
        participant=saga_id.partition("/")[0],
        target=saga_id,
        args=msgspec.json.encode(args or {}),
        who=who,
        reason=reason,
    )
    return _add(data, [request])


def _add(data: Path, requests: list[Request]) -> list[Request]:
    """All of them or none."""
    with control.client(data) as connection:
        return control.transact(
            connection, lambda c: [control.add_request(c, request) for request in requests]
        )


def _new_id() -> str:
    return f"op-{uuid.uuid4().hex[:8]}"


def _given(reason: str) -> str:
    if not reason.strip():
        raise Refused("this needs a reason, for whoever reads the audit trail later")
    return reason.strip()


def _entry(catalog: Mapping[str, CatalogEntry], type_name: str) -> CatalogEntry:
    entry = catalog.get(type_name)
    if entry is not None:
        return entry
    if not catalog:
        raise NotFound(
            "no message types are known here",
            hint="start `outboxd run` on this data directory once",
        )
    by_fold = {name.casefold(): name for name in catalog}
    near = nearest(type_name.casefold(), by_fold)
    known = f"did you mean {by_fold[near]}?" if near else f"known: {', '.join(sorted(catalog))}"
    raise NotFound(f"there is no message type {type_name!r} here", hint=known)


def _json(text: bytes, what: str = "the value") -> bytes:
    """``text``, if it is JSON; raises ConfigError with the place of the first mistake."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise ConfigError(f"{what} is no JSON: {_positioned(err, text)}") from err
    return text


def _object(payload: bytes) -> dict[str, Any]:
    value = msgspec.json.decode(_json(payload, "the message"))
    if not isinstance(value, dict):
        raise ConfigError(
            "the message is no JSON object", hint='write its fields: {"order_id": "10431", …}'
        )
    return value


def _positioned(err: Exception, payload: bytes) -> str:
    """The decoder's complaint with line and column instead of a byte."""
    said = str(err)
    found = _POSITION.search(said)
    before = payload[: int(found[1])] if found else payload  # cut short: it ends too early
    line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
    said = _POSITION.sub("", said).removeprefix("JSON is malformed: ").strip()
    return f"line {line}, column {column}: {said}"


def _check_fit(entry: CatalogEntry, body: bytes) -> None:
    """Also while the daemon is down, so that nothing is queued that it would refuse."""
    said = misfit(entry.schema, body)
    if said is not None:
        takes = ", ".join(f"{name}: {kind}" for name, kind in fields(entry.schema).items())
        raise Refused(f"{entry.type}: {said}", hint=f"{entry.type} takes {takes}")


def _keyed(
    entry: CatalogEntry, fields: dict[str, Any], payload: bytes, key: str | None
) -> tuple[bytes, str | None]:
    """(payload, key): one may stand for the other, but they must not differ."""
    name = entry.key_field
    if name is None:
        return payload, key
    if key is None:
        return payload, None if name not in fields else str(fields[name])
    if name not in fields:
        return msgspec.json.encode({name: _as_field(entry, name, key), **fields}), key
    if str(fields[name]) != key:
        raise Refused(
            f"the key {key!r} is not the message's {name}, {fields[name]!r}",
            hint="leave out --key: the message has it",
        )
    return payload, key


def _as_field(entry: CatalogEntry, name: str, key: str) -> str | int:
    """The key as its field's type wants it."""
    schema = msgspec.json.decode(entry.schema)
    for definition in (schema, *schema.get("$defs", {}).values()):
        field = definition.get("properties", {}).get(name)
        if field is not None and field.get("type") == "integer" and key.lstrip("-").isdigit():
            return int(key)
    return key
