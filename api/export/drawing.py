"""A network drawn: its blocks to scale, and below them where its work and its time go.

Plain SVG with text as text, a tooltip for each op, and colours for light and dark; nothing in it runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from api.errors import ExportError
from api.networks.stages import Block, Stage, find_stages
from nas.graph import Graph, Node, Shape

WIDTH = 920
_MARGIN = 28
_INPUT = 74  # px for the picture, and for the names of the bars below it
_LEFT = _MARGIN + _INPUT
_RIGHT = WIDTH - _MARGIN
_GAP = 3  # between blocks
_STAGE_GAP = 14
_COLUMN = 46  # the least that a stage's words need
_AXIS = 176  # y of the blocks' middle
_TALLEST = 168
_LETTER = 6.1  # width of one at 11 px

# One hue per stage along the network; each carries white text.
_HUES = (
    "#0f766e", "#0e7490", "#0369a1", "#1d4ed8", "#4338ca", "#6d28d9", "#86198f",
    "#a21caf", "#be185d", "#be123c", "#b91c1c", "#c2410c", "#b45309", "#92400e",
)  # fmt: skip
_KINDS = {"conv": ("convolution", 0.92), "linear": ("convolution", 0.92), "depthwise": ("depthwise", 0.56)}
_OTHER = ("other", 0.28)

_STYLE = """
.ln text{font:11px system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif}
.ln .title{font-size:17px;font-weight:650}.ln .name{font-weight:650}.ln .small{font-size:10px}
.ln .on{fill:#fff}.ln .page{fill:#fff}.ln .ink{fill:#0f172a}.ln .soft{fill:#5b6b80}
.ln .line{stroke:#94a3b8;fill:none}.ln .hollow{fill:#94a3b8;fill-opacity:.16;stroke:#94a3b8}
@media (prefers-color-scheme:dark){.ln .page{fill:#0f1623}.ln .ink{fill:#e6ebf2}.ln .soft{fill:#98a6ba}
.ln .line{stroke:#64748b}.ln .hollow{stroke:#64748b}.ln .hue{filter:brightness(1.12)}}
"""


def draw_network(graph: Graph, ms: Sequence[float] | None = None) -> str:
    """A network as a picture.

    Blocks are drawn from the first to the last: height grows with the square root of the resolution, width with that of
    the channels; an arc is a residual connection. The bars below divide the FLOPs, and the milliseconds if they are
    given, among stages and their ops.

    Args:
        graph: the network.
        ms: per op of the graph, in execution order (`latency.predict.breakdown` without its last part).

    Returns:
        An SVG element, a page of its own or to be put into one.

    Raises:
        ExportError: `ms` is not of the graph's ops.
    """
    if ms is not None and len(ms) != len(graph.nodes):
        raise ExportError(f"{len(ms)} times are given for a network of {len(graph.nodes)} ops")
    stages = find_stages(graph)
    columns = _columns(stages)
    bars = [("FLOPs", _count(graph.flops), [float(op.flops) for op in graph.ops])]
    bars += [] if ms is None else [("Latency", f"{sum(ms):.3g} ms", [float(v) for v in ms])]
    parts = [*_header(graph, ms), *_input(graph)]
    for i, (stage, (left, right, scale)) in enumerate(zip(stages, columns, strict=True)):
        parts += _stage(graph, stage, _hue(i, len(stages)), left, right, scale, ms)
    edges, y = [(left, right) for left, right, _ in columns], 340.0
    for name, total, values in bars:
        drawn, edges = _bar(graph, stages, name, total, values, edges, y, ms)
        parts += drawn
        y += 70
    parts += _legend(y + 20)
    height = round(y + 38)
    told = f"{_shape(graph.input.shape)} to {graph.output.shape[0]} classes in {len(stages)} stages"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="ln" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" style="max-width:100%;height:auto" role="img" aria-label="Network: {told}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{WIDTH}" height="{height}" rx="10"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _columns(stages: Sequence[Stage]) -> list[tuple[float, float, float]]:
    """Per stage its left and right end in px, and px per square root of a channel (of all stages the same)."""
    room = _RIGHT - _LEFT - _STAGE_GAP * (len(stages) - 1)
    words = [max(_COLUMN, _LETTER * max(map(len, _words(stage)))) for stage in stages]
    roots = [sum(math.sqrt(b.output[0]) for b in stage.blocks) for stage in stages]
    gaps = [_GAP * (len(stage.blocks) - 1) for stage in stages]

    def widths(scale: float) -> list[float]:
        return [max(word, gap + scale * root) for word, gap, root in zip(words, gaps, roots, strict=True)]

    low, high = 0.05, 12.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(widths(middle)) <= room else (low, middle)
    squeeze = min(1.0, room / sum(widths(low)))  # many stages: words may touch, blocks may not leave the page
    spare = max(0.0, room - sum(widths(low))) / len(stages)
    columns, x = [], float(_LEFT)
    for width in widths(low):
        columns.append((x, x + width * squeeze + spare, low * squeeze))
        x += width * squeeze + spare + _STAGE_GAP
    return columns


def _words(stage: Stage) -> list[str]:
    """The lines below a stage."""
    c, h, w = stage.output
    repeats = f" ×{len(stage.blocks)}" if len(stage.blocks) > 1 else ""
    return [f"{stage.name}{repeats}", f"{c} ch", f"{h}×{w}", stage.label]


def _stage(
    graph: Graph, stage: Stage, hue: str, left: float, right: float, scale: float, ms: Sequence[float] | None
) -> list[str]:
    widths = [max(2.0, scale * math.sqrt(b.output[0])) for b in stage.blocks]
    gap = min(_GAP, (right - left) / (4 * len(widths)))
    x = (left + right - sum(widths) - gap * (len(widths) - 1)) / 2
    parts = []
    for block, width in zip(stage.blocks, widths, strict=True):
        height = _height(graph, block.output)
        top = _AXIS - height / 2
        parts.append(
            f'<rect class="hue" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'rx="{min(3, width / 3):.1f}" fill="{hue}">{_title(_tell_block(block, ms))}</rect>'
        )
        if block.has("add"):
            ends = f"M{x - gap / 2:.1f} {top - 3:.1f}q{(width + gap) / 2:.1f} -13 {width + gap:.1f} 0"
            parts.append(f'<path class="line" d="{ends}" stroke-width="1.3">{_title(f"{block.name}: residual")}</path>')
        x += width + gap
    middle = (left + right) / 2
    for line, (word, kind) in enumerate(zip(_words(stage), ("name ink", "ink", "soft", "soft"), strict=True)):
        parts.append(_text(middle, 284 + 15 * line, word, kind, "middle"))
    return parts


def _bar(
    graph: Graph,
    stages: Sequence[Stage],
    name: str,
    total: str,
    values: Sequence[float],
    above: Sequence[tuple[float, float]],
    y: float,
    ms: Sequence[float] | None,
) -> tuple[list[str], list[tuple[float, float]]]:
    """A bar of stages with one of their ops below it, joined to what stands above; also its stages' ends in px."""
    unit = (_RIGHT - _LEFT) / (sum(values) or 1.0)
    parts = [_text(_MARGIN, y + 42, name, "name ink"), _text(_MARGIN, y + 58, total, "soft")]
    edges, x = [], float(_LEFT)
    for i, (stage, (left, right)) in enumerate(zip(stages, above, strict=True)):
        hue, share = _hue(i, len(stages)), sum(values[n] for n in stage.nodes)
        end = x + unit * share
        edges.append((x, end))
        if share:
            parts.append(
                f'<path class="hue" d="M{left:.1f} {y:.1f}C{left:.1f} {y + 14:.1f} {x:.1f} {y + 14:.1f} {x:.1f} '
                f'{y + 28:.1f}H{end:.1f}C{end:.1f} {y + 14:.1f} {right:.1f} {y + 14:.1f} {right:.1f} {y:.1f}Z" '
                f'fill="{hue}" fill-opacity=".13"/>'
            )
            percent = 100 * share * unit / (_RIGHT - _LEFT)
            amount = _count(share) if name == "FLOPs" else f"{share:.3g} ms"
            told = f"{stage.name}: {amount}, {percent:.1f} %"
            parts.append(_rect(x, y + 28, end - x, 24, hue, 1.0, told))
            word = next((t for t in (f"{stage.name} {percent:.0f} %", stage.name) if _fits(t, end - x)), "")
            parts += [_text((x + end) / 2, y + 44, word, "on", "middle")] if word else []
            for number in stage.nodes:
                node, width = graph.nodes[number], unit * values[number]
                opacity = _KINDS.get(node.op.kind, _OTHER)[1]
                parts.append(_rect(x, y + 53, width, 13, hue, opacity, _tell_op(node, None if not ms else ms[number])))
                x += width
        x = end
    return parts, edges


def _header(graph: Graph, ms: Sequence[float] | None) -> list[str]:
    facts = [f"{_count(graph.flops)} FLOPs (multiply-accumulates)", f"{_count(graph.params)} parameters"]
    facts += [] if ms is None else [f"{sum(ms):.3g} ms predicted"]
    title = f"{_shape(graph.input.shape)} → {graph.output.shape[0]} classes"
    return [_text(_MARGIN, 38, title, "title ink"), _text(_MARGIN, 58, " · ".join(facts), "soft")]


def _input(graph: Graph) -> list[str]:
    c, h, w = graph.input.shape
    middle, top = _MARGIN + 22, _AXIS - _TALLEST / 2
    line = f'<path class="line" d="M{_MARGIN} {_AXIS}H{_RIGHT + 12}m-5 -4l5 4l-5 4" stroke-width="1.3"/>'
    place = f'x="{middle - 5}" y="{top}" width="10" height="{_TALLEST}" rx="2"'
    picture = f'<rect class="page" {place}/><rect class="hollow" {place}>{_title("the picture")}</rect>'
    words = zip(("picture", f"{c} ch", f"{h}×{w}"), ("name ink", "ink", "soft"), strict=True)
    return [line, picture, *(_text(middle, 284 + 15 * i, word, kind, "middle") for i, (word, kind) in enumerate(words))]


def _legend(y: float) -> list[str]:
    parts, x = [], float(_LEFT)
    for name, opacity in (_KINDS["conv"], _KINDS["depthwise"], _OTHER):
        parts.append(_rect(x, y - 8, 14, 9, _HUES[3], opacity, name))
        parts.append(_text(x + 19, y, name, "soft small"))
        x += 34 + 5.6 * len(name)
    told = "blocks: height ∝ √resolution, width ∝ √channels; arc: residual; ×n: blocks; k: kernel; e: expansion"
    return [*parts, _text(_RIGHT, y, told, "soft small", "end")]


def _height(graph: Graph, shape: Shape) -> float:
    sides = math.sqrt(shape[1] * shape[2]), math.sqrt(graph.input.shape[1] * graph.input.shape[2])
    return max(6.0, _TALLEST * math.sqrt(sides[0] / sides[1]))


def _hue(stage: int, stages: int) -> str:
    return _HUES[round(stage * (len(_HUES) - 1) / max(1, stages - 1))]


def _rect(x: float, y: float, width: float, height: float, fill: str, opacity: float, told: str) -> str:
    shown = max(0.4, width - 0.8)  # a hair of the page between neighbours
    return (
        f'<rect class="hue" x="{x + (width - shown) / 2:.2f}" y="{y:.1f}" width="{shown:.2f}" height="{height}" '
        f'rx="{min(2.0, shown / 3):.1f}" fill="{fill}" fill-opacity="{opacity}">{_title(told)}</rect>'
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _fits(text: str, width: float) -> bool:
    return _LETTER * len(text) + 6 <= width


def _tell_block(block: Block, ms: Sequence[float] | None) -> str:
    numbers = range(block.first, block.first + len(block.nodes))
    ops = (_tell_op(n, None if not ms else ms[i]) for i, n in zip(numbers, block.nodes, strict=True))
    return "\n".join([f"{block.name}: {_shape(block.input)} → {_shape(block.output)}", *ops])


def _tell_op(node: Node, ms: float | None) -> str:
    op = node.op
    words: Iterable[str] = (
        op.kind,
        f"{op.kernel[0]}×{op.kernel[1]}" if op.kind in ("conv", "depthwise", "maxpool", "avgpool") else "",
        f"stride {max(op.stride)}" if max(op.stride) > 1 else "",
        op.act if op.act != "none" else "",
    )
    told = [f"{node.path}: {' '.join(w for w in words if w)}", f"{_shape(op.inputs[0])} → {_shape(op.outputs[0])}"]
    told += [f"{_count(op.flops)} FLOPs"] if op.flops else []
    told += [f"{_count(op.params)} parameters"] if op.params else []
    told += [] if ms is None else [f"{ms:.3g} ms"]
    return ", ".join(told)


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape))


def _count(value: float) -> str:
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}"
