"""Write the tables and the plot of docs/search.md from what the benchmarks kept in benchmarks/results.

python benchmarks/search_report.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DOCS = HERE.parent / "docs"
BEGIN, END = "<!-- results: written by benchmarks/search_report.py -->", "<!-- end of results -->"
NAMES = {
    "guided": "**guided**",
    "annealing": "**annealing**",
    "random": "random",
    "tpe": "Optuna TPE",
    "nsga2": "Optuna NSGA-II",
    "gp": "Optuna GP",
    "light-nas": "Light-NAS annealing, as published",
    "sanas": "SANAS annealing, as published",
}
SHOWN = ("guided", "annealing", "tpe", "gp", "random", "sanas", "light-nas")


def _row(cells: list[Any]) -> str:
    return "| " + " | ".join("" if c is None else str(c) for c in cells) + " |"


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    return [_row(head), "|" + "---|" * len(head), *(_row(r) for r in rows), ""]


def efficiency(found: dict[str, Any]) -> list[str]:
    """NAS-Bench-Macro: a table per budget."""
    lines = [
        "### NAS-Bench-Macro: gap to the optimum",
        "",
        "`python benchmarks/search_efficiency.py`: 6 561 really trained networks (3 969 distinct), each evaluation "
        "returns one of three recorded trainings. Points of mean accuracy below the best network inside the budget (of "
        "the largest FLOPs), mean over seeds: best network seen, and the one recommended; median evaluations until one "
        "within 0.2 and 0.1 points was seen. GP ran fewer seeds, and all of Optuna's fewer evaluations, to save time.",
        "",
    ]
    for budget, strategies in found.items():
        lines += [f"Budget: {budget}.", ""]
        head = ["strategy", "seeds", *(f"seen @{m}" for m in (25, 50, 100, 200))]
        head += [*(f"recommended @{m}" for m in (25, 50, 100, 200)), "to 0.2", "to 0.1", "CPU ms a trial"]
        rows = []
        for key, name in NAMES.items():
            if (s := strategies.get(key)) is None:
                continue
            cells = [name, s["seeds"]]
            for kind in ("seen", "recommended"):
                cells += [f"{s[kind][m]:.3f}" if m in s[kind] else "" for m in ("25", "50", "100", "200")]
            reached = [s["within"][t] for t in ("0.2", "0.1")]
            cells += [f"> {s['evaluations']}" if r is None else f"{r:g}" for r in reached]
            rows.append([*cells, f"{s['ms_per_trial']:.1f}"])
        lines += _table(head, rows)
    return lines


def plot(found: dict[str, Any], path: Path) -> None:
    """Best seen against evaluations, a panel per budget."""
    mpl.rcParams |= {"svg.hashsalt": "lightnas", "font.size": 9}
    figure, axes = plt.subplots(1, len(found), figsize=(3.4 * len(found), 3.2), sharey=True, squeeze=False)
    for axis, (budget, strategies) in zip(axes[0], found.items(), strict=True):
        for key in SHOWN:
            if key in strategies:
                curve = [max(v, 5e-4) for v in strategies[key]["curve"]]
                width = 2.2 if key == "guided" else 1.1
                style = {"color": f"C{SHOWN.index(key)}", "linewidth": width, "label": NAMES[key].strip("*")}
                axis.plot(range(1, len(curve) + 1), curve, **style)
        axis.set(xscale="log", yscale="log", xlabel="trainings", title=f"budget: {budget}", ylim=(5e-4, 5))
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("gap of the best seen (points)")
    axes[0][0].legend(fontsize=6.5, frameon=False, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def simulated(found: dict[str, Any]) -> list[str]:
    """Made-up objectives over real spaces."""
    lines = [
        "### Made-up objectives over real spaces",
        "",
        "`python benchmarks/simulated_objectives.py`: accuracies that depend on size, balance, genes, pairs of genes "
        "in ways drawn anew for each objective, with noise, without and with FLOPs budgets. `guided` was not tuned on "
        "them. Regret of the best seen, in percent of the way from the best network to the median one.",
        "",
    ]
    marks = found["marks"]
    rows = [
        [space, NAMES[name], s["searches"], *(f"{v:.1f}" for v in s["seen"])]
        for space, strategies in found["spaces"].items()
        for name, s in strategies.items()
    ]
    return lines + _table(["space", "strategy", "searches", *(f"seen @{m}" for m in marks)], rows)


def replay(found: dict[str, Any]) -> list[str]:
    """Our own table."""
    taus = ", ".join(f"{v} after {k}" for k, v in found["tau_rung_to_final"].items())
    lines = [
        "### All of it real: 243 networks of mobilenetv2-small on cluttered-digits",
        "",
        "`python benchmarks/search_replay.py`: all of benchmarks/spaces/mobilenetv2-small-243.yaml trained by "
        f"benchmarks/train_all.py, {found['trained_twice']} of them twice (all inside the budget are), "
        f"{found['seconds_per_training']} s a training on one core. Kendall's tau between the two trainings "
        f"{found['tau_between_trainings']}; between the accuracy at a rung (epochs) and the final one {taus}; networks "
        f"differ by {found['spread_sd']} points (sd), a training's luck is {found['noise_sd']}. Budget "
        f"{found['budget']}: {found['inside']} networks inside. Gaps in points after as many seconds as that many full "
        f"trainings take, mean over {found['seeds']} seeds, the real search loop; rungs stop the worse two thirds "
        "after the epochs named. Luck is as large here as what networks differ by: no strategy can recommend surely.",
        "",
    ]
    rows = []
    for name, kinds in found["found"].items():
        for label, s in kinds.items():
            pairs = [f"{a:.2f} / {b:.2f}" for a, b in zip(s["seen"], s["recommended"], strict=True)]
            rows.append([NAMES[name], label, *pairs])
    head = ["strategy", "", *(f"worth {m}: seen / recommended" for m in found["marks"])]
    return lines + _table(head, rows)


def main() -> None:
    lines: list[str] = []
    for name, section in (
        ("search_efficiency", efficiency),
        ("search_simulated", simulated),
        ("search_replay", replay),
    ):
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        lines += section(found)
        if name == "search_efficiency":
            plot(found, DOCS / "search_efficiency.svg")
            lines += ["![gap of the best network seen against trainings](search_efficiency.svg)", ""]
    page = (DOCS / "search.md").read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    page = head + BEGIN + "\n\n" + "\n".join(lines) + END + rest.split(END)[1]
    (DOCS / "search.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
