"""Wrong: a step in the saga's own transaction asks a server. It is asked again with each retry."""

import socket

from outboxd import Command, Participant, Saga, Tx

shop = Participant("shop", schema="CREATE TABLE orders (order_id TEXT PRIMARY KEY) STRICT;")


class Place(Command[None], to="shop", key="order_id"):
    order_id: str


@shop.saga
async def fulfil(saga: Saga, order: Place) -> None:
    await saga.run(create, order.order_id)


def create(tx: Tx, order_id: str) -> None:
    tx.execute("INSERT INTO orders VALUES (?)", (order_id,))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.sendto(order_id.encode(), ("127.0.0.1", 9))


shop.example(Place(order_id="o-1"))


async def fulfil_rightly(saga: Saga, order: Place) -> None:
    await saga.run(only_create, order.order_id)


def only_create(tx: Tx, order_id: str) -> None:
    tx.execute("INSERT INTO orders VALUES (?)", (order_id,))


RIGHT = {fulfil: fulfil_rightly}
