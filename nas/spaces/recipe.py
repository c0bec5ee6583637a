"""SpaceSpec: a search space as plain values, for the store and for other processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.errors import InvalidSpace
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.spaces.spec import parse_space


@dataclass(frozen=True)
class SpaceSpec:
    """All that decides a space; JSON types only.

    Attributes:
        name: of a preset or registered space, or the YAML file it came from.
        resolution: picture sides in pixels; several make resolution a gene, none means the space's own.
        classes: outputs of the classifier; None: the space's own.
        channels: of the input; None: the space's own.
        text: the YAML file's content, so that a later edit of the file cannot change a search.
    """

    name: str
    resolution: tuple[int, ...] = ()
    classes: int | None = None
    channels: int | None = None
    text: str | None = None

    @classmethod
    def of(
        cls, name: str, resolution: tuple[int, ...] = (), classes: int | None = None, channels: int | None = None
    ) -> SpaceSpec:
        """The spec of what `build_space` would build; a YAML file is read now.

        Raises:
            InvalidSpace: the file cannot be read.
        """
        if not name.endswith((".yaml", ".yml")):
            return cls(name, resolution, classes, channels)
        try:
            return cls(name, resolution, classes, channels, Path(name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as e:
            raise InvalidSpace(f"cannot read the search space {name}: {e}") from e

    def build(self) -> SearchSpace:
        """The space.

        Raises:
            UnknownPlugin: no such name.
            InvalidSpace: the settings or the text cannot be used.
        """
        if self.text is not None:
            return parse_space(
                self.text, self.name, resolutions=self.resolution, classes=self.classes, channels=self.channels
            )
        return build_space(self.name, resolution=self.resolution, classes=self.classes, channels=self.channels)

    def to_dict(self) -> dict[str, Any]:
        """JSON types; the inverse of `from_dict`."""
        return {**asdict(self), "resolution": list(self.resolution)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SpaceSpec:
        """The inverse of `to_dict`."""
        return cls(**{**data, "resolution": tuple(data["resolution"])})
