"""LatencyTable: engine key -> measured ms, for one board and one way of running on it. Immutable."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Self

from latency.errors import InvalidTable

FORMAT: Final = "lightnas-latency-table"
VERSION: Final = 1


@dataclass(frozen=True)
class Identity:
    """What a table's times hold for; tables of different identities are never mixed.

    Attributes:
        board: the user's name of it.
        model: what the board calls itself (device tree, or CPU name).
        machine: architecture, e.g. `aarch64`.
        engine, engine_version: the inference engine, as it runs on the board.
        dtype: `fp32`, `fp16` or `bf16`.
        threads: of the engine.
        cores: the cores the runner may use.
        governor: of those cores' frequency; empty where the board does not tell.
    """

    board: str
    model: str
    machine: str
    engine: str
    engine_version: str
    dtype: str
    threads: int
    cores: tuple[int, ...]
    governor: str

    def differences(self, other: Identity) -> list[str]:
        """What differs, as `field: ours, theirs`."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return [f"{name}: {ours!r}, {theirs!r}" for name, ours, theirs in pairs if ours != theirs]


@dataclass(frozen=True)
class Entry:
    """An op's time.

    Attributes:
        ms: before the table's scale.
        spread: interquartile range of its raw samples as a share of `ms`.
        samples: how many raw samples there were.
    """

    ms: float
    spread: float
    samples: int


@dataclass(frozen=True)
class Calibration:
    """How the table was fitted to whole networks.

    Attributes:
        scale: from the sum of entries to the median of whole-network runs.
        networks: whole networks measured for it.
        error_pct: mean absolute error on them, each predicted with the scale of the others.
        split_half_pct: the measurement's own noise on them; None if there was but one pass.
    """

    scale: float
    networks: int
    error_pct: float
    split_half_pct: float | None


@dataclass(frozen=True)
class SpaceMark:
    """A space a table covers."""

    name: str
    digest: str


@dataclass(frozen=True)
class Provenance:
    """How a table came about.

    Attributes:
        date: when the profile ended, ISO 8601 with its zone.
        command: what the user ran; empty if unknown.
        spaces: the spaces whose ops it holds.
        networks: cover networks run.
        passes: how often.
        seconds: of board time, earlier sittings included.
        samples_sha256: of the raw passes.
    """

    date: str
    command: str
    spaces: tuple[SpaceMark, ...]
    networks: int
    passes: int
    seconds: float
    samples_sha256: str


