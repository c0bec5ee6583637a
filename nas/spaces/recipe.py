"""SpaceSpec: a search space as plain values, for the store and for other processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from nas.errors import InvalidSpace
from nas.space import SearchSpace
from nas.spaces import PRESETS, build_space
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
        sizes: (height, width) of pictures in pixels, for a preset; instead of `resolution` where they are not square.
    """

    name: str
    resolution: tuple[int, ...] = ()
    classes: int | None = None
    channels: int | None = None
    text: str | None = None
    sizes: tuple[tuple[int, int], ...] = ()

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
        if self.sizes:
            return self._build_sizes()
        if self.text is not None:
            return parse_space(
                self.text, self.name, resolutions=self.resolution, classes=self.classes, channels=self.channels
            )
        return build_space(self.name, resolution=self.resolution, classes=self.classes, channels=self.channels)

    def to_dict(self) -> dict[str, Any]:
        """JSON types; the inverse of `from_dict`."""
        data = {**asdict(self), "resolution": list(self.resolution), "sizes": [list(size) for size in self.sizes]}
        if not self.sizes:
            del data["sizes"]  # as before there were any: the trainings of stored finals are named by these values
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SpaceSpec:
        """The inverse of `to_dict`."""
        sizes = tuple((h, w) for h, w in data.get("sizes", ()))
        return cls(**{**data, "resolution": tuple(data["resolution"]), "sizes": sizes})

    def _build_sizes(self) -> SearchSpace:
        preset = PRESETS.get(self.name)
        if preset is None or self.text is not None:
            raise InvalidSpace(f"{self.name}: only the presets ({', '.join(PRESETS)}) take sizes; leave them out")
        if self.resolution:
            raise InvalidSpace(f"{self.name}: has both a resolution and sizes; give one of them")
        if any(n is not None and n < 1 for n in chain(*self.sizes, (self.classes, self.channels))):
            raise InvalidSpace(f"{self.name}: sizes, classes and channels must be at least 1")
        if len(set(self.sizes)) != len(self.sizes):
            h, w = max(self.sizes, key=self.sizes.count)
            raise InvalidSpace(f"{self.name}: sizes list {h}x{w} twice")
        factory, _, default_classes = preset
        return factory([(self.channels or 3, h, w) for h, w in self.sizes], self.classes or default_classes)
