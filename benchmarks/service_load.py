"""The service under load, beside a bare FastAPI endpoint in the same run.

A store with 100 000 trials, `nas serve` as a user starts it, and clients that keep a connection each and send one
request after the other. Told per request: median, 99th percentile, requests a second, and the median's ratio to that
of a FastAPI application with one route that answers a small model, under the same clients. Then event-stream clients:
how long after a write its event is there, whether every client got every event, and the memory of the server.

    python benchmarks/service_load.py --database sqlite
    python benchmarks/service_load.py --database postgresql
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parent))
import postgres_server
from service_kill import Service, write_table

from api.auth import Role
from api.compose import store_search
from api.plans.plan import build_plan
from api.plans.spec import SearchSpec
from api.rest import paging
from api.rest.stream import PER_TOKEN
from api.store import Store
from api.store.models import now, searches, trials
from nas.spaces.recipe import SpaceSpec

BARE = """
from fastapi import FastAPI
from pydantic import BaseModel
class Answer(BaseModel):
    id: int
    name: str
app = FastAPI()
@app.get("/bare")
def bare() -> Answer:
    return Answer(id=1, name="bare")
"""


def main() -> None:
    options = _options()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_table(folder / "data" / "recorded.csv")
        url = None
        if options.database == "postgresql":
            url = stack.enter_context(postgres_server.running_server(fsync=True)).url
        service = Service(folder, url, 0, extra=("--rate", "100000000"))
        service.commands = {"api": service.commands["api"]}
        big = _fill(service, options.trials)
        stack.callback(service.stop)
        service.start()
        service.ask("GET", "/searches")  # it is up
        bare_port = stack.enter_context(_bare(folder))
        rng = random.Random(0)
        headers = f"Authorization: Bearer {service.token}\r\n"
        told = {"database": options.database, "trials": options.trials, "clients": options.clients, "requests": {}}
        told["memory_mb_at_start"] = _memory_mb(service)
        for name, port, make in (
            ("bare FastAPI GET", bare_port, lambda: _get("/bare")),
            ("GET /searches?limit=20", service.port, lambda: _get("/api/v1/searches?limit=20", headers)),
            ("GET /searches/{id}", service.port, lambda: _get(f"/api/v1/searches/{big}", headers)),
            (
                "GET trials?limit=100, anywhere",
                service.port,
                lambda: _get(f"/api/v1/searches/{big}/trials?limit=100&{_cursor(rng, options.trials)}", headers),
            ),
            (
                "GET trials by reward",
                service.port,
                lambda: _get(f"/api/v1/searches/{big}/trials?limit=100&order=reward", headers),
            ),
            (
                "GET trials/{n}",
                service.port,
                lambda: _get(f"/api/v1/searches/{big}/trials/{rng.randrange(options.trials)}", headers),
            ),
            ("POST /searches", service.port, lambda: _submit(headers)),
        ):
            found = asyncio.run(_load(port, make, options.clients, options.seconds))
            told["requests"][name] = found
            print(f"{name}: {found}", file=sys.stderr, flush=True)
        bare = told["requests"]["bare FastAPI GET"]["median_ms"]
        for found in told["requests"].values():
            found["ratio_to_bare"] = round(found["median_ms"] / bare, 2)
        told["memory_mb_after_requests"] = _memory_mb(service)
        told["streams"] = asyncio.run(_streams(service, options.streams, options.events))
        told["memory_mb_with_streams"] = told["streams"].pop("memory_mb")
    print(json.dumps(told, indent=1))


def _fill(service: Service, count: int) -> int:
    """A search of so many trials, and twenty small ones; its number."""
    rng = random.Random(1)
    with Store(service.settings) as store:
        store.database.upgrade()
        space = SpaceSpec.of("nas-bench-macro")
        options = {"path": str(service.folder / "data" / "recorded.csv")}
        spec = SearchSpec(space, strategy="random", evaluator="table", evaluator_options=options, trials=count)
        plan = build_plan(spec, None)
        ids = [store_search(store, plan, board=None, state="complete").id for _ in range(21)]
        for search, size in zip(ids, [count] + [100] * 20, strict=True):
            rows = []
            for number in range(size):
                reward = rng.random()
                rows.append(
                    {
                        "search_id": search,
                        "number": number,
                        "encoding": ",".join(str(rng.randrange(3)) for _ in range(8)),
                        "state": "complete",
                        "accuracy": reward,
                        "reward": reward,
                        "costs": {"flops": 3e7, "params": 3e5},
                        "seconds": 1.0,
                        "extras": {},
                        "attrs": {},
                        "stop_below": {},
                        "started_at": now(),
                        "finished_at": now(),
                    }
                )
            with store.database.write() as c:
                c.execute(sa.insert(trials), rows)
                best = max(rows, key=lambda r: r["reward"])
                values = {"complete": size, "best_reward": best["reward"], "best_number": best["number"]}
                c.execute(sa.update(searches).where(searches.c.id == search).values(values))
    return ids[0]


@contextlib.contextmanager
def _bare(folder: Path) -> Iterator[int]:
    (folder / "bare_app.py").write_text(BARE)
    port = Service.free_port()
    command = [sys.executable, "-m", "uvicorn", "bare_app:app", "--port", str(port), "--log-level", "error"]
    process = subprocess.Popen([*command, "--no-access-log"], cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)})
    time.sleep(3)
    yield port
    process.terminate()
    process.wait()


# Clients -------------------------------------------------------------------------------------------------------------


def _get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode()


def _cursor(rng: random.Random, count: int) -> str:
    return f"cursor={paging.encode('trials:number', rng.randrange(count))}"


def _submit(headers: str) -> bytes:
    body = {"space": "nas-bench-macro", "strategy": "random", "trials": 5, "evaluator": "table", "data": "recorded.csv"}
    text = json.dumps(body)
    return (
        f"POST /api/v1/searches HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Idempotency-Key: {uuid.uuid4()}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"
    ).encode()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """Send a request and read its answer to the end; its status."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status = int(head.split(" ", 2)[1])
    length = next(int(line.split(":")[1]) for line in head.lower().split("\r\n") if line.startswith("content-length:"))
    await reader.readexactly(length)
    return status


