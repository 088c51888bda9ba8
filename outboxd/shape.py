"""JSON Schema → type: whether a payload fits a message whose class is not here to ask.

The decoder that the daemon uses then says what does not fit, in the same words.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union

import msgspec

from .message import BAD_BYTES

_TEXTS: dict[str, Any] = {
    "date-time": datetime.datetime,
    "date": datetime.date,
    "time": datetime.time,
    "duration": datetime.timedelta,
    "uuid": uuid.UUID,
    "decimal": decimal.Decimal,
}

_LIMITS = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "pattern": "pattern",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
    "minProperties": "min_length",
    "maxProperties": "max_length",
}


def misfit(schema: bytes, payload: bytes) -> str | None:
    """What does not fit, with its path; None if nothing does not, as far as a schema can tell."""
    try:
        decoder = msgspec.json.Decoder(_Reader(msgspec.json.decode(schema)).root())
    except (TypeError, ValueError, LookupError, RecursionError):
        return None  # a type that cannot be built here: the daemon knows it
    try:
        decoder.decode(payload)
    except BAD_BYTES as err:
        return str(err)
    return None


def fields(schema: bytes) -> dict[str, str]:
    """Field to the name of its type; with a question mark where it may be left out."""
    reader = _Reader(msgspec.json.decode(schema))
    whole = reader.resolved(reader.schema)
    needed = whole.get("required", ())
    found = {}
    for name, field in whole.get("properties", {}).items():
        said = _named(reader.resolved(field))
        found[name] = said if name in needed else f"{said.removesuffix(' or null')}?"
    return found


def _named(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_named(part) for part in field["anyOf"]))
    if "enum" in field:
        return " or ".join(map(str, field["enum"]))
    return str(field.get("format") or field.get("type") or "any")


class _Reader:
    """A schema with its definitions."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self._definitions = schema.get("$defs", {})
        self._known: dict[str, Any] = {}

    def root(self) -> Any:
        return self._type(self.schema)

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """A reference followed to its definition."""
        name = schema.get("$ref")
        found: Mapping[str, Any] = schema if name is None else self._definitions[_last(name)]
        return found

    def _type(self, schema: Mapping[str, Any]) -> Any:
        if "$ref" in schema:
            return self._referred(_last(schema["$ref"]))
        if "enum" in schema:
            return Literal[tuple(schema["enum"])]
        if "anyOf" in schema:
            return self._union([self._type(part) for part in schema["anyOf"]])
        match schema.get("type"):
            case "object" if "properties" in schema:
                return self._struct(schema)
            case "object":
                values = schema.get("additionalProperties", {})
                return _limited(dict[str, self._type(values if values is not True else {})], schema)  # type: ignore[misc]  # made at run time
            case "array":
                return self._array(schema)
            case "string" if schema.get("contentEncoding") == "base64":
                return _limited(bytes, schema)
            case "string":
                return _limited(_TEXTS.get(schema.get("format", ""), str), schema)
            case kind:
                plain = {"integer": int, "number": float, "boolean": bool, "null": None}
                return _limited(plain[kind], schema) if kind in plain else Any

    def _referred(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = Any  # inside of itself it is not looked at
            self._known[name] = self._type(self._definitions[name])
        return self._known[name]

    def _struct(self, schema: Mapping[str, Any]) -> Any:
        """Its fields go by other names, so that any name will do."""
        needed = schema.get("required", ())
        names = {f"f{n}": name for n, name in enumerate(schema["properties"])}
        made: list[Any] = []
        for ours, name in names.items():
            kind = self._type(schema["properties"][name])
            made.append((ours, kind) if name in needed else (ours, kind, msgspec.UNSET))
        return msgspec.defstruct(
            str(schema.get("title", "Object")),
            made,
            kw_only=True,
            rename=names,
            forbid_unknown_fields=schema.get("additionalProperties") is False,
        )

    def _array(self, schema: Mapping[str, Any]) -> Any:
        places = schema.get("prefixItems")
        if places is None:
            return _limited(list[self._type(schema.get("items") or {})], schema)  # type: ignore[misc]  # made at run time
        if schema.get("minItems") != len(places):
            return list[Any]
        return tuple[tuple(self._type(place) for place in places)]  # type: ignore[misc]  # made at run time

    def _union(self, parts: list[Any]) -> Any:
        """What the decoder cannot tell apart is not looked at."""
        union: Any = Union[tuple(parts)]  # noqa: UP007 - made at run time
        try:
            msgspec.json.Decoder(union)
        except TypeError:
            return Any
        return union


def _last(reference: str) -> str:
    return reference.rpartition("/")[2]


def _limited(kind: Any, schema: Mapping[str, Any]) -> Any:
    limits = {ours: schema[theirs] for theirs, ours in _LIMITS.items() if theirs in schema}
    return Annotated[kind, msgspec.Meta(**limits)] if limits else kind
