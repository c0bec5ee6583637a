"""What any request may be: to which host, how often, how long; and the headers of every answer."""

from __future__ import annotations

import ipaddress
import math
import time
from urllib.parse import urlsplit

from fastapi import FastAPI
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.rest.problems import HEADERS, problem
from api.settings import ServeSettings


def install(app: FastAPI, serve: ServeSettings) -> None:
    """Put the limits around an application. Middleware added later lies outside and sees refused requests, too."""
    app.state.rates = Rates(serve)
    # Not FastAPI(max_body_size=...): that one lies outside all other middleware and answers a declared length in
    # plain text. Here it only counts what comes in chunks.
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=serve.max_body_bytes)
    app.add_middleware(Gate, serve=serve)


class Rates:
    """How often a token, and an address without one, may ask; each process counts for itself.

    A sliding window of two counters per key (`limits`). Its moving window keeps a time for every request, and never
    forgets the key of an address.
    """

    def __init__(self, serve: ServeSettings) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._requests = RateLimitItemPerMinute(serve.rate_per_minute)
        self._tries = RateLimitItemPerMinute(serve.tries_per_minute)

    def request(self, token_id: str) -> None:
        """Count a request with a valid token.

        Raises:
            HTTPException: 429, it sent too many.
        """
        self._count(self._requests, "token", token_id, f"{self._requests.amount} requests of a token")

    def refusal(self, address: str | None) -> None:
        """Count a request without a valid token.

        Valid ones from the same address are not held back: a program with a stale token must not shut out the
        people behind the same NAT, and no number of tries guesses 256 bits.

        Raises:
            HTTPException: 429, too many came from there.
        """
        self._count(self._tries, "address", _network(address), f"{self._tries.amount} tries without a valid token")

    def _count(self, item: RateLimitItemPerMinute, kind: str, key: str, what: str) -> None:
        if self._limiter.hit(item, kind, key):
            return
        reset = self._limiter.get_window_stats(item, kind, key).reset_time
        wait_s = max(1, math.ceil(reset - time.time()))
        raise HTTPException(429, f"more than {what} in a minute; try again in {wait_s} s", {"Retry-After": str(wait_s)})


def _network(address: str | None) -> str:
    """The address; of IPv6 the /64, which one machine has for itself."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:  # a Unix socket, or what a proxy made of it
        return "unknown"
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


class Gate:
    """Refuses what no route should see, and sets the headers of every answer."""

    def __init__(self, app: ASGIApp, serve: ServeSettings) -> None:
        self._app = app
        self._serve = serve
        self._hosts = {host.strip("[]").lower() for host in serve.allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refuse(Headers(scope=scope))
        await (refused or self._app)(scope, receive, send_with_headers)

    def _refuse(self, headers: Headers) -> Response | None:
        if "*" not in self._hosts and not self._is_known(headers.getlist("host")):
            return problem(
                400, "the Host header names no host of this service; it answers to those of `nas serve --allowed-host`"
            )
        if headers.get("content-encoding", "identity").lower() != "identity":
            # Nothing is unpacked, so there is nothing that could unpack to too much.
            return problem(
                415, "send the body as it is, without Content-Encoding", None, {"Accept-Encoding": "identity"}
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._serve.max_body_bytes:
            return problem(413, f"the body may be {self._serve.max_body_bytes} bytes long, not {length[:20]}")
        return None

    def _is_known(self, hosts: list[str]) -> bool:
        try:
            return len(hosts) == 1 and urlsplit(f"//{hosts[0]}").hostname in self._hosts
        except ValueError:
            return False
