"""A user's own space from a YAML file. Every error names the file and the key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nas.blocks import FAMILIES
from nas.errors import InvalidSpace
from nas.graph import ACTIVATIONS, Shape
from nas.space import SearchSpace
from nas.spaces.staged import Head, Stage, Stem, staged_space


class _Section:
    """One mapping of the file, read key by key; what is left over at `done` is a mistake."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise InvalidSpace(f"{where} must be a mapping of keys to values, not {data!r}")
        self.data, self.where = dict(data), where

    def fail(self, key: str, problem: str) -> InvalidSpace:
        return InvalidSpace(f"{self.where}.{key} {problem}")

    def take(self, key: str, default: Any = ...) -> Any:
        if key not in self.data:
            if default is ...:
                raise self.fail(key, "is missing")
            return default
        return self.data.pop(key)

    def integer(self, key: str, default: Any = ..., low: int = 1, high: int = 100_000) -> int:
        return self._integer(key, self.take(key, default), low, high)

    def _integer(self, key: str, value: Any, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(key, f"must be a whole number from {low} to {high}, not {value!r}")
        return value

    def listed(self, key: str, default: Any = ...) -> list[Any]:
        value = self.take(key, default)
        values = value if isinstance(value, list) else [value]
        if not values:
            raise self.fail(key, "must list at least one choice")
        if any(isinstance(v, (list, dict)) for v in values):
            raise self.fail(key, f"must list plain values, not {value!r}")
        if len({(type(v), v) for v in values}) != len(values):
            raise self.fail(key, f"lists a choice twice: {value!r}")
        return values

    def integers(self, key: str, default: Any = ..., low: int = 1, high: int = 100_000) -> tuple[int, ...]:
        return tuple(self._integer(key, v, low, high) for v in self.listed(key, default))

    def kernels(self, key: str, default: Any) -> tuple[int, ...]:
        values = self.integers(key, default, 1, 15)
        if any(v % 2 == 0 for v in values):
            raise self.fail(key, f"must be odd, not {list(values)}")
        return values

    def named(self, key: str, default: Any, allowed: Sequence[str]) -> tuple[str, ...]:
        values = self.listed(key, default)
        for v in values:
            if v not in allowed:
                raise self.fail(key, f"must be one of {', '.join(allowed)}, not {v!r}")
        return tuple(values)

    def booleans(self, key: str, default: Any) -> tuple[bool, ...]:
        values = self.listed(key, default)
        if any(not isinstance(v, bool) for v in values):
            raise self.fail(key, f"must be true or false, not {values!r}")
        return tuple(values)

    def done(self, known: str) -> None:
        if self.data:
            raise self.fail(str(next(iter(self.data))), f"is not a key of this section; known: {known}")


def load_space(
    path: Path, *, resolutions: Sequence[int] = (), classes: int | None = None, channels: int | None = None
) -> SearchSpace:
    """Read, check and build the space a file describes; the keyword arguments override its input and classes.

    Raises:
        InvalidSpace: the file cannot be read or a key is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise InvalidSpace(f"cannot read the search space {path}: {e}") from e
    return parse_space(text, str(path), resolutions=resolutions, classes=classes, channels=channels)


def parse_space(
    text: str,
    source: str,
    *,
    resolutions: Sequence[int] = (),
    classes: int | None = None,
    channels: int | None = None,
) -> SearchSpace:
    """Like `load_space`, from the file's text; `source` names it in errors."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise InvalidSpace(f"{source} is not valid YAML: {' '.join(str(e).split())}") from e
    top = _Section(data, source)
    name = str(top.take("name", Path(source).stem))
    inputs = _inputs(_Section(top.take("input"), f"{source}: input"), resolutions, channels)
    head_section = _Section(top.take("head", {}), f"{source}: head")
    head = Head(
        classes=classes or top.integer("classes", 1000),
        width=head_section.integer("width", 1280, low=0),
        act=head_section.named("act", "relu6", ACTIVATIONS)[0],
    )
    top.take("classes", None)
    head_section.done("width, act")
    stem_section = _Section(top.take("stem", {}), f"{source}: stem")
    stem = Stem(
        width=stem_section.integer("width", 32),
        kernel=stem_section.kernels("kernel", 3)[0],
        stride=stem_section.integer("stride", 2, high=8),
        act=stem_section.named("act", "relu6", ACTIVATIONS)[0],
    )
    stem_section.done("width, kernel, stride, act")
    listed = top.take("stages")
    if not isinstance(listed, list) or not listed:
        raise top.fail("stages", "must be a list of at least one stage")
    stages = [_stage(_Section(s, f"{source}: stages[{i}]")) for i, s in enumerate(listed)]
    reduction = top.integer("reduction") if "reduction" in top.data else None
    top.done("name, input, classes, stem, stages, head, reduction")
    space = staged_space(name, inputs=inputs, stem=stem, stages=stages, head=head, reduction=reduction)
    if not space.genes:
        raise InvalidSpace(f"{source}: nothing to search: every key has a single choice")
    _ = space.compiled  # builds every choice once: an impossible one is told now, not mid-search
    return space


def _inputs(section: _Section, resolutions: Sequence[int], channels: int | None) -> list[Shape]:
    own_channels = section.integer("channels", 3, high=1024)
    c = channels or own_channels
    if "resolution" in section.data:
        sides: Sequence[int] = section.integers("resolution", high=4096)
        inputs = [(c, s, s) for s in sides]
    else:
        inputs = [(c, section.integer("height", high=4096), section.integer("width", high=4096))]
    section.done("channels and either resolution or height and width")
    return [(c, s, s) for s in resolutions] or inputs


def _stage(section: _Section) -> Stage:
    stage = Stage(
        family=section.named("family", "mbconv", tuple(FAMILIES)),
        width=section.integers("width"),
        expansion=section.integers("expansion", 6, high=64),
        repeats=section.integers("repeats", 1, high=64),
        kernel=section.kernels("kernel", 3),
        se=section.booleans("se", False),
        act=section.named("act", "relu6", ACTIVATIONS),
        stride=section.integers("stride", 1, high=8),
    )
    section.done("family, width, expansion, repeats, kernel, se, act, stride")
    return stage
