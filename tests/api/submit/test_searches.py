from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest

from api.data.root import DataRoot
from api.errors import OptionError
from api.schemas.searches import SearchRequest
from api.settings import Settings
from api.store import Store
from api.submit.searches import plan_search, read_request, served_options
from latency.board import Board
from latency.table import LatencyTable
from nas.errors import UnknownPlugin
from nas.evaluator import Architecture, Evaluation, Evaluator, Report
from nas.evaluators import evaluator_names, find_evaluator
from nas.spaces import build_space

Nas = Callable[..., tuple[int, str, str]]


class Theirs(Evaluator):
    """A third party's evaluator."""

    name = "theirs"
    served_options: ClassVar[Mapping[str, str]] = {"depth": "number", "pictures": "data", "weights": "checkpoint"}

    def __init__(self, *, depth: int = 1, pictures: str = "", weights: str = "", code: str = "") -> None:
        self.given = (depth, pictures, weights, code)

    def evaluate(self, architecture: Architecture, *, seed: int, workdir: Path, report: Report) -> Evaluation:
        """Always the same."""
        return Evaluation(0.5)


class Silent(Theirs):
    """One that declares nothing."""

    name = "silent"
    served_options: ClassVar[Mapping[str, str]] = {}


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "their_package", sys.modules[__name__])
    found = [
        EntryPoint(name, f"their_package:{kind}", "lightnas.evaluators")
        for name, kind in (("theirs", "Theirs"), ("silent", "Silent"))
    ]
    monkeypatch.setattr(
        "nas.evaluators.entry_points", lambda *, group, name=None: [e for e in found if name in (None, e.name)]
    )


@pytest.fixture
def root(tmp_path: Path, benchmark_table: Path) -> DataRoot:
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    benchmark_table.rename(folder / "recorded.csv")
    for name in ("a", "b"):
        (folder / "pictures" / name).mkdir(parents=True)
    return DataRoot(folder, tmp_path / "home")


def test_a_command_and_a_request_come_to_the_same_search(
    nas: Nas, root: DataRoot, home: Path, make_table: Callable[..., LatencyTable]
) -> None:
    with Store.open() as store:
        store.tables.add(make_table(build_space("nas-bench-macro"), "pi4", residuals=tuple(i / 100 for i in range(20))))
        store.boards.add(Board("pi4", "local", "ncnn"))
    of_space = {"space": "nas-bench-macro", "evaluator": "table", "data": "recorded.csv", "trials": 3}
    command = (
        "--space",
        "nas-bench-macro",
        "--evaluator",
        "table",
        "--data",
        root.file("recorded.csv"),
        "--trials",
        "3",
    )
    both: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("--flops", "30e6"), {"budgets": {"flops": 30e6}}),
        (("--board", "pi4", "--latency-ms", "50"), {"board": "pi4", "budgets": {"latency_ms": 50}}),
        (
            ("--table", "pi4", "--latency-ms", "50", "--confidence", "0.9", "--seed", "7", "--parallel", "2"),
            {"table": "pi4", "budgets": {"latency_ms": 50}, "confidence": 0.9, "seed": 7, "parallel": 2},
        ),
        (
            (
                "--strategy",
                "annealing",
                "--chains",
                "2",
                "--t0",
                "0.1",
                "--start",
                "0,0,0,0,0,0,0,0",
                "-o",
                "key=digits",
            ),
            {
                "strategy": "annealing",
                "strategy_options": {"chains": 2, "t0": 0.1, "start": "0,0,0,0,0,0,0,0"},
                "evaluator_options": {"key": "digits"},
            },
        ),
        (("--front", "params"), {"front": "params"}),
        (("--from", "s0", "--stop-when", "0.01"), {"from": "s0", "stop_when": 0.01}),
    ]
    for number, (more, changes) in enumerate(both):
        status, _, err = nas("search", *command, *more, "--name", f"s{number}")
        assert status == 0, err
        with Store.open() as store:
            stored = store.searches.get(f"s{number}")
            request = SearchRequest.model_validate(of_space | changes)
            plan, board = plan_search(store, read_request(request, root))
        assert plan.spec.to_dict() == stored.spec
        assert (board, plan.table.digest if plan.table else None) == (stored.board, stored.table_digest)
        assert plan.space.digest == stored.space_digest


def test_a_training_has_the_classes_of_its_data(root: DataRoot, tmp_path: Path) -> None:
    request = SearchRequest.model_validate(
        {"space": "mobilenetv2-small", "data": "digits", "epochs": 2, "inherit": True, "rungs": [1], "eta": 2.0}
    )
    asked = read_request(request, root)
    assert asked.space.classes is None
    assert asked.evaluator_options == {"data": "digits", "epochs": 2, "inherit": True}
    with Store.open(Settings(tmp_path / "h")) as store:
        spec = plan_search(store, asked)[0].spec
    assert (spec.space.classes, spec.rungs, spec.eta) == (10, (1,), 2.0)


@pytest.mark.usefixtures("theirs")
def test_an_evaluator_takes_what_it_declares(root: DataRoot) -> None:
    given = {"depth": 3, "pictures": "folder:pictures", "weights": "pictures/a"}
    assert served_options("theirs", given, root) == {
        "depth": 3,
        "pictures": f"folder:{root.root}/pictures",
        "weights": f"{root.root}/pictures/a",
    }
    for refused, told in (
        ({"code": "import os"}, "takes no option 'code' from a request; it takes depth, pictures, weights"),
        ({"depth": "3"}, "depth of evaluator theirs must be a number, not '3'"),
        ({"depth": True}, "must be a number"),
        ({"pictures": 3}, "must be a data, not 3"),
        ({"pictures": "folder:/etc"}, "no path below the data root"),
        ({"weights": "../x"}, "no path below the data root"),
    ):
        with pytest.raises(OptionError, match=told):
            served_options("theirs", refused, root)
    assert served_options("silent", {}, root) == {}
    with pytest.raises(OptionError, match="takes no option 'depth' from a request; it takes none"):
        served_options("silent", {"depth": 1}, root)
    with pytest.raises(UnknownPlugin):
        served_options("nobody", {}, root)


@pytest.mark.parametrize(("option", "most"), [("threads", 256), ("gpus", 64), ("batch", 65_536), ("epochs", 100_000)])
def test_what_a_training_takes_of_its_machine_is_bounded(root: DataRoot, option: str, most: int) -> None:
    assert served_options("training", {option: most}, root) == {option: most}
    with pytest.raises(OptionError, match=f"option {option} of evaluator training may be {most} at most, not"):
        served_options("training", {option: most + 1}, root)


def test_what_evaluators_declare_are_options_of_theirs() -> None:
    for name in evaluator_names():
        kind = find_evaluator(name)
        assert set(kind.served_options) <= set(inspect.signature(kind).parameters), name
        assert set(kind.served_options.values()) <= {"number", "flag", "text", "data", "file", "checkpoint"}
    assert not {"cache_dir", "init_digest", "teacher_digest"} & set(find_evaluator("training").served_options)


def test_requests_are_bounded() -> None:
    """No number of a request is without a limit, and no text without a longest length."""
    schema = SearchRequest.model_json_schema()
    for name, part in schema["properties"].items():
        for one in part.get("anyOf", [part]):
            if one.get("type") in ("integer", "number"):
                assert {"minimum", "exclusiveMinimum"} & set(one), name
                assert {"maximum", "exclusiveMaximum"} & set(one), name
            elif one.get("type") == "string" and "enum" not in one:
                assert "pattern" in one, name
            elif one.get("type") == "array":
                assert "maxItems" in one, name
