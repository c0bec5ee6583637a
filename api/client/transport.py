"""Requests to a server: sent again when the connection fails, each done once, every error one line."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
from httpx_sse import ServerSentEvent, SSEError, connect_sse
from pydantic import BaseModel, ValidationError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay

from api.auth import parse_token
from api.errors import OptionError
from nas.errors import LightnasError

_AGAIN = (429, 503)
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_SILENCE = httpx.Timeout(60.0, connect=10.0)  # the server of an event stream gives a sign of life every 15 s
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 30.0

Model = TypeVar("Model", bound=BaseModel)


class ServerError(LightnasError):
    """A server refused a request or cannot be reached; the message is the line it gave.

    Attributes:
        status: HTTP status; None if there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status is None or self.status in _AGAIN


class _Again(Exception):
    """A request that may succeed later."""

    def __init__(self, error: ServerError, after_s: float | None = None) -> None:
        self.error, self.after_s = error, after_s
        super().__init__(str(error))


class Transport:
    """A connection to one server; threads may share it.

    Args:
        url: of the server, e.g. https://nas.example.org or http://127.0.0.1:8080.
        token: `nas_…`.

    Raises:
        OptionError: the URL or the token is none.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.url = check_url(url)
        if token is not None and parse_token(token) is None:
            raise OptionError(
                "the token is none of lightnas: it looks like nas_0123456789abcdef_…; check LIGHTNAS_TOKEN"
            )
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=f"{self.url}/api/v1/", headers=headers, timeout=_TIMEOUT)

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        once: bool = True,
        wait_s: float = 0.0,
        patience_s: float,
    ) -> httpx.Response:
        """The answer to a request that succeeded.

        Args:
            method: of HTTP.
            path: below /api/v1/.
            body: JSON.
            params: of the query; those that are None are left out.
            once: give a POST an Idempotency-Key, so that it is done once however often it is sent.
            wait_s: how long the server may think on purpose.
            patience_s: for how long to send it again while the server is away, busy or limits the rate.

        Raises:
            ServerError: it was refused, or the server stayed away.
        """
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" and once else {}
        timeout = httpx.Timeout(30.0 + wait_s, connect=10.0)
        given = {k: v for k, v in (params or {}).items() if v is not None}
        request = self.http.build_request(method, path, json=body, params=given, headers=headers, timeout=timeout)

        def send() -> httpx.Response:
            try:
                response = self.http.send(request)
            except httpx.TransportError as e:
                raise _Again(self.unreachable(e)) from e
            if response.status_code in _AGAIN:
                raise _Again(self.refusal(response), _seconds(response.headers.get("Retry-After")))
            return response

        retrying = Retrying(
            retry=retry_if_exception_type(_Again), stop=stop_after_delay(patience_s), wait=_wait, reraise=True
        )
        try:
            response = retrying(send)
        except _Again as e:
            raise e.error from e
        if not response.is_success:
            raise self.refusal(response)
        return response

    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[ServerSentEvent]:
        """The messages of an event stream, until the server ends it.

        Raises:
            ServerError: it was refused, or cut off.
        """
        try:
            with connect_sse(self.http, "GET", path, headers=dict(headers), timeout=_SILENCE) as source:
                if not source.response.is_success:
                    source.response.read()
                    raise self.refusal(source.response)
                yield from source.iter_sse()
        except (httpx.TransportError, SSEError) as e:
            raise self.unreachable(e) from e

    def download(self, path: str, to: Path, sha256: str, patience_s: float) -> None:
        """Write an answer's body to a file, which is there whole or not at all.

        Raises:
            ServerError: it was refused, or is not what the SHA-256 says.
        """
        temporary = to.with_name(f".{to.name}.{os.getpid()}")
        deadline = time.monotonic() + patience_s
        try:
            while not self._downloaded(path, temporary, sha256):
                if time.monotonic() > deadline:
                    raise ServerError(f"{to.name} arrived broken from the server {self.url}; try again")
                time.sleep(_FIRST_WAIT_S)
            temporary.replace(to)
        finally:
            temporary.unlink(missing_ok=True)

    def _downloaded(self, path: str, to: Path, sha256: str) -> bool:
        digest = hashlib.sha256()
        try:
            with self.http.stream("GET", path) as response, to.open("wb") as file:
                if not response.is_success:
                    response.read()
                    raise self.refusal(response)
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    digest.update(chunk)
        except httpx.TransportError:
            return False
        return digest.hexdigest() == sha256

    def unreachable(self, error: Exception) -> ServerError:
        """The error for a server that does not answer."""
        return ServerError(
            f"the server {self.url} cannot be reached ({_one_line(error)}); is `nas serve` running there?"
        )

    def refusal(self, response: httpx.Response) -> ServerError:
        """The error a response tells of: the line of its problem, or its status."""
        told = None
        if "json" in response.headers.get("Content-Type", ""):
            try:
                content = response.json()
            except ValueError:
                content = None
            told = content.get("detail") if isinstance(content, dict) else None
        detail = _one_line(told) if told else f"the server {self.url} answered {response.status_code}"
        if response.status_code == 401:
            detail += "; give a token in LIGHTNAS_TOKEN"
        return ServerError(detail, response.status_code)

    def read(self, model: type[Model], response: httpx.Response) -> Model:
        """A response's body.

        Raises:
            ServerError: it is something else; the server may be of another version.
        """
        try:
            return model.model_validate_json(response.content)
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ServerError(
                f"the server {self.url} answered what this version of lightnas cannot read ({where}: {first['msg']}); "
                "use the same version on both sides"
            ) from e


def check_url(url: str) -> str:
    """A server's URL without a slash at its end.

    Raises:
        OptionError: it is none.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as e:
        raise OptionError(f"the server {url!r} is no URL ({e}); write http://127.0.0.1:8080") from e
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query or parsed.fragment:
        raise OptionError(f"the server {url!r} is no address of one; write http://127.0.0.1:8080")
    return url.rstrip("/")


def _wait(state: RetryCallState) -> float:
    """What the server asked for, or twice as long each time."""
    failed = state.outcome.exception() if state.outcome else None
    asked = failed.after_s if isinstance(failed, _Again) else None
    doubled = _FIRST_WAIT_S * 2.0 ** min(state.attempt_number - 1, 10)
    return float(min(_LONGEST_WAIT_S, doubled if asked is None else max(asked, _FIRST_WAIT_S)))


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() and len(text) < 6 else None


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
