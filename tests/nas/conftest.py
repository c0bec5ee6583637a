from __future__ import annotations

import os
from pathlib import Path

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
