from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from latency.errors import LatencyError
from latency.importers import Imported, read_model
from latency.importers.onnx import from_onnx, picture_shape
from nas.graph import Graph


def exported(module: nn.Module, *, size: int = 32, norms: bool = False, batch: str | None = None) -> ModelProto:
    """As `torch.onnx.export` writes it; with `norms` they are not folded."""
    file = io.BytesIO()
    mode = torch.onnx.TrainingMode.PRESERVE if norms else torch.onnx.TrainingMode.EVAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.zeros(1, 3, size, size),),
            file,
            dynamo=False,
            training=mode,
            input_names=["x"],
            dynamic_axes={"x": {0: batch}} if batch else None,
        )
    return onnx.load_from_string(file.getvalue())


def keys(found: Imported) -> list[str]:
    return [n.op.key for n in found.graph.nodes]


# torchvision's MobileNetV2 -------------------------------------------------------------------------------------------


def conv_norm_act(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.residual, hidden = stride == 1 and c_in == c_out, c_in * expansion
        layers = [conv_norm_act(c_in, hidden, 1)] if expansion != 1 else []
        layers += [conv_norm_act(hidden, hidden, 3, stride, hidden)]
        self.conv = nn.Sequential(*layers, nn.Conv2d(hidden, c_out, 1, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    PLAN = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        features, c_in = [conv_norm_act(3, 32, 3, 2)], 32
        for expansion, c_out, repeats, stride in self.PLAN:
            for i in range(repeats):
                features.append(InvertedResidual(c_in, c_out, stride if i == 0 else 1, expansion))
                c_in = c_out
        self.features = nn.Sequential(*features, conv_norm_act(c_in, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


@pytest.mark.parametrize("norms", [False, True])
def test_mobilenetv2_as_torch_exports_it(norms: bool, tmp_path: Path) -> None:
    model = exported(MobileNetV2(), size=224, norms=norms, batch="n")
    assert ("BatchNormalization" in {n.op_type for n in model.graph.node}) is norms
    onnx.save(model, tmp_path / "m.onnx")
    found = read_model(tmp_path / "m.onnx")
    assert found.complete
    assert found.graph.flops == 300_774_272
    assert found.params_unfolded == 3_504_872
    assert found.graph.params == (3_504_872 if norms else 3_504_872 - 17_056)
    assert {n.op.act for n in found.graph.nodes if n.op.kind == "depthwise"} == {"relu6"}
    assert sum(n.op.kind == "add" for n in found.graph.nodes) == 10
    assert all("/" in n.path for n in found.graph.nodes)  # named as torch names them


# Other ways to write things ------------------------------------------------------------------------------------------


class Written(nn.Module):
    """Convolution, then `build`, then convolution and a classifier."""

    def __init__(self, build: Callable[[Tensor], Tensor], c: int = 8, out: int = 8) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, c, 3, 2, 1), nn.Conv2d(out, 4, 1)
        self.classifier, self.build = nn.Linear(4, 2), build

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.build(self.first(x)))
        return self.classifier(x.mean(dim=(2, 3)).view(x.size(0), -1))


@pytest.mark.parametrize(
    ("act", "build"),
    [
        ("relu", lambda x: torch.relu(x)),
        ("relu", lambda x: torch.clamp(x, min=0)),
        ("relu6", lambda x: torch.clamp(x, 0, 6)),
        ("hswish", lambda x: functional.hardswish(x)),
        ("hswish", lambda x: x * functional.relu6(x + 3) / 6),
        ("hswish", lambda x: x * (functional.relu6(x + 3) / 6)),
        ("hswish", lambda x: x * functional.hardsigmoid(x)),
        ("hswish", lambda x: functional.relu6(3 + x) * (1 / 6) * x),
        ("hsigmoid", lambda x: functional.hardsigmoid(x)),
        ("hsigmoid", lambda x: (x + 3).clamp(0, 6) / 6),
        ("sigmoid", lambda x: torch.sigmoid(x)),
        ("swish", lambda x: functional.silu(x)),
        ("swish", lambda x: torch.sigmoid(x) * x),
    ],
)
def test_activations_in_one_or_several_nodes(act: str, build: Callable[[Tensor], Tensor]) -> None:
    found = from_onnx(exported(Written(build), batch="n"))
    assert found.unsupported == ()
    first, last, pool, classifier = (n.op for n in found.graph.nodes)
    assert first.act == act
    assert (last.act, pool.kind, classifier.key) == ("none", "globalpool", "linear:4x1x1>2x1x1:bias")


def shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


@pytest.mark.parametrize("batch", [None, "n"])
@pytest.mark.parametrize(
    ("kinds", "build"),
    [
        (["shuffle"], shuffled),
        (["split", "add"], lambda x: torch.add(*x.chunk(2, 1))),
        (["split", "concat"], lambda x: torch.cat((x[:, 3:], x[:, :3]), 1)),
        (["split", "concat", "shuffle"], lambda x: shuffled(torch.cat(torch.split(x, (6, 2), 1)[::-1], 1))),
        (["globalpool", "scale"], lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True))),
        (["maxpool", "avgpool"], lambda x: functional.avg_pool2d(functional.max_pool2d(x, 3, 2, 1), 2)),
        (["globalpool"], lambda x: functional.avg_pool2d(x, 16)),
        ([], lambda x: functional.dropout(x.flatten(1).view(-1, 8, 16, 16), 0.5, False)),
    ],
)
def test_wiring(kinds: Sequence[str], build: Callable[[Tensor], Tensor], batch: str | None) -> None:
    out = 4 if kinds == ["split", "add"] else 8
    found = from_onnx(exported(Written(build, out=out), batch=batch))
    told = [n.op.kind for n in found.graph.nodes][1:-3]
    if "scale" in kinds:  # the pool has no activation inside, so this gate cannot be expressed
        assert [u.kind for u in found.unsupported] == ["sigmoid"]
    else:
        assert found.unsupported == ()
    assert told == list(kinds)


def test_a_linear_layer_as_product_and_sum() -> None:
    g = model_of(
        [("Flatten", ["x"], "f", {}), ("MatMul", ["f", "w"], "m", {}), ("Add", ["b", "m"], "y", {})],
        {"w": np.zeros((12, 5), np.float32), "b": np.zeros(5, np.float32)},
        picture=(3, 2, 2),
    )
    found = from_onnx(g)
    assert found.unsupported == ()
    assert keys(found) == ["linear:3x2x2>5x1x1:bias"]


def test_a_depthwise_convolution_with_several_filters_is_a_grouped_one() -> None:
    found = from_onnx(model_of([("Conv", ["x", "w"], "y", {"group": 3})], {"w": np.zeros((6, 1, 1, 1), np.float32)}))
    assert keys(found) == ["conv:3x8x8>6x8x8:k1x1:s1x1:g3"]


# What cannot be priced -----------------------------------------------------------------------------------------------


def model_of(
    nodes: Sequence[tuple[str, Sequence[str], str, dict[str, Any]]],
    weights: dict[str, Any],
    *,
    picture: Sequence[int | str] = (3, 8, 8),
    batch: int | str = 1,
    kind: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("y",),
) -> ModelProto:
    made = [helper.make_node(op, reads, [out], name=f"the_{out}", **more) for op, reads, out, more in nodes]
    return helper.make_model(
        helper.make_graph(
            made,
            "g",
            [helper.make_tensor_value_info("x", kind, [batch, *picture])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
    )


W3 = {"w": np.zeros((4, 3, 3, 3), np.float32)}
OURS: dict[str, Any] = {"pads": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, "padding 0,0,0,0"),
        ({"pads": [0, 0, 1, 1], "strides": [2, 2]}, r"padding 0,0,1,1 \(top, left, bottom, right\); lightnas has 1,1"),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, "padding 0,0,1,1"),
        ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, "padding 1,1,0,0"),
        ({"auto_pad": "VALID"}, "padding 0,0,0,0"),
        ({"pads": [2, 2, 2, 2], "dilations": [2, 2]}, "dilated"),
    ],
)
def test_other_windows_are_told_and_the_rest_is_read(attributes: dict[str, Any], reason: str) -> None:
    weights = {**W3, "v": np.zeros((5, 4, 1, 1), np.float32)}
    model = model_of([("Conv", ["x", "w"], "c", attributes), ("Conv", ["c", "v"], "y", {})], weights)
    found = from_onnx(model)
    (told,) = found.unsupported
    assert (told.name, told.kind) == ("the_c", "Conv")
    assert re.search(reason, told.reason)
    assert [n.op.kernel for n in found.graph.nodes] == [(1, 1)]  # what follows is priced all the same
    assert not found.complete


