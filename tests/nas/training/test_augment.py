from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nas.training import augment as module
from nas.training.augment import AUGMENTATIONS, augment, draw

KINDS = [kind for kind in AUGMENTATIONS if kind != "none"]


def _changed(kind: str, x: Tensor, *, flip: bool = False) -> Tensor:
    return augment(kind, x, draw(kind, len(x), torch.Generator().manual_seed(0)), flip=flip)


@pytest.mark.parametrize("kind", KINDS)
def test_it_changes_every_picture_its_own_way_and_repeats(kind: str) -> None:
    x = torch.rand(1, 1, 12, 12).repeat(5, 3, 1, 1)
    moved = _changed(kind, x)
    assert moved.shape == x.shape
    assert len({m.numpy().tobytes() for m in moved}) == 5
    assert torch.equal(moved, _changed(kind, x))
    assert torch.equal(moved[:, 0], moved[:, 2])  # channels stay together


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_a_batch_is_changed_as_within_the_whole(kind: str) -> None:
    x = torch.rand(7, 3, 9, 12)
    drawn = draw(kind, 7, torch.Generator().manual_seed(1))
    whole = augment(kind, x, drawn, flip=True)
    assert torch.allclose(augment(kind, x[1::2], drawn[1::2], flip=True), whole[1::2], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_rand_keeps_pictures_and_uses_all_its_changes(channels: int) -> None:
    x = torch.rand(400, channels, 8, 8)
    changed = _changed("rand", x)
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    picked = (draw("rand", 400, torch.Generator().manual_seed(0))[:, :2] * len(module._OPS)).long()
    assert len(picked.unique()) == len(module._OPS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flip", [True, False])
def test_mirrors_only_where_allowed(kind: str, flip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SHIFT", "TURN_DEG", "SCALE"):
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(module, "_RAND", dict.fromkeys(module._OPS, 0.0))
    x = torch.rand(64, 1, 6, 8)
    moved = _changed(kind, x, flip=flip)
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
    assert float((_changed("default", disc) - disc).abs().mean()) < 0.01


def test_black_comes_in_from_outside() -> None:
    moved = _changed("default", torch.ones(32, 1, 10, 10))
    assert float(moved.min()) == 0
    assert float(moved[:, :, 4:6, 4:6].min()) == pytest.approx(1)
