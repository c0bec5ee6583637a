"""What several acceptance tests search, measure and export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TINY = """
name: tiny
input: {{channels: 1, resolution: 32}}
classes: 10
stem: {{width: 8}}
stages:
  - {{width: [8, 16], expansion: [1, 3], kernel: [3, 5]}}
  - {{width: [16, 24], expansion: [3, 6], repeats: [1, 2], stride: 2}}
  - {{family: [{families}], width: [32, 48], stride: 2}}
head: {{width: 64}}
"""


@pytest.fixture(scope="session")
def write_tiny_space() -> Callable[..., Path]:
    """Writes a small search space's YAML file into a folder; the last stage is of the families named."""

    def write(folder: Path, *families: str) -> Path:
        path = folder / "tiny.yaml"
        path.write_text(_TINY.format(families=", ".join(families)))
        return path

    return write


@dataclass(frozen=True)
class PhotoExport:
    """A network that tells two photographs apart, exported.

    Attributes:
        folder: the export.
        files: test pictures: of its input's size and of others, coloured and grey, with EXIF and transparency.
        logits: (n, classes) that torch computes for them.
        classes: in the order of the logits.
    """

    folder: Path
    files: list[Path]
    logits: NDArray[np.float32]
    classes: tuple[str, ...]


@pytest.fixture(scope="session")
def photo_export(tmp_path_factory: pytest.TempPathFactory) -> PhotoExport:
    """Made in seconds from the two photographs that come with scikit-learn."""
    import torch
    from PIL import Image
    from sklearn.datasets import load_sample_images

    from api.export.bundle import write_bundle
    from nas.data import load_data
    from nas.fold import fold
    from nas.network import Network
    from nas.spaces import build_space
    from nas.training.final import TrainedModel
    from nas.training.threads import intra_op_threads

    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
        whole = Image.fromarray(photo)
        for part, count in (("train", 24), ("val", 2), ("test", 4)):
            (root / "data" / part / name).mkdir(parents=True)
            for i in range(count):
                left, top = (int(rng.integers(0, side - 96)) for side in whole.size)
                whole.crop((left, top, left + 96, top + 96)).save(root / "data" / part / name / f"{i}.png")
        test = root / "data" / "test" / name
        whole.resize((32, 32)).save(test / "input-size.png")
        whole.convert("L").save(test / "grey.png")
        whole.resize((300, 111)).convert("P").save(test / "palette.png")
        whole.resize((41, 97)).save(test / "tall.png")
        whole.resize((20, 24)).save(test / "small.png")
        faded = whole.resize((64, 64))
        faded.putalpha(Image.fromarray(np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)))
        faded.save(test / "transparent.png")
        levels = np.asarray(whole.convert("L").resize((50, 40)), np.uint16) * 257 + 90
        Image.fromarray(levels.clip(0, 65535).astype(np.uint16)).save(test / "sixteen-bits.png")
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            whole.resize((32, 32)).save(test / f"turned-{orientation}.jpg", exif=exif, quality=95, subsampling=0)
        whole.save(test / "whole.jpg", quality=95)
    dataset = load_data(f"folder:{root / 'data'}", resolution=32)
    space = build_space("mobilenetv2-small", resolution=32, classes=2)
    graph = space.graph(space.sample(np.random.default_rng(1), 1)[0])
    network, mean, std = Network(graph, seed=0), *(torch.tensor(v)[:, None, None] for v in (dataset.mean, dataset.std))
    x, y = torch.from_numpy(np.array(dataset.train.x)).float(), torch.from_numpy(dataset.train.y)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    noise = torch.Generator().manual_seed(0)
    with intra_op_threads(1):  # the same network however many cores there are
        for step in range(60):
            optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 60)
            # Without noise a level more or less, as JPEG decoders differ by, moves the answers of some networks far.
            noisy = x + 8 * torch.randn(x.shape, generator=noise)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network((noisy / 255 - mean) / std), y).backward()
            optimizer.step()
    network.eval()
    shown = torch.from_numpy(np.array(dataset.test.x)).float()
    with torch.inference_mode():
        logits = network((shown / 255 - mean) / std).numpy()
    accuracy = float((logits.argmax(1) == dataset.test.y).mean())
    state = {name: value.clone() for name, value in network.state_dict().items()}
    recall = dict.fromkeys(dataset.classes, accuracy)
    model = TrainedModel(state, fold(network), accuracy, accuracy, recall, len(x), [])
    facts = {
        "search": "photos", "space": space.name, "encoding": "-", "license": "other", "genes": {}, "recall": recall,
        "test_accuracy": accuracy, "flops": graph.flops, "params": graph.params, "budgets": {}, "data": "photos",
        "data_digest": dataset.digest, "classes": list(dataset.classes), "mean": list(dataset.mean),
        "std": list(dataset.std), "input": list(graph.input.shape), "pictures": len(x), "epochs": 60, "seed": 0,
        "trials": 0, "strategy": "none",
    }  # fmt: skip
    write_bundle(root / "export", graph, model, dataset, facts)
    files = [file for name in dataset.classes for file in sorted((root / "data" / "test" / name).iterdir())]
    return PhotoExport(root / "export", files, logits, dataset.classes)


@pytest.fixture(scope="session")
def read_answers() -> Callable[[str], list[dict[str, float]]]:
    """Reads what run.py and the C++ program print: per picture class -> value."""

    def read(text: str) -> list[dict[str, float]]:
        pictures: list[dict[str, float]] = []
        for line in text.splitlines():
            if not line.startswith("  "):
                pictures.append({})
                continue
            name, _, value = line.strip().rpartition(" ")
            pictures[-1][name.strip()] = float(value)
        return pictures

    return read
