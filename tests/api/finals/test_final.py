"""`nas train`, as a user runs it: a search, its final, the export of the winner."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pictures import write_stripes

from api.cli import run
from api.compose import reopen
from api.finals import final
from api.finals.teachers import search_teacher
from api.finals.winner import choose_trial, train_winner, won_final
from api.store import Store
from nas.evaluator import Progress
from nas.spaces import build_space

Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stripes across, down and aslant, in noise: (90, 8, 8)."""
    return write_stripes(tmp_path_factory.mktemp("data"))


def _searching(stripes: str, name: str, *more: str) -> list[str]:
    return [
        *("search", "--space", "mobilenetv2-small", "--resolution", "8", "--channels", "1", "--flops", "600e3"),
        *("--data", stripes, "--epochs", "1", "--trials", "3", "--strategy", "random", "--name", name, *more),
    ]


def _search(nas: Nas, stripes: str, name: str, *more: str) -> None:
    status, _, err = nas(*_searching(stripes, name, *more))
    assert status == 0, err


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, stripes: str) -> Path:
    """A home with the searches `s` and `t`, alike: three networks each, trained one epoch."""
    home = tmp_path_factory.mktemp("searched") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNAS_HOME", str(home))
        patch.delenv("LIGHTNAS_DATABASE_URL", raising=False)
        for name in ("s", "t"):
            assert run(_searching(stripes, name)) == 0
    return home


@pytest.fixture
def home(home: Path, searched: Path) -> Path:
    """A copy of `searched`."""
    return Path(shutil.copytree(searched, home))


@pytest.mark.slow
def test_a_final_chooses_tests_compares_and_is_exported(nas: Nas, home: Path, tmp_path: Path) -> None:
    command = ("train", "s", "--top", "2", "--seeds", "2", "--epochs", "2", "-o", "batch=16", "--json")
    status, out, err = nas(*command)
    assert status == 0, err
    report = json.loads(out)
    roles = [n["role"] for n in report["networks"]]
    assert roles[:2] == ["winner", "finalist"]
    assert set(roles[2:]) == {"baseline"}
    for n in report["networks"]:
        assert n["flops"] <= 600e3
        assert len(n["val_accuracies"]) == len(set(n["seeds"])) == 2
        assert len(n["test_accuracies"]) == (0 if n["role"] == "finalist" else 2)
    winner, second = report["networks"][:2]
    assert winner["val_accuracy"] >= second["val_accuracy"]
    assert report["comparison"]["baseline"] in {n["label"] for n in report["networks"][2:]}

    with Store.open() as store:
        record = store.searches.get("s")
        kept = store.trainings.of(record.id)
        assert record.winner is not None
    assert len(kept) == 2 * len(report["networks"])
    assert all(len(t.history) == 2 for t in kept)
    assert {t.trial is None for t in kept if t.test_accuracy is not None} == {True, False}
    best = max(zip(winner["val_accuracies"], winner["seeds"], winner["test_accuracies"], strict=True))
    assert (record.winner["seed"], record.winner["test_accuracy"]) == (best[1], best[2])
    assert record.winner["report"] == {k: v for k, v in report.items() if k != "search"}
    seconds = {t.key: t.seconds for t in kept}
    assert f"trial {record.winner['trial']}" == winner["label"]

    status, out, err = nas(*command)  # from the checkpoints
    assert status == 0, err
    assert json.loads(out) == report
    with Store.open() as store:
        assert {t.key: t.seconds for t in store.trainings.of(record.id)} == seconds  # what they took, once

    status, out, err = nas("export", "s", "--to", str(tmp_path / "net"), "--json")
    assert status == 0, err
    assert json.loads(out)["test_accuracy"] == best[2]
    card = json.loads((tmp_path / "net" / "lightnas-export.json").read_text())
    assert card["encoding"] == winner["encoding"]
    assert card["seed"] == best[1]
    assert card["final"] == {k: v for k, v in report.items() if k != "search"}

    status, out, err = nas(
        "export", "s", "--to", str(tmp_path / "other"), "--trial", second["label"].split()[1], "--epochs", "1"
    )
    assert status == 0, err
    card = json.loads((tmp_path / "other" / "lightnas-export.json").read_text())
    assert card["final"] is None  # these weights had no part in it
    with Store.open() as store:
        assert store.searches.get("s").winner == record.winner  # the final's choice stands
    status, out, err = nas("export", "s", "--to", str(tmp_path / "other"), "--trial", second["label"].split()[1])
    assert status == 0, err
    assert json.loads((tmp_path / "other" / "lightnas-export.json").read_text())["epochs"] == 1  # as trained last


