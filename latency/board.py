"""What a board is: a machine to profile, how to reach it, and how the engine shall run on it.

A board is a plain record. It never holds a password: authentication is the business of SSH keys and agents.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final

from latency.errors import LatencyError

LOCAL: Final = "local"
"""The address of the machine we run on."""
DTYPES: Final = ("fp32", "fp16", "bf16")
MAX_CORES: Final = 1024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ENGINE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+\\-]*\$?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,32}")  # of an IPv6 address; the host may end up in a command of ~/.ssh/config


def is_board_name(text: object) -> bool:
    """Whether a board may be called so."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def is_engine_name(text: object) -> bool:
    """Whether an engine may be called so."""
    return isinstance(text, str) and _ENGINE.fullmatch(text) is not None


@dataclasses.dataclass(frozen=True)
class Address:
    """Where sshd listens, as the user wrote it; `~/.ssh/config` may still change every part.

    Attributes:
        host: a host name, an alias of `~/.ssh/config`, or an IP address (IPv6 without brackets).
        user: the login name; None leaves it to `~/.ssh/config` or the local login name.
        port: 1…65535; None leaves it to `~/.ssh/config` or 22.
    """

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port is not None else "")


def parse_address(text: str) -> Address:
    """Reads `[user@]host[:port]`; IPv6 as `[::1]:22`, or bare (`::1`) when there is no port.

    Raises:
        LatencyError: the address is malformed, or holds a password (which is not repeated in the message).
    """
    form = "write [user@]host[:port], e.g. pi@raspberrypi.local or pi@[fe80::1]:2222, or 'local'"
    user, at, rest = text.rpartition("@")
    if at and ":" in user:
        raise LatencyError(
            "a board's address holds no password and no URL scheme (nothing is stored that could leak): "
            f"{form}, and log in with an SSH key or agent"
        )
    if "/" in text or not text or text != text.strip():
        raise LatencyError(f"board address {text!r} is malformed: {form}")
    if at and not _USER.fullmatch(user):
        raise LatencyError(f"board address {text!r}: the user name {user!r} is malformed: {form}")
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise LatencyError(f"board address {text!r}: brackets do not match: {form}")
        port = tail[1:] if tail else None
        valid = _is_ipv6(host)
    elif rest.count(":") > 1:
        host, port, valid = rest, None, _is_ipv6(rest)
    else:
        host, colon, port_text = rest.partition(":")
        port = port_text if colon else None
        valid = _HOST.fullmatch(host) is not None
    if not valid:
        raise LatencyError(f"board address {text!r}: {host!r} is neither a host name nor an IP address: {form}")
    if port is not None and not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise LatencyError(f"board address {text!r}: port {port!r} is not a number from 1 to 65535: {form}")
    return Address(host, user if at else None, int(port) if port is not None else None)


def _is_ipv6(text: str) -> bool:
    address, percent, zone = text.partition("%")
    try:
        return ipaddress.ip_address(address).version == 6 and (not percent or _ZONE.fullmatch(zone) is not None)
    except ValueError:
        return False


@dataclasses.dataclass(frozen=True)
class Board:
    """A machine to profile. Immutable and validated when made.

    Attributes:
        name: the user's name for it: letters, digits, `.`, `_`, `-`; at most 64.
        address: `local`, or `[user@]host[:port]` for SSH.
        engine: the inference engine, e.g. `ncnn`.
        threads: the engine's threads, at least 1.
        cores: the cores to pin the runner to, distinct; empty leaves the choice to the system.
        dtype: the engine's arithmetic: `fp32`, `fp16` or `bf16`.
        identity_file: a private key to offer first, as in `ssh -i`; its path, never its content.

    Raises:
        LatencyError: a field is invalid; the message names the board, the field and the fix.
    """

    name: str
    address: str
    engine: str = "ncnn"
    threads: int = 1
    cores: tuple[int, ...] = ()
    dtype: str = "fp32"
    identity_file: str | None = None

    def __post_init__(self) -> None:
        if not is_board_name(self.name):
            raise LatencyError(
                f"board name {self.name!r} is invalid: use 1 to 64 letters, digits, '.', '_' or '-', "
                "beginning with a letter or digit"
            )
        if not isinstance(self.address, str):
            raise self._error("address", self.address, "a text such as 'local' or 'pi@raspberrypi.local'")
        if self.address != LOCAL:
            parse_address(self.address)
        if not is_engine_name(self.engine):
            raise self._error("engine", self.engine, "a lower-case engine name such as 'ncnn'")
        if not _is_count(self.threads) or not 1 <= self.threads <= MAX_CORES:
            raise self._error("threads", self.threads, f"a whole number from 1 to {MAX_CORES}")
        object.__setattr__(self, "cores", self._valid_cores())
        if self.dtype not in DTYPES:
            raise self._error("dtype", self.dtype, f"one of {', '.join(DTYPES)}")
        if self.identity_file is not None and (not isinstance(self.identity_file, str) or not self.identity_file):
            raise self._error("identity_file", self.identity_file, "the path of a private key")

    def _valid_cores(self) -> tuple[int, ...]:
        if isinstance(self.cores, str) or not isinstance(self.cores, (tuple, list)):
            raise self._error("cores", self.cores, "a list of core numbers such as 4,5,6,7")
        for core in self.cores:
            if not _is_count(core) or not 0 <= core < MAX_CORES:
                raise self._error("cores", list(self.cores), f"core numbers from 0 to {MAX_CORES - 1}")
        if len(set(self.cores)) != len(self.cores):
            raise self._error("cores", list(self.cores), "core numbers without repeats")
        if self.cores and len(self.cores) < self.threads:
            raise self._error("cores", list(self.cores), f"at least as many cores as threads ({self.threads})")
        return tuple(self.cores)

    def _error(self, field: str, value: object, wanted: str) -> LatencyError:
        return LatencyError(f"board {self.name}: {field} is {value!r}, but must be {wanted}")

    @property
    def is_local(self) -> bool:
        """Whether the board is this very machine."""
        return self.address == LOCAL

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` reads them back."""
        return {**dataclasses.asdict(self), "cores": list(self.cores)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Board:
        """The inverse of `to_dict`.

        Raises:
            LatencyError: a key is unknown or missing, or a value invalid.
        """
        fields = dataclasses.fields(cls)
        unknown = sorted(set(data) - {field.name for field in fields})
        missing = sorted({"name", "address"} - set(data))
        if unknown or missing:
            raise LatencyError(
                f"board record: {'unknown' if unknown else 'missing'} key(s) "
                f"{', '.join(unknown or missing)}; a board has {', '.join(f.name for f in fields)}"
            )
        return cls(**data)


def _is_count(value: object) -> bool:
    """Whole numbers only: True and 1.0 would slip through a range check and into a table's identity."""
    return isinstance(value, int) and not isinstance(value, bool)
