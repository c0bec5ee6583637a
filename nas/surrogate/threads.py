"""BLAS on one thread, while a surrogate calculates."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import numpy as np  # noqa: F401 - it and scipy bring a BLAS each
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # knows what is loaded now; a look at all of a process's libraries takes milliseconds


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """While the block runs, matrix products and factorisations of this process take one thread.

    Systems of a few hundred rows are no work for more: threads then wait for each other, actively, and on a busy
    machine for longer than one needs alone. And a sum over threads depends on how many there are: proposals would
    follow from the machine, too.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        yield
