"""`nas jobs`: what workers were asked to do, on this store or on a server."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from api.commands.output import JsonFlag, out, print_json, print_table
from api.commands.remote import ServerOption, connect, watch_job, watching
from api.commands.remote_files import fetch
from api.errors import OptionError
from api.schemas.jobs import JobOut
from api.store import Store
from api.store.jobs import JobRecord, Wanted

app = typer.Typer(
    help="Jobs: searches, profiles, verifications, trainings and exports that workers make.", no_args_is_help=True
)
Job = Annotated[int, typer.Argument(metavar="JOB", min=1, max=2**31 - 1, help="The job's number.")]


@app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    kind: Annotated[str | None, typer.Option(help="search, profile, verify, train or export.")] = None,
    state: Annotated[str | None, typer.Option(help="E.g. running.")] = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the jobs, newest first."""
    filters = {name: value for name, value in (("kind", kind), ("state", state)) if value is not None}
    if server is not None:
        with connect(server) as client:
            found = list(islice(client.jobs(**filters), limit))
    else:
        with Store.open() as store:
            found = [_told(job) for job in store.jobs.page(limit=limit, filters=filters)]
    if as_json:
        print_json([job.model_dump() for job in found])
        return
    rows = [
        (j.id, j.kind, j.state, _progress(j), j.search_id, j.board, j.owner, f"{j.created_at:%Y-%m-%d %H:%M}")
        for j in found
    ]
    print_table(None, (">job", "kind", "state", "progress", ">search", "board", "owner", "asked (UTC)"), rows)


@app.command()
def show(job: Job, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Show a job, how far it is and what came of it."""
    found = _look(job, server)
    if as_json:
        print_json(found.model_dump())
        return
    told = found.model_dump(exclude={"id", "spec", "result", "progress"})
    rows = [(name, value) for name, value in told.items() if value is not None]
    asked = [(f"asked: {name}", value) for name, value in found.spec.items() if value not in (None, [], {}, False)]
    print_table(None, ("", f"job {found.id}"), [*rows, ("progress", _progress(found)), *asked])


@app.command()
def watch(job: Job, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Show a job's progress until it ends, and then its result. Ctrl-C stops watching only."""
    if server is None:
        with Store.open() as store:
            result = watch_job(lambda: _told(store.jobs.get(job)))
    else:
        with connect(server) as client:
            kind = client.job(job).kind
            with watching(client, f"job {job} ({kind})", f"nas jobs watch {job}"):
                result = watch_job(lambda: client.job(job))
    if as_json:
        print_json(result)
    else:
        out(f"job {job} is complete: nas jobs show {job} --json tells its result")


@app.command()
def cancel(job: Job, server: ServerOption = None) -> None:
    """Cancel a job: at once where it waits, after its running step where a worker has it."""
    if server is not None:
        with connect(server) as client:
            state = str(client.cancel_job(job).state)
    else:
        with Store.open() as store:
            state = store.jobs.stop(job, Wanted.CANCEL).state
    out(f"job {job}: {state}" + (", ends its running step first" if state == "running" else ""))


@app.command()
def delete(job: Job, server: ServerOption = None) -> None:
    """Delete a job that is over, with its files."""
    from api.submit.steer import delete_job

    if server is not None:
        with connect(server) as client:
            client.delete_job(job)
    else:
        with Store.open() as store:
            delete_job(store, store.jobs.get(job))
    out(f"job {job} deleted")


@app.command()
def files(
    job: Job,
    to: Annotated[Path | None, typer.Option("--to", metavar="FOLDER", help="Download them into a new folder.")] = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the files a server's job made, or download them.

    Example: nas jobs files 12 --to ./report --server https://nas.example.org
    """
    if server is None:
        raise OptionError("a job's files are listed by a server: name it with --server, or in LIGHTNAS_SERVER")
    with connect(server) as client:
        found = list(client.artifacts(job=job))
        if to is not None:
            fetch(client, found, to)
    if as_json:
        print_json([file.model_dump() for file in found])
        return
    print_table(None, ("file", ">bytes", "type"), [(f.name, f.size, f.media_type) for f in found])


def _look(job: int, server: str | None) -> JobOut:
    if server is not None:
        with connect(server) as client:
            return client.job(job)
    with Store.open() as store:
        return _told(store.jobs.get(job))


def _told(record: JobRecord) -> JobOut:
    return JobOut(**{name: getattr(record, name) for name in JobOut.model_fields})


def _progress(job: JobOut) -> str | None:
    at = job.progress
    if at is None or job.state not in ("running", "queued"):
        return None
    share = f"{100 * at['done'] / at['of']:.0f} % " if at.get("of") else ""
    return share + str(at.get("text", ""))
