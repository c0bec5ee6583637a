"""The `remote` evaluator: clients elsewhere ask a server for trials and tell it their accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from nas.errors import EvaluationError
from nas.evaluator import Architecture, Evaluation, Evaluator, Report

LEASE_S = (5.0, 86_400.0)
ATTEMPTS = (1, 100)


class RemoteEvaluator(Evaluator):
    """Stands for the clients that evaluate a search's trials; itself it evaluates nothing.

    Args:
        lease_s: a trial whose client is silent for so long is given to another one.
        attempts: a trial lost so often has failed.
        steps: how many steps (epochs) clients report, each with `val_accuracy`; rungs need them. 0: they may report
            none.

    Raises:
        EvaluationError: an option makes no sense.
    """

    name = "remote"
    served_options: ClassVar[Mapping[str, str]] = dict.fromkeys(("lease_s", "attempts", "steps"), "number")

    def __init__(self, *, lease_s: float = 60.0, attempts: int = 3, steps: int = 0) -> None:
        if type(lease_s) not in (int, float) or not LEASE_S[0] <= lease_s <= LEASE_S[1]:
            raise EvaluationError(f"remote option lease_s is {lease_s!r}; it must be from {LEASE_S[0]:g} s to a day")
        if type(attempts) is not int or not ATTEMPTS[0] <= attempts <= ATTEMPTS[1]:
            raise EvaluationError(f"remote option attempts is {attempts!r}; it must be from 1 to {ATTEMPTS[1]}")
        if type(steps) is not int or steps < 0:
            raise EvaluationError(f"remote option steps is {steps!r}; it must be a whole number of at least 0")
        self.lease_s, self.attempts, self.steps = float(lease_s), attempts, steps

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        """Refuse: there is nobody here who could.

        Raises:
            EvaluationError: always.
        """
        raise EvaluationError("trials of the evaluator remote are evaluated by clients of a server, not here")
