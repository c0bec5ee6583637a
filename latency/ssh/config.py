"""The user's `~/.ssh/config`, as far as reaching a board needs it.

Our own reader, because paramiko's knows no `Include` and runs `Match exec` with our standard input attached. As in
ssh_config(5): the first value found wins, except `IdentityFile`, which adds up.

Not honoured, and said so where it matters: `ProxyCommand` and host name canonicalisation.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import getpass
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from latency.board import Address
from latency.errors import LatencyError

CONFIG_VARIABLE: Final = "LIGHTNAS_SSH_CONFIG"
"""Names a file to read instead of ~/.ssh/config and /etc/ssh/ssh_config, as `ssh -F` does."""
_MATCH_EXEC_TIMEOUT_S: Final = 30.0
_MAX_INCLUDE_DEPTH: Final = 16


@dataclasses.dataclass(frozen=True)
class HostConfig:
    """What ssh_config says about one host, defaults filled in.

    Attributes:
        host: the name or IP address to connect to.
        port: 1…65535.
        user: the login name.
        identity_files: private keys to offer, in order; the defaults where the configuration names none.
        identities_only: offer nothing else that an agent holds.
        user_known_hosts: the user's files of trusted keys; new ones go into the first.
        global_known_hosts: the system's.
        proxy_jump: hops before this host, nearest to us first; empty for none.
        proxy_command: an unsupported ProxyCommand, for the message that says so.
        connect_timeout_s: seconds for TCP to connect; None where nothing is configured.
        host_key_alias: the name to look up in known_hosts instead of the host's.
    """

    host: str
    port: int
    user: str
    identity_files: tuple[str, ...]
    identities_only: bool
    user_known_hosts: tuple[str, ...]
    global_known_hosts: tuple[str, ...]
    proxy_jump: tuple[str, ...]
    proxy_command: str | None
    connect_timeout_s: float | None
    host_key_alias: str | None


def lookup(address: Address) -> HostConfig:
    """Resolves an address through the configuration; what the address itself says goes first, as on ssh's command line.

    Raises:
        LatencyError: a configuration file cannot be read or a value is malformed; names the file and line, or the key.
    """
    options: dict[str, str] = {}
    if address.user is not None:
        options["user"] = address.user
    if address.port is not None:
        options["port"] = str(address.port)
    identity_files: list[str] = []
    for path in _config_files():
        _apply(path, address.host, options, identity_files)
    host = _expand(options.get("hostname", address.host), {"%h": address.host, "%%": "%"})
    user = options.get("user") or getpass.getuser()
    port = _number(options.get("port", "22"), "Port", address.host, 65535)
    tokens = _tokens(address.host, host, user, port)

    def paths(key: str, default: str) -> tuple[str, ...]:
        return tuple(
            _path(word, tokens)
            for word in _words(options.get(key, default), f"SSH configuration for {address.host}, {key}")
            if word != "none"
        )

    jump = options.get("proxyjump", "none")
    command = options.get("proxycommand", "none")
    if not identity_files:
        identity_files = [f"~/.ssh/id_{kind}" for kind in ("ed25519", "ecdsa", "rsa")]
    timeout = options.get("connecttimeout", "none")
    return HostConfig(
        host=host,
        port=port,
        user=user,
        identity_files=tuple(dict.fromkeys(_path(file, tokens) for file in identity_files if file != "none")),
        identities_only=options.get("identitiesonly", "no").lower() in ("yes", "true"),
        user_known_hosts=paths("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2"),
        global_known_hosts=paths("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"),
        proxy_jump=()
        if jump.lower() == "none"
        else tuple(_expand(hop.strip(), tokens) for hop in jump.split(",") if hop.strip()),
        proxy_command=None if command.lower() == "none" else command,
        connect_timeout_s=None
        if timeout.lower() == "none"
        else _number(timeout, "ConnectTimeout", address.host, 86400),
        host_key_alias=options.get("hostkeyalias"),
    )


def _config_files() -> list[Path]:
    chosen = os.environ.get(CONFIG_VARIABLE)
    if chosen:
        if not Path(chosen).is_file():
            raise LatencyError(f"{CONFIG_VARIABLE} names {chosen}, which is not a file: correct or unset it")
        return [Path(chosen)]
    return [Path("~/.ssh/config").expanduser(), Path("/etc/ssh/ssh_config")]


def _apply(path: Path, original: str, options: dict[str, str], identity_files: list[str], depth: int = 0) -> None:
    """Walks one file, and those it includes, and takes over what applies to the host."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise LatencyError(f"SSH configuration {path}: {error.strerror or error}; correct its permissions") from error
    active = True
    for number, raw in enumerate(lines, 1):
        line, where = raw.strip(), f"SSH configuration {path}, line {number}"
        if not line or line.startswith("#"):
            continue
        found = re.fullmatch(r"(\w+)(?:\s*=\s*|\s+)(.+)", line)
        if not found:
            raise LatencyError(f"{where}: cannot read {line!r}; write 'Keyword value'")
        key, value = found[1].lower(), found[2]
        if key == "host":
            active = _patterns_match(_words(value, where), original)
        elif key == "match":
            active = _matches(_words(value, where), where, original, options)
        elif not active:
            continue
        elif key == "include":
            if depth >= _MAX_INCLUDE_DEPTH:
                raise LatencyError(f"{where}: includes nest too deep; let no file include itself")
            for word in _words(value, where):
                pattern = path.parent / Path(word).expanduser()
                for file in sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))):
                    _apply(file, original, options, identity_files, depth + 1)
        elif key == "identityfile":
            identity_files.extend(_words(value, where)[:1])
        else:
            whole = re.fullmatch(r'"([^"]*)"', value)
            options.setdefault(key, whole[1] if whole else value)


