"""Loyalty came later: ``since="retained"`` starts with what the stream still has."""

from messages import Placed

from outboxd import Participant, Tx

loyalty = Participant("loyalty", schema="CREATE TABLE heard (id TEXT NOT NULL) STRICT;")


@loyalty.handle(since="retained")
def on_placed(tx: Tx, event: Placed) -> None:
    tx.execute("INSERT INTO heard VALUES (?)", (event.id,))
