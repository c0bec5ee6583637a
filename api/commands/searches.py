"""`nas searches`: what was searched."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import typer

from api.commands.output import JsonFlag, out, print_json, print_table, short
from api.commands.remote import DetachFlag, ServerOption, connect, need_server
from api.commands.search import run_here
from api.commands.told import describe_aims, store_names
from api.commands.watch import resume_there, trials_there, watch_there
from api.errors import OptionError
from api.schemas.searches import SearchOut
from api.store import Store
from api.store.jobs import Wanted
from api.store.searches import SearchRecord
from nas.trial import Trial

app = typer.Typer(help="Searches: what was searched and what was found.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="SEARCH", help="The search's name or number.")]


@app.command("list")
def list_searches(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    state: Annotated[str | None, typer.Option(help="Only those in this state, e.g. running.")] = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the searches, newest first. `running` also means: killed while running, and can be resumed."""
    from api.results.picks import summarise_search

    if server is not None:
        with connect(server) as client:
            told = islice(client.searches(**({} if state is None else {"state": state})), limit)
            found = [search.model_dump() for search in told]
    else:
        with Store.open() as store:
            records = store.searches.page(limit=limit, filters={} if state is None else {"state": state})
            found = [{**summarise_search(store, r), "wanted": r.spec["trials"]} for r in records]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            f["id"],
            f["name"],
            f["state"],
            f["space"],
            f["board"],
            f"{sum(f['trials'].values()) - f['trials']['running']}/{f['wanted']}",
            None if f["best"] is None else f"{100 * f['best']['accuracy']:.2f} %",
            f"{f['created_at']:%Y-%m-%d %H:%M}",
        )
        for f in found
    ]
    print_table(None, (">id", "search", "state", "space", "board", ">trials", ">best", "asked (UTC)"), rows)


