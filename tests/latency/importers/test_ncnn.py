from __future__ import annotations

import pytest

from latency.engines import get_engine
from latency.errors import LatencyError
from latency.importers import Imported
from latency.importers.ncnn import from_param
from nas.graph import Graph

SHAPE = "0=8 1=8 2=3"


def read(*lines: str, picture: str = SHAPE, shape: tuple[int, int, int] | None = None) -> Imported:
    """Layers that read and make the blobs they name: `Kind name in > out params`."""
    text = [f"Input data 0 1 x {picture}"]
    for line in lines:
        left, _, right = line.partition(" > ")
        kind, name, *bottoms = left.split()
        made = [word for word in right.split() if "=" not in word]
        params = [word for word in right.split() if "=" in word]
        text.append(" ".join([kind, name, str(len(bottoms)), str(len(made)), *bottoms, *made, *params]))
    return from_param("\n".join(["7767517", f"{len(text)} 99", *text]) + "\n", shape)


def keys(found: Imported) -> list[str]:
    return [n.op.key for n in found.graph.nodes]


CONV = "Convolution c x > y 0=4 1=3 4=1 5=1 6=108"


@pytest.mark.parametrize(
    ("layers", "key"),
    [
        ([CONV], "conv:3x8x8>4x8x8:k3x3:s1x1:g1:bias"),
        ([CONV.replace("5=1", "5=0")], "conv:3x8x8>4x8x8:k3x3:s1x1:g1"),
        ([CONV + " 9=1"], "conv:3x8x8>4x8x8:k3x3:s1x1:g1:bias:relu"),
        ([CONV + " 9=3 -23310=2,0.0,6.0"], "conv:3x8x8>4x8x8:k3x3:s1x1:g1:bias:relu6"),
        ([CONV + " 9=6 -23310=2,1.6666667e-01,5.0e-01"], "conv:3x8x8>4x8x8:k3x3:s1x1:g1:bias:hswish"),
        ([CONV.replace("4=1", "4=-233")], "conv:3x8x8>4x8x8:k3x3:s1x1:g1:bias"),
        (["Convolution c x > y 0=4 1=3 11=1 4=1 14=0 5=1 6=36"], "conv:3x8x8>4x8x8:k1x3:s1x1:g1:bias"),
        (["ConvolutionDepthWise c x > y 0=3 1=3 4=1 5=1 6=27 7=3 3=2"], "depthwise:3x8x8>3x4x4:k3x3:s2x2:bias"),
        ([CONV.replace("5=1", "5=0"), "BatchNorm b y > z 0=4"], "conv:3x8x8>4x8x8:k3x3:s1x1:g1:bn"),
        ([CONV, "BatchNorm b y > z 0=4", "Scale s z > t 0=4 1=1"], "conv:3x8x8>4x8x8:k3x3:s1x1:g1:bn"),
        ([CONV, "Dropout d y > z", "ReLU r z > t"], "conv:3x8x8>4x8x8:k3x3:s1x1:g1:bias:relu"),
        ([CONV, "Swish r y > t"], "conv:3x8x8>4x8x8:k3x3:s1x1:g1:bias:swish"),
        ([CONV, "Clip r y > t 0=0 1=6"], "conv:3x8x8>4x8x8:k3x3:s1x1:g1:bias:relu6"),
        (
            [CONV, "Split s y > a b", "Sigmoid g a > h", "BinaryOp m b h > z 0=2"],
            "conv:3x8x8>4x8x8:k3x3:s1x1:g1:bias:swish",
        ),
        (
            [
                CONV,
                "Split s y > a b",
                "BinaryOp p a > c 0=0 1=1 2=3.0",
                "Clip q c > d 0=0.0 1=6.0",
                "BinaryOp m b d > e 0=2",
                "BinaryOp v e > f 0=3 1=1 2=6.0",
            ],
            "conv:3x8x8>4x8x8:k3x3:s1x1:g1:bias:hswish",
        ),
        (["Pooling p x > y 0=0 1=2 2=2 5=1"], "maxpool:3x8x8>3x4x4:k2x2:s2x2"),
        (["Pooling p x > y 0=0 1=2 2=2 5=0"], "maxpool:3x8x8>3x4x4:k2x2:s2x2"),
        (["Pooling p x > y 0=1 1=8 2=1 5=1"], "globalpool:3x8x8>3x1x1"),
        (["Pooling p x > y 0=1 4=1"], "globalpool:3x8x8>3x1x1"),
        (["Pooling p x > y 0=1 7=1 8=1"], "globalpool:3x8x8>3x1x1"),
        (["Reduction p x > y 0=3 1=0 -23303=2,1,2 4=1 5=1"], "globalpool:3x8x8>3x1x1"),
        (["Flatten f x > y", "InnerProduct i y > z 0=5 1=1 2=960"], "linear:3x8x8>5x1x1:bias"),
        (["Reshape f x > y 0=-1", "InnerProduct i y > z 0=5 1=1 2=960"], "linear:3x8x8>5x1x1:bias"),
        (["Split s x > a b", "Eltwise e a b > y 0=1"], "add:3x8x8+3x8x8>3x8x8"),
        (["ShuffleChannel s x > y 0=3"], "shuffle:3x8x8>3x8x8:g3"),
    ],
)
def test_layers_other_tools_write(layers: list[str], key: str) -> None:
    found = read(*layers)
    assert found.unsupported == ()
    assert keys(found) == [key]


