from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from api.store import Store
from latency.errors import ConnectionLost
from latency.interval import log_bound
from latency.link import PatientLink
from latency.predict import latency_model
from latency.table import LatencyTable
from nas.cost import flops_model
from nas.spaces import build_space

Nas = Callable[..., tuple[int, str, str]]
MACRO = "nas-bench-macro"
TABLE_SEARCH = ("search", "--space", MACRO, "--evaluator", "table", "--trials", "12", "--seed", "3")


def _json(result: tuple[int, str, str]) -> object:
    status, out, err = result
    assert status == 0, err
    assert out.count("\n") == 1
    return json.loads(out)


def _refused(result: tuple[int, str, str]) -> str:
    """The one line of a refusal; nothing on stdout."""
    status, out, err = result
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    return err


# Spaces and predictions ----------------------------------------------------------------------------------------------


def test_spaces(nas: Nas) -> None:
    names = [s["space"] for s in _json(nas("spaces", "--json"))]
    assert names[:3] == ["light-nas", "mobilenetv2-small", MACRO]
    about = _json(nas("spaces", "show", MACRO, "--json"))
    assert (about["size"], len(about["genes"])) == (6561, 8)
    one = _json(nas("spaces", "show", MACRO, "0,0,0,0,0,0,0,0", "--json"))
    assert (one["flops"], one["params"]) == (7713280, 387882)  # the first row of NAS-Bench-Macro's table
    status, out, _ = nas("spaces", "ops", MACRO)
    assert status == 0
    assert out.split() == [op.key for op in build_space(MACRO).ops()]
    assert len(_json(nas("spaces", "ops", MACRO, "--json"))) == len(out.split())


def test_predict_prints_an_object_a_line(nas: Nas) -> None:
    status, out, _ = nas("predict", "--space", MACRO, "--json", "0,0,0,0,0,0,0,0", "00, 1,2,0,1,2,0,1")
    first, second = map(json.loads, out.splitlines())
    assert status == 0
    assert first == {"encoding": "0,0,0,0,0,0,0,0", "flops": 7713280, "params": 387882}
    assert second["encoding"] == "0,1,2,0,1,2,0,1"


def test_predict_at_another_resolution_and_number_of_classes(nas: Nas) -> None:
    space = build_space(MACRO, resolution=64, classes=3)
    found = _json(nas("predict", "-s", MACRO, "--resolution", "64", "--classes", "3", "--json", "0,1,2,0,1,2,0,1"))
    assert found["flops"] == space.graph([0, 1, 2, 0, 1, 2, 0, 1]).flops


def test_predictions_have_an_interval_where_the_table_tells_one(
    nas: Nas, home: Path, make_table: Callable[..., LatencyTable]
) -> None:
    residuals = tuple(np.random.default_rng(0).normal(0, 0.02, 48))
    table = make_table(build_space(MACRO), residuals=residuals)
    with Store.open() as store:
        store.tables.add(table)
    found = _json(nas("predict", "-s", MACRO, "--table", "here", "--json", "0,1,2,0,1,2,0,1"))
    assert found["low_ms"] < found["latency_ms"] < found["high_ms"]
    assert "90 % from" in nas("predict", "-s", MACRO, "--table", "here", "0,1,2,0,1,2,0,1")[1]
    shown = nas("tables", "show", table.digest)[1]
    assert "of a prediction" in shown
    assert "of 48 networks" in shown


