from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from api.results.artifacts import ArtifactStore
from api.store import Store
from api.store.artifacts import ArtifactRecord
from api.store.models import artifacts

Ask = Callable[..., httpx.Response]


@pytest.fixture
def keep(store: Store, tmp_path: Path) -> Callable[..., ArtifactRecord]:
    """Keeps a file as a job's: keep(search_id, name, content)."""

    def make(search_id: int | None, name: str, content: bytes = b"x", media_type: str = "text/plain") -> ArtifactRecord:
        store.jobs.create("export", {}, search_id=search_id, owner="alice")
        claim = store.jobs.claim("w", 60)
        assert claim is not None
        path = tmp_path / "made"
        path.write_bytes(content)
        return ArtifactStore(store).keep(claim.fence, path, name, media_type)

    return make


def _search(store: Store, name: str) -> int:
    return store.searches.create({"seed": 0}, space="s", space_digest="d", name=name).id


def test_artifacts_are_listed_per_job_and_search(ask: Ask, store: Store, keep: Callable[..., ArtifactRecord]) -> None:
    search, other = _search(store, "a"), _search(store, "b")
    made = [keep(search, f"{i}.txt") for i in range(3)]
    foreign = keep(other, "x.txt")
    listed = ask("GET", f"searches/{search}/artifacts", by="reader").json()
    assert [a["id"] for a in listed["items"]] == [record.id for record in made]
    assert listed["items"][0]["size"] == 1
    assert listed["items"][0]["name"] == "0.txt"
    assert len(listed["items"][0]["sha256"]) == 64
    page = ask("GET", f"searches/{search}/artifacts", params={"limit": 2}).json()
    rest = ask("GET", f"searches/{search}/artifacts", params={"limit": 2, "cursor": page["next"]}).json()
    assert [a["id"] for a in page["items"] + rest["items"]] == [record.id for record in made]
    assert rest["next"] is None
    of_job = ask("GET", f"jobs/{foreign.job_id}/artifacts").json()
    assert [a["id"] for a in of_job["items"]] == [foreign.id]
    assert ask("GET", "searches/999/artifacts").status_code == 404
    assert ask("GET", "jobs/999/artifacts").status_code == 404


def test_a_download_is_saved_and_never_shown(ask: Ask, store: Store, keep: Callable[..., ArtifactRecord]) -> None:
    content = b"<svg onload='alert(1)'/>" * 1000
    record = keep(_search(store, "a"), 'sub/cur"ves;\u00e9 x.svg', content, "image/svg+xml")
    answer = ask("GET", f"artifacts/{record.id}/content", by="reader")
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-disposition"] == 'attachment; filename="cur_ves___x.svg"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert answer.headers["etag"] == f'"{record.sha256}"'
    part = ask("GET", f"artifacts/{record.id}/content", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"<svg")


def test_no_record_leads_out_of_its_folder(
    ask: Ask, store: Store, keep: Callable[..., ArtifactRecord], tmp_path: Path
) -> None:
    record = keep(_search(store, "a"), "x.txt")
    (tmp_path / "secret").write_text("TOP")
    place = f"artifacts/{record.id}/content"
    for name in ("../../../secret", str(tmp_path / "secret"), "../1/x.txt"):
        with store.database.write() as c:
            c.execute(sa.update(artifacts).where(artifacts.c.id == record.id).values(name=name))
        answer = ask("GET", place)
        assert answer.status_code in (404, 422, 503)
        assert "TOP" not in answer.text
    with store.database.write() as c:
        c.execute(sa.update(artifacts).where(artifacts.c.id == record.id).values(name="x.txt"))
    path = ArtifactStore(store).open_path(record)
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    assert ask("GET", place).status_code in (404, 422, 503)
    path.unlink()
    gone = ask("GET", place)
    assert gone.status_code == 404
    assert str(store.settings.home) not in gone.text
    assert ask("GET", "artifacts/999/content").status_code == 404
