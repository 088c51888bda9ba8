"""Mistakes with schedules and versions: each line marked so is reported, and no other."""

from typing import Any

from outboxd import Context, Event, Participant, Tx

keeper = Participant("keeper")


def no_upcast(data: str) -> str:
    return data


async def outside(ctx: Context) -> None: ...
def with_message(tx: Tx, data: dict[str, Any]) -> None: ...


keeper.every("5m")(with_message)  # error
keeper.every("5m")(outside)  # error
keeper.every(cron=5)  # error
keeper.every("5m", missed="never")  # error


class Versioned(Event, source="keeper", version="2"):  # error
    id: str


class Upcast(Event, source="keeper", version=2, upcast=no_upcast):  # error
    id: str


class Aliased(Event, source="keeper", aliases="Old"):  # error
    id: str