def test_a_budget_is_held_against_the_upper_end_of_the_interval(
    nas: Nas, home: Path, benchmark_table: Path, make_table: Callable[..., LatencyTable]
) -> None:
    residuals = tuple(np.random.default_rng(0).normal(0, 0.05, 48))
    table = make_table(build_space(MACRO), residuals=residuals)
    with Store.open() as store:
        store.tables.add(table)
    space = build_space(MACRO)
    limit = float(np.median(latency_model(table, space)(space.sample(np.random.default_rng(1), 500))))
    common = ("search", "-s", MACRO, "--table", table.digest, "--evaluator", "table", "--data", str(benchmark_table))
    common = (*common, "--latency-ms", f"{limit}", "--trials", "60", "--json")
    factor = math.exp(log_bound(table, 0.95))
    sure = _json(nas(*common))
    assert sure["best"]["predicted_ms"] * factor <= limit * (1 + 1e-9)
    even = _json(nas(*common, "--confidence", "0.5"))
    assert limit / factor < even["best"]["predicted_ms"] * 1.02 <= limit * 1.02
    with Store.open() as store:
        assert [r.spec["confidence"] for r in store.searches.page(limit=2)] == [0.5, 0.95]
    told = _refused(nas(*(x if x != f"{limit}" else "1e-6" for x in common)))
    assert "with confidence 0.95" in told
    assert "--confidence" in _refused(nas("search", "-s", MACRO, "--confidence", "0.9"))
    assert "confidence must be from 0.5" in _refused(nas(*common, "--confidence", "2"))


def test_predict_with_a_table_and_its_ops(nas: Nas, home: Path, make_table: Callable[..., LatencyTable]) -> None:
    space = build_space(MACRO)
    table = make_table(space)
    with Store.open() as store:
        store.tables.add(table)
        assert store.tables.get(table.digest) == table
        assert not store.tables.add(table)
    for name in (table.digest, table.digest[:6], "here"):
        found = _json(nas("predict", "-s", MACRO, "--table", name, "--json", "--ops", "0,1,2,0,1,2,0,1"))
        assert sum(op["latency_ms"] for op in found["ops"]) == pytest.approx(found["latency_ms"])
        assert sum(op["share"] for op in found["ops"]) == pytest.approx(1)
        assert found["ops"][-1]["path"] == "(network)"
    lines = nas("predict", "-s", MACRO, "--table", "here", "--ops", "0,1,2,0,1,2,0,1")[1]
    assert "s0.b1.expand" in lines
    assert "has no price for" in _refused(
        nas("predict", "-s", "mobilenetv2-small", "--table", "here", ",".join("0" * 17))
    )


def test_tables_travel(nas: Nas, tmp_path: Path, make_table: Callable[..., LatencyTable]) -> None:
    file = tmp_path / "table.json"
    table = make_table(build_space(MACRO), "pi4")
    file.write_text(table.to_json())
    assert _json(nas("tables", "import", file, "--json"))["new"] is True
    assert _json(nas("tables", "import", file, "--json"))["new"] is False
    assert [t["digest"] for t in _json(nas("tables", "list", "--json"))] == [table.digest]
    assert _json(nas("tables", "show", table.digest[:8], "--json"))["identity"]["board"] == "pi4"
    assert nas("tables", "export", table.digest[:8], "--to", tmp_path / "again.json")[0] == 0
    assert LatencyTable.from_json((tmp_path / "again.json").read_text()) == table
    assert nas("tables", "export", table.digest)[1] == table.to_json() + "\n"


# Searches ------------------------------------------------------------------------------------------------------------


def test_search_prints_one_object_and_keeps_its_budgets(nas: Nas, benchmark_table: Path) -> None:
    limit = 60e6
    result = nas(*TABLE_SEARCH, "--data", benchmark_table, "--flops", limit, "--name", "mine", "--json")
    found = _json(result)
    assert (found["search"], found["trials"]) == ("mine", 12)
    best = found["best"]
    assert {"encoding", "accuracy", "flops", "params", "predicted_ms"} <= best.keys()
    space = build_space(MACRO)
    with Store.open() as store:
        trials = list(store.searches.log(1).load())
        assert store.searches.by_id(1).state == "complete"
    x = np.array([t.encoding for t in trials], dtype=np.uint8)
    assert (flops_model(space)(x) <= limit).all()
    assert len(np.unique(space.canonical(x), axis=0)) == 12
    assert best["accuracy"] == max(t.accuracy for t in trials)
    listed = _json(nas("searches", "list", "--json"))
    assert (listed[0]["name"], listed[0]["trials"]["complete"]) == ("mine", 12)
    shown = _json(nas("searches", "show", "mine", "--trials", "--json"))
    assert [t["number"] for t in shown["listed"]] == list(range(12))
    assert "mine" in nas("searches", "show", "1")[1]


