"""Trusted host keys: OpenSSH's known_hosts files, read, judged and added to.

The format is in sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT": plain or hashed (`|1|salt|hmac`) names, patterns,
`[host]:port`, and the marker `@revoked`. `@cert-authority` lines do not apply: host certificates are not used.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from latency.errors import HostKeyRejected, LatencyError


@dataclasses.dataclass(frozen=True)
class HostKey:
    """A public key as known_hosts writes it.

    Attributes:
        kind: e.g. `ssh-ed25519`.
        blob: the key's bytes.
    """

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as `ssh-keygen -l` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line that speaks of the host: its key, where it stands, and whether it revokes the key."""

    key: HostKey
    path: str
    line: int
    revoked: bool = False


def lookup_name(host: str, port: int) -> str:
    """The name under which known_hosts keeps a host."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def find(name: str, paths: Iterable[str]) -> list[Entry]:
    """Every entry of the files that speaks of the host; files that do not exist hold none.

    Raises:
        LatencyError: a file exists but cannot be read.
    """
    return [entry for path in paths for entry in _entries(name, path)]


def _entries(name: str, path: str) -> Iterator[Entry]:
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise LatencyError(
            f"known hosts {path}: cannot be read: {error.strerror or error}; correct its permissions"
        ) from error
    for number, line in enumerate(lines, 1):
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked"):
            continue
        try:
            blob = base64.b64decode(fields[2], validate=True)
        except binascii.Error:
            continue  # OpenSSH, too, skips a line it cannot read: trust is only ever given by a readable one
        if _names_match(fields[0], name):
            yield Entry(HostKey(fields[1], blob), path, number, marker == "@revoked")


def _names_match(field: str, name: str) -> bool:
    if field.startswith("|1|"):
        parts = field.split("|")
        try:
            salt, digest = (base64.b64decode(part, validate=True) for part in parts[2:4])
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
    found = False
    for pattern in field.lower().split(","):
        if fnmatch.fnmatchcase(name, pattern.removeprefix("!").replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def verify(name: str, key: HostKey, entries: Sequence[Entry], *, board: str, fix_unknown: str) -> bool:
    """Judges a key the host has proven to hold.

    Args:
        name: the host's name in known_hosts.
        key: its key.
        entries: what `find` found for the name.
        board: the board, for messages.
        fix_unknown: how to trust an unknown key, for the message.

    Returns:
        True if the key is trusted; False if the host is unknown, which the caller may accept.

    Raises:
        HostKeyRejected: the key is revoked, or another key is known for the host.
    """
    for entry in entries:
        if entry.revoked and entry.key.blob == key.blob:
            raise HostKeyRejected(
                f"{board}: the host key of {name} ({key.kind} {key.fingerprint}) is revoked by {entry.path}, "
                f"line {entry.line}: give the board a new host key"
            )
    trusted = [entry for entry in entries if not entry.revoked]
    if any(entry.key == key for entry in trusted):
        return True
    if not trusted:
        return False
    old = next((entry for entry in trusted if entry.key.kind == key.kind), trusted[0])
    raise HostKeyRejected(
        f"{board}: the host key of {name} has CHANGED to {key.kind} {key.fingerprint}; {old.path}, line {old.line}, "
        f"holds {old.key.kind} {old.key.fingerprint}. Someone may be in between. If the board was set up anew, run: "
        f"ssh-keygen -f '{old.path}' -R '{name}' and then {fix_unknown}"
    )


def unknown(name: str, key: HostKey, *, board: str, fix_unknown: str) -> HostKeyRejected:
    """The refusal of a host nobody has trusted yet."""
    kind = key.kind.removeprefix("ssh-").split("-")[0]
    return HostKeyRejected(
        f"{board}: the host key of {name} is unknown: {key.kind} {key.fingerprint}. Compare it with "
        f"'ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub' on the board, then {fix_unknown}"
    )


def add(name: str, key: HostKey, path: str) -> None:
    """Trusts a key from now on: appends it to the user's file, made 0600 (in a folder made 0700) if there is none.

    Raises:
        LatencyError: the file cannot be written.
    """
    line = f"{name} {key.kind} {base64.b64encode(key.blob).decode()}\n".encode()
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "rb+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line)
    except OSError as error:
        raise LatencyError(
            f"known hosts {path}: cannot be written: {error.strerror or error}; correct its permissions"
        ) from error
