"""The shop publishes what has happened, for whoever subscribes."""

from messages import Place, Placed

from outboxd import Participant, Tx

shop = Participant("shop")


@shop.handle
def place(tx: Tx, cmd: Place) -> None:
    tx.publish(Placed(id=cmd.id))
