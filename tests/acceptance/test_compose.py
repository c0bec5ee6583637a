"""docker-compose.yml without Docker: it is valid, it is tight, and each service's very command does its part.

The commands are taken from the file; only what differs between a container and a test is replaced: where folders,
secrets and the database are, and the ports. They run against a real PostgreSQL of the image's version.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from local import free_port, load_script

ROOT = Path(__file__).parents[2]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = [name for name in SERVICES if name != "db"]
_PATIENCE_S = 240
_CLONE_NEWNET, _SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x40000000, 0x8914, 0x41


def schema() -> dict[str, Any]:
    """The Compose specification's."""
    package = importlib.util.find_spec("check_jsonschema")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the Compose schema is NOT TESTED: check-jsonschema, which brings it, is not installed")
    folder = Path(package.submodule_search_locations[0])
    found: dict[str, Any] = json.loads((folder / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())
    return found


def test_the_file_follows_the_specification() -> None:
    jsonschema.validate(FILE, schema())
    wrong = {**FILE, "services": {**SERVICES, "api": {**SERVICES["api"], "comand": ["nas"]}}}
    with pytest.raises(jsonschema.ValidationError, match="comand"):
        jsonschema.validate(wrong, schema())


def test_docker_compose_reads_the_file(tmp_path: Path) -> None:
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("the file is NOT READ by docker-compose: it is not installed")
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    shutil.copy(ROOT / "Dockerfile", tmp_path)
    done = subprocess.run(
        [compose, "--profile", "ray", "config", "--format", "json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["services"]) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_only_what_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert "healthcheck" in service or name in ("migrate", "ray-node")
    assert not any(re.search(r"://[^/@]*:[^/@]*@", str(v)) for v in service.get("environment", {}).values())
    named = {volume.partition(":")[0] for volume in service.get("volumes", ())}
    assert named <= set(FILE["volumes"])
    assert all(v.endswith(":ro") for v in service.get("volumes", ()) if v.startswith("datasets:"))
    for other in service.get("depends_on", ()):
        assert other in SERVICES


def test_the_image_is_built_from_what_there_is_for_an_unprivileged_user() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (.*)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source.removeprefix('./')}" in ignored
    assert re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE) == ["$UID"]
    assert re.search(r"^ARG UID=[1-9]\d+$", dockerfile, re.MULTILINE)
    assert SERVICES["db"]["user"] == "postgres"


# The commands -----------------------------------------------------------------------------------------------------


def wait_for(condition: Callable[[], Any], pause_s: float) -> Any:
    deadline = time.monotonic() + _PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(pause_s)
    return found


class Stack:
    """The services as processes of this machine."""

    def __init__(self, folder: Path, database: str, password: str) -> None:
        self.folder, self.port = folder, free_port()
        for name in ("data", "datasets", "secrets", "home", "ray"):
            (folder / name).mkdir()
        (folder / "secrets" / "db_password").write_text(password)
        (folder / "secrets" / "ray_token").write_text(secrets.token_hex(32))
        self._replaced = (
            (r"^/data$", f"{folder}/data"),
            (r"^/datasets$", f"{folder}/datasets"),
            (r"^/run/secrets/", f"{folder}/secrets/"),
            (r"@db/lightnas$", f"@{database}"),
            (r"0\.0\.0\.0", "127.0.0.1"),
            (r"\b8080\b", str(self.port)),
            (r"ray-head:", "127.0.0.1:"),
            (r"\b6379\b", str(free_port())),
        )
        self._mark = f"NAS_COMPOSE_TEST={secrets.token_hex(8)}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, name: str) -> dict[str, str]:
        """A service's own, and what makes this machine a container of it."""
        mark, _, value = self._mark.partition("=")
        own = {key: self._here(str(text)) for key, text in SERVICES[name].get("environment", {}).items()}
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "OMP_NUM_THREADS": "1",
            "LIGHTNAS_BOARD_LOCK": str(self.folder / "board-lock"),
            "RAY_TMPDIR": str(self.folder / "ray"),
            "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "80000000",
            mark: value,
            **own,
        }

    def run(self, name: str, command: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a service's command, or another one where it runs, to its end."""
        command = [self._here(part) for part in command or SERVICES[name]["command"]]
        return subprocess.run(command, env=self.environment(name), capture_output=True, text=True, check=False)

    def start(self, name: str) -> None:
        """Start a service as `docker compose up` does: after what it depends on, until it is healthy."""
        for other, wanted in SERVICES[name].get("depends_on", {}).items():
            if other == "db" or other in self._running:
                continue
            if wanted["condition"] == "service_completed_successfully":
                done = self.run(other)
                assert done.returncode == 0, done.stderr
            else:
                self.start(other)
        with (self.folder / f"{name}.log").open("wb") as log:
            command = [self._here(part) for part in SERVICES[name]["command"]]
            process = subprocess.Popen(command, env=self.environment(name), stdout=log, stderr=log)
        self._running[name] = process
        if "healthcheck" not in SERVICES[name]:
            return
        kind, *check = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"

        def healthy() -> bool:
            assert process.poll() is None, self.log(name)
            return self.run(name, check).returncode == 0

        wait_for(healthy, pause_s=3)

    def log(self, name: str) -> str:
        """What a service wrote."""
        return (self.folder / f"{name}.log").read_text()

    def stop(self, name: str) -> int:
        """SIGTERM, as `docker compose stop` sends it; the exit status."""
        process = self._running.pop(name)
        process.terminate()
        return process.wait(150)

    def close(self) -> None:
        """Kill all that was started, also what Ray detached."""
        for process in self._running.values():
            process.kill()
            process.wait()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)

    def _here(self, text: str) -> str:
        for pattern, instead in self._replaced:
            text = re.sub(pattern, instead, text)
        return text


