from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nas.training import checkpoint


def _state() -> dict[str, Any]:
    return {"x": torch.arange(5.0), "history": [{"loss": 0.5}], "name": "some"}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    assert checkpoint.load(path) is None
    checkpoint.save(path, {"x": 1})
    checkpoint.save(path, _state())
    loaded = checkpoint.load(path)
    assert loaded is not None
    assert torch.equal(loaded.pop("x"), torch.arange(5.0))
    assert loaded == {"history": [{"loss": 0.5}], "name": "some"}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_any_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, _state())
    whole = path.read_bytes()
    for damaged in (b"", whole[:10], whole[:-1], whole + b"x"):
        path.write_bytes(damaged)
        assert checkpoint.load(path) is None
    for place in range(0, len(whole), 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert checkpoint.load(path) is None


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"epoch": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"epoch": 2})
    assert checkpoint.load(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
