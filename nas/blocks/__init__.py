"""Block families, each written once against Graph. A new family is one file, one line here, and its test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nas.blocks.mbconv import mbconv
from nas.blocks.shuffle_v2 import shuffle_v2
from nas.graph import Tensor


@dataclass(frozen=True)
class Family:
    """A block family a stage can name.

    Attributes:
        build: ``build(g, x, c_out, *, stride, path, **knobs) -> Tensor``.
        knobs: the keyword arguments it understands beyond stride and path.
    """

    build: Callable[..., Tensor]
    knobs: tuple[str, ...]


FAMILIES = {
    "mbconv": Family(mbconv, ("kernel", "expansion", "se", "act")),
    "shuffle_v2": Family(shuffle_v2, ("kernel", "act")),
}