@pytest.mark.parametrize("size", [7, 8])
def test_same_padding_that_is_ours_is_taken(size: int) -> None:
    stride = 2 if size % 2 else 1
    model = model_of(
        [("Conv", ["x", "w"], "y", {"auto_pad": "SAME_UPPER", "strides": [stride] * 2})], W3, picture=(3, size, size)
    )
    assert from_onnx(model).complete


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ([("Conv", ["x", "w"], "c", OURS), ("LeakyRelu", ["c"], "y", {})], ["the_y (LeakyRelu)"]),
        ([("Relu", ["x"], "y", {})], ["the_y (relu)"]),
        ([("Conv", ["x", "w"], "c", OURS), ("Clip", ["c", "zero", "one"], "y", {})], ["the_y (Clip)"]),
        (
            [("Conv", ["x", "w"], "c", OURS), ("Relu", ["c"], "r", {}), ("Add", ["r", "c"], "y", {})],
            ["the_r (relu)"],
        ),
        ([("Conv", ["x", "w"], "c", OURS), ("Add", ["c", "three"], "y", {})], ["the_y (x+3)"]),
        ([("Conv", ["x", "w"], "c", OURS), ("Transpose", ["c"], "y", {"perm": [0, 2, 3, 1]})], ["the_y (Transpose)"]),
        (
            [("BatchNormalization", ["x", *["three"] * 4], "n", {}), ("Conv", ["n", "w"], "y", OURS)],
            ["the_n (BatchNormalization)"],
        ),
        (
            [
                ("Conv", ["x", "w"], "c", OURS),
                ("BatchNormalization", ["c", *["four"] * 4], "n", {}),
                ("Add", ["n", "c"], "y", {}),
            ],
            ["the_n (BatchNormalization)"],
        ),
        ([("Slice", ["x", "zeros", "ones", "ones"], "y", {})], ["the_y (Slice)"]),
        (
            [("AveragePool", ["x"], "y", {"kernel_shape": [3, 3], "count_include_pad": 1, **OURS})],
            ["the_y (AveragePool)"],
        ),
        (
            [("MaxPool", ["x"], "y", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1})],
            ["the_y (MaxPool)"],
        ),
        ([("Conv", ["x", "w"], "c", OURS), ("Mul", ["c", "four"], "y", {})], ["the_y (Mul)"]),
        ([("Conv", ["x", "x"], "y", OURS)], ["the_y (Conv)"]),
        ([("Reshape", ["x", "minus"], "y", {})], ["the_y (Reshape)"]),
    ],
)
def test_what_has_no_op_is_named(nodes: Any, names: list[str]) -> None:
    weights = {
        **W3,
        "zero": np.float32(0).reshape(()),
        "one": np.float32(1).reshape(()),
        "three": np.full(3, 3, np.float32)[:1],
        "four": np.ones(4, np.float32),
        "zeros": np.zeros(1, np.int64),
        "ones": np.ones(1, np.int64),
        "minus": np.array([-1], np.int64),
    }
    found = from_onnx(model_of(nodes, weights))
    assert [str(u).partition(":")[0] for u in found.unsupported] == names
    assert all(u.reason for u in found.unsupported)


