"""`nas predict`: FLOPs, parameters, memory and, with a table, latency of encodings or of a user's own model.

A million encodings stream through it.
"""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from api.boards.user_models import (
    describe_model,
    describe_price,
    find_model_table,
    format_prediction,
    parse_shape,
)
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
from api.commands.spaces import format_encoding
from api.errors import OptionError
from latency.importers import ONNX, PARAM, read_model
from latency.predict import breakdown, latency_models
from latency.table import LatencyTable
from nas.cost import CostModel
from nas.errors import InvalidEncoding
from nas.graph import Graph, Shape
from nas.memory import model_mb, peak_memory_mb
from nas.objective import GRAPH_COSTS
from nas.space import Encodings, SearchSpace
from nas.spaces import build_space

_BLOCK_BYTES = 1 << 20
_HEADS = {
    "flops": ">multiply-adds",
    "params": ">parameters",
    "model_mb": ">weights",
    "peak_memory_mb": ">peak of activations",
    "latency_ms": ">latency",
    "low_ms": ">90 % from",
    "high_ms": ">to",
}
_MANY = 20

ShapeOption = Annotated[
    str | None, typer.Option(metavar="CxHxW", help="Of a model file that leaves the size of its picture open.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(
    encodings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ENCODING…]", help="Choice indices joined by commas; `-` reads lines from stdin."),
    ] = None,
    space: Annotated[
        str | None, typer.Option("--space", "-s", metavar="SPACE", help="The space of the encodings, or its YAML file.")
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE", help="Price this ONNX model instead of encodings.")
    ] = None,
    param: Annotated[
        Path | None, typer.Option("--param", metavar="FILE", help="Price this ncnn .param model instead of encodings.")
    ] = None,
    shape: ShapeOption = None,
    resolution: ResolutionOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = None,
    table: Annotated[
        str | None, typer.Option(help="Latency table: a digest (its beginning) or a board's name, for its newest.")
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Also MB of weights, and of activations alive at once.")
    ] = False,
    ops: Annotated[bool, typer.Option("--ops", help="Show each op's share.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Predict FLOPs, parameters and latency of networks: one JSON object a line with --json.

    Example: nas predict --space nas-bench-macro --json 0,1,2,0,1,2,0,1

    Example: seq 0 2 | sed 's/$/,1,2,0,1,2,0,1/' | nas predict --space nas-bench-macro --table pi4 --json -

    Example: nas predict --onnx mine.onnx --table pi4
    """
    if onnx is not None or param is not None:
        if encodings or space or (onnx and param):
            raise OptionError("give one model file (--onnx or --param), or a --space with encodings, not both")
        _predict_file(onnx, param, parse_shape(shape), table, ops=ops, as_json=as_json)
        return
    if space is None or not encodings:
        raise OptionError("say what to price: --space SPACE ENCODING…, or --onnx FILE, or --param FILE")
    built = build_space(space, resolution=resolution, classes=classes, channels=channels)
    counted = ("flops", "params", *(("model_mb", "peak_memory_mb") if memory else ()))
    models: dict[str, CostModel] = {metric: GRAPH_COSTS[metric](built) for metric in counted}
    found = None
    if table is not None:
        from api.boards.tables import find_table
        from api.store import Store

        with Store.open() as store:
            found = find_table(store, table, built)
        models |= latency_models(found, built)
    if "-" in encodings and len(encodings) > 1:
        raise OptionError("give either `-` or encodings, not both")
    blocks = _stdin_blocks() if encodings == ["-"] else iter([encodings])
    if ops:
        for block in blocks:
            for text in block:
                _show_ops(built, text, models, found, as_json=as_json)
        return
    if not as_json:
        rows = [row for block in blocks for row in _rows(built, models, block, first=1)]
        print_table(
            None,
            ("encoding", *(_HEADS[name] for name in models)),
            [(r[0], *map(_cell, models, r[1:])) for r in rows],
        )
        return
    done = 0
    for block in blocks:
        lines = [
            f'{{"encoding": "{r[0]}", '
            + ", ".join(f'"{name}": {value!r}' for name, value in zip(models, r[1:], strict=True))
            + "}"
            for r in _rows(built, models, block, first=done + 1)
        ]
        done += len(block)
        if lines:
            print("\n".join(lines))


def _cell(name: str, value: float) -> str:
    if name.endswith("_mb"):
        return f"{value:.4g} MB"
    return short(value, "ms" if name.endswith("_ms") else "")


def _memory(graph: Graph) -> dict[str, float]:
    return {"model_mb": model_mb(graph), "peak_memory_mb": peak_memory_mb(graph)}


def _stdin_blocks() -> Iterator[list[str]]:
    """Lines as they arrive, in blocks; blank ones are kept, so that line numbers are right."""
    rest = b""
    while data := os.read(sys.stdin.fileno(), _BLOCK_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        yield [line.decode("utf-8", "replace") for line in lines]
    if rest:
        yield [rest.decode("utf-8", "replace")]


def _rows(
    space: SearchSpace, models: dict[str, CostModel], texts: Sequence[str], *, first: int
) -> list[tuple[Any, ...]]:
    """(encoding, each model's value) of each non-blank text; `first` numbers it in errors."""
    kept = [(i, t) for i, text in enumerate(texts) if (t := text.strip())]
    if not kept:
        return []
    x = _parse(space, [t for _, t in kept], [first + i for i, _ in kept])
    counted = ("flops", "params")
    columns = [(m(x).astype(np.int64) if name in counted else m(x)).tolist() for name, m in models.items()]
    return list(zip(map(format_encoding, x.tolist()), *columns, strict=True))


def _parse(space: SearchSpace, texts: list[str], numbers: list[int]) -> Encodings:
    """All rows at once; one by one only to say which line is wrong."""
    genes = len(space.genes)
    if all(t.count(",") == genes - 1 for t in texts):
        numbers_read = _integers(",".join(texts))
        if numbers_read is not None and numbers_read.size == len(texts) * genes:
            try:
                return space.validate(numbers_read.reshape(-1, genes))
            except InvalidEncoding:
                pass
    rows = []
    for text, number in zip(texts, numbers, strict=True):
        try:
            rows.append(space.parse(text))
        except InvalidEncoding as e:
            raise InvalidEncoding(f"encoding {number}: {e}") from None
    return np.stack(rows)


def _integers(text: str) -> NDArray[np.int64] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy warns where the text stops being numbers
        try:
            return np.fromstring(text, dtype=np.int64, sep=",")
        except (DeprecationWarning, ValueError, OverflowError):
            return None


def _show_ops(
    space: SearchSpace, text: str, models: dict[str, CostModel], table: LatencyTable | None, *, as_json: bool
) -> None:
    """Each op's part: of the latency with a table, else of the FLOPs."""
    row = space.parse(text)
    graph = space.graph(row)
    whole: dict[str, Any] = {"encoding": format_encoding(row), "flops": graph.flops, "params": graph.params}
    whole |= _memory(graph)
    rows: list[dict[str, Any]] = [
        {"path": n.path, "op": n.op.key, "flops": n.op.flops, "params": n.op.params} for n in graph.nodes
    ]
    if table is None:
        for entry in rows:
            entry["share"] = entry["flops"] / (graph.flops or 1)
    else:
        whole["latency_ms"] = models["latency_ms"].one(row)
        parts = breakdown(table, graph)
        rows += [{"path": p.path, "op": p.key, "flops": 0, "params": 0} for p in parts[len(rows) :]]
        for entry, part in zip(rows, parts, strict=True):
            entry |= {"latency_ms": part.ms, "share": part.share}
    if as_json:
        print_json({**whole, "ops": rows})
        return
    timed = table is not None
    shown = [
        (
            r["path"],
            r["op"],
            short(r["flops"]),
            *((f"{r['latency_ms']:.4f}",) if timed else ()),
            f"{100 * r['share']:.1f} %",
        )
        for r in rows
    ]
    print_table(whole["encoding"], ("path", "op", ">flops", *((">ms",) if timed else ()), ">share"), shown)


def _predict_file(
    onnx: Path | None, param: Path | None, shape: Shape | None, table: str | None, *, ops: bool, as_json: bool
) -> None:
    """A user's own model: what it holds, and what of it the table prices."""
    file, ending = (onnx, ONNX) if onnx is not None else (param, PARAM)
    assert file is not None
    if file.suffix != ending:
        raise OptionError(f"{file} is no {ending} file; give it with {'--param' if onnx is not None else '--onnx'}")
    model = read_model(file, shape)
    about, priced = describe_model(file, model) | _memory(model.graph), None
    rows: list[dict[str, Any]] = [{"path": n.path, "op": n.op.key, "flops": n.op.flops} for n in model.graph.nodes]
    if table is not None:
        from api.store import Store
        from latency.priced import price

        with Store.open() as store:
            used = find_model_table(store, table, model.graph)
        priced = price(used, model)
        about |= describe_price(used, priced)
        rows = [
            {**row, "latency_ms": op.ms, "estimated": op.estimated} for row, op in zip(rows, priced.ops, strict=True)
        ]
    if as_json:
        print_json({**about, **({"ops": rows} if ops else {})})
        return
    if ops:
        priced_columns = () if priced is None else (">ms",)
        shown = [(r["path"], r["op"], short(r["flops"]), *(() if priced is None else (_ms(r),))) for r in rows]
        print_table(None, ("path", "op", ">flops", *priced_columns), shown)
    c, h, w = about["input"]
    unfolded = (
        ""
        if about["params"] == about["params_unfolded"]
        else (f" ({short(about['params_unfolded'])} if every bias of a convolution is a folded norm)")
    )
    out(
        f"{file}: a picture of {c}x{h}x{w}, {about['op_count']} ops, {short(about['flops'])} multiply-adds, "
        f"{short(about['params'])} parameters{unfolded}, {about['model_mb']:.4g} MB of weights in fp32, "
        f"{about['peak_memory_mb']:.4g} MB of activations at the peak"
    )
    _tell("cannot be priced, lightnas has no such op:", [f"{u.name} ({u.kind}): {u.reason}" for u in model.unsupported])
    if priced is not None:
        _tell_price(file, about)


def _ms(row: dict[str, Any]) -> str:
    if row["latency_ms"] is None:
        return "missing"
    return f"{row['latency_ms']:.4f}{' (estimated)' if row['estimated'] else ''}"


def _tell(title: str, lines: Sequence[str]) -> None:
    """A list under a title; a long one is cut."""
    if not lines:
        return
    out(title)
    for line in lines[:_MANY]:
        out(f"  {line}")
    if len(lines) > _MANY:
        out(f"  … and {len(lines) - _MANY} more (--json lists all)")


def _tell_price(file: Path, about: dict[str, Any]) -> None:
    board, digest = about["board"], about["table"][:12]
    _tell(f"not in latency table {digest} of board {board}:", [f"{m['path']}: {m['kernel']}" for m in about["missing"]])
    if about["latency_ms"] is not None:
        out(f"predicted on {board}: {format_prediction(about)}, by latency table {digest}")
        return
    if about["known_ops"]:
        count = f"{about['known_ops']} of {about['op_count']}"
        out(f"{count} ops have a price, {short(about['known_ms'], 'ms')} on {board}; the whole is not known")
    else:
        out("no op of it has a price")
    if about["missing"]:
        out(f"for the missing ops, profile a space that contains them: nas profile {board} --space …")
    out(f"or run the whole network: nas measure {board} {shlex.quote(str(file))}")
