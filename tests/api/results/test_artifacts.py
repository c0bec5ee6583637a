"""Files of jobs: kept whole or not at all, by the worker that has the job, and nowhere else than where they belong."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.errors import JobLost, NotFound, OptionError, StoreError
from api.results.artifacts import ArtifactStore, media_type
from api.store import Store
from api.store.jobs import Claim

Keep = Callable[..., object]


def _claim(store: Store, search_id: int | None = None, lease_s: float = 600) -> Claim:
    store.jobs.create("export", {}, search_id=search_id)
    claim = store.jobs.claim("w", lease_s)
    assert claim is not None
    return claim


def _search(store: Store) -> int:
    return store.searches.create({"seed": 0}, space="s", space_digest="d").id


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "made"
    path.write_bytes(content)
    return path


def test_a_file_is_kept_listed_and_replaced(store: Store, tmp_path: Path) -> None:
    artifacts, search = ArtifactStore(store), _search(store)
    claim = _claim(store, search)
    content = os.urandom((1 << 20) + 7)  # more than one chunk
    first = artifacts.keep(claim.fence, _file(tmp_path, content), "cpp/main.cpp", "text/plain")
    assert (first.size, first.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (first.job_id, first.search_id, first.name) == (claim.job.id, search, "cpp/main.cpp")
    assert artifacts.open_path(first).read_bytes() == content
    assert artifacts.open_path(first).parent.parent.parent == store.settings.artifacts

    again = artifacts.keep(claim.fence, _file(tmp_path, b"other"), "cpp/main.cpp", "text/x-c")
    assert (again.id, again.size, again.media_type) == (first.id, 5, "text/x-c")
    assert artifacts.open_path(again).read_bytes() == b"other"
    second = artifacts.keep(claim.fence, _file(tmp_path, b"two"), "b.txt", "text/plain")
    assert artifacts.of(claim.job.id) == [again, second]
    assert store.artifacts.get(second.id) == second
    assert store.artifacts.find(claim.job.id, "b.txt") == second
    assert store.artifacts.find(claim.job.id, "c.txt") is None
    assert not [p for p in artifacts.folder(claim.job.id).rglob("*") if p.name.startswith(".")]


def test_records_come_in_pages(store: Store, tmp_path: Path) -> None:
    artifacts, search = ArtifactStore(store), _search(store)
    one, two = _claim(store, search), _claim(store)
    file = _file(tmp_path, b"x")
    kept = [artifacts.keep(one.fence, file, f"{n}.txt", "text/plain") for n in range(3)]
    other = artifacts.keep(two.fence, file, "0.txt", "text/plain")
    assert store.artifacts.page(search_id=search) == kept
    assert store.artifacts.page(job_id=one.job.id, after=kept[0].id, limit=1) == kept[1:2]
    assert store.artifacts.page(after=kept[-1].id) == [other]
    assert store.artifacts.jobs_of(search) == [one.job.id]
    with pytest.raises(NotFound, match="no artifact 99"):
        store.artifacts.get(99)


def test_whoever_lost_the_job_changes_nothing(store: Store, tmp_path: Path) -> None:
    artifacts = ArtifactStore(store)
    lost = _claim(store, lease_s=0.01)
    artifacts.keep(lost.fence, _file(tmp_path, b"before"), "a.txt", "text/plain")
    time.sleep(0.05)
    taken = store.jobs.claim("other", 60)
    assert taken is not None
    with pytest.raises(JobLost):
        artifacts.keep(lost.fence, _file(tmp_path, b"late"), "a.txt", "text/plain")
    (found,) = artifacts.of(lost.job.id)
    assert artifacts.open_path(found).read_bytes() == b"before"
    assert [p.name for p in artifacts.folder(lost.job.id).iterdir()] == ["a.txt"]


_PARTS = st.text(st.characters(exclude_characters="/\\", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)


@given(name=st.lists(_PARTS.filter(lambda p: not p.startswith(".")), min_size=1, max_size=3).map("/".join))
@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_relative_names_stay_inside(store: Store, tmp_path: Path, name: str) -> None:
    artifacts, claim = ArtifactStore(store), _claim(store)
    record = artifacts.keep(claim.fence, _file(tmp_path, b"x"), name, "text/plain")
    path = artifacts.open_path(record)
    assert path.is_relative_to(artifacts.folder(claim.job.id).resolve())
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/../../b",
        "/etc/passwd",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        ".part-x",
        "a/.b",
        "x" * 101,
    ],
)
def test_names_that_lead_elsewhere_are_refused(store: Store, tmp_path: Path, name: str) -> None:
    artifacts, claim = ArtifactStore(store), _claim(store)
    with pytest.raises(OptionError, match="no name for an artifact"):
        artifacts.keep(claim.fence, _file(tmp_path, b"x"), name, "text/plain")
    good = artifacts.keep(claim.fence, _file(tmp_path, b"x"), "good", "text/plain")
    with pytest.raises(OptionError, match="no name for an artifact"):
        artifacts.open_path(dataclasses.replace(good, name=name))


def test_links_are_not_followed(store: Store, tmp_path: Path) -> None:
    artifacts, claim = ArtifactStore(store), _claim(store)
    record = artifacts.keep(claim.fence, _file(tmp_path, b"x"), "sub/a.txt", "text/plain")
    folder = artifacts.folder(claim.job.id)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a.txt").write_text("secret")
    (folder / "link.txt").symlink_to(secret / "a.txt")
    (folder / "out").symlink_to(secret)
    for name in ("link.txt", "out/a.txt", "sub", "missing.txt"):
        with pytest.raises(NotFound, match="is gone"):
            artifacts.open_path(dataclasses.replace(record, name=name))
    (folder / "sub" / "a.txt").unlink()
    (folder / "sub" / "a.txt").symlink_to(secret / "a.txt")
    artifacts.keep(claim.fence, _file(tmp_path, b"y"), "sub/a.txt", "text/plain")  # takes the link's place
    assert (secret / "a.txt").read_text() == "secret"
    assert artifacts.open_path(record).read_bytes() == b"y"


def test_files_go_with_their_job_or_search(store: Store, tmp_path: Path) -> None:
    artifacts, search = ArtifactStore(store), _search(store)
    claims = [_claim(store, search), _claim(store, search), _claim(store)]
    for claim in claims:
        artifacts.keep(claim.fence, _file(tmp_path, b"x"), "d/a.txt", "text/plain")
    artifacts.remove_of(search_id=search)
    assert [artifacts.folder(c.job.id).exists() for c in claims] == [False, False, True]
    assert store.artifacts.page(search_id=search) == []
    artifacts.remove_of(job_id=claims[2].job.id)
    artifacts.remove_of(job_id=claims[2].job.id)  # nothing is left to remove
    assert store.artifacts.page() == []


def test_a_file_that_cannot_be_copied_is_told(store: Store, tmp_path: Path) -> None:
    artifacts, claim = ArtifactStore(store), _claim(store)
    with pytest.raises(StoreError, match=r"cannot keep a\.txt .*No such file"):
        artifacts.keep(claim.fence, tmp_path / "missing", "a.txt", "text/plain")
    assert artifacts.of(claim.job.id) == []


def test_media_types() -> None:
    names = ("a/network.onnx", "README.md", "x.zip", "curves.svg", "run.py", "a")
    assert [media_type(n) for n in names] == [
        "application/octet-stream",
        "text/markdown",
        "application/zip",
        "image/svg+xml",
        "text/x-python",
        "application/octet-stream",
    ]
