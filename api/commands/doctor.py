"""`nas doctor`: whether everything is as it should be, one line each, with the mend."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from api.commands.output import JsonFlag, one_line, out, print_json
from api.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    boards: Annotated[bool, typer.Option("--boards", help="Reach every board, too.")] = False,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="LIGHTNAS_SERVER", help="Ask a server whether it is ready, too."),
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="Only whether this machine's worker lives, for health checks.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Look at this machine, the database, workers and engines: one line each, with the mend.

    Exit status 1 when something is broken. Example: nas doctor --boards --server https://nas.example.org
    """
    from api.operations.doctor import Finding, Health, examine, examine_worker
    from api.redaction import redact

    settings = Settings.from_env()
    found: list[Finding] = []
    for finding in examine_worker(settings) if worker else examine(settings, boards=boards, server=server):
        found.append(finding)
        if not as_json:
            mend = f"; mend: {finding.mend}" if finding.mend else ""
            out(f"{finding.health:8} {redact(one_line(f'{finding.check}: {finding.text}{mend}'))}")
    broken = any(finding.health is Health.BROKEN for finding in found)
    if as_json:
        print_json({"broken": broken, "findings": [dataclasses.asdict(f) for f in found]})
    if broken:
        raise typer.Exit(1)
