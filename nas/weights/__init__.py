"""Weights that exist already: read from a checkpoint, understood, cut to fit any network; and as a teacher."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nas.errors import InvalidOp, WeightsError
from nas.graph import Graph, Shape
from nas.network import Network
from nas.weights.files import GRAPH, exported_facts, read_state, weights_file
from nas.weights.layers import Layer
from nas.weights.names import TIMM, TORCHVISION, first_names, understand
from nas.weights.own import mobilenet_v2_of
from nas.weights.settling import settle
from nas.weights.slicing import Fit, fit

__all__ = ["Fit", "Layer", "Weights", "exported_facts", "settle"]


@dataclass(frozen=True)
class Weights:
    """The weights of a checkpoint.

    Attributes:
        path: as given.
        digest: sha256 (hex) of the file that holds the tensors.
        layout: of its names: `lightnas`, `lightnas-folded`, `torchvision` or `timm`.
        layers: path -> weights, by our paths.
        ignored: names of tensors that belong to no op of ours.
    """

    path: Path
    digest: str
    layout: str
    layers: Mapping[str, Layer]
    ignored: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> Weights:
        """Read a checkpoint (`nas.weights.files.read_state`) and understand its names (`nas.weights.names`).

        Raises:
            WeightsError: it is missing, cannot be read, or has names of no known layout.
        """
        state = read_state(path)
        file = weights_file(path)
        try:
            named = understand(state)
            with file.open("rb") as f:
                digest = hashlib.file_digest(f, "sha256").hexdigest()
        except WeightsError as e:
            raise WeightsError(f"{path}: {e}") from e
        except OSError as e:
            raise WeightsError(f"cannot read {file}: {e.strerror or e}") from e
        return cls(path, digest, *named)

    def fit(self, network: Network) -> Fit:
        """Put into the network, in place, what of these weights it can take (`nas.weights.slicing.fit`)."""
        return fit(network, self.layers)

    def network(self, input_shape: Shape, classes: int) -> Network:
        """The checkpoint's own network in eval mode: a teacher.

        It is what `graph.json` beside the weights describes, as `nas export` writes it; else the MobileNetV2 whose
        weights have torchvision's or timm's names. A described network keeps its own picture size
        (`network.graph.input.shape`), and pictures are to be resized to it; any other is built for `input_shape`.

        Args:
            input_shape: (c, h, w) of the pictures it will see.
            classes: how many it has to tell apart.

        Raises:
            WeightsError: the network is not known, has other classes or channels, or not these weights.
        """
        graph = self._graph(input_shape)
        channels, outputs = graph.input.shape[0], graph.output.shape
        if outputs != (classes, 1, 1):
            raise WeightsError(
                f"{self.path} tells {outputs[0]} classes apart, not {classes}; train it on the same data"
            )
        if channels != input_shape[0]:
            raise WeightsError(f"{self.path} reads {channels} channels, the pictures have {input_shape[0]}")
        network = Network(graph)
        found = self.fit(network)
        missing = [*found.sliced, *found.fresh]
        spare = [*self.ignored, *(path for path in self.layers if path not in network.weighted())]
        if missing or spare:
            problem = f"it has no weights for {first_names(missing)}" if missing else f"unused: {first_names(spare)}"
            raise WeightsError(f"{self.path} does not hold the weights of the network it would be; {problem}")
        return network.eval()

    def _graph(self, input_shape: Shape) -> Graph:
        if self.layout in (TORCHVISION, TIMM):
            try:
                return mobilenet_v2_of(self.layers, input_shape)
            except (WeightsError, InvalidOp) as e:
                raise WeightsError(f"{self.path}: {e}") from e
        file = weights_file(self.path).with_name(GRAPH)
        try:
            return Graph.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise WeightsError(
                f"{self.path} does not say which network it is of; name an export of nas export (with its {GRAPH}), or "
                "a MobileNetV2 of torchvision or timm"
            ) from None
        except (OSError, ValueError, InvalidOp) as e:
            raise WeightsError(f"{file} describes no network: {e}") from e