@pytest.mark.slow
def test_people_read_who_wins(nas: Nas, tmp_path: Path) -> None:
    status, out, err = nas("train", "s", "--top", "1", "--epochs", "1", "--curves", str(tmp_path / "curves.svg"))
    assert status == 0, err
    assert "WINNER" in out
    assert "best baseline" in out
    assert "nas export s" in out
    assert "MobileNetV2" in (tmp_path / "curves.svg").read_text()
    status, out, _ = nas("searches", "show", "s")
    assert status == 0
    assert "test accuracy" in out
    assert "points against" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "momentum=3"), "momentum"),
        (("-o", "ema=2"), "ema is 2"),
        (("-o", "lr=fast"), "lr is 'fast'; it must be a number"),
        (("-o", "batch=16.5"), "batch is 16.5; it must be a whole number"),
        (("-o", "gpus=two"), "gpus is 'two'; it must be a whole number"),
        (("-o", "amp=maybe"), "amp is 'maybe'; it must be true or false"),
        (("-o", "init=x.pt"), "say it with --init"),
        (("-o", "data=digits"), "digits has 10 classes"),
        (("-o", "data=npz:/nowhere.npz"), "does not exist"),
        (("--curves", "/nowhere/curves.svg"), "/nowhere is no folder"),
        (("--teacher", "nobody"), "neither a file, a folder nor a search"),
        (("--teacher", "s"), "cannot teach itself"),
        (("--teacher", "t"), "no trained winner"),
        (("--init", "/nowhere.pt"), "nowhere.pt"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(nas: Nas, arguments: tuple[str, ...], words: str) -> None:
    status, out, err = nas("train", "s", *arguments)
    assert status == 2
    assert out == ""
    assert words in err
    assert "validation" not in err


def test_a_search_over_a_table_cannot_be_trained(nas: Nas, benchmark_table: Path) -> None:
    status, _, err = nas(
        *("search", "--space", "nas-bench-macro", "--evaluator", "table", "--data", str(benchmark_table)),
        *("--trials", "2", "--name", "looked-up"),
    )
    assert status == 0, err
    status, _, err = nas("train", "looked-up")
    assert status == 2
    assert "looked accuracies up" in err


@pytest.mark.slow
def test_a_final_starts_from_weights_and_learns_from_a_teacher(nas: Nas, stripes: str, tmp_path: Path) -> None:
    _search(nas, stripes, "big", "--seed", "1")
    assert nas("train", "big", "--top", "1", "--baselines", "0", "--epochs", "4", "-o", "batch=16")[0] == 0
    assert nas("export", "big", "--to", str(tmp_path / "net"))[0] == 0
    more = ("--init", str(tmp_path / "net"), "--teacher", "big", "--top", "1", "--epochs", "1", "--json")
    status, out, err = nas("train", "s", *more)
    assert status == 0, err
    with Store.open() as store:
        kept = store.trainings.of(store.searches.get("s").id)
    init = [t.init for t in kept if t.trial is not None]
    assert init
    assert all(i is not None and i["share"] > 0 for i in init)
    assert all("teacher_digest" in t.options for t in kept)
    assert json.loads(out)["comparison"] is not None


@pytest.mark.slow
def test_a_killed_final_goes_on(nas: Nas, stripes: str, environment: dict[str, str]) -> None:
    command = ("train", "s", "--top", "2", "--baselines", "0", "--epochs", "6", "-o", "batch=16", "--json")
    argv = [str(Path(sys.executable).with_name("nas")), *command]
    running = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with Store.open() as store:
        final = store.settings.search_folder(store.searches.get("s").id) / "final"
    deadline = time.monotonic() + 120
    while not list(final.glob("*/checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    resumed: dict[str, Any] = json.loads(nas(*command)[1])
    undisturbed = ("--seed", "0")  # the same search under another name
    _search(nas, stripes, "again", *undisturbed)
    whole = json.loads(nas("train", "again", *command[2:])[1])
    assert resumed["networks"] == whole["networks"]


def test_an_export_without_a_final_decides_nothing(nas: Nas, tmp_path: Path) -> None:
    with Store.open() as store:
        best = store.searches.best(store.searches.get("s").id)[0].number
    other = (best + 1) % 3
    assert nas("export", "s", "--to", str(tmp_path / "o"), "--trial", str(other), "--epochs", "1")[0] == 0
    status, out, err = nas("export", "s", "--to", str(tmp_path / "b"), "--epochs", "1", "--json")
    assert status == 0, err
    assert json.loads(out)["trial"] == best
    with Store.open() as store:
        assert all(t.seconds > 0 for t in store.trainings.of(store.searches.get("s").id))


@pytest.mark.slow
def test_a_final_that_chooses_other_weights_says_so(nas: Nas) -> None:
    short = ("train", "s", "--top", "1", "--baselines", "0", "--epochs", "1")
    for _ in range(2):  # the second time from the checkpoint
        status, _, err = nas(*short)
        assert status == 0, err
        assert "replaces" not in err
    status, _, err = nas(*short[:-1], "2")
    assert status == 0, err
    assert "it replaces the winner of an earlier final, trial" in err
    assert "after 1 epochs; to have that one back" in err


def test_two_finals_of_a_search_do_not_run_at_once(nas: Nas) -> None:
    with Store.open() as store, store.searches.lock(store.searches.get("s")):
        status, _, err = nas("train", "s", "--epochs", "1")
    assert status == 2
    assert "another process" in err


@pytest.fixture
def own(home: Path, stripes: str, tmp_path: Path) -> Path:
    """The pictures of a search `own` that are nobody else's, so that they may change."""
    return Path(shutil.copy(stripes.removeprefix("npz:"), tmp_path / "own.npz"))


def _change(pictures: Path) -> None:
    """Take pictures of one class away, so that also a network that always answers the same does otherwise."""
    with np.load(pictures) as arrays:
        x, y = arrays["x"], arrays["y"]
    kept = np.flatnonzero((y != 2) | (np.arange(len(y)) < 45))
    np.savez(pictures, x=x[kept], y=y[kept])


@pytest.mark.slow
def test_weights_of_other_data_are_neither_replaced_nor_told_to_have_won(nas: Nas, own: Path, tmp_path: Path) -> None:
    def export() -> tuple[int, str, str]:
        return nas("export", "own", "--to", str(tmp_path / "net"))

    def card() -> dict[str, Any]:
        return dict(json.loads((tmp_path / "net" / "lightnas-export.json").read_text()))

    _search(nas, f"npz:{own}", "own")
    command = ("train", "own", "--top", "1", "--baselines", "0", "--epochs", "2", "-o", "batch=16", "--json")
    status, out, err = nas(*command)
    assert status == 0, err
    before = own.read_bytes()
    with Store.open() as store:
        record = store.searches.get("own")
        chosen = f"{(record.winner or {})['trial']}"
        other = (
            "export",
            "own",
            "--trial",
            "0" if chosen != "0" else "1",
            "--epochs",
            "1",
            "--to",
            str(tmp_path / "other"),
        )
        (checkpoint,) = store.settings.search_folder(record.id).glob("final/*/checkpoint.pt")
    weights = checkpoint.read_bytes()
    trial = json.loads(out)["networks"][0]["label"]
    refused = f"search 'own': {trial} was trained on other pictures than npz:{own} holds now"

    status, _, err = nas(*other)
    assert status == 0, err

    _change(own)
    for call in (export, lambda: nas("train", "s", "--teacher", "own", "--epochs", "1")):
        status, _, err = call()
        assert status == 2
        assert refused in err
        assert "put them back as they were, or train and choose anew on these: nas train own" in err
        assert "Traceback" not in err
    assert not (tmp_path / "net").exists()
    assert checkpoint.read_bytes() == weights
    status, _, err = nas(*other)  # nobody has chosen that one: it is trained anew, as it was asked for
    assert status == 0, err

    status, anew, err = nas(*command)
    assert status == 0, err
    assert "to have that one back, put the data back as it was and repeat the command" in err
    assert json.loads(anew) != json.loads(out)
    (aside,) = checkpoint.parent.glob("checkpoint-*.pt")
    assert aside.read_bytes() == weights
    status, _, err = export()
    assert status == 0, err
    assert {"search": "own", **card()["final"]} == json.loads(anew)

    own.write_bytes(before)
    status, _, err = export()  # that is not what was chosen last
    assert status == 2
    assert refused in err
    status, back, err = nas(*command)
    assert status == 0, err
    assert json.loads(back) == json.loads(out)
    status, _, err = export()
    assert status == 0, err
    assert {"search": "own", **card()["final"]} == json.loads(out)
    assert aside.read_bytes() == weights


@pytest.mark.slow
def test_a_winner_kept_before_its_data_was_still_counts(home: Path) -> None:
    with Store.open() as store:
        record = store.searches.get("s")
        plan = reopen(store, record)
        winner = train_winner(store, record, plan, choose_trial(store, record, None), options={"epochs": 1})
        store.searches.keep_winner(record.id, {"report": {}})
        kept = store.searches.by_id(record.id)
    assert kept.winner is not None
    assert kept.winner["data_digest"] == winner.dataset.digest
    assert won_final(kept, winner)
    assert not won_final(kept, replace(winner, dataset=replace(winner.dataset, digest="changed")))
    early = {name: value for name, value in kept.winner.items() if name != "data_digest"}
    assert won_final(replace(kept, winner=early), winner)


def test_a_final_that_ends_during_an_export_has_chosen(home: Path) -> None:
    chosen = {"trial": 2, "encoding": "0", "options": {"epochs": 9}, "seed": 7, "epochs": 9, "report": {}}
    with Store.open() as store:
        record = store.searches.get("s")

        def end_final(at: Progress) -> None:
            store.searches.keep_winner(record.id, chosen)

        trial = store.searches.trial(record.id, 0)
        winner = train_winner(store, record, reopen(store, record), trial, options={"epochs": 1}, report=end_final)
        now = store.searches.by_id(record.id)
    assert now.winner == chosen
    assert not won_final(now, winner)


def test_a_teacher_trained_on_a_gpu_teaches_where_there_is_none(home: Path) -> None:
    with Store.open() as store:
        teacher, student = store.searches.get("t"), store.searches.get("s")
        trial = choose_trial(store, teacher, None)
        train_winner(store, teacher, reopen(store, teacher), trial, options={"epochs": 1})
        options = (store.searches.by_id(teacher.id).winner or {})["options"]
        there = {"device": "cuda", "gpus": 8, "cache_dir": "/nowhere/cache"}
        store.searches.keep_winner(teacher.id, {"options": {**options, **there}})
        found = search_teacher(store, store.searches.by_id(teacher.id), student)
        (checkpoint,) = store.settings.search_folder(teacher.id).glob("final/*/checkpoint.pt")
    assert Path(found["teacher"]) == checkpoint.parent / "network"


@pytest.mark.parametrize(("side", "told"), [(8, True), (16, False)])
def test_changed_data_is_told_of_where_it_is_known(store: Store, side: int, told: bool) -> None:
    space = build_space("mobilenetv2-small", resolution=(8, 16))
    search = store.searches.create({}, space="s", space_digest="d")
    row = [0] * len(space.genes)
    assert space.graph(row).input.shape[1] == 8
    earlier = {"report": {}, "trial": 0, "seed": 0, "options": {}, "epochs": 1, "data_digest": "of 8 pixels"}
    store.searches.keep_winner(search.id, {**earlier, "encoding": ",".join(map(str, row))})
    dataset = SimpleNamespace(digest=f"others of {side} pixels", input=(space.inputs[0][0], side, side))
    winner = SimpleNamespace(trial=SimpleNamespace(number=1), seed=0, options={}, dataset=dataset)
    notes: list[str] = []
    view = SimpleNamespace(note=notes.append)
    final._tell_replaced(store, search, SimpleNamespace(space=space), winner, view)  # type: ignore[arg-type]
    assert ("put the data back" in notes[0]) is told
