"""Stock is there from the beginning."""

from messages import Placed

from outboxd import Participant, Tx

stock = Participant("stock", schema="CREATE TABLE heard (id TEXT NOT NULL) STRICT;")


@stock.handle(since="retained")
def on_placed(tx: Tx, event: Placed) -> None:
    tx.execute("INSERT INTO heard VALUES (?)", (event.id,))