def test_a_slice_into_equal_parts() -> None:
    found = read(
        "Convolution c x > y 0=4 1=1 5=1 6=12", "Slice s y > a b -23300=2,-233,-233 1=0", "Concat t b a > z 0=0"
    )
    assert keys(found)[1:] == ["split:4x8x8>2x8x8+2x8x8", "concat:2x8x8+2x8x8>4x8x8"]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("Convolution c x > y 0=4 1=3 5=1 6=108", "padding 0,0,0,0"),
        ("Convolution c x > y 0=4 1=3 3=2 4=-233 5=1 6=108", "padding 0,0,1,1"),
        ("Convolution c x > y 0=4 1=3 4=1 15=0 5=1 6=108", "padding 1,1,1,0"),
        ("Convolution c x > y 0=4 1=3 2=2 4=2 5=1 6=108", "dilated"),
        ("Convolution c x > y 0=4 1=3 4=1 5=1 6=100", "100 weights"),
        ("Convolution c x > y 0=4 1=3 4=1 5=1 6=108 8=2", "int8"),
        ("Convolution c x > y 0=4 1=3 4=1 5=1 6=108 9=2 -23310=1,0.1", "activation 2"),
        ("Pooling p x > y 0=0 1=3 2=2 5=0", "padding 0,0,0,0|rounded up"),
        ("Pooling p x > y 0=1 1=3 2=1 3=1 5=1 6=1", "counts the padding"),
        ("Pooling p x > y 0=0 4=1", "global maximum"),
        ("Softmax s x > y 0=0", "no such layer"),
        ("ReLU r x > y 0=0.1", "slope"),
        ("ReLU r x > y", "no activation inside"),
        ("Permute p x > y 0=1", "transposition"),
        ("Concat c x > y 0=1", "channels"),
        ("BinaryOp b x > y 0=0 1=1 2=1.5", "number 1.5"),
        ("Interp i x > y 0=1 1=2.0 2=2.0", "no such layer"),
    ],
)
def test_what_cannot_be_expressed_is_named(layer: str, reason: str) -> None:
    found = read(layer)
    (told,) = found.unsupported
    assert told.name == layer.split()[1]
    assert any(part in told.reason for part in reason.split("|"))


def test_what_follows_another_window_is_priced_all_the_same() -> None:
    found = read("Convolution c x > y 0=4 1=3 3=2 5=1 6=108", "Convolution d y > z 0=2 1=1 5=1 6=8")
    assert [u.name for u in found.unsupported] == ["c"]
    assert keys(found) == ["conv:4x3x3>2x3x3:k1x1:s1x1:g1:bias"]


def test_what_follows_an_unknown_layer_is_named_too() -> None:
    found = read("Interp i x > y 0=1", "Convolution d y > z 0=2 1=1 5=1 6=8")
    assert [(u.name, "unknown" in u.reason) for u in found.unsupported] == [("i", False), ("d", True)]


def test_the_picture_may_be_left_open() -> None:
    with pytest.raises(LatencyError, match="--shape 3x224x224"):
        read(CONV, picture="")
    assert keys(read(CONV, picture="", shape=(3, 10, 9))) == ["conv:3x10x9>4x10x9:k3x3:s1x1:g1:bias"]
    with pytest.raises(LatencyError, match="3x8x8, not 3x10x9"):
        read(CONV, shape=(3, 10, 9))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfe", "is not an ncnn text"),
        ("", "is not an ncnn text"),
        ("7767518\n1 1\nInput a 0 1 x\n", "first line is not 7767517"),
        ("7767517\n1 1\nInput a 0 one x\n", "line 3 is no layer"),
        ("7767517\n1 1\nInput a 0 1 x 0=8 1=8 2=3\nConvolution c 1 1 x\n", "line 4 is no layer"),
        ("7767517\n1 1\nInput a 0 1 x -23300=3,1\n", "line 3 is no layer"),
        ("7767517\n2 2\nInput a 0 1 x\nInput b 0 1 y\n", r"has 2 inputs \(a, b\)"),
        ("7767517\n1 1\nReLU a 0 1 x\n", r"has 0 inputs \(none\)"),
        ("7767517\n1 1\nInput a 0 1 x 0=8\n", "no picture"),
    ],
)
def test_damaged_texts(text: str | bytes, message: str) -> None:
    with pytest.raises(LatencyError, match=message) as caught:
        from_param(text, source="m.param")
    assert "\n" not in str(caught.value)
    assert "m.param" in str(caught.value)


def test_a_timed_text_is_no_network_of_ours() -> None:
    g = Graph((3, 8, 8))
    g.conv(g.input, 2, path="c")
    assert from_param(get_engine("ncnn").build(g).timed_model).unsupported
