from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from api.app import create_app
from api.settings import Settings
from api.store import Store
from latency.engines import get_engine
from latency.table import Calibration, Entry, Identity, LatencyTable, Provenance, SpaceMark
from nas.space import SearchSpace

ROOT = Path(__file__).parents[2]
_numbers = itertools.count()


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    server = _load(ROOT / "benchmarks" / "postgres_server.py")
    if not server.available():
        pytest.skip(f"PostgreSQL is NOT TESTED: no server in {server.BINARIES} (set LIGHTNAS_POSTGRESQL_BIN)")
    with server.postgres_server() as url:
        yield url


@pytest.fixture
def new_database(postgres_url: str) -> Callable[[], str]:
    """Makes an empty PostgreSQL database and gives its URL."""

    def make() -> str:
        name = f"test{next(_numbers)}"
        engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as c:
            c.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return postgres_url.rsplit("/", 1)[0] + f"/{name}"

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A home of its own on each database."""
    if request.param == "sqlite":
        return Settings(tmp_path / "home")
    return Settings(tmp_path / "home", request.getfixturevalue("new_database")())


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    settings.database_url and Store(settings).database.upgrade()
    with Store.open(settings) as opened:
        yield opened


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LIGHTNAS_HOME with the default database."""
    monkeypatch.setenv("LIGHTNAS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LIGHTNAS_DATABASE_URL", raising=False)
    return tmp_path / "home"


@pytest.fixture
def nas(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process: (exit status, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        from api.cli import run

        status = run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def served() -> Callable[..., httpx.Response]:
    """Asks the REST service over a store, in this process: served(store, path, **query)."""

    def get(store: Store, path: str, **query: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(create_app(store), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1/") as client:
                return await client.get(path, params=query)

        return asyncio.run(ask())

    return get


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """For real `nas` processes."""
    return {**os.environ, "LIGHTNAS_HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def make_table() -> Callable[..., LatencyTable]:
    """A latency table of a space made up from FLOPs, so that no board is needed."""

    def make(space: SearchSpace, board: str = "here", residuals: tuple[float, ...] = ()) -> LatencyTable:
        engine = get_engine("ncnn")
        entries = {engine.engine_key(op): Entry(1e-3 + op.flops / 1e9, 0.01, 10) for op in space.ops()}
        return LatencyTable(
            Identity(board, "a model", "x86_64", "ncnn", "1.0", "fp32", 1, (0,), ""),
            entries,
            0.01,
            Calibration(1.1, 8, 3.0, 1.0, residuals=residuals),
            Provenance("2026-01-01T00:00:00+00:00", "", (SpaceMark(space.name, space.digest),), 5, 10, 1.0, "0" * 64),
        )

    return make


@pytest.fixture
def benchmark_table(tmp_path: Path) -> Path:
    """Accuracies of the whole nas-bench-macro space, made up: more work, more accuracy."""
    path = tmp_path / "recorded.csv"
    rows = [f"{''.join(g)},{(v := 60 + 2 * sum(map(int, g)))},{v},{v}" for g in itertools.product("012", repeat=8)]
    path.write_text("\n".join(["arch,acc_seed0,acc_seed1,acc_seed2", *rows]) + "\n")
    return path
