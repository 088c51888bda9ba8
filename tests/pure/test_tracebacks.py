"""What a letter shows of a failure: from the user's code on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from outboxd import traces
from outboxd.saga import where


@pytest.fixture
def ours() -> Callable[[Callable[[], Any]], Any]:
    """Calls a function as outboxd would: from a file of its own."""
    space: dict[str, Any] = {}
    exec(compile("def call(fn): return fn()", f"{traces._HERE}effects.py", "exec"), space)
    call: Callable[[Callable[[], Any]], Any] = space["call"]
    return call


def handler() -> None:
    raise KeyError("sku")


def test_it_starts_at_the_users_code(ours: Callable[[Callable[[], Any]], Any]) -> None:
    with pytest.raises(KeyError) as caught:
        ours(lambda: ours(handler))
    error = caught.value
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next  # without this test itself
    lines = where(error).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "in <lambda>" in lines[1]  # the user's first
    assert any("effects.py" in line for line in lines[2:])  # what that called stays
    assert lines[-1] == "KeyError: 'sku'"


def test_so_does_each_cause(ours: Callable[[Callable[[], Any]], Any]) -> None:
    def translated() -> None:
        with pytest.raises(KeyError) as cause:
            ours(handler)
        cause.value.__traceback__ = cause.value.__traceback__.tb_next  # type: ignore[union-attr]
        raise LookupError("no such thing") from cause.value

    with pytest.raises(LookupError) as caught:
        ours(translated)
    caught.value.__traceback__ = caught.value.__traceback__.tb_next  # type: ignore[union-attr]
    text = where(caught.value)
    assert "effects.py" not in text
    assert text.count("Traceback") == 2


def test_where_only_we_were_at_work_our_frames_are_all_there_is(
    ours: Callable[[Callable[[], Any]], Any],
) -> None:
    broken = eval(compile("lambda: 1 / 0", f"{traces._HERE}tx.py", "eval"))
    with pytest.raises(ZeroDivisionError) as caught:
        ours(broken)
    caught.value.__traceback__ = caught.value.__traceback__.tb_next  # type: ignore[union-attr]
    assert "effects.py" in where(caught.value)


def test_a_traceback_of_megabytes_is_cut_in_its_middle() -> None:
    told = where(ValueError("x" * 1_000_000 + "the end"))
    assert len(told) < 40_000
    assert told.endswith("the end\n")
