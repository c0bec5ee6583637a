"""A search that starts from a checkpoint: what matched is told, what cannot be is refused before anything is stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from api.store import Store
from nas.evaluators.training import TrainingEvaluator
from nas.network import Network
from nas.spaces import build_space

Nas = Callable[..., tuple[int, str, str]]
SMALL = ("-s", "mobilenetv2-small", "--resolution", "8", "--channels", "1")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process that has to import torch first."""
    monkeypatch.setattr(TrainingEvaluator, "isolated", False)


@pytest.fixture
def searched(tmp_path: Path) -> tuple[str, ...]:
    """A search of one trial on noise."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", x=rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), y=np.arange(60) % 10)
    return ("search", *SMALL, "--epochs", "1", "--trials", "1", "--data", f"npz:{tmp_path / 'noise.npz'}")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of the space's smallest network for the digits."""
    space = build_space("mobilenetv2-small", resolution=8, channels=1, classes=10)
    path = tmp_path / "small.pt"
    torch.save(Network(space.graph([0] * len(space.genes))).state_dict(), path)
    return path


def test_a_search_starts_from_a_checkpoint(
    nas: Nas, home: Path, checkpoint: Path, searched: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    status, _, err = nas(*searched, "--params", "20000", "--init", checkpoint.name, "--name", "mine")
    assert status == 0, err
    (line,) = [line for line in err.splitlines() if "small.pt" in line]
    assert line.startswith("weights of small.pt (lightnas), in an example network: ")
    assert line.endswith("% of the parameters")
    with Store.open() as store:
        record = store.searches.get("mine")
        options = record.spec["evaluator_options"]
        (trial,) = store.searches.log(record.id).load()
    assert options["init"] == str(checkpoint)
    assert options["init_digest"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    told = trial.extras["init"]
    assert told["whole"]
    assert 0 < told["share"] <= 1


def test_a_checkpoint_that_changed_stops_the_search(
    nas: Nas, home: Path, checkpoint: Path, searched: tuple[str, ...]
) -> None:
    status, _, err = nas(*searched, "--init", checkpoint, "--name", "mine")
    assert status == 0, err
    state = torch.load(checkpoint)
    torch.save({**state, "stem.weight": state["stem.weight"] + 1}, checkpoint)
    status, _, err = nas("search", "--resume", "mine", "--trials", "2")
    assert status == 2
    assert f"init: {checkpoint} is another file than when it was named; put the old one back" in err
    checkpoint.unlink()
    status, _, err = nas("search", "--resume", "mine", "--trials", "2")
    assert status == 2
    assert f"the checkpoint {checkpoint} does not exist" in err


def _refused(nas: Nas, searched: tuple[str, ...], *arguments: object) -> str:
    status, out, err = nas(*map(str, (*searched, *arguments)))
    assert (status, out) == (2, "")
    with Store.open() as store:
        assert store.searches.page() == []
    return err


def test_a_checkpoint_for_other_networks_is_refused_before_anything_is_stored(
    nas: Nas, home: Path, tmp_path: Path, searched: tuple[str, ...]
) -> None:
    path = tmp_path / "other.pt"
    torch.save({"features.0.weight": torch.ones(8, 3, 3, 3), "features.0.bias": torch.ones(8)}, path)
    err = _refused(nas, searched, "--init", path)
    assert f"{path} has nothing for the networks of mobilenetv2-small: its ops are features.0; understood are" in err
    torch.save({"conv1.weight": torch.ones(8, 3, 3, 3)}, path)
    assert "the names of its tensors are unknown (conv1.weight)" in _refused(nas, searched, "--init", path)
    assert "does not exist" in _refused(nas, searched, "--init", tmp_path / "absent.pt")


def test_what_is_not_understood_is_told(nas: Nas, home: Path, checkpoint: Path, searched: tuple[str, ...]) -> None:
    torch.save({**torch.load(checkpoint), "ema.decay": torch.ones(1)}, checkpoint)
    status, _, err = nas(*searched, "-o", f"init={checkpoint}", "--json")
    assert status == 0, err
    assert "; not understood: ema.decay" in err


def test_only_trainings_take_weights(nas: Nas, home: Path, checkpoint: Path, benchmark_table: Path) -> None:
    status, _, err = nas(
        "search", "-s", "nas-bench-macro", "--evaluator", "table", "--data", benchmark_table, "--init", checkpoint
    )
    assert status == 2
    assert "--init gives weights to trainings; --evaluator table has none" in err


def test_a_search_goes_on_with_its_own_checkpoint(
    nas: Nas, home: Path, checkpoint: Path, searched: tuple[str, ...]
) -> None:
    status, _, err = nas(*searched, "--init", checkpoint, "--name", "mine")
    assert status == 0, err
    status, _, err = nas("search", "--resume", "mine", "--init", checkpoint)
    assert status == 2
    assert "--init cannot change" in err
    status, out, err = nas("search", "--resume", "mine", "--trials", "2", "--json")
    assert status == 0, err
    assert json.loads(out)["complete"] == 2
