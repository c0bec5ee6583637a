"""Files that a server's job made, written here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from api.client import Client, ServerError
from api.schemas.jobs import ArtifactOut


def fetch(client: Client, files: Sequence[ArtifactOut], folder: Path) -> None:
    """Download files into a new or empty folder, or in place of an earlier export; all of them or none.

    Raises:
        ServerError: a file cannot be had, or its name leads out of the folder.
        ExportError: the folder is somebody else's, or cannot be written.
    """
    from api.export.bundle import write_atomically

    for file in files:
        path = PurePosixPath(file.name)
        if path.is_absolute() or not path.parts or any(part in ("..", "") or "\\" in part for part in path.parts):
            raise ServerError(f"the server {client.url} names a file {file.name!r}, which leads out of {folder}")

    def fill(temporary: Path) -> None:
        for file in files:
            target = temporary / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download(file, target)

    write_atomically(folder, fill)
