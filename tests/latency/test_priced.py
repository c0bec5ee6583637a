from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latency.engines import get_engine
from latency.importers import Imported, Unsupported
from latency.importers.draft import Draft
from latency.importers.ncnn import from_param
from latency.predict import Prediction, missing_kernels, predict, predict_interval
from latency.priced import inference_form, price
from latency.table import Calibration, Entry, Identity, LatencyTable, Provenance
from nas.graph import Graph
from nas.space import SearchSpace
from nas.spaces import build_space


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return build_space("mobilenetv2-small")


@pytest.fixture(scope="module", params=["ncnn", "onnxruntime"])
def table(request: pytest.FixtureRequest, space: SearchSpace) -> LatencyTable:
    engine = get_engine(request.param)
    keys = sorted({key for place in space.compiled.places if (key := engine.kernel_key(place)) is not None})
    rng = np.random.default_rng(0)
    return LatencyTable(
        identity=Identity("b", "m", "x86_64", request.param, "1", "fp32", 1, (0,), ""),
        entries={key: Entry(float(ms), 0.1, 9) for key, ms in zip(keys, rng.uniform(0.01, 1, len(keys)), strict=True)},
        offset_ms=0.5,
        calibration=Calibration(1.3, 8, 1.0, None, residuals=(0.01, -0.01, 0.02, -0.02, 0.0)),
        provenance=Provenance("", "", (), 1, 1, 1.0, ""),
    )


def network(space: SearchSpace, seed: int) -> Graph:
    return space.graph(space.sample(np.random.default_rng(seed))[0])


def test_a_network_of_the_space_costs_what_it_costs_there(space: SearchSpace, table: LatencyTable) -> None:
    for seed in range(5):
        graph = network(space, seed)
        read = from_param(get_engine("ncnn").build(graph).model)
        priced = price(table, read)
        assert priced.prediction is not None
        assert priced.prediction.ms == pytest.approx(predict(table, graph))
        assert priced.prediction == predict_interval(table, inference_form(graph))
        assert priced.known_ms == pytest.approx(priced.prediction.ms)
        assert (priced.missing, priced.prediction.confidence) == ([], 0.9)
        assert missing_kernels(table, inference_form(graph).places()) == 0


def test_a_layer_without_a_bias_costs_what_one_with_costs(space: SearchSpace, table: LatencyTable) -> None:
    graph = network(space, 0)
    bare = Graph(graph.input.shape)
    for node in graph.nodes:
        bare.nodes.append(node._replace(op=replace(node.op, norm=False, bias=False)))
    assert price(table, Imported(bare, (), 1)).prediction == price(table, Imported(graph, (), 1)).prediction


def test_what_is_missing_is_listed_and_the_rest_is_priced(space: SearchSpace, table: LatencyTable) -> None:
    graph = network(space, 1)
    whole = price(table, Imported(graph, (), 1))
    gone = {whole.ops[0].kernel, whole.ops[-1].kernel}
    poor = replace(table, entries={k: e for k, e in table.entries.items() if k not in gone})
    priced = price(poor, Imported(graph, (), 1))
    assert {op.kernel for op in priced.missing} == gone
    assert {graph.nodes[0].path, graph.nodes[-1].path} <= {op.path for op in priced.missing}
    assert priced.prediction is None
    lost_ms = sum(op.ms or 0.0 for op in whole.ops if op.kernel in gone)
    assert priced.known_ms == pytest.approx(whole.known_ms - lost_ms)
    assert missing_kernels(poor, inference_form(graph).places()) == len(gone)


def test_what_no_op_expresses_leaves_the_whole_unknown(space: SearchSpace, table: LatencyTable) -> None:
    graph = network(space, 2)
    odd = Unsupported("x", "Softmax", "no such op")
    priced = price(table, Imported(graph, (odd,), 1))
    assert (priced.prediction, priced.unsupported) == (None, (odd,))
    assert priced.known_ms == pytest.approx(predict(table, graph))


def test_foreign_tensors_do_no_harm(table: LatencyTable) -> None:
    draft = Draft((3, 8, 8))
    (made,) = draft.foreign(Unsupported("a", "B", "c"), [draft.picture], [(4, 8, 8)])
    assert made is not None
    found = draft.finish([made])
    assert price(table, found).ops == ()


def test_estimates_and_tables_without_intervals_are_told(space: SearchSpace, table: LatencyTable) -> None:
    graph = network(space, 3)
    first = price(table, Imported(graph, (), 1)).ops[0]
    old = replace(table, calibration=replace(table.calibration, residuals=()))
    guessed = replace(old, entries={**table.entries, first.kernel: Entry(1.0, 0.0, 0, 0.2)})
    priced = price(guessed, Imported(graph, (), 1))
    assert [op.estimated for op in priced.ops[:2]] == [True, False]
    assert priced.prediction is not None
    assert priced.prediction == Prediction(predict(guessed, graph), low_ms=None, high_ms=None, confidence=None)
