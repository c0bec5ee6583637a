"""A file of pictures, one after the other as bytes; and numbers as text."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from .errors import Refused


def read_pictures(path: str, size: int, first: int, count: int) -> Iterator[bytes]:
    """So many pictures of `size` bytes each, from `first` on; never more than one in memory: its peak is measured."""
    if not Path(path).is_file():
        raise Refused("request", f"there is no file {path} on the board")
    with Path(path).open("rb", buffering=0) as file:
        file.seek(first * size)
        for number in range(first, first + count):
            pixels = file.read(size)
            if len(pixels) != size:
                raise Refused("request", f"{path} ends in picture {number} of {size} bytes")
            yield pixels


def to_text(values: bytes) -> str:
    """Numbers of 32 bits, as the machine holds them (little endian on every board), in base64."""
    return base64.b64encode(values).decode("ascii")
