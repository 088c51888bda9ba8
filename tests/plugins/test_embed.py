"""The runtime inside somebody's web application: examples/embed, over HTTP without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from outboxd.testing import wait_until

httpx = pytest.importorskip("httpx")
pytest.importorskip("starlette")

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serving(data: Path) -> AsyncIterator[Any]:
    """The application, started as a server would start it."""
    from examples.embed.app import create_app

    app = create_app(data)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        yield client


async def ended(client: Any, where: str) -> dict[str, Any]:
    """Polls, as a browser would."""

    async def look() -> dict[str, Any] | None:
        document: dict[str, Any] = (await client.get(where)).json()
        return document if document["state"] not in ("running", "compensating") else None

    return await wait_until(look, f"{where} has ended")


async def test_an_order_is_taken_and_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        placed = await client.post("/orders", json={"order_id": "1", "cents": 990})
        assert placed.status_code == 202
        assert placed.json() == {"saga": "shop/fulfil/1"}
        found = await ended(client, placed.headers["location"])
        assert (found["state"], found["result"], found["reason"]) == ("completed", "paid", None)
        again = await client.post("/orders", json={"order_id": "1", "cents": 990})
        assert again.json() == placed.json()


async def test_a_no_is_told_with_its_reason(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        placed = await client.post("/orders", json={"order_id": "2", "cents": 200_000})
        found = await ended(client, placed.headers["location"])
        assert found["state"] == "compensated"
        assert "over the limit" in found["reason"]


async def test_what_is_wrong_or_unknown_is_the_callers(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert (await client.post("/orders", content=b"{")).status_code == 422
        assert (await client.post("/orders", json={"order_id": "1"})).status_code == 422
        assert (await client.get("/orders/zebra")).status_code == 404


async def test_orders_outlive_the_application(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client.post("/orders", json={"order_id": "1", "cents": 990})
    async with serving(tmp_path) as client:
        assert (await ended(client, "/orders/1"))["result"] == "paid"
