"""Random shifts, turns, scales and mirrors of a whole batch at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SHIFT = 0.1  # of the side
TURN_DEG = 10.0
SCALE = 0.1


def augment(x: Tensor, generator: torch.Generator, *, flip: bool) -> Tensor:
    """Each picture moved by its own random affine map; what comes in from outside is black.

    Args:
        x: (n, c, h, w) floats, 0 being black.
        generator: a CPU generator, so that every device draws the same maps.
        flip: also mirror half of the pictures left to right.
    """
    n, _, h, w = x.shape
    u = torch.rand((n, 5), generator=generator) * 2 - 1
    angle = u[:, 0] * math.radians(TURN_DEG)
    zoom = torch.exp(-u[:, 1] * math.log1p(SCALE))
    mirror = torch.where(u[:, 4] < 0, -1.0, 1.0) if flip else torch.ones(n)
    cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
    # Rows of the map from output to input, both in [-1, 1]; h / w keeps a turn a turn on pictures that are not square.
    across = torch.stack([cos * mirror, -sin * (h / w), 2 * SHIFT * u[:, 2]], 1)
    down = torch.stack([sin * mirror * (w / h), cos, 2 * SHIFT * u[:, 3]], 1)
    theta = torch.stack([across, down], 1).to(x.device)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
