from __future__ import annotations

import os
from pathlib import Path

import pytest

from nas.durable import to_disk


def test_files_and_folders_are_waited_for_and_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    closed: list[int] = []
    fsync, close = os.fsync, os.close
    monkeypatch.setattr(os, "fsync", lambda handle: (waited.append(os.fstat(handle).st_ino), fsync(handle)))
    monkeypatch.setattr(os, "close", lambda handle: (closed.append(os.fstat(handle).st_ino), close(handle)))
    (tmp_path / "a").write_text("x")
    to_disk(tmp_path / "a")
    to_disk(tmp_path)
    expected = [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]
    assert waited == closed == expected
    with pytest.raises(FileNotFoundError):
        to_disk(tmp_path / "b")
