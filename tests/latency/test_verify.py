from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from latency.board import Board
from latency.deploy import deploy
from latency.engines import get_engine
from latency.errors import InvalidTable
from latency.profiler import Profiler
from latency.session import opener
from latency.table import LatencyTable
from latency.transport import LocalTransport
from latency.verify import common_scale, verify
from latency.visits import OpenSession
from nas.errors import MissingOps
from nas.space import SearchSpace
from nas.spaces.staged import Head, Stage, Stem, staged_space

BOARD = Board("here", "local")


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    stages = [Stage(width=(8, 16), expansion=(1, 2), repeats=(1, 2, 3), stride=(2,))]
    return staged_space("tiny", inputs=[(3, 16, 16)], stem=Stem(8), stages=stages, head=Head(5, width=32))


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSession]:
    folder: Path = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch, LocalTransport() as transport:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield opener(transport, deploy(transport, "ncnn"), BOARD, get_engine("ncnn"))


@pytest.fixture(scope="module")
def table(space: SearchSpace, there: OpenSession) -> LatencyTable:
    return Profiler(BOARD, there, space, passes=6).run().table


def test_measures_each_network_beside_its_prediction(
    space: SearchSpace, there: OpenSession, table: LatencyTable
) -> None:
    x = space.sample(np.random.default_rng(0), 4)
    graphs = [space.graph(row) for row in (*x, x[0])]
    results = verify(BOARD, there, graphs, table, passes=5)
    assert len(results) == 5
    assert results[0] == results[4]
    for r in results:
        assert r.runs == 5
        assert 0 < r.measured_ms <= r.p95_ms
        assert r.error_pct == pytest.approx((r.predicted_ms / r.measured_ms - 1) * 100)
        assert r.noise_pct is not None
        assert r.low_ms is not None
        assert r.high_ms is not None
        assert 0 < r.low_ms < r.predicted_ms < r.high_ms
        assert r.inside == (r.low_ms <= r.measured_ms <= r.high_ms)
    ratios = [r.measured_ms / r.predicted_ms for r in results]
    assert min(ratios) <= common_scale(results) <= max(ratios)


def test_a_table_of_another_identity_is_refused(space: SearchSpace, there: OpenSession, table: LatencyTable) -> None:
    old = dataclasses.replace(table, identity=dataclasses.replace(table.identity, engine_version="0.9"))
    with pytest.raises(InvalidTable, match=r"engine_version: '0.9', .*profile again"):
        verify(BOARD, there, [space.graph(space.sample(np.random.default_rng(0))[0])], old, passes=1)


def test_ops_the_table_lacks_are_told_before_anything_runs(
    space: SearchSpace, there: OpenSession, table: LatencyTable
) -> None:
    graph = space.graph(space.sample(np.random.default_rng(0))[0])
    empty = dataclasses.replace(table, entries={})
    with pytest.raises(MissingOps) as caught:
        verify(BOARD, there, [graph], empty)
    assert set(caught.value.keys) == {op.key for op in graph.ops}
