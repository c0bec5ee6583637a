"""Checkpoints as torchvision and timm write them: every name and shape, from MobileNetV2's plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

PLAN = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
State = dict[str, Tensor]
MakeState = Callable[..., State]


class Block(NamedTuple):
    stage: int
    number: int
    c_in: int
    hidden: int
    c_out: int


def _divisible(value: float) -> int:
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def _blocks(width: float) -> Iterator[Block]:
    c = _divisible(32 * width)
    for stage, (expansion, channels, repeats) in enumerate(PLAN):
        for number in range(repeats):
            yield Block(stage, number, c, c * expansion, _divisible(channels * width))
            c = _divisible(channels * width)


class _Writer:
    def __init__(self) -> None:
        self.state: State = {}
        self.generator = torch.Generator().manual_seed(0)

    def conv(self, name: str, *shape: int) -> None:
        fan_in = shape[1] * shape[2] * shape[3]
        self.state[f"{name}.weight"] = torch.randn(shape, generator=self.generator) * (2 / fan_in) ** 0.5

    def norm(self, name: str, c: int) -> None:
        for part, low, high in (("weight", 0.5, 1.5), ("bias", -0.3, 0.3), ("running_mean", -0.3, 0.3)):
            self.state[f"{name}.{part}"] = torch.empty(c).uniform_(low, high, generator=self.generator)
        self.state[f"{name}.running_var"] = torch.empty(c).uniform_(0.5, 2, generator=self.generator)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def linear(self, name: str, out: int, c: int) -> None:
        self.state[f"{name}.weight"] = torch.randn((out, c), generator=self.generator) * 0.05
        self.state[f"{name}.bias"] = torch.randn(out, generator=self.generator)


@pytest.fixture(scope="session")
def torchvision_state() -> MakeState:
    """`torchvision.models.mobilenet_v2(width_mult=width, num_classes=classes).state_dict()`, with other numbers."""

    def make(width: float = 1.0, classes: int = 1000) -> State:
        w = _Writer()
        blocks = list(_blocks(width))
        last = _divisible(1280 * max(1.0, width))
        w.conv("features.0.0", blocks[0].c_in, 3, 3, 3)
        w.norm("features.0.1", blocks[0].c_in)
        for index, b in enumerate(blocks, 1):
            conv, at = f"features.{index}.conv", 0
            if b.hidden != b.c_in:
                w.conv(f"{conv}.0.0", b.hidden, b.c_in, 1, 1)
                w.norm(f"{conv}.0.1", b.hidden)
                at = 1
            w.conv(f"{conv}.{at}.0", b.hidden, 1, 3, 3)
            w.norm(f"{conv}.{at}.1", b.hidden)
            w.conv(f"{conv}.{at + 1}", b.c_out, b.hidden, 1, 1)
            w.norm(f"{conv}.{at + 2}", b.c_out)
        w.conv(f"features.{len(blocks) + 1}.0", last, blocks[-1].c_out, 1, 1)
        w.norm(f"features.{len(blocks) + 1}.1", last)
        w.linear("classifier.1", classes, last)
        return w.state

    return make


@pytest.fixture(scope="session")
def timm_state() -> MakeState:
    """`timm.create_model("mobilenetv2_100", num_classes=classes).state_dict()`, with other numbers."""

    def make(width: float = 1.0, classes: int = 1000) -> State:
        w = _Writer()
        blocks = list(_blocks(width))
        last = _divisible(1280 * max(1.0, width))
        w.conv("conv_stem", blocks[0].c_in, 3, 3, 3)
        w.norm("bn1", blocks[0].c_in)
        for b in blocks:
            at = f"blocks.{b.stage}.{b.number}"
            separable = b.hidden == b.c_in
            if not separable:
                w.conv(f"{at}.conv_pw", b.hidden, b.c_in, 1, 1)
                w.norm(f"{at}.bn1", b.hidden)
            w.conv(f"{at}.conv_dw", b.hidden, 1, 3, 3)
            w.norm(f"{at}.{'bn1' if separable else 'bn2'}", b.hidden)
            w.conv(f"{at}.{'conv_pw' if separable else 'conv_pwl'}", b.c_out, b.hidden, 1, 1)
            w.norm(f"{at}.{'bn2' if separable else 'bn3'}", b.c_out)
        w.conv("conv_head", last, blocks[-1].c_out, 1, 1)
        w.norm("bn2", last)
        w.linear("classifier", classes, last)
        return w.state

    return make
