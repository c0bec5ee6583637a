"""The network a checkpoint was taken of."""

from __future__ import annotations

from collections.abc import Mapping

from nas.blocks.mbconv import mbconv
from nas.errors import WeightsError
from nas.graph import Graph, Shape
from nas.spaces.families import build_mobilenet_v2, default_reduction
from nas.weights.layers import Layer


def mobilenet_v2_of(layers: Mapping[str, Layer], input_shape: Shape) -> Graph:
    """The MobileNetV2 whose weights these are: widths and repeats are theirs, the strides the plan's.

    Strides for small pictures are as `build_mobilenet_v2` has them. Other kernels or expansions than the plan's are
    refused: timm names the blocks of EfficientNet and MnasNet alike, and activations leave no trace in weights.

    Args:
        layers: path -> weights.
        input_shape: (c, h, w) of its pictures.

    Raises:
        WeightsError: something is missing or of another kind than in a MobileNetV2.
    """
    plan = build_mobilenet_v2(input_shape, 1, reduction=default_reduction(input_shape))
    strides = {node.path: node.op.stride[0] for node in plan.nodes}

    def shape(path: str, ndim: int = 4) -> tuple[int, ...]:
        if path not in layers or layers[path].weight.ndim != ndim:
            raise WeightsError(
                f"no MobileNetV2 with a classifier: the weights of {path} are missing or of another kind"
            )
        return tuple(layers[path].weight.shape)

    g = Graph(input_shape)
    width, _, kernel, _ = shape("stem")
    x = g.conv(g.input, width, kernel=kernel, stride=strides["stem"], act="relu6", path="stem")
    stages = {path.split(".")[0] for path in strides if path.endswith(".dw")}
    for stage in sorted(stages):
        blocks = {path.split(".")[1] for path in layers if path.startswith(f"{stage}.")}
        for block in range(len(blocks)):
            path = f"{stage}.b{block}"
            hidden, _, kernel, _ = shape(f"{path}.dw")
            expansion = 1 if stage == "s0" else 6
            if kernel != 3 or hidden != expansion * x.shape[0]:
                raise WeightsError(
                    f"no MobileNetV2: {path} has kernel {kernel} and {hidden} channels for {x.shape[0]}, "
                    f"not kernel 3 and {expansion * x.shape[0]}"
                )
            stride = strides[f"{stage}.b0.dw"] if block == 0 else 1
            x = mbconv(g, x, shape(f"{path}.project")[0], stride=stride, expansion=expansion, path=path)
    x = g.conv(x, shape("last")[0], act="relu6", path="last")
    g.linear(g.global_pool(x, path="pool"), shape("classifier", 2)[0], path="classifier")
    return g
