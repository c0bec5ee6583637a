"""The fewest networks whose ops contain every op of a space: what a profile runs on the board.

Greedy set cover (Chvátal 1979, within ln(n) of the optimum). Each step needs the encoding that holds the most ops not
yet covered; over the chain of sites that is one dynamic programme (`CompiledSpace.best`), so no candidate is sampled.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency.engines import Engine
from nas.graph import Graph, Place, Shape, Tensor
from nas.space import Encodings, SearchSpace


@dataclass(frozen=True)
class Cover:
    """What to run so that every op of a space is timed.

    Attributes:
        encodings: (n, genes) networks of the space, the one that covers most first.
        isolated: ops of the tables that no encoding reaches; each gets a small network of its own.
    """

    encodings: Encodings
    isolated: tuple[Place, ...] = ()

    def graphs(self, space: SearchSpace) -> list[Graph]:
        """The networks: of the encodings, then of the isolated ops."""
        return [space.graph(x) for x in self.encodings] + [isolated_graph(place) for place in self.isolated]


def cover_space(space: SearchSpace, engine: Engine, have: Container[str] = ()) -> Cover:
    """The fewest networks that hold every op of the space; among equals, cheap ones.

    Args:
        space: whose ops are wanted.
        engine: says which ops run as the same kernel.
        have: keys of kernels that need not be covered.
    """
    places = space.compiled.places
    keys = [engine.kernel_key(place) for place in places]
    names = sorted({key for key in keys if key is not None and key not in have})
    id_of = {name: i for i, name in enumerate(names)}
    nothing = len(names)  # stands for every kernel that is not wanted
    ids = np.array([id_of.get(key, nothing) if key else nothing for key in keys], dtype=np.intp)
    wanted = np.ones(nothing + 1, dtype=np.bool_)
    wanted[nothing] = False
    rows = [_distinct(site.indptr, ids[site.places]) for site in space.compiled.sites]
    flops = [site.sums(np.array([place.op.flops for place in places], np.float64)) for site in space.compiled.sites]
    # The whole network's FLOPs weigh less than one op: they only break ties.
    most = max(sum(float(f.max()) for f in flops), 1.0)
    ties = [0.5 * f / most for f in flops]
    chosen: list[NDArray[np.uint8]] = []
    held: list[NDArray[np.intp]] = []
    while wanted.any():
        gains = [_gain(indptr, members, wanted) for indptr, members in rows]
        _, row = space.compiled.best([t - g for t, g in zip(ties, gains, strict=True)])
        ops = _members(space, rows, row)
        if not wanted[ops].any():
            break  # what is left stands in tables only: no encoding reaches it
        wanted[ops] = False
        chosen.append(row)
        held.append(ops[ops != nothing])
    keep = _needed(held, len(names))
    isolated = tuple({i: place for i, place in zip(ids, places, strict=True) if wanted[i]}.values())
    encodings = np.array([chosen[i] for i in keep], dtype=np.uint8).reshape(-1, len(space.genes))
    return Cover(encodings, isolated)


def _distinct(indptr: NDArray[np.intp], members: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """A CSR without repetitions inside a row: an op counts once however often a network repeats it."""
    row_of = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    pairs = np.unique(np.stack([row_of, members], axis=1), axis=0)
    counts = np.bincount(pairs[:, 0], minlength=len(indptr) - 1)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.intp), pairs[:, 1].astype(np.intp)


def _gain(indptr: NDArray[np.intp], members: NDArray[np.intp], wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(rows,) how many wanted ops each row holds."""
    running = np.concatenate([[0], np.cumsum(wanted[members])])
    return np.asarray(running[indptr[1:]] - running[indptr[:-1]], dtype=np.float64)


def _members(
    space: SearchSpace, rows: list[tuple[NDArray[np.intp], NDArray[np.intp]]], row: NDArray[np.uint8]
) -> NDArray[np.intp]:
    at = space.site_rows(row[None])[0]
    return np.unique(np.concatenate([m[p[i] : p[i + 1]] for (p, m), i in zip(rows, at, strict=True)]))


def _needed(held: list[NDArray[np.intp]], ops: int) -> list[int]:
    """The indices that stay when networks whose ops all occur in others are dropped, the least useful first."""
    count = np.zeros(ops, dtype=np.intp)
    for members in held:
        count[members] += 1
    keep = set(range(len(held)))
    for i in reversed(range(len(held))):
        if (count[held[i]] > 1).all():
            count[held[i]] -= 1
            keep.discard(i)
    return sorted(keep)


def isolated_graph(place: Place) -> Graph:
    """A small network around one op, at the path ``op``, with the op it may be fused with behind it.

    Its inputs come from convolutions, so their layout is real.
    """
    op = place.op
    g = Graph(op.inputs[0])
    inputs = [_fed(g, shape, f"feed{i}") for i, shape in enumerate(op.inputs)]
    made = op.outputs[0]
    others = [_fed(g, shape, f"beside{i}") for i, shape in enumerate(place.reader.inputs[1:])] if place.reader else []
    data = g.to_dict()
    data["nodes"].append({"path": "op", "op": op.key, "inputs": [[t.node, t.port] for t in inputs]})
    if place.reader and place.reader.inputs[0] == made:
        wires = [[len(data["nodes"]) - 1, 0], *([t.node, t.port] for t in others)]
        data["nodes"].append({"path": "reader", "op": place.reader.key, "inputs": wires})
    return Graph.from_dict(data)


def _fed(g: Graph, shape: Shape, path: str) -> Tensor:
    source = g.input if shape[1:] == g.input.shape[1:] else g.global_pool(g.input, path=f"{path}.pool")
    return g.conv(source, shape[0], act="relu", path=path)
