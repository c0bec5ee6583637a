"""Connections to PostgreSQL: who vanished is given up by both sides, before a lease's 30 s are over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from api.settings import Settings
from api.store.engine import Database

KEEPALIVES = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")


def _ask(tmp_path: Path, url: str) -> tuple[list[str], dict[str, str]]:
    """What the server does about silence, and what this side was told to."""
    database = Database(Settings(tmp_path, url))
    try:
        with database.read() as c:
            c.rollback()  # what it does must not end with the first transaction
            raw = c.connection.dbapi_connection
            assert isinstance(raw, psycopg.Connection)
            shown = [str(c.execute(sa.text(f"SHOW {name}")).scalar()) for name in KEEPALIVES]
            return shown, raw.info.get_parameters()
    finally:
        database.close()


def test_a_vanished_machine_is_given_up_within_the_lease(new_database: Callable[[], str], tmp_path: Path) -> None:
    there, here = _ask(tmp_path, new_database())
    assert there == ["10", "5", "3", "25000"]
    assert {name: here[name] for name in ("keepalives_idle", "keepalives_interval", "keepalives_count")} == {
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
    }
    assert (here["tcp_user_timeout"], here["connect_timeout"]) == ("25000", "10")


def test_what_the_url_says_about_connections_stays(new_database: Callable[[], str], tmp_path: Path) -> None:
    options = "-c%20tcp_keepalives_idle%3D60%20-c%20work_mem%3D5MB"
    url = f"{new_database()}?options={options}&keepalives_idle=70&connect_timeout=3"
    there, here = _ask(tmp_path, url)
    assert there == ["60", "5", "3", "25000"]
    assert here["options"] == "-c tcp_keepalives_idle=60 -c work_mem=5MB"
    assert (here["keepalives_idle"], here["keepalives_count"], here["connect_timeout"]) == ("70", "3", "3")


@pytest.mark.parametrize("whose", ["ROLE lightnas", "DATABASE"])
def test_what_the_administrator_chose_for_these_connections_stays(
    new_database: Callable[[], str], tmp_path: Path, whose: str
) -> None:
    url = new_database()
    of = f"{whose} IN DATABASE {url.rsplit('/', 1)[1]}" if "ROLE" in whose else f"DATABASE {url.rsplit('/', 1)[1]}"
    database = Database(Settings(tmp_path, url))
    with database.write() as c:
        c.execute(sa.text(f"ALTER {of} SET tcp_keepalives_idle = 60"))
    database.close()
    assert _ask(tmp_path, url)[0] == ["60", "5", "3", "25000"]


def test_a_socket_of_this_machine_needs_none_of_it(new_database: Callable[[], str], tmp_path: Path) -> None:
    url = sa.make_url(new_database())
    database = Database(Settings(tmp_path, url.render_as_string(hide_password=False)))
    with database.read() as c:
        folder = c.execute(sa.text("SHOW unix_socket_directories")).scalar()
    database.close()
    by_socket = url.set(host=None, port=None, query={"host": str(folder), "port": str(url.port)})
    assert _ask(tmp_path, by_socket.render_as_string(hide_password=False))[0] == ["0"] * len(KEEPALIVES)
