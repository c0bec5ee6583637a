"""From a board's address to a link whose far end is trusted and has let us in: jumps, host keys, login.

The host key of every hop is verified; what `StrictHostKeyChecking` says makes no difference.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import logging
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import paramiko
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import IncompatiblePeer

from latency.board import Board, parse_address
from latency.errors import AuthenticationRefused, BoardUnreachable
from latency.process import one_line
from latency.ssh import known_hosts
from latency.ssh.config import HostConfig, lookup

# Without a handler of its own, paramiko's log of each failure would reach the terminal beside our one line.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_MAX_HOPS: Final = 8
_BANNER_S: Final = 15.0
"""Seconds for the first line, which a running sshd sends at once; a link made anew must not wait for one that boots."""
_ALGORITHMS: Final = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
"""Which algorithms prove a kind of host key, where it is not the kind's own name."""


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """Limits of each step, in seconds.

    Attributes:
        connect_s: TCP, unless ConnectTimeout is configured.
        handshake_s: the banner, and then the key exchange.
        auth_s: each key offered.
        channel_s: opening a channel; starting a command's shell.
        transfer_s: a file transfer standing still.
        keepalive_s: of silence, after which the board is asked whether it is there.
        keepalive_answer_s: for the answer, before the link is given up.
    """

    connect_s: float = 15.0
    handshake_s: float = 30.0
    auth_s: float = 30.0
    channel_s: float = 30.0
    transfer_s: float = 60.0
    keepalive_s: float = 10.0
    keepalive_answer_s: float = 20.0


DEFAULT_TIMEOUTS: Final = Timeouts()


def open_links(board: Board, accept_new_host_key: bool, timeouts: Timeouts) -> list[paramiko.Transport]:
    """Connects through every hop, verifies each host key, and logs in at each.

    Returns:
        The links, the board's own last; the caller closes them (`close_links`).

    Raises:
        BoardUnreachable: no name, no route, refused, timed out, or no algorithm in common.
        HostKeyRejected: an unknown or changed host key.
        AuthenticationRefused: a host accepts none of our keys.
    """
    hops: list[paramiko.Transport] = []
    route = _route(board)
    try:
        for config in route:
            hops.append(_handshake(board, config, hops[-1] if hops else None, accept_new_host_key, timeouts))
            _log_in(board, config, hops[-1], board.identity_file if config is route[-1] else None)
    except BaseException:
        close_links(hops)
        raise
    return hops


def close_links(hops: Sequence[paramiko.Transport]) -> None:
    """Closes the links, the farthest first."""
    for link in reversed(hops):
        link.close()


def _route(board: Board) -> list[HostConfig]:
    """The hosts to go through, the board last: ProxyJump of the board, and of the first of its hops, and so on."""
    config = lookup(parse_address(board.address))
    route, jumps = [config], list(config.proxy_jump)
    if config.proxy_command is not None and not jumps:
        raise BoardUnreachable(
            f"{board.name}: ProxyCommand is set for {config.host} but not supported: use ProxyJump instead"
        )
    while jumps:
        hop = lookup(parse_address(jumps.pop().removeprefix("ssh://").rstrip("/")))
        # A 'Host *' block's ProxyJump matches the jump host itself, too; OpenSSH goes there directly then.
        if (hop.host, hop.port, hop.user) != (route[0].host, route[0].port, route[0].user):
            route.insert(0, hop)
            jumps = jumps or list(hop.proxy_jump)
        if len(route) > _MAX_HOPS:
            raise BoardUnreachable(
                f"{board.name}: more than {_MAX_HOPS} hops to {config.host}: does ProxyJump go round in a circle?"
            )
    return route


def _handshake(
    board: Board, config: HostConfig, before: paramiko.Transport | None, accept_new: bool, timeouts: Timeouts
) -> paramiko.Transport:
    """Opens an encrypted link to a host whose key is trusted, directly or through the hop before it."""
    place = f"{config.host} port {config.port}"
    alias = config.host_key_alias
    name = alias.lower() if alias else known_hosts.lookup_name(config.host, config.port)
    entries = known_hosts.find(name, [*config.user_known_hosts, *config.global_known_hosts])
    sock = _tcp(board, config, timeouts) if before is None else _tunnel(board, config, before, timeouts)
    try:
        link = paramiko.Transport(sock)
    except BaseException:
        sock.close()
        raise
    try:
        link.handshake_timeout = timeouts.handshake_s
        link.banner_timeout = min(_BANNER_S, timeouts.handshake_s)
        link.auth_timeout, link.channel_timeout = timeouts.auth_s, timeouts.channel_s
        # Ask for the kinds of key we can judge; else a board with several would seem unknown or changed.
        kinds = {kind for entry in entries for kind in _ALGORITHMS.get(entry.key.kind, (entry.key.kind,))}
        options = link.get_security_options()
        options.key_types = sorted(options.key_types, key=lambda kind: kind not in kinds)
        try:
            link.start_client(timeout=2 * timeouts.handshake_s)
            offered = link.get_remote_server_key()
        except IncompatiblePeer as error:
            raise BoardUnreachable(
                f"{board.name}: the SSH server at {place} shares no algorithm with us ({one_line(str(error))}); "
                "servers older than 2016 offer only SHA-1, which paramiko 5 has dropped: update the board's SSH server"
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            reason = one_line(str(error)) or "it closed the connection"
            raise BoardUnreachable(
                f"{board.name}: {place} answers, but not as an SSH server should ({reason}): is sshd running there, on "
                "this port, and not turning us away for too many attempts?"
            ) from error
        key = known_hosts.HostKey(offered.get_name(), offered.asbytes())
        target = config.user_known_hosts[0] if config.user_known_hosts else None
        trust = "trust it with --accept-new-host-key"
        if before is None and target is not None and not alias:
            trust += f", or: ssh-keyscan -p {config.port} {config.host} >> {target}"
        if not known_hosts.verify(name, key, entries, board=board.name, fix_unknown=trust):
            if not accept_new or target is None:
                raise known_hosts.unknown(name, key, board=board.name, fix_unknown=trust)
            known_hosts.add(name, key, target)
    except BaseException:
        link.close()
        raise
    return link


def _tcp(board: Board, config: HostConfig, timeouts: Timeouts) -> socket.socket:
    try:
        sock = socket.create_connection((config.host, config.port), config.connect_timeout_s or timeouts.connect_s)
        # A conversation in short lines: waiting to fill packets would cost 40 ms a line.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    except socket.gaierror as error:
        raise BoardUnreachable(
            f"{board.name}: the name {config.host} cannot be resolved ({error.strerror}): correct it, "
            "or use the IP address"
        ) from error
    except OSError as error:
        reason = "it does not answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise BoardUnreachable(
            f"{board.name}: cannot reach {config.host} port {config.port}: {reason}; is the board on, on this network, "
            "and is sshd running?"
        ) from error


