"""Where spaces come from: presets, YAML files and third parties (entry points `lightnas.spaces`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from nas.errors import InvalidSpace, UnknownPlugin
from nas.graph import Shape
from nas.space import SearchSpace
from nas.spaces.families import mobilenet_v2, shufflenet_v2
from nas.spaces.presets import light_nas, mobilenetv2_small, nas_bench_macro
from nas.spaces.spec import load_space

# name -> (factory(inputs, classes), default resolution, default classes)
SpaceFactory = Callable[[Sequence[Shape], int], SearchSpace]
PRESETS: dict[str, tuple[SpaceFactory, int, int]] = {
    "light-nas": (light_nas, 224, 1000),
    "mobilenetv2-small": (mobilenetv2_small, 32, 10),
    "nas-bench-macro": (nas_bench_macro, 32, 10),
    "mobilenetv2": (mobilenet_v2, 224, 1000),
    "shufflenetv2": (shufflenet_v2, 224, 1000),
}


def space_names() -> list[str]:
    """Names `build_space` knows."""
    return [*PRESETS, *sorted(e.name for e in entry_points(group="lightnas.spaces"))]


def build_space(
    name: str,
    *,
    resolution: int | Sequence[int] | None = None,
    classes: int | None = None,
    channels: int | None = None,
) -> SearchSpace:
    """A preset, a registered space, or a YAML file (`.yaml`, `.yml`).

    Args:
        name: of a preset or registered space, or a file's path.
        resolution: picture side in pixels; several make resolution a gene. Default: the space's own.
        classes: outputs of the classifier. Default: the space's own.
        channels: of the input (3 for colour, 1 for grey). Default: the space's own (presets: 3).

    Raises:
        UnknownPlugin: no such name; lists what there is.
        InvalidSpace: the settings or the file cannot be used.
    """
    sizes = (resolution,) if isinstance(resolution, int) else tuple(resolution or ())
    for key, values in (("resolution", sizes), ("classes", (classes,)), ("channels", (channels,))):
        if any(v is not None and v < 1 for v in values):
            raise InvalidSpace(f"{name}: {key} must be at least 1, not {', '.join(map(str, values))}")
    if len(set(sizes)) != len(sizes):
        raise InvalidSpace(f"{name}: resolution lists {max(sizes, key=sizes.count)} twice")
    if name.endswith((".yaml", ".yml")):
        return load_space(Path(name), resolutions=sizes, classes=classes, channels=channels)
    preset = PRESETS.get(name)
    if preset is None:
        for entry in entry_points(group="lightnas.spaces", name=name):
            preset = entry.load()
        if preset is None:
            raise UnknownPlugin(f"no search space {name!r}; there are {', '.join(space_names())}, or a .yaml file")
    factory, default_resolution, default_classes = preset
    if name == "nas-bench-macro" and len(sizes) > 1:
        raise InvalidSpace("nas-bench-macro: resolution cannot be a gene; give one")
    inputs = [(channels or 3, side, side) for side in sizes or (default_resolution,)]
    return factory(inputs, classes or default_classes)
