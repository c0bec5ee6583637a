"""The dashboard: files that a browser loads once and that then use the public REST API like any other client.

Plain ES modules without a build step; `static/vendor` holds the few libraries, pinned. Addresses are relative, and
routes live behind the `#` of the address, so it works under any prefix of a proxy.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC: Final = Path(__file__).parent / "static"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing inline, no eval, nobody else's server; text cannot become markup (Trusted Types)."""
_STYLES: Final = (
    "css/tokens.css",
    "css/base.css",
    "css/components.css",
    "vendor/uplot.css",
    "css/searches.css",
    "css/search.css",
    "css/table.css",
    "css/network.css",
    "css/new_search.css",
    "css/boards.css",
    "css/jobs.css",
)
"""One after the other they are `/assets/styles.css`: nothing is painted before all are there, so they come together."""
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",  # kept, but asked about: an upgraded server must not meet old files
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def install(app: FastAPI) -> None:
    """Serve the dashboard at `/`, its files below `/assets`."""
    styles = "\n".join((STATIC / name).read_text() for name in _STYLES)
    tag = f'"{hashlib.sha256(styles.encode()).hexdigest()[:32]}"'

    @app.api_route("/assets/styles.css", methods=["GET", "HEAD"], include_in_schema=False)
    async def stylesheet(request: Request) -> Response:
        headers = {**_HEADERS, "ETag": tag}
        if tag in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        return Response(styles, media_type="text/css", headers=headers)

    app.mount("/assets", _Files(directory=STATIC), name="assets")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def dashboard() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=_HEADERS)


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response
