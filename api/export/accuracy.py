"""An export checked on a board: the test pictures run there through the exported files, and here through torch.

What the board is compared with is the folded network of `graph.json` and `weights.pt`, not the files the engines read:
so a fault in one of those is found, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from api.errors import ExportError, OptionError
from api.export.bundle import MARK
from latency.accuracy import BoardAnswers, board_activations, classify_on_board
from latency.agreement import Agreement, Difference, compare, first_difference
from latency.errors import UnsupportedOp, WrongAnswers
from latency.link import PatientLink
from nas.data import Part, load_data
from nas.graph import Graph
from nas.memory import MEGABYTE
from nas.network import Network

ENGINE_FILES: Final = {
    "ncnn": {".param": "network.ncnn.param", ".bin": "network.ncnn.bin"},
    "onnxruntime": {".onnx": "network.onnx"},
}
"""For each engine what it loads, by suffix."""
_REFERENCE: Final = ("graph.json", "weights.pt")
_BATCH: Final = 64


@dataclass(frozen=True)
class Export:
    """An export folder, read.

    Attributes:
        folder: where.
        facts: of its card.
        network: the folded network, in torch.
    """

    folder: Path
    facts: dict[str, Any]
    network: Network

    def changed(self, names: Iterable[str]) -> list[str]:
        """Which files are not as they were written."""
        return [name for name in names if _digest(self.folder / name) != self.facts["files"][name]]

    def normalise(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """(n, c, h, w) as the network reads them."""
        mean, std = (np.array(self.facts[key], np.float32)[None, :, None, None] for key in ("mean", "std"))
        return torch.from_numpy((pictures.astype(np.float32) / 255 - mean) / std)

    def logits(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, classes), computed here."""
        with torch.inference_mode():
            made = [
                self.network(self.normalise(pictures[start : start + _BATCH])).numpy()
                for start in range(0, len(pictures), _BATCH)
            ]
        return np.concatenate(made)


def read_export(folder: Path) -> Export:
    """Reads what `nas export` wrote.

    Raises:
        OptionError: it is another folder.
        ExportError: a file is missing or broken, or what the board would be compared with has been changed.
    """
    if not (folder / MARK).is_file():
        raise OptionError(f"{folder} is no export of lightnas; give the folder that nas export wrote")
    try:
        facts = json.loads((folder / MARK).read_text())
        for name in _REFERENCE:
            if _digest(folder / name) != facts["files"][name]:
                raise ExportError(
                    f"{folder / name} changed since the export, and it is what the board is compared with; export again"
                )
        network = Network(Graph.from_dict(json.loads((folder / "graph.json").read_text())))
        network.load_state_dict(torch.load(folder / "weights.pt"))
    except (OSError, ValueError, KeyError) as e:
        raise ExportError(f"{folder} is no whole export ({type(e).__name__}: {e}); export again") from e
    return Export(folder, facts, network.eval())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_test_pictures(
    export: Export, count: int | None = None, *, data: str | None = None, cache: Path | None = None
) -> Part:
    """The test pictures of the data the export was trained on.

    Args:
        export: tells which.
        count: so many, spread over all; None for all.
        data: where the data is now, if not where it was.
        cache: as for `load_data`.

    Raises:
        DataError: the data cannot be read.
        ExportError: it is not the same data any more.
    """
    facts = export.facts
    c, h, w = facts["input"]
    dataset = load_data(data or facts["data"], resolution=(h, w), channels=c, cache=cache)
    if dataset.digest != facts["data_digest"]:
        raise ExportError(
            f"{data or facts['data']} is not the data of {export.folder} (digest {dataset.digest[:12]}, not "
            f"{facts['data_digest'][:12]}): bring that back, or name where it is with --data"
        )
    part = dataset.test
    if count is None:
        return part
    rows = np.unique(np.linspace(0, len(part) - 1, count).astype(int))
    return Part(part.x[rows], part.y[rows])


