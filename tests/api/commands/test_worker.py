"""Options of `nas worker`."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from api.commands.worker import build_trial_executor

Nas = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("name", ["x" * 65, "", "-x", "two words", "a/b", "wörker", "a\nb"])
def test_a_name_that_cannot_be_one_is_one_clear_error(nas: Nas, name: str) -> None:
    status, out, err = nas("worker", f"--name={name}")
    assert (status, out) == (2, "")
    assert err.startswith(f"error: worker name {name!r}: use 1 to 64 letters, digits")
    assert err.count("\n") == 1


def test_processes_are_as_many_as_cores_unless_said() -> None:
    assert build_trial_executor("processes", None, 1.0, 0.0, None).processes == os.cpu_count()
    assert build_trial_executor("processes", None, 1.0, 0.0, 3).processes == 3
