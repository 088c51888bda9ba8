"""A web application with its workflow inside: POST an order, then ask what became of it.

pip install starlette uvicorn
uvicorn examples.embed.app:app
curl -X POST localhost:8000/orders -d '{"order_id": "1", "cents": 990}'
curl localhost:8000/orders/1
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from outboxd import NotFound, Runtime

from .workflow import PlaceOrder, shop, till


async def place(request: Request) -> JSONResponse:
    """202 as soon as the order is durable; the same order again finds the same saga."""
    try:
        order = msgspec.json.decode(await request.body(), type=PlaceOrder)
    except msgspec.DecodeError as err:
        return JSONResponse({"error": str(err)}, status_code=422)
    handle = await request.app.state.runtime.start(order)
    where = f"/orders/{order.order_id}"
    return JSONResponse({"saga": handle.id}, status_code=202, headers={"location": where})


async def show(request: Request) -> JSONResponse:
    """Where the saga is; its result or its reason once it has ended."""
    runtime: Runtime = request.app.state.runtime
    try:
        handle = await runtime.handle(f"shop/fulfil/{request.path_params['order_id']}")
    except NotFound as err:
        return JSONResponse({"error": err.message}, status_code=404)
    progress = await handle.standing()
    return JSONResponse(msgspec.to_builtins(progress))


def create_app(data: Path) -> Starlette:
    """The application; its data directory is its own."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with Runtime([shop, till], data=data) as runtime:
            app.state.runtime = runtime
            yield

    routes = [
        Route("/orders", place, methods=["POST"]),
        Route("/orders/{order_id}", show),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


app = create_app(Path("embed-data"))
