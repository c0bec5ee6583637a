"""A final, from a search's best networks to the one that wins: measured, trained, chosen, compared."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from api.errors import OptionError
from api.finals.contestants import (
    Contestant,
    at_the_edge,
    family_candidates,
    family_limit_ms,
    finalist,
    in_doubt,
    keeps,
    missing,
)
from api.finals.deliver import format_trial, keep_measurements
from api.finals.report import Result, compare
from api.finals.spec import FinalSpec, final_options
from api.finals.train import FinalEvent, Training, Trainings, final_seeds
from api.finals.winner import Winner, describe_winner, load_trained, of_same_data, won_final
from api.plans.checkpoints import check_init
from api.plans.checks import check_training
from api.plans.plan import Plan
from api.results.picks import pick_trials
from api.store import Store
from api.store.searches import SearchRecord
from latency.link import PatientLink
from latency.passes import ProgressSink
from latency.verify import Timed, time_graphs, with_prediction
from nas.errors import MissingOps
from nas.evaluators.training import TrainingEvaluator


class View(Protocol):
    """Shows a final; each bar is entered for as long as its step takes."""

    def note(self, text: str) -> None:
        """Something worth telling."""

    def visits(self, text: str) -> AbstractContextManager[ProgressSink]:
        """A bar for measurements."""

    def trainings(self, total: int) -> AbstractContextManager[Callable[[FinalEvent], None]]:
        """Rows and bars for trainings."""


@dataclass(frozen=True)
class Final:
    """What a final came to.

    Attributes:
        report: `api.finals.report.compare`: every network that was trained, the winner first.
        keys: of all trainings (`api.store.trainings`).
    """

    report: dict[str, Any]
    keys: tuple[str, ...]


def run_final(
    store: Store,
    record: SearchRecord,
    plan: Plan,
    spec: FinalSpec,
    link: PatientLink | None,
    view: View,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> Final:
    """Run it; stopped at any moment, the same call goes on.

    Args:
        store: keeps trainings, measurements and the winner.
        record: the search.
        plan: of it.
        spec: what is asked.
        link: to the search's board; None: latencies are predicted.
        view: shows how it goes.
        should_stop: asked, while it trains, whether to end.

    Raises:
        Stopped: by Ctrl-C or `should_stop`, while it trained.
        SearchBusy: another process runs the search, or a final of it.
        OptionError: the search has nothing to train, or no network keeps the budget when measured.
        LightnasError: a step failed.
    """
    options = final_options(plan.spec, spec.options, store.settings)
    with store.searches.lock(record):
        check_final(plan, options)
        contestants = enter(store, record, plan, spec, link, view)
        seeds = final_seeds(plan.spec.seed, spec.seeds)
        with view.trainings(len(contestants) * len(seeds)) as on_event:
            trainings = Trainings(store, record, options, spec.parallel, on_event, should_stop)
            ended = trainings.run(contestants, seeds)
        for failed in (t for t in ended if t.evaluation is None):
            view.note(f"{failed.contestant.label} is out: its training failed: {failed.error}")
        results = _results(contestants, ended)
        finalists = [r for r in results if not r.contestant.is_baseline]
        if not finalists:
            raise OptionError(f"no training of a network of search {record.name!r} succeeded")
        best = max(finalists, key=lambda r: _rank(plan, r))
        view.note(f"{best.contestant.label} wins; it and the baselines are tested")
        evaluator = TrainingEvaluator(**options)
        tested = [
            _test(trainings, evaluator, r) if r is best or r.contestant.is_baseline else r
            for r in (best, *(r for r in results if r is not best))
        ]
        report = compare(tested[0], tested)
        winner = _winner(trainings, evaluator, tested[0])
        _tell_replaced(store, record, plan, winner, view)
        made = {"report": report, "trials": sum(store.searches.counts(record.id).values()), "open_final": None}
        store.searches.keep_winner(record.id, {**describe_winner(winner), **made})
    return Final(report, tuple(t.key for t in ended if t.evaluation))


def final_curves(store: Store, record: SearchRecord, final: Final) -> str:
    """The learning curves of a final's trainings as SVG, the winner's thicker."""
    from api.export.curves import draw_curves

    kept = {t.key: t for t in store.trainings.of(record.id)}
    drawn = [(kept[key].label, kept[key].history) for key in final.keys]
    return draw_curves(drawn, highlight=final.report["winner"])


def check_final(plan: Plan, options: Mapping[str, Any]) -> None:
    """Tells what cannot be before anything is measured: options, data of other classes, checkpoints that do not fit.

    Raises:
        LightnasError: what it is.
    """
    check_training(plan, options)
    check_init(plan, options)
    TrainingEvaluator(**options).check_teacher(plan.space.inputs[0])


def enter(
    store: Store, record: SearchRecord, plan: Plan, spec: FinalSpec, link: PatientLink | None, view: View
) -> list[Contestant]:
    """Who takes part: the search's best networks, and of each family some at the edge of the budgets.

    With a link all of them are run on the board, in one interleaved measurement; who breaks the latency budget there is
    out. A final that was stopped goes on with what it had measured.

    Raises:
        OptionError: no finalist keeps the budget when measured.
    """
    finalists = [finalist(plan, trial) for trial in pick_trials(store, record, spec.top)]
    families: dict[str, list[Contestant]] = {}
    for family in spec.baselines:
        try:
            families[family] = family_candidates(plan, family, finalists, measured=link is not None)
        except MissingOps as e:
            view.note(missing(e, family))
    if link is not None:
        measured = _measured(store, record, plan, spec, link, view, [*finalists, *itertools.chain(*families.values())])
        finalists = measured[: len(finalists)]
        families = {f: [c for c in measured[len(finalists) :] if c.space.name == f] for f in families}
    kept = [c for c in finalists if keeps(c, plan.spec.hard_budgets.get("latency_ms"))]
    for out in (c for c in finalists if c not in kept):
        view.note(f"{out.label} is out: measured, it takes {out.latency_ms:.4g} ms")
    if not kept:
        raise OptionError(
            f"none of the best {len(finalists)} networks of {record.name!r} keeps the latency budget when measured; "
            "take more with --top, or search with a higher --confidence"
        )
    baselines = []
    for family, members in families.items():
        limit_ms = family_limit_ms(plan, kept)
        edge = at_the_edge(members, limit_ms)
        chosen = sorted(edge, key=lambda c: -c.graph.flops)[: spec.per_family]
        baselines += [c for c in edge if c in chosen]
        for c in (c for c in chosen if in_doubt(c, limit_ms)):
            view.note(f"{c.label} takes part: its {c.latency_ms:.4g} ms are above the limit by less than noise")
        if not edge:
            view.note(f"no network of {family} keeps the budgets")
    return [*kept, *baselines]


def _measured(
    store: Store,
    record: SearchRecord,
    plan: Plan,
    spec: FinalSpec,
    link: PatientLink,
    view: View,
    contestants: Sequence[Contestant],
) -> list[Contestant]:
    """The contestants with their latencies, measured now or when this final was begun."""
    names = [f"{c.space.name} {c.graph.input.shape} {','.join(map(str, c.encoding))}" for c in contestants]
    asked = {"board": link.board.name, "table": record.table_digest, "passes": spec.passes, "networks": names}
    known = (store.searches.by_id(record.id).winner or {}).get("open_final") or {}
    if known.get("asked") == asked:
        view.note(f"the final that was begun goes on, with the {len(names)} latencies it had measured")
        timed = [Timed(**t) for t in known["timed"]]
    else:
        with view.visits(f"run {len(names)} networks on {link.board.name}") as on_progress:
            timed = time_graphs(
                link.board,
                link.open_session,
                [c.graph for c in contestants],
                table=plan.table,
                passes=spec.passes,
                on_progress=on_progress,
            )
        if plan.table is not None:
            verified = {
                format_trial(c.trial): with_prediction(plan.table, c.graph, t)
                for c, t in zip(contestants, timed, strict=True)
                if c.trial is not None
            }
            keep_measurements(store, record, verified)
        opened = {"asked": asked, "timed": [asdict(t) for t in timed]}
        store.searches.keep_winner(record.id, {"open_final": opened})
    return [dataclasses.replace(c, timed=t) for c, t in zip(contestants, timed, strict=True)]


def _results(contestants: Sequence[Contestant], ended: Sequence[Training]) -> list[Result]:
    """Per contestant whose every training succeeded."""
    found = []
    for c in contestants:
        own = [t for t in ended if t.contestant is c]
        done = [t.evaluation for t in own if t.evaluation]
        if len(done) == len(own):
            known = max((e.extras.get("init") or {}).get("share", 0.0) for e in done)
            found.append(Result(c, tuple(t.seed for t in own), tuple(e.accuracy for e in done), known=known))
    return found


def _rank(plan: Plan, result: Result) -> tuple[float, float]:
    """By the search's own reward, of the validation accuracy; the faster of equals."""
    latency_ms = result.contestant.latency_ms
    costs = {**result.contestant.costs, **({} if latency_ms is None else {"latency_ms": latency_ms})}
    return plan.spec.build_reward()(result.val_accuracy, costs), -(latency_ms or 0.0)


