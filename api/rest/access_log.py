"""A line in the log and a count for every request, and the id that its lines share."""

from __future__ import annotations

import logging
import re
import secrets
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.operations.metrics import Metrics

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_access = logging.getLogger("lightnas.access")


class AccessLog:
    """ASGI middleware: a line and a count for every request, and the id that its lines share.

    A client may choose the id (X-Request-ID: at most 64 letters, digits, dots, dashes, underscores); the answer tells
    it. Paths are logged as their templates: what a client writes into one is no line of the log. `request.state.user`,
    where the application sets it, is logged as the user. Probes that succeed make no line.

    Args:
        app: the application.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        wanted = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = wanted if _REQUEST_ID.fullmatch(wanted) else secrets.token_hex(8).encode()
        # Not unbound at the end: each request is a task of its own, and the server logs its mistakes after us.
        structlog.contextvars.bind_contextvars(request_id=request_id.decode())
        status, streaming, began = 500, False, time.perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status, streaming
            if message["type"] == "http.response.start":
                status = message["status"]
                kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
                if kinds and kinds[0].startswith(b"text/event-stream"):
                    streaming = True
                    self.metrics.streams.inc()
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id)]}
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            if streaming:
                self.metrics.streams.dec()
            self._note(scope, status, time.perf_counter() - began, streaming=streaming)

    def _note(self, scope: Scope, status: int, seconds: float, *, streaming: bool) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = getattr(scope.get("route"), "path", "none")
        self.metrics.requests.labels(method, route, str(status)).inc()
        if not streaming:
            self.metrics.seconds.labels(method, route).observe(seconds)
        if route in _PROBES and status < 400:
            return
        fields = {"method": method, "path": route, "status": status, "ms": round(seconds * 1e3, 1)}
        if (user := scope.get("state", {}).get("user")) is not None:
            fields["user"] = getattr(user, "name", user)
        _access.log(logging.ERROR if status >= 500 else logging.INFO, "request", extra=fields)
