"""The filter language: words match anywhere, ``field:value`` in one field, ``!`` negates.

Commas stand for "or". The same text works as ``--filter`` on the command line and on the
dashboard's filter line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Literal

from outboxd.clock import seconds
from outboxd.errors import ConfigError
from outboxd.store.reading.filters import Term
from outboxd.words import nearest

SAGA_FIELDS = ("state", "type", "key", "step", "error", "id", "participant", "age", "since")
LETTER_FIELDS = (
    "state", "type", "key", "handler", "error", "id", "participant", "age", "since", "try"
)  # fmt: skip
MESSAGE_FIELDS = ("state", "type", "key", "id", "participant", "error", "try")

_TERM = re.compile(r"(!?)(?:([a-z]+):)?(!?)(.+)", re.DOTALL)


def parse(text: str, fields: Collection[str]) -> list[Term]:
    """The terms of a filter; raises ConfigError for a field that there is not."""
    return [_term(word, fields) for word in text.split()]


def term(field: str, *values: str) -> Term:
    """One of ``values`` in ``field``, as an option of the command line says it."""
    return Term(field, values)


def without(terms: Sequence[Term], field: str) -> list[Term]:
    """The terms about anything but ``field``."""
    return [term for term in terms if term.field != field]


def allows(terms: Sequence[Term], field: str, value: str) -> bool:
    """Whether the terms about ``field`` let ``value`` pass."""
    return all((value in term.values) is not term.is_not for term in terms if term.field == field)


def _term(word: str, fields: Collection[str]) -> Term:
    found = _TERM.fullmatch(word)
    if found is None:
        raise ConfigError(f"{word!r} is no filter", hint="write words, or field:value")
    bang, field, inner_bang, rest = found.groups()
    is_not = bool(bang or inner_bang)
    if field is None:
        return Term("", tuple(rest.split(",")), is_not)
    if field not in fields:
        near = nearest(field, fields)
        raise ConfigError(
            f"{word!r}: there is no field {field!r}",
            hint=f"did you mean {near}:?" if near else f"fields: {', '.join(sorted(fields))}",
        )
    if field in ("age", "since", "try"):
        return _compared(field, rest, is_not)
    return Term(field, tuple(rest.split(",")), is_not)


def _compared(field: str, rest: str, is_not: bool) -> Term:
    op: Literal["", "<", ">"] = "<" if field == "since" else ""
    if rest[0] in "<>":
        op, rest = ("<" if rest[0] == "<" else ">"), rest[1:]
    try:
        number: Any = int(rest[:18]) if field == "try" else seconds(rest)
    except ValueError as err:
        raise ConfigError(f"{field}:{rest}: {rest!r} is no number") from err
    return Term("age" if field == "since" else field, (number,), is_not, op)
