"""SearchSpace: integer genes -> Graph.

A space is a chain of sites. A site reads a few genes and the shape that reaches it, and builds its part of the
network; so everything additive (FLOPs, parameters, latency) is a table per site, and a batch of encodings is priced by
one gather and one sum per site.

Notations
    n: encodings in a batch; genes: genes of the space; sites: sites of the space.
    Encoding: (genes,) uint8, each entry the index of a gene's choice. Encodings: (n, genes) uint8.
    Site row: ``shape_index * choices + choice_index``, the row of a site's tables.
    Scenario: one assignment of the genes that several sites read (stride patterns); most spaces have exactly one.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.compiled import CompiledSpace, compile_space
from nas.errors import InvalidEncoding, InvalidOp, InvalidSpace
from nas.graph import Graph, Op, Shape, Tensor

Encoding = NDArray[np.uint8]
Encodings = NDArray[np.uint8]
Build = Callable[..., Tensor]
_BLOCK = 64  # rows


@dataclass(frozen=True)
class Gene:
    """One decision. ``choices[i]`` is what index i means; at most 256 of them."""

    name: str
    choices: tuple[Any, ...]


@dataclass(frozen=True)
class Read:
    """What a site makes of a gene: ``values[i]`` is the argument its builder gets for choice i."""

    gene: int
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Site:
    """A stretch of the chain: ``build(g, x, *values)`` appends its ops and returns its output."""

    name: str
    reads: tuple[Read, ...]
    build: Build


class SearchSpace:
    """Integer genes -> Graph.

    Args:
        name: what users call it.
        genes: the decisions, in encoding order.
        sites: the chain; the first site is fed the input.
        inputs: possible input shapes (c, h, w).
        input_gene: the gene that chooses among several inputs (resolution as a gene), or None.

    Raises:
        InvalidSpace: a gene has no or too many choices, or is read by no site.
    """

    def __init__(
        self,
        name: str,
        genes: Sequence[Gene],
        sites: Sequence[Site],
        inputs: Sequence[Shape],
        input_gene: int | None = None,
    ) -> None:
        self.name, self.genes, self.sites = name, tuple(genes), tuple(sites)
        self.inputs, self.input_gene = tuple(inputs), input_gene
        for gene in self.genes:
            if not 2 <= len(gene.choices) <= 256:
                raise InvalidSpace(f"{name}: gene {gene.name} has {len(gene.choices)} choices; a gene needs 2 to 256")
        readers = Counter(r.gene for s in self.sites for r in s.reads)
        if input_gene is not None:
            readers[input_gene] += 1
        unread = [g.name for i, g in enumerate(self.genes) if not readers[i]]
        if unread:
            raise InvalidSpace(f"{name}: no site reads gene(s) {', '.join(unread)}")
        if len(self.inputs) != (len(self.genes[input_gene].choices) if input_gene is not None else 1):
            raise InvalidSpace(f"{name}: needs one input shape per choice of its input gene")
        self.cardinalities = np.array([len(g.choices) for g in self.genes], dtype=np.int64)
        self.shared = tuple(i for i in range(len(self.genes)) if readers[i] > 1)

    def __repr__(self) -> str:
        return f"SearchSpace({self.name!r}, {len(self.genes)} genes, size {self.size:.4g})"

    @property
    def size(self) -> int:
        """Number of encodings, exact."""
        return math.prod(len(g.choices) for g in self.genes)

    @cached_property
    def compiled(self) -> CompiledSpace:
        """The space as tables; built once, on first use."""
        return compile_space(self)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of genes, ops and wiring: equal digests mean equal encodings decode to equal networks."""
        h = hashlib.sha256(repr([(g.name, g.choices) for g in self.genes]).encode())
        h.update("\n".join(op.key for op in self.compiled.ops).encode())
        for site in self.compiled.sites:
            for array in (site.indptr, site.indices, site.next_shape, site.canonical):
                h.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
        return h.hexdigest()

    def ops(self) -> list[Op]:
        """The distinct ops of all networks of the space, sorted by key."""
        return list(self.compiled.ops)

    # Encodings -------------------------------------------------------------------------------------------------

    def validate(self, x: ArrayLike) -> Encodings:
        """One row or many -> (n, genes) uint8.

        Raises:
            InvalidEncoding: wrong length, not integers, or a gene out of range; names the gene.
        """
        if isinstance(x, np.ndarray) and x.dtype == np.uint8 and x.ndim == 2 and self._fits(x):
            return x.copy()
        try:
            raw = np.asarray(x)
            rows = np.atleast_2d(raw).astype(np.int64)
            exact = bool((rows == np.atleast_2d(raw)).all())
        except (TypeError, ValueError, OverflowError) as e:
            raise InvalidEncoding(f"{self.name}: an encoding is {len(self.genes)} integers, not {x!r}") from e
        if not exact or rows.ndim != 2 or rows.shape[1] != len(self.genes):
            raise InvalidEncoding(f"{self.name}: an encoding has {len(self.genes)} integer genes, got {rows.shape[-1]}")
        bad = np.argwhere((rows < 0) | (rows >= self.cardinalities))
        if len(bad):
            row, i = (int(v) for v in bad[0])
            gene = self.genes[i]
            raise InvalidEncoding(
                f"{self.name}: gene {i} ({gene.name}) is {rows[row, i]}, allowed 0 to {len(gene.choices) - 1}"
            )
        return rows.astype(np.uint8)

    def _fits(self, x: Encodings) -> bool:
        """Every gene is in range; the rows are compared many at a time, 25 numbers are too few for a fast loop."""
        if x.shape[1] != len(self.genes):
            return False
        blocks = len(x) // _BLOCK
        whole = x[: blocks * _BLOCK].reshape(blocks, _BLOCK * x.shape[1]).max(axis=0, initial=0)
        rest = x[blocks * _BLOCK :].max(axis=0, initial=0)
        largest = np.maximum(whole.reshape(_BLOCK, x.shape[1]).max(axis=0, initial=0), rest)
        return bool((largest < self.cardinalities).all())

    def row(self, x: ArrayLike) -> Encoding:
        """One valid row (genes,) uint8."""
        rows = self.validate(x)
        if len(rows) != 1:
            raise InvalidEncoding(f"{self.name}: expected one encoding, got {len(rows)}")
        return np.asarray(rows[0], dtype=np.uint8)

    def parse(self, text: str) -> Encoding:
        """A row from its choice indices joined by commas.

        Raises:
            InvalidEncoding: not integers, or not of this space.
        """
        try:
            values = [int(v) for v in text.strip().split(",")]
        except ValueError as e:
            raise InvalidEncoding(
                f"{text.strip()!r} is no encoding; {self.name} takes {len(self.genes)} choice indices joined by commas"
            ) from e
        return self.row(values)

    def decode(self, x: ArrayLike) -> dict[str, Any]:
        """Gene name -> chosen value."""
        return {g.name: g.choices[int(i)] for g, i in zip(self.genes, self.row(x), strict=True)}

    def encode(self, values: dict[str, Any]) -> Encoding:
        """The inverse of `decode`.

        Raises:
            InvalidEncoding: a gene is missing or has no such choice.
        """
        out = []
        for gene in self.genes:
            if gene.name not in values or values[gene.name] not in gene.choices:
                raise InvalidEncoding(f"{self.name}: gene {gene.name} must be one of {list(gene.choices)}")
            out.append(gene.choices.index(values[gene.name]))
        return self.row(out)

    def sample(self, rng: np.random.Generator, n: int = 1) -> Encodings:
        """N uniform encodings (n, genes)."""
        return rng.integers(0, self.cardinalities, size=(n, len(self.genes)), dtype=np.int64).astype(np.uint8)

    def neighbours(self, x: ArrayLike) -> Encodings:
        """Every encoding that differs from x in exactly one gene, (Σ(choices − 1), genes)."""
        row = self.row(x)
        out = np.repeat(row[None], int((self.cardinalities - 1).sum()), axis=0)
        at = 0
        for i, gene in enumerate(self.genes):
            others = [v for v in range(len(gene.choices)) if v != row[i]]
            out[at : at + len(others), i] = others
            at += len(others)
        return out

    def enumerate(self, chunk: int = 65_536) -> Iterator[Encodings]:
        """All encodings in lexicographic order, in chunks; for small spaces."""
        for start in range(0, self.size, chunk):
            flat = np.arange(start, min(start + chunk, self.size))
            yield np.stack(np.unravel_index(flat, self.cardinalities), axis=1).astype(np.uint8)

    def canonical(self, x: ArrayLike) -> Encodings:
        """(n, genes): rows that decode to equal networks become equal rows."""
        return self.compiled.canonical(self.validate(x))

    # Networks --------------------------------------------------------------------------------------------------

    def graph(self, x: ArrayLike) -> Graph:
        """Decode one row.

        Raises:
            InvalidEncoding: the row is not of this space.
        """
        row = self.row(x)
        g = Graph(self.inputs[int(row[self.input_gene])] if self.input_gene is not None else self.inputs[0])
        t = g.input
        for site in self.sites:
            t = self.build_site(site, g, t, [r.values[int(row[r.gene])] for r in site.reads])
        return g

    def build_site(self, site: Site, g: Graph, x: Tensor, values: Sequence[Any]) -> Tensor:
        """Append a site's ops; an impossible Op becomes an InvalidSpace naming the site and its values.

        Raises:
            InvalidSpace: the site cannot be built with these values.
        """
        try:
            return site.build(g, x, *values)
        except InvalidOp as e:
            named = ", ".join(f"{self.genes[r.gene].name}={v}" for r, v in zip(site.reads, values, strict=True))
            raise InvalidSpace(f"{self.name}: {site.name} cannot be built with {named or 'its settings'}: {e}") from e

    def site_rows(self, x: Encodings) -> NDArray[np.intp]:
        """(n, sites): the row of each site's tables. x must be valid."""
        return self.compiled.site_rows(x)

    def path_to(self, site: int, row: int) -> Encoding:
        """Some encoding whose site `site` is at `row`; genes no site on the way needs are 0."""
        return self.compiled.path_to(site, row)

    def scenarios(self) -> Iterator[dict[int, int]]:
        """Every assignment gene -> choice of the genes that several sites read."""
        for combo in itertools.product(*(range(len(self.genes[i].choices)) for i in self.shared)):
            yield dict(zip(self.shared, combo, strict=True))
