"""Wrong: two commands about one account have different keys, so nothing keeps their order.

When the first is tried again the second overtakes it, and finds no account.
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


class Deposit(Command[None], to="bank", key="receipt"):
    receipt: str
    name: str
    cents: int


class DepositTo(Command[None], to="bank", key="name"):
    name: str
    cents: int


@shop.handle
def join(tx: Tx, cmd: Join) -> None:
    tx.send(OpenAccount(name=cmd.name))
    tx.send(Deposit(receipt=f"r-{cmd.name}", name=cmd.name, cents=100))


@bank.handle(hold_key=True)
def open_account(tx: Tx, cmd: OpenAccount) -> None:
    tx.execute("INSERT INTO account VALUES (?, 0)", (cmd.name,))


@bank.handle
def deposit(tx: Tx, cmd: Deposit) -> None:
    tx.execute("UPDATE account SET cents = cents + ? WHERE name = ?", (cmd.cents, cmd.name))


@bank.handle
def deposit_to(tx: Tx, cmd: DepositTo) -> None:
    tx.execute("UPDATE account SET cents = cents + ? WHERE name = ?", (cmd.cents, cmd.name))


@bank.invariant("every account has its first deposit", when="idle")
def has_deposit(db: Db) -> Iterable[str]:
    for (name,) in db.execute("SELECT name FROM account WHERE cents = 0"):
        yield f"the deposit of {name} is gone"


shop.example(Join(name="ada"))


def join_rightly(tx: Tx, cmd: Join) -> None:
    tx.send(OpenAccount(name=cmd.name))
    tx.send(DepositTo(name=cmd.name, cents=100))


RIGHT = {join: join_rightly}
