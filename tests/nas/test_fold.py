from __future__ import annotations

import numpy as np
import torch

from nas.blocks import FAMILIES
from nas.fold import fold
from nas.graph import Graph
from nas.network import Network


def _graph(*, norm: bool) -> Graph:
    """One small network of all weighted kinds, with norms or with biases in their place."""
    g = Graph((3, 12, 12))
    x = g.conv(g.input, 8, kernel=3, stride=2, act="hswish", norm=norm, path="stem")
    y = g.conv(x, 8, kernel=(1, 3), groups=2, act="relu6", norm=norm, path="s1.grouped")
    y = g.add(x, g.depthwise(y, kernel=5, norm=norm, path="s1.dw"), act="swish", path="s1.add")
    y = g.shuffle(g.concat(g.split(y, (4, 4), path="s1.split")[::-1], path="s1.concat"), 2, path="s1.shuffle")
    g.linear(g.avg_pool(y, kernel=3, stride=2, path="pool"), 5, path="classifier")
    return g


def _randomise_norms(network: Network) -> None:
    generator = torch.Generator().manual_seed(0)
    for module in network.weighted().values():
        if module.norm is not None:
            for value, low, high in ((module.norm.weight, 0.3, 2.0), (module.norm.running_var, 0.1, 3.0)):
                value.data.uniform_(low, high, generator=generator)
            for value in (module.norm.bias, module.norm.running_mean):
                value.data.normal_(generator=generator)


def test_folded_weights_compute_what_the_norms_did() -> None:
    network = Network(_graph(norm=True), seed=1).eval()
    _randomise_norms(network)
    folded = fold(network)
    plain = Network(_graph(norm=False)).eval()
    state = {f"{path}.{name}": torch.from_numpy(getattr(f, name)) for path, f in folded.items() for name in f._fields}
    plain.load_state_dict(state)  # strict: exactly a weight and a bias per op
    x = torch.randn(4, 3, 12, 12)
    with torch.inference_mode():
        torch.testing.assert_close(plain(x), network(x), atol=1e-4, rtol=1e-4)


def test_everything_has_a_float32_weight_and_bias_in_execution_order() -> None:
    g = Graph((3, 8, 8))
    x = FAMILIES["mbconv"].build(g, g.input, 8, se=True, path="b")
    g.linear(g.global_pool(x, path="pool"), 3, path="classifier")
    folded = fold(Network(g))
    assert list(folded) == ["b.expand", "b.dw", "b.se.reduce", "b.se.restore", "b.project", "classifier"]
    for weight, bias in folded.values():
        assert weight.dtype == bias.dtype == np.float32
        assert weight.flags.c_contiguous
        assert bias.shape == weight.shape[:1]
