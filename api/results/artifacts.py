"""Files that jobs made: copied to where all workers and the service find them, and listed in the store."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Final

from api.errors import NotFound, OptionError, StoreError
from api.store import Store
from api.store.artifacts import ArtifactRecord
from api.store.engine import make_folder
from api.store.fence import Fence
from nas.durable import to_disk

_CHUNK_BYTES: Final = 1 << 20
_PART: Final = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,99}")
"""Of a name, between slashes; what begins with a dot is ours, for files on their way."""
_MEDIA_TYPES: Final = {
    ".cpp": "text/plain",
    ".h": "text/plain",
    ".json": "application/json",
    ".md": "text/markdown",
    ".param": "text/plain",
    ".png": "image/png",
    ".py": "text/x-python",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".zip": "application/zip",
}


def media_type(name: str) -> str:
    """What a file is, by its suffix; bytes if that tells nothing. The same on every machine, unlike `mimetypes`."""
    return _MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")


class ArtifactStore:
    """The artifacts of all jobs, in a folder a job below the home.

    A file is complete when it is listed: it is copied under another name first, and takes its place in the transaction
    that lists it.

    Raises:
        StoreError: from any method, when the folder or the database cannot be used.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(self, fence: Fence, path: Path, name: str, media_type: str) -> ArtifactRecord:
        """Copy a file to where artifacts are, and list it; one of the same name is replaced.

        Args:
            fence: of the job that made it.
            path: the file.
            name: relative, with slashes.
            media_type: what a download says it is.

        Raises:
            JobLost: the job is another worker's; what was kept before stays as it was.
            OptionError: the name is none.
            StoreError: the file cannot be copied.
        """
        target = self.folder(fence.job_id) / _checked(name)
        part = self.folder(fence.job_id) / f".part-{fence.token}"
        try:
            make_folder(target.parent)
            size, sha256 = _copy(path, part)
            with self._store.database.write() as c:
                fence.check(c)
                record = self._store.artifacts.save(fence.job_id, name, media_type, size=size, sha256=sha256)
                part.replace(target)
                to_disk(target.parent)
        except OSError as e:
            raise StoreError(f"cannot keep {name} in {target.parent}: {e.strerror or e}; is the disk full?") from e
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        return record

    def of(self, job_id: int) -> list[ArtifactRecord]:
        """All artifacts of a job, oldest first."""
        found: list[ArtifactRecord] = []
        while page := self._store.artifacts.page(job_id=job_id, after=found[-1].id if found else 0, limit=1000):
            found += page
        return found

    def open_path(self, record: ArtifactRecord) -> Path:
        """Where an artifact's file is: below its job's folder, whatever the record says, and no link.

        Raises:
            NotFound: the file is gone, or something else is in its place.
            OptionError: the record's name leads elsewhere.
        """
        folder = self.folder(record.job_id)
        path = folder.resolve() / _checked(record.name)
        if not path.is_file() or path.resolve() != path:  # no link on the way is followed
            raise NotFound(f"the file of artifact {record.id} ({record.name}) is gone")
        return path

    def folder(self, job_id: int) -> Path:
        """Where a job's artifacts are, each under its name."""
        return self._store.settings.artifacts / str(int(job_id))

    def remove_of(self, *, job_id: int | None = None, search_id: int | None = None) -> None:
        """Remove the artifacts of a job, or of all jobs of a search.

        Call it before the job or search itself is deleted, and outside that transaction: files do not come back.
        """
        wanted = [] if job_id is None else [job_id]
        wanted += [] if search_id is None else self._store.artifacts.jobs_of(search_id)
        for one in wanted:
            self._store.artifacts.forget(one)
            folder = self.folder(one)
            try:
                if folder.exists():
                    shutil.rmtree(folder)
            except OSError as e:
                raise StoreError(f"cannot remove {folder}: {e.strerror or e}; remove it by hand") from e


def _checked(name: str) -> str:
    """A relative name that leads nowhere else.

    Raises:
        OptionError: it does.
    """
    if len(name) > 1024 or not all(_PART.fullmatch(part) for part in name.split("/")):
        raise OptionError(
            f"{name[:100]!r} is no name for an artifact: give a relative path whose parts begin with no dot"
        )
    return name


def _copy(source: Path, target: Path) -> tuple[int, str]:
    """Copies a file durably; its bytes and sha256 (hex)."""
    digest, size = hashlib.sha256(), 0
    target.unlink(missing_ok=True)
    with source.open("rb") as read, target.open("xb") as write:
        while chunk := read.read(_CHUNK_BYTES):
            write.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        write.flush()
        os.fsync(write.fileno())
    return size, digest.hexdigest()
