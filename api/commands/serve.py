"""`nas serve`: the REST service."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import typer

from api.commands.output import say
from api.errors import OptionError
from api.store import Store


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def require_loopback(host: str) -> None:
    """Raises OptionError unless only this machine can reach the address."""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise OptionError(
            f"--host {host}: the service has no authentication yet and listens on this machine only; use 127.0.0.1 "
            "and, from elsewhere, an SSH tunnel: ssh -L 8080:127.0.0.1:8080 USER@THIS-MACHINE"
        )


def serve(
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Serve searches, boards and tables over REST, to read, on this machine only. OpenAPI at /docs.

    Example: nas serve --port 8080, then curl http://127.0.0.1:8080/api/v1/searches
    """
    require_loopback(host)
    import uvicorn

    from api.app import create_app

    with Store.open() as store:
        say(f"lightnas on http://{host}:{port}/docs (Ctrl-C ends it)")
        uvicorn.run(create_app(store), host=host, port=port, log_level="warning", server_header=False)