def _tunnel(board: Board, config: HostConfig, before: paramiko.Transport, timeouts: Timeouts) -> paramiko.Channel:
    limit_s = config.connect_timeout_s or timeouts.channel_s
    try:
        return before.open_channel("direct-tcpip", (config.host, config.port), ("127.0.0.1", 0), timeout=limit_s)
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise BoardUnreachable(
            f"{board.name}: the jump host cannot reach {config.host} port {config.port} "
            f"({one_line(str(error)) or 'link lost'}); is the board on, "
            "and does the jump host allow forwarding (AllowTcpForwarding)?"
        ) from error


def _log_in(board: Board, config: HostConfig, link: paramiko.Transport, identity: str | None) -> None:
    """Offers keys until one is accepted: the board's own, the configured ones, then whatever else the agent holds."""
    place = f"{config.user}@{config.host} port {config.port}"
    offered, locked = 0, []
    agent = paramiko.Agent()
    try:
        for key, problem in _keys(board, config, agent.get_keys(), identity):
            if key is None:
                locked.append(problem)
                continue
            offered += 1
            try:
                remaining = link.auth_publickey(config.user, key)
            except paramiko.BadAuthenticationType as error:
                raise AuthenticationRefused(
                    f"{board.name}: {place} takes no keys, only {', '.join(error.allowed_types) or 'nothing'}: enable "
                    "PubkeyAuthentication there and install your key with ssh-copy-id"
                ) from error
            except (paramiko.SSHException, EOFError, OSError) as error:
                silent = "timeout" in str(error).lower()
                # A server that tires of our keys hangs up, too, but has refused one in words before.
                if silent or (offered == 1 and not link.is_active()):
                    reason = "does not answer" if silent else "hung up"
                    raise BoardUnreachable(
                        f"{board.name}: {place} {reason} in the middle of the login; is the board overloaded or "
                        "going down, or does it take one try only, and not of this key?"
                    ) from error
                if not link.is_active():
                    break  # too many keys for the server's taste
                continue
            if link.is_authenticated():
                return
            raise AuthenticationRefused(
                f"{board.name}: {place} wants more than a key ({', '.join(remaining)}): allow the key alone"
            )
    finally:
        agent.close()
    notes = "".join(f"; {problem}" for problem in locked)
    if not link.is_active():
        notes += (
            "; the server hung up: name the one right key with IdentityFile and IdentitiesOnly yes in ~/.ssh/config"
        )
    raise AuthenticationRefused(
        f"{board.name}: {place} accepted none of the {offered} key(s) offered{notes}. Install one: ssh-copy-id "
        f"-p {config.port} {config.user}@{config.host}"
    )


def _keys(
    board: Board, config: HostConfig, agent_keys: Sequence[paramiko.AgentKey], identity: str | None
) -> Iterator[tuple[paramiko.PKey | None, str]]:
    """Yields (key, "") in the order to offer them, or (None, why not) for a key that is there but cannot be used."""
    held = {key.asbytes(): key for key in agent_keys}
    for path in dict.fromkeys(([str(Path(identity).expanduser())] if identity else []) + list(config.identity_files)):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # An agent's key goes by its public half, so that a locked private key beside it does not matter.
            blob = base64.b64decode(Path(f"{path}.pub").read_text(encoding="utf-8").split()[1])
            if blob in held:
                yield held.pop(blob), ""
                continue
        try:
            key = paramiko.PKey.from_path(path)
        except FileNotFoundError:
            if identity and path == str(Path(identity).expanduser()):
                raise AuthenticationRefused(
                    f"{board.name}: the identity file {path} does not exist: correct its path"
                ) from None
        except OSError as error:
            yield None, f"{path} cannot be read ({error.strerror})"
        except (TypeError, paramiko.PasswordRequiredException):
            yield (
                None,
                f"{path} is locked with a passphrase: unlock it with ssh-add {path} (start ssh-agent if none runs)",
            )
        except (ValueError, paramiko.SSHException, UnknownKeyType):
            yield None, f"{path} is no private key we can read (RSA, ECDSA and Ed25519 are)"
        else:
            if held.pop(key.asbytes(), None) is None or key.can_sign():
                yield key, ""
    if not config.identities_only:
        yield from ((key, "") for key in held.values())
