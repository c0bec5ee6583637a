from __future__ import annotations

import os
from pathlib import Path

import pytest
from pictures import write_stripes

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
    return write_stripes(tmp_path_factory.mktemp("data"))
