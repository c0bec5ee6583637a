"""Errors as RFC 9457 problems: each is one line that names the thing and the fix, and none tells about the inside."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from api.errors import AlreadyExists, Conflict, Forbidden, JobLost, NotFound, SearchBusy, StoreError, Unauthorized
from api.schemas.common import FieldError, Problem
from nas.errors import LightnasError, UnknownPlugin

MEDIA_TYPE = "application/problem+json"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""On every answer, unless its route says something else."""
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_MOST_ERRORS = 20
_LONGEST = 500
_STATUS: tuple[tuple[type[LightnasError], int], ...] = (  # the first that fits
    (NotFound, 404),
    (UnknownPlugin, 404),
    (AlreadyExists, 409),
    (SearchBusy, 409),
    (Conflict, 409),
    (JobLost, 409),
    (StoreError, 503),
    (Unauthorized, 401),
    (Forbidden, 403),
    (LightnasError, 422),
)
_DETAILS = {  # where the framework says no more than the status does
    404: "nothing is at this address; /openapi.json lists what there is",
    405: "this address does not take the method; the Allow header lists those it takes",
    413: "the request's body is longer than this service takes",
}
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="lightnas"'}
_REF = {"$ref": "#/components/schemas/Problem"}

_log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Make every error of an application a problem, in its answers and in its OpenAPI description."""
    app.add_exception_handler(LightnasError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_gone)
    app.add_exception_handler(Exception, _on_bug)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        return _document(describe())

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def problem(
    status: int, detail: str, errors: list[FieldError] | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer that tells of an error."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=" ".join(detail.split()), errors=errors)
    # ASCII: a message may quote a lone surrogate, which has no UTF-8.
    text = json.dumps(body.model_dump(exclude_none=True), ensure_ascii=True)
    return Response(text, status, {**HEADERS, **(headers or {})}, MEDIA_TYPE)


def invalid(field: str, message: str) -> RequestValidationError:
    """An error to raise about a part of a request.

    Args:
        field: where, e.g. `query.cursor`.
        message: what is wrong.
    """
    return RequestValidationError([{"loc": tuple(field.split(".")), "msg": message, "type": "value_error"}])


def responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI of the errors a route may answer besides those any route may (see `install`): 404, 409."""
    return {code: _response(code) for code in codes}


async def _on_error(_request: Request, error: Exception) -> Response:
    status = next(code for kind, code in _STATUS if isinstance(error, kind))
    if status == 503:
        # It names files and hosts, which are for the log only.
        _log.error("the store failed: %s", error)
        return problem(
            503, "the database cannot be used just now; the server's log says why", None, {"Retry-After": "5"}
        )
    return problem(status, str(error), None, _CHALLENGE if status == 401 else None)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    fields = [_field(e) for e in found[:_MOST_ERRORS]]
    more = f"; and {len(found) - _MOST_ERRORS} more" if len(found) > _MOST_ERRORS else ""
    status = 400 if any(e["type"] == "json_invalid" for e in found) else 422
    return problem(status, "; ".join(f"{e.field}: {e.message}" for e in fields) + more, fields)


def _field(error: Mapping[str, Any]) -> FieldError:
    if error["type"] == "json_invalid":  # its place is an offset, which is no field
        _, position = error["loc"]
        return FieldError(field="body", message=f"no JSON: {error['ctx']['error']} at character {position}")
    return FieldError(field=_clip(".".join(map(str, error["loc"]))), message=_clip(error["msg"]))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told, headers = str(error.detail), dict(error.headers or {})
    if told in ("Not Found", "Method Not Allowed", "Content Too Large"):
        told = _DETAILS[error.status_code]
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_allowed(request)))
    return problem(error.status_code, told, None, headers)


def _allowed(request: Request) -> set[str]:
    """The methods of an address; the framework tells those of the first route that has it."""
    found: set[str] = set()
    for method in _METHODS:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found.add(method)
    return found


async def _on_gone(_request: Request, _error: Exception) -> Response:
    return problem(400, "the request ended before its body did")


async def _on_bug(_request: Request, _error: Exception) -> Response:
    return problem(500, "an error of the server; its log has the details")


def _clip(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _response(code: int) -> dict[str, Any]:
    return {"description": HTTPStatus(code).phrase, "content": {MEDIA_TYPE: {"schema": _REF}}}


def _document(schema: dict[str, Any]) -> dict[str, Any]:
    """Add the errors that any route may answer to an OpenAPI description."""
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form
        schemas.pop(name, None)
    made = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(made.pop("$defs"))
    schemas["Problem"] = made
    for operation in _operations(schema):
        codes = [400, 422, 500, 503]
        if "security" in operation:
            codes += [401, 403, 429]
        if "requestBody" in operation:
            codes += [413, 415]
        told = operation["responses"]
        told |= {str(code): _response(code) for code in codes}
        operation["responses"] = dict(sorted(told.items()))
    return schema


def _operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in schema.get("paths", {}).values():
        yield from (
            operation for operation in path.values() if isinstance(operation, dict) and "responses" in operation
        )
