"""A space's chain of sites as dynamic programmes walk it: from the last site back, once per distinct rest.

Notations
    Tail: the sites from one on, under the values that shared genes (stride patterns) have from there on. Scenarios
    that agree on those share the tail, so a programme over many patterns costs little more than over one.
    Row: a canonical row of a site's tables that some network of the tail uses; equal networks are one row.
    Mask: per site (rows,) which of them a network may use at all. A limit on a maximum over the sites is a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.compiled import CompiledSite
from nas.space import Encodings, SearchSpace

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Mask = Sequence[NDArray[np.bool_]]
_Key = tuple[int, ...]  # of a tail: the values that its shared reads have


@dataclass(frozen=True, eq=False)
class Tail:
    """One site and all that follows it.

    Attributes:
        number: index into `Chain.tails`.
        index: of the site.
        site: its tables.
        following: the tail after this site; None at the last one.
        rows: (k,) rows of the site's tables, ascending.
        shape: (k,) input shape of each row.
        next: (k,) input shape of the following site; 0 at the last one.
    """

    number: int
    index: int
    site: CompiledSite
    following: Tail | None
    rows: Ints
    shape: Ints
    next: Ints

    @cached_property
    def _first(self) -> Ints:
        """(shapes + 1,) where the rows of each input shape begin."""
        return np.searchsorted(self.shape, np.arange(len(self.site.shapes) + 1))

    def expand(self, shape: Ints) -> tuple[Ints, Ints]:
        """For input shapes (n,): who goes on (m,) and with which of `rows` (m,), as indices."""
        count = np.diff(self._first)[shape]
        parent = np.repeat(np.arange(len(shape)), count)
        return parent, np.arange(len(parent)) - np.repeat(np.cumsum(count) - count - self._first[shape], count)


@dataclass(frozen=True, eq=False)
class Scenario:
    """One assignment of the shared genes; every other gene is read by a single site.

    Attributes:
        shared: gene -> choice.
        starts: (k,) input shapes it can begin with.
        first: the tail of the whole chain.
    """

    shared: dict[int, int]
    starts: Ints
    first: Tail

    def tails(self) -> list[Tail]:
        """The tail from each site on."""
        out: list[Tail] = []
        tail: Tail | None = self.first
        while tail is not None:
            out.append(tail)
            tail = tail.following
        return out


class Chain:
    """The tails of a space, each after the one that follows it, and its scenarios.

    Args:
        space: whose sites.
        masks: rows that no mask allows are left out, and those that lead nowhere without them.
    """

    def __init__(self, space: SearchSpace, masks: Sequence[Mask] = ()) -> None:
        self.space = space
        self.tails: list[Tail] = []
        sites, gene = space.compiled.sites, space.input_gene
        allowed: list[dict[_Key, NDArray[np.bool_]]] = [{} for _ in sites]  # (shapes, choices) per tail
        reached: list[dict[_Key, NDArray[np.bool_]]] = [{} for _ in sites]  # (shapes,)
        drafts = []
        for shared in space.scenarios():
            keys = _keys(sites, shared)
            fixed = gene is not None and gene in shared
            starts = np.array([shared[gene]] if fixed and gene is not None else range(len(space.inputs)), dtype=np.intp)
            drafts.append((shared, starts, keys))
            here = np.zeros(len(space.inputs), dtype=np.bool_)
            here[starts] = True
            for s, (site, key) in enumerate(zip(sites, keys, strict=False)):
                if key not in allowed[s]:
                    own = site.canonical.reshape(-1, site.choices) == np.arange(site.choices)
                    for mask in masks:
                        own &= mask[s].reshape(-1, site.choices)
                    allowed[s][key] = own & site.compatible(shared)
                    reached[s][key] = np.zeros(len(site.shapes), dtype=np.bool_)
                reached[s][key] |= here
                if s + 1 < len(sites):
                    on = site.next_shape.reshape(-1, site.choices)[allowed[s][key] & here[:, None]]
                    here = np.zeros(len(sites[s + 1].shapes), dtype=np.bool_)
                    here[on] = True
        following: dict[_Key, Tail | None] = {(): None}
        for s in reversed(range(len(sites))):
            after, following = following, {}
            for key, usable in allowed[s].items():
                rows = np.flatnonzero(usable & reached[s][key][:, None])
                own_reads = sum(r.shared for r in sites[s].reads)
                rest = after[key[own_reads:]] if s + 1 < len(sites) else None
                if rest is not None and masks:
                    rows = rows[np.isin(sites[s].next_shape[rows], rest.shape)]
                tail = Tail(
                    len(self.tails),
                    s,
                    sites[s],
                    rest,
                    rows,
                    rows // sites[s].choices,
                    np.zeros(len(rows), dtype=np.intp) if rest is None else sites[s].next_shape[rows],
                )
                self.tails.append(tail)
                following[key] = tail
        self.scenarios: list[Scenario] = []
        for shared, starts, keys in drafts:
            first = following[keys[0]]
            assert first is not None
            self.scenarios.append(Scenario(shared, starts, first))

    @cached_property
    def rows(self) -> int:
        """Rows of all tails: what a pass of a programme goes through."""
        return sum(len(tail.rows) for tail in self.tails)

    @property
    def empty(self) -> bool:
        """Whether the masks leave no network."""
        return all(not np.isin(s.starts, s.first.shape).any() for s in self.scenarios)

    @cached_property
    def pairs(self) -> int:
        """Distinct (input shape, next shape) of all tails: what a programme keeps numbers for."""
        return sum(len(np.unique(np.stack([tail.shape, tail.next]), axis=1).T) for tail in self.tails)

    def to_go(self, tables: Sequence[Floats]) -> list[Floats]:
        """Per tail (shapes,): the least sum of its tables from each input shape to the end; inf where none is used."""
        out: list[Floats] = []
        for tail in self.tails:
            value = np.full(len(tail.site.shapes), np.inf)
            np.minimum.at(value, tail.shape, self.onwards(tail, tables, out))
            out.append(value)
        return out

    def onwards(self, tail: Tail, tables: Sequence[Floats], to_go: Sequence[Floats]) -> Floats:
        """(k,) per row of the tail: its own price and the cheapest way on."""
        price = tables[tail.index][tail.rows]
        return price if tail.following is None else price + to_go[tail.following.number][tail.next]

    def least(self, to_go: Sequence[Floats]) -> float:
        """The smallest sum over the whole chain."""
        return min(float(to_go[s.first.number][s.starts].min()) for s in self.scenarios)

    def encode(self, scenario: Scenario, starts: Ints, rows: Sequence[Ints]) -> Encodings:
        """Canonical encodings (n, genes) from input shapes (n,) and, per site, rows of its tables (n,)."""
        x = np.zeros((len(starts), len(self.space.genes)), dtype=np.uint8)
        for gene, value in scenario.shared.items():
            x[:, gene] = value
        if self.space.input_gene is not None:
            x[:, self.space.input_gene] = starts
        for site, row in zip(self.space.compiled.sites, rows, strict=True):
            site.write(x, row % site.choices)
        return x


def _keys(sites: Sequence[CompiledSite], shared: dict[int, int]) -> list[_Key]:
    """Of the tail from each site on, and of the end."""
    keys: list[_Key] = [()]
    for site in reversed(sites):
        own = tuple(int(r.value_of[shared[r.gene]]) for r in site.reads if r.shared)
        keys.insert(0, own + keys[0])
    return keys