async def _load(port: int, make: Callable[[], bytes], clients: int, seconds: float) -> dict[str, float]:
    times: list[float] = []
    wrong = 0
    until = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal wrong
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            started = time.perf_counter()
            status = await _exchange(reader, writer, make())
            times.append(time.perf_counter() - started)
            wrong += status >= 400
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    took = time.perf_counter() - started
    times.sort()
    return {
        "median_ms": round(1e3 * statistics.median(times), 2),
        "p99_ms": round(1e3 * times[int(0.99 * len(times))], 2),
        "requests_per_s": round(len(times) / took, 1),
        "requests": len(times),
        "errors": wrong,
    }


async def _streams(service: Service, clients: int, count: int) -> dict[str, Any]:
    """So many event-stream clients while searches are submitted: does each get every event, and how late."""
    arrived: list[dict[int, float]] = [{} for _ in range(clients)]
    with Store(service.settings) as store:  # a token may open so many streams only
        tokens = [store.tokens.create(f"listener-{i}", Role.READ)[1] for i in range(-(-clients // PER_TOKEN))]

    async def listen(mine: dict[int, float], token: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=1 << 20)
        writer.write(_get("/api/v1/events", f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n"))
        with contextlib.suppress(asyncio.CancelledError):
            while line := await reader.readline():
                if line.startswith(b"id:"):
                    mine[int(line[3:])] = time.time()
        writer.close()

    tasks = [asyncio.create_task(listen(mine, tokens[i // PER_TOKEN])) for i, mine in enumerate(arrived)]
    await asyncio.sleep(3)
    sent = await asyncio.to_thread(_submit_some, service, count)
    await asyncio.sleep(3)
    memory = _memory_mb(service)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks)
    with Store(service.settings) as store:
        written = {e.id: e.created_at.timestamp() for e in store.events.after(sent, limit=10_000)}
    late = sorted(1e3 * (mine[i] - at) for mine in arrived for i, at in written.items() if i in mine)
    return {
        "clients": clients,
        "events": len(written),
        "clients_with_every_event": sum(set(written) <= set(mine) for mine in arrived),
        "delay_median_ms": round(statistics.median(late), 1),
        "delay_p99_ms": round(late[int(0.99 * len(late))], 1),
        "memory_mb": memory,
    }


def _submit_some(service: Service, count: int) -> int:
    with Store(service.settings) as store:
        newest = store.events.newest()
    for number in range(count):
        service.submit(f"stream-{number}", "random", 5, str(uuid.uuid4()))
        time.sleep(0.05)
    return newest


def _memory_mb(service: Service) -> float:
    """Resident memory of the server's process."""
    text = Path(f"/proc/{service.processes['api'].pid}/status").read_text()
    return round(int(text.split("VmRSS:")[1].split()[0]) / 1024, 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0, help="per kind of request")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--events", type=int, default=40, help="searches submitted while streams are open")
    return parser.parse_args()


if __name__ == "__main__":
    main()
