from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.data import load_data
from nas.errors import DataError, EvaluationError, SearchError
from nas.evaluator import Architecture, Evaluation, Progress
from nas.evaluators.trainer import CHECKPOINT, Recipe
from nas.evaluators.training import TrainingEvaluator, train_final
from nas.executor import InlineExecutor
from nas.network import Network
from nas.rungs import Rungs
from nas.search import Search
from nas.slot import evaluate
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.strategies.uniform import Uniform
from nas.trial import MemoryTrialLog, Trial, TrialState

EPOCHS = 4


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return build_space("mobilenetv2-small", resolution=8, classes=3, channels=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stripes across, down and aslant, in noise: (90, 8, 8)."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    rows, columns = np.mgrid[:8, :8]
    waves = np.stack([rows, columns, rows + columns])[y] + rng.integers(0, 4, (90, 1, 1))
    x = 128 + 60 * np.sin(waves * np.pi / 2) + rng.normal(0, 20, (90, 8, 8))
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    np.savez(path, x=x.clip(0, 255).astype(np.uint8), y=y)
    return f"npz:{path}"


def _architecture(space: SearchSpace) -> Architecture:
    return Architecture(space, (0,) * len(space.genes))


def _train(space: SearchSpace, data: str, workdir: Path, report=lambda _: None, seed: int = 5, **options) -> Evaluation:
    given = {"data": data, "epochs": EPOCHS, "batch": 16, "device": "cpu"} | options
    return TrainingEvaluator(**given).evaluate(_architecture(space), seed=seed, workdir=workdir, report=report)


@pytest.fixture(scope="module")
def undisturbed(space: SearchSpace, data: str, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return _train(space, data, tmp_path_factory.mktemp("undisturbed"))


def test_it_learns_and_tells(space: SearchSpace, data: str, tmp_path: Path) -> None:
    seen: list[Progress] = []
    result = _train(space, data, tmp_path, seen.append, epochs=20)
    assert result.accuracy > 0.8
    assert [(p.step, p.steps) for p in seen] == [(i + 1, 20) for i in range(20)]
    assert seen[-1].metrics == {"loss": result.extras["history"][-1]["loss"], "val_accuracy": result.accuracy}
    assert set(result.extras["recall"]) == {"0", "1", "2"}
    assert np.mean(list(result.extras["recall"].values())) == pytest.approx(result.accuracy)  # classes of equal size
    assert result.extras["params"] == _architecture(space).graph.params
    assert result.extras["epochs"] == 20


def test_only_the_seed_decides(space: SearchSpace, data: str, tmp_path: Path, undisturbed: Evaluation) -> None:
    torch.manual_seed(77)  # no global generator is used
    assert _train(space, data, tmp_path / "a") == undisturbed
    assert _train(space, data, tmp_path / "b", seed=6).extras["history"] != undisturbed.extras["history"]


@pytest.fixture(scope="module")
def killed(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training killed when the second checkpoint was written and nothing yet decided by it."""
    folder = tmp_path_factory.mktemp("killed")
    code = f"""
import os, signal
from pathlib import Path
from nas.evaluator import Architecture
from nas.evaluators.training import TrainingEvaluator
from nas.spaces import build_space
space = build_space("mobilenetv2-small", resolution=8, classes=3, channels=1)
evaluator = TrainingEvaluator(data={data!r}, epochs={EPOCHS}, batch=16, device="cpu")
def report(progress):
    if progress.step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
evaluator.evaluate(Architecture(space, (0,) * len(space.genes)), seed=5, workdir=Path({str(folder)!r}), report=report)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    return folder


def _copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def test_sigkill_and_resume_is_exact(
    space: SearchSpace, data: str, tmp_path: Path, killed: Path, undisturbed: Evaluation
) -> None:
    steps: list[int] = []
    workdir = _copy(killed, tmp_path / "a")
    assert _train(space, data, workdir, lambda p: steps.append(p.step)) == undisturbed
    assert steps == [1, 2, 3, 4]  # the first two told again, from the checkpoint


# Rungs ---------------------------------------------------------------------------------------------------------------


def _judge(space: SearchSpace, data: str, workdir: Path, stop_below: dict[str, float | None]) -> dict[str, Any]:
    """What a slot answers."""
    evaluator = TrainingEvaluator(data=data, epochs=EPOCHS, batch=16, device="cpu")
    task = {"encoding": [0] * len(space.genes), "seed": 5, "workdir": str(workdir), "stop_below": stop_below}
    return evaluate(evaluator, space, task, lambda message: None)


@pytest.mark.parametrize("already", [False, True], ids=["undisturbed", "killed between checkpoint and decision"])
def test_a_rung_stops_a_training_or_lets_it_go_on_unchanged(
    space: SearchSpace, data: str, tmp_path: Path, killed: Path, undisturbed: Evaluation, already: bool
) -> None:
    fresh = tmp_path / "empty"
    fresh.mkdir()
    first, second = (e["val_accuracy"] for e in undisturbed.extras["history"][:2])
    stopped = _copy(killed if already else fresh, tmp_path / "stopped")
    rungs = {"1": first, "2": second}
    found = _judge(space, data, stopped, {"1": None, "2": second + 1e-9})
    assert found == {"accuracy": second, "extras": {"rungs": rungs}, "pruned_at": 2}
    assert len(torch.load(io.BytesIO((stopped / CHECKPOINT).read_bytes()[32:]))["history"]) == 2
    found = _judge(space, data, _copy(killed if already else fresh, tmp_path / "on"), rungs)
    assert found == {"accuracy": undisturbed.accuracy, "extras": {**undisturbed.extras, "rungs": rungs}}


def test_a_search_with_rungs_trains_as_without(space: SearchSpace, data: str, tmp_path: Path) -> None:
    def searched(name: str, rungs: Rungs) -> list[Trial]:
        log = MemoryTrialLog()
        evaluator = TrainingEvaluator(data=data, epochs=3, batch=16, device="cpu")
        rungs.check(evaluator)
        executor = InlineExecutor(space, evaluator)
        Search(space, Uniform(space), executor, log, trials=6, workdir=tmp_path / name, rungs=rungs).run()
        return list(log.load())

    pairs = list(zip(searched("free", Rungs()), searched("runged", Rungs((1, 2), eta=2.0)), strict=True))
    for free, runged in pairs:
        end = runged.pruned_at or 3
        history = free.extras["history"]
        assert runged.accuracy == history[end - 1]["val_accuracy"]
        assert runged.extras["rungs"] == {str(n): history[n - 1]["val_accuracy"] for n in (1, 2) if n <= end}
        if runged.pruned_at is None:
            assert runged.extras == {**free.extras, "rungs": runged.extras["rungs"]}
    assert {r.state for _, r in pairs} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_a_bad_checkpoint_is_discarded(
    space: SearchSpace, data: str, tmp_path: Path, undisturbed: Evaluation, damage: str
) -> None:
    _train(space, data, tmp_path, seed=9 if damage == "foreign" else 5)
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"truncated": whole[:-100], "flipped": flipped, "empty": b"", "foreign": whole}[damage])
    steps: list[int] = []
    assert _train(space, data, tmp_path, lambda p: steps.append(p.step)) == undisturbed
    assert steps == [1, 2, 3, 4]


def test_a_finished_training_is_not_repeated(space: SearchSpace, data: str, tmp_path: Path, undisturbed) -> None:
    first: list[Progress] = []
    _train(space, data, tmp_path, first.append)
    written = (tmp_path / CHECKPOINT).stat().st_mtime_ns
    again: list[Progress] = []
    assert _train(space, data, tmp_path, again.append) == undisturbed
    assert again == first
    assert (tmp_path / CHECKPOINT).stat().st_mtime_ns == written


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_it_trains_with_one_thread_and_puts_the_number_back(space: SearchSpace, data: str, tmp_path: Path) -> None:
    seen: list[int] = []
    _train(space, data, tmp_path, lambda _: seen.append(torch.get_num_threads()), epochs=1)
    assert seen == [1]
    assert torch.get_num_threads() == 2


def test_a_loss_that_is_not_finite_fails_the_trial(space: SearchSpace, data: str, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"the loss is nan in epoch \d; lower lr \(1e\+30\)"):
        _train(space, data, tmp_path, lr=1e30)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"batch": 1}, "batch is 1"),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"augment": "heavy"}, "augment is 'heavy'; it must be default or none"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, object], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        TrainingEvaluator(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a CUDA device")
def test_an_absent_cuda_is_told() -> None:
    with pytest.raises(EvaluationError, match="no CUDA device"):
        TrainingEvaluator(device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO CUDA DEVICE: mixed precision is not tested here")
def test_cuda_learns_and_resumes(space: SearchSpace, data: str, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 10:
            raise Stop

    with pytest.raises(Stop):
        _train(space, data, tmp_path, stop, epochs=20, device="cuda")
    assert _train(space, data, tmp_path, epochs=20, device="cuda").accuracy > 0.8


def test_a_network_for_other_classes_is_told(data: str, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="build the space for 3 classes"):
        _train(build_space("mobilenetv2-small", resolution=8, channels=1), data, tmp_path)


def test_a_full_disk_stops_the_search_and_not_the_trial(
    space: SearchSpace, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(SearchError, match=r"No space left on device; make room there"):
            _train(space, data, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SearchError, match="checkpoint"):
        _train(space, data, tmp_path / "file")


def test_missing_data_is_told(space: SearchSpace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        _train(space, "npz:/nowhere.npz", tmp_path)


@pytest.mark.parametrize("include_validation", [False, True])
def test_the_winner_is_trained_and_tested(
    space: SearchSpace, data: str, tmp_path: Path, include_validation: bool
) -> None:
    dataset = load_data(data, channels=1)
    graph = _architecture(space).graph
    recipe = Recipe(epochs=20, batch=16)
    seen: list[Progress] = []
    model = train_final(
        graph,
        dataset,
        seed=0,
        workdir=tmp_path,
        report=seen.append,
        recipe=recipe,
        include_validation=include_validation,
        device="cpu",
    )
    assert model.test_accuracy > 0.7
    assert model.pictures == len(dataset.train) + include_validation * len(dataset.val)
    assert (model.val_accuracy is None) == include_validation
    assert ("val_accuracy" in seen[-1].metrics) != include_validation
    network = Network(graph).eval()
    network.load_state_dict(model.state_dict)
    x = torch.from_numpy(dataset.test.x).float() / 255
    x = (x - torch.tensor(dataset.mean)[:, None, None]) / torch.tensor(dataset.std)[:, None, None]
    with torch.inference_mode():
        answers = network(x).argmax(1).numpy()
    assert (answers == dataset.test.y).mean() == pytest.approx(model.test_accuracy)
    assert list(model.folded) == list(network.weighted())
