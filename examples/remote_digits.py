"""Trains the trials of a served search with a plain torch loop, on scikit-learn's digits.

On the server: nas serve
Then:          nas search --server http://127.0.0.1:8080 --space mobilenetv2-small --resolution 16 --channels 1 \
                   --classes 10 --evaluator remote --option steps=3 --rungs 1 --trials 20 --name digits --detach
Here, as often as you like: python examples/remote_digits.py http://127.0.0.1:8080 digits
"""

from __future__ import annotations

import sys

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy, interpolate

from api.client import Client, LeasedTrial
from nas.errors import LightnasError
from nas.network import Network

EPOCHS, BATCH = 3, 32


def load(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(1797, 1, side, side) pictures in [0, 1] and their classes, in one order for all."""
    pictures, classes = load_digits(return_X_y=True)
    x = torch.tensor(pictures, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return interpolate(x, (side, side))[order], torch.tensor(classes)[order]


def train(trial: LeasedTrial) -> float:
    """The validation accuracy of a trial's network."""
    torch.manual_seed(trial.seed)
    network = Network(trial.graph, seed=trial.seed)
    x, y = load(trial.architecture.input[1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    accuracy = 0.0
    for epoch in range(1, EPOCHS + 1):
        network.train()
        for batch in torch.randperm(1400).split(BATCH):
            loss = cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            accuracy = (network(x[1400:]).argmax(1) == y[1400:]).float().mean().item()
        trial.report(epoch, {"val_accuracy": accuracy, "loss": loss.item()}, steps=EPOCHS)
    return accuracy


def main(url: str, search: str) -> None:
    """Train the search's trials until it is over."""
    for trial in Client(url).trials(search):
        with trial:
            trial.tell(train(trial))
            print(f"trial {trial.number} told", flush=True)


try:
    main(*sys.argv[1:])
except LightnasError as e:  # the server refused, or stayed away
    print(f"error: {e}", file=sys.stderr)
    sys.exit(2)
