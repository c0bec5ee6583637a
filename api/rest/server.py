"""The server around the application."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import uvicorn
from fastapi import FastAPI

from api.rest.stream import EventHub
from api.rest.turnstile import Turnstile


class Server(uvicorn.Server):
    """A server that sends waiting clients home before it waits for its connections to end.

    Args:
        config: of it.
        app: the application, without what the configuration puts around it.
        ended: signals that were heard before this server hears them itself; with any it does not begin.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, ended: Sequence[int] = ()) -> None:
        super().__init__(config)
        self._app, self._ended = app, ended

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, unless it is over already."""
        await super().startup(sockets)
        self.should_exit = self.should_exit or bool(self._ended)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End event streams and long polls, then everything."""
        Turnstile.of(self._app).close()
        await EventHub.of(self._app).close()
        await super().shutdown(sockets)
