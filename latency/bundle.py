"""The runner as one file: the package `onboard` as a zip archive that any Python runs, always the same bytes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).with_name("onboard")
_START: Final = b"from onboard.main import run\n\nrun()\n"
_WHEN: Final = (1980, 1, 1, 0, 0, 0)
"""The first moment a zip archive can tell."""


def runner_bundle() -> bytes:
    """What is put on a board and run there: ``python3 runner.pyz``.

    The modules lie in a folder, so that none of them hides the engine it is named after. They are not compressed: the
    bytes then depend on their text alone and not on a version of zlib.
    """
    members = {"__main__.py": _START}
    members.update((f"onboard/{path.name}", path.read_bytes()) for path in sorted(_PACKAGE.glob("*.py")))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, source in members.items():
            member = zipfile.ZipInfo(name, _WHEN)
            member.create_system, member.external_attr = 3, 0o644 << 16  # as Unix does
            archive.writestr(member, source)
    return file.getvalue()
