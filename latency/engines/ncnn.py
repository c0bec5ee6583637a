"""The ncnn engine: Graph -> `.param` text and `.bin` weights.

The files: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure

Timing and deployment share the same text. For timing, a `Stamp` layer stands after the last layer of each op; it
works in place on any packing, so the layers around it run exactly as they do without it. Layers that only pass a value
on (`Split`, and `Reshape` of a single pixel) are charged to the op that runs next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from latency.engines import Engine, EngineModel
from latency.errors import UnsupportedOp
from nas.graph import Graph, Node, Op, Pair, Tensor

MAGIC = "7767517"
STAMP = "Stamp"
INPUT, OUTPUT = "in0", "out0"

_FUSED = {"none": "", "relu": " 9=1", "relu6": " 9=3 -23310=2,0.0,6.0", "sigmoid": " 9=4"}
_FUSED["hswish"] = " 9=6 -23310=2,1.6666667e-01,5.0e-01"
_LAYERS = {
    "relu": "ReLU",
    "relu6": "Clip 0=0.0 1=6.0",
    "sigmoid": "Sigmoid",
    "swish": "Swish",
    "hswish": "HardSwish 0=1.6666667e-01 1=5.0e-01",
    "hsigmoid": "HardSigmoid 0=1.6666667e-01 1=5.0e-01",
}
_WEIGHTED = ("conv", "depthwise", "linear")


class NcnnEngine(Engine):
    """ncnn on the CPU, fp32 or, where the CPU has it, fp16 or bf16."""

    name = "ncnn"
    dtypes = ("fp32", "fp16", "bf16")

    def engine_key(self, op: Op) -> str:
        """The engine gets folded weights: with a norm or with a bias, the same layer runs."""
        return replace(op, norm=False, bias=True).key if op.norm else op.key

    def build(self, graph: Graph) -> EngineModel:
        """The network's texts, without and with stamps; see `Engine.build`."""
        plain, timed = _Writer(graph, stamps=False), _Writer(graph, stamps=True)
        return EngineModel(plain.text, timed.text, tuple(timed.stamped), graph.input.shape)

    def weights(self, graph: Graph, folded: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]) -> bytes:
        """The `.bin` beside the `.param`: per layer four zero bytes (raw fp32), the weights, the biases.

        Args:
            graph: the network.
            folded: path -> (weight, bias), norms folded; weight (c_out, c_in / groups, kh, kw), of a linear layer
                (features, c * h * w); bias (c_out,).

        Raises:
            UnsupportedOp: a path has no weights, or their number is wrong.
        """
        chunks: list[bytes] = []
        for node in graph.nodes:
            if node.op.kind not in _WEIGHTED:
                continue
            if node.path not in folded:
                raise UnsupportedOp(f"{node.path}: no weights given for {node.op.key}; fold the whole network first")
            weight, bias = (np.ascontiguousarray(a, dtype="<f4") for a in folded[node.path])
            if weight.size != _weight_count(node.op) or bias.size != node.op.outputs[0][0]:
                raise UnsupportedOp(
                    f"{node.path}: weights {weight.shape} and bias {bias.shape} do not fit {node.op.key}"
                )
            chunks += [b"\0\0\0\0", weight.tobytes(), bias.tobytes()]
        return b"".join(chunks)


