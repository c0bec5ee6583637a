"""docs/winner.md, written from the results of winner.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from api.export.card import points
from api.finals.report import spread

RESULTS = Path(__file__).resolve().parent / "results"
_PAGE = RESULTS.parents[1] / "docs" / "winner.md"
_HEAD = """# The winner against the obvious choice

Written by `benchmarks/winner.py` from its results. A search under a latency budget; then its best networks and every
member of the MobileNetV2 and ShuffleNetV2 families (width × resolution) at the edge of the same budget, as measured on
the same board, trained with the same recipe and seeds. The winner is chosen on validation pictures; test pictures are
looked at for it and the baselines only. Beside accuracies, ± is the standard deviation over the seeds; beside
differences, half of a 95 % interval of the luck of trainings and of test pictures. The networks of a family are trained
at the resolution in their name, on the same pictures, scaled; such small pictures can be halved three times only, at
the family's last strides or, "halved early", at its first.

![The winner on this host: its blocks, and where its work and time go](winner-network.svg)

Read the differences with care. They are at an equal budget and an equal recipe, and networks of 50 and more layers
learn slowly from 2 400 pictures of 24 pixels; what more epochs change stands under "Longer". Trials of a few epochs
favour networks that learn quickly: who will train for long gives the search's trials more epochs, too. And the edge of
a budget is noise on a machine with other work to do.
"""


def write_report() -> None:
    """From all results there are."""
    sections = [_section(json.loads(path.read_text())) for path in sorted(RESULTS.glob("winner-*.json"))]
    _PAGE.write_text("\n".join([_HEAD, *sections]))


def _section(told: dict[str, Any]) -> str:
    final, options = told["final"], told["options"]
    note = " Its milliseconds count instructions of an emulator: they are no real board's." if told["emulated"] else ""
    lines = [
        f"## Board {told['board']}\n",
        f"`mobilenetv2-small` at {options['resolution']} px, `cluttered-digits`, at most "
        f"{told['budget_ms']:.4g} ms, which {options['share']} "
        f"of the space's networks keep as predicted: "
        f"{options['trials']} trials of {options['epochs']} epochs, finals of {options['final_epochs']} epochs with "
        f"{options['seeds']} seeds.{note}\n",
        *_table(final["networks"]),
    ]
    if final["comparison"]:
        lines.append(_verdict(final))
    if "note" in told:
        lines.append(f"{told['note']}\n")
    v = told["on_board"]
    lines.append(
        f"On the board, {v['pictures']} test pictures through the exported files: {100 * v['accuracy_board']:.2f} %, "
        f"here {100 * v['accuracy_here']:.2f} %; median {v['median_ms']:.4g} ms, p95 {v['p95_ms']:.4g} ms, peak memory "
        f"{v['peak_memory_mb']:.3g} MB.\n"
    )
    for epochs, runs in told.get("init", {}).items():
        lines.append(
            f"Another search with 0.7 of the budget, its best network trained for {epochs} epochs: from scratch "
            f"{spread(runs['scratch']['test_accuracies'])} %, from the winner's weights (`--init`) "
            f"{spread(runs['init']['test_accuracies'])} %.\n"
        )
    if "longer" in told:
        lines += [
            f"### Longer\n\nAnother final, of {options['longer_epochs']} epochs: measured anew, so that others of a "
            "family may be at the edge, and with one seed, which tells nothing of the luck of trainings:\n",
            *_table(told["longer"]["networks"]),
            _verdict(told["longer"]),
        ]
    return "\n".join(lines)


def _verdict(final: dict[str, Any]) -> str:
    comparison, (winner, *baselines) = final["comparison"], final["networks"]
    verdicts = {"wins": "beats", "level": "is level with", "loses": "does not beat", "one seed": "stands beside"}
    best = next(n for n in baselines if n["label"] == comparison["baseline"])
    time, params = winner["measured_ms"] / best["measured_ms"], winner["params"] / best["params"]
    return (
        f"\nThe winner {verdicts[comparison['verdict']]} the best baseline by validation accuracy, {best['label']}: "
        f"{points(comparison)} points of test accuracy, in {100 * time:.0f} % of the time "
        f"and with {100 * params:.0f} % of the parameters.\n"
    )


def _table(networks: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| network | ms, measured | multiply-adds | parameters | validation % | test % | winner better by |",
        "|---|---|---|---|---|---|---|",
    ]
    for n in networks:
        better = "" if n["winner_is_better_by"] is None else points(n["winner_is_better_by"])
        name = f"**{n['label']}, the winner**" if n["role"] == "winner" else n["label"]
        lines.append(
            f"| {name} | {n['measured_ms']:.4g} | {n['flops'] / 1e6:.2f} M | {n['params'] / 1e3:.0f} k | "
            f"{spread(n['val_accuracies'])} | {spread(n['test_accuracies'])} | {better} |"
        )
    return lines
