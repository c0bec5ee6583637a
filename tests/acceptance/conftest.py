"""What several acceptance tests search and measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

_TINY = """
name: tiny
input: {{channels: 1, resolution: 32}}
classes: 10
stem: {{width: 8}}
stages:
  - {{width: [8, 16], expansion: [1, 3], kernel: [3, 5]}}
  - {{width: [16, 24], expansion: [3, 6], repeats: [1, 2], stride: 2}}
  - {{family: [{families}], width: [32, 48], stride: 2}}
head: {{width: 64}}
"""


@pytest.fixture(scope="session")
def write_tiny_space() -> Callable[..., Path]:
    """Writes a small search space's YAML file into a folder; the last stage is of the families named."""

    def write(folder: Path, *families: str) -> Path:
        path = folder / "tiny.yaml"
        path.write_text(_TINY.format(families=", ".join(families)))
        return path

    return write
