"""The Backend port: an engine on the board."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any


class Backend(ABC):
    """An engine on the board; made with the threads, the dtype and a folder of ours. What it refuses raises `Refused`.

    A loaded network is a dict of the backend's own, with `stamps` (empty: to be run whole), and the `inputs`, each a
    tuple whose first is the name, and `shapes` that it is fed.
    """

    version: str

    @abstractmethod
    def load(self, model: str, shape: list[int]) -> dict[str, Any]:
        """A network of ours, without weights, run once."""

    @abstractmethod
    def load_file(self, path: str, shape: list[int] | None) -> dict[str, Any]:
        """A user's own network, run once."""

    @abstractmethod
    def order(self, loaded: dict[str, Any]) -> list[int]:
        """The stamps in the order in which they run, each as its place in the text."""

    @abstractmethod
    def visit(self, loaded: dict[str, Any], runs: int, warm: int) -> tuple[list[int], list[list[int]]]:
        """Kept runs in ns: whole ones of a network without stamps, timed ones of another."""

    @abstractmethod
    def show(self, loaded: dict[str, Any], pixels: bytes, mean: list[float], std: list[float]) -> None:
        """Feeds the network's first input with a picture, row by row, the channels of a pixel side by side.

        What it is fed is (x / 255 - mean) / std, per channel.
        """

    @abstractmethod
    def run(self, loaded: dict[str, Any]) -> tuple[int, int]:
        """One inference of what is fed; its start and end in ns."""

    @abstractmethod
    def answer(self, loaded: dict[str, Any]) -> bytes:
        """The output of the last run (the first of several), as fp32."""

    @abstractmethod
    def values(self, loaded: dict[str, Any], names: list[str]) -> Iterator[bytes]:
        """What an inference of what is fed computes on its way, as fp32: one for each name of a value."""

    @abstractmethod
    def unload(self, loaded: dict[str, Any]) -> None:
        """Frees the network."""
