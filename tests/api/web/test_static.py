"""The files of the dashboard and how they are served; no browser."""

from __future__ import annotations

import functools
import hashlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx
import pytest
from dashboard import STATIC, Served
from local import free_port

PATIENCE_S = 60
get = functools.partial(httpx.get, timeout=PATIENCE_S)


def test_the_page_allows_nothing_inline_and_nobody_else(served: Served) -> None:
    page = get(f"{served.url}/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "*" not in policy
    assert "http" not in policy
    assert "script-src 'self';" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "trusted-types 'none'" in policy
    assert page.headers["cache-control"] == "no-cache"
    assert httpx.head(f"{served.url}/", timeout=PATIENCE_S).status_code == 200


@pytest.mark.parametrize(("file", "kind"), [("js/main.js", "text/javascript"), ("styles.css", "text/css")])
def test_files_are_asked_about_not_sent_again(served: Served, file: str, kind: str) -> None:
    first = get(f"{served.url}/assets/{file}")
    assert first.headers["content-type"].startswith(kind)
    assert "unsafe" not in first.headers["content-security-policy"]
    again = get(f"{served.url}/assets/{file}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == "no-cache"


def test_the_style_sheet_is_all_of_them(served: Served) -> None:
    text = get(f"{served.url}/assets/styles.css").text
    sheets = [*STATIC.rglob("*.css")]
    assert len(sheets) > 5
    assert [sheet.name for sheet in sheets if sheet.read_text() not in text] == []


@pytest.mark.parametrize(
    "path", ["../__init__.py", "%2e%2e/__init__.py", "js/../../__init__.py", "..%2f__init__.py", "nope.js"]
)
def test_no_other_file_is_served(served: Served, path: str) -> None:
    answer = httpx.Client(timeout=PATIENCE_S).send(httpx.Request("GET", f"{served.url}/assets/{path}"))
    assert answer.status_code in (400, 404)
    assert b"install" not in answer.content


def test_libraries_are_what_they_were_pinned_as() -> None:
    folder = STATIC / "vendor"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    pinned = {name: digest for digest, name in (line.split() for line in lines)}
    found = {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.suffix in (".js", ".css")
    }
    assert found == pinned
    about = (folder / "README.md").read_text()
    assert all(name in about for name in pinned)


def _scripts() -> list[Path]:
    return [p for p in STATIC.rglob("*.js") if "vendor" not in p.parts]


def test_text_never_becomes_markup() -> None:
    for path in _scripts():
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", path.read_text()
        )
        assert found == [], path


_IMPORT = re.compile(r'^(?:import|export)\b[^;"]*?from "([^"]+)"|\bimport\("([^"]+)"\)', re.MULTILINE)


def test_every_import_is_there_and_relative() -> None:
    count = 0
    for path in _scripts():
        for static, lazy in _IMPORT.findall(path.read_text()):
            assert (static or lazy).startswith("."), (path, static, lazy)
            assert (path.parent / (static or lazy)).resolve().is_file(), (path, static, lazy)
            count += 1
    assert count > 50


def test_the_page_names_only_files_that_are_there() -> None:
    text = (STATIC / "index.html").read_text()
    named = re.findall(r'(?:href|src)="assets/([^"]+)"', text)
    assert len(named) > 10
    assert [name for name in named if not (STATIC / name).is_file()] == ["styles.css"]  # joined from all
    assert "style=" not in text
    assert not re.search(r"<script(?![^>]*src=)", text)


def test_a_wheel_has_all_files(tmp_path: Path) -> None:
    root = STATIC.parents[2]
    globs = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["api.web"]
    packed = {p for pattern in globs for p in (root / "api" / "web").glob(pattern) if p.is_file()}
    assert packed == {p for p in STATIC.rglob("*") if p.is_file()}


def test_the_printed_address_has_the_token(tmp_path: Path) -> None:
    """On a terminal; a log would tell others."""
    main, end = pty.openpty()
    environment = {**os.environ, "LIGHTNAS_HOME": str(tmp_path / "home"), "COLUMNS": "300"}
    environment.pop("LIGHTNAS_DATABASE_URL", None)
    port = free_port()
    command = [sys.executable, "-c", "from api.cli import main; main()", "serve", "--port", str(port), "--jobs", "0"]
    process = subprocess.Popen(command, env=environment, stdout=end, stderr=end)
    os.close(end)
    said, deadline = b"", time.monotonic() + 120
    try:
        while b"Ctrl-C" not in said and time.monotonic() < deadline:
            said += os.read(main, 4096)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        os.close(main)
    text = said.decode()
    found = re.search(rf"http://127\.0\.0\.1:{port}/#token=(nas_[\w-]+)", text)
    assert found is not None, text
    assert found[1] == (tmp_path / "home" / "token").read_text().strip()
