"""The catalogue: what a form for a new search has to offer."""

from __future__ import annotations

import contextlib
import dataclasses
from functools import lru_cache
from importlib.metadata import entry_points

from fastapi import APIRouter

from api.data.listing import list_data
from api.rest.deps import ServiceDep
from api.rest.guard import Reader
from api.rest.heavy import HEAVY
from api.schemas.catalogue import Catalogue, DatasetOut, EvaluatorOut, MetricOut, StrategyOut
from api.schemas.searches import SearchRequest
from latency.engines import engine_names
from nas.errors import EvaluationError, UnknownPlugin
from nas.evaluators import build_evaluator, evaluator_names, find_evaluator
from nas.objective import METRICS
from nas.strategies import strategy_names

router = APIRouter(prefix="/api/v1/catalogue", tags=["catalogue"])
_STRATEGIES = {
    "guided": "Annealing over a model of the reward made of the trials so far: fewest trainings.",
    "annealing": "Simulated annealing: changes an accepted network, and accepts worse ones ever less often.",
    "random": "Uniform over the networks inside the budgets: the baseline.",
    "tpe": "Optuna's tree-structured Parzen estimator.",
    "nsga2": "Optuna's evolutionary NSGA-II.",
    "gp": "Optuna's Gaussian process.",
}
_TITLES = {
    "latency_ms": "latency",
    "flops": "FLOPs",
    "params": "parameters",
    "model_mb": "model size",
    "peak_memory_mb": "peak memory",
}


@router.get("", dependencies=HEAVY)
def catalogue(service: ServiceDep, _user: Reader) -> Catalogue:
    """The choices for a new search: strategies, evaluators, data sets, metrics, engines, and its defaults."""
    listing = list_data(service.data)
    defaults = SearchRequest.model_validate({"space": "any"}).model_dump(mode="json", by_alias=True)
    return Catalogue(
        strategies=list(_strategies()),
        evaluators=list(_evaluators()),
        datasets=[DatasetOut(**dataclasses.asdict(found)) for found in listing.datasets],
        csv_files=list(listing.csv_files),
        metrics=[MetricOut(name=name, unit=unit, title=_TITLES[name]) for name, unit in METRICS.items()],
        board_engines=engine_names(),
        defaults={field: value for field, value in defaults.items() if field != "space"},
    )


@lru_cache(maxsize=1)
def _strategies() -> tuple[StrategyOut, ...]:
    others = {entry.name: entry for entry in entry_points(group="lightnas.strategies")}
    found = []
    for name in strategy_names():
        if name in _STRATEGIES:
            found.append(StrategyOut(name=name, summary=_STRATEGIES[name]))
            continue
        with contextlib.suppress(Exception):  # a plug-in that cannot be loaded cannot be chosen
            found.append(StrategyOut(name=name, summary=_first_line(others[name].load())))
    return tuple(found)


@lru_cache(maxsize=1)  # importing torch takes seconds
def _evaluators() -> tuple[EvaluatorOut, ...]:
    found = []
    for name in evaluator_names():
        with contextlib.suppress(UnknownPlugin):  # as above
            kind = find_evaluator(name)
            steps = kind.steps
            with contextlib.suppress(EvaluationError):  # it has options without defaults
                steps = build_evaluator(name).steps
            found.append(
                EvaluatorOut(name=name, summary=_first_line(kind), steps=steps, options=dict(kind.served_options))
            )
    return tuple(found)


def _first_line(described: object) -> str:
    return next(iter((described.__doc__ or "").strip().splitlines()), "")
