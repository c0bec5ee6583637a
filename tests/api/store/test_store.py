from __future__ import annotations

import ctypes
import dataclasses
import json
import resource
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from processes import wait_for

from api.errors import AlreadyExists, NotFound, SchemaMismatch, SearchBusy, StoreError
from api.migrations import HEAD
from api.redaction import redact
from api.settings import Settings
from api.store import Store, engine
from api.store.models import metadata
from latency.board import Board
from latency.table import LatencyTable
from nas.spaces import build_space
from nas.trial import Trial, TrialState

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
# What looks like a secret does not come back; Hypothesis draws texts of the modules loaded, and some of them do.
errors = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).filter(lambda t: redact(t) == t)
mappings = st.dictionaries(st.text(), json_values, max_size=4)
started = st.builds(
    Trial,
    number=st.just(0),
    encoding=st.lists(st.integers(0, 255), min_size=1, max_size=30).map(tuple),
    costs=st.dictionaries(st.sampled_from(["flops", "params", "latency_ms"]), finite),
    attrs=mappings,
    stop_below=st.dictionaries(st.integers(1, 99).map(str), st.none() | st.floats(0, 1), max_size=3),
)


def _search(store: Store, name: str | None = None) -> int:
    return store.searches.create({"seed": 0}, space="s", space_digest="d", name=name).id


@given(data=st.data())
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_trials_come_back_as_they_went(store: Store, data: st.DataObject) -> None:
    log = store.searches.log(_search(store))
    trials = [dataclasses.replace(t, number=n) for n, t in enumerate(data.draw(st.lists(started, max_size=4)))]
    for trial in reversed(trials):
        log.started(trial)
    assert list(log.load()) == trials
    ends = []
    for trial in trials:
        end = data.draw(st.sampled_from(["complete", "pruned", "failed"]))
        if end == "pruned":
            ends.append(trial.pruned(data.draw(finite), data.draw(finite), 2, 1.5, data.draw(mappings)))
        elif end == "complete":
            ends.append(trial.complete(data.draw(finite), data.draw(finite), data.draw(finite), data.draw(mappings)))
        else:
            ends.append(trial.failed(data.draw(errors), 1.5))
        log.finished(ends[-1])
    assert list(log.load()) == ends


def test_a_trial_starts_once_and_ends_only_if_it_started(store: Store) -> None:
    log = store.searches.log(_search(store))
    log.started(Trial(0, (1, 2)))
    with pytest.raises(StoreError, match="trial 0 was started twice"):
        log.started(Trial(0, (1, 2)))
    with pytest.raises(StoreError, match="trial 1 is not running"):
        log.finished(Trial(1, (1, 2)).failed("x", 0))
    assert list(log.load()) == [Trial(0, (1, 2))]


def test_what_no_database_can_hold_is_made_storable(store: Store) -> None:
    log = store.searches.log(_search(store))
    log.started(Trial(0, (1,), attrs={"loss": float("nan"), "all": [float("inf"), 1.0]}))
    log.finished(Trial(0, (1,)).failed("a\0b\ud800c", 0))
    (trial,) = log.load()
    assert trial.error == "ab?c"
    other = _search(store, "other")
    store.searches.set_state(other, "failed", error="b\udce9.png\0 is broken; password=hunter2")
    told = "b?.png is broken; password=***"
    assert store.searches.by_id(other).error == told
    assert store.events.after(0, search_id=other)[-1].data == {"state": "failed", "error": told}


def test_load_streams_while_trials_are_written(store: Store) -> None:
    log = store.searches.log(_search(store))
    for n in range(3):
        log.started(Trial(n, (n,)))
    reading = log.load()
    assert next(reading).number == 0
    log.finished(Trial(2, (2,)).complete(0.5, 0.5, 1.0, {}))
    assert [t.number for t in reading] == [1, 2]


def test_two_who_ask_for_one_name_at_once_do_not_both_get_it(store: Store) -> None:
    """The second one looks before the first is done, and writes after that."""
    found: list[object] = []

    def second() -> None:
        try:
            found.append(_search(store, "mine"))
        except StoreError as e:
            found.append(e)

    def waits() -> bool:
        query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        with store.database.engine.connect() as c:
            return c.execute(sa.text(query)).first() is not None

    other = threading.Thread(target=second)
    with store.database.write():
        _search(store, "mine")
        other.start()
        if not store.database.is_sqlite:  # whose second writer cannot even look before
            wait_for(waits)
    other.join()
    assert [type(f) for f in found] == [AlreadyExists]
    assert "there is a search 'mine' already" in str(found[0])


