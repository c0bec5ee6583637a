"""Which of a space's kernels a stored latency table knows; without reading its times."""

from __future__ import annotations

from typing import Any

from api.store import Store
from latency.engines import get_engine
from nas.space import SearchSpace

MOST_SHOWN = 50


def describe_coverage(store: Store, digest: str, space: SearchSpace) -> dict[str, Any]:
    """The coverage as JSON types (`api.schemas.tables.Coverage`).

    Raises:
        NotFound: no such table.
    """
    summary, _ = store.tables.describe(digest)
    kernel_key = get_engine(summary.engine).kernel_key
    kernels = {key for place in space.compiled.places if (key := kernel_key(place)) is not None}
    known = store.tables.keys(summary.digest)
    timed = sum(known.get(key, False) for key in kernels)
    missing = sorted(kernels - known.keys())
    return {
        "table": summary.digest,
        "board": summary.board,
        "space": space.name,
        "kernels": len(kernels),
        "timed": timed,
        "estimated": len(kernels) - timed - len(missing),
        "missing": len(missing),
        "share": 1 - len(missing) / len(kernels),
        "missing_keys": missing[:MOST_SHOWN],
    }
