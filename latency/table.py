"""LatencyTable: engine key -> measured ms, for one board and one way of running on it. Immutable."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Self

from latency.board import DTYPES, is_board_name, is_engine_name
from latency.errors import InvalidTable
from latency.table_limits import LARGEST_COUNT, LARGEST_FACTOR, LARGEST_LOG, LARGEST_MS, check_json, check_key
from latency.terms import Terms, terms_of

FORMAT: Final = "lightnas-latency-table"
VERSION: Final = 2
_OLDEST: Final = 1
_NEWER: Final = ("terms", "residuals", "drift_sigma")
"""What the first version's calibration lacks."""


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
        ms: inside a cover network; `Calibration.terms` and its scale make it a part of a whole network's time.
        spread: interquartile range of its raw samples as a share of `ms`.
        samples: how many raw samples there were; 0 marks an op that was not timed but estimated from others.
        sigma: standard error of log(ms), where it goes beyond what `Calibration.residuals` tell; 0 for a timed op.
    """

    ms: float
    spread: float
    samples: int
    sigma: float = 0.0

    @property
    def estimated(self) -> bool:
        """Whether no cover network with the op was timed."""
        return self.samples == 0


@dataclass(frozen=True)
class Calibration:
    """How the table was fitted to whole networks.

    Attributes:
        scale: from the sum of the ops' parts to the median of whole-network runs.
        networks: whole networks measured for it.
        error_pct: mean absolute error on them, each predicted without itself.
        split_half_pct: the measurement's own noise on them; None if there was but one pass.
        terms: from an entry to its op's part.
        residuals: log(measured / predicted) of whole networks, each predicted without itself; intervals come from them.
        drift_sigma: standard error of what all networks' log times shift by from one measurement to the next.
    """

    scale: float
    networks: int
    error_pct: float
    split_half_pct: float | None
    terms: Terms = field(default_factory=Terms)
    residuals: tuple[float, ...] = ()
    drift_sigma: float = 0.0


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
        facts: what the board told of itself: CPU, system, C library, Python, memory.
        complete: whether everything planned was measured; nothing is built upon a table that was cut short.
    """

    date: str
    command: str
    spaces: tuple[SpaceMark, ...]
    networks: int
    passes: int
    seconds: float
    samples_sha256: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True


@dataclass(frozen=True)
class LatencyTable:
    """Measured op times of one board.

    Attributes:
        identity: what they hold for.
        entries: engine key -> Entry.
        offset_ms: of a network beyond its ops, before the scale.
        calibration: holds the scale.
        provenance: how it came about.
        version: of the format; a table keeps the one it was made in, and with it its digest.
    """

    identity: Identity
    entries: Mapping[str, Entry]
    offset_ms: float
    calibration: Calibration
    provenance: Provenance
    version: int = VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", MappingProxyType(dict(sorted(self.entries.items()))))

    @property
    def scale(self) -> float:
        """From the sum of the ops' parts to the median of whole-network runs."""
        return self.calibration.scale

    @property
    def measured(self) -> set[str]:
        """The keys of the ops that were timed."""
        return {key for key, entry in self.entries.items() if not entry.estimated}

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the canonical JSON: the table's name in a search's record."""
        return hashlib.sha256(_canonical(self._body()).encode()).hexdigest()

    def _body(self) -> dict[str, Any]:
        calibration, provenance = asdict(self.calibration), asdict(self.provenance)
        entries = {key: list(astuple(e)) for key, e in self.entries.items()}
        if self.version == 1:
            entries = {key: row[:3] for key, row in entries.items()}
            calibration = {k: v for k, v in calibration.items() if k not in _NEWER}
            del provenance["facts"], provenance["complete"]
        return {
            "identity": asdict(self.identity),
            "entries": entries,
            "offset_ms": self.offset_ms,
            "calibration": calibration,
            "provenance": provenance,
        }

    def to_json(self) -> str:
        """One JSON object; `from_json` reads it back."""
        return json.dumps({"format": FORMAT, "version": self.version, "digest": self.digest, **self._body()}, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "the latency table") -> Self:
        """Reads a table, and believes nothing.

        Args:
            text: what `to_json` wrote.
            source: how messages call it, e.g. the file's name.

        Raises:
            InvalidTable: it is no JSON, of another format, of a newer version, incomplete, was changed, or holds what
                cannot have been measured (`latency.table_limits`).
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise InvalidTable(f"{source} is not a latency table: it is no JSON; export it again") from e
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InvalidTable(f"{source} is not a latency table: its format is not {FORMAT!r}")
        version = data.get("version")
        if not isinstance(version, int) or isinstance(version, bool) or not _OLDEST <= version <= VERSION:
            raise InvalidTable(
                f"{source} has version {version!r}, but this lightnas reads {_OLDEST} to {VERSION}; update lightnas"
            )
        try:
            table = cls(
                identity=_identity(data["identity"]),
                entries={key: _entry(key, value, version) for key, value in _mapping(data["entries"]).items()},
                offset_ms=_number(data["offset_ms"], "offset_ms", most=LARGEST_MS),
                calibration=_calibration(data["calibration"], version),
                provenance=_provenance(data["provenance"], version),
                version=version,
            )
            check_json(data)
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            what = f"{e.args[0]} is missing" if isinstance(e, KeyError) else e
            raise InvalidTable(f"{source} is damaged: {what}; export it again") from e
        if data.get("digest") != table.digest:
            raise InvalidTable(f"{source} is damaged: its digest does not fit its content; export it again")
        return table


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("an object is expected where there is none")
    return value