def _test(trainings: Trainings, evaluator: TrainingEvaluator, result: Result) -> Result:
    """The result with its answers to the test pictures."""
    hits = []
    for seed in result.seeds:
        _, model = load_trained(trainings, result.contestant, seed, evaluator=evaluator)
        assert model.hits is not None  # it has just been tested
        trainings.keep(result.contestant, seed, {"test_accuracy": model.test_accuracy, "recall": model.recall})
        hits.append(model.hits)
    return dataclasses.replace(result, hits=tuple(hits))


def _winner(trainings: Trainings, evaluator: TrainingEvaluator, result: Result) -> Winner:
    """The winner with the weights of the seed that did best on the validation pictures."""
    seed = max(zip(result.val_accuracies, result.seeds, strict=True), key=lambda pair: pair[0])[1]
    dataset, model = load_trained(trainings, result.contestant, seed, evaluator=evaluator)
    assert result.contestant.trial is not None  # a winner is a finalist
    return Winner(result.contestant.trial, dataset, model, trainings.options, seed)


def _tell_replaced(store: Store, record: SearchRecord, plan: Plan, winner: Winner, view: View) -> None:
    """Says so if an earlier final had chosen other weights."""
    now = store.searches.by_id(record.id)
    earlier = now.winner or {}
    if "report" in earlier and not won_final(now, winner):
        # Networks of one input see the same pictures; of others nothing is known here.
        alike = plan.space.graph(plan.space.parse(earlier["encoding"])).input.shape == winner.dataset.input
        first = "put the data back as it was and " if alike and not of_same_data(earlier, winner.dataset) else ""
        view.note(
            f"it replaces the winner of an earlier final, trial {earlier['trial']} after {earlier['epochs']} epochs; "
            f"to have that one back, {first}repeat the command that chose it"
        )
