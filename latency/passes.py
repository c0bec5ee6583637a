"""What a measurement is made of: networks to run, finished passes over them, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from latency.engines import EngineModel
from latency.errors import LatencyError
from latency.session import Runs


@dataclass(frozen=True)
class Network:
    """What to run: the network as deployed or, `timed`, the one with stamps; visited at most `most` times."""

    name: str
    model: EngineModel
    timed: bool
    most: int | None = None


@dataclass(frozen=True)
class Pass:
    """Finished visits of networks, one each; plain data, so that a store can keep it.

    Attributes:
        number: of this record, in the order they were made.
        index: which of a network's passes it is; records with other networks share it.
        runs: network name -> what its visit took.
        state: of the board just after (governor, mhz, celsius, throttled, load, free_bytes).
        seconds: how long it took.
        sentinel: (time in s, ns) of the network that is re-timed again and again to see drift.
        session: which of the measurement's runners made it: between two of them a board's speed may differ.
    """

    number: int
    index: int
    runs: Mapping[str, Runs]
    state: Mapping[str, Any]
    seconds: float
    sentinel: tuple[tuple[float, float], ...] = ()
    session: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        runs = {name: {"whole": list(r.whole), "timed": [list(t) for t in r.timed]} for name, r in self.runs.items()}
        marks = {"number": self.number, "index": self.index, "seconds": self.seconds, "session": self.session}
        return {**marks, "state": dict(self.state), "runs": runs, "sentinel": [list(s) for s in self.sentinel]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pass:
        """The inverse of `to_dict`.

        Raises:
            LatencyError: the record is damaged.
        """
        try:
            runs = {
                str(name): Runs(tuple(map(int, r["whole"])), tuple(tuple(map(int, t)) for t in r["timed"]))
                for name, r in data["runs"].items()
            }
            number, index = int(data["number"]), int(data["index"])
            sentinel = tuple((float(at), float(ns)) for at, ns in data.get("sentinel", ()))
            session = int(data.get("session", 0))
            return cls(number, index, runs, dict(data["state"]), float(data["seconds"]), sentinel, session)
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise LatencyError(f"a stored pass is damaged ({e!r}); drop the stored passes and profile anew") from e


@dataclass(frozen=True)
class Progress:
    """How far a measurement is: visits of networks done and in all, and the seconds the rest will take."""

    visits_done: int
    visits: int
    passes: int
    networks: int
    remaining_s: float


PassSink = Callable[[Pass], None]
ProgressSink = Callable[[Progress], None]