def test_a_search_is_continued_with_more_trials(nas: Nas, benchmark_table: Path) -> None:
    whole = _json(nas(*TABLE_SEARCH, "--data", benchmark_table, "--json"))
    command = [a if a != "12" else "5" for a in TABLE_SEARCH]
    assert _json(nas(*command, "--data", benchmark_table, "--name", "part", "--json"))["trials"] == 5
    assert _json(nas("search", "--resume", "part", "--trials", "12", "--json"))["best"] == whole["best"]
    with Store.open() as store:
        first, second = ([(t.number, t.encoding, t.accuracy) for t in store.searches.log(n).load()] for n in (1, 2))
    assert first == second


def test_search_inside_a_latency_budget(
    nas: Nas, home: Path, benchmark_table: Path, make_table: Callable[..., LatencyTable]
) -> None:
    table = make_table(build_space(MACRO))
    nas("boards", "add", "here", "local")
    assert "nas profile here" in _refused(nas(*TABLE_SEARCH, "--data", benchmark_table, "--board", "here"))
    with Store.open() as store:
        store.tables.add(table)
    wanted = (*TABLE_SEARCH, "--data", benchmark_table, "--board", "here", "--json")
    found = _json(nas(*wanted, "--latency-ms", "0.2"))
    assert 0 < found["best"]["predicted_ms"] <= 0.2
    soft = _json(nas(*wanted, "--latency-ms", "0.05", "--reward", "soft", "--reward-exponent", "-0.01"))
    assert soft["best"]["predicted_ms"] > 0.05  # a target, not a limit
    with Store.open() as store:
        assert store.searches.by_id(1).table_digest == table.digest


def test_nothing_is_stored_for_an_impossible_budget(nas: Nas, home: Path, benchmark_table: Path) -> None:
    message = _refused(nas(*TABLE_SEARCH, "--data", benchmark_table, "--flops", "1e6"))
    smallest = flops_model(build_space(MACRO)).minimum()[0]
    assert f"{smallest:.6g}" in message
    assert _json(nas("searches", "list", "--json")) == []


def test_dry_run_stores_nothing(nas: Nas, benchmark_table: Path) -> None:
    found = _json(nas(*TABLE_SEARCH, "--data", benchmark_table, "--dry-run", "--json"))
    assert len(found["trial_seconds"]) == 3
    assert found["hours"] >= 0
    assert _json(nas("searches", "list", "--json")) == []


def test_max_hours_stops_cleanly(nas: Nas, benchmark_table: Path) -> None:
    status, out, err = nas(*TABLE_SEARCH, "--data", benchmark_table, "--max-hours", "1e-9", "--name", "x", "--json")
    assert status == 0
    assert json.loads(out)["stopped"] == "time"
    assert "--resume x" in err
    assert _json(nas("searches", "resume", "x", "--json"))["trials"] == 12


# Boards, database ----------------------------------------------------------------------------------------------------


def test_boards(nas: Nas) -> None:
    added = _json(nas("boards", "add", "pi4", "pi@host:2222", "--cores", "0-2,5", "--threads", "2", "--json"))
    assert added["cores"] == [0, 1, 2, 5]
    assert _json(nas("boards", "list", "--json")) == [added]
    assert _json(nas("boards", "show", "pi4", "--json"))["address"] == "pi@host:2222"
    assert _json(nas("boards", "remove", "pi4", "--json")) == {"removed": "pi4"}


def test_this_machine_is_checked(nas: Nas) -> None:
    nas("boards", "add", "here", "local")
    assert _json(nas("boards", "check", "here", "--json"))["engine_version"]
    assert "can be profiled" in nas("boards", "check", "here")[1]


