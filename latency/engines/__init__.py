"""The Engine port: how a Graph becomes what an inference engine runs, and what of it is timed.

An engine is found by name: the built-in ones, then the entry points of the group `lightnas.engines` (an entry point
names an `Engine` class). On the board the engine is driven by `latency/runner.py`, which has a backend of that name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nas.errors import UnknownPlugin
from nas.graph import Graph, Op, Shape


@dataclass(frozen=True)
class EngineModel:
    """A network as the engine loads it, without weights: for timing they are zero.

    Attributes:
        model: what is deployed, as text.
        timed_model: the same network with a time stamp behind each op.
        stamps: the path of the op charged with the time up to each stamp, in the order the stamps stand in the text.
        input_shape: (c, h, w) of the input.
    """

    model: str
    timed_model: str
    stamps: tuple[str, ...]
    input_shape: Shape


class Engine(ABC):
    """An inference engine seen from this side of the link. Stateless; one instance serves everybody."""

    name: ClassVar[str]
    """As in `Board.engine`, and of the backend in the runner."""
    dtypes: ClassVar[tuple[str, ...]]
    """The arithmetics it can be told to use."""

    @abstractmethod
    def engine_key(self, op: Op) -> str:
        """The key a latency table files the op under: ops that run as the same kernel share it."""

    @abstractmethod
    def build(self, graph: Graph) -> EngineModel:
        """The network as the engine loads it.

        Raises:
            UnsupportedOp: the engine cannot run an op of the graph.
        """

    @abstractmethod
    def weights(self, graph: Graph, folded: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]) -> bytes:
        """The weights file that belongs to `build(graph).model`; `folded` is path -> (weight, bias)."""


def engine_names() -> list[str]:
    """Every engine that can be named, sorted."""
    return sorted({"ncnn", *(point.name for point in entry_points(group="lightnas.engines"))})


def get_engine(name: str) -> Engine:
    """The engine of that name.

    Raises:
        UnknownPlugin: there is none, or its package cannot be loaded.
    """
    if name == "ncnn":
        from latency.engines.ncnn import NcnnEngine

        return NcnnEngine()
    for point in entry_points(group="lightnas.engines"):
        if point.name == name:
            try:
                engine: Engine = point.load()()
            except Exception as e:  # whatever a third-party package does on import
                raise UnknownPlugin(f"engine {name!r} ({point.value}) cannot be loaded: {e}; mend or remove it") from e
            return engine
    raise UnknownPlugin(f"no engine is called {name!r}; known: {', '.join(engine_names())}")
