"""A real `nas serve`, and what a test or benchmark sees of its dashboard in a browser."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from local import free_port

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "api" / "web" / "static"
PHONE, LAPTOP, WIDE = 390, 1280, 1920
PATIENCE_MS = 90_000  # a machine with much else to do is slow, not broken
WATCH = """
window.__broken = [];
document.addEventListener("securitypolicyviolation", (e) => {
  window.__broken.push(`${e.violatedDirective} ${e.blockedURI}`);
});
"""


# Hearing of an address, and drawing it, come later than the address: what was awaited then is what was there before.
_GO = """(place) => new Promise((done) => {
  const before = location.href;
  addEventListener('hashchange', () => requestAnimationFrame(() => setTimeout(done)), { once: true });
  location.hash = place;
  if (location.href === before) done();
})"""


@dataclass
class Served:
    """A running `nas serve`.

    Attributes:
        url: without a slash at the end.
        tokens: role -> token.
        home: its LIGHTNAS_HOME.
        searches: name -> number.
    """

    url: str
    tokens: dict[str, str]
    home: Path
    searches: dict[str, int] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None, role: str = "admin") -> Any:
        """What a request answers, as JSON."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}"}
        answer = httpx.request(method, f"{self.url}/api/v1/{path}", json=body, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None


@dataclass
class Tab:
    """A page of the dashboard, and what went wrong in it.

    Attributes:
        page: Playwright's.
        errors: of its console and its scripts.
        elsewhere: requests to other servers.
    """

    page: Page
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def go(self, place: str) -> None:
        """To a place, e.g. #/boards; when this returns, the page no longer shows the place before."""
        self.page.evaluate(_GO, place)

    def check(self) -> None:
        """No error, no breach of the policy, no request to anybody else."""
        assert self.errors == []
        assert self.elsewhere == []
        assert self.page.evaluate("window.__broken") == []

    def has_no_sideways_scrolling(self) -> bool:
        """Whether the page is as wide as its window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


@contextlib.contextmanager
def serving(home: Path, *options: str, port: int | None = None) -> Iterator[str]:
    """`nas serve` on a home, in a process of its own, as long as the block runs; its URL without a slash at the end."""
    port = port or free_port()
    command = [sys.executable, "-c", "from api.cli import main; main()", "serve", "--port", str(port), *options]
    environment = {
        **os.environ,
        "LIGHTNAS_HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("LIGHTNAS_DATABASE_URL", None)
    log = home.parent / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        _wait_for(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            if httpx.get(f"{url}/readyz", timeout=60).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the server does not answer: {log.read_text()[-2000:]}")


def chromium() -> str | None:
    """The browser's program, if there is one."""
    return os.environ.get("LIGHTNAS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@contextlib.contextmanager
def browsing(program: str) -> Iterator[Browser]:
    """A real Chromium. While the block runs, asyncio.run is refused to others: Playwright's loop runs."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=PATIENCE_MS)
        yield found
        found.close()
