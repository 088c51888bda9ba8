"""Requests: durable when asked for, checked against the catalog, and told what became of them."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from outboxd import operate
from outboxd.datadir import claimed
from outboxd.errors import ConfigError, NotFound, Refused
from outboxd.store import control
from outboxd.store.control import CatalogEntry, Request
from tests.cli import filling

ORDER = b'{"order_id": "1", "cents": 5}'


@pytest.fixture
def data(data: Path) -> Path:
    """A data directory with a catalog and nothing else."""
    filling.catalog(data)
    return data


def stored(data: Path) -> list[Request]:
    with control.client(data) as connection:
        return control.pending(connection, 1000)


def arguments(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.args)
    return found


def test_a_message_waits_for_its_participant_as_it_was_written(data: Path) -> None:
    request = operate.send(data, "PlaceOrder", b' {"order_id": "1", "price": 1.10} ', who="ada")
    assert stored(data) == [request]
    assert (request.kind, request.participant, request.target) == ("send", "orders", "PlaceOrder")
    assert b'{"order_id": "1", "price": 1.10}' in request.args
    assert arguments(request)["key"] == "1"
    assert (request.who, request.state) == ("ada", "pending")


def test_the_same_id_makes_it_one_message(data: Path) -> None:
    first = operate.send(data, "PlaceOrder", ORDER, message_id="m-1")
    assert operate.send(data, "PlaceOrder", ORDER, message_id="m-1") == first
    with pytest.raises(Refused, match="was used before"):
        operate.send(data, "PlaceOrder", b'{"order_id": "2"}', message_id="m-1")
    assert len(stored(data)) == 1


def test_without_an_id_each_is_a_message_of_its_own(data: Path) -> None:
    assert operate.send(data, "PlaceOrder", ORDER) != operate.send(data, "PlaceOrder", ORDER)


@pytest.mark.parametrize("name", ["PlaceOrdr", "placeorder", "Placeorder"])
def test_an_unknown_type_is_answered_with_the_nearest(data: Path, name: str) -> None:
    with pytest.raises(NotFound, match=f"no message type {name!r}") as caught:
        operate.send(data, name, ORDER)
    assert caught.value.hint == "did you mean PlaceOrder?"
    with pytest.raises(NotFound) as caught:
        operate.send(data, "Zebra", ORDER)
    assert "known: AuthorizePayment, PlaceOrder" in str(caught.value.hint)


def test_where_nothing_ever_ran_nothing_is_known(workplace: Path) -> None:
    with pytest.raises(ConfigError, match="no outboxd data"):
        operate.send(workplace, "PlaceOrder", ORDER)
    with filling.control_db(workplace):
        pass
    with pytest.raises(NotFound, match="no message types are known"):
        operate.send(workplace, "PlaceOrder", ORDER)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b'{"a": 1,}', "no JSON: line 1, column 9: trailing comma in object"),
        (b'{"a": 1,\n "b" 2}', "no JSON: line 2, column 6: expected ':'"),
        (b'{"a": ', "no JSON: line 1, column 6: Input data was truncated"),
        (b"[1, 2]", "no JSON object"),
        (b'"text"', "no JSON object"),
    ],
)
def test_what_is_no_json_object_is_named_with_its_place(
    data: Path, payload: bytes, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        operate.send(data, "PlaceOrder", payload)
    assert said in caught.value.message
    assert stored(data) == []


def test_a_key_may_stand_for_its_field(data: Path) -> None:
    request = operate.send(data, "PlaceOrder", b'{"cents": 5}', key="7")
    assert arguments(request)["data"] == {"order_id": "7", "cents": 5}
    assert arguments(request)["key"] == "7"
    with pytest.raises(Refused, match="the key '8' is not the message's order_id"):
        operate.send(data, "PlaceOrder", ORDER, key="8")


def test_a_key_becomes_the_number_that_its_field_wants(data: Path) -> None:
    schema = b'{"$defs": {"Count": {"properties": {"n": {"type": "integer"}}}}}'
    entry = CatalogEntry(
        type="Count", participant="a", kind="command", key_field="n", schema=schema
    )
    filling.catalog(data, entry)
    assert arguments(operate.send(data, "Count", b"", key="7"))["data"] == {"n": 7}


def test_a_type_without_a_key_takes_one(data: Path) -> None:
    assert arguments(operate.send(data, "VoidPayment", b"{}", key="lane-1"))["key"] == "lane-1"


def test_letters_become_one_request_for_each_participant(data: Path) -> None:
    asked = [("payments", 2), ("orders", 1), ("payments", 3), ("payments", 2)]
    requests = operate.replay(data, asked, who="ada")
    assert [(r.participant, r.target, arguments(r)) for r in requests] == [
        ("payments", "d-2 d-3", {"letters": [2, 3]}),
        ("orders", "d-1", {"letters": [1]}),
    ]
    assert [r.id.rpartition(".")[2] for r in requests] == ["1", "2"]
    assert stored(data) == requests


def test_many_letters_are_cut_into_transactions_of_bearable_length(data: Path) -> None:
    numbers = [("payments", n) for n in range(1, 1202)]
    requests = operate.discard(data, numbers, reason="obsolete")
    assert [len(arguments(r)["letters"]) for r in requests] == [500, 500, 201]
    assert {r.reason for r in requests} == {"obsolete"}


@pytest.mark.parametrize("verb", ["cancel", "retry", "skip", "kill"])
def test_a_saga_is_asked_of_its_participant(data: Path, verb: str) -> None:
    [request] = getattr(operate, verb)(data, "orders/fulfil/1", reason="because")
    assert (request.kind, request.participant) == (f"saga.{verb}", "orders")
    assert (request.target, request.reason) == ("orders/fulfil/1", "because")


def test_what_cannot_be_taken_back_needs_a_reason(data: Path) -> None:
    with pytest.raises(Refused, match="needs a reason"):
        operate.cancel(data, "orders/fulfil/1", reason="  ")
    with pytest.raises(Refused, match="needs a reason"):
        operate.kill(data, "orders/fulfil/1", reason="")
    with pytest.raises(Refused, match="needs a reason"):
        operate.resolve(data, "orders/fulfil/1", "completed", reason="")
    with pytest.raises(Refused, match="needs a reason"):
        operate.discard(data, [("payments", 1)], reason="")


def test_waiting_ends_with_the_last_verdict(data: Path) -> None:
    first = operate.send(data, "PlaceOrder", ORDER)
    [second] = operate.retry(data, "orders/fulfil/1", reason="fixed")
    found: list[Request] = []
    waiter = threading.Thread(
        target=lambda: found.extend(operate.wait(data, [first.id, second.id], 30.0))
    )
    with claimed(data):
        waiter.start()
        with control.client(data) as connection:
            control.mark(connection, first.id, "applied", "done", 1.0)
            control.mark(connection, second.id, "refused", "not stuck", 2.0)
        waiter.join()
    assert [(r.state, r.result) for r in found] == [("applied", "done"), ("refused", "not stuck")]


def test_waiting_in_vain_ends_as_well(data: Path) -> None:
    request = operate.send(data, "PlaceOrder", ORDER)
    assert operate.wait(data, [request.id], 0.0) == [request]


def test_pausing_asks_each_participant_or_all_of_them(data: Path) -> None:
    for name in ("orders", "payments"):
        with filling.store(data, name):
            pass
    [one] = operate.pause(data, ["payments"], who="ada", reason="the bank is closed")
    assert (one.kind, one.participant, one.target) == ("participant.pause", "payments", "payments")
    every = operate.resume(data, who="ada")
    assert [request.participant for request in every] == ["orders", "payments"]
    with pytest.raises(NotFound) as error:
        operate.pause(data, ["payment"], reason="x")
    assert error.value.hint == "did you mean payments?"
    with pytest.raises(Refused, match="needs a reason"):
        operate.pause(data, reason=" ")
