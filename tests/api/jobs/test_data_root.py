"""Jobs of requests look again at the files they name, right before they read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.compose import queue_search
from api.jobs.context import JobContext
from api.plans.plan import build_plan
from api.plans.spec import SearchSpec
from api.store import Store
from api.store.searches import SearchRecord
from api.worker.child import run_job
from nas.spaces.recipe import SpaceSpec

Queue = Callable[..., SearchRecord]


@pytest.fixture
def table(benchmark_table: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table below the data root."""
    monkeypatch.setenv("LIGHTNAS_DATA_ROOT", str(benchmark_table.parent))
    return benchmark_table


@pytest.fixture
def queue(store: Store, table: Path) -> Queue:
    """Queues a search over the table."""

    def make(owner: str | None) -> SearchRecord:
        spec = SearchSpec(
            space=SpaceSpec.of("nas-bench-macro"),
            strategy="random",
            evaluator="table",
            evaluator_options={"path": str(table)},
            trials=2,
        )
        return queue_search(store, build_plan(spec, None), board=None, owner=owner)

    return make


def _run(store: Store) -> tuple[str, str | None]:
    found = store.jobs.claim("w", 600)
    assert found is not None
    run_job(JobContext(store, found.job, found.fence, lambda: False))
    ended = store.jobs.get(found.job.id)
    return ended.state, ended.error


def _swap(file: Path, store: Store) -> None:
    """Puts a link to the admin's token in a file's place."""
    store.settings.home.mkdir(exist_ok=True)
    store.settings.token_file.write_text("SECRET\nSECRET\n")
    file.rename(file.with_name("moved"))
    file.symlink_to(store.settings.token_file)


def test_a_search_reads_no_file_that_was_swapped(store: Store, queue: Queue, table: Path) -> None:
    queue("bob")
    assert _run(store) == ("complete", None)
    queue("bob")
    _swap(table, store)
    assert _run(store) == ("failed", "'recorded.csv' leads out of the data root; put the data itself there")


def test_a_search_of_the_command_line_may_read_anything(
    store: Store, queue: Queue, tmp_path: Path, table: Path
) -> None:
    queue(None)
    table.rename(tmp_path / "elsewhere.csv")
    table.symlink_to(tmp_path / "elsewhere.csv")
    assert _run(store) == ("complete", None)


@pytest.mark.parametrize("option", ["path", "init", "teacher"])
def test_a_final_reads_no_file_that_was_swapped(store: Store, queue: Queue, table: Path, option: str) -> None:
    search = queue("bob")
    assert _run(store)[0] == "complete"
    file = table if option == "path" else table.with_name("weights.pt")
    file.touch()
    options: dict[str, Any] = {} if option == "path" else {option: str(file)}
    _swap(file, store)
    store.jobs.create("train", {"options": options, "teacher_search": None}, owner="bob", search_id=search.id)
    assert _run(store) == ("failed", f"'{file.name}' leads out of the data root; put the data itself there")
