"""What tests of commands look at: a refusal, the trials of a search."""

from __future__ import annotations

from typing import Any

from api.store import Store


def refused(result: tuple[int, str, str]) -> str:
    """The one line on stderr of a command that was refused."""
    status, out, err = result
    assert (status, out, err.count("\n")) == (2, "", 1), err
    return err


def trials_of(store: Store, name: str) -> list[tuple[Any, ...]]:
    """What has to be the same when a search is repeated."""
    found = store.searches.log(store.searches.get(name).id).load()
    return [(t.number, t.encoding, t.state, t.accuracy, t.attrs) for t in found]
