from __future__ import annotations

import numpy as np
import pytest

from latency.engines import get_engine
from latency.predict import breakdown, latency_model, predict
from latency.table import Calibration, Entry, Identity, LatencyTable, Provenance
from nas.errors import MissingOps
from nas.space import SearchSpace
from nas.spaces import build_space

ENGINE = get_engine("ncnn")


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return build_space("mobilenetv2-small")


@pytest.fixture(scope="module")
def table(space: SearchSpace) -> LatencyTable:
    keys = sorted({ENGINE.engine_key(op) for op in space.ops()})
    rng = np.random.default_rng(0)
    return LatencyTable(
        identity=Identity("b", "m", "x86_64", "ncnn", "1", "fp32", 1, (0,), ""),
        entries={key: Entry(float(ms), 0.1, 1) for key, ms in zip(keys, rng.uniform(0.01, 1, len(keys)), strict=True)},
        offset_ms=0.5,
        calibration=Calibration(1.3, 8, 1.0, None),
        provenance=Provenance("", "", (), 1, 1, 1.0, ""),
    )


def without(table: LatencyTable, *keys: str) -> LatencyTable:
    entries = {key: entry for key, entry in table.entries.items() if key not in keys}
    return LatencyTable(table.identity, entries, table.offset_ms, table.calibration, table.provenance)


def test_the_compiled_model_and_the_graph_agree(space: SearchSpace, table: LatencyTable) -> None:
    x = space.sample(np.random.default_rng(1), 50)
    model = latency_model(table, space)
    assert model.unit == "ms"
    np.testing.assert_allclose(model(x), [predict(table, space.graph(row)) for row in x], rtol=1e-9)


def test_the_breakdown_names_every_op_and_adds_up(space: SearchSpace, table: LatencyTable) -> None:
    graph = space.graph(space.sample(np.random.default_rng(2))[0])
    parts = breakdown(table, graph)
    assert [part.path for part in parts] == [*(node.path for node in graph.nodes), "(network)"]
    assert sum(part.share for part in parts) == pytest.approx(1)
    first = graph.nodes[0].op
    assert parts[0].ms == pytest.approx(1.3 * table.entries[ENGINE.engine_key(first)].ms)
    assert parts[0].key == first.key
    assert parts[-1].ms == pytest.approx(1.3 * 0.5)


def test_missing_ops_are_all_listed(space: SearchSpace, table: LatencyTable) -> None:
    graph = space.graph(space.sample(np.random.default_rng(3))[0])
    ops = [graph.nodes[0].op, graph.nodes[-1].op]
    poor = without(table, *(ENGINE.engine_key(op) for op in ops))
    with pytest.raises(MissingOps, match="nas profile b") as caught:
        predict(poor, graph)
    assert set(caught.value.keys) == {op.key for op in ops}
    with pytest.raises(MissingOps) as of_space:
        latency_model(poor, space)
    assert {op.key for op in ops} <= set(of_space.value.keys)
