"""Names of tensors -> our layers by path (`s2.b1.dw`), for the layouts a MobileNetV2 is commonly kept in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Final, NamedTuple

from torch import Tensor

from nas.errors import WeightsError
from nas.weights.layers import Layer, build_layer

LIGHTNAS: Final = "lightnas"
FOLDED: Final = "lightnas-folded"
TORCHVISION: Final = "torchvision"
TIMM: Final = "timm"

UNDERSTOOD: Final = "lightnas's own (checkpoints and exports), torchvision's mobilenet_v2, timm's mobilenetv2_*"
"""For error messages."""

_OURS = re.compile(r"(?P<path>.+?)\.(?P<part>(norm\.)?(weight|bias)|norm\.(running_mean|running_var))")
_COUNTER = "num_batches_tracked"
_PLAN_REPEATS = (1, 2, 3, 4, 3, 3, 1)  # of MobileNetV2, arXiv 1801.04381, table 2


class Named(NamedTuple):
    """A checkpoint whose names are understood.

    Attributes:
        layout: one of `LIGHTNAS`, `FOLDED`, `TORCHVISION`, `TIMM`.
        layers: path -> weights.
        ignored: names of tensors that belong to no op of ours.
    """

    layout: str
    layers: dict[str, Layer]
    ignored: tuple[str, ...]


def understand(state: Mapping[str, Tensor]) -> Named:
    """Find the layout and give every tensor its place.

    torchvision's blocks are counted through; a stage begins where the projected width changes, or expansion begins.
    Narrow networks have neighbouring stages of one width: where the 17 blocks can be the plan's, its repeats are taken.

    Raises:
        WeightsError: the names are of no known layout, or a layer is not complete.
    """
    if "features.0.0.weight" in state:
        return _renamed(TORCHVISION, state, _torchvision(state))
    if "conv_stem.weight" in state:
        return _renamed(TIMM, state, _timm(state))
    found = {name: m for name in state if (m := _OURS.fullmatch(name))}
    normed = any(m["part"] == "norm.running_mean" and f"{m['path']}.weight" in state for m in found.values())
    if normed or _looks_folded(state, {m["path"] for m in found.values()}):
        return _grouped(LIGHTNAS if normed else FOLDED, state)
    raise WeightsError(f"the names of its tensors are unknown ({first_names(state)}); understood are {UNDERSTOOD}")


def first_names(names: Iterable[str]) -> str:
    """The first few of them, for a message."""
    listed = list(names)
    return ", ".join(listed[:3]) + (f", … {len(listed)} in all" if len(listed) > 3 else "")


def _looks_folded(state: Mapping[str, Tensor], paths: set[str]) -> bool:
    """Every path has a weight of a convolution or linear layer and a bias, and there is nothing else."""
    pairs = [(state.get(f"{path}.weight"), state.get(f"{path}.bias")) for path in paths]
    return len(state) == 2 * len(paths) and all(w is not None and w.ndim in (2, 4) and b is not None for w, b in pairs)


# Layouts: module -> our path, or our path and `norm` ----------------------------------------------------------------


def _torchvision(state: Mapping[str, Tensor]) -> dict[str, str]:
    places = {"features.0.0": "stem", "features.0.1": "stem.norm", "classifier.1": "classifier"}
    blocks = sorted({int(m[1]) for name in state if (m := re.match(r"features\.(\d+)\.conv\.", name))})
    expanded, widths = [], []
    for index in blocks:
        expanded.append(f"features.{index}.conv.3.weight" in state)
        project = state.get(f"features.{index}.conv.{1 + expanded[-1]}.weight")
        if project is None:
            raise WeightsError(f"features.{index} is no block of torchvision's mobilenet_v2: it has no projection")
        widths.append(len(project))
    numbers = _stages(expanded, widths)
    for index, has_expand, (stage, number) in zip(blocks, expanded, numbers, strict=True):
        names = ("expand", "dw", "project") if has_expand else ("dw", "project")
        for at, name in enumerate(names):
            module, path = f"features.{index}.conv.{at}", f"s{stage}.b{number}.{name}"
            inner = name != "project"
            places[f"{module}.0" if inner else module] = path
            places[f"{module}.1" if inner else f"features.{index}.conv.{at + 1}"] = f"{path}.norm"
    last = blocks[-1] + 1 if blocks else 1
    return {**places, f"features.{last}.0": "last", f"features.{last}.1": "last.norm"}


def _stages(expanded: list[bool], widths: list[int]) -> Iterator[tuple[int, int]]:
    """(stage, block) of each block in order."""
    blocks = list(zip(expanded, widths, strict=True))
    starts = [i for i, block in enumerate(blocks) if i == 0 or block != blocks[i - 1]]
    plan = [sum(_PLAN_REPEATS[:i]) for i in range(len(_PLAN_REPEATS))]
    if len(widths) == sum(_PLAN_REPEATS) and set(starts) <= set(plan):
        starts = plan
    for stage, (start, end) in enumerate(pairwise([*starts, len(widths)])):
        for block in range(end - start):
            yield stage, block


def _timm(state: Mapping[str, Tensor]) -> dict[str, str]:
    places = {
        "conv_stem": "stem",
        "bn1": "stem.norm",
        "conv_head": "last",
        "bn2": "last.norm",
        "classifier": "classifier",
    }
    for block in {m[0]: m for name in state if (m := re.match(r"blocks\.(\d+)\.(\d+)", name))}.values():
        # A block without expansion is a depthwise-separable one, whose conv_pw projects.
        separable = f"{block[0]}.conv_pwl.weight" not in state
        names = {"conv_dw": "dw", "conv_pw": "project"}
        if not separable:
            names = {"conv_pw": "expand", "conv_dw": "dw", "conv_pwl": "project"}
        path = f"s{block[1]}.b{block[2]}"
        for number, (module, name) in enumerate(names.items(), 1):
            if f"{block[0]}.{module}.weight" in state:
                places[f"{block[0]}.{module}"] = f"{path}.{name}"
                places[f"{block[0]}.bn{number}"] = f"{path}.{name}.norm"
        places[f"{block[0]}.se.conv_reduce"] = f"{path}.se.reduce"
        places[f"{block[0]}.se.conv_expand"] = f"{path}.se.restore"
    return places


# Names -> layers ----------------------------------------------------------------------------------------------------


def _renamed(layout: str, state: Mapping[str, Tensor], places: Mapping[str, str]) -> Named:
    ours, ignored = {}, []
    for name, value in state.items():
        module, _, part = name.rpartition(".")
        if module in places:
            ours[f"{places[module]}.{part}"] = value
        else:
            ignored.append(name)
    named = _grouped(layout, ours)
    return named._replace(ignored=(*ignored, *named.ignored))


def _grouped(layout: str, state: Mapping[str, Tensor]) -> Named:
    parts: dict[str, dict[str, Tensor]] = {}
    ignored = []
    for name, value in state.items():
        m = _OURS.fullmatch(name)
        if m:
            parts.setdefault(m["path"], {})[m["part"]] = value
        elif not name.endswith(_COUNTER):
            ignored.append(name)
    return Named(layout, {path: build_layer(path, of) for path, of in parts.items()}, tuple(ignored))
