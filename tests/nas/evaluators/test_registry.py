from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from nas.errors import EvaluationError, UnknownPlugin
from nas.evaluator import Architecture, Evaluation, Evaluator, Report
from nas.evaluators import build_evaluator, evaluator_names


class Constant(Evaluator):
    """A third party's evaluator."""

    name = "constant"

    def __init__(self, *, value: float = 0.5) -> None:
        self.value = value

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        """Always the same."""
        return Evaluation(self.value)


def _register(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    found = [EntryPoint(name, value, "lightnas.evaluators") for name, value in values.items()]
    monkeypatch.setattr(
        "nas.evaluators.entry_points", lambda *, group, name=None: [e for e in found if name in (None, e.name)]
    )


def test_an_unknown_evaluator_lists_what_there_is() -> None:
    with pytest.raises(UnknownPlugin, match="no evaluator 'psychic'; there are remote, table, training"):
        build_evaluator("psychic")


def test_a_third_party_registers_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "their_package", sys.modules[__name__])
    _register(monkeypatch, constant="their_package:Constant", broken="no_such_package:X", odd="pathlib:Path")
    assert evaluator_names() == ["broken", "constant", "odd", "remote", "table", "training"]
    evaluator = build_evaluator("constant", {"value": 0.25})
    assert isinstance(evaluator, Constant)
    assert evaluator.value == 0.25
    with pytest.raises(UnknownPlugin, match=r"'broken' \(no_such_package:X\) cannot be loaded"):
        build_evaluator("broken")
    with pytest.raises(UnknownPlugin, match="no subclass"):
        build_evaluator("odd")


def test_wrong_options_are_told_with_the_right_ones() -> None:
    with pytest.raises(EvaluationError, match=r"training: .*'epoch'.*options are data, epochs"):
        build_evaluator("training", {"epoch": 3})
    with pytest.raises(EvaluationError, match=r"table: missing.*'path'"):
        build_evaluator("table")


def test_the_registry_does_not_import_torch() -> None:
    code = "import sys, nas.evaluators, nas.evaluators.tabular; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
