from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from api.errors import StoreError
from api.settings import Settings
from api.store import Store

URL = "postgresql+psycopg://lightnas@db.example.org/nas?sslmode=require"


def environment(file: Path, url: str | None = URL) -> dict[str, str]:
    found = {"LIGHTNAS_HOME": "/nowhere", "LIGHTNAS_DATABASE_PASSWORD_FILE": str(file)}
    return found if url is None else {**found, "LIGHTNAS_DATABASE_URL": url}


@pytest.mark.parametrize("password", ["plain", "p@ss:w/rd?#%41 ü", " blanks "])
def test_the_password_of_a_file_joins_the_url_whatever_is_in_it(tmp_path: Path, password: str) -> None:
    file = tmp_path / "password"
    file.write_text(password + "\n")
    settings = Settings.from_env(environment(file))
    assert settings.database_url is not None
    url = sa.make_url(settings.database_url)
    assert (url.password, url.username, url.host) == (password, "lightnas", "db.example.org")
    assert url.query == {"sslmode": "require"}
    assert password not in repr(settings)
    with Store(settings) as store:
        assert password not in store.database.label


def test_a_password_file_that_is_no_help(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"LIGHTNAS_DATABASE_PASSWORD_FILE: .*missing: No such file"):
        Settings.from_env(environment(tmp_path / "missing"))
    file = tmp_path / "password"
    file.write_text("hunter2")
    with pytest.raises(StoreError, match="needs the LIGHTNAS_DATABASE_URL"):
        Settings.from_env(environment(file, None))
    with pytest.raises(StoreError, match="no database URL") as caught:
        Store(Settings.from_env(environment(file, "nonsense")))
    assert "hunter2" not in str(caught.value)