def test_db_upgrade(nas: Nas, home: Path) -> None:
    assert _json(nas("db", "upgrade", "--json")) == {
        "database": str(home / "lightnas.sqlite3"),
        "before": None,
        "revision": "0005",
    }
    assert "already" in nas("db", "upgrade")[1]


# Mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "-s", "nope", "0"), "no search space 'nope'; there are light-nas"),
        (("predict", "-s", MACRO, "0,1,2,0,1,2,0,9"), "gene 7 (s2.l2) is 9, allowed 0 to 2"),
        (("predict", "-s", MACRO, "0,1"), "8 integer genes, got 2"),
        (("predict", "-s", MACRO, "a,b"), "is no encoding"),
        (("predict", "-s", MACRO, "99999999999999999999,0,0,0,0,0,0,0"), "error"),
        (("predict", "-s", MACRO, "-", "0"), "either `-` or encodings"),
        (("predict", "-s", MACRO, "--table", "nope", "0,0,0,0,0,0,0,0"), "no latency table 'nope'"),
        (("predict", "-s", MACRO), "say what to price"),
        (("spaces", "show", "missing.yaml"), "cannot read the search space missing.yaml"),
        (("spaces", "show", MACRO, "--resolution", "0"), "resolution must be at least 1"),
        (("boards", "add", "pi 4", "local"), "board name 'pi 4' is invalid"),
        (("boards", "add", "pi4", "user:secret@host"), "holds no password"),
        (("boards", "add", "pi4", "local", "--cores", "a"), "write 4,5,6,7 or 4-7"),
        (("boards", "add", "pi4", "local", "--engine", "nope"), "no engine is called 'nope'"),
        (("boards", "check", "pi4"), "no board 'pi4'"),
        (("profile", "pi4", "--space", MACRO), "no board 'pi4'"),
        (("profile", "pi4", "--space", MACRO, "--passes", "0"), "--passes"),
        (("search",), "--space"),
        (("search", "--resume", "nope"), "no search 'nope'"),
        (("search", "-s", MACRO, "--latency-ms", "3"), "name a profiled board"),
        (("search", "-s", MACRO, "--board", "pi4"), "no board 'pi4'"),
        (("search", "-s", MACRO, "--flops", "-1"), "must be a positive number"),
        (("search", "-s", MACRO, "--flops", "nan"), "must be a positive number"),
        (("search", "-s", MACRO, "--trials", "0"), "trials must be at least 1"),
        (("search", "-s", MACRO, "--trials", "x"), "Invalid value"),
        (("search", "-s", MACRO, "--parallel", "0"), "parallel must be at least 1"),
        (("search", "-s", MACRO, "--seed", "-1"), "seed must be"),
        (("search", "-s", MACRO, "--strategy", "nope"), "no strategy 'nope'"),
        (("search", "-s", MACRO, "--strategy", "random", "--t0", "3"), "cannot be built with t0"),
        (("search", "-s", MACRO, "--strategy", "annealing", "--t0", "0"), "t0 must be a positive number"),
        (("search", "-s", MACRO, "--strategy", "annealing", "--start", "0,0"), "8 integer genes"),
        (("search", "-s", MACRO, "--t0", "3"), "--t0 is for --strategy annealing; name that, too"),
        (("search", "-s", MACRO, "--evaluator", "nope"), "no evaluator 'nope'"),
        (("search", "-s", MACRO, "--data", "nope"), "no data set 'nope'"),
        (("search", "-s", MACRO, "--data", "folder:/nope"), "/nope does not exist"),
        (("search", "-s", MACRO, "-o", "batch=1"), "batch is 1; it must be at least 2"),
        (("search", "-s", MACRO, "-o", "nope=1"), "its options are"),
        (("search", "-s", MACRO, "-o", "nope"), "key=value"),
        (("search", "-s", MACRO, "--reward", "soft"), "give --latency-ms"),
        (("search", "-s", MACRO, "--reward", "nope"), "no reward 'nope'"),
        (("search", "-s", MACRO, "--name", "7"), "not only digits"),
        (("search", "-s", MACRO, "--max-hours", "0"), "--max-hours must be above 0"),
        (("search", "-s", MACRO, "--classes", "3"), "give --classes 10"),
        (("tables", "show", "nope"), "no latency table 'nope'"),
        (("tables", "import", "nope.json"), "nope.json: No such file"),
        (("verify", "nope"), "no search 'nope'"),
        (("verify", "nope", "--space", MACRO), "no board 'nope'"),
        (("export", "nope", "--to", "x"), "no search 'nope'"),
        (("serve", "--host", "0.0.0.0"), "tokens would cross the network in clear"),
        (("nope",), "No such command"),
        (("search", "--nope"), "No such option"),
    ],
)
def test_mistakes_are_told_in_one_line(nas: Nas, arguments: tuple[str, ...], message: str) -> None:
    assert message in _refused(nas(*arguments))
    with Store.open() as store:
        assert store.searches.page() == []


