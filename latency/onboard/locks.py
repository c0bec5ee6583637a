"""The locks: two runners never share a board."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import socket
import stat
from time import monotonic, sleep

from .errors import Refused
from .procfs import read_text


def open_shared(path: str) -> int:
    """Opens a file that any account may lock, and makes it where it is not there; a descriptor.

    It lies in a folder where everybody may put anything: no link is followed, nor a second name of another file. The
    kernel refuses O_CREAT on another account's file there (fs.protected_regular): it is said only where no file is.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC  # opened to read and write, a pipe does not make us wait
    mend = f"remove it: sudo rm -r {path}"
    try:
        try:
            opened = os.open(path, flags)
        except FileNotFoundError:
            try:
                opened = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
                os.fchmod(opened, 0o666)  # whatever the umask takes away
            except FileExistsError:  # made by another in between
                opened = os.open(path, flags)
    except OSError as error:
        raise Refused("board", f"the board's lock {path} cannot be opened ({error.strerror}); {mend}") from None
    found = os.fstat(opened)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(opened)
        raise Refused("board", f"the board's lock {path} is not a plain file of its own; {mend}")
    return opened


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    found = re.search(r"\) ([A-Za-z])", read_text(f"/proc/{pid}/stat"))
    return found is not None and found.group(1) not in "ZX"


def acquire(file: int) -> None:
    """flock: the kernel lets go of it when we end, however we end, and our guard with us. Closes a file held by others.

    Raises:
        Refused: somebody else holds it; tells who.
    """
    deadline = monotonic() + 5
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            # Another account may have written anything.
            told = re.sub(rb"[^\x20-\x7e]", b" ", os.pread(file, 300, 0)).decode("ascii")
            pid = re.search(r"runner pid (\d+)", told)
            # The guard of a runner that was killed still holds the lock while it gives back the governor.
            if pid is None or is_alive(int(pid.group(1))) or monotonic() > deadline:
                os.close(file)
                raise Refused("busy", " ".join(told.split()) or "somebody unknown") from None
            sleep(0.02)


def sign(file: int, owner: str) -> None:
    """Writes into a lock of ours whose it is."""
    try:
        account = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        account = f"user {os.getuid()}"
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same, only our name is not in it
        os.truncate(file, 0)
        os.pwrite(file, f"{owner} (runner pid {os.getpid()} of {account} on {socket.gethostname()})\n".encode(), 0)
