"""`nas spaces`: what can be searched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.commands.output import (
    ChannelsOption,
    ClassesOption,
    ConfidenceOption,
    FlopsBudgetOption,
    JsonFlag,
    LatencyBoardOption,
    LatencyBudgetOption,
    LatencyTableOption,
    ModelSizeBudgetOption,
    ParamsBudgetOption,
    PeakMemoryBudgetOption,
    ResolutionOption,
    out,
    print_json,
    print_table,
    short,
)
from api.commands.remote import ServerOption, connect, request
from api.errors import OptionError
from api.schemas.spaces import FeasibilityRequest
from nas import memory
from nas.objective import GRAPH_COSTS
from nas.space import SearchSpace
from nas.spaces import build_space, space_names

if TYPE_CHECKING:
    from latency.table import LatencyTable

_BAR = 40  # characters
_NAMES = {
    "flops": "multiply-adds",
    "params": "parameters",
    "model_mb": "MB of weights",
    "peak_memory_mb": "MB at the peak",
    "latency_ms": "predicted ms",
}
_ALWAYS = ("flops", "params", "latency_ms")  # whose histograms are shown without a budget on them, too

app = typer.Typer(help="Search spaces: what there is, its genes and its ops.")
SpaceArgument = Annotated[str, typer.Argument(metavar="SPACE", help="A space's name or a YAML file.")]


def format_encoding(row: Iterable[int]) -> str:
    """Choice indices joined by commas, as every command reads and writes an encoding."""
    return ",".join(map(str, row))


def describe_encoding(space: SearchSpace, text: str) -> dict[str, Any]:
    """An encoding decoded, with what follows from its network alone, as JSON types."""
    row = space.parse(text)
    graph = space.graph(row)
    return {
        "space": space.name,
        "encoding": format_encoding(row),
        "genes": space.decode(row),
        "flops": int(graph.flops),
        "params": int(graph.params),
        "model_mb": memory.model_mb(graph),
        "peak_memory_mb": memory.peak_memory_mb(graph),
        "ops": [{"path": node.path, "key": node.op.key} for node in graph.nodes],
    }


@app.callback(invoke_without_command=True)
def list_spaces(context: typer.Context, server: ServerOption = None, as_json: JsonFlag = False) -> None:
    """List the spaces. Your own can be a YAML file (docs/quickstart.md); every command takes its path as SPACE.

    Example: nas spaces show light-nas --resolution 96
    """
    if context.invoked_subcommand is not None:
        return
    if server is not None:
        with connect(server) as client:
            found = [told.model_dump() for told in client.spaces()]
    else:
        spaces = [build_space(name) for name in space_names()]
        found = [
            {"space": s.name, "genes": len(s.genes), "size": s.size, "inputs": [list(i) for i in s.inputs]}
            for s in spaces
        ]
    if as_json:
        print_json(found)
    else:
        rows = [(s["space"], s["genes"], f"{s['size']:.4g}", "x".join(map(str, s["inputs"][0]))) for s in found]
        print_table(None, ("space", ">genes", ">networks", "input"), rows)


@app.command()
def show(
    space: SpaceArgument,
    encoding: Annotated[
        str | None, typer.Argument(metavar="[ENCODING]", help="Choice indices joined by commas.")
    ] = None,
    resolution: ResolutionOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a space's genes, size and cost range, or decode one ENCODING.

    Example: nas spaces show nas-bench-macro 0,1,2,0,1,2,0,1
    """
    built = build_space(space, resolution=resolution, classes=classes, channels=channels)
    if encoding is not None:
        found = describe_encoding(built, encoding)
        if as_json:
            print_json(found)
            return
        print_table(f"{built.name} {found['encoding']}", ("gene", "value"), list(found["genes"].items()))
        out(
            f"\n{short(found['flops'])} multiply-adds, {short(found['params'])} parameters, {len(found['ops'])} ops, "
            f"{found['model_mb']:.4g} MB of weights, {found['peak_memory_mb']:.4g} MB of activations at the peak"
        )
        return
    from api.networks.spaces import PricedSpace, describe_space

    about = describe_space(PricedSpace(built))
    if as_json:
        print_json(about)
        return
    rows = [(i, g.name, ", ".join(map(str, g.choices))) for i, g in enumerate(built.genes)]
    print_table(None, (">gene", "name", "choices (index 0, 1, …)"), rows)
    ranges = ", ".join(f"{short(about[m]['min'])} to {short(about[m]['max'])} {_NAMES[m]}" for m in GRAPH_COSTS)
    out(f"\n{built.name}: {built.size:.4g} networks of {about['ops']} distinct ops; {ranges}")


