from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from api.data.listing import MOST, list_data
from api.data.root import DataRoot
from latency.engines import engine_names
from nas.data import load_data
from nas.data.digits import PICTURES
from nas.evaluators import evaluator_names, find_evaluator
from nas.objective import METRICS
from nas.strategies import strategy_names

Ask = Callable[..., httpx.Response]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4)).save(path)


@pytest.fixture
def filled(data_root: Path, tmp_path: Path) -> Path:
    """A data root with one of everything, and of what is none."""
    for name in ("rose", "tulip", "iris"):
        for part in ("train", "val"):
            picture(data_root / "flowers" / part / name / "1.png")
        picture(data_root / "team" / "plain" / name / "1.JPG")
        picture(data_root / "team" / "far" / "away" / name / "1.png")
        picture(data_root / ".hidden" / name / "1.png")
        picture(tmp_path / "elsewhere" / name / "1.png")
    for name in ("data_batch_1", "test_batch"):
        (data_root / "cifar").mkdir(exist_ok=True)
        (data_root / "cifar" / name).touch()
    (data_root / "unpacked" / "cifar-10-batches-py").mkdir(parents=True)
    for name in ("x.npz", "team/y.npz", "notes.txt", "weights.pt", "line\nbreak.npz", "back\\slash.npz", "~root.npz"):
        (data_root / name).touch()
    (Path(os.fsdecode(os.fsencode(data_root) + b"/no\xfftext.npz"))).touch()
    (data_root / "link").symlink_to(tmp_path / "elsewhere")
    (data_root / "team" / "link").symlink_to(data_root / "flowers")
    (data_root / "team" / "part").mkdir()
    (data_root / "team" / "part" / "train").symlink_to(tmp_path / "elsewhere")
    (data_root / "link.npz").symlink_to(tmp_path / "elsewhere" / "secret.npz")
    (data_root / "empty").mkdir()
    return data_root


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # the database has no part in it
def test_everything_there_is_to_choose_is_told(ask: Ask, filled: Path, tmp_path: Path) -> None:
    answer = ask("GET", "catalogue", by="reader")
    told = answer.json()
    assert str(tmp_path) not in answer.text
    assert [s["name"] for s in told["strategies"]] == strategy_names()
    assert [e["name"] for e in told["evaluators"]] == evaluator_names()
    assert all(item["summary"].endswith(".") for kind in ("strategies", "evaluators") for item in told[kind])
    for evaluator in told["evaluators"]:
        assert evaluator["options"] == find_evaluator(evaluator["name"]).served_options
    steps = {e["name"]: e["steps"] for e in told["evaluators"]}
    assert (steps["remote"], steps["table"], steps["training"]) == (0, 0, 8)
    assert {m["name"]: m["unit"] for m in told["metrics"]} == METRICS
    assert told["board_engines"] == engine_names()
    assert told["csv_files"] == ["recorded.csv"]
    found = {d["name"]: d for d in told["datasets"]}
    assert list(found)[:2] == ["digits", "cluttered-digits"]
    assert set(found) - {"digits", "cluttered-digits"} == {
        *("folder:flowers", "folder:team/plain", "cifar10:cifar", "cifar10:unpacked", "npz:x.npz", "npz:team/y.npz")
    }
    unknown = {"channels": None, "resolution": None, "train": None, "test": None}
    assert found["folder:flowers"] == {"name": "folder:flowers", "kind": "folder", "classes": 3, **unknown}
    assert found["folder:team/plain"]["classes"] == 3
    assert (found["cifar10:cifar"]["classes"], found["cifar10:cifar"]["resolution"]) == (10, 32)


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_what_is_listed_can_be_searched_with(ask: Ask, asked: dict[str, Any], data_root: Path) -> None:
    for number in range(5):
        for name in ("rose", "tulip"):
            picture(data_root / "team" / "flowers" / name / f"{number}.png")
    told = ask("GET", "catalogue").json()
    assert [d["name"] for d in told["datasets"]] == ["digits", "cluttered-digits", "folder:team/flowers"]
    for named in ({"data": told["csv_files"][0]}, {"evaluator": "training", "data": "folder:team/flowers"}):
        assert ask("POST", "searches", json=asked | named).status_code == 201
    # The defaults are what a search has that says nothing else.
    spelled = {field: value for field, value in told["defaults"].items() if value is not None}
    assert ask("POST", "searches", json=spelled | asked).status_code == 201


def test_built_in_data_is_as_told(tmp_path: Path) -> None:
    digits, cluttered = list_data(DataRoot(tmp_path / "none", tmp_path / "home")).datasets
    loaded = load_data("digits", channels=1)
    assert (digits.classes, digits.channels, digits.resolution) == (len(loaded.classes), *loaded.input[:2])
    assert (digits.train, digits.test) == (len(loaded.train), len(loaded.test))
    few = load_data("cluttered-digits:200", channels=1)
    assert (cluttered.classes, cluttered.channels, cluttered.resolution) == (len(few.classes), *few.input[:2])
    assert (cluttered.train, cluttered.test) == (len(few.train) * PICTURES // 200, len(few.test) * PICTURES // 200)


def test_a_listing_is_bounded(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for number in range(MOST + 50):
        (root / f"{number:03}.npz").touch()
    found = list_data(DataRoot(root, tmp_path / "home"))
    assert [d.name for d in found.datasets[2:]] == [f"npz:{number:03}.npz" for number in range(MOST)]


def test_folders_of_many_pictures_take_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    for folder, count in (("a", 100), ("z/cats", 1), ("z/dogs", 1)):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / f"{number}.png").touch()
    (root / "known.csv").touch()
    listing = DataRoot(root, tmp_path / "home")
    assert "folder:z" in [found.name for found in list_data(listing).datasets]
    monkeypatch.setattr("api.data.listing._MOST_SEEN", 50)
    found = list_data(listing)
    assert found.csv_files == ("known.csv",)  # of the root itself, which is looked at first
    assert "folder:z" not in [one.name for one in found.datasets]


def test_a_folder_nobody_may_read_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    for name in ("rose", "tulip"):
        picture(root / "flowers" / name / "1.png")
        picture(root / "closed" / name / "1.png")
    scan = os.scandir

    def refuse(path: Path) -> Any:  # the rights of files do not bind root, as which tests may run
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = list_data(DataRoot(root, tmp_path / "home"))
    assert [d.name for d in found.datasets[2:]] == ["folder:flowers"]
