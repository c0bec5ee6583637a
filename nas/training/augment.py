"""Random changes of a whole batch of pictures at once, on whatever device it is.

`default` moves a picture a little: shifts, turns, scales. `rand` is in the style of RandAugment (arXiv 1909.13719): two
of eleven changes a picture, geometric, of colour, or a part erased; stronger, for long trainings. Both mirror where
the data allows. What is drawn is drawn on the CPU for the whole batch, so that every device, and every one of several
processes that share a batch, draws the same.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

SHIFT = 0.1  # of the side
TURN_DEG = 10.0
SCALE = 0.1

# What `rand` does at full strength, geometric changes first.
_RAND: Final = {
    "turn": 20.0,  # degrees
    "shear_x": 0.25,
    "shear_y": 0.25,
    "shift_x": 0.2,  # of the side
    "shift_y": 0.2,
    "zoom": 0.25,
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.7,
    "solarize": 0.5,  # levels above 1 - this are inverted
    "erase": 0.4,  # of the side
}
_OPS: Final = tuple(_RAND)
_PICKS: Final = 2

_DRAWS: Final = {"default": 5, "rand": 2 * _PICKS + 3}
AUGMENTATIONS: Final = ("none", *_DRAWS)


def draw(kind: str, n: int, generator: torch.Generator) -> Tensor:
    """(n, k) numbers in [0, 1) that decide what happens to n pictures; `generator` is a CPU generator."""
    return torch.rand((n, _DRAWS[kind]), generator=generator)


def augment(kind: str, x: Tensor, drawn: Tensor, *, flip: bool) -> Tensor:
    """Each picture changed as its own row of numbers says; what comes in from outside is black.

    Args:
        kind: `default` or `rand`.
        x: (n, c, h, w) floats in [0, 1], 0 being black.
        drawn: (n, k) of `draw`.
        flip: also mirror half of the pictures left to right.
    """
    return _move_a_little(x, drawn, flip=flip) if kind == "default" else _rand(x, drawn, flip=flip)


def _move_a_little(x: Tensor, drawn: Tensor, *, flip: bool) -> Tensor:
    u = drawn * 2 - 1
    mirror = torch.where(u[:, 4] < 0, -1.0, 1.0) if flip else torch.ones(len(u))
    turn, zoom = u[:, 0] * math.radians(TURN_DEG), torch.exp(-u[:, 1] * math.log1p(SCALE))
    nothing = torch.zeros(len(u))
    return _moved(x, turn, zoom, mirror, (nothing, nothing), (2 * SHIFT * u[:, 2], 2 * SHIFT * u[:, 3]))


def _rand(x: Tensor, drawn: Tensor, *, flip: bool) -> Tensor:
    picked = (drawn[:, :_PICKS] * len(_OPS)).long()
    strength = drawn[:, _PICKS : 2 * _PICKS] * 2 - 1
    # (n, ops): the sum of the strengths with which an op was picked, mostly 0
    at = torch.zeros(len(drawn), len(_OPS)).scatter_add_(1, picked, strength)
    by = {op: at[:, i] * most for i, (op, most) in enumerate(_RAND.items())}
    mirror = torch.where(drawn[:, -1] < 0.5, -1.0, 1.0) if flip else torch.ones(len(drawn))
    x = _moved(
        x,
        by["turn"] * (math.pi / 180),
        torch.exp(-by["zoom"]),
        mirror,
        (by["shear_x"], by["shear_y"]),
        (2 * by["shift_x"], 2 * by["shift_y"]),
    )

    def per_picture(values: Tensor) -> Tensor:
        return values.to(x.device)[:, None, None, None]

    x = x * per_picture(torch.exp(by["brightness"]))
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * per_picture(torch.exp(by["contrast"]))
    if x.shape[1] == 3:
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * per_picture(torch.exp(by["saturation"]))
    x = x.clamp(0, 1)
    x = torch.where(x > per_picture(1 - by["solarize"].abs()), 1 - x, x)
    return _erased(x, by["erase"].abs(), drawn[:, -3], drawn[:, -2])


def _moved(
    x: Tensor, turn: Tensor, zoom: Tensor, mirror: Tensor, shear: tuple[Tensor, Tensor], shift: tuple[Tensor, Tensor]
) -> Tensor:
    """Each picture moved by its own affine map, all parameters (n,); shifts are in half sides."""
    _, _, h, w = x.shape
    cos, sin = zoom * torch.cos(turn), zoom * torch.sin(turn)
    # Rows of the map from output to input, both in [-1, 1]; h / w keeps a turn a turn on pictures that are not square.
    across = torch.stack([cos * mirror, -sin * (h / w) + shear[0], shift[0]], 1)
    down = torch.stack([sin * mirror * (w / h) + shear[1], cos, shift[1]], 1)
    theta = torch.stack([across, down], 1).to(x.device)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _erased(x: Tensor, side: Tensor, centre_x: Tensor, centre_y: Tensor) -> Tensor:
    """A square of the given side, all in shares of the picture's, made grey (arXiv 1708.04896)."""
    _, _, h, w = x.shape
    rows, columns = ((torch.arange(n, device=x.device) + 0.5) / n for n in (h, w))
    half = side.to(x.device)[:, None] / 2
    inside_y = (rows - centre_y.to(x.device)[:, None]).abs() < half
    inside_x = (columns - centre_x.to(x.device)[:, None]).abs() < half
    return torch.where((inside_y[:, :, None] & inside_x[:, None, :])[:, None], 0.5, x)
