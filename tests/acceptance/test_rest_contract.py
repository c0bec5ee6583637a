"""The running server against its own description: generated requests, and every documented error seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from local import free_port

from api.admission import first_token
from api.settings import Settings
from api.store import Store

# As its own list, and 413: a generated body may be too long before anything in it is read.
_REFUSALS = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429]
"""


@dataclass
class Served:
    """A real `nas serve`."""

    url: str
    token: str
    settings: Settings

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, timeout=60, **options)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    port = free_port()
    settings = Settings(tmp_path / "home")
    with Store.open(settings) as store:
        token = first_token(store, settings)
    environment = {k: v for k, v in os.environ.items() if k != "LIGHTNAS_DATABASE_URL"}
    environment |= {"LIGHTNAS_HOME": str(settings.home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "api.cli", "serve", "--port", str(port), "--rate", "1000000"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--tries", "1000000"], env=environment, stdout=log, stderr=log)
    found = Served(f"http://127.0.0.1:{port}", token, settings)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                found.ask("GET", "/readyz").raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
                time.sleep(0.2)
        yield found
    finally:
        process.terminate()
        process.wait(120)
    log_text = (tmp_path / "log").read_text()
    assert "Traceback" not in log_text, log_text[-5000:]
    assert token[len("nas_") + 17 :] not in log_text


def _search(served: Served) -> int:
    body = {"space": "mobilenetv2-small", "resolution": [16], "evaluator": "remote", "trials": 3, "name": "kept"}
    answer = served.ask("POST", "/api/v1/searches", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_generated_requests_meet_no_5xx_and_nothing_undocumented(served: Served, tmp_path: Path) -> None:
    search = _search(served)
    deadline = time.monotonic() + 180  # its worker first has to start a process
    while not (asked := served.ask("POST", f"/api/v1/searches/{search}/ask", json={"wait_s": 20}).json())["leases"]:
        assert time.monotonic() < deadline, asked
    leases = asked["leases"]
    told = {"token": leases[0]["token"], "accuracy": 0.5}
    assert served.ask("POST", f"/api/v1/searches/{search}/evaluations/0/tell", json=told).status_code == 204
    # Of a search that is over nobody waits for trials: generated requests may ask to wait for half a minute.
    assert served.ask("POST", f"/api/v1/searches/{search}/cancel").status_code == 200
    config = tmp_path / "schemathesis.toml"
    config.write_text(_REFUSALS)
    command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={config}", "run", f"{served.url}/openapi.json"]
    command += ["-H", f"Authorization: Bearer {served.token}", "--phases", "examples,coverage,fuzzing"]
    # Event streams never end. What the schema cannot say (names that exist, options that go together) is refused
    # with 422, which `positive_data_acceptance` would count as a failure.
    command += ["--exclude-path-regex", "events$", "--exclude-checks", "positive_data_acceptance"]
    command += ["--max-examples", "6", "--request-timeout", "60", "--generation-database", "none", "--seed", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_every_documented_error_is_a_problem(served: Served) -> None:
    search = _search(served)
    path, seen = f"/api/v1/searches/{search}", dict[int, str]()

    def refuse(status: int, method: str, where: str, **options: Any) -> dict[str, Any]:
        answer = served.ask(method, where, **options)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        body: dict[str, Any] = answer.json()
        assert set(body) <= {"type", "title", "status", "detail", "errors"}
        assert body["status"] == status
        assert "\n" not in body["detail"]
        seen[status] = body["detail"]
        return body

    json_header = {"Content-Type": "application/json"}
    refuse(400, "POST", "/api/v1/searches", content=b"{", headers=json_header)
    refuse(401, "GET", path, headers={"Authorization": "Bearer nas_0123456789abcdef_" + "a" * 43})
    made = served.ask("POST", "/api/v1/tokens", json={"user": "eve", "role": "read"}).json()
    refuse(403, "POST", f"{path}/pause", headers={"Authorization": f"Bearer {made['token']}"})
    refuse(404, "GET", "/api/v1/searches/99")
    refuse(405, "PUT", path)
    refuse(409, "POST", "/api/v1/searches", json={"space": "mobilenetv2-small", "evaluator": "remote", "name": "kept"})
    refuse(413, "POST", "/api/v1/searches", content=b"[" + b" " * (2 << 20) + b"]", headers=json_header)
    refuse(415, "POST", "/api/v1/searches", content=b"space=x", headers={"Content-Type": "text/plain"})
    found = refuse(422, "POST", "/api/v1/searches", json={"space": "light-nas", "trials": 0})
    assert [e["field"] for e in found["errors"]] == ["body.trials"]
    described = served.ask("GET", "/openapi.json").json()
    documented = {int(code) for p in described["paths"].values() for o in p.values() for code in o["responses"]}
    # 429 has a test with low limits, 500 and 503 those of an application with a broken route or database.
    assert {code for code in documented if code >= 400} - set(seen) <= {429, 500, 503}
    assert str(served.settings.home) not in json.dumps(seen)  # errors tell nothing about the server's folders