@app.command()
def ops(
    space: SpaceArgument,
    resolution: ResolutionOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the distinct ops of all networks of a space, one key a line.

    Example: nas spaces ops mobilenetv2-small > ops.txt
    """
    found = build_space(space, resolution=resolution, classes=classes, channels=channels).ops()
    if as_json:
        print_json([{"key": op.key, "flops": op.flops, "params": op.params} for op in found])
    else:
        print("\n".join(op.key for op in found))


@app.command()
def feasible(
    space: SpaceArgument,
    board: LatencyBoardOption = None,
    table: LatencyTableOption = None,
    latency_ms: LatencyBudgetOption = None,
    flops: FlopsBudgetOption = None,
    params: ParamsBudgetOption = None,
    model_mb: ModelSizeBudgetOption = None,
    peak_memory_mb: PeakMemoryBudgetOption = None,
    confidence: ConfidenceOption = None,
    resolution: ResolutionOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = None,
    server: ServerOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Tell what budgets leave of a space: smallest and largest costs, how many networks are inside, histograms.

    Example: nas spaces feasible light-nas --flops 300e6 --params 3.5e6

    Example: nas spaces feasible mobilenetv2-small --board pi4 --latency-ms 5
    """
    from api.networks.spaces import PricedSpace
    from api.plans.feasibility import describe_feasible
    from api.plans.spec import SearchSpec
    from nas.spaces.recipe import SpaceSpec

    given = {
        "latency_ms": latency_ms,
        "flops": flops,
        "params": params,
        "model_mb": model_mb,
        "peak_memory_mb": peak_memory_mb,
    }
    budgets = _given(given)
    if server is not None:
        made = {"resolution": resolution, "classes": classes, "channels": channels}
        priced = {"board": board, "table": table, "confidence": confidence}
        with connect(server) as client:
            told = client.feasibility(space, request(FeasibilityRequest, budgets=budgets, **made, **priced))
        about = told.model_dump()
        for part in ("metrics", "example"):  # without a table there is no latency in them
            about[part] = _given(about[part])
        if as_json:
            print_json(about)
        else:
            _print_feasible(about)
        return
    recipe = SpaceSpec.of(space, tuple(resolution or ()), classes, channels)
    if confidence is not None and (latency_ms is None or not (board or table)):
        raise OptionError("--confidence says how surely --latency-ms is kept; give both, and a board or table")
    SearchSpec(recipe, budgets, confidence=confidence)  # tells wrong values before anything is computed
    built = recipe.build()
    measured = _find_table(board, table, built)
    if measured is not None and latency_ms is not None and confidence is None:
        from api.plans.plan import default_confidence

        confidence = default_confidence(measured)
    about = describe_feasible(SearchSpec(recipe, budgets, confidence=confidence), PricedSpace(built, measured))
    if as_json:
        print_json(about)
    else:
        _print_feasible(about)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _find_table(board: str | None, table: str | None, space: SearchSpace) -> LatencyTable | None:
    if board is None and table is None:
        return None
    from api.boards.tables import find_table
    from api.store import Store

    with Store.open() as store:
        if board is not None:
            store.boards.get(board)
        return find_table(store, table or board or "", space)


def _print_feasible(about: Mapping[str, Any]) -> None:
    limited = bool(about["budgets"])
    metrics = about["metrics"]
    heads = (">smallest", *(f">{100 * float(q):g} % have ≤" for q in metrics["flops"]["quantiles"]), ">largest")
    rows = [
        (_NAMES[name], *(_amount(v, name) for v in (m["min"], *m["quantiles"].values(), m["max"])))
        for name, m in metrics.items()
    ]
    print_table(f"{about['space']}: {_number(about['networks'])} networks", ("", *heads), rows)
    for name, metric in metrics.items():
        if name not in _ALWAYS and name not in about["budgets"]:
            continue
        counts = metric["histogram"]
        edges, every, inside = counts["edges"], counts["networks"], counts["inside"]
        shown = [
            (
                _amount(low, name),
                _amount(high, name),
                _percent(n / about["networks"]),
                *((_percent(kept / n if n else 0.0),) if limited else ()),
                _bar(n, kept if limited else n, max(every)),
            )
            for low, high, n, kept in zip(edges[:-1], edges[1:], every, inside, strict=True)
        ]
        columns = (">from", ">to", ">networks", *((">of them inside",) if limited else ()), "")
        out()
        print_table(_NAMES[name], columns, shown)
    out()
    if limited:
        _print_inside(about)
    example = about["example"]
    out(f"example: {example['encoding']} ({', '.join(f'{_amount(example[m], m)} {_NAMES[m]}' for m in metrics)})")


def _print_inside(about: Mapping[str, Any]) -> None:
    inside, share = about["inside"], about["share"]
    wanted = " and ".join(f"{metric} <= {_amount(b['limit'], metric)}" for metric, b in about["budgets"].items())
    sure = "" if about["confidence"] is None else f" (with confidence {about['confidence']:g})"
    if inside["at_least"] == inside["at_most"]:
        found = f"{_number(inside['about'])} networks, {_percent(share['about'])}"
    else:
        found = (
            f"{_number(inside['at_least'])} to {_number(inside['at_most'])} networks, {_percent(share['at_least'])} to "
            f"{_percent(share['at_most'])}"
        )
    out(f"inside {wanted}{sure}: {found}")


def _amount(value: float, metric: str) -> str:
    return f"{value:.4g}" if metric == "latency_ms" else short(value)


def _number(count: float) -> str:
    return f"{count:.0f}" if count < 1e6 else f"{count:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _bar(count: float, inside: float, most: float) -> str:
    """The networks of an interval as a bar, those inside solid."""
    width, solid = round(_BAR * count / most), round(_BAR * min(inside, count) / most)
    return "█" * solid + "░" * (width - solid)
