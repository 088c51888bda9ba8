"""A saga's id: two sagas never have the same one, and who it belongs to can be read from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxd.store.journal import named, saga_id

KEYS = st.text(st.sampled_from("ab@/0129~#"), max_size=8) | st.text(max_size=8)
ROUNDS = st.integers(1, 30)


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        ("o-1", "desk/trip/o-1", "desk/trip/o-1@2"),
        ("ann@example.org", "desk/trip/ann@example.org", "desk/trip/ann@example.org@2"),
        ("x@2", "desk/trip/x@2@1", "desk/trip/x@2@2"),
        ("x@2@1", "desk/trip/x@2@1@1", "desk/trip/x@2@1@2"),
        ("x@", "desk/trip/x@", "desk/trip/x@@2"),
        ("", "desk/trip/", "desk/trip/@2"),
    ],
)
def test_the_first_round_has_its_number_only_where_the_key_looks_like_one(
    key: str, first: str, second: str
) -> None:
    assert saga_id("desk", "trip", key) == first
    assert saga_id("desk", "trip", key, 2) == second


@given(KEYS, ROUNDS, KEYS, ROUNDS)
def test_two_sagas_are_never_called_the_same(
    key: str, round_: int, other: str, other_round: int
) -> None:
    is_same = saga_id("p", "s", key, round_) == saga_id("p", "s", other, other_round)
    assert is_same == ((key, round_) == (other, other_round))


@given(KEYS, ROUNDS)
def test_an_id_says_whose_it_is(key: str, round_: int) -> None:
    assert named(saga_id("p", "s", key, round_)) == ("p", "s", key)


@given(st.text(st.characters(exclude_characters="@")))
def test_a_key_without_an_at_sign_is_the_end_of_the_id(key: str) -> None:
    assert saga_id("p", "s", key) == f"p/s/{key}"
