"""Notifications: one mail for each end of an order; an address without @ is poison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outboxd.registry import Registry
from plugins.notifications import completed, failed, notifications
from plugins.notifications.mailer import Mailer, open_mailer
from plugins.orders.messages import OrderCompleted, OrderFailed
from tests.plugins.shop import PARTICIPANTS, Desk, Shop, finish

GOOD = OrderCompleted(order_id="o-1", email="ada@example.org", shipment="C-1")
BAD = OrderFailed(order_id="o-2", email="bela@example.org", reason="out of stock")


def mails(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_end_of_an_order_is_mailed_and_recorded(shop: Shop, tmp_path: Path) -> None:
    desk = shop.desks["notifications"]
    finish(completed(desk.context(GOOD, shop.mailer, "m-1"), GOOD))
    finish(failed(desk.context(BAD, shop.mailer, "m-2"), BAD))
    assert [mail["message_id"] for mail in mails(tmp_path / "mail.jsonl")] == ["m-1", "m-2"]
    assert desk.db.execute("SELECT * FROM mail") == [
        ("o-1", "ada@example.org", "Your parcel C-1 is on its way"),
        ("o-2", "bela@example.org", "We could not fill your order: out of stock"),
    ]


def test_a_retry_does_not_send_a_recorded_mail_again(shop: Shop, tmp_path: Path) -> None:
    ctx = shop.desks["notifications"].context(GOOD, shop.mailer)
    finish(ctx.once("mail", shop.mailer.send, "ada@example.org", "…", idempotency_key="m-1"))
    finish(completed(ctx, GOOD))
    assert len(mails(tmp_path / "mail.jsonl")) == 1


def test_an_address_without_at_raises_and_leaves_nothing(shop: Shop) -> None:
    poison = OrderCompleted(order_id="o-1", email="nobody.example.org", shipment="C-1")
    desk = shop.desks["notifications"]
    with pytest.raises(ValueError, match="no e-mail address"):
        finish(completed(desk.context(poison, shop.mailer), poison))
    assert not desk.db.execute("SELECT * FROM mail")


def test_poison_dies_within_a_second() -> None:
    for handler in Registry(PARTICIPANTS).handlers.values():
        if handler.participant == "notifications":
            assert handler.spec.policy.budget_s() < 1


def test_the_invariant_names_the_order() -> None:
    desk = Desk(notifications)
    desk.connection.executemany("INSERT INTO mail VALUES ('o-1', 'a@b', ?)", [("x",), ("y",)])
    (stated,) = notifications.invariants
    assert list(stated.fn(desk.db)) == ["order o-1 was mailed 2 times"]
    desk.connection.close()


@pytest.mark.anyio
async def test_the_mail_server_writes_into_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTBOXD_DATA", str(tmp_path))
    monkeypatch.delenv("OUTBOXD_MAIL_FILE", raising=False)
    async with open_mailer() as mailer:
        assert isinstance(mailer, Mailer)
        await mailer.send("ada@example.org", "Hello", idempotency_key="m-1")
    assert mails(tmp_path / "mail.jsonl") == [
        {"message_id": "m-1", "to": "ada@example.org", "subject": "Hello"}
    ]
