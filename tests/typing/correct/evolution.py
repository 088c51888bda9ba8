"""Schedules, and messages that were renamed or changed: no error anywhere."""

from typing import Any

from outboxd import Command, Event, Participant, Policy, Tx

keeper = Participant("keeper")


def upcast(data: dict[str, Any], version: int) -> dict[str, Any]:
    return {**data, "cents": data["euros"] * 100} if version == 1 else data


class Charge(
    Command[None], to="keeper", key="id", version=2, upcast=upcast, aliases=("Pay", "Debit")
):
    id: str
    cents: int
    note: str = ""


class Charged(Event, source="keeper", key="id", version=2, upcast=upcast, aliases=("Paid",)):
    id: str
    cents: int


@keeper.every("5m")
def sweep(tx: Tx) -> None:
    tx.send(Charge(id="1", cents=5), delay="1h")


@keeper.every(cron="0 3 * * *", tz="Europe/Vienna", missed="skip", retry=Policy(attempts=2))
def close_the_day(tx: Tx) -> None:
    tx.publish(Charged(id="1", cents=5))