@app.command()
def show(
    search: Name,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Trials to show, best first.")] = 10,
    all_trials: Annotated[bool, typer.Option("--trials", help="All trials, in number order.")] = False,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a search and its best trials."""
    from api.results.picks import summarise_search

    found: Iterator[Trial]
    if server is not None:
        with connect(server) as client:
            told = client.search(search)
            about, aims = told.model_dump(), describe_aims(lambda number: client.search(number).name, told.spec)
            found = (
                trials_there(client, told.id) if all_trials else islice(trials_there(client, told.id, best=True), limit)
            )
            shown = [_describe(t) for t in found]
    else:
        with Store.open() as store:
            record = store.searches.get(search)
            about, aims = summarise_search(store, record), describe_aims(store_names(store), record.spec)
            found = store.searches.log(record.id).load() if all_trials else iter(store.searches.best(record.id, limit))
            shown = [_describe(t) for t in found]
    if as_json:
        print_json({**about, "listed": shown})
        return
    spec = about["spec"]
    facts = [
        ("state", about["state"] + (f": {about['error']}" if about["error"] else "")),
        ("space", about["space"]),
        ("board", about["board"]),
        ("budgets", ", ".join(f"{k} <= {v:g}" for k, v in spec["budgets"].items()) or "none"),
        ("strategy", spec["strategy"]),
        ("evaluator", f"{spec['evaluator']} {spec['evaluator_options']}"),
        ("seed, parallel", f"{spec['seed']}, {spec['parallel']}"),
        *aims,
        ("recommended", _recommended(about["beliefs"])),
        ("winner", _winner(about["winner"])),
        ("trials", f"{', '.join(f'{n} {state}' for state, n in about['trials'].items())} of {spec['trials']}"),
    ]
    print_table(None, ("", f"search {about['name']}"), facts)
    out()
    rows = [
        (
            s["number"],
            s["state"] if s["pruned_at"] is None else f"{s['state']} at {s['pruned_at']}",
            None if s["accuracy"] is None else f"{100 * s['accuracy']:.2f} %",
            None if s["predicted_ms"] is None else f"{s['predicted_ms']:.3f}",
            None if s["flops"] is None else short(s["flops"]),
            None if s["params"] is None else short(s["params"]),
            s["error"] or s["encoding"],
        )
        for s in shown
    ]
    print_table(None, (">trial", "state", ">accuracy", ">ms", ">MACs", ">params", "encoding"), rows)


def _describe(trial: Trial) -> dict[str, Any]:
    from api.results.picks import describe_trial

    ended = {"state": trial.state.value, "pruned_at": trial.pruned_at, "seconds": trial.seconds, "error": trial.error}
    return {**describe_trial(trial), **ended}


def _winner(winner: dict[str, Any] | None) -> str | None:
    if winner is None or "test_accuracy" not in winner:
        return None
    text = f"trial {winner['trial']}, " if "trial" in winner else ""
    text += f"test accuracy {100 * winner['test_accuracy']:.2f} % after {winner['epochs']} epochs"
    comparison = (winner.get("report") or {}).get("comparison")
    if comparison is None:
        return text
    return f"{text}; {comparison['mean']:+.2f} points against {comparison['baseline']} ({comparison['verdict']})"


def _recommended(beliefs: dict[str, Any] | None) -> str | None:
    if beliefs is None:
        return None
    regret = 100 * beliefs["expected_regret"]
    return f"trial {beliefs['recommended']}; the best of all is expected to be {regret:.2f} points better"


@app.command()
def front(
    search: Name,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC", help="The cost, e.g. latency_ms; default: the search's --front, or first budget."
        ),
    ] = None,
    at: Annotated[
        list[float] | None, typer.Option(metavar="BUDGET", help="A budget to answer; may be given several times.")
    ] = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """The trials no other beats in accuracy and cost, and the best one inside each budget.

    Example: nas searches front search-1 --by latency_ms --at 10 --at 20
    """
    from api.results.fronts import describe_front

    if server is not None:
        with connect(server) as client:
            found = client.front(search, by, at or []).model_dump()
    else:
        with Store.open() as store:
            found = describe_front(store, store.searches.get(search), by, at or [])
    if as_json:
        print_json(found)
        return
    columns = (">trial", ">accuracy", f">{found['by']}", "encoding")
    rows = [(t["number"], f"{100 * t['accuracy']:.2f} %", short(t["cost"]), t["encoding"]) for t in found["front"]]
    print_table(None, columns, rows)
    unit = found["unit"]
    out(
        f"hypervolume {100 * found['hypervolume']:.2f} %: the mean best accuracy over all budgets from "
        f"{short(found['smallest'])} to {short(found['largest'])} {unit}"
    )
    sure = "" if found["confidence"] is None else f" with confidence {found['confidence']:g}"
    for answer in found["answers"]:
        best = answer["best"]
        text = "no trial keeps it" if best is None else f"trial {best['number']}, {100 * best['accuracy']:.2f} %"
        out(f"at most {short(answer['limit'])} {unit}{sure}: {text}")


@app.command()
def resume(search: Name, server: ServerOption = None, detach: DetachFlag = False, as_json: JsonFlag = False) -> None:
    """Go on with a search; the same as `nas search --resume SEARCH`."""
    need_server(server, detach)
    if server is not None:
        resume_there(server, search, trials=None, stop_when=None, detach=detach, as_json=as_json)
        return
    with Store.open() as store:
        run_here(store, store.searches.get(search), as_json=as_json)


@app.command()
def watch(search: Name, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """Show a server's search on the screen until it ends. Ctrl-C stops watching only.

    Example: nas searches watch flowers --server https://nas.example.org
    """
    if server is None:
        raise OptionError("a search is watched on a server: name it with --server, or in LIGHTNAS_SERVER")
    watch_there(server, search, as_json=as_json)


@app.command()
def pause(search: Name, server: ServerOption = None) -> None:
    """Stop a search that a worker runs, after its running step; `nas searches resume` goes on with it."""
    _stop(search, server, Wanted.PAUSE)


@app.command()
def cancel(search: Name, server: ServerOption = None) -> None:
    """Cancel a search that waits for a worker or is with one; its trials are kept."""
    _stop(search, server, Wanted.CANCEL)


def _stop(search: str, server: str | None, wanted: Wanted) -> None:
    from api.submit.steer import stop_search

    found: SearchOut | SearchRecord
    if server is not None:
        with connect(server) as client:
            found = client.pause(search) if wanted is Wanted.PAUSE else client.cancel(search)
    else:
        with Store.open() as store:
            stop_search(store, store.searches.get(search), wanted)
            found = store.searches.get(search)
    out(f"search {found.name}: {found.state}" + (", ends its running step first" if found.state == "running" else ""))


@app.command()
def retry(search: Name, server: ServerOption = None) -> None:
    """Have a worker evaluate a search's failed trials again, with the same seeds."""
    from api.submit.steer import check_idle, retry_search

    if server is not None:
        with connect(server) as client:
            name = client.retry(search).name
    else:
        with Store.open() as store:
            record = store.searches.get(search)
            check_idle(store, record)
            retry_search(store, record)
            name = record.name
    out(f"search {name}: queued")


@app.command()
def delete(
    search: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: ServerOption = None,
) -> None:
    """Delete a search that neither waits nor runs, with its trials, checkpoints, jobs and their files."""
    from api.submit.steer import delete_search

    if not yes:
        typer.confirm(f"delete search {search} with its trials and checkpoints?", abort=True)
    if server is not None:
        with connect(server) as client:
            client.delete(search)
    else:
        with Store.open() as store:
            delete_search(store, store.searches.get(search))
    out(f"search {search} deleted")
