from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pictures import write_stripes

from api.cli import run
from api.jobs.context import JobContext
from api.store import Store

TINY = """
name: tiny
input: {channels: 1, resolution: 8}
classes: 3
stem: {width: 8}
stages: [{width: [8, 16], expansion: [1, 2], stride: 2}]
head: {width: 16}
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A space of four networks."""
    path = tmp_path_factory.mktemp("space") / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stripes across, down and aslant, in noise: (90, 8, 8)."""
    return write_stripes(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory, tiny: str, stripes: str) -> Path:
    """A home with this machine as the board `here`, the search `s` and, of the space `tiny` for that board, `b`."""
    folder = tmp_path_factory.mktemp("searched")
    training = ("--data", stripes, "--epochs", "1", "--strategy", "random")
    small = ("--space", "mobilenetv2-small", "--resolution", "8", "--channels", "1", "--flops", "600e3")
    bounded = ("--space", tiny, "--board", "here", "--latency-ms", "9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNAS_HOME", str(folder / "home"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.delenv("LIGHTNAS_DATABASE_URL", raising=False)
        for command in (
            ("boards", "add", "here", "local"),
            ("profile", "here", "--space", tiny, "--passes", "3", "--networks", "4"),
            ("search", *small, *training, "--trials", "3", "--name", "s"),
            ("search", *bounded, *training, "--trials", "2", "--name", "b"),
        ):
            assert run(list(command)) == 0
    return folder / "home"


@pytest.fixture
def board(home: Path, searched: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """This machine, in a copy of `searched`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(searched, home)
    return "here"


@pytest.fixture
def opened(board: str) -> Iterator[Store]:
    """The store that `nas` uses."""
    with Store.open() as store:
        yield store


@pytest.fixture
def search(opened: Store) -> int:
    """The search `s`: three small networks, trained one epoch each."""
    return opened.searches.get("s").id


@pytest.fixture
def budgeted(opened: Store) -> int:
    """The search `b`, for this machine, whose latency table has been measured: two networks."""
    return opened.searches.get("b").id


@pytest.fixture
def claimed(opened: Store) -> Callable[..., JobContext]:
    """Submits a job and claims it: claimed(kind, spec, search_id=…, board=…, stopping=…)."""

    def claim(
        kind: str, spec: dict[str, Any], *, stopping: Callable[[], bool] = lambda: False, **of: Any
    ) -> JobContext:
        opened.jobs.create(kind, spec, **of)
        found = opened.jobs.claim("w", 600)
        assert found is not None
        return JobContext(opened, found.job, found.fence, stopping)

    return claim


@pytest.fixture
def reclaimed(opened: Store) -> Callable[[JobContext], JobContext]:
    """Gives a job back, as a worker does that was told to stop, and claims it again."""

    def claim(context: JobContext) -> JobContext:
        opened.jobs.give_back(context.fence)
        found = opened.jobs.claim("w2", 600)
        assert found is not None
        assert found.job.id == context.job.id
        return JobContext(opened, found.job, found.fence, lambda: False)

    return claim


class After:
    """Says no, until it has been asked so often."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture
def after() -> type[After]:
    return After
