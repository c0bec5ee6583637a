"""How a service lets people in when it starts: where it may listen, and the token of its own machine."""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import os
import ssl
import stat
import tempfile
from pathlib import Path

from api.auth import Role, check_user
from api.errors import OptionError, StoreError, Unauthorized
from api.settings import Settings
from api.store import Store
from api.store.engine import file_lock

_LONGEST_FILE = 256


def first_token(store: Store, settings: Settings) -> str:
    """The token for the user of this machine: made at the first start, read from its file at later ones.

    A file that others could read counts as lost: its token is revoked and another one made.

    Returns:
        Its text; it is an admin's.

    Raises:
        StoreError: the file cannot be written.
    """
    path = settings.token_file
    with contextlib.suppress(OSError):  # file_lock tells what is wrong
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file_lock(path.with_name(path.name + ".lock"), wait=True):
        kept = _read_private(path, store)
        if kept is not None:
            with contextlib.suppress(Unauthorized):
                if store.tokens.check(kept).role is Role.ADMIN:
                    return kept
        _, text = store.tokens.create(_account(), Role.ADMIN, note="made at the first start of nas serve")
        _write_private(path, text)
        return text


def _account() -> str:
    try:
        return check_user(getpass.getuser())
    except (OptionError, OSError, KeyError):  # no account of that number, as in containers
        return "local"


def _read_private(path: Path, store: Store) -> str | None:
    try:
        with open(path, "rb", opener=_open_itself) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                return None
            text = file.read(_LONGEST_FILE).decode(errors="replace").strip()
    except OSError:
        return None
    if facts.st_uid == os.geteuid() and not facts.st_mode & 0o077:
        return text
    with contextlib.suppress(Unauthorized):
        store.tokens.revoke(store.tokens.check(text).token_id)
    return None


def _open_itself(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)  # neither what a link names nor, for ever, a pipe


def _write_private(path: Path, text: str) -> None:
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".token-")  # 0600, and new
        with os.fdopen(handle, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as e:
        raise StoreError(f"cannot write {path}: {e.strerror or e}; check its folder") from e


def serve_address_rules(host: str, tls_cert: Path | None, tls_key: Path | None, behind_proxy: bool) -> bool:
    """Refuse to send tokens in clear over a network.

    Args:
        host: the address to listen on.
        tls_cert: PEM file of the certificate chain.
        tls_key: PEM file of its key; both or none.
        behind_proxy: whether a proxy in front does the TLS.

    Returns:
        Whether only this machine reaches the address.

    Raises:
        OptionError: another machine could reach it and neither TLS nor a proxy is there, or the TLS files cannot
            be used.
    """
    if (tls_cert is None) != (tls_key is None):
        missing = "--tls-key" if tls_key is None else "--tls-cert"
        raise OptionError(f"TLS needs both a certificate and its key: give {missing}, too")
    if tls_cert is not None and tls_key is not None:
        _check_tls(tls_cert, tls_key)
    loopback = _is_loopback(host)
    if not loopback and tls_cert is None and not behind_proxy:
        raise OptionError(
            f"--host {host}: other machines reach this address, and tokens would cross the network in clear. Give "
            "--tls-cert and --tls-key, or --behind-proxy if a proxy in front does TLS; or stay on 127.0.0.1 and use an "
            "SSH tunnel: ssh -L 8080:127.0.0.1:8080 USER@THIS-MACHINE"
        )
    return loopback


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_tls(cert: Path, key: Path) -> None:
    for option, path in (("--tls-cert", cert), ("--tls-key", key)):
        try:
            path.open("rb").close()
        except OSError as e:
            raise OptionError(f"{option} {path}: {e.strerror or e}") from e
    try:
        # Without a password of our own OpenSSL would ask the terminal for one, and a service would hang.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as e:  # ssl.SSLError is an OSError
        raise OptionError(
            f"--tls-cert {cert} and --tls-key {key}: {getattr(e, 'reason', None) or e}; give a PEM certificate chain "
            "and its own key, without a passphrase"
        ) from e
