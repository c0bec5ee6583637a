"""`nas verify FOLDER --accuracy` on this machine, with both engines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from api.errors import OptionError
from api.export.accuracy import ENGINE_FILES, read_export, verify_accuracy
from api.export.bundle import MARK, write_bundle
from latency import accuracy
from latency.board import Board
from latency.errors import WrongAnswers
from latency.link import PatientLink
from nas.data import Dataset, Part, load_data
from nas.fold import fold
from nas.network import Network
from nas.spaces import build_space
from nas.training.final import TrainedModel

ENCODING = (1, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)
Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_data("digits", resolution=16)


@pytest.fixture(scope="module")
def written(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a network whose norms have seen data and whose last layer has been fitted: it knows most digits."""
    space = build_space("mobilenetv2-small", resolution=16)
    graph = space.graph(ENCODING)
    network = Network(graph, seed=1).train()
    mean, std = (np.array(v, np.float32)[None, :, None, None] for v in (dataset.mean, dataset.std))
    x = torch.from_numpy((dataset.train.x[:600].astype(np.float32) / 255 - mean) / std)
    with torch.no_grad():
        network(x)
        network.eval()
        path = graph.nodes[-1].path
        last = network.weighted()[path]
        seen = torch.from_numpy(network.activations(x)[graph.nodes[-2].path]).flatten(1)
        wanted = torch.nn.functional.one_hot(torch.from_numpy(dataset.train.y[:600]), 10).float()
        seen = torch.cat([seen, torch.ones(len(seen), 1)], 1)
        fitted = torch.linalg.lstsq(seen.T @ seen + 0.1 * torch.eye(seen.shape[1]), seen.T @ wanted).solution
        last.weight.copy_(10 * fitted[:-1].T)
        assert last.bias is not None
        last.bias.copy_(10 * fitted[-1])
    state = {name: value.clone() for name, value in network.state_dict().items()}
    recall = dict.fromkeys(dataset.classes, 0.5)
    facts = {
        "search": "mine", "space": space.name, "encoding": ",".join(map(str, ENCODING)), "license": "MIT",
        "genes": space.decode(ENCODING), "test_accuracy": 0.5, "val_accuracy": None, "search_accuracy": 0.4,
        "recall": recall, "flops": graph.flops, "params": graph.params, "predicted_ms": 1.5, "measured_ms": None,
        "measured_p95_ms": None, "board": {"board": "mine"}, "budgets": {"latency_ms": 2.0},
        "data": "digits", "data_digest": dataset.digest, "classes": list(dataset.classes), "mean": list(dataset.mean),
        "std": list(dataset.std), "input": list(graph.input.shape), "pictures": 3, "epochs": 2, "seed": 7, "trials": 5,
        "strategy": "annealing", "history": [],
    }  # fmt: skip
    model = TrainedModel(state, fold(network), 0.5, 0.5, recall, len(dataset.train), [])
    folder = tmp_path_factory.mktemp("exported") / "winner"
    write_bundle(folder, graph, model, dataset, facts)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to alter."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(written, tmp_path / "winner"))


@pytest.fixture
def boards(nas: Nas) -> Nas:
    """`nas` in a home that knows a board of each engine."""
    assert nas("boards", "add", "mine", "local")[0] == 0
    assert nas("boards", "add", "ort", "local", "--engine", "onnxruntime")[0] == 0
    return nas


@pytest.mark.parametrize("board", ["mine", "ort"])
def test_a_healthy_export_answers_there_as_here(board: str, boards: Nas, folder: Path, dataset: Dataset) -> None:
    status, out, err = boards("verify", str(folder), "--accuracy", "--board", board, "--json")
    assert status == 0, err
    told = json.loads(out)
    assert told["pictures"] == told["same_answers"] == len(dataset.test)
    assert told["accuracy_here"] == told["accuracy_board"] > 0.6
    assert told["largest_difference"] < 1e-3
    assert told["relative_difference"] < 1e-4
    assert 0 < told["median_ms"] <= told["p95_ms"]
    assert told["peak_memory_mb"] > 0.1
    assert (told["board"], told["dtype"], told["emulated"], told["changed_files"]) == (board, "fp32", False, [])
    assert told["remark"] is None
    assert told["engine"] == told["identity"]["engine"] == ("ncnn" if board == "mine" else "onnxruntime")
    assert json.loads((folder / f"verified-{board}.json").read_text()) == told
    assert not [p.name for p in folder.iterdir() if p.name.startswith(".")]