def test_a_rounded_up_pool_with_our_size_is_taken() -> None:
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, **OURS}
    assert from_onnx(model_of([("MaxPool", ["x"], "y", attributes)], {}, picture=(3, 9, 9))).complete
    assert from_onnx(model_of([("MaxPool", ["x"], "y", attributes)], {}, picture=(3, 8, 8))).unsupported


def test_what_no_output_needs_is_left_out() -> None:
    nodes = [("Conv", ["x", "w"], "dead", OURS), ("Conv", ["x", "w"], "y", OURS)]
    found = from_onnx(model_of(nodes, W3))
    assert [n.path for n in found.graph.nodes] == ["the_y"]
    assert from_onnx(model_of(nodes, W3, outputs=("y", "dead"))).outputs == 2


# The input -----------------------------------------------------------------------------------------------------------

CONV = [("Conv", ["x", "w"], "y", OURS)]


def test_the_picture_may_be_left_open() -> None:
    model = model_of(CONV, W3, picture=(3, "h", "w"), batch="n")
    with pytest.raises(LatencyError, match=r"size of its picture; give it: --shape 3x224x224"):
        picture_shape(model)
    assert from_onnx(model, (3, 20, 10)).graph == Graph.from_dict(
        {
            "input": [3, 20, 10],
            "nodes": [{"path": "y", "op": "conv:3x20x10>4x20x10:k3x3:s1x1:g1", "inputs": [[-1, 0]]}],
        }
    )


@pytest.mark.parametrize(
    ("more", "shape", "message"),
    [
        ({"batch": 8}, None, "batch is fixed to 8"),
        ({"picture": (8, 8)}, None, "has 3 dimensions"),
        ({"kind": TensorProto.FLOAT16}, None, "FLOAT16; export it with a float32 input"),
        ({}, (3, 9, 9), "3x8x8, not 3x9x9"),
    ],
)
def test_inputs_that_are_no_picture_are_refused(more: Any, shape: Any, message: str) -> None:
    with pytest.raises(LatencyError, match=message):
        from_onnx(model_of(CONV, W3, **more), shape)


def test_several_inputs_are_refused() -> None:
    model = model_of(CONV, {})  # the weights are an input now
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 3, 3]))
    with pytest.raises(LatencyError, match=r"has 2 inputs \(x, w\)"):
        from_onnx(model)


@pytest.mark.parametrize("content", [b"", b"not protobuf at all", b"\x08\x07"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(LatencyError, match="is not an ONNX model") as caught:
        read_model(tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(LatencyError, match=r"m\.onnx: cannot be read"):
        read_model(tmp_path / "m.onnx")
    with pytest.raises(LatencyError, match=r"ends neither in \.onnx nor in \.param"):
        read_model(tmp_path / "m.pt")
