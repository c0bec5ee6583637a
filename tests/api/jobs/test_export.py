"""Export jobs: everything that `nas export` writes, as artifacts."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.errors import NotFound, OptionError
from api.export.bundle import MARK
from api.jobs import export
from api.jobs.context import Interrupted, JobContext
from api.results.artifacts import ArtifactStore
from api.schemas.jobs import ExportRequest
from api.store import Store

Nas = Callable[..., tuple[int, str, str]]
Claimed = Callable[..., JobContext]


def _spec(**given: Any) -> dict[str, Any]:
    return ExportRequest(search="s", **given).model_dump(exclude={"search"})


def test_every_file_is_an_artifact_and_all_are_in_the_archive(
    nas: Nas, opened: Store, claimed: Claimed, search: int, tmp_path: Path
) -> None:
    artifacts = ArtifactStore(opened)
    context = claimed("export", _spec(epochs=2, license="MIT"), search_id=search)
    result = export.run(context)
    at = opened.jobs.get(context.job.id).progress
    assert at is not None
    assert at["done"] == at["of"] == len(result["files"]) + 1
    kept = {record.name: record for record in artifacts.of(context.job.id)}
    assert kept.keys() == {*result["files"], "s.zip"}
    assert {name: record.sha256 for name, record in kept.items() if name != "s.zip"} == result["files"]
    for record in kept.values():
        assert hashlib.sha256(artifacts.open_path(record).read_bytes()).hexdigest() == record.sha256
        assert record.search_id == search
    assert {"network.onnx", "weights.pt", "cpp/main.cpp", "run.py", MARK} <= kept.keys()
    with zipfile.ZipFile(artifacts.open_path(kept["s.zip"])) as archive:
        assert archive.namelist() == [f"s/{name}" for name in sorted(result["files"])]
        found = {name: hashlib.sha256(archive.read(f"s/{name}")).hexdigest() for name in result["files"]}
    assert found == result["files"]
    assert json.loads(artifacts.open_path(kept[MARK]).read_text())["license"] == "MIT"

    again = claimed("export", _spec(license="MIT"), search_id=search)  # from the checkpoint
    assert export.run(again) == result
    zips = [opened.artifacts.find(c.job.id, "s.zip") for c in (context, again)]
    assert zips[0] is not None
    assert zips[1] is not None
    assert zips[0].sha256 == zips[1].sha256

    printed = json.loads(nas("export", "s", "--to", str(tmp_path / "net"), "--license", "MIT", "--json")[1])
    assert {**printed, "archive": "s.zip"} == {**result, "folder": printed["folder"]}


def test_a_stopped_export_goes_on_from_its_checkpoint(
    opened: Store,
    claimed: Claimed,
    reclaimed: Callable[[JobContext], JobContext],
    after: Callable[[int], Callable[[], bool]],
    search: int,
) -> None:
    context = claimed("export", _spec(epochs=4), search_id=search, stopping=after(2))
    with pytest.raises(Interrupted):
        export.run(context)
    assert ArtifactStore(opened).of(context.job.id) == []
    assert list(opened.settings.search_folder(search).glob("final/*/checkpoint.pt"))
    result = export.run(reclaimed(context))
    assert result["test_accuracy"] > 0


def test_what_is_not_there_is_told(opened: Store, claimed: Claimed, search: int) -> None:
    with pytest.raises(NotFound, match="no trial 99"):
        export.run(claimed("export", _spec(trial=99), search_id=search))
    record = opened.searches.by_id(search)
    empty = opened.searches.create(record.spec, space=record.space, space_digest=record.space_digest).id
    with pytest.raises(OptionError, match="no complete trial yet"):
        export.run(claimed("export", _spec(), search_id=empty))
