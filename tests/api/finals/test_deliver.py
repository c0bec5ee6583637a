from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest

from api.finals.deliver import keep_measurements
from api.store import Store
from api.store.searches import SearchStore
from latency.verify import Verified


def _verified(ms: float) -> Verified:
    return Verified(measured_ms=ms, p95_ms=ms, noise_pct=None, runs=1, predicted_ms=ms, low_ms=None, high_ms=None)


def test_two_that_measure_at_once_keep_both_their_numbers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record = store.searches.create({}, space="s", space_digest="d")
    keep = SearchStore.keep_winner

    def after_another(self: SearchStore, search_id: int, facts: Mapping[str, Any], **how: Any) -> None:
        monkeypatch.undo()
        keep_measurements(store, record, {"1,2": _verified(1.0), "3,4": _verified(1.0)})
        keep(self, search_id, facts, **how)

    monkeypatch.setattr(SearchStore, "keep_winner", after_another)
    keep_measurements(store, record, {"3,4": _verified(2.0)})
    expected = {"1,2": asdict(_verified(1.0)), "3,4": asdict(_verified(2.0))}
    assert store.searches.by_id(record.id).winner == {"measurements": expected}
