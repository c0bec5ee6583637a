from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nas.errors import WeightsError
from nas.fold import fold
from nas.network import Network
from nas.space import SearchSpace
from nas.spaces.families import build_mobilenet_v2
from nas.weights.layers import Layer
from nas.weights.names import understand


@pytest.fixture(params=["torchvision", "timm"])
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_state(layout: str, request: pytest.FixtureRequest):
    return request.getfixturevalue(f"{layout}_state")


@pytest.mark.parametrize("width", [0.25, 0.35, 0.75, 1.0, 1.4])
def test_every_tensor_of_a_mobilenet_v2_has_its_place(layout: str, make_state, width: float) -> None:
    found = understand(make_state(width, 10))
    assert found.layout == layout
    assert found.ignored == ()
    network = Network(build_mobilenet_v2((3, 224, 224), 10, width))
    assert {path: layer.weight.shape for path, layer in found.layers.items()} == {
        path: module.weight.shape for path, module in network.weighted().items()
    }
    assert {path for path, layer in found.layers.items() if layer.norm} == set(found.layers) - {"classifier"}
    assert found.layers["classifier"].bias is not None


# Their shapes do not tell the two norms of a block's hidden channels apart.
TORCHVISION = {
    "stem": ("features.0.0", "features.0.1"),
    "s0.b0.dw": ("features.1.conv.0.0", "features.1.conv.0.1"),
    "s0.b0.project": ("features.1.conv.1", "features.1.conv.2"),
    "s2.b1.expand": ("features.5.conv.0.0", "features.5.conv.0.1"),
    "s2.b1.dw": ("features.5.conv.1.0", "features.5.conv.1.1"),
    "s2.b1.project": ("features.5.conv.2", "features.5.conv.3"),
    "s6.b0.dw": ("features.17.conv.1.0", "features.17.conv.1.1"),
    "last": ("features.18.0", "features.18.1"),
}
TIMM = {
    "stem": ("conv_stem", "bn1"),
    "s0.b0.dw": ("blocks.0.0.conv_dw", "blocks.0.0.bn1"),
    "s0.b0.project": ("blocks.0.0.conv_pw", "blocks.0.0.bn2"),
    "s2.b1.expand": ("blocks.2.1.conv_pw", "blocks.2.1.bn1"),
    "s2.b1.dw": ("blocks.2.1.conv_dw", "blocks.2.1.bn2"),
    "s2.b1.project": ("blocks.2.1.conv_pwl", "blocks.2.1.bn3"),
    "s6.b0.dw": ("blocks.6.0.conv_dw", "blocks.6.0.bn2"),
    "last": ("conv_head", "bn2"),
}


def test_each_norm_goes_with_its_convolution(layout: str, make_state) -> None:
    state = make_state()
    layers = understand(state).layers
    for path, (weight, norm) in {"torchvision": TORCHVISION, "timm": TIMM}[layout].items():
        assert torch.equal(layers[path].weight, state[f"{weight}.weight"]), path
        found = layers[path].norm
        assert found is not None
        for part, value in found._asdict().items():
            assert torch.equal(value, state[f"{norm}.{part}"]), (path, part)


def test_torchvision_stages_of_another_depth_are_found_by_their_widths(torchvision_state) -> None:
    state = {k: v for k, v in torchvision_state().items() if not k.startswith(("features.17.", "features.18."))}
    paths = understand(state).layers
    assert "s5.b2.project" in paths
    assert not any(path.startswith("s6") for path in paths)


def test_timm_squeeze_excite_is_understood(timm_state) -> None:
    state = timm_state()
    for part in ("conv_reduce", "conv_expand"):
        state |= {f"blocks.2.0.se.{part}.weight": torch.ones(8, 8, 1, 1), f"blocks.2.0.se.{part}.bias": torch.ones(8)}
    layers = understand(state).layers
    assert {"s2.b0.se.reduce", "s2.b0.se.restore"} <= set(layers)


def test_what_belongs_to_no_op_is_told(layout: str, make_state) -> None:
    extra = {"aux.weight": torch.ones(2, 2), "aux.bias": torch.ones(2)}
    assert understand({**make_state(), **extra}).ignored == ("aux.weight", "aux.bias")


