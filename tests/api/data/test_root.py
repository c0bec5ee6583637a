from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.data.root import DataRoot
from api.errors import OptionError
from nas.errors import ImpossibleBudget


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with two data sets, and beside it what no request may reach."""
    found = tmp_path / "data"
    for name in ("flowers/rose", "flowers/daisy", "teams/a"):
        (found / name).mkdir(parents=True)
    (found / "flowers/rose/1.png").write_bytes(b"x")
    (found / "digits.npz").write_bytes(b"x")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key.npz").write_bytes(b"x")
    (tmp_path / "data-beside").mkdir()
    (found / "out").symlink_to(tmp_path / "secret")
    (found / "out.npz").symlink_to(tmp_path / "secret/key.npz")
    (found / "flowers-too").symlink_to("flowers")
    return found


def _data(root: Path) -> DataRoot:
    return DataRoot(root, root.parent / "home")


def test_names_are_files_below_the_root(root: Path) -> None:
    data = _data(root)
    assert data.data("digits") == "digits"
    assert data.data("cluttered-digits") == "cluttered-digits"
    assert data.data("folder:flowers") == f"folder:{root}/flowers"
    assert data.data("npz:digits.npz") == f"npz:{root}/digits.npz"
    assert data.data("folder:flowers-too") == f"folder:{root}/flowers"  # a link inside the root is one to be followed
    assert data.file("flowers/rose/1.png") == root / "flowers/rose/1.png"
    assert data.path("teams/a") == root / "teams/a"


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "/", "//", "flowers/", "/flowers", "./flowers", "flowers/../flowers", "flowers/.."),
        *(
            "../data/flowers",
            "../secret",
            "../data-beside",
            "..\\secret",
            "flowers\\..\\..\\secret",
            "~",
            "~root",
            "~/x",
        ),
        *(
            "flowers\0",
            "flowers\0/../../secret",
            "flowers\n",
            "/etc/passwd",
            "//etc/passwd",
            "%2e%2e/secret",
            "x" * 5000,
        ),
        *("out", "out/key.npz", "out.npz", "missing", "flowers/rose/1.png/x", "\ud800", "a/" * 600, "x" * 300),
    ],
)
def test_no_name_leads_out(root: Path, path: str) -> None:
    data = _data(root)
    for read in (data.path, data.file, lambda text: data.data(f"folder:{text}"), lambda text: data.data(f"npz:{text}")):
        with pytest.raises(OptionError) as told:
            read(path)
        assert str(root) not in str(told.value)
        assert "secret/" not in str(told.value)


@pytest.mark.parametrize(
    "text", ["", "digits:x", "cluttered-digits:5", "Digits", "file:x", "http://h/x", ":flowers", "flowers"]
)
def test_other_kinds_of_data_are_refused(root: Path, text: str) -> None:
    with pytest.raises(OptionError, match=r"no data set .*there is digits, cluttered-digits, folder:PATH"):
        _data(root).data(text)


pieces = st.sampled_from(["..", ".", "", "~", "flowers", "rose", "1.png", "out", "out.npz", "key.npz", "teams", "\0"])
paths = st.one_of(st.text(max_size=20), st.lists(st.one_of(pieces, st.text(max_size=4)), max_size=6).map("/".join))


@given(path=paths)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_text_is_a_file_below_the_root_or_refused(root: Path, path: str) -> None:
    try:
        found = _data(root).path(path)
    except OptionError:
        return
    assert found == found.resolve()
    assert found.is_relative_to(root.resolve())
    assert found.exists()


def test_a_folder_with_a_link_out_is_refused(root: Path, tmp_path: Path) -> None:
    data = _data(root)
    (root / "flowers/daisy/deep").mkdir()
    link = root / "flowers/daisy/deep/1.png"
    link.symlink_to(tmp_path / "secret/key.npz")
    with pytest.raises(OptionError, match=r"holds a link that leads out .*'flowers/daisy/deep/1.png'"):
        data.data("folder:flowers")
    with pytest.raises(OptionError, match="holds a link"):
        data.path("flowers-too")
    link.unlink()
    link.symlink_to("/nowhere/at/all")
    with pytest.raises(OptionError, match="holds a link"):
        data.data("folder:flowers")
    link.unlink()
    assert data.data("folder:flowers")
    # By way of a folder of the root that is itself fine to link to, but not what it holds.
    (root / "flowers/more").symlink_to(root / "teams")
    assert data.data("folder:flowers")
    (root / "teams/a/2.png").symlink_to(tmp_path / "secret/key.npz")
    with pytest.raises(OptionError, match=r"'teams/a/2\.png'"):
        data.data("folder:flowers")


def test_rings_pipes_and_what_cannot_be_read(root: Path) -> None:
    data = _data(root)
    (root / "flowers/again").symlink_to(root / "flowers")
    assert data.data("folder:flowers")
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(OptionError, match=r"cannot be looked up|there is no"):
        data.path("a")
    os.mkfifo(root / "pipe.npz")
    with pytest.raises(OptionError, match="there is no"):
        data.data("npz:pipe.npz")


def test_a_root_that_is_a_link_or_missing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mount").symlink_to(root)
    assert _data(tmp_path / "mount").data("folder:flowers") == f"folder:{root.resolve()}/flowers"
    with pytest.raises(OptionError, match="there is no 'flowers' below the data root"):
        _data(tmp_path / "nowhere").path("flowers")


def test_users_see_paths_relative_to_the_root(root: Path) -> None:
    data = _data(root)
    stored = {
        "data": f"folder:{root}/flowers",
        "init": f"{root}/teams/a",
        "path": "/home/admin/private/t.csv",
        "teacher": "npz:/home/admin/x.npz",
        "more": [{"epochs": 3, "digest": "ab", "none": None, "flag": True}, f"{root}-beside/x"],
    }
    assert data.shown(stored) == {
        "data": "folder:flowers",
        "init": "teams/a",
        "path": "…/t.csv",
        "teacher": "npz:…/x.npz",
        "more": [{"epochs": 3, "digest": "ab", "none": None, "flag": True}, "…/x"],
    }
    assert data.told(f"folder:{root}/flowers: is no folder") == "folder:flowers: is no folder"
    assert data.told(None) is None


def test_errors_do_not_tell_where_the_root_is(root: Path) -> None:
    with pytest.raises(ImpossibleBudget) as told, _data(root).hidden():
        raise ImpossibleBudget(f"{root}/flowers and {root}", {"flops": 1.0})
    assert str(told.value) == "flowers and the data root"
    assert told.value.smallest == {"flops": 1.0}


def test_a_large_folder_is_walked_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    scan: Callable[[Path], object] = os.scandir

    def counted(path: Path) -> object:
        seen.append(str(path))
        return scan(path)

    for i in range(5):
        (root / f"flowers/rose/again{i}").symlink_to(root / "flowers/daisy")
    monkeypatch.setattr(os, "scandir", counted)
    _data(root).path("flowers")
    assert sorted(seen) == [str(root / "flowers"), str(root / "flowers/daisy"), str(root / "flowers/rose")]


@pytest.fixture
def lived_in(tmp_path: Path) -> Path:
    """A home in use, its own data root in it."""
    found = tmp_path / "home"
    for name in ("data/flowers", "searches/1", "artifacts"):
        (found / name).mkdir(parents=True)
    for name in ("token", "lightnas.db", "data/t.csv", "searches/1/checkpoint.pt", "data/flowers/1.png"):
        (found / name).write_text("x")
    return found


def test_the_home_is_no_data(lived_in: Path, tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    (tmp_path / "short").symlink_to(lived_in)
    above, inside = DataRoot(tmp_path, lived_in), DataRoot(lived_in, lived_in)
    for data, prefix in ((above, "home/"), (above, "short/"), (inside, "")):
        for name in ("token", "lightnas.db", "searches", "searches/1/checkpoint.pt", "artifacts"):
            with pytest.raises(OptionError, match="leads out of the data root"):
                data.path(prefix + name)
        assert data.path(f"{prefix}data/t.csv") == lived_in / "data/t.csv"
    with pytest.raises(OptionError, match="leads out of the data root"):
        above.path("home")
    assert above.path("flowers")
    for name, target in (("token", lived_in / "token"), ("up", tmp_path), ("all", lived_in)):
        link = tmp_path / "flowers" / name
        link.symlink_to(target)
        with pytest.raises(OptionError, match="holds a link that leads out"):
            above.path("flowers")
        link.unlink()


def test_a_data_root_is_apart_from_the_home(lived_in: Path, tmp_path: Path) -> None:
    (tmp_path / "short").symlink_to(lived_in)
    (tmp_path / "apart").mkdir()
    for root in (tmp_path, lived_in, tmp_path / "short", lived_in / "searches", lived_in / "database", Path("/")):
        with pytest.raises(OptionError, match=r"is not apart from the service's own files in .*LIGHTNAS_DATA_ROOT"):
            DataRoot(root, lived_in).check_place()
    for root in (lived_in / "data", tmp_path / "short/data", lived_in / "data/flowers", tmp_path / "apart"):
        DataRoot(root, lived_in).check_place()
    assert DataRoot(lived_in / "data", lived_in).path("flowers")


def test_stored_paths_are_looked_at_again(lived_in: Path) -> None:
    data = DataRoot(lived_in / "data", lived_in)
    table, flowers = lived_in / "data/t.csv", lived_in / "data/flowers"
    as_table = {"path": str(table), "key": "digits", "columns": "/etc/passwd"}
    as_training = {"data": f"folder:{flowers}", "init": str(table), "teacher": None, "epochs": 3, "cache_dir": "/tmp"}
    data.check_stored("table", as_table)
    data.check_stored("training", as_training)
    data.check_stored("training", {"data": "digits"})
    with pytest.raises(OptionError, match=r"^path: '…/token' is not below this worker's data root; give it"):
        data.check_stored("table", {"path": str(lived_in / "token")})
    (flowers / "2.png").symlink_to(lived_in / "token")
    with pytest.raises(OptionError, match=r"'folder:flowers' holds a link that leads out"):
        data.check_stored("training", as_training)
    (flowers / "2.png").unlink()
    table.unlink()
    with pytest.raises(OptionError, match=r"there is no 't\.csv' below"):
        data.check_stored("table", as_table)
    table.symlink_to(lived_in / "token")
    for evaluator, options in (("table", as_table), ("training", as_training)):
        with pytest.raises(OptionError, match=r"'t\.csv' leads out of the data root"):
            data.check_stored(evaluator, options)
