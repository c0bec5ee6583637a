"""A user's own model file -> Graph, so that a latency table can price it and a board can run it.

    onnx.py    an ONNX file, norms folded or not
    ncnn.py    an ncnn `.param` text
    draft.py   what both write to: ops and the activations between them, made a Graph at the end

What a Graph cannot express is never guessed at: it is listed, by the name the file gives it, in `Imported.unsupported`,
and the rest of the network is read all the same.
"""

from __future__ import annotations

from pathlib import Path

from latency.errors import LatencyError
from latency.importers.draft import Imported, Unsupported
from nas.graph import Shape

__all__ = ["ONNX", "PARAM", "Imported", "Unsupported", "read_model"]

ONNX, PARAM = ".onnx", ".param"


def read_model(path: Path, shape: Shape | None = None) -> Imported:
    """Reads a model file; its ending says of which kind it is.

    Args:
        path: an ONNX file (`.onnx`) or an ncnn text (`.param`).
        shape: (c, h, w) of the picture, needed where the file does not tell it.

    Raises:
        LatencyError: the file is missing, of neither kind, damaged, or its input is no single picture.
    """
    try:
        if path.suffix == ONNX:
            from latency.importers.onnx import from_onnx, load_onnx

            return from_onnx(load_onnx(path), shape, source=str(path))
        if path.suffix == PARAM:
            from latency.importers.ncnn import from_param

            return from_param(path.read_bytes(), shape, source=str(path))
    except OSError as e:
        raise LatencyError(f"{path}: cannot be read: {e.strerror or e}") from e
    raise LatencyError(f"{path}: its name ends neither in {ONNX} nor in {PARAM}; give an ONNX file or an ncnn text")