def verify_accuracy(
    link: PatientLink,
    export: Export,
    part: Part,
    *,
    on_progress: Callable[[int, int], None] = lambda done, pictures: None,
) -> dict[str, Any]:
    """Runs pictures through exported files on a board, and tells what came of it, as JSON types.

    Args:
        link: to the board, open.
        export: what to run.
        part: pictures and classes.
        on_progress: told the pictures done, and of how many.

    Raises:
        WrongAnswers: the board computes something else; names the first op that differs.
        OptionError: an export has no files for the board's engine.
        ExportError: one of them is missing.
        LatencyError: the files cannot be run there.
    """
    board, facts = link.board, export.facts
    if board.engine not in ENGINE_FILES:
        raise OptionError(f"an export has no files for {board.engine}, the engine of board {board.name}")
    names = ENGINE_FILES[board.engine]
    try:
        files = {suffix: (export.folder / name).read_bytes() for suffix, name in names.items()}
        changed = export.changed(names.values())
    except OSError as e:
        raise ExportError(f"{e.filename} cannot be read ({e.strerror}); export again") from e
    mean, std = facts["mean"], facts["std"]
    here = export.logits(part.x)
    try:
        answers = classify_on_board(link, files, part.x, mean, std, on_progress=on_progress)
        found = compare(answers.logits, here, part.y, board.dtype)
        where = _first_difference(link, export, files, part.x[found.worst])
    except UnsupportedOp as e:
        raise UnsupportedOp(f"{e}{_told(changed)}") from e
    if not found.agrees:
        raise WrongAnswers(
            f"board {board.name} does not compute what the network does: {_how_many(found)}; "
            f"{where.text(board.dtype)}{_told(changed) or '; ' + _mend(board.dtype, board.engine)}",
            where.path,
        )
    return _result(link, answers, found, where, changed)


@dataclass(frozen=True)
class _Where:
    """Where the board begins to compute something else.

    Attributes:
        alone: the first op that differs by what it makes of what it was fed there, or None.
        summed: the first op that differs when errors before it count, or None.
        kinds: path -> kind of op.
    """

    alone: Difference | None
    summed: Difference | None
    kinds: dict[str, str]

    @property
    def path(self) -> str:
        """The op's, or nothing."""
        found = self.alone or self.summed
        return found.path if found else ""

    def text(self, dtype: str) -> str:
        """For people."""
        if self.alone:
            path = self.alone.path
            return f"the first op that differs is {path} ({self.kinds[path]}), by {self.alone.detail}"
        if self.summed:
            path = self.summed.path
            return (
                f"no op does by itself, but errors add up: the first op that differs is {path} ({self.kinds[path]}), "
                f"by {self.summed.detail}"
            )
        if dtype == "fp32":
            return "no op differs when looked at alone: the engine makes something else of several together"
        return f"no op is off by more than the rounding of {dtype}"


def _first_difference(link: PatientLink, export: Export, files: dict[str, bytes], picture: NDArray[np.uint8]) -> _Where:
    """Looks for the op at fault on one picture (c, h, w)."""
    graph, dtype, x = export.network.graph, link.board.dtype, export.normalise(picture[None])
    there = board_activations(link, files, picture, export.facts["mean"], export.facts["std"], graph)
    here = export.network.activations(x)
    order, kinds = list(here), {node.path: node.op.kind for node in graph.nodes}
    summed = first_difference(there, here, order, dtype)
    if any(there[path].size != here[path].size for path in order):
        return _Where(summed, summed, kinds)
    # Each op judged by what it was fed there: the errors of those before it are not its own.
    fed = export.network.activations(x, {path: there[path].reshape(here[path].shape) for path in order})
    return _Where(first_difference(there, fed, order, dtype), summed, kinds)


def _result(
    link: PatientLink, answers: BoardAnswers, found: Agreement, where: _Where, changed: list[str]
) -> dict[str, Any]:
    return {
        "board": link.board.name,
        "identity": asdict(answers.identity),
        "emulated": answers.emulated,
        "engine": answers.identity.engine,
        "dtype": link.board.dtype,
        "pictures": found.pictures,
        "accuracy_here": found.accuracy_here,
        "accuracy_board": found.accuracy_board,
        "same_answers": found.same,
        "largest_difference": found.largest_difference,
        "relative_difference": found.relative_difference,
        "median_ms": float(np.median(answers.latency_ms)),
        "p95_ms": float(np.percentile(answers.latency_ms, 95)),
        "peak_memory_mb": answers.peak_memory_bytes / MEGABYTE,
        "changed_files": changed,
        "remark": f"the answers agree, but {where.text(link.board.dtype)}" if where.alone else None,
    }


def _how_many(found: Agreement) -> str:
    return (
        f"{found.pictures - found.same} of {found.pictures} answers are others and {found.differing} have other "
        f"logits, accuracy {found.accuracy_board:.2%} there and {found.accuracy_here:.2%} here"
    )


def _told(changed: list[str]) -> str:
    return f"; {' and '.join(changed)} changed since the export: export again" if changed else ""


def _mend(dtype: str, engine: str) -> str:
    if dtype != "fp32":
        return f"{engine} does not do it in {dtype} there: set the board's dtype to fp32"
    return f"the files are as exported, so it is {engine} there: try another version of it, or the other engine"
