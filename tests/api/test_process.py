"""Real `nas` processes: exit statuses, no tracebacks, signals, pipes, the server."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from local import free_port

from api.store import Store
from latency.table import LatencyTable
from nas.spaces import build_space

ROOT = Path(__file__).parents[2]
NAS = [sys.executable, "-c", "from api.cli import main; main()"]
MACRO = "nas-bench-macro"


def _run(environment: dict[str, str], *arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NAS, *map(str, arguments)], env=environment, input=text, capture_output=True, text=True, check=False
    )


def test_a_mistake_is_one_line_and_status_2(environment: dict[str, str]) -> None:
    for arguments in (("predict", "-s", MACRO, "0"), ("nope",), ("search", "--resume", "x"), ("predict", "--json")):
        done = _run(environment, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("LIGHTNAS_HOME", "/proc/nope", "cannot make the folder"),
        ("LIGHTNAS_DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/db", "cannot be reached"),
        ("LIGHTNAS_DATABASE_URL", "hunter2://hunter2", "not supported"),
    ],
)
def test_a_store_that_cannot_be_used(environment: dict[str, str], variable: str, value: str, message: str) -> None:
    done = _run({**environment, variable: value}, "searches", "list")
    assert done.returncode == 2
    assert message in done.stderr
    assert "hunter2@" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_encodings_stream_through_predict(environment: dict[str, str]) -> None:
    rows = [",".join(str(i // 3**g % 3) for g in range(8)) for i in range(6561)]
    done = _run(environment, "predict", "-s", MACRO, "--json", "-", text="\n".join([*rows, "", rows[0]]))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [f["encoding"] for f in found] == [*rows, rows[0]]
    assert found[0] == {"encoding": rows[0], "flops": 7713280, "params": 387882}
    wrong = _run(environment, "predict", "-s", MACRO, "--json", "-", text="\n".join([*rows[:5], "0,0,0", rows[0]]))
    assert wrong.returncode == 2
    assert "encoding 6:" in wrong.stderr


def test_a_command_imports_only_what_it_needs() -> None:
    heavy = (
        "torch",
        "scipy",
        "sklearn",
        "optuna",
        "paramiko",
        "fastapi",
        "uvicorn",
        "matplotlib",
        "onnx",
        "ncnn",
        "PIL",
    )
    code = f"import sys, api.cli; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_predict_answers_before_its_input_ends(environment: dict[str, str]) -> None:
    command = [*NAS, "predict", "-s", MACRO, "--json", "-"]
    environment = {**environment, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("0,0,0,0,0,0,0,0\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["params"] == 387882
    process.stdin.close()
    assert process.wait() == 0
    process.stdout.close()


def test_a_reader_that_leaves_is_no_error(environment: dict[str, str]) -> None:
    command = f"{sys.executable} -u -c 'from api.cli import main; main()' spaces ops light-nas | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def _tiny_search(environment: dict[str, str], *more: str) -> list[str]:
    return [
        *NAS, "search", "--space", "mobilenetv2-small", "--resolution", "16", "--flops", "1e6", "--trials", "1000",
        "--epochs", "2", "-o", "device=cpu", "--name", "tiny", "--json", *more,
    ]  # fmt: skip


def _await_rows(home: Path, table: str) -> None:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        try:
            with sqlite3.connect(f"file:{home / 'lightnas.sqlite3'}?mode=ro", uri=True) as c:
                if c.execute(f"SELECT count(*) FROM {table}").fetchone()[0]:
                    return
        except sqlite3.OperationalError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{table} stays empty")


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_search_tells_how_to_go_on(
    environment: dict[str, str], home: Path, sent: signal.Signals, status: int
) -> None:
    process = subprocess.Popen(
        _tiny_search(environment), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _await_rows(home, "trials")
    second = _run(environment, "search", "--resume", "tiny")
    assert second.returncode == 2
    assert "is being run by another process" in second.stderr
    process.send_signal(sent)
    _, err = process.communicate(timeout=400)
    assert process.returncode == status
    assert "nas search --resume tiny" in err.splitlines()[-1]
    assert "Traceback" not in err
    with sqlite3.connect(home / "lightnas.sqlite3") as c:
        (started,) = c.execute("SELECT count(*) FROM trials").fetchone()
    done = _run(environment, "search", "--resume", "tiny", "--trials", str(started + 1), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trials"] == started + 1


def test_the_server_answers(
    environment: dict[str, str], home: Path, make_table: Callable[..., LatencyTable], benchmark_table: Path
) -> None:
    wanted = (
        "search",
        "-s",
        MACRO,
        "--evaluator",
        "table",
        "--data",
        benchmark_table,
        "--trials",
        "5",
        "--name",
        "mine",
    )
    assert _run(environment, *wanted).returncode == 0
    assert _run(environment, "boards", "add", "here", "local", "-i", "/secret/key").returncode == 0
    table = make_table(build_space(MACRO))
    with Store.open() as store:
        store.tables.add(table)
    port = free_port()
    process = subprocess.Popen([*NAS, "serve", "--port", str(port)], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _await_server(client)
            assert client.get("/api/v1/searches").status_code == 401
            client.headers["Authorization"] = f"Bearer {(home / 'token').read_text().strip()}"
            _check_answers(client, table.digest)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=180)


def test_a_data_root_with_the_home_in_it_is_not_served(environment: dict[str, str], home: Path) -> None:
    done = _run(environment | {"LIGHTNAS_DATA_ROOT": str(home.parent)}, "serve")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: the data root {home.parent} is not apart from the service's own files")
    assert done.stderr.count("\n") == 1
    assert not (home / "token").exists()


def _await_server(client: httpx.Client) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            assert client.get("/healthz").json()["status"] == "ok"
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def _check_answers(client: httpx.Client, digest: str) -> None:
    api = "/api/v1"
    assert MACRO in [s["space"] for s in client.get(f"{api}/spaces").json()]
    assert client.get(f"{api}/spaces/{MACRO}").json()["size"] == 6561
    first = {"encoding": "0,0,0,0,0,0,0,0", "flops": 7713280, "params": 387882}
    priced = client.post(f"{api}/spaces/{MACRO}/price", json={"encodings": [first["encoding"]]})
    assert first.items() <= priced.json()[0].items()
    assert priced.json()[0]["latency_ms"] is None
    priced = client.post(f"{api}/spaces/{MACRO}/price", json={"encodings": [first["encoding"]], "table": digest[:8]})
    assert priced.json()[0]["latency_ms"] > 0
    boards = client.get(f"{api}/boards")
    assert boards.json()["items"][0]["name"] == "here"
    assert "/secret/key" not in boards.text
    assert [t["digest"] for t in client.get(f"{api}/tables", params={"board": "here"}).json()["items"]] == [digest]
    (search,) = client.get(f"{api}/searches").json()["items"]
    assert (search["name"], search["trials"]["complete"]) == ("mine", 5)
    assert search.items() <= client.get(f"{api}/searches/1").json().items()
    numbers: list[int] = []
    page: dict[str, Any] = {"next": ""}
    while (cursor := page["next"]) is not None:
        page = client.get(f"{api}/searches/1/trials", params={"cursor": cursor, "limit": 2}).json()
        numbers += [t["number"] for t in page["items"]]
    assert numbers == list(range(5))
    for answer, status in (
        (client.get(f"{api}/searches/99"), 404),
        (client.get(f"{api}/searches/x"), 404),
        (client.get(f"{api}/spaces/nope"), 404),
        (client.get(f"{api}/spaces/..%2Fx.yaml"), 404),
        (client.get(f"{api}/spaces/my.yaml"), 404),
        (client.get(f"{api}/nope"), 404),
        (client.delete(f"{api}/searches"), 405),
        (client.post(f"{api}/spaces/{MACRO}/price", json={"encodings": ["0,1"]}), 422),
        (client.post(f"{api}/spaces/{MACRO}/price", json={"encodings": ["0,0,0,0,0,0,0,9"]}), 422),
        (client.post(f"{api}/spaces/{MACRO}/price", json={"encodings": []}), 422),
        (client.post(f"{api}/spaces/{MACRO}/price", content=b"{", headers={"Content-Type": "application/json"}), 400),
    ):
        assert answer.status_code == status, answer.url
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
    paths = client.get("/openapi.json").json()["paths"]
    assert f"{api}/searches/{{search_id}}/trials" in paths


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_sigkill_leaves_the_undisturbed_trials(database: str) -> None:
    script = [sys.executable, ROOT / "benchmarks" / "sigkill.py", "--kills", "2", "--database", database, "--json"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, cwd=ROOT / "benchmarks")
    assert done.returncode == 0, done.stderr[-2000:]
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    if not cases:
        pytest.skip(done.stderr.strip())
    assert len(cases) == 8
    assert all(case["identical"] and case["kills"] == 2 for case in cases)


@pytest.mark.slow
def test_an_interrupted_profile_goes_on_and_is_verified(
    environment: dict[str, str], home: Path, tmp_path: Path
) -> None:
    space = tmp_path / "small.yaml"
    space.write_text(
        "input: {resolution: 32}\nclasses: 10\nstem: {width: 16}\nhead: {width: 64}\n"
        "stages:\n  - {width: [8, 16], expansion: [2, 4], repeats: [1, 2]}\n  - {width: [16, 24], stride: 2}\n"
    )
    command = ("profile", "here", "--space", space, "--passes", "600", "--json")
    assert _run(environment, "boards", "add", "here", "local").returncode == 0
    process = subprocess.Popen(
        [*NAS, *map(str, command)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _await_rows(home, "passes")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 130, err
    assert "Go on with: nas profile here" in err
    done = _run(environment, *command)
    assert done.returncode == 0, done.stderr
    assert "passes resumed" in done.stderr
    about = json.loads(done.stdout)
    assert about["passes"] == 600
    verified = _run(environment, "verify", "here", "--space", space, "--random", "3", "--passes", "20", "--json")
    assert verified.returncode == 0, verified.stderr
    assert len(json.loads(verified.stdout)["networks"]) == 3
    again = _run(environment, *command)
    assert "passes resumed" not in again.stderr  # a finished profile is not gone on with
