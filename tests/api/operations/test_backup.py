"""Backups on both databases: one state out of the middle of the work, put back whole, gone on from."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from api.compose import run_search, store_search
from api.errors import StoreError
from api.migrations import HEAD
from api.operations.backup import back_up, restore
from api.plans.plan import build_plan
from api.plans.spec import SearchSpec
from api.settings import Settings
from api.store import Store
from latency.board import Board
from nas.search import SearchEvent, TrialEnded
from nas.spaces.recipe import SpaceSpec

NewStore = Callable[[], Store]
TRIALS = 300


@pytest.fixture
def new_store(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> NewStore:
    """Makes empty stores of the same kind of database, without a schema."""
    numbers = itertools.count()

    def make() -> Store:
        url = settings.database_url and request.getfixturevalue("new_database")()
        return Store(Settings(tmp_path / f"new{next(numbers)}", url))

    return make


def spec(table: Path) -> SearchSpec:
    return SearchSpec(
        SpaceSpec.of("nas-bench-macro"),
        strategy="annealing",
        evaluator="table",
        evaluator_options={"path": str(table)},
        trials=TRIALS,
    )


def trial_table(store: Store, search: int) -> list[tuple[Any, ...]]:
    return [(t.number, t.encoding, t.state, t.accuracy, t.reward) for t in store.searches.log(search).load()]


def test_a_backup_taken_during_writes_is_one_state_that_searches_go_on_from(
    store: Store, new_store: NewStore, benchmark_table: Path, tmp_path: Path
) -> None:
    record = store_search(store, build_plan(spec(benchmark_table), None), board=None)
    room = threading.Semaphore(0)  # for so many more trials: a slow backup is not outrun by the search

    def on_event(event: SearchEvent) -> None:
        if isinstance(event, TrialEnded):
            room.acquire()

    runner = threading.Thread(target=lambda: run_search(store, record, on_event=on_event))
    runner.start()
    files = [tmp_path / f"{i}.backup" for i in range(4)]
    try:
        for i, file in enumerate(files):
            room.release(20)
            while store.searches.by_id(record.id).complete < 20 * i + 5:
                assert runner.is_alive()
            made = back_up(store.database, file)  # while 15 trials more are written
            assert made.revision == HEAD
            assert made.size == file.stat().st_size > 1000
    finally:
        room.release(TRIALS)
        runner.join()
    undisturbed = trial_table(store, record.id)
    assert len(undisturbed) == TRIALS
    lengths = []
    for file in files:
        with new_store() as restored:
            assert restore(restored, file) == HEAD
            found, counted = trial_table(restored, record.id), restored.searches.by_id(record.id)
            done = [row for row in found if row[2] == "complete"]
            lengths.append(len(done))
            assert counted.complete == len(done)
            assert done == undisturbed[: len(done)]
    assert lengths == sorted({*lengths})
    assert 5 <= lengths[0] < lengths[-1] < TRIALS
    with new_store() as restored:
        restore(restored, files[-1])
        run_search(restored, restored.searches.by_id(record.id))
        assert trial_table(restored, record.id) == undisturbed


def test_a_backup_is_private_and_replaces_nothing(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.backup"
    back_up(store.database, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    with pytest.raises(StoreError, match="exists already"):
        back_up(store.database, file)
    assert file.read_bytes() == before
    with pytest.raises(StoreError, match="no/such/folder"):
        back_up(store.database, tmp_path / "no/such/folder/a.backup")
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.backup"]


def test_an_empty_database_is_no_backup(new_store: NewStore, tmp_path: Path) -> None:
    with new_store() as empty, pytest.raises(StoreError, match="is empty"):
        back_up(empty.database, tmp_path / "a.backup")
    assert not (tmp_path / "a.backup").exists()


def test_only_force_replaces_and_only_where_nobody_works(store: Store, tmp_path: Path) -> None:
    kept = store.jobs.create("profile", {"is": "kept"})
    file = tmp_path / "a.backup"
    back_up(store.database, file)
    later = store.jobs.create("profile", {"is": "later"})
    with pytest.raises(StoreError, match="not empty; --force"):
        restore(store, file)
    store.workers.seen("w9", host="h", pid=1, capacity=1, executor="processes")
    with pytest.raises(StoreError, match="worker w9 was at work"):
        restore(store, file, force=True)
    assert store.jobs.get(later.id).spec == {"is": "later"}
    store.workers.gone("w9")
    assert restore(store, file, force=True) == HEAD
    assert [job.spec for job in store.jobs.page()] == [{"is": "kept"}]
    assert store.jobs.create("profile", {}).id > kept.id  # it can be written, and numbers go on


def test_what_is_no_backup_is_refused_and_changes_nothing(store: Store, new_store: NewStore, tmp_path: Path) -> None:
    file = tmp_path / "a.backup"
    for _ in range(300):
        store.jobs.create("profile", {"random": np.random.default_rng(0).bytes(500).hex()})
    whole = back_up(store.database, file)
    other = tmp_path / "other"
    other.write_bytes(b"PGDMP" + bytes(100) if store.database.is_sqlite else b"SQLite format 3\0" + bytes(100))
    cut = tmp_path / "cut"
    cut.write_bytes(file.read_bytes()[: whole.size // 2])
    before = len(store.jobs.page(limit=1000))
    for wrong, why in ((other, "is no backup of a"), (cut, "database"), (tmp_path / "missing", "No such file")):
        with pytest.raises(StoreError, match=why) as caught:
            restore(store, wrong, force=True)
        assert "\n" not in str(caught.value)
        assert "not-a-secret" not in str(caught.value)
        assert len(store.jobs.page(limit=1000)) == before
    with new_store() as empty:
        with pytest.raises(StoreError):
            restore(empty, cut)
        assert empty.database.revision() is None


def test_postgresql_what_else_lives_in_the_database_stays(new_database: Callable[[], str], tmp_path: Path) -> None:
    with Store(Settings(tmp_path, new_database())) as store:
        store.database.upgrade()
        back_up(store.database, tmp_path / "a.backup")
        with store.database.write() as c:
            c.execute(sa.text("CREATE TABLE strangers (x int)"))
        with pytest.raises(StoreError, match="holds strangers, which the backup does not"):
            restore(store, tmp_path / "a.backup", force=True)


def test_a_backup_from_before_an_upgrade_takes_its_place(new_store: NewStore, tmp_path: Path) -> None:
    from alembic import command

    with new_store() as store:
        with store.database.migration() as c:
            command.upgrade(store.database._alembic(c), "0004")
        store.boards.add(Board("kept", "10.0.0.5"))
        old = back_up(store.database, tmp_path / "old.backup")
        assert old.revision == "0004"
        store.database.upgrade()
        job = store.jobs.create("profile", {})
        cut = tmp_path / "cut"
        cut.write_bytes(old.path.read_bytes()[: old.size - 200])
        with pytest.raises(StoreError):
            restore(store, cut, force=True)
        if not store.database.is_sqlite:  # a stranger that holds on to a table of ours: refused when some are dropped
            with store.database.write() as c:
                c.execute(sa.text("CREATE VIEW strangers AS SELECT name FROM boards"))
            with pytest.raises(StoreError, match=r"psql failed: .*depend"):
                restore(store, old.path, force=True)
            with store.database.write() as c:
                c.execute(sa.text("DROP VIEW strangers"))
        assert (store.database.revision(), store.jobs.get(job.id)) == (HEAD, job)
        assert restore(store, old.path, force=True) == "0004"
        assert store.database.upgrade() == "0004"
        assert (store.database.revision(), store.jobs.page()) == (HEAD, [])
        assert [board.name for board in store.boards.all()] == ["kept"]


def test_postgresql_no_program_is_given_the_password(
    new_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database()
    assert ":not-a-secret-7@" in url
    seen: list[list[str]] = []
    run = subprocess.run

    def watch(command: list[str], **options: Any) -> Any:
        seen.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", watch)
    bare = url.replace(":not-a-secret-7", "")
    for form in (url, f"{bare}?password=not-a-secret-7"):
        with Store(Settings(tmp_path, form)) as store:
            store.database.upgrade()
            back_up(store.database, tmp_path / f"{len(seen)}.backup")
    assert len(seen) == 2
    assert not [part for command in seen for part in command if "not-a-secret" in part]


def test_sqlite_a_restore_that_is_killed_leaves_the_old_state(tmp_path: Path) -> None:
    with Store.open(Settings(tmp_path / "a")) as store:
        with store.database.write() as c:
            c.execute(sa.text("CREATE TABLE fill (x)"))
            rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i FROM n"
            c.execute(sa.text(f"INSERT INTO fill SELECT randomblob(4000) FROM ({rows})"))
        back_up(store.database, tmp_path / "big.backup")
    with Store.open(Settings(tmp_path / "b")) as store:
        store.jobs.create("profile", {"is": "old"})
        path = store.database.path
    assert path is not None
    # The kernel kills it when the 80 MB are half written.
    code = (
        "import resource as r, signal as s; s.signal(s.SIGXFSZ, s.SIG_DFL); r.setrlimit(r.RLIMIT_CORE, (0, 0));"
        "r.setrlimit(r.RLIMIT_FSIZE, (40_000_000, 40_000_000)); from api.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "db", "restore", str(tmp_path / "big.backup"), "--force"]
    done = subprocess.run(command, env={**os.environ, "LIGHTNAS_HOME": str(tmp_path / "b")}, check=False)
    assert done.returncode == -signal.SIGXFSZ
    assert path.with_name(path.name + "-wal").stat().st_size > 30_000_000
    with Store.open(Settings(tmp_path / "b")) as store:
        assert [job.spec for job in store.jobs.page()] == [{"is": "old"}]


def test_the_command_line(nas: Callable[..., tuple[int, str, str]], home: Path, tmp_path: Path) -> None:
    assert nas("db", "upgrade")[0] == 0
    file = tmp_path / "a.backup"
    status, out, _ = nas("db", "backup", file)
    assert (status, out.count("\n")) == (0, 1)
    assert str(file) in out
    with sqlite3.connect(file) as c:
        assert c.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    status, _, error = nas("db", "restore", file)
    assert status == 2
    assert "--force" in error
    status, out, _ = nas("db", "restore", file, "--force", "--json")
    assert (status, f'"revision": "{HEAD}"' in out) == (0, True)
    shutil.rmtree(home)
    assert nas("db", "restore", file)[0] == 0
    assert nas("searches", "list")[0] == 0
