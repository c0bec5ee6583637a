"""A stored search of many trials without a training: real proposals of a real strategy, a made-up accuracy.

    python benchmarks/sample_search.py --trials 10000 --name sample

writes it to the database of LIGHTNAS_HOME. What it shows is for looking at (the dashboard, load), never a result.
"""

from __future__ import annotations

import argparse
import datetime as dt

import numpy as np
import sqlalchemy as sa

from api.boards.tables import find_table
from api.compose import store_search
from api.networks.spaces import kept_space
from api.plans.plan import build_plan
from api.plans.spec import SearchSpec
from api.store import Store
from api.store.models import searches, trials
from nas.spaces.recipe import SpaceSpec
from nas.strategies import build_strategy
from nas.trial import Trial, TrialState

_SECONDS = 20.0  # a trial's training, about


def fill(store: Store, name: str, count: int, *, board: str | None = None, strategy: str = "annealing") -> int:
    """Store a complete search of `count` trials; its number.

    Args:
        store: where.
        name: of the search.
        count: trials.
        board: whose newest table prices latency, which is then limited, too.
        strategy: who proposes.
    """
    recipe = SpaceSpec.of("mobilenetv2-small", resolution=(16,), channels=1, classes=10)
    space = kept_space(recipe).space
    table = None if board is None else find_table(store, board, space)
    budgets = {"flops": 2.5e6} if table is None else {"latency_ms": 0.14}
    spec = SearchSpec(
        recipe, budgets, strategy=strategy, evaluator="remote", evaluator_options={"steps": 2}, trials=count
    )
    plan = build_plan(spec, table)
    chosen = build_strategy(strategy, plan.space, plan.budgets, spec.seed)
    rng = np.random.default_rng(1)
    weight = rng.dirichlet(np.ones(len(space.genes)))
    record = store_search(store, plan, board=board, name=name, owner="ada", state="complete")
    now = dt.datetime.now(dt.UTC)
    first = now - dt.timedelta(seconds=_SECONDS * count)
    began, rows, states = first, [], dict.fromkeys(TrialState, 0)
    for number in range(count):
        row = chosen.ask(number)
        costs = {metric: float(model.one(row)) for metric, model in plan.costs.items()}
        trial = Trial(number, tuple(int(v) for v in row), costs=costs, attrs=dict(chosen.attrs(number)))
        good = float((weight * row / (space.cardinalities - 1)).sum())
        accuracy = float(np.clip(0.985 - 0.5 * np.exp(-4.2 * good) + rng.normal(0, 0.008), 0.05, 1))
        seconds = _SECONDS * float(rng.uniform(0.6, 1.4))
        ended = (
            trial.failed("the training diverged: its loss is not a number", seconds)
            if rng.random() < 0.01
            else trial.complete(accuracy, accuracy, seconds, {"epochs": 2})
        )
        chosen.tell(ended)
        states[ended.state] += 1
        began += dt.timedelta(seconds=seconds)
        rows.append(
            {
                "search_id": record.id, "number": number, "encoding": ",".join(map(str, ended.encoding)),
                "state": ended.state.value, "accuracy": ended.accuracy, "reward": ended.reward, "costs": costs,
                "seconds": seconds, "error": ended.error, "extras": dict(ended.extras), "attrs": dict(ended.attrs),
                "stop_below": {}, "started_at": began - dt.timedelta(seconds=seconds), "finished_at": began,
            }
        )  # fmt: skip
    complete = [r for r in rows if r["state"] == "complete"]
    best = max(complete, key=lambda r: (r["reward"], -r["number"]))
    with store.database.write() as c:
        c.execute(sa.insert(trials), rows)
        values = {state.value: n for state, n in states.items() if n}
        values |= {"best_reward": best["reward"], "best_number": best["number"]}
        values |= {"created_at": first, "finished_at": began}
        c.execute(sa.update(searches).where(searches.c.id == record.id).values(values))
    return record.id


def main() -> None:
    """Fill the database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--name", default="sample")
    parser.add_argument("--board")
    parser.add_argument("--strategy", default="annealing")
    options = parser.parse_args()
    with Store.open() as store:
        number = fill(store, options.name, options.trials, board=options.board, strategy=options.strategy)
    print(f"search {number} has {options.trials} trials")


if __name__ == "__main__":
    main()
