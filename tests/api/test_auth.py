from __future__ import annotations

import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.admission import first_token, serve_address_rules
from api.auth import Role, check_note, check_user, make_token, parse_token
from api.errors import OptionError, StoreError, Unauthorized
from api.settings import Settings
from api.store import Store


def test_tokens_are_long_and_new() -> None:
    made = [make_token() for _ in range(100)]
    assert len({t.secret for t in made}) == len({t.id for t in made}) == 100
    for token in made:
        assert parse_token(token.text) == token
        assert len(token.secret) == 43  # 256 bits, 6 a character
        assert len(token.hash) == 64
        assert token.secret not in token.hash


@given(st.text())
@hypothesis_settings(deadline=None)
def test_other_text_is_no_token(text: str) -> None:
    assert parse_token(text) is None


def test_near_misses_are_no_tokens() -> None:
    text = make_token().text
    for other in (
        text + "\n",
        " " + text,
        text[:-1],
        text + "a",
        text.upper(),
        text.replace("nas_", "nas-", 1),
        text[:-1] + "é",
    ):
        assert parse_token(other) is None


def test_roles_are_ordered() -> None:
    assert [[a.allows(b) for b in Role] for a in Role] == [[True, False, False], [True, True, False], [True] * 3]


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a" * 65, "a\n", "a\x00", "<b>", "../x", "ä", "a/b", "\u202ea"])
def test_names_that_nobody_has(name: str) -> None:
    with pytest.raises(OptionError):
        check_user(name)


def test_names_and_notes() -> None:
    for name in ("a", "alice", "a.b-c_d@example.org", "0", "a" * 64):
        assert check_user(name) == name
    assert check_note("Alices Rechner, 2. Stock: größer") == "Alices Rechner, 2. Stock: größer"
    for note in ("a\nb", "x" * 201, "\x1b[2J", "\u202e", "\ud800", "\0"):
        with pytest.raises(OptionError):
            check_note(note)


# The first token -----------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "home")


def test_the_first_token_is_made_once(store: Store, settings: Settings) -> None:
    text = first_token(store, settings)
    assert store.tokens.check(text).role is Role.ADMIN
    facts = settings.token_file.stat()
    assert stat.S_IMODE(facts.st_mode) == 0o600
    assert first_token(store, settings) == text
    assert len(store.tokens.list()) == 1
    assert not [p for p in settings.home.iterdir() if p.name.startswith(".token-")]


def test_its_folder_is_private_where_it_is_made(store: Store, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "new" / "home")
    first_token(store, settings)
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700


def test_a_first_token_that_is_worthless_is_replaced(store: Store, settings: Settings) -> None:
    text = first_token(store, settings)
    store.tokens.revoke(store.tokens.list()[0].id)
    second = first_token(store, settings)
    assert second != text
    settings.token_file.write_text("nonsense\xff" * 100)
    third = first_token(store, settings)
    settings.token_file.write_text(store.tokens.create("bob", Role.READ)[1])
    fourth = first_token(store, settings)
    settings.token_file.unlink()
    fifth = first_token(store, settings)
    assert len({text, second, third, fourth, fifth}) == 5
    for token in (second, third, fourth, fifth):
        assert store.tokens.check(token).role is Role.ADMIN


def test_a_first_token_that_others_could_read_is_revoked(store: Store, settings: Settings) -> None:
    text = first_token(store, settings)
    settings.token_file.chmod(0o644)
    second = first_token(store, settings)
    assert second != text
    with pytest.raises(Unauthorized, match="revoked"):
        store.tokens.check(text)
    assert stat.S_IMODE(settings.token_file.stat().st_mode) == 0o600


def test_links_and_pipes_are_not_followed(store: Store, settings: Settings, tmp_path: Path) -> None:
    text = first_token(store, settings)
    elsewhere = tmp_path / "elsewhere"
    settings.token_file.rename(elsewhere)
    settings.token_file.symlink_to(elsewhere)
    second = first_token(store, settings)
    assert second != text
    assert elsewhere.read_text() == text + "\n"
    assert not settings.token_file.is_symlink()
    settings.token_file.unlink()
    os.mkfifo(settings.token_file, 0o600)
    assert first_token(store, settings) not in (text, second)  # and does not hang


def test_two_first_starts_agree(store: Store, settings: Settings) -> None:
    with ThreadPoolExecutor(4) as threads:
        assert len({*threads.map(lambda _: first_token(store, settings), range(4))}) == 1
    assert len(store.tokens.list()) == 1


def test_a_token_file_that_cannot_be_written(store: Store, settings: Settings) -> None:
    settings.token_file.mkdir()
    (settings.token_file / "x").touch()
    with pytest.raises(StoreError, match="cannot write"):
        first_token(store, settings)


# Where to listen -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return _make_pair(tmp_path_factory.mktemp("tls"))


def _make_pair(folder: Path, *more: str) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=x"]
    subprocess.run([*command, "-keyout", key, "-out", cert, *(more or ("-nodes",))], check=True, capture_output=True)
    return cert, key


def test_loopback_needs_nothing() -> None:
    for host in ("127.0.0.1", "127.1.2.3", "localhost", "::1"):
        assert serve_address_rules(host, None, None, False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", "", "127.0.0.1.example.org", "0"])
def test_other_addresses_need_tls_or_a_proxy(host: str, pair: tuple[Path, Path]) -> None:
    with pytest.raises(OptionError, match="--behind-proxy"):
        serve_address_rules(host, None, None, False)
    assert not serve_address_rules(host, None, None, True)
    assert not serve_address_rules(host, *pair, False)


def test_tls_files_that_cannot_be_used(pair: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = pair
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("x")
    _, other = _make_pair(tmp_path)
    (tmp_path / "locked").mkdir()
    locked = _make_pair(tmp_path / "locked", "-passout", "pass:secret")
    cases: list[tuple[Path | None, Path | None, str]] = [
        (cert, None, "--tls-key"),
        (None, key, "--tls-cert"),
        (tmp_path / "none.pem", key, "No such file"),
        (cert, tmp_path, "Is a directory"),
        (nonsense, key, "PEM"),
        (cert, other, "KEY_VALUES_MISMATCH"),
        (key, cert, "PEM"),
        (*locked, "without a passphrase"),  # and asks nobody for it
    ]
    for one, two, message in cases:
        with pytest.raises(OptionError, match=message):
            serve_address_rules("0.0.0.0", one, two, False)
