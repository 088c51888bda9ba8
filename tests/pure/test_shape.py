"""A schema tells of a payload what the class itself would."""

from __future__ import annotations

import enum
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest

from outboxd import Command
from outboxd.shape import fields, misfit


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(msgspec.Struct):
    street: str
    zone: str | None = None


class Node(msgspec.Struct):
    name: str
    below: tuple[Node, ...] = ()


class Card(msgspec.Struct, tag="card"):
    number: str


class Cash(msgspec.Struct, tag="cash"):
    cents: int


class Wide(Command[None], to="anyone", key="id"):
    id: str
    count: Annotated[int, msgspec.Meta(ge=1, le=9)]
    share: float
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    day: date
    span: timedelta
    price: Decimal
    ref: UUID
    colour: Colour
    size: Literal["S", "M"]
    home: Address
    tree: Node
    paid: Card | Cash
    pair: tuple[int, str]
    raw: bytes
    code: Annotated[str, msgspec.Meta(pattern="^[A-Z]+$", max_length=3)]
    either: int | str
    lines: tuple[Address, ...] = ()
    notes: dict[str, int] = msgspec.field(default_factory=dict)
    free: Any = None
    maybe: bool | None = None


SCHEMA = msgspec.json.encode(msgspec.json.schema(Wide))

FITS: dict[str, Any] = {
    "id": "1", "count": 3, "share": 1, "at": "2026-11-25T09:00:00Z", "day": "2026-11-25",
    "span": "PT5M", "price": "1.50", "ref": "6f1d4c1e-4c1e-4f0a-9b1a-000000000000", "colour": "red",
    "size": "M", "home": {"street": "a"}, "tree": {"name": "x", "below": [{"name": "y"}]},
    "paid": {"type": "cash", "cents": 5}, "pair": [1, "a"], "raw": "aGk=", "code": "ABC",
    "either": 1,
}  # fmt: skip

WRONG: list[dict[str, Any]] = [
    {"id": 1}, {"count": "2"}, {"count": 0}, {"count": 10}, {"share": "x"}, {"at": "yesterday"},
    {"day": "x"}, {"span": "5m"}, {"ref": "x"}, {"colour": "green"}, {"size": "XL"},
    {"home": {}}, {"home": {"street": 1}}, {"home": []}, {"tree": {"name": 1}}, {"pair": [1]},
    {"pair": ["a", 1]}, {"raw": 1}, {"code": "abc"}, {"code": "ABCD"}, {"either": []},
    {"lines": [{"street": "a"}, {"street": None}]}, {"notes": {"a": "b"}}, {"maybe": 1},
    {"lines": {}}, {"home": None},
]  # fmt: skip


def test_what_fits_the_class_fits_its_schema() -> None:
    msgspec.convert(FITS, Wide)
    assert misfit(SCHEMA, msgspec.json.encode(FITS)) is None
    more = {
        **FITS,
        "lines": [{"street": "a"}],
        "notes": {"a": 1},
        "free": [1],
        "maybe": None,
        "x": 1,
    }
    assert misfit(SCHEMA, msgspec.json.encode(more)) is None


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: msgspec.json.encode(wrong).decode())
def test_what_does_not_fit_is_said_in_the_words_of_the_class(wrong: dict[str, Any]) -> None:
    payload = msgspec.json.encode({**FITS, **wrong})
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.decode(payload, type=Wide)
    assert misfit(SCHEMA, payload) == str(refused.value)


@pytest.mark.parametrize("name", list(FITS))
def test_a_field_that_is_missing_is_named(name: str) -> None:
    payload = msgspec.json.encode({key: value for key, value in FITS.items() if key != name})
    assert misfit(SCHEMA, payload) == f"Object missing required field `{name}`"


def test_what_is_no_object_or_no_json_does_not_fit() -> None:
    assert misfit(SCHEMA, b"[]") == "Expected `object`, got `array`"
    assert misfit(SCHEMA, b"{") == "Input data was truncated"


def test_a_schema_that_cannot_be_read_refuses_nothing() -> None:
    assert misfit(b'{"$ref": "#/$defs/Gone"}', b"{}") is None
    assert misfit(b'{"type": "tomorrow"}', b"{}") is None


def test_the_fields_of_a_message_are_named_with_their_types() -> None:
    assert {
        name: kind for name, kind in fields(SCHEMA).items() if name in ("id", "size", "maybe")
    } == {
        "id": "string",
        "size": "M or S",
        "maybe": "boolean?",
    }
