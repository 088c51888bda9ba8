"""Messages of an older version: decoded, renamed, upcast; and journals that must still fit."""

from __future__ import annotations

from types import new_class
from typing import Any

import msgspec
import pytest

from outboxd.errors import CodeChanged, ConfigError
from outboxd.message import (
    Command,
    Event,
    Undecodable,
    decode_envelope,
    decode_message,
    encode,
    fingerprint,
)
from outboxd.participant import Participant, Tx
from outboxd.registry import Registry
from outboxd.saga import check
from outboxd.steps import Call, Join, Publish, Receive, Step, mark_of, version_of

OLD_CHARGE = (
    b'{"specversion":"1.0","id":"orders/fulfil/7#1","type":"ChargeCard","source":"orders",'
    b'"time":"2026-01-02T03:04:05Z","subject":"7","data":{"order":"7","euros":12},'
    b'"kind":"command","call":1,"epoch":1,"seq":9}'
)
"""As a release with ``class ChargeCard(Command[None]): order: str; euros: int`` wrote it."""


def upcast(data: dict[str, Any], version: int) -> dict[str, Any]:
    if version < 2:
        data["cents"] = data.pop("euros") * 100
    return data


class Charge(
    Command[None], to="pay", key="order", version=2, upcast=upcast, aliases=("ChargeCard",)
):
    """``ChargeCard``, renamed; euros became cents, and a currency was added."""

    order: str
    cents: int
    currency: str = "EUR"


class Renamed(Command[None], to="pay", key="order", aliases=("Before",)):
    """``Before``, with three fields added since."""

    order: str
    note: str = ""
    tags: list[str] = msgspec.field(default_factory=list)
    cents: int
    rush: bool = False


class Told(Event, source="pay", key="order", aliases=("Said",)):
    """``Said``."""

    order: str


def charge(tx: Tx, cmd: Charge) -> None: ...


def paying(*handlers: Any) -> Participant:
    participant = Participant("pay")
    for handler in handlers:
        participant.handle(handler)
    return participant


def call(message: Command[Any]) -> Step:
    action = Call(message, None, 60.0, "hold", False)
    return Step(1, "call", type(message).__name__, mark_of(action), action)


def test_an_old_envelope_is_decoded_as_the_message_of_today() -> None:
    registry = Registry([paying(charge)])
    envelope = decode_envelope(OLD_CHARGE)
    handler = registry.handler("pay", envelope.type)
    assert handler is not None
    assert registry.owner("ChargeCard") == "pay"
    assert registry.message("ChargeCard") is Charge
    assert decode_message(envelope, handler.message) == Charge(order="7", cents=1200)


def test_an_envelope_of_today_is_not_upcast_and_one_of_tomorrow_is_tried() -> None:
    envelope = decode_envelope(OLD_CHARGE)
    data = msgspec.Raw(encode(Charge(order="7", cents=5)))
    for version in (2, 3):
        newer = msgspec.structs.replace(envelope, data=data, schemaversion=version)
        assert decode_message(newer, Charge) == Charge(order="7", cents=5)


@pytest.mark.parametrize("data", [b"{}", b"[1]", b'{"euros":"x","order":[]}'])
def test_what_cannot_be_upcast_is_undecodable_and_says_why(data: bytes) -> None:
    envelope = msgspec.structs.replace(decode_envelope(OLD_CHARGE), data=msgspec.Raw(data))
    with pytest.raises(Undecodable, match=r"version 1|Expected"):
        decode_message(envelope, Charge)


def test_a_journal_of_the_older_name_and_fields_still_fits() -> None:
    step = call(Renamed(order="7", cents=5))
    old = fingerprint("Before", b'{"order":"7","cents":5}')
    check(step, 1, "call", "Before", old)
    check(step, 1, "call", "Before", fingerprint("Before", b'{"order":"7","note":"","cents":5}'))
    check(step, 1, "call", "Renamed", step.mark)
    told = Publish(Told(order="7"))
    check(
        Step(1, "publish", "Told", mark_of(told), told),
        1,
        "publish",
        "Said",
        fingerprint("Said", b'{"order":"7"}'),
    )
    join = Join(Renamed(order="7", cents=5), 3, 60.0, False)
    step = Step(4, "join", "Renamed", mark_of(join), join)
    check(step, 4, "join", "Before", fingerprint("Before", b"3"))


@pytest.mark.parametrize(
    ("message", "name", "data"),
    [
        (Renamed(order="7", cents=6), "Before", b'{"order":"7","cents":5}'),
        (Renamed(order="7", cents=5, rush=True), "Before", b'{"order":"7","cents":5}'),
        (Renamed(order="7", cents=5), "Other", b'{"order":"7","cents":5}'),
        (Renamed(order="7", cents=5), "Before", b'{"order":"7"}'),
    ],
)
def test_a_journal_of_other_content_does_not(message: Command[Any], name: str, data: bytes) -> None:
    with pytest.raises(CodeChanged):
        check(call(message), 1, "call", name, fingerprint(name, data))


def test_content_of_an_older_schema_version_is_not_compared_that_of_the_same_is() -> None:
    step = call(Charge(order="7", cents=1200))
    check(step, 1, "call", "ChargeCard", fingerprint("ChargeCard", b'{"order":"7","euros":12}'))
    check(step, 1, "call", "Charge", step.mark)
    other = call(Charge(order="7", cents=1)).mark
    with pytest.raises(CodeChanged):
        check(step, 1, "call", "Charge", other)
    newer = step.mark + (1 << 32)
    with pytest.raises(CodeChanged):
        check(step, 1, "call", "Charge", newer)


def test_a_receive_says_which_version_it_was_given() -> None:
    action = Receive(Charge, "7", 60.0, False)
    step = Step(1, "receive", "Charge", mark_of(action), action)
    assert version_of(step.mark) == Charge.__outboxd__.version == 2
    check(step, 1, "receive", "Charge", step.mark)
    first = fingerprint("ChargeCard", b"7")
    check(step, 1, "receive", "ChargeCard", first)
    assert version_of(first) == 1
    for other in (fingerprint("ChargeCard", b"8"), first | 2 << 32):
        with pytest.raises(CodeChanged):
            check(step, 1, "receive", "ChargeCard", other)


def test_marks_of_a_first_version_are_what_they_always_were() -> None:
    action = Publish(Told(order="7"))
    assert mark_of(action) == fingerprint("Told", b'{"order":"7"}') < 1 << 32


def test_two_classes_may_not_claim_one_name() -> None:
    class Before(Command[None], to="pay", key="order"):
        order: str

    class Also(Command[None], to="pay", key="order", aliases=("Before",)):
        order: str

    def before(tx: Tx, cmd: Before) -> None: ...

    def renamed(tx: Tx, cmd: Renamed) -> None: ...

    def also(tx: Tx, cmd: Also) -> None: ...

    for fn, kind in ((before, Before), (also, Also)):
        fn.__annotations__["cmd"] = kind
    for pair in ((before, renamed), (renamed, before), (also, renamed)):
        with pytest.raises(ConfigError, match="two message types are called Before"):
            Registry([paying(*pair)])


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"version": 0}, "no version"),
        ({"version": "2"}, "no version"),
        ({"upcast": upcast}, "no older version"),
        ({"aliases": "Old"}, "not its older names"),
        ({"aliases": ("Mine",)}, "not its older names"),
    ],
)
def test_an_evolution_that_cannot_be_meant_is_refused(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        new_class("Mine", (Event,), {"source": "pay", **keywords})
