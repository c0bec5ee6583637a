from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from api.networks.architecture import describe_network
from api.plans.spec import SearchSpec
from api.rest import paging
from api.store import Store
from latency.predict import latency_model, latency_models
from latency.table import LatencyTable
from nas.cost import flops_model
from nas.graph import Graph
from nas.spaces import build_space, space_names
from nas.spaces.recipe import SpaceSpec
from nas.trial import Trial, TrialState

Ask = Callable[..., httpx.Response]
NAME = "mobilenetv2-small"
SPACE = build_space(NAME)
FLOPS = flops_model(SPACE)
ENCODINGS = SPACE.sample(np.random.default_rng(0), 12)


def trial_of(number: int) -> Trial:
    """Every fourth one ends differently; rewards fall into ties."""
    row = ENCODINGS[number]
    trial = Trial(number, tuple(map(int, row)), costs={"flops": FLOPS.one(row)}, stop_below={"1": 0.1})
    accuracy, extras = 0.5 + number % 3 / 10, {"history": [{"epoch": 0}] * 3}
    match number % 4:
        case 1:
            return trial.pruned(accuracy, accuracy, 1, 2.0, extras)
        case 2 if number > 2:
            return trial.failed("out of memory", 2.0)
        case 3 if number > 8:
            return trial
    return trial.complete(accuracy, accuracy, 2.0, extras)


@pytest.fixture
def table(store: Store, make_table: Callable[..., LatencyTable]) -> LatencyTable:
    made = make_table(SPACE, residuals=tuple(np.random.default_rng(0).normal(0, 0.05, 48).tolist()))
    store.tables.add(made)
    return made


@pytest.fixture
def search(store: Store, table: LatencyTable) -> int:
    """A search with a table and trials in every state."""
    spec = SearchSpec(SpaceSpec(NAME), {"flops": 1e9}, evaluator="table")
    made = store.searches.create(
        spec.to_dict(), space=NAME, space_digest=SPACE.digest, table_digest=table.digest, name="mine"
    )
    log = store.searches.log(made.id)
    for number in range(len(ENCODINGS)):
        trial = trial_of(number)
        log.started(Trial(number, trial.encoding, costs=trial.costs, stop_below=trial.stop_below))
        if trial.state is not TrialState.RUNNING:
            log.finished(trial)
    return made.id


def numbers(ask: Ask, search: int, **params: Any) -> list[int]:
    found: list[int] = []
    cursor: str | None = None
    for _ in range(100):
        more = {"cursor": cursor} if cursor else {}
        answer = ask("GET", f"searches/{search}/trials", by="reader", params={**params, **more})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["items"]) <= params["limit"]
        found += [trial["number"] for trial in answer.json()["items"]]
        cursor = answer.json()["next"]
        if cursor is None:
            break
    return found


@pytest.mark.parametrize("limit", [1, 2, 5, 12, 1000])
def test_pages_hold_every_trial_once_and_in_order(ask: Ask, search: int, limit: int) -> None:
    trials = [trial_of(n) for n in range(len(ENCODINGS))]
    assert numbers(ask, search, limit=limit) == list(range(len(trials)))
    for state in TrialState:
        wanted = [t.number for t in trials if t.state is state]
        assert wanted
        assert numbers(ask, search, limit=limit, state=state.value) == wanted
    for state in ("complete", "pruned"):
        rewards = {t.number: t.reward or 0.0 for t in trials if t.state.value == state}
        ranked = sorted(rewards, key=lambda n: (-rewards[n], n))
        assert numbers(ask, search, limit=limit, state=state, order="reward") == ranked
    ranked = [t.number for t in sorted((t for t in trials if t.state is TrialState.COMPLETE), key=_rank)]
    assert numbers(ask, search, limit=limit, order="reward") == ranked


def _rank(trial: Trial) -> tuple[float, int]:
    return -(trial.reward or 0.0), trial.number


def test_a_list_does_not_carry_what_evaluators_told(ask: Ask, search: int) -> None:
    listed = ask("GET", f"searches/{search}/trials").json()["items"][1]
    assert not {"extras", "attrs", "stop_below"} & set(listed)
    one = ask("GET", f"searches/{search}/trials/1", by="reader").json()
    trial = trial_of(1)
    assert {**listed, "extras": trial.extras, "stop_below": {"1": 0.1}} == one
    assert one["extras"]["pruned_at"] == 1
    assert (one["state"], one["encoding"]) == ("pruned", ",".join(map(str, trial.encoding)))
    assert "out of memory" in ask("GET", f"searches/{search}/trials/6").json()["error"]


