from __future__ import annotations

import pytest
import torch

from nas.evaluators import augment as module
from nas.evaluators.augment import augment


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_moves_every_picture_its_own_way_and_repeats() -> None:
    x = torch.rand(1, 1, 12, 12).repeat(5, 3, 1, 1)
    moved = augment(x, _generator(), flip=False)
    assert moved.shape == x.shape
    assert len({m.numpy().tobytes() for m in moved}) == 5
    assert torch.equal(moved, augment(x, _generator(), flip=False))
    assert torch.equal(moved[:, 0], moved[:, 2])  # channels stay together


@pytest.mark.parametrize("flip", [True, False])
def test_mirrors_only_where_allowed(flip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SHIFT", "TURN_DEG", "SCALE"):
        monkeypatch.setattr(module, name, 0.0)
    x = torch.rand(64, 1, 6, 8)
    moved = augment(x, _generator(), flip=flip)
    pairs = list(zip(moved, x, strict=True))
    same = [torch.allclose(m, a, atol=1e-5) for m, a in pairs]
    mirrored = [torch.allclose(m, a.flip(2), atol=1e-5) for m, a in pairs]
    assert all(a or b for a, b in zip(same, mirrored, strict=True))
    assert any(mirrored) == flip


def test_a_turn_keeps_distances_on_wide_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHIFT", 0.0)
    monkeypatch.setattr(module, "SCALE", 0.0)
    monkeypatch.setattr(module, "TURN_DEG", 45.0)
    rows, columns = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(65.0) - 32, indexing="ij")
    disc = (rows**2 + columns**2 < 100).float()[None, None].repeat(8, 1, 1, 1)
    assert float((augment(disc, _generator(), flip=False) - disc).abs().mean()) < 0.01


def test_black_comes_in_from_outside() -> None:
    moved = augment(torch.ones(32, 1, 10, 10), _generator(), flip=False)
    assert float(moved.min()) == 0
    assert float(moved[:, :, 4:6, 4:6].min()) == pytest.approx(1)
