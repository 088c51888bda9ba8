"""What a person filters by, as a condition of SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

Condition = tuple[str, list[Any]]


class Term(msgspec.Struct, frozen=True):
    """One word of a filter: any of ``values`` in ``field``, or with ``is_not`` none of them.

    ``op`` compares a number: "<" or ">"; an empty ``field`` looks everywhere.
    """

    field: str
    values: tuple[Any, ...]
    is_not: bool = False
    op: Literal["", "<", ">"] = ""


class Column(msgspec.Struct, frozen=True):
    """How a field is found in a table: ``is`` the same, ``has`` the text, or a ``number``."""

    sql: str
    how: Literal["is", "has", "number"] = "has"


def where(terms: Sequence[Term], columns: Mapping[str, Column]) -> tuple[str, list[Any]]:
    """The condition of a filter, and its arguments; every field is one of ``columns``."""
    parts: list[str] = ["1"]
    args: list[Any] = []
    for term in terms:
        asked = (
            [columns[term.field]] if term.field else [c for c in columns.values() if c.how == "has"]
        )
        tests = []
        for value in term.values:
            for column in asked:
                tests.append(_test(column, term.op))
                args.append(value)
        parts.append(f"{'NOT ' if term.is_not else ''}({' OR '.join(tests)})")
    return " AND ".join(parts), args


def _test(column: Column, op: str) -> str:
    match column.how:
        case "is":
            return f"COALESCE({column.sql}, '') = ? COLLATE NOCASE"
        case "has":
            return f"INSTR(LOWER(COALESCE({column.sql}, '')), LOWER(?)) > 0"
        case "number":
            return f"{column.sql} {op or '='} ?"


def places(values: Sequence[object]) -> str:
    """A place holder for each value."""
    return ", ".join("?" * len(values))