def test_the_table_and_the_exports_own_board(boards: Nas, folder: Path, dataset: Dataset) -> None:
    status, out, err = boards("verify", str(folder), "--accuracy", "--pictures", "40")
    assert status == 0, err
    part = dataset.test
    rows = np.linspace(0, len(part) - 1, 40).astype(int)
    here = read_export(folder).logits(part.x[rows]).argmax(1)
    share = f"{(here == part.y[rows]).mean():.2%}"
    assert out.count(share) == 2
    assert "on mine" in out
    for text in ("40 test pictures", "40 of 40", "latency, median", "p95", "peak memory", " MB"):
        assert text in out
    assert "emulated" not in out


def alter_bin(folder: Path, path: str) -> None:
    """Makes one weight of an op wrong in the ncnn file."""
    at = 0
    graph = read_export(folder).network.graph
    for node in graph.nodes:
        if node.op.kind in ("conv", "depthwise", "linear"):
            at += 4
            if node.path == path:
                break
            at += 4 * node.op.params
    content = bytearray((folder / "network.ncnn.bin").read_bytes())
    values = np.frombuffer(content, "<f4", 8, at)
    values[:] = values + 1
    (folder / "network.ncnn.bin").write_bytes(content)


def alter_onnx(folder: Path, path: str) -> None:
    model = onnx.load(folder / "network.onnx")
    (bias,) = [t for t in model.graph.initializer if t.name == f"{path}.bias"]
    values = np.array(numpy_helper.to_array(bias))
    values[0] = np.nan
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, folder / "network.onnx")


