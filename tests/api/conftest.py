from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from local import load_script
from tables import make_up_table

from api.app import create_app
from api.auth import Role
from api.service import Service
from api.settings import Settings
from api.store import Store
from api.store.engine import DEFAULT_NAME
from latency.table import LatencyTable

ROOT = Path(__file__).parents[2]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    server = load_script(ROOT / "benchmarks" / "postgres_server.py")
    if not server.available():
        pytest.skip(f"PostgreSQL is NOT TESTED: no server in {server.BINARIES} (set LIGHTNAS_POSTGRESQL_BIN)")
    with server.postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def create_database(postgres_url: str) -> Iterator[Callable[..., str]]:
    """Makes a PostgreSQL database, empty or as a template is, and gives its URL."""
    engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")

    def make(template: str = "template1") -> str:
        name = f"test{next(_numbers)}"
        with engine.connect() as c:
            c.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return postgres_url.rsplit("/", 1)[0] + f"/{name}"

    yield make
    engine.dispose()


@pytest.fixture
def new_database(create_database: Callable[..., str]) -> Callable[[], str]:
    """Makes an empty PostgreSQL database and gives its URL."""
    return create_database


@pytest.fixture(scope="session")
def migrated_database(create_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a PostgreSQL database with the newest schema: a copy takes less than all the migrations."""
    url = create_database()
    with Store(Settings(tmp_path_factory.mktemp("migrated"), url)) as store:
        store.database.upgrade()
    return url.rsplit("/", 1)[1]


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file of SQLite."""
    settings = Settings(tmp_path_factory.mktemp("migrated"))
    with Store.open(settings):
        pass
    return settings.home / DEFAULT_NAME


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A home of its own on each database, which is empty unless the test asks for `store`, too."""
    if request.param == "sqlite":
        return Settings(tmp_path / "home")
    create = request.getfixturevalue("create_database")
    if "store" not in request.fixturenames:
        return Settings(tmp_path / "home", create())
    return Settings(tmp_path / "home", create(request.getfixturevalue("migrated_database")))


@pytest.fixture
def store(settings: Settings, migrated_file: Path) -> Iterator[Store]:
    if settings.database_url is None:
        settings.home.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(migrated_file, settings.home)
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
            transport = httpx.ASGITransport(create_app(Service.of(store)), raise_app_exceptions=False)
            headers = {"Authorization": f"Bearer {store.tokens.create('tester', Role.ADMIN)[1]}"}
            url = "http://localhost/api/v1/"
            async with httpx.AsyncClient(transport=transport, base_url=url, headers=headers) as client:
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
    return make_up_table


@pytest.fixture
def benchmark_table(tmp_path: Path) -> Path:
    """Accuracies of the whole nas-bench-macro space, made up: more work, more accuracy."""
    path = tmp_path / "data" / "recorded.csv"
    path.parent.mkdir(exist_ok=True)
    rows = [f"{''.join(g)},{(v := 60 + 2 * sum(map(int, g)))},{v},{v}" for g in itertools.product("012", repeat=8)]
    path.write_text("\n".join(["arch,acc_seed0,acc_seed1,acc_seed2", *rows]) + "\n")
    return path
