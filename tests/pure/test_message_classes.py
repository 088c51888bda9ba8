"""Message classes: what their keywords say, what msgspec makes of them, and who answers whom."""

from __future__ import annotations

from types import new_class
from typing import Any

import msgspec
import pytest

from outboxd.errors import ConfigError
from outboxd.message import (
    Command,
    Event,
    Message,
    MessageDeadLettered,
    Spec,
    decode_data,
    encode,
    events_stream,
    in_stream,
    key_of,
    reply_type,
)
from tests.factories import Paid, Pay, Void


def declared(base: Any, **keywords: Any) -> Any:
    """A message class with keywords that a type checker would not let pass."""
    return new_class("Odd", (base,), keywords)


def test_a_command_says_its_owner_key_and_timeout() -> None:
    assert Pay.__outboxd__ == Spec(to="payments", key="order_id", timeout_s=30.0)


def test_an_event_says_its_source_and_key() -> None:
    assert Paid.__outboxd__ == Spec(source="payments", key="order_id")


def test_a_command_without_timeout_leaves_it_to_the_caller() -> None:
    assert Void.__outboxd__.timeout_s is None


def test_a_timeout_that_is_no_duration_is_refused_where_it_is_written() -> None:
    with pytest.raises(ConfigError, match="'soon' is not a duration"):
        declared(Command[None], to="payments", timeout="soon")


def test_a_keyword_that_nobody_knows_is_refused() -> None:
    with pytest.raises(TypeError):
        declared(Command[None], too="payments")


def test_keywords_of_msgspec_are_passed_on() -> None:
    odd = declared(Event, source="payments", forbid_unknown_fields=True)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"x":1}', type=odd)


def test_a_message_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Pay().cents = 5  # type: ignore[misc]


def test_a_message_takes_keywords_only() -> None:
    with pytest.raises(TypeError):
        Pay("o-1", 100)  # type: ignore[call-arg]


def test_messages_are_equal_by_content() -> None:
    assert Pay(cents=5) == Pay(cents=5) != Pay(cents=6)
    assert hash(Pay()) == hash(Pay())


def test_a_class_does_not_take_its_keywords_from_the_one_it_extends() -> None:
    assert declared(Pay).__outboxd__ == Spec()


@pytest.mark.parametrize(("command", "reply"), [(Pay, Paid), (Void, type(None))])
def test_a_command_knows_the_type_of_its_reply(command: type[Command[Any]], reply: Any) -> None:
    found = reply_type(command)
    assert (type(None) if found is None else found) is reply


def test_a_command_that_does_not_name_its_reply_is_told_how_to() -> None:
    with pytest.raises(ConfigError, match="does not say what it is answered with") as refused:
        reply_type(declared(Command, to="payments"))
    assert refused.value.hint == "write class Odd(Command[Reply], …), or Command[None]"


def test_a_reply_type_is_found_behind_other_generic_bases() -> None:
    class Tagged(Command[Paid], to="payments"):
        __orig_bases__ = (list[int], Command[Paid])

    assert reply_type(Tagged) is Paid


@pytest.mark.parametrize(("value", "text"), [("o-1", "o-1"), (17, "17"), (None, "None")])
def test_a_key_is_text(value: object, text: str) -> None:
    class Keyed(Event, source="payments", key="number"):
        number: object

    assert key_of(Keyed(number=value)) == text


def test_a_message_without_key_has_no_order_to_keep() -> None:
    class Loose(Event, source="payments"):
        pass

    assert key_of(Loose()) is None


def test_a_dead_letters_event_comes_from_everybody() -> None:
    assert MessageDeadLettered.__outboxd__ == Spec(source="*", key="message_id")


def test_an_older_reader_takes_a_newer_writers_message() -> None:
    assert decode_data(b'{"order_id":"o-1","cents":7,"currency":"EUR"}', Pay) == Pay(cents=7)


@pytest.mark.parametrize("message", [Pay(cents=3), Paid(cents=3), Void()])
def test_a_payload_survives_its_way(message: Message) -> None:
    assert decode_data(encode(message), type(message)) == message


def test_a_participants_streams_carry_its_name_as_a_cluster_hash_tag() -> None:
    assert in_stream("payments") == "outboxd:{payments}:in"
    assert events_stream("payments") == "outboxd:{payments}:events"
