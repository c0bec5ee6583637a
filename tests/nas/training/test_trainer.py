"""What final trainings add to those of a search's trials, which tests/nas/evaluators/test_training.py is about."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import is_running, wait_for
from torch.nn import functional

from nas.data import Dataset, Part, load_data
from nas.errors import EvaluationError
from nas.evaluator import Progress
from nas.evaluators.training import TrainingEvaluator
from nas.graph import Graph
from nas.network import Network
from nas.space import SearchSpace
from nas.training import checkpoint
from nas.training import trainer as module
from nas.training.average import Average
from nas.training.final import assess
from nas.training.recipe import Recipe
from nas.training.teacher import Scaling, Teacher, distillation_loss
from nas.training.trainer import CHECKPOINT, Trainer
from nas.weights import Fit

CPU = torch.device("cpu")


@pytest.fixture
def graph(space: SearchSpace) -> Graph:
    return space.graph([0] * len(space.genes))


@pytest.fixture(scope="session")
def dataset(data: str) -> Dataset:
    return load_data(data, channels=1)


def _trainer(graph: Graph, dataset: Dataset, workdir: Path, recipe: Recipe, **more: Any) -> Trainer:
    return Trainer(graph, dataset, recipe, seed=1, device=CPU, amp=False, workdir=workdir, **more)


def _silent(progress: Progress) -> None:
    pass


def test_a_finished_training_is_tested(graph: Graph, dataset: Dataset, tmp_path: Path) -> None:
    trainer = _trainer(graph, dataset, tmp_path, Recipe(epochs=40, batch=16, lr=0.03))
    trainer.run(_silent)
    model = assess(trainer)
    assert model.test_accuracy > 0.7
    assert model.val_accuracy == trainer.history[-1]["val_accuracy"]
    assert model.pictures == len(dataset.train)
    network = Network(graph).eval()
    network.load_state_dict(model.state_dict)
    x = torch.from_numpy(dataset.test.x).float() / 255
    x = (x - torch.tensor(dataset.mean)[:, None, None]) / torch.tensor(dataset.std)[:, None, None]
    with torch.inference_mode():
        answers = network(x).argmax(1).numpy()
    assert (answers == dataset.test.y).mean() == pytest.approx(model.test_accuracy)
    assert list(model.folded) == list(network.weighted())
    assert np.isfinite(model.folded["stem"].weight).all()


RECIPES = [Recipe(epochs=4, batch=16, ema=0.9), Recipe(epochs=4, batch=16, augment="rand", ema=0.5)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_killed_training_ends_as_an_undisturbed_one(
    recipe: Recipe, graph: Graph, dataset: Dataset, tmp_path: Path
) -> None:
    whole = _trainer(graph, dataset, tmp_path / "whole", recipe)
    whole.run(_silent)

    class Killed(Exception):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 2:
            raise Killed

    with pytest.raises(Killed):
        _trainer(graph, dataset, tmp_path / "cut", recipe).run(kill)
    cut = _trainer(graph, dataset, tmp_path / "cut", recipe)
    cut.run(_silent)
    assert cut.history == whole.history
    for name, value in whole.state_dict().items():
        assert torch.equal(cut.state_dict()[name], value), name


class _Killed(Exception):
    pass


def _kill(progress: Progress) -> None:
    raise _Killed


def test_a_training_begun_on_a_cpu_goes_on_where_gradients_are_scaled(
    graph: Graph, dataset: Dataset, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=2, batch=16)
    with pytest.raises(_Killed):
        _trainer(graph, dataset, tmp_path, recipe).run(_kill)
    trainer = _trainer(graph, dataset, tmp_path, recipe)
    trainer._scaler = torch.amp.GradScaler("cpu", enabled=True)  # as on CUDA
    trainer.run(_silent)
    assert trainer.done
    assert trainer._scaler.state_dict()


def test_a_finished_training_of_other_data_is_set_aside_and_found_again(
    graph: Graph, dataset: Dataset, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=2, batch=16)
    changed = replace(dataset, digest="changed")
    first = _trainer(graph, dataset, tmp_path, recipe)
    first.run(_silent)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    assert not first.preceded

    with pytest.raises(_Killed):
        _trainer(graph, changed, tmp_path, recipe).run(_kill)
    (aside,) = tmp_path.glob("checkpoint-*.pt")
    assert aside.read_bytes() == whole
    second = _trainer(graph, changed, tmp_path, recipe)
    second.run(_silent)
    assert second.preceded
    third = _trainer(graph, replace(dataset, digest="again"), tmp_path, recipe)
    third.resume()
    assert third.preceded
    assert not third.done

    (tmp_path / CHECKPOINT).unlink()
    fourth = _trainer(graph, changed, tmp_path, recipe)
    fourth.resume()
    assert fourth.preceded
    back = _trainer(graph, dataset, tmp_path, recipe)
    back.run(_silent)
    assert back.history == first.history
    assert not (tmp_path / CHECKPOINT).exists()  # nothing was trained
    for name, value in first.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name


def test_an_unfinished_training_of_other_data_is_not_kept(graph: Graph, dataset: Dataset, tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, batch=16)
    with pytest.raises(_Killed):
        _trainer(graph, dataset, tmp_path, recipe).run(_kill)
    trainer = _trainer(graph, replace(dataset, digest="changed"), tmp_path, recipe)
    trainer.run(_silent)
    assert not trainer.preceded
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]


def _cut(dataset: Dataset, pictures: int) -> Dataset:
    return replace(dataset, train=Part(dataset.train.x[:pictures], dataset.train.y[:pictures]))


def test_no_picture_is_left_alone_in_a_batch(graph: Graph, dataset: Dataset, tmp_path: Path) -> None:
    trainer = _trainer(graph, _cut(dataset, 51), tmp_path, Recipe(epochs=1, batch=2))
    trainer.run(_silent)  # on maps of 1 x 1
    sizes = [len(rows) for rows in trainer._batches(torch.Generator())]
    assert sizes == [3, *[2] * 24]
    (rows,) = _trainer(graph, _cut(dataset, 1), tmp_path, Recipe(batch=2))._batches(torch.Generator())
    assert len(rows) == 1


@pytest.mark.parametrize(("pictures", "batch"), [(50, 2), (51, 3), (54, 5), (54, 53), (3, 32), (2, 2)])
def test_batches_that_leave_none_alone_are_of_the_recipes_size(
    graph: Graph, dataset: Dataset, tmp_path: Path, pictures: int, batch: int
) -> None:
    trainer = _trainer(graph, _cut(dataset, pictures), tmp_path, Recipe(batch=batch))
    order = torch.randperm(pictures, generator=torch.Generator().manual_seed(3))
    expected = torch.tensor_split(order, math.ceil(pictures / batch))
    found = list(trainer._batches(torch.Generator().manual_seed(3)))
    assert [rows.tolist() for rows in found] == [rows.tolist() for rows in expected]


def test_the_average_is_what_is_judged_and_kept(graph: Graph, dataset: Dataset, tmp_path: Path) -> None:
    trainer = _trainer(graph, dataset, tmp_path, Recipe(epochs=2, batch=16, ema=0.9))
    trainer.run(_silent)
    averaged, plain = trainer.network.state_dict(), trainer._student.state_dict()
    assert any(not torch.equal(averaged[name], plain[name]) for name in plain)
    assert trainer.history[-1]["val_accuracy"] == trainer.score(dataset.val).accuracy
    assert int(averaged["stem.norm.num_batches_tracked"]) == int(plain["stem.norm.num_batches_tracked"])


def test_the_average_follows(graph: Graph) -> None:
    network = Network(graph)
    average = Average(network, 0.5)
    with torch.no_grad():
        before = network.stem.weight.clone()  # type: ignore[union-attr, operator]
        network.stem.weight.add_(1)  # type: ignore[union-attr, operator]
    average.update(network)
    decay = min(0.5, 2 / 11)
    assert torch.allclose(average.network.stem.weight, before + (1 - decay), atol=1e-6)  # type: ignore[union-attr]


def test_old_checkpoints_still_fit() -> None:
    """Fields that recipes had before others came decide a checkpoint's identity alone, while those are at defaults."""
    early = ("epochs", "batch", "lr", "weight_decay", "label_smoothing", "augment")
    assert Recipe().identity() == {name: asdict(Recipe())[name] for name in early}
    assert replace(Recipe(), ema=0.9).identity() != Recipe().identity()