@pytest.mark.parametrize(("board", "alter"), [("mine", alter_bin), ("ort", alter_onnx)])
def test_an_altered_file_is_named_with_the_op_that_differs(
    board: str, alter: Callable[[Path, str], None], boards: Nas, folder: Path
) -> None:
    assert boards("verify", str(folder), "--accuracy", "--board", board, "--pictures", "5")[0] == 0
    export = read_export(folder)
    paths = list(export.network.weighted())
    path = paths[len(paths) // 2]
    alter(folder, path)
    status, out, err = boards("verify", str(folder), "--accuracy", "--board", board, "--pictures", "60", "--json")
    assert (status, out) == (2, "")
    (line,) = err.strip().splitlines()[-1:]
    assert f"the first op that differs is {path} (" in line
    file = "network.ncnn.bin" if board == "mine" else "network.onnx"
    assert f"{file} changed since the export: export again" in line
    assert "of 60 answers" in line
    assert ("relative error" in line) if board == "mine" else ("NaN where" in line)
    assert not (folder / f"verified-{board}.json").exists()


def test_a_file_cut_short_is_told_as_changed(boards: Nas, folder: Path) -> None:
    whole = (folder / "network.ncnn.bin").read_bytes()
    (folder / "network.ncnn.bin").write_bytes(whole[:100])
    status, _, err = boards("verify", str(folder), "--accuracy")
    assert status == 2
    assert "does not fit it; network.ncnn.bin changed since the export: export again" in " ".join(err.split())
    (folder / "network.ncnn.bin").unlink()
    status, _, err = boards("verify", str(folder), "--accuracy")
    assert status == 2
    assert "network.ncnn.bin cannot be read (No such file or directory); export again" in " ".join(err.split())


def test_a_change_without_effect_is_told_and_no_error(boards: Nas, folder: Path) -> None:
    param = folder / "network.ncnn.param"
    param.write_text(param.read_text() + "\n")
    status, out, err = boards("verify", str(folder), "--accuracy", "--pictures", "5")
    assert status == 0, err
    assert "changed since the export, though it answers alike: network.ncnn.param" in out


def change_digest(folder: Path) -> None:
    card = json.loads((folder / MARK).read_text())
    (folder / MARK).write_text(json.dumps({**card, "data_digest": "0" * 64}))


@pytest.mark.parametrize(
    ("alter", "options", "said"),
    [
        (lambda f: (f / MARK).unlink(), (), "is no export of lightnas; give the folder that nas export wrote"),
        (lambda f: (f / MARK).write_text("{}"), (), "is no whole export (KeyError: 'files'); export again"),
        (lambda f: (f / "weights.pt").write_bytes(b"x"), (), "weights.pt changed since the export, and it is what"),
        (lambda f: (f / "graph.json").unlink(), (), "is no whole export (FileNotFoundError"),
        (change_digest, (), "is not the data of"),
        (lambda f: None, ("--data", "npz:/nowhere.npz"), "/nowhere.npz does not exist"),
        (lambda f: None, ("--data", "cluttered-digits:300"), "name where it is with --data"),
        (lambda f: None, ("--board", "pi9"), "pi9"),
        (lambda f: None, ("--random", "3"), "--accuracy runs one export"),
    ],
)
def test_what_cannot_be_checked_is_told_in_one_line(
    alter: Callable[[Path], Any], options: tuple[str, ...], said: str, boards: Nas, folder: Path
) -> None:
    alter(folder)
    status, out, err = boards("verify", str(folder), "--accuracy", *options)
    assert (status, out) == (2, "")
    assert said in " ".join(err.split())


def test_the_options_belong_together(boards: Nas, folder: Path) -> None:
    status, _, err = boards("verify", "mine", "--pictures", "3")
    assert status == 2
    assert "go with --accuracy" in " ".join(err.split())
    card = json.loads((folder / MARK).read_text())
    (folder / MARK).write_text(json.dumps({**card, "board": None}))
    status, _, err = boards("verify", str(folder), "--accuracy")
    assert status == 2
    assert "was made for no board: name one with --board" in " ".join(err.split())
    (folder / MARK).write_text(json.dumps(card))
    part = Part(np.zeros((1, 3, 16, 16), np.uint8), np.zeros(1, np.int64))
    link = PatientLink(Board("odd", "local"))
    link.board = Board("odd", "local", engine="tflite")
    export = read_export(folder)
    with pytest.raises(OptionError, match="no files for tflite"):
        verify_accuracy(link, export, part)


@pytest.mark.parametrize(
    ("dtype", "said"),
    [("fp16", "set the board's dtype to fp32"), ("fp32", "the files are as exported, so it is ncnn there")],
)
def test_a_board_that_overflows_is_told_with_the_op_and_the_mend(
    dtype: str, said: str, folder: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fp16 does on ARM (ncnn#6932): the same healthy files, and NaN from one op on."""
    export = read_export(folder)
    order = [node.path for node in export.network.graph.nodes]
    at = len(order) // 2
    monkeypatch.setattr(accuracy, "require_dtype", lambda board, engine: None)
    here = PatientLink(Board("here", "local"))

    def activations(link: PatientLink, *given: Any) -> dict[str, Any]:
        told = accuracy.board_activations(here, *given)
        for path in order[at:]:
            told[path][3:] = np.nan
        return told

    def classify(link: PatientLink, *given: Any, **named: Any) -> Any:
        answers = accuracy.classify_on_board(here, *given, **named)
        answers.logits[7] = np.nan
        return answers

    monkeypatch.setattr("api.export.accuracy.board_activations", activations)
    monkeypatch.setattr("api.export.accuracy.classify_on_board", classify)
    part = Part(dataset.test.x[:20], dataset.test.y[:20])
    with here, pytest.raises(WrongAnswers) as caught:
        verify_accuracy(PatientLink(Board("pi5", "local", dtype=dtype)), export, part)
    assert caught.value.op == order[at]
    text = str(caught.value)
    assert "\n" not in text
    for expected in ("board pi5", "1 of 20 answers", f"differs is {order[at]} (", "NaN where", said):
        assert expected in text


def test_every_engine_of_an_export_has_its_files(folder: Path) -> None:
    for names in ENGINE_FILES.values():
        assert all((folder / name).is_file() for name in names.values())


def test_an_op_that_is_off_without_effect_is_a_remark(
    folder: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half precision's tolerance of the logits is wide enough to hide a kernel that is wrong at a picture's edge."""
    order = [node.path for node in read_export(folder).network.graph.nodes]

    def activations(*given: Any) -> dict[str, Any]:
        told = accuracy.board_activations(*given)
        told[order[2]][0] += 1e3
        return told

    monkeypatch.setattr("api.export.accuracy.board_activations", activations)
    with PatientLink(Board("here", "local")) as link:
        told = verify_accuracy(link, read_export(folder), Part(dataset.test.x[:5], dataset.test.y[:5]))
    assert told["remark"].startswith(f"the answers agree, but the first op that differs is {order[2]} (")