@dataclass(frozen=True)
class LatencyTable:
    """Measured op times of one board.

    Attributes:
        identity: what they hold for.
        entries: engine key -> Entry.
        offset_ms: of a network beyond its ops, before the scale.
        calibration: holds the scale.
        provenance: how it came about.
    """

    identity: Identity
    entries: Mapping[str, Entry]
    offset_ms: float
    calibration: Calibration
    provenance: Provenance

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", MappingProxyType(dict(sorted(self.entries.items()))))

    @property
    def scale(self) -> float:
        """From the sum of entries to the median of whole-network runs."""
        return self.calibration.scale

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the canonical JSON: the table's name in a search's record."""
        return hashlib.sha256(_canonical(self._body()).encode()).hexdigest()

    def _body(self) -> dict[str, Any]:
        return {
            "identity": asdict(self.identity),
            "entries": {key: [e.ms, e.spread, e.samples] for key, e in self.entries.items()},
            "offset_ms": self.offset_ms,
            "calibration": asdict(self.calibration),
            "provenance": asdict(self.provenance),
        }

    def to_json(self) -> str:
        """One JSON object; `from_json` reads it back."""
        return json.dumps({"format": FORMAT, "version": VERSION, "digest": self.digest, **self._body()}, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "the latency table") -> Self:
        """Reads a table, and believes nothing.

        Args:
            text: what `to_json` wrote.
            source: how messages call it, e.g. the file's name.

        Raises:
            InvalidTable: it is no JSON, of another format, of a newer version, incomplete, or was changed.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise InvalidTable(f"{source} is not a latency table: it is no JSON; export it again") from e
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InvalidTable(f"{source} is not a latency table: its format is not {FORMAT!r}")
        if data.get("version") != VERSION:
            raise InvalidTable(
                f"{source} has version {data.get('version')!r}, but this lightnas reads {VERSION}; update lightnas"
            )
        try:
            table = cls(
                identity=_identity(data["identity"]),
                entries={key: _entry(key, value) for key, value in _mapping(data["entries"]).items()},
                offset_ms=_number(data["offset_ms"], "offset_ms"),
                calibration=_calibration(data["calibration"]),
                provenance=_provenance(data["provenance"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            what = f"{e.args[0]} is missing" if isinstance(e, KeyError) else e
            raise InvalidTable(f"{source} is damaged: {what}; export it again") from e
        if data.get("digest") != table.digest:
            raise InvalidTable(f"{source} is damaged: its digest does not fit its content; export it again")
        return table

    def merge(self, newer: LatencyTable) -> LatencyTable:
        """Both tables' ops in one, for a second space on the same board; where both have an op, the newer time counts.

        Our times are expressed in the newer table's scale, so every single op keeps the time it has in its own table.

        Raises:
            InvalidTable: the tables hold for different things; names them.
        """
        differences = self.identity.differences(newer.identity)
        if differences:
            raise InvalidTable(f"tables cannot be merged, their identities differ: {'; '.join(differences)}")
        factor = self.scale / newer.scale
        ours = {key: replace(e, ms=e.ms * factor) for key, e in self.entries.items()}
        old, new = self.provenance, newer.provenance
        raw = f"{old.samples_sha256}+{new.samples_sha256}"
        provenance = replace(
            new,
            spaces=tuple(dict.fromkeys([*old.spaces, *new.spaces])),
            networks=old.networks + new.networks,
            seconds=old.seconds + new.seconds,
            samples_sha256=hashlib.sha256(raw.encode()).hexdigest(),
        )
        return replace(newer, entries={**ours, **newer.entries}, provenance=provenance)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("an object is expected where there is none")
    return value


def _number(value: Any, name: str, *, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < least:
        raise ValueError(f"{name} is {str(value)[:40]}, but must be a number of at least {least:g}")
    return float(value)


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} is {str(value)[:40]}, but must be a whole number")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text")
    return value


def _entry(key: str, value: Any) -> Entry:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"entry {key} is not [ms, spread, samples]")
    return Entry(_number(value[0], f"{key} ms"), _number(value[1], f"{key} spread"), _count(value[2], f"{key} samples"))


def _identity(value: Any) -> Identity:
    data = _mapping(value)
    texts = ("board", "model", "machine", "engine", "engine_version", "dtype", "governor")
    return Identity(
        **{name: _text(data[name], name) for name in texts},
        threads=_count(data["threads"], "threads"),
        cores=tuple(_count(core, "cores") for core in data["cores"]),
    )


def _calibration(value: Any) -> Calibration:
    data = _mapping(value)
    halves = data["split_half_pct"]
    scale = _number(data["scale"], "scale")
    if not scale:
        raise ValueError("scale is 0")
    return Calibration(
        scale=scale,
        networks=_count(data["networks"], "calibration networks"),
        error_pct=_number(data["error_pct"], "error_pct"),
        split_half_pct=None if halves is None else _number(halves, "split_half_pct"),
    )


def _provenance(value: Any) -> Provenance:
    data = _mapping(value)
    return Provenance(
        date=_text(data["date"], "date"),
        command=_text(data["command"], "command"),
        spaces=tuple(
            SpaceMark(_text(s["name"], "space name"), _text(s["digest"], "space digest")) for s in data["spaces"]
        ),
        networks=_count(data["networks"], "networks"),
        passes=_count(data["passes"], "passes"),
        seconds=_number(data["seconds"], "seconds"),
        samples_sha256=_text(data["samples_sha256"], "samples_sha256"),
    )
