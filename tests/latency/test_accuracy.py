"""The runner of a board run here, with both engines, on healthy files and on seeded faults."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from latency import accuracy
from latency.accuracy import board_activations, classify_on_board
from latency.agreement import compare, first_difference
from latency.board import Board
from latency.engines import get_engine
from latency.engines.onnx import to_onnx, with_outputs
from latency.errors import BoardUnfit, ConnectionLost, LatencyError, UnsupportedOp
from latency.link import PatientLink
from latency.session import RunnerSession
from latency.transport import LocalTransport
from nas.blocks.mbconv import mbconv
from nas.blocks.shuffle_v2 import shuffle_v2
from nas.fold import fold
from nas.graph import Graph
from nas.network import Network

ENGINES = ("ncnn", "onnxruntime")
CHANNELS = (1, 3)
MEAN, STD = (0.4, 0.5, 0.3), (0.2, 0.3, 0.25)
Files = Mapping[str, bytes]


def network(channels: int) -> Graph:
    g = Graph((channels, 17, 14))
    x = g.conv(g.input, 8, kernel=3, stride=2, act="relu6", path="stem")
    x = mbconv(g, x, 8, kernel=5, expansion=2, se=True, act="hswish", path="b1")
    x = shuffle_v2(g, x, 8, path="b2")
    x = mbconv(g, x, 12, stride=2, act="relu6", path="b3")
    g.linear(g.global_pool(x, path="pool"), 5, path="classifier")
    return g


class Exported:
    """A network with weights and statistics that make every term count, its files, and pictures."""

    def __init__(self, channels: int) -> None:
        generator = torch.Generator().manual_seed(channels)
        self.graph = network(channels)
        self.network = Network(self.graph, seed=1).eval()
        with torch.no_grad():
            for name, value in self.network.named_buffers():
                if name.endswith("running_var"):
                    value.uniform_(0.5, 2.0, generator=generator)
        for module in self.network.weighted().values():
            if module.norm is not None:
                torch.nn.init.uniform_(module.norm.weight, 0.5, 1.5, generator=generator)
                torch.nn.init.normal_(module.norm.bias, 0.0, 0.3, generator=generator)
        torch.nn.init.normal_(self.network.get_submodule("classifier").weight, 0.0, 0.5, generator=generator)
        folded, engine = fold(self.network), get_engine("ncnn")
        self.folded = folded
        self.files: dict[str, Files] = {
            "ncnn": {
                ".param": engine.build(self.graph).model.encode(),
                ".bin": engine.weights(self.graph, folded),
            },
            "onnxruntime": {".onnx": to_onnx(self.graph, folded).SerializeToString()},
        }
        self.pictures = np.random.default_rng(channels).integers(0, 256, (20, *self.graph.input.shape), np.uint8)
        self.mean, self.std = MEAN[:channels], STD[:channels]
        mean, std = (np.array(v, np.float32)[None, :, None, None] for v in (self.mean, self.std))
        self.x = torch.from_numpy((self.pictures.astype(np.float32) / 255 - mean) / std)
        with torch.inference_mode():
            self.logits = self.network(self.x).numpy()
        self.labels = self.logits.argmax(1)

    @property
    def order(self) -> list[str]:
        return [node.path for node in self.graph.nodes]


@pytest.fixture(scope="module")
def exported() -> dict[int, Exported]:
    return {channels: Exported(channels) for channels in CHANNELS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def links(folder: Path) -> Iterator[dict[str, PatientLink]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        made = {name: PatientLink(Board("here", "local", engine=name)) for name in ENGINES}
        for link in made.values():
            link.__enter__()
        yield made
        for link in made.values():
            link.close()


def left(folder: Path) -> list[str]:
    return [p.name for p in (folder / "lightnas").iterdir() if p.name.startswith("model")]


def culprit(link: PatientLink, export: Exported, files: Files, picture: int = 0) -> str | None:
    """The op at fault, told as `nas verify --accuracy` does: each op judged by what it was fed on the board."""
    board = board_activations(link, files, export.pictures[picture], export.mean, export.std, export.graph)
    fed = {path: board[path].reshape(value.shape) for path, value in whole(export, picture).items()}
    here = export.network.activations(export.x[picture : picture + 1], fed)
    found = first_difference(board, here, export.order, "fp32")
    return None if found is None else found.path


def whole(export: Exported, picture: int = 0) -> dict[str, Any]:
    return export.network.activations(export.x[picture : picture + 1])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_healthy_files_answer_as_torch_does(
    engine: str, channels: int, links: dict[str, PatientLink], exported: dict[int, Exported], folder: Path
) -> None:
    link, export = links[engine], exported[channels]
    told: list[tuple[int, int]] = []
    answers = classify_on_board(
        link, export.files[engine], export.pictures, export.mean, export.std, on_progress=lambda *t: told.append(t)
    )
    found = compare(answers.logits, export.logits, export.labels, "fp32")
    assert found.agrees
    assert found.relative_difference < 1e-4
    assert found.same == 20
    assert (found.accuracy_here, found.accuracy_board) == (1.0, 1.0)
    assert answers.latency_ms.shape == (20,)
    assert answers.latency_ms.min() > 0
    assert 0 < answers.peak_memory_bytes < 2**30
    assert told[-1] == (20, 20)
    assert (answers.identity.engine, answers.emulated) == (engine, False)
    assert left(folder) == []
    board = board_activations(link, export.files[engine], export.pictures[3], export.mean, export.std, export.graph)
    assert list(board) == export.order
    assert first_difference(board, whole(export, 3), export.order, "fp32") is None
    assert left(folder) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_pictures_that_do_not_fit_at_once_go_in_parts(
    engine: str,
    links: dict[str, PatientLink],
    exported: dict[int, Exported],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    export = exported[3]
    sizes: list[int] = []
    put = LocalTransport.put

    def watched(self: LocalTransport, data: Any, path: str, **given: Any) -> None:
        if path.endswith(".pictures"):
            sizes.append(len(data))
            assert len([name for name in left(folder) if name.endswith(".pictures")]) == 0
        put(self, data, path, **given)

    monkeypatch.setattr(LocalTransport, "put", watched)
    monkeypatch.setattr(accuracy, "_CHUNK_BYTES", 3 * export.pictures[0].nbytes + 100)
    answers = classify_on_board(links[engine], export.files[engine], export.pictures, export.mean, export.std)
    assert sizes == [3 * export.pictures[0].nbytes] * 6 + [2 * export.pictures[0].nbytes]
    assert np.allclose(answers.logits, export.logits, atol=1e-3)
    assert left(folder) == []
    monkeypatch.setattr(accuracy, "_CHUNK_BYTES", export.pictures[0].nbytes - 1)
    with pytest.raises(BoardUnfit, match=r"not even one picture .* make room"):
        classify_on_board(links[engine], export.files[engine], export.pictures, export.mean, export.std)


def test_a_lost_link_is_mended_and_only_the_rest_is_shown(
    links: dict[str, PatientLink], exported: dict[int, Exported], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, link = exported[3], links["ncnn"]
    asked: list[int] = []
    classify = RunnerSession.classify

    def cut(self: RunnerSession, name: str, path: str, count: int, **given: Any) -> Iterator[Any]:
        asked.append(count)
        for part in classify(self, name, path, count, **given):
            yield part
            if len(asked) == 2:
                raise ConnectionLost("the cable")

    monkeypatch.setattr(RunnerSession, "classify", cut)
    monkeypatch.setattr(accuracy, "_CHUNK_BYTES", 6 * export.pictures[0].nbytes)
    answers = classify_on_board(link, export.files["ncnn"], export.pictures, export.mean, export.std)
    assert asked == [6, 6, 6, 2]
    assert np.allclose(answers.logits, export.logits, atol=1e-3)
    assert left(folder) == []
    monkeypatch.setattr(RunnerSession, "load_file", lambda *given: (_ for _ in ()).throw(ConnectionLost("again")))
    with pytest.raises(ConnectionLost, match="lost 5 times in a row"):
        classify_on_board(PatientLink(link.board).__enter__(), export.files["ncnn"], export.pictures, MEAN, STD)


def alter_bin(export: Exported, path: str, change: Any) -> Files:
    """The ncnn files with other weights of one op."""
    folded = {p: tuple(np.array(a) for a in f) for p, f in export.folded.items()}
    change(*folded[path])
    return {**export.files["ncnn"], ".bin": get_engine("ncnn").weights(export.graph, folded)}  # type: ignore[arg-type]


def alter_onnx(export: Exported, path: str, change: Any) -> Files:
    model = onnx.load_from_string(export.files["onnxruntime"][".onnx"])
    (weight,) = [t for t in model.graph.initializer if t.name == f"{path}.weight"]
    (bias,) = [t for t in model.graph.initializer if t.name == f"{path}.bias"]
    arrays = [np.array(numpy_helper.to_array(t)) for t in (weight, bias)]
    change(*arrays)
    for tensor, array in zip((weight, bias), arrays, strict=True):
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return {".onnx": model.SerializeToString()}


def scale(weight: Any, bias: Any) -> None:
    weight *= 1.05


def spoil(weight: Any, bias: Any) -> None:
    bias[1] = np.nan


@pytest.mark.parametrize("change", [scale, spoil])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("at", [0, 2, 6, -1])
def test_a_fault_in_the_weights_is_found_at_its_op(
    engine: str, at: int, change: Any, links: dict[str, PatientLink], exported: dict[int, Exported]
) -> None:
    export = exported[3]
    path = list(export.folded)[at]
    files = (alter_bin if engine == "ncnn" else alter_onnx)(export, path, change)
    answers = classify_on_board(links[engine], files, export.pictures, export.mean, export.std)
    found = compare(answers.logits, export.logits, export.labels, "fp32")
    assert not found.agrees
    if change is spoil and at == -1:  # before that, ncnn's relu6 turns a NaN into a number
        assert found.largest_difference == np.inf
    assert culprit(links[engine], export, files, found.worst) == path


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("stem", " 4=1 14=1 ", " 4=0 15=2 14=1 "),  # padded on the other side
        ("b1.dw", " 4=2 14=2 ", " 4=1 15=3 14=2 "),
        ("b3.expand", "2,0.0,6.0", "2,0.0,0.5"),  # cut off lower
        ("classifier", "1=1", "1=1 9=1"),
    ],
)
def test_a_wrong_parameter_that_keeps_the_shapes_is_found_at_its_op(
    path: str, old: str, new: str, links: dict[str, PatientLink], exported: dict[int, Exported]
) -> None:
    export = exported[1]
    text = export.files["ncnn"][".param"].decode()
    (line,) = re.findall(rf"^\S+ {re.escape(path)} .*$", text, re.M)
    assert old in line, line
    files = {**export.files["ncnn"], ".param": text.replace(line, line.replace(old, new)).encode()}
    answers = classify_on_board(links["ncnn"], files, export.pictures, export.mean, export.std)
    found = compare(answers.logits, export.logits, export.labels, "fp32")
    assert not found.agrees
    assert culprit(links["ncnn"], export, files, found.worst) == path


def test_files_that_cannot_be_run_are_refused_in_one_line(
    links: dict[str, PatientLink], exported: dict[int, Exported], folder: Path
) -> None:
    export = exported[3]
    short = {**export.files["ncnn"], ".bin": export.files["ncnn"][".bin"][:50]}
    for engine, files, said in (
        ("ncnn", short, "does not fit"),
        ("onnxruntime", {".onnx": export.files["onnxruntime"][".onnx"][:500]}, "cannot load"),
    ):
        with pytest.raises(UnsupportedOp, match=said) as caught:
            classify_on_board(links[engine], files, export.pictures, export.mean, export.std)
        assert "\n" not in str(caught.value)
    with pytest.raises(UnsupportedOp, match="no whole ONNX model"):
        with_outputs(export.files["onnxruntime"][".onnx"][:500], ["stem/0"])
    with pytest.raises(UnsupportedOp, match=r"computes no b9/0; export it again"):
        with_outputs(export.files["onnxruntime"][".onnx"], ["stem/0", "b9/0"])
    renamed = export.files["ncnn"][".param"].replace(b"b3.dw:0", b"elsewhere")
    with pytest.raises(UnsupportedOp, match=r"could not compute b3\.dw:0"):
        board_activations(
            links["ncnn"], {**export.files["ncnn"], ".param": renamed}, export.pictures[0], MEAN, STD, export.graph
        )
    board = Board("here", "local", engine="onnxruntime", dtype="fp16")
    with pytest.raises(LatencyError, match="has no fp16"):
        classify_on_board(PatientLink(board), {}, export.pictures, MEAN, STD)
    assert left(folder) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_the_runner_refuses_what_it_cannot_show(
    engine: str, links: dict[str, PatientLink], exported: dict[int, Exported], tmp_path: Path
) -> None:
    export = exported[3]
    for suffix, content in export.files[engine].items():
        (tmp_path / f"m{suffix}").write_bytes(content)
    main = str(tmp_path / ("m.param" if engine == "ncnn" else "m.onnx"))
    (tmp_path / "p").write_bytes(export.pictures.transpose(0, 2, 3, 1).tobytes()[:-1])
    with links[engine].open_session() as session:
        session.load_file("m", main)
        good = {"mean": MEAN, "std": STD}
        refusals: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
            (("n", str(tmp_path / "p"), 1), good, "no network 'n' is loaded"),
            (("m", str(tmp_path / "q"), 1), good, "there is no file"),
            (("m", str(tmp_path / "p"), 20), good, "ends in picture 19"),
            (("m", str(tmp_path / "p"), 1), {"mean": (0.5,), "std": (0.5,)}, "for 3 channel"),
        ]
        for given, named, said in refusals:
            with pytest.raises(LatencyError, match=said):
                list(session.classify(*given, **named))
            assert len(list(session.classify("m", str(tmp_path / "p"), 2, **good))) == 1
        with pytest.raises(UnsupportedOp, match="nowhere"):
            session.activations("m", str(tmp_path / "p"), ["nowhere"], **good)
        assert len(list(session.classify("m", str(tmp_path / "p"), 2, **good))) == 1


def test_the_peak_is_that_of_the_model(links: dict[str, PatientLink]) -> None:
    """A layer of 64 MB of weights, and an inner value of 32 MB, weigh as much as they are."""
    peaks = {}
    for width in (16, 2048):
        g = Graph((1, 64, 64))
        x = g.conv(g.input, width, kernel=3, norm=False, path="wide")
        g.linear(g.global_pool(x, path="pool"), 8, path="fc")
        weights = {
            "wide": (np.zeros((width, 1, 3, 3), np.float32), np.zeros(width, np.float32)),
            "fc": (np.zeros((8, width), np.float32), np.zeros(8, np.float32)),
        }
        engine = get_engine("ncnn")
        files = {".param": engine.build(g).model.encode(), ".bin": engine.weights(g, weights)}
        peaks[width] = classify_on_board(
            links["ncnn"], files, np.zeros((2, 1, 64, 64), np.uint8), (0.0,), (1.0,)
        ).peak_memory_bytes
    assert 32e6 < peaks[2048] - peaks[16] < 100e6
