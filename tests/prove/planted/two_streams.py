"""Wrong: a command counts on an event that was sent before it, but came by another stream.

There is an order in each of the two streams, and none between them.
"""

from collections.abc import Iterable

from outboxd import Command, Db, Event, Participant, Tx

shop = Participant("shop")
mailer = Participant(
    "mailer",
    schema="CREATE TABLE user (name TEXT PRIMARY KEY, welcomed INTEGER NOT NULL) STRICT;",
)


class SignUp(Command[None], to="shop", key="name"):
    name: str


class SignedUp(Event, source="shop", key="name"):
    name: str


class Welcome(Command[None], to="mailer", key="name"):
    name: str


@shop.handle
def sign_up(tx: Tx, cmd: SignUp) -> None:
    tx.publish(SignedUp(name=cmd.name))
    tx.send(Welcome(name=cmd.name))


@mailer.handle
def on_signed_up(tx: Tx, event: SignedUp) -> None:
    tx.execute("INSERT INTO user VALUES (?, 0)", (event.name,))


@mailer.handle
def welcome(tx: Tx, cmd: Welcome) -> None:
    tx.execute("UPDATE user SET welcomed = 1 WHERE name = ?", (cmd.name,))


@mailer.invariant("every user is welcomed", when="idle")
def welcomed(db: Db) -> Iterable[str]:
    for (name,) in db.execute("SELECT name FROM user WHERE welcomed = 0"):
        yield f"{name} was not welcomed"


shop.example(SignUp(name="ada"))

UPSERT = (
    "INSERT INTO user VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET "
    "welcomed = max(welcomed, excluded.welcomed)"
)


def on_signed_up_rightly(tx: Tx, event: SignedUp) -> None:
    tx.execute(UPSERT, (event.name, 0))


def welcome_rightly(tx: Tx, cmd: Welcome) -> None:
    tx.execute(UPSERT, (cmd.name, 1))


RIGHT = {on_signed_up: on_signed_up_rightly, welcome: welcome_rightly}
