from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import InvalidSpace
from nas.spaces.recipe import SpaceSpec

SIDES = st.integers(8, 64)
FILE = "input: {height: 24, width: 40}\nstages: [{width: [8, 16]}]\n"


@settings(deadline=None, max_examples=20)
@given(
    name=st.sampled_from(["mobilenetv2", "shufflenetv2"]),
    sizes=st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=3, unique=True).map(tuple),
    classes=st.none() | st.integers(1, 20),
    channels=st.sampled_from([None, 1, 3]),
)
def test_a_space_of_sizes_travels_as_plain_values(
    name: str, sizes: tuple[tuple[int, int], ...], classes: int | None, channels: int | None
) -> None:
    spec = SpaceSpec(name, (), classes, channels, sizes=sizes)
    again = SpaceSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert (again, hash(again)) == (spec, hash(spec))
    space = again.build()
    assert space.inputs == tuple((channels or 3, h, w) for h, w in sizes)
    assert space.graph([0] * len(space.genes)).output.shape == (classes or 1000, 1, 1)


@given(
    resolution=st.lists(SIDES, max_size=5).map(tuple),
    classes=st.none() | st.integers(1, 20),
    channels=st.none() | st.integers(1, 4),
    text=st.none() | st.text(),
)
def test_a_space_without_sizes_is_kept_as_before_there_were_any(
    resolution: tuple[int, ...], classes: int | None, channels: int | None, text: str | None
) -> None:
    kept = {"name": "a", "resolution": [*resolution], "classes": classes, "channels": channels, "text": text}
    spec = SpaceSpec("a", resolution, classes, channels, text)
    assert SpaceSpec.from_dict(kept) == spec
    assert json.dumps(spec.to_dict()) == json.dumps(kept)


def test_sizes_of_squares_are_a_resolution() -> None:
    sides = SpaceSpec("mobilenetv2", (32, 48), 7, 1)
    assert SpaceSpec("mobilenetv2", (), 7, 1, sizes=((32, 32), (48, 48))).build().digest == sides.build().digest


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (SpaceSpec("mobilenetv2", (32,), sizes=((48, 96),)), "both a resolution and sizes"),
        (SpaceSpec("mobilenetv2", sizes=((48, 96), (24, 48), (48, 96))), "sizes list 48x96 twice"),
        (SpaceSpec("mobilenetv2", sizes=((48, 0),)), "must be at least 1"),
        (SpaceSpec("mobilenetv2", classes=0, sizes=((48, 96),)), "must be at least 1"),
        (SpaceSpec("mine.yaml", text=FILE, sizes=((48, 96),)), "only the presets .*mobilenetv2"),
        (SpaceSpec("of-another-package", sizes=((48, 96),)), "only the presets .*mobilenetv2"),
    ],
)
def test_sizes_that_cannot_be(spec: SpaceSpec, told: str) -> None:
    with pytest.raises(InvalidSpace, match=told):
        spec.build()