@pytest.mark.parametrize(
    "text", ["", "{", '{"format": "another"}', '{"format": "lightnas-latency-table", "version": 9}']
)
def test_foreign_and_corrupt_tables(nas: Nas, tmp_path: Path, text: str) -> None:
    file = tmp_path / "table.json"
    file.write_text(text)
    assert "table.json" in _refused(nas("tables", "import", file))


def test_changed_table(nas: Nas, tmp_path: Path, make_table: Callable[..., LatencyTable]) -> None:
    file = tmp_path / "table.json"
    file.write_text(make_table(build_space(MACRO)).to_json().replace('"threads": 1', '"threads": 2'))
    assert "damaged" in _refused(nas("tables", "import", file))
    assert _json(nas("tables", "list", "--json")) == []


def test_data_of_one_class_and_broken_pictures(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "one" / "cat").mkdir(parents=True)
    assert "2" in _refused(nas("search", "-s", MACRO, "--data", f"folder:{tmp_path / 'one'}"))
    assert _json(nas("searches", "list", "--json")) == []


def test_unreachable_board(nas: Nas) -> None:
    nas("boards", "add", "pi4", "pi@127.0.0.1:1")
    for command in (("boards", "check", "pi4"), ("profile", "pi4", "--space", MACRO), ("boards", "clean", "pi4")):
        assert "127.0.0.1" in _refused(nas(*command))


def test_names_taken(nas: Nas, benchmark_table: Path) -> None:
    wanted = (*TABLE_SEARCH, "--data", benchmark_table, "--name", "mine", "--json")
    _json(nas(*wanted))
    assert "--resume mine" in _refused(nas(*wanted))


def test_every_command_has_help(nas: Nas) -> None:
    commands = [
        "",
        "boards",
        "profile",
        "tables",
        "spaces",
        "predict",
        "search",
        "searches",
        "verify",
        "export",
        "demo",
    ]
    for command in [
        *commands,
        "db",
        "serve",
        "boards add",
        "tables import",
        "spaces ops",
        "searches show",
        "searches front",
    ]:
        status, out, _ = nas(*command.split(), "--help")
        assert status == 0, command
        assert "Usage: nas" in out


def test_an_outage_while_verifying_is_told(
    nas: Nas, home: Path, make_table: Callable[..., LatencyTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(self: PatientLink) -> None:
        assert self._on_wait
        self._on_wait("the link broke", 3.0)
        raise ConnectionLost("pi4: not back")

    monkeypatch.setattr(PatientLink, "__enter__", lost)
    with Store.open() as store:
        store.tables.add(make_table(build_space(MACRO), "pi4"))
    nas("boards", "add", "pi4", "pi@pi4")
    status, _, err = nas("verify", "pi4", "--space", MACRO, "--random", "1")
    assert status == 2
    assert "pi4: waiting for it, 3 s so far (the link broke)" in err
