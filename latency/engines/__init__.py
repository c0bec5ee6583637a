"""The Engine port: how a Graph becomes what an inference engine runs, and what of it is timed.

An engine is found by name: the built-in ones, then the entry points of the group `lightnas.engines` (an entry point
names an `Engine` class). On the board the engine is driven by `latency/onboard/`, which has a backend of that name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nas.errors import UnknownPlugin
from nas.graph import Graph, Op, Place, Shape


@dataclass(frozen=True)
class EngineModel:
    """A network as the engine loads it, without weights: for timing they are zero.

    Attributes:
        model: the network as deployed, as text.
        timed_model: the same network, with what the backend needs to time its ops (a time stamp behind each, say).
        stamps: the path of the op charged with the time up to each stamp, in the order in which `timed_model` has them.
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
    timed_passes: ClassVar[int | None] = None
    """Visits of a network with stamps that are enough, where one visit already is a mean over many runs."""

    @abstractmethod
    def engine_key(self, op: Op) -> str:
        """The key a latency table files the op under: ops that run as the same kernel share it."""

    def kernel_key(self, place: Place) -> str | None:
        """The key of the kernel an op runs as among its neighbours; None where another op's kernel does its work.

        An engine that fuses ops across an Op's border overrides this. Only the neighbours a `Place` names may count: a
        space's sites are priced one by one, and no fusion crosses from one site to the next.
        """
        return self.engine_key(place.op)

    def kernel_keys(self, graph: Graph) -> list[str | None]:
        """`kernel_key` of each node, in execution order."""
        return [self.kernel_key(place) for place in graph.places()]

    @abstractmethod
    def build(self, graph: Graph) -> EngineModel:
        """The network as the engine loads it.

        Raises:
            UnsupportedOp: the engine cannot run an op of the graph.
        """

    @abstractmethod
    def weights(self, graph: Graph, folded: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]) -> bytes:
        """The weights file that belongs to `build(graph).model`; `folded` is path -> (weight, bias)."""


_BUILT_IN = {"ncnn": "latency.engines.ncnn:NcnnEngine", "onnxruntime": "latency.engines.onnxruntime:OnnxRuntimeEngine"}


def engine_names() -> list[str]:
    """Every engine that can be named, sorted."""
    return sorted({*_BUILT_IN, *(point.name for point in entry_points(group="lightnas.engines"))})


def get_engine(name: str) -> Engine:
    """The engine of that name, imported now: none needs what another is made of.

    Raises:
        UnknownPlugin: there is none, or its package cannot be loaded.
    """
    if name in _BUILT_IN:
        module, _, kind = _BUILT_IN[name].partition(":")
        built_in: Engine = getattr(import_module(module), kind)()
        return built_in
    for point in entry_points(group="lightnas.engines"):
        if point.name == name:
            try:
                engine: Engine = point.load()()
            except Exception as e:  # whatever a third-party package does on import
                raise UnknownPlugin(f"engine {name!r} ({point.value}) cannot be loaded: {e}; mend or remove it") from e
            return engine
    raise UnknownPlugin(f"no engine is called {name!r}; known: {', '.join(engine_names())}")
