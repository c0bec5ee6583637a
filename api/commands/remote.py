"""What commands share that work on a server: the option, the connection, following what was submitted."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from api.client import Client, ServerError
from api.commands.output import one_line, print_json, progress_bar, say
from api.errors import OptionError
from api.schemas.jobs import JobOut

PATIENCE_S = 10.0  # for a request of a command, whose user waits
_WATCH_PATIENCE_S = 3600.0  # of somebody who watches while the server is away
_POLL_S = 1.0
JOB_OVER = ("complete", "failed", "cancelled", "paused")

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        envvar="LIGHTNAS_SERVER",
        help="Do it on this lightnas server; paths are below its data root, the token is LIGHTNAS_TOKEN.",
    ),
]
DetachFlag = Annotated[bool, typer.Option("--detach", help="With --server: submit, and do not follow.")]

Request = TypeVar("Request", bound=BaseModel)


def connect(server: str) -> Client:
    """The client of a command."""
    return Client(server, patience_s=PATIENCE_S)


def refuse(context: typer.Context, *names: str) -> None:
    """Raises OptionError if a parameter was given that means nothing to a server."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise OptionError(f"{parameter.opts[0]} does not go with --server: it is for what runs here")


def check_named(space: str | None, server: str) -> None:
    """Raises OptionError for a space of a file, which a server does not read."""
    if space is not None and space.endswith((".yaml", ".yml")):
        raise OptionError(f"--space {space} is a file; a server's spaces are named: nas spaces --server {server}")


def need_server(server: str | None, detach: bool) -> None:
    """Raises OptionError for a --detach from nothing."""
    if detach and server is None:
        raise OptionError("--detach leaves a server alone with what it is to do; name one with --server")


def request(model: type[Request], **given: Any) -> Request:
    """A request with the fields that are not None; what cannot be is told as the option's mistake.

    Raises:
        OptionError: a value cannot be.
    """
    try:
        return model.model_validate_json(json.dumps({k: v for k, v in given.items() if v is not None}))
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise OptionError(one_line(f"{where}: {first['msg']}, not {str(first['input'])[:80]!r}")) from e


@contextlib.contextmanager
def watching(client: Client, what: str, again: str) -> Iterator[None]:
    """Follow something while the block runs, however long the server is away; Ctrl-C ends the following only."""
    client.patience_s = _WATCH_PATIENCE_S
    again = f"{again} --server {client.url}"
    try:
        say(f"{what} on {client.url}; Ctrl-C stops watching it, not the {what.split()[0]}: {again}")
        yield
    except KeyboardInterrupt:
        say(f"no longer watched; it goes on there. Watch it again: {again}")
        raise typer.Exit(130) from None


def follow(client: Client, job: JobOut, *, detach: bool, as_json: bool) -> dict[str, Any] | None:
    """Wait for a submitted job.

    Returns:
        Its result; None if it is not to be waited for, which has been said then.

    Raises:
        ServerError: it failed, or was cancelled.
    """
    if detach:
        if as_json:
            print_json(job.model_dump())
        else:
            say(f"job {job.id} ({job.kind}) is {job.state}: nas jobs watch {job.id} --server {client.url}")
        return None
    with watching(client, f"job {job.id} ({job.kind})", f"nas jobs watch {job.id}"):
        return watch_job(lambda: client.job(job.id))


def watch_job(look: Callable[[], JobOut]) -> dict[str, Any]:
    """Show a job's progress until it ends.

    Returns:
        Its result.

    Raises:
        ServerError: it failed, or was stopped.
    """
    with progress_bar() as bar:
        task = bar.add_task("", total=None)
        while (job := look()).state not in JOB_OVER:
            at = job.progress or {}
            text = at.get("text") or f"job {job.id} ({job.kind}): {job.state}"
            bar.update(task, description=text, completed=at.get("done", 0), total=at.get("of") or None)
            time.sleep(_POLL_S)
    if job.state != "complete":
        raise ServerError(f"job {job.id} ({job.kind}) is {job.state}" + (f": {job.error}" if job.error else ""))
    return job.result or {}