def _number(value: Any, name: str, *, least: float = 0.0, most: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < least:
        raise ValueError(f"{name} is {str(value)[:40]}, but must be a number of at least {least:g}")
    if value > most:
        raise ValueError(f"{name} is {str(value)[:40]}, but must be at most {most:g}")
    return float(value)


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_COUNT:
        raise ValueError(f"{name} is {str(value)[:40]}, but must be a whole number from 0 to {LARGEST_COUNT}")
    return value


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text")
    return value


def _entry(key: str, value: Any, version: int) -> Entry:
    check_key(key)
    wanted = ("ms", "spread", "samples", "sigma")[: 3 if version == 1 else 4]
    if not isinstance(value, list) or len(value) != len(wanted):
        raise ValueError(f"entry {key} is not [{', '.join(wanted)}]")
    ms = _number(value[0], f"{key} ms", most=LARGEST_MS)
    spread, samples = _number(value[1], f"{key} spread"), value[2]
    sigma = _number(value[3], f"{key} sigma", most=LARGEST_LOG) if version > 1 else 0.0
    return Entry(ms, spread, _count(samples, f"{key} samples"), sigma)


def _identity(value: Any) -> Identity:
    data = _mapping(value)
    texts = ("board", "model", "machine", "engine", "engine_version", "dtype", "governor")
    for name, fits in (("board", is_board_name), ("engine", is_engine_name), ("dtype", DTYPES.__contains__)):
        if not fits(data[name]):
            raise ValueError(f"{name} is {str(data[name])[:40]!r}")
    return Identity(
        **{name: _text(data[name], name) for name in texts},
        threads=_count(data["threads"], "threads"),
        cores=tuple(_count(core, "cores") for core in data["cores"]),
    )


def _calibration(value: Any, version: int) -> Calibration:
    data = _mapping(value)
    halves = data["split_half_pct"]
    scale = _number(data["scale"], "scale", most=LARGEST_FACTOR)
    if not scale:
        raise ValueError("scale is 0")
    return Calibration(
        scale=scale,
        networks=_count(data["networks"], "calibration networks"),
        error_pct=_number(data["error_pct"], "error_pct"),
        split_half_pct=None if halves is None else _number(halves, "split_half_pct"),
        terms=terms_of(_mapping(data["terms"])) if version > 1 else Terms(),
        residuals=tuple(_residual(r) for r in data["residuals"]) if version > 1 else (),
        drift_sigma=_number(data["drift_sigma"], "drift_sigma", most=LARGEST_LOG) if version > 1 else 0.0,
    )


def _residual(value: Any) -> float:
    return _number(value, "a residual", least=-LARGEST_LOG, most=LARGEST_LOG)


def _provenance(value: Any, version: int) -> Provenance:
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
        facts=_mapping(data["facts"]) if version > 1 else {},
        complete=_flag(data["complete"], "complete") if version > 1 else True,
    )
