"""Logs: one line an event, ids, no secrets, nothing a client can forge."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import StreamingResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from api.auth import make_token
from api.operations.log import bind, configure
from api.operations.metrics import Metrics
from api.redaction import redact
from api.rest.access_log import AccessLog

SECRET = make_token().text
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Takes what is logged; afterwards logging is as other tests expect it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    yield sys.stderr  # type: ignore[misc]
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def lines(stderr: io.StringIO) -> Lines:
    """What has been logged, as JSON."""
    configure(json=True, worker="w1", job_id=7)
    return lambda: [json.loads(line) for line in stderr.getvalue().splitlines()]


def test_every_line_says_what_it_belongs_to(lines: Lines) -> None:
    log = logging.getLogger("lightnas.x")
    with bind(search_id=3, trial=12):
        log.info("trial %d ended", 12, extra={"accuracy": 0.5})
    log.warning("after it")
    thread = threading.Thread(target=lambda: log.info("from a thread"))
    thread.start()
    thread.join()
    first, second, third = lines()
    assert first["event"] == "trial 12 ended"
    assert {k: first[k] for k in ("search_id", "trial", "worker", "job_id", "accuracy", "level", "logger")} == {
        "search_id": 3, "trial": 12, "worker": "w1", "job_id": 7, "accuracy": 0.5, "level": "info",
        "logger": "lightnas.x",
    }  # fmt: skip
    assert "trial" not in second
    assert (third["worker"], third["job_id"]) == ("w1", 7)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", first["timestamp"])


@pytest.mark.parametrize(
    "text",
    [
        f"token {SECRET} refused",
        f"Authorization: Bearer {SECRET}",
        "{'authorization': 'Basic hunter2hunter2'}",
        "Bearer hunter2.hunter2",
        "could not reach postgresql+psycopg://ann:hunter2@db/nas",
        "could not reach postgresql://ann:hun@ter2@db/nas",
        "connection failed: host=db password=hunter2 user=ann",
        "password='hunter2 hunter2'",
    ],
    # The token is another one in every process.
    ids=["token", "header", "headers", "bearer", "url", "url with @", "options", "quoted"],
)
def test_secrets_are_no_part_of_any_line(lines: Lines, text: str) -> None:
    log = logging.getLogger("lightnas.x")
    try:
        raise ValueError(text)
    except ValueError:
        fields = {"why": [text, {"deep": text}], "token": SECRET, "thing": Thing(text)}
        log.exception("it failed: %s", text, extra=fields)
    written = json.dumps(lines())
    assert "ter2" not in written
    assert SECRET.split("_", 2)[2] not in written
    assert "***" in redact(text)


class Thing:
    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def test_redacting_leaves_the_rest_alone() -> None:
    text = "search nas_light of https://host:8080/a@b took 3:04, passwords are hashed"
    assert redact(text) == text


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(categories=["Cc", "Zl", "Zp", "Cf", "Lu", "Nd"]), max_size=40))
def test_no_value_becomes_a_line_of_its_own(text: str) -> None:
    for as_json in (True, False):
        record = logging.LogRecord("lightnas.x", logging.INFO, "", 0, "got %s", (text,), None)
        record.__dict__["name_given"] = text
        formatter = _formatter(as_json)
        line = formatter.format(record)
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line
        if as_json:
            assert json.loads(line)["name_given"] == text


def _formatter(as_json: bool) -> logging.Formatter:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure(json=as_json)
        found = root.handlers[0].formatter
        assert found is not None
        return found
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def test_people_read_tracebacks_set_off_from_lines(stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    configure(json=False)
    try:
        raise ValueError("first\n2026-01-01T00:00:00Z [info] forged \x1b[2J")
    except ValueError:
        logging.getLogger("lightnas.x").exception("it failed")
    head, *rest = stderr.getvalue().splitlines()
    assert "it failed" in head
    assert len(rest) > 3
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in "".join(rest)


@pytest.mark.usefixtures("stderr")
def test_uvicorn_goes_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    logger = logging.getLogger("uvicorn.error")
    logger.setLevel(logging.ERROR)
    logger.disabled = True  # as an earlier server, or logging.config, leaves it
    configure(json=True, worker="w1")
    logger.info("Started", extra={"color_message": "\x1b[36mStarted"})
    (line,) = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert (line["event"], line["worker"]) == ("Started", "w1")
    assert "color_message" not in line


# Requests -------------------------------------------------------------------------------------------------------


def ask(metrics: Metrics, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
    app, router = FastAPI(), APIRouter(prefix="/api/v1/things")

    @router.get("/{name}")
    def thing(name: str, request: Request) -> str:
        request.state.user = SimpleNamespace(name="ada")
        logging.getLogger("lightnas.x").info("looking")
        if name == "bad":
            raise ValueError("boom")
        return name

    @router.get("/all/events")
    def events() -> StreamingResponse:
        def told() -> Iterator[str]:
            yield f"data: {metrics.registry.get_sample_value('lightnas_event_streams')}\n\n"

        return StreamingResponse(told(), media_type="text/event-stream")

    @app.get("/readyz")
    def ready() -> str:
        return "ok"

    app.include_router(router)
    app.add_middleware(AccessLog, metrics=metrics)

    async def go() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.request(method, path, headers=headers) for method, path, headers in requests]

    return asyncio.run(go())


def test_a_request_is_one_line_with_its_template_and_user(lines: Lines) -> None:
    (answer,) = ask(Metrics(), ("GET", "/api/v1/things/x%0Aforged?token=secret", {"X-Request-ID": "mine-1"}))
    assert answer.headers["X-Request-ID"] == "mine-1"
    inside, line = lines()
    assert inside["request_id"] == line["request_id"] == "mine-1"
    assert {k: line[k] for k in ("event", "method", "path", "status", "user", "level")} == {
        "event": "request", "method": "GET", "path": "/api/v1/things/{name}", "status": 200, "user": "ada",
        "level": "info",
    }  # fmt: skip
    assert line["ms"] > 0


@pytest.mark.parametrize("wanted", ["", "a b", "x" * 65, "é", 'a"b', "a,b"])
def test_a_strange_request_id_is_replaced(lines: Lines, wanted: str) -> None:
    answers = ask(Metrics(), *[("GET", "/api/v1/things/x", {"X-Request-ID": wanted.encode("latin-1")})] * 2)
    given = {a.headers["X-Request-ID"] for a in answers}
    assert len(given) == 2
    assert all(re.fullmatch("[0-9a-f]{16}", g) for g in given)
    assert {line["request_id"] for line in lines()} == given


def test_mistakes_unknown_paths_and_probes(lines: Lines) -> None:
    metrics = Metrics()
    ask(metrics, ("GET", "/api/v1/things/bad", {}), ("BREW", "/nope", {}), ("GET", "/readyz", {}))
    found = [line for line in lines() if line["event"] == "request"]
    assert [(f["path"], f["status"], f["level"]) for f in found] == [
        ("/api/v1/things/{name}", 500, "error"),
        ("none", 404, "info"),
    ]

    def count(method: str, route: str, status: int) -> float | None:
        labels = {"method": method, "route": route, "status": str(status)}
        return metrics.registry.get_sample_value("lightnas_http_requests_total", labels)

    assert count("GET", "/api/v1/things/{name}", 500) == 1
    assert count("other", "none", 404) == 1
    assert count("GET", "/readyz", 200) == 1


def test_event_streams_are_counted_while_open_and_not_timed(lines: Lines) -> None:
    metrics = Metrics()
    during, _ = ask(metrics, ("GET", "/api/v1/things/all/events", {}), ("GET", "/api/v1/things/x", {}))
    assert during.text == "data: 1.0\n\n"
    value = metrics.registry.get_sample_value
    assert value("lightnas_event_streams") == 0.0
    labels = {"method": "GET", "route": "/api/v1/things/{name}"}
    assert value("lightnas_http_request_seconds_count", labels) == 1
    assert value("lightnas_http_request_seconds_count", {**labels, "route": "/api/v1/things/all/events"}) is None
