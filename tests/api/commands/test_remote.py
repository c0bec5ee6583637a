"""The command line with --server, against a real `nas serve` with its own worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from local import free_port
from processes import wait_for

Nas = Callable[..., tuple[int, str, str]]
MACRO = "nas-bench-macro"
SEARCH = ("search", "--space", MACRO, "--evaluator", "table", "--trials", "8", "--seed", "3", "--flops", "40e6")
REMOTE = ("search", "--space", MACRO, "--evaluator", "remote", "--trials", "2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server's URL and home; its data root holds the whole nas-bench-macro space, made up."""
    home = tmp_path_factory.mktemp("server")
    data = home / "data"
    data.mkdir()
    rows = [f"{''.join(g)},{(v := 60 + 2 * sum(map(int, g)))},{v},{v}" for g in product("012", repeat=8)]
    (data / "recorded.csv").write_text("\n".join(["arch,acc_seed0,acc_seed1,acc_seed2", *rows]) + "\n")
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LIGHTNAS")}
    command = [sys.executable, "-P", "-m", "api.cli", "serve", "--port", str(port), "--rate", "100000"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**environment, "LIGHTNAS_HOME": str(home), "OMP_NUM_THREADS": "1"}, stderr=log, stdout=log
        )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (home / "log").read_text()
        try:
            return httpx.get(f"{url}/readyz", timeout=30).is_success
        except httpx.TransportError:
            return False

    try:
        wait_for(answers)
        yield url, home
    finally:
        process.terminate()
        process.wait(180)


@pytest.fixture
def nas(server: tuple[str, Path], nas: Nas, monkeypatch: pytest.MonkeyPatch) -> Nas:
    """Runs command lines for the server, in an empty home of their own."""
    monkeypatch.setenv("LIGHTNAS_SERVER", server[0])
    monkeypatch.setenv("LIGHTNAS_TOKEN", (server[1] / "token").read_text().strip())
    return nas


def _json(answer: tuple[int, str, str]) -> Any:
    status, out, err = answer
    assert status == 0, err
    return json.loads(out)


def _refused(answer: tuple[int, str, str]) -> str:
    status, out, err = answer
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    return err


