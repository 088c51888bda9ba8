"""Errors: a sentence for a person, a hint for what to do, and the facts for the code."""

from __future__ import annotations

import pytest

from outboxd import errors
from outboxd.errors import (
    CallFailed,
    Cancelled,
    CodeChanged,
    ConfigError,
    OutboxdError,
    Reject,
    Rejected,
    Retry,
    SagaEnd,
    SagaFailed,
    StoreBroken,
    TimedOut,
    Unavailable,
)


@pytest.mark.parametrize(
    "kind", [OutboxdError, ConfigError, errors.NotFound, errors.Refused, Unavailable, StoreBroken]
)
def test_an_error_without_a_message_says_what_it_is(kind: type[OutboxdError]) -> None:
    assert kind().message == (kind.__doc__ or "").strip() != ""
    assert kind().hint is None


def test_an_error_has_a_message_and_a_hint_apart() -> None:
    error = ConfigError("no such file", hint="make it")
    assert (error.message, error.hint, str(error)) == ("no such file", "make it", "no such file")


def test_a_broken_store_is_an_unavailable_one() -> None:
    assert issubclass(StoreBroken, Unavailable)


def test_only_these_unwind_a_saga() -> None:
    unwinding = {Rejected, TimedOut, CallFailed, Cancelled, SagaFailed}
    assert set(SagaEnd.__subclasses__()) == unwinding
    assert not issubclass(Reject, SagaEnd)


def test_what_unwinds_a_saga_says_why() -> None:
    assert str(TimedOut("Pay", 30)) == "Pay was not answered within 30 s"
    assert (Rejected("no", "Pay").reason, Rejected("no", "Pay").command) == ("no", "Pay")
    assert (CallFailed("d-1", "Pay").reason, CallFailed("d-1", "Pay").command) == ("d-1", "Pay")
    assert Cancelled().reason == "cancelled"
    assert SagaFailed("sold out").reason == "sold out"


def test_what_a_handler_raises_carries_its_reason_or_its_wait() -> None:
    assert Reject("over the limit").reason == "over the limit"
    assert Retry(after=2.5).after_s == 2.5
    assert Retry().after_s is None


def test_changed_code_shows_both_sides() -> None:
    error = CodeChanged(3, "call Pay", "call Reserve")
    assert str(error) == "step 3: the journal has call Pay, the code asks for call Reserve"
    assert (error.pos, error.recorded, error.asked) == (3, "call Pay", "call Reserve")
