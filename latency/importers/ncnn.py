"""An ncnn `.param` text -> Graph, as https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure has it.

Only the text is read: shapes follow from the input's and the layers' own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from latency.errors import LatencyError
from latency.importers.draft import Draft, Imported, Refused, Unsupported, Value
from latency.importers.ncnn_layers import HANDLERS, SAME_SHAPE, Layer, dims_of_window
from nas.errors import InvalidOp
from nas.graph import Shape

_MAGIC: Final = "7767517"
_PARAM: Final = re.compile(r"(-?\d+)=(.+)")
_ARRAY: Final = -23300
_LARGEST: Final = 64 * 2**20
_MALFORMED: Final = (ValueError, IndexError, ZeroDivisionError, OverflowError)
"""What comes of parameters that make no sense."""


@dataclass(frozen=True)
class Param:
    """A `.param` text, line by line.

    Attributes:
        layers: in the order of the text.
        picture: (c, h, w) as the text or the user tells it.
        inputs, outputs: names of the blobs that come in and that nothing reads.
    """

    layers: tuple[Layer, ...]
    picture: Shape
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def from_param(text: str | bytes, shape: Shape | None = None, *, source: str = "the ncnn text") -> Imported:
    """Reads a network.

    Args:
        text: of a `.param` file.
        shape: (c, h, w) of the picture, for a text that does not tell it.
        source: how messages call the text.

    Raises:
        LatencyError: it is no ncnn text, has not one input, or does not tell the picture's size.
    """
    param = parse_param(text, shape, source=source)
    draft = Draft(param.picture)
    values: dict[str, Value | None] = {}
    for layer in param.layers:
        if layer.kind == "Input":
            values[layer.tops[0]] = draft.picture
            continue
        reads = [values.get(name) for name in layer.bottoms]
        known = [v for v in reads if v is not None]
        try:
            if layer.kind not in HANDLERS:
                raise Refused("lightnas has no such layer")
            if len(known) < len(reads) or not reads:
                raise Refused("the shape of what it reads is unknown")
            values.update(zip(layer.tops, HANDLERS[layer.kind](draft, layer, known), strict=True))
        except (Refused, InvalidOp, *_MALFORMED) as e:
            reason = str(e) if isinstance(e, (Refused, InvalidOp)) else f"it is malformed ({type(e).__name__}: {e})"
            dims: list[tuple[int, ...] | None] = [None] * len(layer.tops)
            if layer.kind in SAME_SHAPE and known:
                dims = [known[0].dims] * len(layer.tops)
            elif known and len(layer.tops) == 1:
                dims = [dims_of_window(layer, known[0])]
            made = draft.foreign(Unsupported(layer.name, layer.kind, reason), known, dims)
            values.update(zip(layer.tops, made, strict=True))
    found = draft.finish([v for name in param.outputs if (v := values.get(name)) is not None])
    return Imported(found.graph, found.unsupported, len(param.outputs))


def parse_param(text: str | bytes, shape: Shape | None = None, *, source: str = "the ncnn text") -> Param:
    """Takes a text apart.

    Raises:
        LatencyError: see `from_param`.
    """
    not_ours = f"{source} is not an ncnn text; give the .param file of a network"
    if len(text) > _LARGEST:
        raise LatencyError(not_ours)
    try:
        lines = (text.decode() if isinstance(text, bytes) else text).split("\n")
    except UnicodeDecodeError as e:
        raise LatencyError(not_ours) from e
    if lines[0].strip() != _MAGIC or len(lines) < 3:
        raise LatencyError(f"{not_ours} (its first line is not {_MAGIC})")
    layers = tuple(_layer(line, number, source) for number, line in enumerate(lines[2:], 3) if line.strip())
    inputs = [layer for layer in layers if layer.kind == "Input"]
    if len(inputs) != 1 or len(inputs[0].tops) != 1:
        names = ", ".join(layer.name for layer in inputs) or "none"
        raise LatencyError(f"{source} has {len(inputs)} inputs ({names}); lightnas runs networks that read one picture")
    told = tuple(inputs[0].integer(key, 0) for key in (2, 1, 0))
    if min(told) < 1 and max(told) > 0:
        raise LatencyError(f"{source}: its input is no picture of channels, height and width; give another network")
    picture = (told[0], told[1], told[2]) if max(told) > 0 else shape
    if picture is None:
        raise LatencyError(f"{source} does not tell the size of its picture; give it: --shape 3x224x224")
    if shape is not None and shape != picture:
        sizes = "x".join(map(str, picture))
        raise LatencyError(f"{source} reads a picture of {sizes}, not {'x'.join(map(str, shape))}; leave --shape out")
    read = {name for layer in layers for name in layer.bottoms}
    unread = tuple(name for layer in layers for name in layer.tops if name not in read)
    return Param(layers, picture, inputs[0].tops, unread)


def _layer(line: str, number: int, source: str) -> Layer:
    words = line.split()
    try:
        kind, name, bottoms, tops = words[0], words[1], int(words[2]), int(words[3])
        params = dict(_parameter(word) for word in words[4 + bottoms + tops :])
        if bottoms < 0 or tops < 0 or len(words) < 4 + bottoms + tops:
            raise ValueError
    except (ValueError, IndexError) as e:
        raise LatencyError(f"{source} is damaged: line {number} is no layer; convert the network again") from e
    return Layer(kind, name, tuple(words[4 : 4 + bottoms]), tuple(words[4 + bottoms : 4 + bottoms + tops]), params)


def _parameter(word: str) -> tuple[int, tuple[float, ...]]:
    """`0=32` or `-23310=2,0.0,6.0`; texts in quotation marks are kept out, no layer of ours has one."""
    found = _PARAM.fullmatch(word)
    if not found:
        raise ValueError(word)
    key, value = int(found[1]), found[2]
    if value.startswith('"'):
        return key, ()
    if key > _ARRAY:
        return key, (float(value),)
    count, *items = value.split(",")
    if len(items) != int(count):
        raise ValueError(word)
    return _ARRAY - key, tuple(map(float, items))