def test_a_table_that_is_removed_meanwhile_is_not_a_name_that_is_taken(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        store.searches.create({}, space="s", space_digest="d", name="mine", table_digest="gone")
    assert not isinstance(caught.value, AlreadyExists)


def test_counts_best_and_pages(store: Store) -> None:
    search = _search(store, "mine")
    log = store.searches.log(search)
    for n, reward in enumerate((0.5, 0.9, 0.9, 0.1)):
        log.started(Trial(n, (n,)))
        log.finished(Trial(n, (n,)).complete(reward, reward, 1.0, {}))
    log.started(Trial(4, (4,)))
    log.started(Trial(5, (5,)))
    log.finished(Trial(5, (5,)).failed("no", 0))
    log.started(Trial(6, (6,)))
    log.finished(Trial(6, (6,)).pruned(0.99, 0.99, 2, 1.0, {}))
    assert store.searches.counts(search) == {"running": 1, "complete": 4, "pruned": 1, "failed": 1}
    assert [t.number for t in store.searches.best(search, 3)] == [1, 2, 0]
    assert [r["number"] for r in store.trials.page(search, after=1, limit=2)] == [2, 3]
    other = _search(store)
    assert [r.id for r in store.searches.page(limit=1)] == [other]
    assert [r.name for r in store.searches.page(after=other)] == ["mine"]
    assert store.searches.get(str(search)) == store.searches.get("mine")


def test_beliefs_and_single_trials(store: Store) -> None:
    search = _search(store)
    assert store.searches.by_id(search).beliefs is None
    for beliefs in ({"recommended": 0, "expected_regret": 0.125}, None):
        store.searches.set_beliefs(search, beliefs)
        assert store.searches.by_id(search).beliefs == beliefs
    trial = Trial(0, (1, 2), attrs={"expected_regret": 0.5})
    store.searches.log(search).started(trial)
    assert store.searches.trial(search, 0) == trial
    with pytest.raises(NotFound, match=f"search {search} has no trial 1"):
        store.searches.trial(search, 1)


def test_names_are_unique_and_unknown_ones_are_told(store: Store) -> None:
    _search(store, "mine")
    with pytest.raises(AlreadyExists, match="--resume mine"):
        _search(store, "mine")
    with pytest.raises(NotFound, match="nas searches list"):
        store.searches.get("yours")
    with pytest.raises(NotFound):
        store.searches.get("999")


def test_boards(store: Store) -> None:
    board = Board("pi4", "pi@raspberrypi.local:2222", threads=2, cores=(2, 3), identity_file="~/.ssh/id")
    store.boards.add(board)
    assert store.boards.get("pi4") == board
    with pytest.raises(AlreadyExists, match="nas boards remove pi4"):
        store.boards.add(board)
    with pytest.raises(NotFound, match=r"no board 'pi5': there are pi4"):
        store.boards.get("pi5")
    assert store.boards.facts("pi4") is None
    store.boards.set_facts("pi4", {"cpu": "a72"})
    assert store.boards.facts("pi4") == {"cpu": "a72"}
    store.boards.remove("pi4")
    assert store.boards.all() == []
    with pytest.raises(NotFound, match="none is registered"):
        store.boards.remove("pi4")


def test_profiling_passes_are_resumed_until_the_run_is_complete(store: Store) -> None:
    run = store.profiles.open_run("pi4", "plan")
    store.profiles.save_pass(run, {"ns": [3, 4]})
    store.profiles.save_pass(run, {"ns": [1, 2]})
    assert store.profiles.open_run("pi4", "plan") == run
    assert list(store.profiles.load_passes(run)) == [{"ns": [3, 4]}, {"ns": [1, 2]}]
    assert store.profiles.count_passes(run) == 2
    assert store.profiles.open_run("pi4", "another plan") != run
    assert store.profiles.open_run("pi5", "plan") != run
    store.profiles.discard(run)
    assert list(store.profiles.load_passes(run)) == []
    assert store.profiles.open_run("pi4", "plan") not in (0,)


def test_one_process_at_a_time_runs_a_search(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (store.searches.by_id(_search(store)) for _ in range(2))
    with Store.open(settings) as other, store.searches.lock(first):
        with other.searches.lock(second):
            pass
        with monkeypatch.context() as patch:
            patch.setattr("api.store.searches.LOCK_PATIENCE_S", 0.2)
            with pytest.raises(SearchBusy, match="is being run by another process"), other.searches.lock(first):
                pass
    monkeypatch.setattr("api.store.searches.LOCK_PATIENCE_S", 60.0)  # PostgreSQL lets go when it hears of the end
    with store.searches.lock(first):
        pass


def test_a_killed_process_lets_its_search_go(settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record = store.searches.by_id(_search(store))
    code = (
        "import sys, time; from pathlib import Path; from api.settings import Settings; from api.store import Store\n"
        f"s = Store.open(Settings(Path({str(settings.home)!r}), {settings.database_url!r}))\n"
        f"lock = s.searches.lock(s.searches.by_id({record.id})); lock.__enter__()\n"
        "print('held', flush=True); time.sleep(99)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with monkeypatch.context() as patch:
        patch.setattr("api.store.searches.LOCK_PATIENCE_S", 0.2)
        with pytest.raises(SearchBusy), store.searches.lock(record):
            pass
    child.kill()
    child.wait()
    monkeypatch.setattr("api.store.searches.LOCK_PATIENCE_S", 60.0)  # PostgreSQL lets go when it hears of the end
    with store.searches.lock(record):
        pass


# Schema ------------------------------------------------------------------------------------------------------------


def test_the_migrations_make_what_the_models_say(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.database.read() as c:
        context = MigrationContext.configure(c, opts={"compare_type": True})
        found = compare_metadata(context, metadata)
        if store.database.is_sqlite:  # what it tells of an index lacks DESC
            found = [d for d in found if not (d[0].endswith("_index") and d[1].name == "ix_trials_reward")]
        assert found == []
        assert context.get_current_revision() == HEAD


def test_the_newest_migration_is_head(store: Store) -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory.from_config(store.database._alembic(None)).get_current_head() == HEAD


def test_a_table_of_the_first_release_survives_the_upgrade(
    settings: Settings, make_table: Callable[..., LatencyTable]
) -> None:
    """Rows as revision 0001 holds them, written by hand: no models of today."""
    from alembic import command

    old = dataclasses.replace(make_table(build_space("nas-bench-macro")), version=1)
    content = json.loads(old.to_json())
    entries = content.pop("entries")
    with Store(settings) as store:
        with store.database.write() as c:
            command.upgrade(store.database._alembic(c), "0001")
            c.execute(
                sa.text(
                    "INSERT INTO latency_tables (digest, board, spaces, engine, ops, content, created_at) "
                    "VALUES (:digest, 'here', 'nas-bench-macro', 'ncnn', :ops, :content, '2026-01-01 00:00:00')"
                ),
                {"digest": old.digest, "ops": len(entries), "content": json.dumps(content)},
            )
            rows = [{"t": old.digest, "k": k, "ms": v[0], "spread": v[1], "n": v[2]} for k, v in entries.items()]
            c.execute(sa.text("INSERT INTO table_entries VALUES (:t, :k, :ms, :spread, :n)"), rows)
        store.database.upgrade()
        assert store.tables.get(old.digest[:8]) == old


def test_trials_from_before_rungs_survive_the_upgrade_and_back(settings: Settings) -> None:
    """Rows as revision 0002 holds them, written by hand: no models of today."""
    from alembic import command

    with Store(settings) as store:
        with store.database.write() as c:
            command.upgrade(store.database._alembic(c), "0002")
            c.execute(
                sa.text(
                    "INSERT INTO searches (name, state, spec, space, space_digest, created_at) "
                    "VALUES ('old', 'stopped', '{\"trials\": 4}', 's', 'd', '2026-01-01 00:00:00')"
                )
            )
            rows = [(0, "complete", 0.5), (1, "failed", None), (2, "running", None)]
            c.execute(
                sa.text(
                    "INSERT INTO trials (search_id, number, encoding, state, accuracy, reward, costs, seconds, extras, "
                    "attrs, started_at) VALUES (1, :n, '1,2', :state, :a, :a, '{}', 1.5, '{}', '{}', "
                    "'2026-01-01 00:00:00')"
                ),
                [{"n": n, "state": state, "a": a} for n, state, a in rows],
            )
        store.database.upgrade()
        log = store.searches.log(1)
        trials = list(log.load())
        assert [(t.number, t.encoding, t.state.value, t.accuracy) for t in trials] == [
            (n, (1, 2), s, a) for n, s, a in rows
        ]
        assert all(t.stop_below == {} for t in trials)
        log.started(Trial(3, (3, 4), stop_below={"2": 0.7, "4": None}))
        log.finished(Trial(3, (3, 4)).pruned(0.6, 0.6, 2, 1.0, {"rungs": {"2": 0.6}}))
        assert store.searches.counts(1) == {"running": 1, "complete": 1, "pruned": 1, "failed": 1}
        assert [t.stop_below for t in log.load()][3] == {"2": 0.7, "4": None}
        with pytest.raises(StoreError), store.database.write() as c:
            c.execute(sa.text("UPDATE trials SET state = 'another'"))
        with pytest.raises(StoreError), store.database.write() as c:  # the foreign key is still there
            c.execute(sa.text("UPDATE trials SET search_id = 99"))
        with store.database.migration() as c:
            command.downgrade(store.database._alembic(c), "0002")
        with store.database.read() as c:
            found = c.execute(sa.text("SELECT number, state, accuracy FROM trials ORDER BY number")).all()
        assert [tuple(r) for r in found] == [*rows, (3, "failed", None)]
        with pytest.raises(StoreError), store.database.write() as c:
            c.execute(sa.text("UPDATE trials SET state = 'pruned'"))


def test_searches_from_before_beliefs_survive_the_upgrade_and_back(settings: Settings) -> None:
    """Rows as revision 0002 holds them, written by hand: no models of today."""
    from alembic import command

    columns = "id, name, state, spec, space, space_digest, winner, created_at, finished_at"
    with Store(settings) as store:
        with store.database.write() as c:
            command.upgrade(store.database._alembic(c), "0002")
            c.execute(
                sa.text(
                    f"INSERT INTO searches ({columns}) VALUES (7, 'old', 'complete', '{{\"trials\": 4}}', 's', 'd', "
                    "'{\"encoding\": \"1,2\"}', '2026-01-01 00:00:00', '2026-01-02 00:00:00')"
                )
            )
        with store.database.read() as c:
            before = c.execute(sa.text(f"SELECT {columns} FROM searches")).all()
        store.database.upgrade()
        found = store.searches.get("old")
        assert (found.id, found.state, found.spec, found.winner) == (7, "complete", {"trials": 4}, {"encoding": "1,2"})
        assert found.beliefs is None
        beliefs = {"recommended": 3, "expected_regret": 0.25}
        store.searches.set_beliefs(7, beliefs)
        assert store.searches.get("old").beliefs == beliefs
        with store.database.migration() as c:
            command.downgrade(store.database._alembic(c), "0002")
        with store.database.read() as c:
            assert "beliefs" not in {column["name"] for column in sa.inspect(c).get_columns("searches")}
            assert c.execute(sa.text(f"SELECT {columns} FROM searches")).all() == before
        store.database.upgrade()
        assert dataclasses.replace(store.searches.get("old"), beliefs=None) == found


def test_final_trainings_are_kept_replaced_and_go_with_their_search(settings: Settings, store: Store) -> None:
    from alembic import command

    record = store.searches.create({}, space="s", space_digest="d")
    facts = {
        "label": "trial 3", "trial": 3, "space": {"name": "s"}, "encoding": "1,2", "options": {"epochs": 2}, "seed": 7,
        "val_accuracy": 0.5, "history": [{"epoch": 1, "loss": 1.0, "val_accuracy": 0.5}], "init": None, "seconds": 1.5,
    }  # fmt: skip
    store.trainings.save(record.id, "a", facts)
    store.trainings.save(record.id, "b", {**facts, "trial": None, "label": "MobileNetV2 x0.5"})
    store.trainings.save(record.id, "a", {"test_accuracy": 0.25, "recall": {"cat": 0.25}})
    first, second = store.trainings.of(record.id)
    assert {name: getattr(first, name) for name in facts} == facts
    assert (first.test_accuracy, first.recall) == (0.25, {"cat": 0.25})
    assert (second.trial, second.test_accuracy, second.recall) == (None, None, None)
    store.trainings.save(record.id, "a", {**facts, "val_accuracy": 0.75})  # trained again
    assert [t.val_accuracy for t in store.trainings.of(record.id)] == [0.75, 0.5]
    with store.database.migration() as c:
        command.downgrade(store.database._alembic(c), "0003")
        command.upgrade(store.database._alembic(c), "head")
    assert store.trainings.of(record.id) == []
    assert store.searches.get(record.name).id == record.id


def test_facts_of_a_winner_replace_join_or_yield(store: Store) -> None:
    search = _search(store)
    store.searches.keep_winner(search, {"trial": 1, "measurements": {"a": 1, "b": 1}}, unless="report")
    store.searches.keep_winner(search, {"trial": 2, "measurements": {"b": 2, "c": 2}}, join=("measurements",))
    assert store.searches.by_id(search).winner == {"trial": 2, "measurements": {"a": 1, "b": 2, "c": 2}}
    store.searches.keep_winner(search, {"report": {}, "measurements": {}})
    store.searches.keep_winner(search, {"trial": 3}, unless="report")
    assert store.searches.by_id(search).winner == {"trial": 2, "report": {}, "measurements": {}}
    empty = _search(store)
    store.searches.keep_winner(empty, {"measurements": {"a": 1}}, join=("measurements",))
    assert store.searches.by_id(empty).winner == {"measurements": {"a": 1}}


def test_downgrade_empties_the_database(settings: Settings) -> None:
    from alembic import command

    with Store.open(settings) as store, store.database.write() as c:
        command.downgrade(store.database._alembic(c), "base")
    with Store(settings) as store, store.database.read() as c:
        assert sa.inspect(c).get_table_names() == ["alembic_version"]


def test_a_newer_schema_is_refused(settings: Settings, store: Store) -> None:
    with store.database.write() as c:
        c.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for call in (lambda: Store.open(settings), store.database.upgrade):
        with pytest.raises(SchemaMismatch, match="revision 9999, which is newer than this program"):
            call()


def test_another_programs_database_is_refused(settings: Settings) -> None:
    with Store(settings) as store:
        with store.database.write() as c:
            c.execute(sa.text("CREATE TABLE invoices (id integer)"))
        with pytest.raises(StoreError, match=r"belongs to something else \(it holds invoices"):
            store.database.upgrade()


def test_many_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from api.settings import Settings; from api.store import Store\n"
        f"Store.open(Settings(Path({str(tmp_path)!r})))"
    )
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4


def test_a_new_file_that_another_program_begins_just_then_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite refuses the switch to its log at once then, whatever wait it was granted."""
    other = sqlite3.connect(tmp_path / engine.DEFAULT_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    asked: list[float] = []

    def sleep(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) == 3:
            other.execute("ROLLBACK")

    monkeypatch.setattr(engine._log_ahead.retry, "sleep", sleep)
    with Store.open(Settings(tmp_path)) as store:
        assert _search(store) == 1
    assert len(asked) == 3
    other.close()


def test_writes_are_synchronous_and_logged_ahead(tmp_path: Path) -> None:
    with Store.open(Settings(tmp_path)) as store, store.database.read() as c:
        pragmas = {
            p: c.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


# What goes wrong ---------------------------------------------------------------------------------------------------


def _one_line(error: pytest.ExceptionInfo[StoreError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_corrupt_database(tmp_path: Path) -> None:
    (tmp_path / "lightnas.sqlite3").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError) as error:
        Store.open(Settings(tmp_path))
    assert "corrupt or no SQLite database; restore a backup" in _one_line(error)


def test_home_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StoreError, match=r"cannot make the folder .*set LIGHTNAS_HOME"):
        Store.open(Settings(tmp_path / "home" / "below"))


def _without_privilege(code: str, *, limit_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Python that must obey file permissions, also where the tests run as root."""

    prctl = ctypes.CDLL(None).prctl  # before the fork: another thread may hold the loader's lock just then

    def limit() -> None:
        drop_from_bounding_set, dac_override = 24, 1
        prctl(drop_from_bounding_set, dac_override, 0, 0, 0)
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limit, check=False)


_OPEN = (
    "import sys; from pathlib import Path; from api.settings import Settings; from api.store import Store\n"
    "from nas.errors import LightnasError\n"
    "try:\n    s = Store.open(Settings(Path(sys.argv[1] if len(sys.argv) > 1 else {home!r})))\n{then}\n"
    "except LightnasError as e: print(e); sys.exit(2)\n"
)


def test_database_that_cannot_be_written(tmp_path: Path) -> None:
    Store.open(Settings(tmp_path)).close()
    for path in tmp_path.iterdir():
        path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    tmp_path.chmod(0o555)
    then = "    s.searches.create({}, space='s', space_digest='d')"
    done = _without_privilege(_OPEN.format(home=str(tmp_path), then=then))
    assert done.returncode == 2, done.stderr
    assert "cannot be written; check its permissions" in done.stdout
    assert done.stdout.count("\n") == 1


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    done = _without_privilege(_OPEN.format(home=str(tmp_path / "new"), then=""))
    assert (done.returncode, done.stdout.count("\n")) == (2, 1), done.stderr
    assert "cannot make the folder" in done.stdout


def test_full_disk_loses_nothing(tmp_path: Path) -> None:
    """A file size limit stands for the full disk; what was written before stays readable."""
    then = (
        "    import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    from nas.trial import Trial\n"
        "    log = s.searches.log(s.searches.create({}, space='s', space_digest='d').id)\n"
        "    for n in range(5000):\n"
        "        log.started(Trial(n, (1,) * 25, attrs={'x': 'y' * 500})); print('did', n)"
    )
    done = _without_privilege(_OPEN.format(home=str(tmp_path), then=then), limit_bytes=400_000)
    assert done.returncode == 2, done.stderr
    *said, last = done.stdout.splitlines()
    assert "the disk is full or failing; make room" in last
    with Store.open(Settings(tmp_path)) as store:
        assert [t.number for t in store.searches.log(1).load()] == [int(line.split()[1]) for line in said]


def test_database_held_by_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.store.engine.BUSY_TIMEOUT_S", 0.1)
    with Store.open(Settings(tmp_path)) as store:
        holder = sqlite3.connect(tmp_path / "lightnas.sqlite3", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another program holds it"):
            _search(store)
        holder.execute("ROLLBACK")
        holder.close()
        assert _search(store) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://u:hunter2@127.0.0.1:1/db", "cannot be reached; is the server running"),
        ("postgresql+psycopg://u:hunter2@no-such-host.invalid/db", "cannot be reached"),
        ("mysql://u:hunter2@h/db", "which is not supported"),
        ("hunter2", "is no database URL"),
        ("sqlite://", "needs a file"),
    ],
)
def test_databases_that_cannot_be_used(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as error:
        Store.open(Settings(tmp_path, url))
    assert "hunter2" not in _one_line(error)


def test_wrong_password_is_not_printed(tmp_path: Path, postgres_url: str) -> None:
    wrong = postgres_url.replace("not-a-secret-7", "hunter2")
    with pytest.raises(StoreError, match="refused the login") as error:
        Store.open(Settings(tmp_path, wrong))
    assert "hunter2" not in _one_line(error)


def test_memory_stays_flat_over_many_trials(tmp_path: Path) -> None:
    import tracemalloc

    with Store.open(Settings(tmp_path)) as store:
        search = _search(store)
        rows = [
            {"search_id": search, "number": n, "encoding": "1,2,3", "state": "complete", "accuracy": 0.5, "reward": 0.5}
            | {"costs": {}, "seconds": 1.0, "extras": {}, "attrs": {}, "started_at": None}
            for n in range(20_000)
        ]
        from api.store.models import now, trials

        moment = now()
        with store.database.write() as c:
            c.execute(sa.insert(trials), [{**row, "started_at": moment} for row in rows])
        tracemalloc.start()
        assert sum(1 for _ in store.searches.log(search).load()) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_the_states_are_those_of_trials() -> None:
    assert {s.value for s in TrialState} == {"running", "complete", "pruned", "failed"}


def test_the_environment_names_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.from_env().home == home
    monkeypatch.setenv("LIGHTNAS_DATABASE_URL", "sqlite:////x.sqlite3")
    assert Settings.from_env().database_url == "sqlite:////x.sqlite3"
