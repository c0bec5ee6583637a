"""DataRoot: the only files that a request can name lie below one folder, which an administrator fills."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from api.errors import OptionError
from api.plans.spec import DATA_PATHS
from api.settings import ServeSettings, Settings
from nas.errors import LightnasError
from nas.evaluators import find_evaluator

_PLAIN = ("digits", "cluttered-digits")
_OF_PATHS = ("data", "file", "checkpoint")  # kinds of options (`Evaluator.served_options`) that name files
_MAX_LENGTH = 1024
_UNFIT = re.compile(r"[\x00-\x1f\x7f\\]")  # control characters, and what some file systems take for a slash
_ELSEWHERE = "…/"
"""What stands for the folder of a file outside the root."""


class DataRoot:
    """Names of requests -> files below the root, and back.

    Args:
        root: the folder. It need not exist: then there is nothing to name.
        home: the service's own (`Settings.home`). But for the folder `data` in it, nobody may name what is there:
            tokens, the database, other users' files.
    """

    def __init__(self, root: Path, home: Path) -> None:
        self.root, self._home = root.resolve(), home.resolve()

    @classmethod
    def of(cls, settings: Settings) -> DataRoot:
        """The one the environment names."""
        return cls(ServeSettings.from_env(settings).data_root, settings.home)

    def check_place(self) -> None:
        """Raises OptionError if the root is, holds or lies in what nobody may name."""
        if self._is_private(self.root):
            raise OptionError(
                f"the data root {self.root} is not apart from the service's own files in {self._home}; set "
                f"LIGHTNAS_DATA_ROOT to another folder, or to {self._home / 'data'}"
            )

    def _is_private(self, path: Path) -> bool:
        """Whether a path, links resolved, is of the service's own files or above them."""
        if self._home.is_relative_to(path):
            return True
        return path.is_relative_to(self._home) and not path.is_relative_to(self._home / "data")

    def _holds(self, path: Path) -> bool:
        return path.is_relative_to(self.root) and not self._is_private(path)

    # Names -> files ----------------------------------------------------------------------------------------------

    def data(self, text: str) -> str:
        """The data spec (`nas.data.SPECS`) of a request, with an absolute path.

        Args:
            text: `digits`, `cluttered-digits`, or KIND:PATH with a path below the root.

        Raises:
            OptionError: it names no data set there, or one that holds links out of the root.
        """
        if text in _PLAIN:
            return text
        kind, colon, path = text.partition(":")
        if not colon or kind not in DATA_PATHS:
            kinds = ", ".join([*_PLAIN, *(f"{kind}:PATH" for kind in DATA_PATHS)])
            raise OptionError(f"no data set {text!r}; there is {kinds}, PATH being below the data root")
        return f"{kind}:{self.path(path)}"

    def file(self, text: str) -> Path:
        """The file of that name below the root.

        Raises:
            OptionError: there is none.
        """
        found = self.path(text)
        if not found.is_file():
            raise OptionError(f"{text!r} is no file below the data root")
        return found

    def path(self, text: str) -> Path:
        """The file or folder of that name below the root, links resolved; nothing in a folder leads out of the root.

        Raises:
            OptionError: there is none, or it leads out of the root.
        """
        parts = text.split("/")
        if len(text) > _MAX_LENGTH or _UNFIT.search(text) or text.startswith("~") or {"", ".", ".."} & set(parts):
            raise OptionError(
                f"{text[:_MAX_LENGTH]!r} is no path below the data root: names joined by '/', without '.', '..' or "
                "backslashes, not beginning with '/' or '~'"
            )
        return self._found(self.root / text, text)

    def check_stored(self, evaluator: str, options: Mapping[str, Any]) -> None:
        """Look again at what a request named, right before it is read: links may have come since it was checked.

        Args:
            evaluator: whose options they are.
            options: as they were stored, with absolute paths; those that name no files are not looked at.

        Raises:
            OptionError: a path is not below the root any more.
        """
        for name, kind in find_evaluator(evaluator).served_options.items():
            value = options.get(name)
            if kind not in _OF_PATHS or value is None or value in _PLAIN:
                continue
            path, shown = Path(value.partition(":")[2] if kind == "data" else value), self.shown(value)
            if not path.is_relative_to(self.root):
                raise OptionError(
                    f"{name}: {shown!r} is not below this worker's data root; give it the server's LIGHTNAS_DATA_ROOT"
                )
            self._found(path, shown)

    def _found(self, path: Path, text: str) -> Path:
        found = _resolved(path, text)
        if not self._holds(found):
            raise OptionError(f"{text!r} leads out of the data root; put the data itself there")
        # os.path: a name the file system cannot have is none. Sockets, pipes and devices are no data.
        if not (os.path.isfile(found) or os.path.isdir(found)):  # noqa: PTH112, PTH113
            raise OptionError(f"there is no {text!r} below the data root")
        if found.is_dir():
            self._check_links(found, text)
        return found

    def _check_links(self, folder: Path, text: str) -> None:
        """Raises OptionError if anything that can be reached from a folder is a link out of the root."""
        waiting, seen = [folder], set[Path]()
        while waiting:
            here = waiting.pop()
            if here in seen:
                continue
            seen.add(here)
            for entry in _entries(here, text):
                if entry.is_symlink():
                    target = _resolved(Path(entry.path), text)
                    if not self._holds(target):
                        where = Path(entry.path).relative_to(self.root)
                        raise OptionError(f"{text!r} holds a link that leads out of the data root: {str(where)!r}")
                    if target.is_dir():
                        waiting.append(target)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))

    # Files -> names ----------------------------------------------------------------------------------------------

    def shown(self, value: Any) -> Any:
        """A stored JSON value as users see it: paths relative to the root, of those elsewhere the last name only."""
        if isinstance(value, Mapping):
            return {key: self.shown(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.shown(item) for item in value]
        if not isinstance(value, str):
            return value
        kind, colon, path = value.partition(":")
        if colon and kind in DATA_PATHS and path.startswith("/"):
            return f"{kind}:{self._relative(path)}"
        return self._relative(value) if value.startswith("/") else value

    def _relative(self, path: str) -> str:
        found = Path(path)
        if found.is_relative_to(self.root):
            return str(found.relative_to(self.root))
        return _ELSEWHERE + found.name

    def told(self, text: str | None) -> str | None:
        """A message without the root's own place."""
        return None if text is None else text.replace(f"{self.root}/", "").replace(str(self.root), "the data root")

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Errors of the block do not tell where the root is."""
        try:
            yield
        except LightnasError as e:
            e.args = tuple(self.told(a) if isinstance(a, str) else a for a in e.args)
            raise


def _resolved(path: Path, text: str) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a name too long, a ring of links, no UTF-8
        raise OptionError(f"{text!r} cannot be looked up below the data root") from None


def _entries(folder: Path, text: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as e:
        raise OptionError(f"{text!r} cannot be read: {e.strerror or e}") from None