def test_what_is_no_page_is_told(ask: Ask, search: int) -> None:
    path = f"searches/{search}/trials"
    cursor = ask("GET", path, params={"limit": 1}).json()["next"]
    for params, field in (
        ({"cursor": cursor, "order": "reward"}, "query.cursor"),
        ({"cursor": paging.encode("trials:number", None)}, "query.cursor"),
        ({"cursor": paging.encode("trials:reward", None, 3), "order": "reward"}, "query.cursor"),
        ({"order": "reward", "state": "failed"}, "query.state"),
        ({"state": "odd"}, "query.state"),
        ({"limit": 0}, "query.limit"),
        ({"limit": 1001}, "query.limit"),
    ):
        answer = ask("GET", path, params=params)
        assert [error["field"] for error in answer.json()["errors"]] == [field], params
    for path in ("searches/99/trials", "searches/99/front", "searches/99/trials/0", f"searches/{search}/trials/99"):
        assert ask("GET", path).status_code == 404
    for path in ("searches/0/trials", f"searches/{search}/trials/-1", f"searches/{2**31}/trials"):
        assert ask("GET", path).status_code == 422


def test_an_architecture_adds_up(ask: Ask, search: int, table: LatencyTable) -> None:
    models = latency_models(table, SPACE)
    for number in (0, 5):
        row = ENCODINGS[number]
        about = ask("GET", f"searches/{search}/trials/{number}/architecture", by="reader").json()
        graph, totals = SPACE.graph(row), about["totals"]
        assert about["genes"] == SPACE.decode(row)
        assert (about["table"], about["board"]) == (table.digest, "here")
        assert [op["path"] for op in about["ops"]] == [node.path for node in graph.nodes]
        assert (totals["flops"], totals["params"]) == (graph.flops, graph.params)
        for cost in ("flops", "params"):
            assert sum(op[cost] for op in about["ops"]) == sum(s[cost] for s in about["stages"]) == totals[cost]
        predicted = sum(op["predicted_ms"] for op in about["ops"]) + totals["overhead_ms"]
        assert predicted == pytest.approx(totals["predicted_ms"])
        assert totals["predicted_ms"] == pytest.approx(models["latency_ms"].one(row))
        assert sum(s["predicted_ms"] for s in about["stages"]) == pytest.approx(predicted - totals["overhead_ms"])
        assert sum(op["share"] for op in about["ops"]) <= 1
        assert (totals["low_ms"], totals["high_ms"]) == pytest.approx(
            (models["low_ms"].one(row), models["high_ms"].one(row))
        )
        assert [op["measured_ms"] for op in about["ops"] if op["kind"] == "conv"] == pytest.approx(
            [1e-3 + node.op.flops / 1e9 for node in graph.nodes if node.op.kind == "conv"]
        )
        assert [path for s in about["stages"] for b in s["blocks"] for path in b["ops"]] == [
            n.path for n in graph.nodes
        ]


def test_stages_are_told_as_people_speak_of_them(ask: Ask, search: int) -> None:
    about = ask("GET", f"searches/{search}/trials/0/architecture").json()
    stages = {stage["name"]: stage for stage in about["stages"]}
    assert {name for stage in stages.values() for name in stage["genes"]} == set(about["genes"])
    for stage in stages.values():
        for gene, value in stage["genes"].items():
            knob = gene.partition(".")[2]
            if knob in ("width", "repeats"):
                assert stage[knob] == value
            elif knob == "kernel":
                assert {block["kernel"] for block in stage["blocks"]} == {value}
            elif knob == "expansion":
                assert {block["expansion"] for block in stage["blocks"]} == {value}
        assert stage["repeats"] == len(stage["blocks"])
        assert stage["blocks"][-1]["output"] == [stage["width"], *stage["resolution"]]


def test_an_architecture_is_enough_to_build_the_network(ask: Ask, search: int) -> None:
    about = ask("GET", f"searches/{search}/trials/3/architecture").json()
    wires = [{"path": op["path"], "op": _key(op), "inputs": op["reads"]} for op in about["ops"]]
    assert Graph.from_dict({"input": about["input"], "nodes": wires}) == SPACE.graph(ENCODINGS[3])


