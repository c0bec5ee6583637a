"""`nas searches`: what was searched."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api.commands.output import JsonFlag, out, print_json, print_table, short
from api.commands.search import describe_aims, run_here
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
            f"{sum(f['trials'].values()) - f['trials']['running']}/{f['spec']['trials']}",
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
        aims = describe_aims(store, record.spec)
        found = store.searches.log(record.id).load() if all_trials else iter(store.searches.best(record.id, limit))
        shown = [
            {
                **describe_trial(t),
                "state": t.state.value,
                "pruned_at": t.pruned_at,
                "seconds": t.seconds,
                "error": t.error,
            }
            for t in found
        ]
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
            metavar="METRIC", help="latency_ms, flops or params; default: the search's --front, or first budget."
        ),
    ] = None,
    at: Annotated[
        list[float] | None, typer.Option(metavar="BUDGET", help="A budget to answer; may be given several times.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """The trials no other beats in accuracy and cost, and the best one inside each budget.

    Example: nas searches front search-1 --by latency_ms --at 10 --at 20
    """
    from api.fronts import describe_front

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
def resume(search: Name, as_json: JsonFlag = False) -> None:
    """Go on with a search; the same as `nas search --resume SEARCH`."""
    with Store.open() as store:
        run_here(store, store.searches.get(search), as_json=as_json)
