"""Service: what the routes work on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from api.data.root import DataRoot
from api.operations.metrics import Metrics
from api.settings import ServeSettings
from api.store import Store


@dataclass(frozen=True)
class Service:
    """The store and how it is served; whoever makes it closes the store.

    Attributes:
        store: everything lightnas remembers.
        serve: limits, and where data sets are.
        metrics: what this application has done.
    """

    store: Store
    serve: ServeSettings
    metrics: Metrics = field(default_factory=Metrics, compare=False)

    @cached_property
    def data(self) -> DataRoot:
        """What requests may name."""
        return DataRoot(self.serve.data_root, self.store.settings.home)

    @classmethod
    def of(cls, store: Store) -> Service:
        """A store served as the environment says, on loopback."""
        return cls(store, ServeSettings.from_env(store.settings))
