"""Is the winner better than the obvious choice? A search, its final with baselines, export, accuracy on the board.

Everything goes through the `nas` command, as a user would: profile, search under a latency budget, train the best
networks and every MobileNetV2 and ShuffleNetV2 that fits the same budget with the same recipe and seeds, export,
classify the test pictures on the board. Then a second search with 0.7 of the budget is trained from scratch and from
the first winner's weights. With --longer-epochs a second final tells what more epochs change, with one seed.

    python benchmarks/winner.py --board host
    python benchmarks/winner.py --board qemu-a72 --home /tmp/winner-a72

Stopped, the same command with the same --home goes on. The result goes to benchmarks/results/winner-BOARD.json, and
docs/winner.md is written anew from all results there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from boards import EMULATED, HOST, open_board
from winner_report import RESULTS, write_report

from api.store import Store

SPACE, DATA, SMALLER = "mobilenetv2-small", "cluttered-digits", 0.7


def main() -> None:
    options = _options()
    os.environ["LIGHTNAS_HOME"] = str(options.home or Path(tempfile.mkdtemp(prefix="lightnas-winner-")))
    began = time.monotonic()
    with open_board(options.board, "ncnn") as board:
        name = options.board
        with Store.open() as store:
            if name in {b.name for b in store.boards.all()}:
                store.boards.remove(name)  # an emulated board listens on another port each time
            store.boards.add(dataclasses.replace(board, name=name))
        if options.only_longer:
            told = json.loads(RESULTS.joinpath(f"winner-{name}.json").read_text())
            told["longer"] = _final(options, "winner", 1, 1, options.longer_epochs)
            told["options"]["longer_epochs"] = options.longer_epochs
            _write(name, told)
            return
        told = _run(options, name)
    told["minutes"] = (time.monotonic() - began) / 60
    told |= {
        "board": name,
        "emulated": name in EMULATED,
        "options": {k: v for k, v in vars(options).items() if k != "home"},
    }
    _write(name, told)


def _write(board: str, told: dict[str, Any]) -> None:
    RESULTS.joinpath(f"winner-{board}.json").write_text(json.dumps(told, indent=1) + "\n")
    write_report()


def _run(options: argparse.Namespace, board: str) -> dict[str, Any]:
    space = ("--space", SPACE, "--resolution", str(options.resolution))
    profile = _nas("profile", board, *space)
    feasible = _nas("spaces", "feasible", SPACE, "--resolution", str(options.resolution), "--board", board)
    budget_ms = round(feasible["metrics"]["latency_ms"]["quantiles"][options.share], 4)
    search = _search(options, board, "winner", budget_ms, options.trials)
    budget_ms = _nas("searches", "show", "winner")["spec"]["budgets"]["latency_ms"]  # of a run that goes on
    report = _final(options, "winner", options.top, options.seeds, options.final_epochs)
    net = Path(os.environ["LIGHTNAS_HOME"]) / "winner-net"
    _nas("export", "winner", "--to", str(net))
    verified = _nas("verify", str(net), "--accuracy", "--board", board)
    told = {
        "profile": {k: profile[k] for k in ("ops", "cover_networks") if k in profile},
        "budget_ms": budget_ms,
        "search": search,
        "final": report,
        "on_board": verified,
    }
    if options.longer_epochs:
        told["longer"] = _final(options, "winner", 1, 1, options.longer_epochs)
    if options.init_epochs:
        _search(options, board, "smaller", round(SMALLER * budget_ms, 4), options.trials // 2)
        told["init"] = {}
        for epochs in options.init_epochs:
            short = ("--top", "1", "--baselines", "0", "--seeds", str(options.seeds), "--epochs", str(epochs))
            short += ("--parallel", str(options.parallel), *(f"-o{o}" for o in options.option))
            runs = {"scratch": _nas("train", "smaller", *short)}
            runs["init"] = _nas("train", "smaller", *short, "--init", str(net))
            told["init"][str(epochs)] = {
                how: {k: run["networks"][0][k] for k in ("val_accuracies", "test_accuracies")}
                for how, run in runs.items()
            }
    return told


def _final(options: argparse.Namespace, search: str, top: int, seeds: int, epochs: int) -> dict[str, Any]:
    passes = () if options.passes is None else ("--passes", str(options.passes))
    return _nas(
        *("train", search, *passes, "--top", str(top), "--baselines", str(options.baselines), "--seeds", str(seeds)),
        *("--epochs", str(epochs), "--parallel", str(options.parallel), *(f"-o{o}" for o in options.option)),
    )


def _search(options: argparse.Namespace, board: str, name: str, budget_ms: float, trials: int) -> dict[str, Any]:
    with Store.open() as store:
        known = {r.name for r in store.searches.page()}
    if name in known:
        return _nas("search", "--resume", name)
    return _nas(
        *("search", "--space", SPACE, "--resolution", str(options.resolution), "--board", board, "--name", name),
        *("--latency-ms", str(budget_ms), "--data", DATA, "--epochs", str(options.epochs), "--trials", str(trials)),
        *("--parallel", str(options.parallel), "--seed", str(options.seed), "-odevice=cpu"),
    )


def _nas(*arguments: str) -> Any:
    print("nas", *arguments, flush=True)
    program = Path(sys.executable).with_name("nas")
    done = subprocess.run([program, *arguments, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"nas {' '.join(arguments)} failed with {done.returncode}")
    return json.loads(done.stdout)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", default="host", choices=[HOST, *EMULATED], help="what to search for")
    parser.add_argument("--home", type=Path, help="where the store is kept (default: a new temporary folder)")
    parser.add_argument("--resolution", type=int, default=24)
    parser.add_argument("--share", default="0.75", help="of the space's networks that keep the budget: 0.5, 0.75, 0.9")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6, help="of a trial")
    parser.add_argument("--final-epochs", type=int, default=30)
    parser.add_argument("--longer-epochs", type=int, default=0, help="of one more final, with one seed (default: none)")
    parser.add_argument("--only-longer", action="store_true", help="add that final to the result there is of --home")
    parser.add_argument("--top", type=int, default=2)
    parser.add_argument("--baselines", type=int, default=3, help="of each family")
    parser.add_argument("--passes", type=int, help="runs of each network on the board (default: as many as it needs)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the searches")
    parser.add_argument(
        "--init-epochs", type=int, nargs="*", default=[5], help="trainings from scratch and from weights"
    )
    parser.add_argument("--option", nargs="*", default=[], help="of the final trainings, e.g. ema=0.99")
    return parser.parse_args()


if __name__ == "__main__":
    main()
