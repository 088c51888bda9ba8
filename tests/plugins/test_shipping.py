"""Shipping and its courier: one booking for each key, whatever gets lost on the wire."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outboxd import Reject
from outboxd.participant import Step
from plugins.shipping import book, shipping
from plugins.shipping.courier import Book, CourierDown, NotServed, open_courier
from plugins.shipping.messages import Booking, CancelShipment, ScheduleShipment
from tests.plugins.shop import Desk, InstantCourier, Shop, finish

SCHEDULE = ScheduleShipment(order_id="o-1", zone="N1")
CANCEL = CancelShipment(order_id="o-1")


@pytest.fixture
def desk() -> Desk:
    return Desk(shipping)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OUTBOXD_DATA", str(tmp_path))
    monkeypatch.delenv("OUTBOXD_COURIER_FILE", raising=False)
    monkeypatch.delenv("OUTBOXD_COURIER_DOWN", raising=False)
    return tmp_path


def booked(path: Path) -> list[str]:
    lines = map(json.loads, path.read_text().splitlines())
    return [line["booked"] for line in lines if "booked" in line]


def test_booking_records_the_couriers_number(shop: Shop) -> None:
    assert shop.ask(SCHEDULE) == Booking("C-1")
    assert shop.desks["shipping"].db.execute("SELECT * FROM shipment") == [("C-1", "o-1")]


def test_a_zone_that_no_courier_serves_is_a_business_no(shop: Shop) -> None:
    with pytest.raises(Reject, match="zone ZZ"):
        shop.ask(ScheduleShipment(order_id="o-1", zone="ZZ"))


@pytest.mark.parametrize("is_known", [True, False])
def test_cancelling_names_the_booking_by_its_key(shop: Shop, is_known: bool) -> None:
    shop.ask(SCHEDULE)
    shop.ask(CANCEL, Step("ScheduleShipment o-1", is_known, None))
    assert not shop.desks["shipping"].db.execute("SELECT * FROM shipment")
    with pytest.raises(Reject, match="cancelled"):
        shop.ask(SCHEDULE)


def test_cancelling_a_booking_that_never_came_keeps_it_out(shop: Shop) -> None:
    shop.ask(CANCEL, Step("ScheduleShipment o-1", False, None))
    with pytest.raises(Reject, match="cancelled"):
        shop.ask(SCHEDULE)


def test_cancelling_without_a_step_is_refused(shop: Shop) -> None:
    with pytest.raises(Reject, match="only as the undo"):
        shop.ask(CANCEL)


def test_a_recorded_booking_is_not_asked_for_again(desk: Desk, tmp_path: Path) -> None:
    courier = InstantCourier(tmp_path / "courier.jsonl")
    ctx = desk.context(SCHEDULE, courier)
    finish(ctx.once("book", courier.book, "o-1", "N1", idempotency_key="m-1"))
    courier.close()
    assert finish(book(ctx, SCHEDULE)) == Booking("C-1")


@pytest.mark.anyio
async def test_every_request_gets_through_and_books_once(data: Path) -> None:
    lost = 0
    async with open_courier() as courier:
        for n in range(40):
            for _ in range(3):
                try:
                    await courier.book(f"o-{n}", "N1", idempotency_key=f"k-{n}")
                    break
                except CourierDown:
                    lost += 1
            else:
                pytest.fail(f"k-{n} failed three times")
    assert lost > 0
    assert booked(data / "courier.jsonl") == [f"k-{n}" for n in range(40)]


@pytest.mark.anyio
async def test_the_wire_fails_one_try_in_ten_half_of_them_after_the_courier_acted(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(_: float) -> None: ...

    monkeypatch.setattr("anyio.sleep", at_once)
    errors = []
    async with open_courier() as courier:
        for n in range(2000):
            try:
                await courier.book(f"o-{n}", "N1", idempotency_key=f"k-{n}")
            except CourierDown as err:
                errors.append(str(err))
    requests_lost = sum("request" in error for error in errors)
    assert 150 < len(errors) < 250
    assert 75 < requests_lost < 125
    assert len(booked(data / "courier.jsonl")) == 2000 - requests_lost


@pytest.mark.anyio
async def test_while_the_file_courier_down_is_there_nobody_answers(data: Path) -> None:
    async with open_courier() as courier:
        (data / "courier.down").touch()
        for _ in range(4):
            with pytest.raises(CourierDown):
                await courier.book("o-1", "N1", idempotency_key="k")
        (data / "courier.down").unlink()
        assert await courier.book("o-1", "N1", idempotency_key="k") == "C-1"


@pytest.mark.anyio
async def test_the_environment_moves_the_book_and_takes_the_courier_down(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOXD_COURIER_FILE", str(data / "elsewhere"))
    monkeypatch.setenv("OUTBOXD_COURIER_DOWN", "1")
    async with open_courier() as courier:
        with pytest.raises(CourierDown):
            await courier.book("o-1", "N1", idempotency_key="k")
    assert (data / "elsewhere").exists()
    assert not (data / "courier.jsonl").exists()


def test_two_processes_and_a_restart_see_one_book(tmp_path: Path) -> None:
    ours, theirs = Book(tmp_path / "book"), Book(tmp_path / "book")
    assert ours.enter("k-1", "o-1", "N1") == "C-1"
    assert theirs.enter("k-2", "o-2", "N1") == "C-2"
    assert theirs.enter("k-1", "o-1", "N1") == "C-1"
    ours.strike("k-2")
    ours.close()
    with pytest.raises(NotServed):
        theirs.enter("k-2", "o-2", "N1")
    theirs.close()
    again = Book(tmp_path / "book")
    assert again.enter("k-1", "o-1", "N1") == "C-1"
    again.close()


Request = tuple[str, str]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["enter", "strike", "reopen"]), st.sampled_from("ab"))))
def test_a_key_is_booked_at_most_once_and_keeps_its_number(requests: list[Request]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "book"
        run_requests(path, requests)
        assert len(booked(path)) == len(set(booked(path)))


def run_requests(path: Path, requests: list[Request]) -> None:
    book = Book(path)
    numbers: dict[str, str] = {}
    struck: set[str] = set()
    for verb, key in requests:
        if verb == "reopen":
            book.close()
            book = Book(path)
        elif verb == "strike":
            book.strike(key)
            struck.add(key)
        elif key in struck:
            with pytest.raises(NotServed):
                book.enter(key, "o-1", "N1")
        else:
            assert book.enter(key, "o-1", "N1") == numbers.setdefault(key, f"C-{len(numbers) + 1}")
    book.close()