def _matches(words: list[str], where: str, original: str, options: Mapping[str, str]) -> bool:
    """Whether every criterion of a Match line holds; commands run only if all before them held, as in OpenSSH."""
    host, user = options.get("hostname", original), options.get("user") or getpass.getuser()
    pending = list(words)
    while pending:
        word = pending.pop(0)
        negated = word.startswith("!")
        kind = word.removeprefix("!").lower()
        if kind == "all":
            held = True
        elif kind in ("final", "canonical"):
            held = kind == "final"
        elif not pending:
            raise LatencyError(f"{where}: Match {kind} lacks its argument")
        elif kind == "exec":
            tokens = _tokens(original, _expand(host, {"%h": original, "%%": "%"}), user, int(options.get("port", "22")))
            held = _command_succeeds(_expand(pending.pop(0), tokens))
        else:
            subject = {"host": host, "originalhost": original, "user": user, "localuser": getpass.getuser()}.get(kind)
            argument = pending.pop(0)
            held = subject is not None and _patterns_match(argument.split(","), subject)
        if held == negated:
            return False
    return True


def _command_succeeds(command: str) -> bool:
    # The user's own command from the user's own file; not our standard input, which may be carrying encodings.
    try:
        finished = subprocess.run(
            ["sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=_MATCH_EXEC_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return finished.returncode == 0


def _patterns_match(patterns: list[str], subject: str) -> bool:
    """OpenSSH's pattern lists: `*` and `?`, and one negated match refuses whatever else matches."""
    subject = subject.lower()
    found = False
    for pattern in patterns:
        bare = pattern.removeprefix("!").lower().replace("[", "[[]")
        if fnmatch.fnmatchcase(subject, bare):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _tokens(original: str, host: str, user: str, port: int) -> dict[str, str]:
    name = socket.gethostname()
    return {
        "%%": "%", "%h": host, "%n": original, "%p": str(port), "%r": user, "%u": getpass.getuser(),
        "%d": str(Path.home()), "%L": name.split(".")[0], "%l": name,
    }  # fmt: skip


def _expand(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%.", lambda found: tokens.get(found[0], found[0]), text)


def _path(text: str, tokens: Mapping[str, str]) -> str:
    with_environment = re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], ""), text)
    return str(Path(_expand(with_environment, tokens)).expanduser())


def _words(value: str, where: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError as error:
        raise LatencyError(f"{where}: cannot read {value!r} ({error}); close the quotation") from error


def _number(text: str, key: str, host: str, largest: int) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= largest):
        raise LatencyError(
            f"SSH configuration for {host}: {key} is {text!r}, but must be a whole number from 1 to {largest}"
        )
    return int(text)
