"""The parts behind a real uvicorn: what a client in one process cannot send."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from api.store import Store


@pytest.fixture
def address(store: Store, make_app: Callable[..., FastAPI]) -> Iterator[tuple[str, int]]:
    config = uvicorn.Config(make_app(store, max_body_bytes=10_000), port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        yield listening.getsockname()
        server.should_exit = True
        thread.join(60)


def _send(address: tuple[str, int], *parts: bytes, wait: bool = True) -> bytes:
    """Sends bytes as they are, and gives what comes back until the server closes."""
    with socket.create_connection(address, timeout=60) as link:
        with contextlib.suppress(OSError):  # it may have closed already
            for part in parts:
                link.sendall(part)
            if not wait:
                link.shutdown(socket.SHUT_WR)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := link.recv(65536):
                found += piece
        return found


def _head(path: str, *headers: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Connection: close", *headers, "", ""]).encode()


HOST, TYPE, CHUNKED = "Host: 127.0.0.1", "Content-Type: application/json", "Transfer-Encoding: chunked"


def test_a_body_in_chunks_without_end(address: tuple[str, int]) -> None:
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    found = _send(address, _head("/echo", HOST, TYPE, CHUNKED), *[chunk] * 100)
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["status"] == 413


def test_a_small_body_in_chunks_is_read(address: tuple[str, int]) -> None:
    body = b'{"value": 7}'
    found = _send(address, _head("/echo", HOST, TYPE, CHUNKED), b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    assert b'"value":7' in found


def test_a_long_body_is_refused_before_it_is_sent(address: tuple[str, int]) -> None:
    found = _send(address, _head("/echo", HOST, TYPE, "Content-Length: 1000000000"))
    assert found.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "headers",
    [
        (HOST, "Host: evil.example"),
        (),
        (HOST, "Content-Length: 5", "Content-Length: 6"),
        (HOST, "Content-Length: -5"),
        (HOST, "Content-Length: +5"),
        (HOST, "Content-Length: 5", CHUNKED),
        (HOST, "X: a\r\n b: c\x00"),
        (HOST, "Authorization: Bearer " + "x" * 100_000),
    ],
)
def test_requests_that_proxies_read_differently(address: tuple[str, int], headers: tuple[str, ...]) -> None:
    found = _send(address, _head("/deep", *headers), b"hello", wait=False)
    assert found.startswith(b"HTTP/1.1 4") or found == b"", found[:200]


def test_a_client_that_leaves_harms_nobody(address: tuple[str, int]) -> None:
    for _ in range(5):
        with socket.create_connection(address, timeout=60) as link:
            link.sendall(_head("/echo", HOST, TYPE, "Content-Length: 500") + b"{")
    host, port = address
    assert httpx.get(f"http://{host}:{port}/echo/a", timeout=60).json() == "a"


def test_paths_as_sent(address: tuple[str, int]) -> None:
    for path in (
        "/docs/files/../../../../etc/passwd",
        "/docs/files/%2e%2e/main.py",
        "/docs/files//etc/passwd",
        "//evil.example/",
    ):
        found = _send(address, _head(path, HOST, method="GET"))
        assert found.startswith(b"HTTP/1.1 404 "), found[:100]
        assert b"location" not in found.lower()