def test_a_search_of_a_server_is_as_one_here(
    nas: Nas, server: tuple[str, Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = _json(nas(*SEARCH, "--data", "recorded.csv", "--name", "mine", "--json"))
    assert not list(home.glob("*.sqlite3"))  # nothing was looked for, or stored, here
    monkeypatch.delenv("LIGHTNAS_SERVER")
    here = _json(nas(*SEARCH, "--data", server[1] / "data" / "recorded.csv", "--name", "mine", "--json"))
    assert {**there, "id": 0, "seconds": 0} == {**here, "id": 0, "seconds": 0}

    def both(*command: str) -> list[tuple[int, str, str]]:
        answers = []
        for url in (server[0], ""):
            monkeypatch.setenv("LIGHTNAS_SERVER", url) if url else monkeypatch.delenv("LIGHTNAS_SERVER")
            answers.append(nas(*command))
        return answers

    listed = [json.loads(answer[1])["listed"] for answer in both("searches", "show", "mine", "--trials", "--json")]
    for trials in listed:
        for trial in trials:
            trial["seconds"] = 0
    assert listed[0] == listed[1]
    fronts = [json.loads(answer[1]) for answer in both("searches", "front", "mine", "--at", "30e6", "--json")]
    assert fronts[0] == fronts[1]
    budgets = ("spaces", "feasible", MACRO, "--flops", "30e6")
    told, own = both(*budgets)
    assert told == own
    told, own = both(*budgets, "--json")
    assert _json(told) == _json(own)
    for more in ((), ("--json",)):
        told, own = both("spaces", *more)
        assert told == own
        assert MACRO in told[1]
    for command in (("searches", "list"), ("searches", "show", "mine"), ("boards", "list"), ("tables", "list")):
        (_, told_there, _), (_, told_here, _) = both(*command)
        assert told_there.splitlines()[0].split() == told_here.splitlines()[0].split()


def test_steering_a_search_of_a_server(nas: Nas) -> None:
    status, _, err = nas(*REMOTE, "--name", "steered", "--detach")
    assert status == 0
    assert "nas searches watch steered --server http" in err
    assert "already" in _refused(nas(*REMOTE, "--name", "steered", "--detach"))
    assert nas("searches", "pause", "steered")[1].startswith("search steered: ")
    wait_for(lambda: _json(nas("searches", "show", "steered", "--json"))["state"] == "paused")
    status, out, err = nas("searches", "watch", "steered")
    assert status == 1
    assert "0 trials complete" in out
    assert "it is paused; go on with it: nas searches resume steered --server http" in err
    assert nas("searches", "resume", "steered", "--detach")[0] == 0
    assert "already" in _refused(nas("searches", "retry", "steered"))
    job = str(_json(nas("searches", "show", "steered", "--json"))["job"]["id"])
    assert _json(nas("jobs", "show", job, "--json"))["kind"] == "search"
    assert nas("jobs", "show", job)[1].split()[:2] == ["job", job]
    assert job in nas("jobs", "list", "--kind", "search")[1]
    assert nas("jobs", "cancel", job)[1].startswith(f"job {job}: ")
    wait_for(lambda: _json(nas("searches", "show", "steered", "--json"))["state"] == "cancelled")
    assert nas("searches", "delete", "steered", "--yes")[1] == "search steered deleted\n"
    assert "no search 'steered'" in _refused(nas("searches", "show", "steered"))


def test_ctrl_c_stops_watching_and_not_the_search(nas: Nas, server: tuple[str, Path], home: Path) -> None:
    command = [sys.executable, "-P", "-m", "api.cli", *REMOTE, "--name", "watched"]
    environment = {**os.environ, "LIGHTNAS_HOME": str(home)}
    watching = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, bufsize=0)
    assert watching.stderr is not None
    try:
        assert b"Ctrl-C stops watching it, not the search" in watching.stderr.readline()  # before that it is submitting
        wait_for(lambda: "watched" in nas("searches", "list", "--state", "running")[1])
        watching.send_signal(signal.SIGINT)
        told = watching.communicate(timeout=120)[1].decode()
    finally:
        watching.kill()
        watching.wait()
    assert watching.returncode == 130
    assert "no longer watched; it goes on there. Watch it again: nas searches watch watched --server http" in told
    assert _json(nas("searches", "show", "watched", "--json"))["state"] == "running"
    nas("searches", "cancel", "watched")


def test_mistakes_are_told_in_one_line(nas: Nas, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "evaluator_options" not in _refused(nas(*SEARCH, "--data", "nowhere.csv"))
    assert "--dry-run does not go with --server" in _refused(nas(*SEARCH, "--data", "recorded.csv", "--dry-run"))
    assert "trials" in _refused(nas(*SEARCH, "--trials", "0"))
    told = _refused(nas("search", "--space", "mine.yaml", "--data", "digits"))
    assert "mine.yaml is a file; a server's spaces are named: nas spaces --server http" in told
    assert "smallest" in _refused(nas(*SEARCH, "--data", "recorded.csv", "--flops", "1"))
    assert "has no search 'none'" in _refused(nas("searches", "watch", "none"))
    assert "no search" in _refused(nas("train", "none"))
    assert "no board" in _refused(nas("profile", "pi4", "--space", "light-nas"))
    assert "space" in _refused(nas("verify", "pi4", "--space", "light-nas"))
    assert "no job 999" in _refused(nas("jobs", "show", "999"))
    monkeypatch.setenv("LIGHTNAS_TOKEN", "nas_0123456789abcdef_" + "x" * 43)
    assert "LIGHTNAS_TOKEN" in _refused(nas("searches", "list"))
    assert "does not go with" not in _refused(nas("searches", "list", "--server", "nowhere"))
    monkeypatch.delenv("LIGHTNAS_SERVER")
    assert "--detach" in _refused(nas(*SEARCH, "--detach"))


@pytest.mark.slow
def test_training_and_exporting_on_a_server(nas: Nas, tmp_path: Path) -> None:
    small = ("--space", "mobilenetv2-small", "--resolution", "16", "--trials", "2", "--epochs", "1", "--data", "digits")
    assert nas("search", *small, "--name", "small")[0] == 0
    found = _json(nas("train", "small", "--top", "1", "--epochs", "1", "--baselines", "0", "--json"))
    assert found["search"] == "small"
    (job,) = _json(nas("jobs", "list", "--kind", "train", "--json"))
    assert "report.json" in nas("jobs", "files", str(job["id"]), "--to", str(tmp_path / "report"))[1]
    assert json.loads((tmp_path / "report" / "report.json").read_text())["search"] == "small"
    told = _json(nas("export", "small", "--to", str(tmp_path / "net"), "--json"))
    files = {str(p.relative_to(tmp_path / "net")) for p in (tmp_path / "net").rglob("*") if p.is_file()}
    assert files == set(told["files"])
    assert "network.onnx" in files
