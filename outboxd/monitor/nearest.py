"""What may have been meant by a name that is not here: a key with a digit too few, and the like."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from outboxd.store.reading import letters as letter_reading
from outboxd.store.reading import sagas as saga_reading

from .files import Files

_LOOKED_AT = 2000
"""Of each participant the latest sagas: comparing one takes some microseconds."""

_SHOWN = 3
_ALIKE = 0.75


def hint(candidates: Iterable[str], name: str, otherwise: str) -> str:
    """``did you mean …?``, and where all of them are listed."""
    close = difflib.get_close_matches(name, list(candidates), n=_SHOWN, cutoff=_ALIKE)
    return f"did you mean {' or '.join(close)}? {otherwise}" if close else otherwise


def saga_hint(files: Files, name: str, otherwise: str) -> str:
    """By its key, or by its id if that is what was given; a step of it will do."""
    name = name.partition("#")[0]
    known: dict[str, None] = {}
    for participant in files.participants():
        with files.read(participant) as connection:
            for saga_id, key in saga_reading.latest_names(connection, _LOOKED_AT):
                known[saga_id if "/" in name and "/" not in key else key] = None
    return hint(known, name, otherwise)


def letter_hint(files: Files, participant: str | None, n: int) -> str:
    """By the participant whose letter it is."""
    listed = "outboxd dead list shows them"
    if participant is None:
        return listed
    if not files.has(participant):
        return hint(
            (f"{name}/d-{n}" for name in files.participants()), f"{participant}/d-{n}", listed
        )
    with files.read(participant) as connection:
        last = letter_reading.last_number(connection)
    return f"the last one of {participant} is d-{last}" if last else f"{participant} has none"
