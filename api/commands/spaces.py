"""`nas spaces`: what can be searched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from api.commands.output import (
    ChannelsOption,
    ClassesOption,
    JsonFlag,
    ResolutionOption,
    out,
    print_json,
    print_table,
    short,
)
from nas.cost import flops_model, params_model
from nas.space import SearchSpace
from nas.spaces import build_space, space_names

app = typer.Typer(help="Search spaces: what there is, its genes and its ops.")
SpaceArgument = Annotated[str, typer.Argument(metavar="SPACE", help="A space's name or a YAML file.")]


def format_encoding(row: Iterable[int]) -> str:
    """Choice indices joined by commas, as every command reads and writes an encoding."""
    return ",".join(map(str, row))


def describe_space(space: SearchSpace) -> dict[str, Any]:
    """Genes, size and cost range as JSON types."""
    flops, params = flops_model(space), params_model(space)
    return {
        "space": space.name,
        "digest": space.digest,
        "size": space.size,
        "inputs": [list(shape) for shape in space.inputs],
        "genes": [{"name": g.name, "choices": list(g.choices)} for g in space.genes],
        "ops": len(space.compiled.ops),
        "flops": {"min": int(flops.minimum()[0]), "max": int(flops.maximum()[0])},
        "params": {"min": int(params.minimum()[0]), "max": int(params.maximum()[0])},
    }


def describe_encoding(space: SearchSpace, text: str) -> dict[str, Any]:
    """An encoding decoded, with its FLOPs and parameters, as JSON types."""
    row = space.parse(text)
    graph = space.graph(row)
    return {
        "space": space.name,
        "encoding": format_encoding(row),
        "genes": space.decode(row),
        "flops": int(graph.flops),
        "params": int(graph.params),
        "ops": [{"path": node.path, "key": node.op.key} for node in graph.nodes],
    }


@app.callback(invoke_without_command=True)
def list_spaces(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List the spaces. Your own can be a YAML file (docs/quickstart.md); every command takes its path as SPACE.

    Example: nas spaces show light-nas --resolution 96
    """
    if context.invoked_subcommand is not None:
        return
    spaces = [build_space(name) for name in space_names()]
    if as_json:
        print_json(
            [
                {"space": s.name, "genes": len(s.genes), "size": s.size, "inputs": [list(i) for i in s.inputs]}
                for s in spaces
            ]
        )
    else:
        rows = [(s.name, len(s.genes), f"{s.size:.4g}", "x".join(map(str, s.inputs[0]))) for s in spaces]
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
        out(f"\n{short(found['flops'])} multiply-adds, {short(found['params'])} parameters, {len(found['ops'])} ops")
        return
    about = describe_space(built)
    if as_json:
        print_json(about)
        return
    rows = [(i, g.name, ", ".join(map(str, g.choices))) for i, g in enumerate(built.genes)]
    print_table(None, (">gene", "name", "choices (index 0, 1, …)"), rows)
    low, high = about["flops"].values()
    fewest, most = about["params"].values()
    out(
        f"\n{built.name}: {built.size:.4g} networks of {about['ops']} distinct ops; {short(low)} to {short(high)} "
        f"multiply-adds, {short(fewest)} to {short(most)} parameters"
    )


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
