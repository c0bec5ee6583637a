"""The only wiring: what a user asked for -> Search. Commands and the REST service build nothing themselves."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.earlier import earlier_trials, revalue
from api.errors import OptionError, StoreError
from api.feasibility import build_budgets
from api.settings import Settings
from api.specs import SearchSpec
from api.store import Store
from api.store.searches import SearchRecord
from latency.interval import DEFAULT_CONFIDENCE, has_intervals
from latency.table import LatencyTable
from nas.cost import CostModel
from nas.errors import LightnasError
from nas.estimate import estimate
from nas.executor import Executor, build_executor
from nas.objective import Budget
from nas.search import Search, SearchEvent, SearchResult, Stopped
from nas.space import SearchSpace
from nas.strategies import build_strategy
from nas.strategy import Role, Strategy, seed32
from nas.trial import Trial

if TYPE_CHECKING:
    from nas.data import Dataset
    from nas.evaluators.training import TrainedModel

DRY_RUN_CANDIDATES = 3


@dataclass(frozen=True)
class Plan:
    """A search with its parts built and checked; nothing is stored yet.

    Attributes:
        spec: what was asked.
        space: built from it.
        table: the latency table pinned, if any.
        costs: metric -> model; FLOPs and parameters always, latency with a table.
        budgets: the hard limits, each possible; a latency's with the spec's confidence.
        earlier: trials of an earlier search that the strategy learns from, with what they are worth here.
    """

    spec: SearchSpec
    space: SearchSpace
    table: LatencyTable | None
    costs: Mapping[str, CostModel]
    budgets: tuple[Budget, ...]
    earlier: tuple[Trial, ...] = ()

    def strategy(self) -> Strategy:
        """A fresh strategy."""
        options = dict(self.spec.strategy_options)
        if self.spec.front is not None:
            options["front"] = self.costs[self.spec.front]
        found = build_strategy(self.spec.strategy, self.space, self.budgets, self.spec.seed, **options)
        if self.earlier:
            found.learn(self.earlier)
        return found


def build_plan(spec: SearchSpec, table: LatencyTable | None, earlier: Sequence[Trial] = ()) -> Plan:
    """Build and check everything a search needs, before anything is stored or trained.

    Args:
        spec: what is asked.
        table: prices latency, if it is to be priced.
        earlier: the trials `spec.earlier` names (`earlier_trials`).

    Raises:
        ImpossibleBudget: with the smallest achievable value.
        LightnasError: whatever else cannot be.
    """
    plan = _plan(spec, table, earlier)
    plan.strategy()  # tells wrong options, and budgets that are possible one by one but not together
    return plan


def _plan(spec: SearchSpec, table: LatencyTable | None, earlier: Sequence[Trial]) -> Plan:
    space = spec.space.build()
    costs, budgets = build_budgets(spec, space, table)
    if spec.front is not None and spec.front not in costs:
        raise OptionError(
            "a front over latency needs a latency table: name a profiled board with --board, or a --table"
        )
    return Plan(spec, space, table, costs, budgets, tuple(revalue(earlier, spec, costs)))


def default_confidence(table: LatencyTable) -> float | None:
    """With which confidence a latency budget holds where the user does not say; None for a table without intervals."""
    return DEFAULT_CONFIDENCE if has_intervals(table) else None


def evaluator_options(spec: SearchSpec, settings: Settings) -> dict[str, Any]:
    """The evaluator's options with what depends on this machine."""
    options = dict(spec.evaluator_options)
    if spec.evaluator == "training":
        options.setdefault("cache_dir", str(settings.home / "cache" / "pictures"))
    return options


def check_evaluator(plan: Plan, settings: Settings) -> None:
    """Raises what would make every trial fail: wrong options, data that is missing or does not fit."""
    spec = plan.spec
    from nas.evaluators import build_evaluator

    spec.build_rungs().check(build_evaluator(spec.evaluator, evaluator_options(spec, settings)))
    if spec.evaluator == "training" and spec.data is not None:
        from nas.data import open_data

        outputs, classes = plan.space.graph([0] * len(plan.space.genes)).output.shape[0], open_data(spec.data).classes
        if outputs != len(classes):
            raise OptionError(
                f"{spec.data} has {len(classes)} classes, but the networks of {plan.space.name} tell {outputs} apart; "
                f"give --classes {len(classes)}"
            )


