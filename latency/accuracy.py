"""Exported files run on a board with real pictures: what they answer there, how fast, in how much memory.

The files and the pictures are sent under names of their own and removed afterwards. The pictures go in parts that fit
the board; a lost link is mended and the rest shown then.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from latency.engines import get_engine
from latency.errors import BoardUnfit, ConnectionLost, LatencyError
from latency.link import PatientLink
from latency.profiler import require_dtype, session_identity
from latency.session import Answers, RunnerSession
from latency.table import Identity
from nas.graph import Graph

Pictures = NDArray[np.uint8]
Floats = NDArray[np.float32]

_CHUNK_BYTES: Final = 16 * 2**20
_SHARE: Final = 4
"""Of the board's free memory, and of its free disk, the pictures take at most one part of so many."""
_RM_TIMEOUT_S: Final = 20.0
_NAME: Final = "exported"
_PICTURES: Final = ".pictures"


@dataclass(frozen=True)
class BoardAnswers:
    """What a board makes of pictures.

    Attributes:
        logits: (n, classes).
        latency_ms: (n,): one run of each picture, its preparation not counted.
        peak_memory_bytes: the most resident memory that loading the files and running them took.
        identity: what the times hold for.
        emulated: whether QEMU plays the board: its times are then of no real one.
    """

    logits: Floats
    latency_ms: NDArray[np.float64]
    peak_memory_bytes: int
    identity: Identity
    emulated: bool


def classify_on_board(
    link: PatientLink,
    files: Mapping[str, bytes],
    pictures: Pictures,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    on_progress: Callable[[int, int], None] = lambda done, pictures: None,
) -> BoardAnswers:
    """Shows pictures to exported files on a board, one by one.

    Args:
        link: to the board, open.
        files: suffix -> content of what the board's engine loads: `.param` and `.bin`, or `.onnx`.
        pictures: (n, c, h, w), n at least 1, c 1 or 3.
        mean: per channel, of pictures in [0, 1].
        std: likewise.
        on_progress: told the pictures done, and of how many.

    Raises:
        UnsupportedOp: the engine cannot read or run the files.
        RunnerCrashed: the engine died.
        ConnectionLost: the link is lost for good.
        BoardUnfit: not even one picture has room on the board.
        LatencyError: the engine has no such arithmetic, or the board cannot hold the files.
    """
    require_dtype(link.board, get_engine(link.board.engine))
    parts: list[Answers] = []
    done = 0
    while done < len(pictures):
        with link.open_session() as session, _kept_up(session), _loaded(link, session, files):
            while done < len(pictures):
                chunk = pictures[done : done + _fitting(link, session, pictures[0].nbytes, files)]
                with _sent(link, {_PICTURES: chunk.transpose(0, 2, 3, 1).tobytes()}) as there:
                    for part in session.classify(_NAME, there[_PICTURES], len(chunk), mean=mean, std=std):
                        parts.append(part)
                        done += len(part.latency_ms)
                        on_progress(done, len(pictures))
            identity, emulated = session_identity(session, link.board), session.emulated
    return BoardAnswers(
        logits=np.concatenate([part.logits for part in parts]),
        latency_ms=np.concatenate([part.latency_ms for part in parts]),
        peak_memory_bytes=max(part.memory_bytes for part in parts),
        identity=identity,
        emulated=emulated,
    )


def board_activations(
    link: PatientLink,
    files: Mapping[str, bytes],
    picture: Pictures,
    mean: Sequence[float],
    std: Sequence[float],
    graph: Graph,
) -> dict[str, Floats]:
    """What each op of exported files computes on a board of one picture (c, h, w).

    Args:
        link: to the board, open.
        files: as for `classify_on_board`.
        picture: (c, h, w).
        mean: per channel, of pictures in [0, 1].
        std: likewise.
        graph: what the files were written from.

    Returns:
        Path -> values, flat; the parts of a split joined.

    Raises:
        UnsupportedOp: the files lack an op's value; else as `classify_on_board`.
    """
    names = _value_names(link.board.engine, graph)
    values = [name for of_op in names.values() for name in of_op]
    if ".onnx" in files:
        from latency.engines.onnx import with_outputs

        files = {**files, ".onnx": with_outputs(files[".onnx"], values)}
    while True:
        with link.open_session() as session, _kept_up(session), _loaded(link, session, files):
            with _sent(link, {_PICTURES: picture.transpose(1, 2, 0).tobytes()}) as there:
                told = session.activations(_NAME, there[_PICTURES], values, mean=mean, std=std)
            return {path: np.concatenate([told[name] for name in of_op]) for path, of_op in names.items()}


def _value_names(engine: str, graph: Graph) -> dict[str, list[str]]:
    """What the engine's file calls the outputs of each op."""
    mark = ":" if engine == "ncnn" else "/"
    names = {n.path: [f"{n.path}{mark}{port}" for port in range(len(n.op.outputs))] for n in graph.nodes}
    if engine == "ncnn":
        from latency.engines.ncnn import OUTPUT

        names[graph.nodes[-1].path][0] = OUTPUT
    return names


@contextlib.contextmanager
def _kept_up(session: RunnerSession) -> Iterator[None]:
    """Ends quietly when the link is lost: `open_session` mends it, or gives up."""
    try:
        yield
    except ConnectionLost:
        session.lost = True  # while sending, it is not the session that notices


@contextlib.contextmanager
def _loaded(link: PatientLink, session: RunnerSession, files: Mapping[str, bytes]) -> Iterator[None]:
    """The files on the board, loaded."""
    with _sent(link, files) as there:
        main = next(path for suffix, path in there.items() if suffix in (".param", ".onnx"))
        session.load_file(_NAME, main)
        yield


@contextlib.contextmanager
def _sent(link: PatientLink, contents: Mapping[str, bytes]) -> Iterator[dict[str, str]]:
    """Files on the board, by suffix, under one new name; removed in the end."""
    name = f"{link.deployment.folder}/model-{secrets.token_hex(8)}"
    there = {suffix: name + suffix for suffix in contents}
    try:
        for suffix, content in contents.items():
            link.transport.put(content, there[suffix])
        yield there
    finally:
        with contextlib.suppress(LatencyError):  # a board that is gone is cleaned by `nas boards clean`
            link.transport.run(["rm", "-f", *there.values()], timeout_s=_RM_TIMEOUT_S)


def _fitting(link: PatientLink, session: RunnerSession, picture_bytes: int, files: Mapping[str, bytes]) -> int:
    """How many pictures may lie on the board at a time; where a disk is memory, both are short."""
    disk = link.deployment.facts.disk_free_bytes
    memory = session.state.get("free_bytes")
    room = [_CHUNK_BYTES, *([max(0, disk - sum(map(len, files.values()))) // _SHARE] if disk else [])]
    room += [int(memory) // _SHARE] if memory else []
    if min(room) < picture_bytes:
        raise BoardUnfit(
            f"{link.board.name}: not even one picture of {picture_bytes / 2**20:.1f} MiB has room on the board: "
            "make room there"
        )
    return min(room) // picture_bytes
