"""The ShuffleNetV2 unit (arXiv 1807.11164, figure 3 c and d)."""

from __future__ import annotations

from nas.errors import InvalidOp
from nas.graph import Graph, Tensor


def shuffle_v2(
    g: Graph, x: Tensor, c_out: int, *, stride: int = 1, kernel: int = 3, act: str = "relu", path: str
) -> Tensor:
    """Half the channels pass, half are transformed; concatenation and a channel shuffle mix them.

    Where the shape changes (stride > 1 or other channels) both branches see the whole input, as in the
    spatial down-sampling unit.

    Raises:
        InvalidOp: c_out is odd.
    """
    if c_out % 2:
        raise InvalidOp(f"{path}: a ShuffleNetV2 unit needs an even width, not {c_out}")
    half = c_out // 2
    if stride == 1 and x.shape[0] == c_out:
        kept, y = g.split(x, (half, half), path=f"{path}.split")
    else:
        kept = g.depthwise(x, kernel=kernel, stride=stride, path=f"{path}.left.dw")
        kept = g.conv(kept, half, act=act, path=f"{path}.left.pw")
        y = x
    y = g.conv(y, half, act=act, path=f"{path}.right.pw1")
    y = g.depthwise(y, kernel=kernel, stride=stride, path=f"{path}.right.dw")
    y = g.conv(y, half, act=act, path=f"{path}.right.pw2")
    return g.shuffle(g.concat((kept, y), path=f"{path}.concat"), 2, path=f"{path}.shuffle")
