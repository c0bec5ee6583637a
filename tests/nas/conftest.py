from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nas.space import SearchSpace
from nas.spaces import build_space

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def benchmark_data() -> Path:
    """Public benchmark data; tests that need it skip loudly where it is absent."""
    folder = Path(os.environ.get("LIGHTNAS_BENCHMARK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"BENCHMARK DATA ABSENT: {folder}; set LIGHTNAS_BENCHMARK_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def light_nas() -> SearchSpace:
    return build_space("light-nas")


@pytest.fixture(scope="session")
def small() -> SearchSpace:
    return build_space("mobilenetv2-small")


@pytest.fixture(scope="session")
def macro() -> SearchSpace:
    return build_space("nas-bench-macro")


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    """What `data` is learnt with."""
    return build_space("mobilenetv2-small", resolution=8, classes=3, channels=1)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stripes across, down and aslant, in noise: (90, 8, 8)."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    rows, columns = np.mgrid[:8, :8]
    waves = np.stack([rows, columns, rows + columns])[y] + rng.integers(0, 4, (90, 1, 1))
    x = 128 + 60 * np.sin(waves * np.pi / 2) + rng.normal(0, 20, (90, 8, 8))
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    np.savez(path, x=x.clip(0, 255).astype(np.uint8), y=y)
    return f"npz:{path}"