# Ours ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def network(small: SearchSpace) -> Network:
    return Network(small.graph([1] * len(small.genes)), seed=3)


def test_our_own_names(network: Network) -> None:
    found = understand(network.state_dict())
    assert (found.layout, found.ignored) == ("lightnas", ())
    assert list(found.layers) == list(network.weighted())


def test_our_folded_names(network: Network) -> None:
    folded = fold(network)
    state = {f"{path}.{part}": torch.from_numpy(v) for path, f in folded.items() for part, v in f._asdict().items()}
    found = understand(state)
    assert (found.layout, found.ignored) == ("lightnas-folded", ())
    assert list(found.layers) == list(folded)
    for path, layer in found.layers.items():
        assert layer.norm is None
        assert layer.bias is not None
        np.testing.assert_array_equal(layer.bias.numpy(), folded[path].bias)


RESNET = {
    "conv1.weight": torch.ones(4, 3, 3, 3),
    **{f"bn1.{part}": torch.ones(4) for part in ("weight", "bias", "running_mean", "running_var")},
    "layer1.0.conv1.weight": torch.ones(4, 4, 3, 3),
    "fc.weight": torch.ones(2, 4),
    "fc.bias": torch.ones(2),
}
NORMED = {"0.conv.weight": torch.ones(4, 3, 3, 3), "0.norm.running_mean": torch.ones(4), "0.norm.weight": torch.ones(4)}
LAYER_NORM = {"a.weight": torch.ones(4), "a.bias": torch.ones(4)}


@pytest.mark.parametrize("state", [RESNET, NORMED, LAYER_NORM], ids=["resnet", "norm", "layer norm"])
def test_unknown_names_are_told_with_what_is_understood(state: dict[str, Tensor]) -> None:
    with pytest.raises(WeightsError) as caught:
        understand(state)
    assert next(iter(state)) in str(caught.value)
    assert "torchvision's mobilenet_v2, timm's mobilenetv2_*" in str(caught.value)


def _spoilt(network: Network, name: str, value: Tensor | None) -> dict[str, Tensor]:
    state = dict(network.state_dict())
    if value is None:
        del state[name]
    else:
        state[name] = value
    return state


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("s1.b0.dw.weight", None, "s1.b0.dw.weight is missing"),
        ("stem.norm.running_var", None, "stem.norm.running_var is missing"),
        ("stem.norm.bias", torch.ones(3), r"stem.norm.bias is \(3,\), but stem.weight is \(16, 3, 3, 3\)"),
        ("stem.weight", torch.ones(16, 3, 3, 3, dtype=torch.int8), "stem.weight holds torch.int8"),
        ("stem.weight", torch.full((16, 3, 3, 3), torch.nan), "stem.weight holds NaN"),
        ("stem.weight", torch.ones(16, 3, 3), "stem.weight has 3 dimensions"),
    ],
)
def test_incomplete_or_wrong_layers_are_told(network: Network, name: str, value: Tensor | None, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        understand(_spoilt(network, name, value))


def test_half_precision_is_read(network: Network) -> None:
    layers = understand({name: value.half() for name, value in network.state_dict().items()}).layers
    assert {layer.weight.dtype for layer in layers.values()} == {torch.float32}


def test_a_bias_before_a_norm_becomes_part_of_its_mean() -> None:
    g = torch.Generator().manual_seed(0)
    norm = {f"a.norm.{part}": torch.rand(4, generator=g) for part in ("weight", "bias", "running_mean", "running_var")}
    state = {"a.weight": torch.rand((4, 3, 1, 1), generator=g), "a.bias": torch.rand(4, generator=g), **norm}
    layer: Layer = understand(state).layers["a"]
    x = torch.rand((1, 3, 5, 5), generator=g)

    def normed(y: Tensor) -> Tensor:
        mean, var, weight, bias = (state[f"a.norm.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return torch.nn.functional.batch_norm(y, mean, var, weight, bias)

    want = normed(torch.nn.functional.conv2d(x, state["a.weight"], state["a.bias"]))
    folded = layer.folded()
    torch.testing.assert_close(torch.nn.functional.conv2d(x, folded.weight, folded.bias), want)