def _key(op: dict[str, Any]) -> str:
    from nas.op import Op

    shapes = {name: tuple(map(tuple, op[name])) for name in ("inputs", "outputs")}
    pairs = {name: tuple(op[name]) for name in ("kernel", "stride")}
    return Op(op["kind"], **shapes, **pairs, groups=op["groups"], act=op["act"], norm=op["norm"], bias=op["bias"]).key


def test_without_a_table_nothing_is_predicted(ask: Ask, store: Store) -> None:
    spec = SearchSpec(SpaceSpec("nas-bench-macro"), evaluator="table")
    made = store.searches.create(spec.to_dict(), space="x", space_digest=spec.space.build().digest)
    store.searches.log(made.id).started(Trial(0, (0, 1, 2, 0, 1, 2, 0, 1)))
    about = ask("GET", f"searches/{made.id}/trials/0/architecture").json()
    assert about["totals"]["predicted_ms"] is None
    assert {op["predicted_ms"] for op in about["ops"]} == {None}
    assert {op["measured_ms"] for op in about["ops"]} == {None}


def test_a_search_of_another_version_of_its_space_is_not_decoded(ask: Ask, store: Store) -> None:
    spec = SearchSpec(SpaceSpec("nas-bench-macro"), evaluator="table")
    made = store.searches.create(spec.to_dict(), space="nas-bench-macro", space_digest="0" * 64)
    store.searches.log(made.id).started(Trial(0, (0,) * 8))
    answer = ask("GET", f"searches/{made.id}/trials/0/architecture")
    assert answer.status_code == 409
    assert "another version" in answer.json()["detail"]


@pytest.mark.parametrize("name", space_names())
def test_every_space_is_described_in_finite_numbers(name: str) -> None:
    space = build_space(name)
    row = space.row([len(g.choices) - 1 for g in space.genes])
    about = describe_network(space, row)
    assert json.loads(json.dumps(about, allow_nan=False)) == about
    assert sum(s["params"] for s in about["stages"]) == space.graph(row).params
    assert {name for s in about["stages"] for name in s["genes"]} <= set(about["genes"])


def test_an_untrained_network_is_an_onnx_file_that_runs(ask: Ask, search: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    answer = ask("GET", f"searches/{search}/trials/2/onnx", by="reader")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert f'filename="search-{search}-trial-2.onnx"' in answer.headers["content-disposition"]
    session = onnxruntime.InferenceSession(answer.content, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    (y,) = session.run(None, {"input": x})
    assert y.shape == (2, 10)
    assert np.isfinite(y).all()
    assert y.std() > 1e-3
    assert answer.content == ask("GET", f"searches/{search}/trials/2/onnx").content


def test_fronts_are_served(ask: Ask, search: int, table: LatencyTable) -> None:
    trials = [t for t in map(trial_of, range(len(ENCODINGS))) if t.state is TrialState.COMPLETE]
    ms = latency_model(table, SPACE)(np.array([t.encoding for t in trials], dtype=np.uint8))
    found = ask("GET", f"searches/{search}/front", by="reader", params={"by": "latency_ms", "at": [1e-6, 1e6]}).json()
    assert (found["by"], found["confidence"]) == ("latency_ms", 0.95)
    assert found["front"][0]["number"] == trials[int(ms.argmin())].number
    costs, accuracies = ([t[key] for t in found["front"]] for key in ("cost", "accuracy"))
    assert (sorted(costs), sorted(accuracies)) == (costs, accuracies)
    assert found["answers"][0]["best"] is None
    assert found["answers"][1]["best"]["accuracy"] == max(t.accuracy or 0 for t in trials)
    for params in ({"by": "speed"}, {"at": "nan"}, {"at": -1}, {"at": [1.0] * 101}):
        assert ask("GET", f"searches/{search}/front", params=params).status_code == 422


def test_outcomes_are_those_of_the_complete_trials(store: Store, search: int) -> None:
    trials = [t for t in map(trial_of, range(len(ENCODINGS))) if t.state is TrialState.COMPLETE]
    found = store.trials.outcomes(search)
    assert found.numbers.tolist() == [t.number for t in trials]
    assert found.encodings.tolist() == [list(t.encoding) for t in trials]
    assert found.accuracies.tolist() == [t.accuracy for t in trials]
    assert len(store.trials.outcomes(999).numbers) == 0
