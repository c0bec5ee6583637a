"""The Evaluator port: an architecture -> accuracy. Third parties register theirs under `lightnas.evaluators`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from nas.graph import Graph
from nas.space import SearchSpace


@dataclass(frozen=True)
class Architecture:
    """What an evaluator is given: an encoding and the space that reads it.

    Attributes:
        space: reads the encoding.
        encoding: choice indices.
        parent: the folder of the finished trial it may start from, where the search inherits weights.
    """

    space: SearchSpace
    encoding: tuple[int, ...]
    parent: Path | None = None

    @cached_property
    def graph(self) -> Graph:
        """The decoded network."""
        return self.space.graph(self.encoding)


@dataclass(frozen=True)
class Progress:
    """An intermediate report: after `step` of `steps` (epochs), with what is known by then."""

    step: int
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluator returns: accuracy in [0, 1] on validation data, and JSON extras."""

    accuracy: float
    extras: Mapping[str, Any] = field(default_factory=dict)


Report = Callable[[Progress], None]


class Evaluator(ABC):
    """An architecture -> accuracy.

    An evaluator is built once per process from its options (keyword arguments, JSON types), is picklable through
    those options only, and holds no state between trials.

    Attributes:
        name: the name it is registered under.
        isolated: True if a trial wants a process of its own (a training); False for a look-up.
        steps: how many steps (epochs) an evaluation reports, each with `val_accuracy`; 0: none, then a search with it
            has no rungs.
        served_options: the options that a request over a network may set -> their kind: `number`, `flag` or `text`, or
            what names a file and is therefore looked up below the served data root: `data` (a data spec), `file`, or
            `checkpoint`. An option that is not here is for the command line only: it could name a file or code.
    """

    name: str
    isolated: bool = True
    steps: int = 0
    served_options: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        """Judge one architecture.

        Args:
            architecture: what to judge.
            seed: decides all randomness; the same seed gives the same accuracy on the same build and CPU.
            workdir: a folder of this trial; a checkpoint found there is resumed, to the identical result. It
                exists if `isolated`; a look-up that wants it makes it (100 000 look-ups need no 100 000 folders).
            report: called after each step, when its checkpoint is safe; may be ignored where `steps` is 0. A resumed
                evaluation first reports the steps before the checkpoint again, with the same metrics: if the process
                was killed before it was decided at a step whether to go on, that is decided now. What `report` raises
                ends the evaluation: let it pass.

        Raises:
            EvaluationError: this architecture cannot be judged; the trial is told as failed.
        """
