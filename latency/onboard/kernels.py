"""Which layer the kernels of an onnxruntime profile are charged to, and the times that come of it."""

from __future__ import annotations

from typing import Any

KERNEL = "_kernel_time"
"""What the name of a kernel's event ends in."""


def charge(kernels: list[dict[str, Any]], owners: dict[str, int]) -> tuple[list[int], float]:
    """For each kernel of a profiled run the stamp it is charged to, or -1; and the share of time of those named."""

    def owner(name: str) -> int:
        path = name[: -len(KERNEL)].removesuffix("_nchwc")
        while path and path not in owners:
            path = path.rpartition("/")[0]
        return owners.get(path, -1)

    def shapes(at: int, which: str) -> list[list[int]]:
        return [sizes for told in kernels[at]["args"].get(which, []) for sizes in told.values()]

    own = [owner(kernel["name"]) for kernel in kernels]
    named = [i for i, stamp in enumerate(own) if stamp >= 0]
    charged = list(own)
    for i, kernel in enumerate(kernels):
        if own[i] >= 0 or not named:
            continue
        given, made = shapes(i, "input_type_shape")[:1], shapes(i, "output_type_shape")[:1]
        near = [j for j in reversed(named) if j < i] + [j for j in named if j > i]
        fit = [j for j in near if j < i and given and given[0] in shapes(j, "output_type_shape")]
        if kernel["args"].get("op_name") == "ReorderOutput":
            # Wanted by a kernel that cannot read the blocked layout; a blocked one reads the other only if it must.
            later = [j for j in named if j > i and made and made[0] in shapes(j, "input_type_shape")]
            plain = [j for j in later if not kernels[j]["name"].endswith("_nchwc" + KERNEL) or made[0][1] < 16]
            fit = plain or later or fit
        charged[i] = own[(fit or near)[0]]
    times = [kernel["dur"] for kernel in kernels]
    return charged, sum(t for t, o in zip(times, own) if o >= 0) / max(1, sum(times))


def intervals(kernels: list[dict[str, Any]], charged: list[int], stamps: int, whole: int) -> list[int]:
    """A profiled run in ns: the time of each stamp, then what lies before the first and behind the last kernel."""
    out = [0] * stamps + [whole]
    for kernel, stamp in zip(kernels, charged):
        out[stamp] += kernel["dur"] * 1000
    out[-1] -= (kernels[-1]["ts"] + kernels[-1]["dur"] - kernels[0]["ts"]) * 1000
    return out
