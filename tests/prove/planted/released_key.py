"""Wrong: a dead letter releases its key, and what comes after it counts on what it did not do.

``hold_key=True`` would keep the deposit back until the letter is replayed; handlers that stand any
order need not.
"""

from collections.abc import Iterable

from outboxd import Command, Db, Participant, Tx

shop = Participant("shop")
bank = Participant(
    "bank", schema="CREATE TABLE account (name TEXT PRIMARY KEY, cents INTEGER NOT NULL) STRICT;"
)


class Join(Command[None], to="shop", key="name"):
    name: str


class OpenAccount(Command[None], to="bank", key="name"):
    name: str


class Deposit(Command[None], to="bank", key="name"):
    name: str
    cents: int


@shop.handle
def join(tx: Tx, cmd: Join) -> None:
    tx.send(OpenAccount(name=cmd.name))
    tx.send(Deposit(name=cmd.name, cents=100))


@bank.handle
def open_account(tx: Tx, cmd: OpenAccount) -> None:
    tx.execute("INSERT INTO account VALUES (?, 0)", (cmd.name,))


@bank.handle
def deposit(tx: Tx, cmd: Deposit) -> None:
    tx.execute("UPDATE account SET cents = cents + ? WHERE name = ?", (cmd.cents, cmd.name))


@bank.invariant("every account has its first deposit", when="idle")
def has_deposit(db: Db) -> Iterable[str]:
    for (name,) in db.execute("SELECT name FROM account WHERE cents = 0"):
        yield f"the deposit of {name} is gone"


shop.example(Join(name="ada"))


def deposit_rightly(tx: Tx, cmd: Deposit) -> None:
    tx.execute(
        "INSERT INTO account VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET "
        "cents = cents + excluded.cents",
        (cmd.name, cmd.cents),
    )


def open_account_rightly(tx: Tx, cmd: OpenAccount) -> None:
    tx.execute("INSERT INTO account VALUES (?, 0) ON CONFLICT DO NOTHING", (cmd.name,))


RIGHT = {deposit: deposit_rightly, open_account: open_account_rightly}