# A teacher ---------------------------------------------------------------------------------------------------------


def test_the_distillation_loss_is_nothing_for_equal_answers_and_kl_else() -> None:
    a, b = torch.randn(5, 3), torch.randn(5, 3)
    assert float(distillation_loss(a, a, 2.0)) == pytest.approx(0, abs=1e-6)
    p, q = functional.softmax(b / 2, 1), functional.softmax(a / 2, 1)
    assert float(distillation_loss(a, b, 2.0)) == pytest.approx(float((p * (p / q).log()).sum(1).mean() * 4), rel=1e-4)


class _Oracle(Network):
    """Answers one class, whatever it sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == self.graph.input.shape
        return torch.tensor([0.0, 30.0, 0.0]).expand(len(x), 3)


def test_a_teacher_is_followed_even_against_the_labels(graph: Graph, dataset: Dataset, tmp_path: Path) -> None:
    teacher = Teacher(lambda: _Oracle(graph), "oracle", CPU)
    trainer = _trainer(graph, dataset, tmp_path, Recipe(epochs=6, batch=16, distil=1.0), teacher=teacher)
    trainer.run(_silent)
    assert trainer.score(dataset.test).recall["1"] == 1


def test_a_teacher_of_another_size_gets_resized_pictures(space: SearchSpace, graph: Graph) -> None:
    larger = Graph((1, 16, 16))
    larger.linear(larger.global_pool(larger.input), 3)
    answers = Teacher(lambda: _Oracle(larger), "oracle", CPU).logits(torch.rand(2, *graph.input.shape))
    assert answers.shape == (2, 3)


def test_a_teacher_sees_pictures_scaled_as_its_own(graph: Graph) -> None:
    seen: list[torch.Tensor] = []

    class Witness(_Oracle):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return super().forward(x)

    pixels = torch.rand(2, *graph.input.shape)
    scaling = Scaling((0.25,), (0.5,)), Scaling((0.5,), (0.125,))
    Teacher(lambda: Witness(graph), "witness", CPU, scaling).logits((pixels - 0.25) / 0.5)
    assert torch.allclose(seen[0], (pixels - 0.5) / 0.125, atol=1e-5)


def test_a_finished_training_needs_neither_teacher_nor_initial_weights(
    graph: Graph, dataset: Dataset, tmp_path: Path
) -> None:
    class Gone:
        digest = "gone"

        def fit(self, network: Network) -> Fit:
            raise AssertionError("read")

    def begin(init: Any, load: Callable[[], Network]) -> Trainer:
        recipe = Recipe(epochs=2, batch=16, ema=0.5)
        return _trainer(graph, dataset, tmp_path, recipe, init=init, teacher=Teacher(load, "gone", CPU))

    class Fresh(Gone):
        def fit(self, network: Network) -> Fit:
            return Fit((), (), (), 0.0, ())

    first = begin(Fresh(), lambda: _Oracle(graph))
    first.run(_silent)

    def read() -> Network:
        raise AssertionError("read")

    again = begin(Gone(), read)
    again.run(_silent)
    assert again.history == first.history
    assert again.fit == first.fit
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert set(checkpoint.load(tmp_path / CHECKPOINT) or {}) == {"identity", "history", "network", "fit"}


def test_a_teacher_makes_it_another_training(graph: Graph, dataset: Dataset, tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch=16)
    alone = _trainer(graph, dataset, tmp_path, recipe)
    alone.run(_silent)
    taught = _trainer(graph, dataset, tmp_path, recipe, teacher=Teacher(lambda: _Oracle(graph), "oracle", CPU))
    taught.resume()
    assert not taught.done


# Several processes -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_train_together(graph: Graph, data: str, dataset: Dataset, tmp_path: Path) -> None:
    options = {"data": data, "epochs": 25, "batch": 32, "lr": 0.1, "device": "cpu", "ema": 0.8}
    seen: list[Progress] = []
    trainer = TrainingEvaluator(**options, gpus=2).train(graph, seed=3, workdir=tmp_path, report=seen.append)
    assert [p.step for p in seen] == list(range(1, 26))
    assert trainer.done
    assert trainer.score(dataset.val).accuracy == trainer.history[-1]["val_accuracy"] > 0.6
    seen.clear()
    again = TrainingEvaluator(**options, gpus=2).train(graph, seed=3, workdir=tmp_path, report=seen.append)
    assert again.history == trainer.history  # from the checkpoint
    assert [p.step for p in seen] == list(range(1, 26))


@pytest.mark.slow
def test_what_fails_in_a_process_is_told(graph: Graph, data: str, tmp_path: Path) -> None:
    evaluator = TrainingEvaluator(data=data, epochs=2, batch=16, lr=1e30, device="cpu", gpus=2)
    with pytest.raises(EvaluationError, match="lower lr"):
        evaluator.train(graph, seed=3, workdir=tmp_path, report=_silent)


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(data: str, tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from nas.evaluators.training import TrainingEvaluator
from nas.spaces import build_space
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    space = build_space("mobilenetv2-small", resolution=8, classes=3, channels=1)
    evaluator = TrainingEvaluator(data={data!r}, epochs=100000, batch=16, device="cpu", gpus=2)
    graph = space.graph([0] * len(space.genes))
    evaluator.train(graph, seed=3, workdir=Path({str(tmp_path)!r}), report=lambda p: print(p.step, flush=True))
"""
    script = tmp_path / "ranks.py"
    script.write_text(code)
    running = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "1\n"
    children = [pid for pid in _pids() if _parent(pid) == running.pid]
    assert len(children) >= 2
    running.send_signal(signal.SIGKILL)
    running.communicate()
    wait_for(lambda: not any(map(is_running, children)))


def _pids() -> list[int]:
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def test_a_batch_must_feed_every_process(graph: Graph, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="too small for 9 GPUs"):
        _trainer(graph, dataset, tmp_path, Recipe(batch=16), ranks=module.Ranks(0, 9))


def test_identities_are_json(graph: Graph, dataset: Dataset) -> None:
    text = module._identity(graph, dataset, Recipe(), 0, None, None)
    facts = [graph.to_dict(), dataset.digest, len(dataset.train), Recipe().identity(), 0, False]
    assert text == hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