class _Writer:
    """Writes one `.param` text.

    `blobs` names the blob of each tensor; `flat` holds the tensors ncnn keeps as vectors (what global pooling and
    linear layers return), because layers with a window need them reshaped to c x 1 x 1.
    """

    def __init__(self, graph: Graph, *, stamps: bool) -> None:
        self.stamps = stamps
        self.stamped: list[str] = []
        self._lines: list[str] = []
        self._blob_count = 0
        self._uses = Counter((t.node, t.port) for node in graph.nodes for t in node.inputs)
        self._readers: dict[Pair, list[str]] = {}
        self._flat: set[Pair] = set()
        last = len(graph.nodes) - 1
        c, h, w = graph.input.shape
        self._layer("Input", INPUT, (), (INPUT,), f"0={w} 1={h} 2={c}")
        self._offer((-1, 0), INPUT, INPUT)
        for index, node in enumerate(graph.nodes):
            self._node(index, node, final=index == last)
        self.text = "\n".join([MAGIC, f"{len(self._lines)} {self._blob_count}", *self._lines]) + "\n"

    def _layer(self, kind: str, name: str, bottoms: Iterable[str], tops: Iterable[str], params: str = "") -> None:
        bottoms, tops = list(bottoms), list(tops)
        self._blob_count += len(tops)
        fields = [kind, name, str(len(bottoms)), str(len(tops)), *bottoms, *tops]
        self._lines.append(" ".join(fields) + (f" {params.strip()}" if params.strip() else ""))

    def _offer(self, tensor: Pair, blob: str, name: str) -> None:
        """Makes a tensor readable as often as it is used; ncnn wants a Split for more than one reader."""
        uses = self._uses[tensor]
        self._readers[tensor] = [blob]
        if uses > 1:
            self._readers[tensor] = [f"{blob}.{i}" for i in range(uses)]
            self._layer("Split", f"{name}.copies{tensor[1] or ''}", (blob,), self._readers[tensor])

    def _read(self, tensor: Tensor, *, cubic: bool, name: str) -> str:
        blob = self._readers[tensor.node, tensor.port].pop(0)
        if not cubic or (tensor.node, tensor.port) not in self._flat:
            return blob
        self._layer("Reshape", f"{name}.reshape", (blob,), (f"{blob}.{name}.cubic",), f"0=1 1=1 2={tensor.shape[0]}")
        return f"{blob}.{name}.cubic"

    def _node(self, index: int, node: Node, *, final: bool) -> None:
        op, path = node.op, node.path
        if any(ch.isspace() for ch in path):
            raise UnsupportedOp(f"path {path!r} contains a space, which an ncnn text cannot hold; rename the op")
        flat = [(t.node, t.port) in self._flat for t in node.inputs]
        windowed = op.kind in ("depthwise", "maxpool", "avgpool", "shuffle") or op.kernel != (1, 1) or op.groups > 1
        cubic = windowed or (op.kind in ("add", "concat") and not all(flat)) or op.kind in ("linear", "globalpool")
        if op.kind in ("linear", "globalpool"):
            cubic = False
        bottoms = [self._read(t, cubic=cubic, name=path) for t in node.inputs]
        kind, params = _layer_of(op)
        fused = op.act in _FUSED and op.kind in _WEIGHTED
        tops = [OUTPUT if final and not i else f"{path}:{i}" for i in range(len(op.outputs))]
        chain = [f"{kind} {params}{_FUSED[op.act] if fused else ''}"]
        chain += [_LAYERS[op.act]] if op.act != "none" and not fused else []
        for step, layer in enumerate(chain):
            layer_kind, _, layer_params = layer.partition(" ")
            ends = step == len(chain) - 1
            outs = [f"{t}.raw" if self.stamps else t for t in tops] if ends else [f"{path}:pre"]
            self._layer(layer_kind, path if not step else f"{path}.{op.act}", bottoms, outs, layer_params)
            bottoms = outs
        for port, top in enumerate(tops):
            if self.stamps:
                self._layer(STAMP, f"{path}.stamp{port}", (bottoms[port],), (top,))
                self.stamped.append(path)
            if op.kind in ("linear", "globalpool") or (flat[0] and not cubic and op.kind != "globalpool"):
                self._flat.add((index, port))
            self._offer((index, port), top, path)


def _weight_count(op: Op) -> int:
    (c, h, w), (oc, _, _) = op.inputs[0], op.outputs[0]
    return c * h * w * oc if op.kind == "linear" else op.kernel[0] * op.kernel[1] * (c // op.groups) * oc


def _window(op: Op, keys: tuple[int, int, int, int, int, int]) -> str:
    """Kernel, stride and padding as (width, height) pairs under the six parameter numbers of a layer type."""
    (kh, kw), (sh, sw) = op.kernel, op.stride
    values = (kw, kh, sw, sh, (kw - 1) // 2, (kh - 1) // 2)
    return " ".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))


def _layer_of(op: Op) -> tuple[str, str]:
    """An op's ncnn layer type and parameters, without its activation."""
    oc = op.outputs[0][0]
    match op.kind:
        case "conv" | "depthwise":
            text = f"0={oc} {_window(op, (1, 11, 3, 13, 4, 14))} 5=1 6={_weight_count(op)}"
            return ("Convolution", text) if op.groups == 1 else ("ConvolutionDepthWise", f"{text} 7={op.groups}")
        case "linear":
            return "InnerProduct", f"0={oc} 1=1 2={_weight_count(op)}"
        case "add":
            return "BinaryOp", "0=0"
        case "scale":
            return "BinaryOp", "0=2"
        case "concat":
            return "Concat", "0=0"
        case "split":
            sizes = [str(shape[0]) for shape in op.outputs[:-1]] + ["-233"]
            return "Slice", f"-23300={len(sizes)},{','.join(sizes)} 1=0"
        case "shuffle":
            return "ShuffleChannel", f"0={op.groups}"
        case "maxpool" | "avgpool":
            average = int(op.kind == "avgpool")
            return "Pooling", f"0={average} {_window(op, (1, 11, 2, 12, 3, 13))} 5=1"
        case "globalpool":
            return "Pooling", "0=1 4=1"
    raise UnsupportedOp(f"ncnn cannot run {op.key}")
