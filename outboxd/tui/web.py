"""The dashboard in a browser: a server on the loopback that starts one for each visitor.

A page of another site may not talk to it: browsers let any site open a socket to this machine, so
every request must come from our own page, under the name that we listen on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server

from outboxd.errors import ConfigError

HOST = "127.0.0.1"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site(Server):
    """``command`` is what each visitor gets; ``say`` is told the address."""

    def __init__(self, command: str, port: int, say: Callable[[str], None]) -> None:
        super().__init__(command, host=HOST, port=port, title="outboxd")
        self._say = say

    def initialize_logging(self) -> None:
        logging.basicConfig(level="WARNING")

    async def on_startup(self, app: web.Application) -> None:
        self._say(self.public_url)

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._only_ours)
        return app

    @property
    def _names(self) -> set[str]:
        return {f"{name}:{self.port}" for name in (HOST, "localhost", "[::1]")}

    @web.middleware
    async def _only_ours(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        is_ours = request.host in self._names and (
            origin is None or urlsplit(origin).netloc in self._names
        )
        if not is_ours:
            raise web.HTTPForbidden(text="this dashboard answers only to its own page")
        return await handler(request)


def serve(command: str, port: int, say: Callable[[str], None]) -> None:
    """Until Ctrl-C. Raises ConfigError where the port is taken."""
    try:
        Site(command, port, say).serve()
    except OSError as err:
        raise ConfigError(
            f"cannot listen on {HOST}:{port}: {os.strerror(err.errno or 0)}",
            hint="choose another one with --port",
        ) from err
