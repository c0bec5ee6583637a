"""Signing in and out, the places, and what is shown when the server is away."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dashboard import LAPTOP, PHONE, Served, Tab, serving
from local import free_port
from playwright.sync_api import expect

from api.auth import Role
from api.settings import Settings
from api.store import Store

OpenTab = Callable[..., Tab]
PLACES = ("#/searches", "#/new", "#/boards", "#/jobs")


def test_the_printed_address_signs_in_and_leaves_no_token_behind(served: Served, open_tab: OpenTab) -> None:
    tab = open_tab()
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Searches")
    assert served.tokens["admin"] not in tab.page.url
    assert served.tokens["admin"] not in tab.page.content()
    assert tab.page.evaluate("localStorage.getItem('lightnas-token')") is None  # for this tab only
    tab.page.reload()
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Searches")
    tab.check()


def test_signing_in_by_hand(served: Served, open_tab: OpenTab) -> None:
    page = open_tab(role=None).page
    field = page.get_by_label("Token")
    expect(field).to_be_focused()
    for text, message in (("letmein", "begins with nas_"), ("nas_0123456789abcdef_nope", "does not know this token")):
        field.fill(text)
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text(message)
    field.fill(f" {served.tokens['read']} ")
    page.get_by_label("Keep me signed in").check()
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("the-read (read)")).to_be_visible()
    assert page.evaluate("localStorage.getItem('lightnas-token')") == served.tokens["read"]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0


def test_a_revoked_token_says_so(served: Served, open_tab: OpenTab) -> None:
    made = served.ask("POST", "tokens", {"user": "leaver", "role": "user"})
    served.tokens["leaver"] = made["token"]
    tab = open_tab("#/boards", role="leaver")
    served.ask("DELETE", f"tokens/{made['id']}")
    tab.go("#/jobs")
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Sign in again")
    expect(tab.page.get_by_text("leaver, your token is no longer valid")).to_be_visible()


@pytest.mark.parametrize("width", [PHONE, LAPTOP])
def test_places_by_keyboard(open_tab: OpenTab, width: int) -> None:
    tab = open_tab("#/nowhere", width=width)
    heading = tab.page.get_by_role("heading", level=1)
    expect(heading).to_have_text("No such page")
    expect(heading).to_be_focused()
    for name, place in zip(("Searches", "New search", "Boards", "Jobs"), PLACES, strict=True):
        link = tab.page.get_by_role("navigation", name="Places").get_by_role("link", name=name)
        link.focus()
        tab.page.keyboard.press("Enter")
        expect(tab.page).to_have_url(re.compile(re.escape(place)))
        expect(link).to_have_attribute("aria-current", "page")
        expect(heading).to_have_text(name)
        expect(tab.page.locator(".state .busy")).to_have_count(0)
        expect(heading).to_be_focused()  # from now on no heading takes the focus from a link
        assert tab.has_no_sideways_scrolling()
    tab.page.go_back()
    expect(tab.page).to_have_url(re.compile("#/boards"))
    tab.check()


def test_an_unknown_place(open_tab: OpenTab) -> None:
    tab = open_tab("#/nowhere")
    expect(tab.page.get_by_role("alert").filter(has_text="There is no page /nowhere")).to_be_visible()


def test_colours_follow_the_system_or_the_user(open_tab: OpenTab) -> None:
    tab = open_tab(dark=True)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = tab.page.evaluate(ground)
    tab.page.get_by_role("button", name="Colours").click()
    light = tab.page.evaluate(ground)
    assert dark != light
    tab.page.reload()
    tab.page.locator(".shell").wait_for()
    assert tab.page.evaluate(ground) == light


# It would find the server by itself, too, now and then before anybody can ask it to.
BY_HAND_ONLY = """() => {
  const real = window.fetch;
  let asked = false;
  addEventListener('click', () => { asked = true; }, true);
  window.fetch = (...given) => (asked ? real(...given) : Promise.reject(new TypeError('Failed to fetch')));
}"""


@pytest.mark.slow
def test_a_lost_connection_is_told_and_found_again(open_tab: OpenTab, tmp_path: Path) -> None:
    with Store.open(Settings(tmp_path / "home")) as store:
        token = store.tokens.create("ada", Role.ADMIN)[1]
    with serving(tmp_path / "home", "--jobs", "0") as url:
        tab = open_tab(role=None, url=url)
        tab.page.goto(f"{url}/#token={token}")
        expect(tab.page.locator(".link-state")).to_have_attribute("data-state", "live")
    expect(tab.page.get_by_role("alert").filter(has_text="No connection to the server")).to_be_visible()
    tab.page.evaluate(BY_HAND_ONLY)
    with serving(tmp_path / "home", "--jobs", "0", port=int(url.rpartition(":")[2])):
        tab.page.get_by_role("button", name="Try now").click()
        expect(tab.page.locator(".link-state")).to_have_attribute("data-state", "live")
        expect(tab.page.get_by_text("No connection to the server")).to_have_count(0)


def test_behind_a_proxy_prefix(served: Served, open_tab: OpenTab, tmp_path: Path) -> None:
    """A real nginx serves it below /nas/."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("a proxy's prefix is NOT TESTED: no nginx here")
    port = free_port()
    config = tmp_path / "nginx.conf"
    config.write_text(_NGINX.format(folder=tmp_path, port=port, server=served.url))
    user = ("-g", "user root;") if os.geteuid() == 0 else ()
    process = subprocess.Popen([program, "-p", str(tmp_path), "-c", str(config), "-e", str(tmp_path / "errors"), *user])
    try:
        _wait_for_listener(port, process)
        url = f"http://127.0.0.1:{port}/nas"
        tab = open_tab(role=None, url=url)
        tab.page.goto(f"{url}/#token={served.tokens['read']}")
        expect(tab.page.locator(".link-state")).to_have_attribute("data-state", "live")
        expect(tab.page.get_by_role("link", name="sample")).to_be_visible()
        tab.check()
    finally:
        process.terminate()
        process.wait(60)


def _wait_for_listener(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None
        try:
            socket.create_connection(("127.0.0.1", port), 60).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


_NGINX = """
daemon off;
pid {folder}/pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location /nas/ {{ proxy_pass {server}/; proxy_buffering off; }}
  }}
}}
"""
