"""`nas searches`: what was searched."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands.output import JsonFlag, out, print_json, print_table, short
from api.commands.search import run_here
from api.store import Store

app = typer.Typer(help="Searches: what was searched and what was found.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="SEARCH", help="The search's name or number.")]


@app.command("list")
def list_searches(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the searches, newest first. `running` also means: killed while running, and can be resumed."""
    from api.compose import summarise_search

    with Store.open() as store:
        found = [summarise_search(store, record) for record in store.searches.page(limit=limit)]
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
            f"{f['trials']['complete'] + f['trials']['failed']}/{f['spec']['trials']}",
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
    as_json: JsonFlag = False,
) -> None:
    """Show a search and its best trials."""
    from api.compose import describe_trial, summarise_search

    with Store.open() as store:
        record = store.searches.get(search)
        about = summarise_search(store, record)
        found = store.searches.log(record.id).load() if all_trials else iter(store.searches.best(record.id, limit))
        shown = [{**describe_trial(t), "state": t.state.value, "seconds": t.seconds, "error": t.error} for t in found]
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
        ("trials", f"{about['trials']} of {spec['trials']}"),
    ]
    print_table(None, ("", f"search {about['name']}"), facts)
    out()
    rows = [
        (
            s["number"],
            s["state"],
            None if s["accuracy"] is None else f"{100 * s['accuracy']:.2f} %",
            None if s["predicted_ms"] is None else f"{s['predicted_ms']:.3f}",
            None if s["flops"] is None else short(s["flops"]),
            None if s["params"] is None else short(s["params"]),
            s["error"] or s["encoding"],
        )
        for s in shown
    ]
    print_table(None, (">trial", "state", ">accuracy", ">ms", ">MACs", ">params", "encoding"), rows)


@app.command()
def resume(search: Name, as_json: JsonFlag = False) -> None:
    """Go on with a search; the same as `nas search --resume SEARCH`."""
    with Store.open() as store:
        run_here(store, store.searches.get(search), as_json=as_json)
