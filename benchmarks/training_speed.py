"""Images a second of our trainer beside a plain torch loop over the same network, pictures and batch.

The plain loop has its pictures on the device as floats, no augmentation, no validation and no checkpoint: what the
trainer cannot be faster than. Epochs of both alternate in one run; medians are told.

    python benchmarks/training_speed.py --device cuda --resolution 160 --batch 256 --pictures 20000
    python benchmarks/training_speed.py --device cpu
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from nas.data import Dataset, Part
from nas.evaluators.training import choose_device
from nas.network import Network
from nas.spaces.families import build_mobilenet_v2, default_reduction
from nas.training.recipe import Recipe
from nas.training.trainer import MOMENTUM, Trainer


def main() -> None:
    options = _options()
    device = choose_device(options.device)
    torch.set_num_threads(options.threads)
    shape = (3, options.resolution, options.resolution)
    graph = build_mobilenet_v2(shape, 10, options.width, default_reduction(shape))
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (options.pictures, *shape), np.uint8)
    part = Part(x, np.arange(options.pictures) % 10)
    dataset = Dataset.build("noise", [str(i) for i in range(10)], {"train": part, "val": part, "test": part}, flip=True)
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {}
        for name, recipe in _recipes(options.batch).items():
            workdir = Path(folder) / name
            trainers[name] = Trainer(graph, dataset, recipe, seed=0, device=device, amp=True, workdir=workdir)
        plain = _plain(graph, dataset, options.batch, device)
        for epoch in range(options.epochs + 1):
            for name, run in [("plain torch", plain), *((n, t._epoch) for n, t in trainers.items())]:
                _wait(device)
                began = time.perf_counter()
                run(epoch)
                _wait(device)
                if epoch:  # the first one warms up
                    rates.setdefault(name, []).append(options.pictures / (time.perf_counter() - began))
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {options.threads} thread(s)"
    print(
        f"MobileNetV2 x{options.width:g} at {options.resolution} px, batch {options.batch}, {where}, "
        f"torch {torch.__version__}"
    )
    best = statistics.median(rates["plain torch"])
    for name, found in rates.items():
        median = statistics.median(found)
        print(f"{name:>28}: {median:9.0f} images/s, {100 * median / best:5.1f} % of plain torch")


def _recipes(batch: int) -> dict[str, Recipe]:
    return {
        "trainer, no augmentation": Recipe(batch=batch, augment="none"),
        "trainer, as a trial": Recipe(batch=batch),
        "trainer, as a final": Recipe(batch=batch, augment="rand", ema=0.998),
    }


def _plain(graph, dataset: Dataset, batch: int, device: torch.device):  # type: ignore[no-untyped-def]
    network = Network(graph).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=MOMENTUM, nesterov=True)
    amp = device.type == "cuda"
    scaler = torch.amp.GradScaler(device.type, enabled=amp)
    x = torch.from_numpy(dataset.train.x).to(device).float() / 255
    y = torch.from_numpy(dataset.train.y).to(device)

    def run(epoch: int) -> None:
        for rows in torch.randperm(len(y), device=device).split(batch):
            with torch.autocast(device.type, torch.float16, enabled=amp):
                logits = network(x[rows])
            loss = functional.cross_entropy(logits.float(), y[rows], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return run


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=1280)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
