"""What the service counts, for Prometheus. Each application has a registry of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from api.errors import StoreError
from api.store.models import evaluations, jobs, searches

if TYPE_CHECKING:
    from api.store import Store

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TRIALS = ("running", "complete", "pruned", "failed")


class Metrics:
    """What one application has done since it started; `AccessLog` writes it.

    Attributes:
        registry: of this application only.
        requests: answered requests by method, route template and status.
        seconds: how long they took by method and route; event streams are left out.
        streams: event streams open now.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lightnas_http_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "lightnas_http_request_seconds",
            "Seconds from a request's head to the end of its answer, event streams left out.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.streams = Gauge("lightnas_event_streams", "Event streams open now.", registry=self.registry)
        ProcessCollector(registry=self.registry)


def render(store: Store, metrics: Metrics) -> bytes:
    """All metrics in Prometheus' text format. Reads the counters kept with each search, never its trials."""
    stored = CollectorRegistry()
    stored.register(_Stored(store))
    return generate_latest(metrics.registry) + generate_latest(stored)


class _Stored:
    """What the store holds, read anew at each scrape."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterable[Metric]:
        return ()  # or registering would read the database

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("lightnas_database_up", "Whether the database answers.")
        try:
            families = self._read()
        except StoreError:
            families = []  # a scrape that fails would hide that the rest of the service lives
        up.add_metric((), float(bool(families)))
        yield up
        yield from families

    def _read(self) -> list[Metric]:
        found = GaugeMetricFamily("lightnas_searches", "Searches by state.", labels=("state",))
        trials = GaugeMetricFamily("lightnas_trials", "Trials of all searches by state.", labels=("state",))
        queue = GaugeMetricFamily("lightnas_jobs", "Jobs by kind and state.", labels=("kind", "state"))
        oldest = GaugeMetricFamily(
            "lightnas_oldest_queued_job_seconds", "How long the job waits that waits longest; 0: none."
        )
        alive = GaugeMetricFamily("lightnas_workers_alive", "Workers that told lately that they live.")
        capacity = GaugeMetricFamily("lightnas_worker_capacity", "Jobs that the living workers run at once.")
        remote = GaugeMetricFamily("lightnas_evaluations", "Trials with remote evaluators by state.", labels=("state",))
        database = self._store.database
        with database.read() as c:
            sums = [sa.func.sum(searches.c[state]) for state in _TRIALS]
            rows = c.execute(sa.select(searches.c.state, sa.func.count(), *sums).group_by(searches.c.state)).all()
            for row in rows:
                found.add_metric((row[0],), row[1])
            for i, state in enumerate(_TRIALS, 2):
                trials.add_metric((state,), float(sum(row[i] for row in rows)))
            by = (jobs.c.kind, jobs.c.state)
            for kind, state, count in c.execute(sa.select(*by, sa.func.count()).group_by(*by)):
                queue.add_metric((kind, state), count)
            moment = database.now(c)
            waits = (jobs.c.state == "queued") & (jobs.c.not_before.is_(None) | (jobs.c.not_before <= moment))
            first = c.execute(sa.select(sa.func.min(jobs.c.queued_at)).where(waits)).scalar()
            oldest.add_metric((), 0.0 if first is None else max(0.0, (moment - first).total_seconds()))
            by_state = sa.select(evaluations.c.state, sa.func.count()).group_by(evaluations.c.state)
            for state, count in c.execute(by_state):
                remote.add_metric((state,), count)
        workers = self._store.workers.alive()
        alive.add_metric((), len(workers))
        capacity.add_metric((), sum(worker.capacity for worker in workers))
        return [found, trials, queue, oldest, alive, capacity, remote]
