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

from nas.errors import DataError, EvaluationError, SearchError, WeightsError
from nas.evaluator import Architecture, Evaluation, Progress
from nas.evaluators.training import TrainingEvaluator
from nas.executor import InlineExecutor
from nas.fold import fold
from nas.network import Network
from nas.rungs import Ladder, Rungs
from nas.search import Search
from nas.slot import evaluate
from nas.space import SearchSpace
from nas.spaces import build_space
from nas.strategies.uniform import Uniform
from nas.training.trainer import CHECKPOINT
from nas.trial import MemoryTrialLog, Trial, TrialState

EPOCHS = 4
# A gentle training that learns the stripes whatever the seed, and however a CPU rounds; the default rate is a gamble.
GENTLE = {"epochs": 40, "lr": 0.03}


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
    result = _train(space, data, tmp_path, seen.append, **GENTLE)
    assert result.accuracy > 0.8
    assert [(p.step, p.steps) for p in seen] == [(i + 1, 40) for i in range(40)]
    assert seen[-1].metrics == {"loss": result.extras["history"][-1]["loss"], "val_accuracy": result.accuracy}
    assert set(result.extras["recall"]) == {"0", "1", "2"}
    assert np.mean(list(result.extras["recall"].values())) == pytest.approx(result.accuracy)  # classes of equal size
    assert result.extras["params"] == _architecture(space).graph.params
    assert result.extras["epochs"] == 40


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


def test_a_search_with_rungs_trains_as_without(
    space: SearchSpace, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, bounds = iter(range(6)), Ladder.stop_below

    def stop_below(ladder: Ladder) -> dict[str, float | None]:
        """Whether one of so few trials falls short is luck: the last one does, whatever it reaches."""
        found = bounds(ladder)
        return found | {"2": 1.1} if found and next(numbers) == 5 else found

    monkeypatch.setattr(Ladder, "stop_below", stop_below)

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
        ({"augment": "heavy"}, "augment is 'heavy'; it must be one of none, default, rand"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"gpus": "two"}, "option gpus is 'two'; it must be a whole number of at least 1"),
        ({"gpus": 0}, "gpus is 0"),
        ({"threads": "x"}, "option threads is 'x'; it must be a whole number of at least 1"),
        ({"threads": True}, "threads is True"),
        ({"threads": 0}, "threads is 0"),
        ({"amp": "maybe"}, "option amp is 'maybe'; it must be true or false"),
        ({"inherit": 1}, "inherit is 1; it must be true or false"),
        ({"data": 5}, "data is 5; it must be a text"),
        ({"init": 5}, "init is 5; it must be a text"),
        ({"teacher": ["a"]}, r"teacher is \['a'\]; it must be a text"),
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
        _train(space, data, tmp_path, stop, device="cuda", **GENTLE)
    assert _train(space, data, tmp_path, device="cuda", **GENTLE).accuracy > 0.8


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


# Weights to start from ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt(space: SearchSpace, data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation]:
    """The checkpoint of a longer training, and how good it is."""
    folder = tmp_path_factory.mktemp("learnt")
    return folder / CHECKPOINT, _train(space, data, folder, **GENTLE)


def _export(space: SearchSpace, checkpoint: Path, to: Path) -> Path:
    """The weights as an export has them: norms folded."""
    network = Network(_architecture(space).graph)
    network.load_state_dict(torch.load(io.BytesIO(checkpoint.read_bytes()[32:]))["network"])
    folded = fold(network)
    torch.save({f"{p}.{part}": torch.from_numpy(v) for p, f in folded.items() for part, v in f._asdict().items()}, to)
    return to


@pytest.mark.parametrize("exported", [False, True], ids=["checkpoint", "export"])
def test_a_training_starts_where_its_weights_were(
    space: SearchSpace, data: str, tmp_path: Path, learnt: tuple[Path, Evaluation], exported: bool
) -> None:
    path, before = learnt
    assert before.accuracy > 0.8
    init = _export(space, path, tmp_path / "weights.pt") if exported else path
    evaluator = TrainingEvaluator(data=data, epochs=1, batch=16, device="cpu", init=str(init))
    trainer = evaluator.trainer(_architecture(space).graph, seed=8, workdir=tmp_path)
    trainer.begin()
    assert trainer.score(trainer.dataset.val).accuracy == before.accuracy
    told = _train(space, data, tmp_path / "a", epochs=1, init=str(init)).extras["init"]
    assert (told["share"], told["fresh"], told["sliced"]) == (1.0, [], [])


def test_a_few_small_steps_keep_what_was_learnt(
    space: SearchSpace, data: str, tmp_path: Path, learnt: tuple[Path, Evaluation]
) -> None:
    path, before = learnt
    assert _train(space, data, tmp_path, epochs=1, lr=1e-3, seed=8).accuracy < 0.6
    assert _train(space, data, tmp_path, epochs=1, lr=1e-3, seed=8, init=str(path)).accuracy > before.accuracy - 0.15


def test_other_weights_make_another_training(
    space: SearchSpace,
    data: str,
    tmp_path: Path,
    killed: Path,
    undisturbed: Evaluation,
    learnt: tuple[Path, Evaluation],
) -> None:
    """A checkpoint made without them, or with others, is not continued; one made with them is, exactly."""
    init = str(learnt[0])
    found = _train(space, data, _copy(killed, tmp_path / "a"), init=init)
    assert found.extras["history"] != undisturbed.extras["history"]

    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        _train(space, data, tmp_path / "b", stop, init=init)
    assert _train(space, data, tmp_path / "b", init=init) == found


def test_weights_that_changed_end_the_search(
    space: SearchSpace, data: str, tmp_path: Path, learnt: tuple[Path, Evaluation]
) -> None:
    with pytest.raises(
        WeightsError, match=r"init: .*checkpoint.pt is another file than when it was named; put the old"
    ):
        _train(space, data, tmp_path, init=str(learnt[0]), init_digest="0" * 64)
    evaluator = TrainingEvaluator(data=data, device="cpu", init=str(tmp_path / "absent.pt"))
    task = {"encoding": [0] * len(space.genes), "seed": 5, "workdir": str(tmp_path), "stop_below": {}}
    assert "absent.pt does not exist" in evaluate(evaluator, space, task, lambda message: None)["fatal"]


def test_more_processes_than_cores_are_refused_on_the_cpu() -> None:
    with pytest.raises(EvaluationError, match="gpus is 100000, more processes than this machine has cores; give fewer"):
        TrainingEvaluator(data="digits", device="cpu", gpus=100_000)
