"""Search spaces and what follows from one, and from a latency table, whatever the budgets; kept for many requests."""

from __future__ import annotations

import threading
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from api.errors import Conflict
from latency.predict import latency_model
from latency.table import LatencyTable
from nas.cost import CostModel
from nas.errors import UnknownPlugin
from nas.feasible import Distribution, FeasibleSet
from nas.objective import GRAPH_COSTS
from nas.space import SearchSpace
from nas.spaces import space_names
from nas.spaces.recipe import SpaceSpec

if TYPE_CHECKING:
    from api.store import Store
    from api.store.searches import SearchRecord

_SPACES_KEPT = 8  # of up to 40 MB per resolution
_TABLES_KEPT = 4  # per space


class PricedSpace:
    """A space, what its networks cost and how that is distributed; each computed when first asked. For many threads.

    Args:
        space: whose networks.
        table: prices latency, if there is one.
        without: the same space without the table, to share what does not depend on it.
    """

    def __init__(
        self, space: SearchSpace, table: LatencyTable | None = None, without: PricedSpace | None = None
    ) -> None:
        self.space, self.table, self._without = space, table, without
        self._lock = threading.RLock()  # two requests must not do the same seconds of work twice
        self._models: dict[tuple[str, float | None], CostModel] = {}
        self._distributions: dict[str, Distribution] = {}
        self._with: dict[str, PricedSpace] = {}

    def with_table(self, table: LatencyTable) -> PricedSpace:
        """The same space with its latency; the newest few are kept."""
        with self._lock:
            if table.digest not in self._with:
                if len(self._with) == _TABLES_KEPT:
                    del self._with[next(iter(self._with))]
                self._with[table.digest] = PricedSpace(self.space, table, self)
            return self._with[table.digest]

    def known(self, digest: str) -> PricedSpace | None:
        """The same space with the latency of the table of that digest, if it is kept."""
        with self._lock:
            return self._with.get(digest)

    def model(self, metric: str, quantile: float | None = None) -> CostModel:
        """What a network costs in a metric of `nas.objective.METRICS`.

        Args:
            metric: `latency_ms` only with a table.
            quantile: of a latency: what the measured one stays below with this probability; None: the prediction.

        Raises:
            MissingOps: the table lacks ops of the space.
            InvalidTable: a quantile is asked of a table that tells no intervals.
        """
        if metric in GRAPH_COSTS and self._without is not None:
            return self._without.model(metric)
        with self._lock:
            key = (metric, quantile)
            if key not in self._models:
                if metric in GRAPH_COSTS:
                    self._models[key] = GRAPH_COSTS[metric](self.space)
                else:
                    assert self.table is not None
                    made = latency_model(self.table, self.space, quantile=quantile)
                    if quantile is not None:
                        return made  # quick to make, and a request may name any
                    self._models[key] = made
            return self._models[key]

    @cached_property
    def everything(self) -> FeasibleSet:
        """All networks of the space."""
        return FeasibleSet(self.space) if self._without is None else self._without.everything

    @property
    def networks(self) -> float:
        """How many distinct networks the space has."""
        with self._lock:
            return self.everything.count

    def distribution(self, metric: str) -> Distribution:
        """How a metric is distributed over all networks of the space."""
        if metric in GRAPH_COSTS and self._without is not None:
            return self._without.distribution(metric)
        with self._lock:
            if metric not in self._distributions:
                self._distributions[metric] = self.everything.distribution(self.model(metric))
            return self._distributions[metric]


def find_space(
    name: str, resolution: tuple[int, ...] = (), classes: int | None = None, channels: int | None = None
) -> PricedSpace:
    """A preset or registered space; never a file, which a request must not name.

    Raises:
        UnknownPlugin: no such name; lists what there is.
        InvalidSpace: the settings cannot be used.
    """
    if name not in space_names():
        raise UnknownPlugin(f"no search space {name!r}; there are {', '.join(space_names())}")
    return kept_space(SpaceSpec(name, resolution, classes, channels))


def space_of(store: Store, record: SearchRecord) -> PricedSpace:
    """The space of a stored search, with the table it pins.

    Raises:
        Conflict: this program builds another space from the same description.
    """
    recipe = SpaceSpec.from_dict(record.spec["space"])
    found = kept_space(recipe) if recipe.text is not None else find_space(*_settings(recipe))
    check_version(record, found.space)
    digest = record.table_digest
    if digest is None:
        return found
    return found.known(digest) or found.with_table(store.tables.get(digest))


def check_version(record: SearchRecord, space: SearchSpace) -> None:
    """Raises Conflict if this program builds another space from a stored search's description than the search had."""
    if space.digest != record.space_digest:
        raise Conflict(
            f"search {record.name!r} was made with another version of the space {record.space}: its encodings would "
            "mean other networks; go on with the version of lightnas that began it"
        )


def describe_space(priced: PricedSpace) -> dict[str, Any]:
    """Genes, size and cost ranges as JSON types."""
    space = priced.space
    ranges = {}
    for metric in GRAPH_COSTS:
        model, number = priced.model(metric), float if metric.endswith("_mb") else int
        ranges[metric] = {"min": number(model.minimum()[0]), "max": number(model.maximum()[0])}
    return {
        "space": space.name,
        "digest": space.digest,
        "size": space.size,
        "inputs": [list(shape) for shape in space.inputs],
        "genes": [{"name": g.name, "choices": list(g.choices)} for g in space.genes],
        "ops": len(space.compiled.ops),
        **ranges,
    }


@lru_cache(maxsize=_SPACES_KEPT)
def kept_space(recipe: SpaceSpec) -> PricedSpace:
    """A recipe's space, built and compiled once: that takes seconds, and who submits a search asks for it again."""
    return PricedSpace(recipe.build())


def _settings(recipe: SpaceSpec) -> tuple[str, tuple[int, ...], int | None, int | None]:
    return recipe.name, recipe.resolution, recipe.classes, recipe.channels
