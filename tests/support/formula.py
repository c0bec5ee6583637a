"""An evaluator that costs nothing, for tests of the search itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nas.contracts import smooth_objective
from nas.errors import EvaluationError
from nas.evaluator import Architecture, Evaluation, Evaluator, Progress, Report


class Formula(Evaluator):
    """A smooth accuracy; some encodings fail."""

    name = "formula"
    isolated = False

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        accuracy = smooth_objective(architecture.space)(np.array(architecture.encoding, dtype=np.uint8))
        report(Progress(1, 1))
        if accuracy is None or sum(architecture.encoding) % 11 == 7:
            raise EvaluationError("cannot be judged")
        return Evaluation(accuracy, {"seed": seed})
