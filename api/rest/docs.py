"""`/docs`: Swagger UI from this machine, under a policy that lets no other script run."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles


def install(app: FastAPI) -> None:
    """Serve the description of an application made with `FastAPI(docs_url=None, redoc_url=None)`.

    Each operation's summary is the first line of its route's docstring.
    """
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        described = describe()
        for path in described.get("paths", {}).values():
            for operation in path.values():
                if "description" in operation:
                    operation["summary"] = operation["description"].partition("\n")[0].removesuffix(".")
        return described

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
    package = importlib.util.find_spec("fastapi_swagger")  # only its files: its own page allows no policy
    assert package is not None
    assert package.origin is not None
    app.mount("/docs/files", StaticFiles(directory=Path(package.origin).parent / "resources"), name="docs-files")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "").rstrip("/")
        page = get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title=app.title,
            swagger_js_url=f"{root}/docs/files/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/files/swagger-ui.css",
            swagger_favicon_url=f"{root}/docs/files/favicon-32x32.png",
        )
        page.headers["Content-Security-Policy"] = _policy(bytes(page.body).decode())
        return page


def operation_id(route: APIRoute) -> str:
    """What generated clients call an operation: its noun and what it does, e.g. `searches_pause`."""
    return "_".join([*map(str, route.tags), route.name])


def _policy(page: str) -> str:
    """Allow a page's own files and its one inline script, as it is."""
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
