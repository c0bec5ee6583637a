"""The inverted residual with linear bottleneck (MobileNetV2, arXiv 1801.04381), optionally with SE (MobileNetV3)."""

from __future__ import annotations

from nas.graph import Graph, Tensor


def squeeze_excite(g: Graph, x: Tensor, c_squeezed: int, *, path: str) -> Tensor:
    """Squeeze-and-excitation as MobileNetV3 places it: pool, reduce (relu), restore (h-sigmoid), scale."""
    s = g.global_pool(x, path=f"{path}.pool")
    s = g.conv(s, c_squeezed, act="relu", norm=False, path=f"{path}.reduce")
    s = g.conv(s, x.shape[0], act="hsigmoid", norm=False, path=f"{path}.restore")
    return g.scale(x, s, path=f"{path}.scale")


def mbconv(
    g: Graph,
    x: Tensor,
    c_out: int,
    *,
    stride: int = 1,
    kernel: int = 3,
    expansion: int = 6,
    se: bool = False,
    act: str = "relu6",
    path: str,
) -> Tensor:
    """Expand 1x1, depthwise, [SE], project 1x1 without activation; a residual where the shapes agree.

    Args:
        g: the graph to build in.
        x: input (c, h, w).
        c_out: output channels.
        stride: of the depthwise convolution; the residual needs stride 1 and c == c_out.
        kernel: of the depthwise convolution (3, 5 or 7).
        expansion: hidden channels = c * expansion; 1 has no expanding convolution.
        se: squeeze-excite on the hidden channels, a quarter of them wide (a multiple of 8, at least 8).
        act: of the expanding and the depthwise convolution.
        path: prefix of the ops' paths.
    """
    hidden = x.shape[0] * expansion
    y = g.conv(x, hidden, act=act, path=f"{path}.expand") if expansion != 1 else x
    y = g.depthwise(y, kernel=kernel, stride=stride, act=act, path=f"{path}.dw")
    if se:
        y = squeeze_excite(g, y, max(8, round(hidden / 32) * 8), path=f"{path}.se")
    y = g.conv(y, c_out, path=f"{path}.project")
    return g.add(x, y, path=f"{path}.add") if stride == 1 and x.shape[0] == c_out else y
