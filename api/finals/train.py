"""The trainings of a final: in processes of their own, resumable, each kept in the store when it ends."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.finals.contestants import Contestant
from api.store import Store
from api.store.searches import SearchRecord
from nas.evaluator import Evaluation, Progress
from nas.executor import Executor, Outcome, Step, Task, build_executor
from nas.strategy import Role, seed32

GRACE_S = 60.0  # for running trainings to reach their next checkpoint when the final is stopped
_TICK_S = 0.5
_PLACES = ("cache_dir", "device", "gpus", "threads")
_PATHS = ("init", "teacher")  # their digests say what they are


@dataclass(frozen=True)
class Training:
    """One network trained with one seed.

    Attributes:
        contestant: the network.
        seed: of the training.
        key: of network, options and seed; names the training's folder.
        evaluation: its result; None if it failed.
        error: why it failed.
        seconds: it took.
    """

    contestant: Contestant
    seed: int
    key: str
    evaluation: Evaluation | None = None
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class FinalEvent:
    """What happens in a final: a training reached a step, or ended."""

    training: Training
    progress: Progress | None = None


def decisive(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say what a training is, without those that say where it runs and where its files are."""
    return {name: value for name, value in options.items() if name not in (*_PLACES, *_PATHS)}


class Stopped(Exception):
    """The final was stopped; what it has is kept."""


@dataclass
class Trainings:
    """Trains contestants.

    Attributes:
        store: where results are kept.
        record: the search.
        options: of the evaluator `training`.
        parallel: trainings at once.
        on_event: told what happens.
        should_stop: asked twice a second whether to end.
    """

    store: Store
    record: SearchRecord
    options: Mapping[str, Any]
    parallel: int = 1
    on_event: Callable[[FinalEvent], None] = lambda event: None
    should_stop: Callable[[], bool] = lambda: False
    _ended: list[Training] = field(default_factory=list)

    def run(self, contestants: Sequence[Contestant], seeds: Sequence[int]) -> list[Training]:
        """Every contestant with every seed, seed by seed; a training done before is taken from its checkpoint.

        Raises:
            Stopped: by Ctrl-C or `should_stop`, each training after its next step.
            SearchError: no training can succeed (data that is missing, a full disk).
        """
        wanted = [Training(c, seed, self.key(c, seed)) for seed in seeds for c in contestants]
        self._ended = []
        for space in dict.fromkeys(t.contestant.space for t in wanted):
            group = [t for t in wanted if t.contestant.space == space]
            executor = build_executor(
                space, space.build(), "training", self.options, parallel=self.parallel, workdir=self.folder
            )
            try:
                self._run_group(executor, group)
            except (KeyboardInterrupt, Stopped):
                executor.stop(GRACE_S)
                raise Stopped from None
            finally:
                executor.close()
        order = {t.key: i for i, t in enumerate(wanted)}
        return sorted(self._ended, key=lambda t: order[t.key])

    @property
    def folder(self) -> Path:
        """Where all final trainings of the search keep their checkpoints."""
        folder = self.store.settings.search_folder(self.record.id) / "final"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def key(self, contestant: Contestant, seed: int) -> str:
        """Names a training by what it is, but for its pictures: the processes that train read those, this one does not.

        Checkpoints made from other pictures lie side by side in its folder (`nas.training.trainer`).
        """
        facts = [contestant.space.to_dict(), contestant.encoding, decisive(self.options), seed]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def _run_group(self, executor: Executor, group: list[Training]) -> None:
        for number, t in enumerate(group):
            executor.submit(Task(number, t.contestant.encoding, t.seed, self.folder / t.key))
        left = len(group)
        while left:
            if self.should_stop():
                raise Stopped
            for report in executor.wait(_TICK_S):
                if isinstance(report, Step):
                    self.on_event(FinalEvent(group[report.number], report.progress))
                else:
                    left -= 1
                    self._end(group[report.number], report)

    def _end(self, training: Training, outcome: Outcome) -> None:
        result = outcome.result
        if isinstance(result, Evaluation):
            training = dataclasses.replace(training, evaluation=result, seconds=outcome.seconds)
            facts = {
                "val_accuracy": result.accuracy,
                "history": result.extras["history"],
                "init": result.extras.get("init"),
                "seconds": training.seconds,
            }
            self.keep(training.contestant, training.seed, facts)
        else:
            training = dataclasses.replace(training, error=result, seconds=outcome.seconds)
        self._ended.append(training)
        self.on_event(FinalEvent(training))

    def keep(self, contestant: Contestant, seed: int, facts: Mapping[str, Any]) -> None:
        """Keep what is known of a training."""
        about = {
            "label": contestant.label,
            "trial": None if contestant.trial is None else contestant.trial.number,
            "space": contestant.space.to_dict(),
            "encoding": ",".join(map(str, contestant.encoding)),
            "options": dict(self.options),
            "seed": seed,
        }
        self.store.trainings.save(self.record.id, self.key(contestant, seed), {**about, **facts})


def final_seeds(seed: int, count: int) -> list[int]:
    """The seeds of a search's final trainings: the same for all networks, and for the search whenever it is asked."""
    return [seed32(seed, i, Role.FINAL) for i in range(count)]
