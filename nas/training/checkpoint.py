"""Checkpoints that are either whole or absent, whenever the process is killed."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from nas.durable import to_disk

_DIGEST_BYTES = hashlib.sha256().digest_size


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values durably, in place of what was there.

    The file is a sha256 and then what `torch.save` writes: torch itself does not notice a flipped bit.

    Raises:
        OSError: the disk is full or not writable.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(hashlib.sha256(payload).digest())
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    to_disk(path.parent)


def load(path: Path) -> dict[str, Any] | None:
    """What `save` wrote, on the CPU; None if there is none or it is damaged. Executes nothing found in the file."""
    try:
        content = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state if isinstance(state, dict) else None