@contextlib.contextmanager
def running_stack() -> Iterator[Stack]:
    """PostgreSQL, and nothing else yet."""
    server = load_script(ROOT / "benchmarks" / "postgres_server.py")
    if not server.available():
        pytest.skip(f"docker-compose.yml's commands are NOT TESTED: no PostgreSQL in {server.BINARIES}")
    assert SERVICES["db"]["image"].removeprefix("postgres:") in str(server.BINARIES), "the image's own version"
    with (
        server.postgres_server() as url,
        tempfile.TemporaryDirectory(prefix="nas-", ignore_cleanup_errors=True) as folder,  # short: Ray's sockets
    ):
        found = Stack(Path(folder), url.partition("@")[2], server.PASSWORD)
        try:
            yield found
        finally:
            found.close()


@contextlib.contextmanager
def private_network() -> Iterator[None]:
    """This thread, and what it starts, have a loopback of their own and nothing else.

    Ray listens on every address there is, and takes the machine's own for that of its nodes.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            pytest.skip("the profile ray is NOT TESTED: a network of its own needs root")
        try:
            with socket.socket() as any_socket:
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP_RUNNING))
            yield
        finally:
            assert libc.setns(home, 0) == 0
    finally:
        os.close(home)


def search(stack: Stack, wanted: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Submit a search over REST; it and its trials when it is over."""
    made = stack.run("api", ["nas", "tokens", "create", "ada", "--role", "user", "--json"])
    assert made.returncode == 0, made.stderr
    headers = {"Authorization": f"Bearer {json.loads(made.stdout)['token']}", "Idempotency-Key": "once"}
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.port}/api/v1", headers=headers, timeout=30) as client:
        assert client.get("/searches", headers={"Authorization": "Bearer none"}).status_code == 401
        answers = [client.post("/searches", json=wanted) for _ in range(2)]
        assert [a.status_code for a in answers] == [201, 201], answers[0].text
        assert answers[0].json() == answers[1].json()
        number = answers[0].json()["id"]

        def over() -> Any:
            found = client.get(f"/searches/{number}").json()
            return found if found["state"] not in ("queued", "running") else None

        found = wait_for(over, pause_s=0.5)
        return found, client.get(f"/searches/{number}/trials", params={"limit": 1000}).json()["items"]


@pytest.fixture
def stack() -> Iterator[Stack]:
    with running_stack() as found:
        yield found


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_commands_do_a_search_together(stack: Stack) -> None:
    rows = [f"{i // 2187 % 3}{i // 729 % 3}{i // 243 % 3}{i // 81 % 3}{i // 27 % 3}{i // 9 % 3}{i // 3 % 3}{i % 3}"
            for i in range(6561)]  # fmt: skip
    lines = [f"{row},{(v := 60 + 2 * sum(map(int, row)))},{v},{v}" for row in rows]
    table = stack.folder / "datasets" / "recorded.csv"
    table.write_text("\n".join(["arch,acc_seed0,acc_seed1,acc_seed2", *lines]) + "\n")
    stack.start("worker")
    stack.start("api")
    wanted = {"space": "nas-bench-macro", "evaluator": "table", "data": "recorded.csv", "trials": 40}
    found, trials = search(stack, wanted)
    assert (found["state"], found["owner"]) == ("complete", "ada")
    assert [t["number"] for t in trials] == [*range(40)]
    assert {t["state"] for t in trials} == {"complete"}
    assert stack.stop("worker") == 0
    assert stack.run("worker", SERVICES["worker"]["healthcheck"]["test"][1:]).returncode == 1
    assert stack.stop("api") in (0, -signal.SIGTERM)
    password = (stack.folder / "secrets" / "db_password").read_text()
    for name in ("api", "worker"):
        log = stack.log(name)
        assert password not in log
        assert log.count("\n") > 1
    requests = [json.loads(line) for line in stack.log("api").splitlines() if line.startswith("{")]
    told = {(r.get("method"), r.get("path"), r.get("status"), r.get("user")) for r in requests}
    assert ("POST", "/api/v1/searches", 201, "ada") in told
    jobs = [json.loads(line) for line in stack.log("worker").splitlines() if line.startswith("{")]
    assert all(line["worker"] for line in jobs)


@pytest.mark.slow
@pytest.mark.timeout(1500)  # each of the services has its patience
def test_the_commands_of_the_profile_ray_train_on_its_nodes() -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the profile ray is NOT TESTED: Ray is not installed")
    with private_network(), running_stack() as stack:
        _train_on_ray(stack)


def _train_on_ray(stack: Stack) -> None:
    stack.start("worker-ray")
    stack.start("ray-node")
    stack.start("api")
    wanted = {"space": "mobilenetv2-small", "data": "digits", "epochs": 1, "trials": 2, "strategy": "random"}
    found, trials = search(stack, wanted)
    assert found["state"] == "complete", found
    assert [t["state"] for t in trials] == ["complete"] * 2
    assert (stack.folder / "data" / "searches" / str(found["id"]) / "ray.log").exists()
    assert stack.stop("worker-ray") == 0