def create_search(store: Store, plan: Plan, *, board: str | None, name: str | None = None) -> SearchRecord:
    """Store a checked search."""
    check_evaluator(plan, store.settings)
    return store.searches.create(
        plan.spec.to_dict(),
        space=plan.spec.space.name,
        space_digest=plan.space.digest,
        board=board,
        table_digest=None if plan.table is None else plan.table.digest,
        name=name,
    )


def reopen(store: Store, record: SearchRecord) -> Plan:
    """The plan of a stored search.

    Raises:
        StoreError: this program builds another space from the same description.
    """
    spec = SearchSpec.from_dict(record.spec)
    if spec.space.build().digest != record.space_digest:
        raise StoreError(
            f"search {record.name!r} was made with another version of the space {record.space}: its encodings would "
            "mean other networks; go on with the version of lightnas that began it"
        )
    table = None if record.table_digest is None else store.tables.get(record.table_digest)
    return _plan(spec, table, earlier_trials(store, spec))  # the rest was checked when it was stored


def run_search(
    store: Store,
    record: SearchRecord,
    *,
    on_event: Callable[[SearchEvent], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    max_seconds: float | None = None,
) -> SearchResult:
    """Run a stored search to its end, or go on with it.

    Raises:
        SearchBusy: another process runs it.
        LightnasError: it cannot go on; what it has is kept.
    """
    with store.searches.lock(record):
        plan = reopen(store, record)
        workdir = store.settings.search_folder(record.id)
        executor = build_executor(
            plan.spec.space,
            plan.space,
            plan.spec.evaluator,
            evaluator_options(plan.spec, store.settings),
            parallel=plan.spec.parallel,
            workdir=workdir,
        )
        store.searches.set_state(record.id, "running")
        try:
            result = Search(
                plan.space,
                plan.strategy(),
                executor,
                store.searches.log(record.id),
                trials=plan.spec.trials,
                workdir=workdir,
                budgets=plan.budgets,
                costs=plan.costs,
                reward=plan.spec.build_reward(),
                stop_when=plan.spec.stop_when,
                rungs=plan.spec.build_rungs(),
                parallel=plan.spec.parallel,
                seed=plan.spec.seed,
                on_event=on_event,
                should_stop=should_stop,
                max_seconds=max_seconds,
            ).run()
        except BaseException as e:
            with contextlib.suppress(StoreError):  # the disk may be the very thing that failed
                state = "failed" if isinstance(e, LightnasError) else "stopped"
                store.searches.set_state(record.id, state, error=str(e) or None)
            raise
        store.searches.set_beliefs(record.id, None if result.beliefs is None else dataclasses.asdict(result.beliefs))
        done = result.stopped in (Stopped.DONE, Stopped.EXHAUSTED, Stopped.SURE)
        store.searches.set_state(record.id, "complete" if done else "stopped")
        return result


def estimate_hours(plan: Plan, settings: Settings) -> dict[str, Any]:
    """Time a few candidates for one epoch and tell how long the search will take.

    Returns:
        `trial_seconds` of each candidate, their mean `seconds_per_trial`, and `hours`.

    Raises:
        SearchError: none of them could be evaluated.
    """
    spec = plan.spec

    def build(workdir: Path) -> Executor:
        options = evaluator_options(spec, settings)
        return build_executor(spec.space, plan.space, spec.evaluator, options, parallel=spec.parallel, workdir=workdir)

    found = estimate(plan.space, plan.budgets, build, trials=spec.trials, parallel=spec.parallel, seed=spec.seed)
    return {
        "trial_seconds": list(found.trial_seconds),
        "seconds_per_trial": sum(found.trial_seconds) / len(found.trial_seconds),
        "hours": found.hours,
    }


# Results -----------------------------------------------------------------------------------------------------------


def describe_trial(trial: Trial) -> dict[str, Any]:
    """A trial as the command line prints it: encoding, accuracy, FLOPs, parameters, predicted latency."""
    costs = trial.costs
    return {
        "number": trial.number,
        "encoding": ",".join(map(str, trial.encoding)),
        "accuracy": trial.accuracy,
        "flops": int(costs["flops"]) if "flops" in costs else None,
        "params": int(costs["params"]) if "params" in costs else None,
        "predicted_ms": costs.get("latency_ms"),
    }


def summarise_search(store: Store, record: SearchRecord) -> dict[str, Any]:
    """A stored search as JSON types, with its counts and best trial."""
    best = store.searches.best(record.id)
    found = None
    if best:
        t = best[0]
        found = {
            "number": t.number,
            "encoding": ",".join(map(str, t.encoding)),
            "accuracy": t.accuracy,
            "reward": t.reward,
            "costs": dict(t.costs),
        }
    fields = ("id", "name", "state", "space", "board", "table_digest", "spec", "beliefs", "winner", "error")
    return {
        **{f: getattr(record, f) for f in fields},
        "trials": store.searches.counts(record.id),
        "best": found,
        "created_at": record.created_at,
        "finished_at": record.finished_at,
    }


@dataclass(frozen=True)
class Winner:
    """A search's network, trained to the end.

    Attributes:
        trial: of the search.
        dataset: what it was trained and tested on.
        model: weights and accuracies.
        epochs: of the final training.
        seed: of the final training.
    """

    trial: Trial
    dataset: Dataset
    model: TrainedModel
    epochs: int
    seed: int


def train_winner(
    store: Store,
    record: SearchRecord,
    plan: Plan,
    trial: Trial,
    *,
    epochs: int | None = None,
    threads: int = 1,
    report: Callable[[Any], None] = lambda progress: None,
) -> Winner:
    """Train a trial's network to the end and test it, once; a training done before is taken from its checkpoint.

    Raises:
        OptionError: the search did not train on pictures, so there is nothing to train on.
        EvaluationError: the training failed.
    """
    if plan.spec.evaluator != "training":
        raise OptionError(
            f"search {record.name!r} looked accuracies up (evaluator {plan.spec.evaluator}); only a network searched "
            "with --evaluator training can be trained to the end"
        )
    from nas.data import load_data
    from nas.evaluators.trainer import Recipe
    from nas.evaluators.training import FINAL, TrainingEvaluator, train_final

    options = evaluator_options(plan.spec, store.settings)
    evaluator = TrainingEvaluator(**options)
    earlier = record.winner or {}
    if epochs is None and earlier.get("encoding") == ",".join(map(str, trial.encoding)):
        epochs = earlier.get("epochs")
    recipe: Recipe = dataclasses.replace(evaluator.recipe, epochs=epochs or FINAL.epochs)
    graph = plan.space.graph(trial.encoding)
    c, h, w = graph.input.shape
    cache = options.get("cache_dir")
    dataset = load_data(evaluator.data, resolution=(h, w), channels=c, cache=None if cache is None else Path(cache))
    seed = seed32(plan.spec.seed, trial.number, Role.EVALUATE)
    model = train_final(
        graph,
        dataset,
        seed=seed,
        workdir=store.settings.search_folder(record.id) / "final" / f"{trial.number}-{recipe.epochs}",
        report=report,
        recipe=recipe,
        device=str(options.get("device", "auto")),
        amp=bool(options.get("amp", True)),
        threads=threads,
    )
    return Winner(trial, dataset, model, recipe.epochs, seed)


def pick_trials(store: Store, record: SearchRecord, limit: int) -> list[Trial]:
    """The complete trials to take, at most `limit`: the one the strategy recommends, then those of highest reward.

    Raises:
        OptionError: no trial is complete yet.
    """
    best = store.searches.best(record.id, limit)
    if not best:
        raise OptionError(
            f"search {record.name!r} has no complete trial yet; run it: nas search --resume {record.name}"
        )
    if record.beliefs is None:
        return best
    first = store.searches.trial(record.id, int(record.beliefs["recommended"]))
    return [first, *(t for t in best if t.number != first.number)][:limit]


def pick_trial(store: Store, record: SearchRecord) -> Trial:
    """The trial a search's strategy recommends, else the one of the highest reward.

    Raises:
        OptionError: no trial is complete yet.
    """
    return pick_trials(store, record, 1)[0]


def count_classes(data: str) -> int:
    """How many classes a data spec has."""
    from nas.data import open_data

    return len(open_data(data).classes)
