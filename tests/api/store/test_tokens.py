from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api.auth import Role, make_token
from api.commands.tokens import parse_expiry
from api.errors import NotFound, OptionError, StoreError, Unauthorized
from api.store import Store
from api.store.models import now, tokens
from api.store.tokens import TokenStore

Nas = Callable[..., tuple[int, str, str]]


def test_a_token_says_who_sends_it(store: Store) -> None:
    record, text = store.tokens.create("alice", Role.USER, note="her laptop")
    user = store.tokens.check(text)
    assert (user.name, user.role, user.token_id) == ("alice", Role.USER, record.id)
    assert store.tokens.list()[0] == dataclasses.replace(record, used_at=store.tokens.list()[0].used_at)


def test_the_secret_is_nowhere_in_the_database(store: Store) -> None:
    _, text = store.tokens.create("alice", Role.USER)
    store.tokens.check(text)
    secret = text.split("_", 2)[2]
    with store.database.read() as c:
        stored = str(c.execute(sa.select(tokens)).all())
    assert secret not in stored
    if store.database.path is not None:
        for file in store.database.path.parent.iterdir():
            assert secret.encode() not in file.read_bytes()


def test_why_a_token_is_refused(store: Store) -> None:
    later, before = now() + dt.timedelta(days=1), now() - dt.timedelta(seconds=1)
    record, text = store.tokens.create("alice", Role.USER, expires_at=later)
    wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
    for unknown in (make_token().text, wrong):
        with pytest.raises(Unauthorized, match="not known here"):
            store.tokens.check(unknown)
    with pytest.raises(Unauthorized, match="expired on"):
        store.tokens.check(store.tokens.create("bob", Role.READ, expires_at=before)[1])
    revoked = store.tokens.revoke(record.id)
    assert revoked.revoked_at is not None
    assert store.tokens.revoke(record.id) == revoked
    with pytest.raises(Unauthorized, match="revoked on"):
        store.tokens.check(text)
    with pytest.raises(Unauthorized, match="not known here"):  # only who has the secret is told more
        store.tokens.check(wrong)


@given(text=st.text(st.characters()) | st.from_regex(r"nas_[0-9a-f]{16}_[A-Za-z0-9_-]{43}"))
@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_refused(store: Store, text: str) -> None:
    with pytest.raises(Unauthorized):
        store.tokens.check(text)


def test_use_is_noted_once_a_minute(store: Store) -> None:
    record, text = store.tokens.create("alice", Role.USER)
    store.tokens.check(text)
    first = store.tokens.list()[0].used_at
    assert first is not None
    store.tokens.check(text)
    assert store.tokens.list()[0].used_at == first
    with store.database.write() as c:
        c.execute(sa.update(tokens).values(used_at=first - dt.timedelta(minutes=1, seconds=1)))
    store.tokens.check(text)
    again = store.tokens.list()[0].used_at
    assert again is not None
    assert again >= first
    assert record.used_at is None


def test_a_database_that_only_reads_still_knows_its_tokens(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text = store.tokens.create("alice", Role.USER)

    def fail(*_: object) -> None:
        raise StoreError("read-only")

    monkeypatch.setattr(TokenStore, "_note_use", fail)
    assert store.tokens.check(text).name == "alice"


def test_pages(store: Store) -> None:
    for number in range(5):
        store.tokens.create(f"user{number}", Role.READ)
    with store.database.write() as c:  # two made in the same moment
        ids = [r.id for r in store.tokens.list()]
        same = c.execute(sa.select(tokens.c.created_at).where(tokens.c.id == ids[1])).scalar_one()
        c.execute(sa.update(tokens).where(tokens.c.id == ids[2]).values(created_at=same))
    whole = [r.id for r in store.tokens.list()]
    found: list[str] = []
    after = None
    while page := store.tokens.list(after=after, limit=2):
        found += [r.id for r in page]
        after = (page[-1].created_at, page[-1].id)
    assert found == whole
    assert len(whole) == 5


def test_malformed_facts(store: Store) -> None:
    with pytest.raises(OptionError):
        store.tokens.create("a b", Role.READ)
    with pytest.raises(OptionError):
        store.tokens.create("a", Role.READ, note="a\nb")
    with pytest.raises(NotFound):
        store.tokens.revoke("0" * 16)
    assert store.tokens.list() == []


# The commands --------------------------------------------------------------------------------------------------------


def test_commands(nas: Nas) -> None:
    status, out, err = nas("tokens", "create", "alice", "--role", "admin", "--note", "her laptop", "--expires", "30d")
    assert status == 0, err
    text = out.strip()
    with Store.open() as store:
        user = store.tokens.check(text)
    assert (user.name, user.role) == ("alice", Role.ADMIN)
    assert "not shown again" in err
    assert text not in err
    status, out, _ = nas("tokens", "list", "--json")
    (listed,) = json.loads(out)
    assert (listed["user"], listed["role"], listed["note"]) == ("alice", "admin", "her laptop")
    assert not {"hash", "token"} & {*listed}
    ends = dt.datetime.fromisoformat(listed["expires_at"])
    assert abs(ends - now() - dt.timedelta(days=30)) < dt.timedelta(hours=1)
    _, out, _ = nas("tokens", "list")
    assert user.token_id in out
    assert text.split("_", 2)[2] not in out
    assert nas("tokens", "revoke", user.token_id)[:2] == (0, f"token {user.token_id} of alice is revoked\n")
    assert "revoked" in nas("tokens", "list")[1]
    with Store.open() as store, pytest.raises(Unauthorized):
        store.tokens.check(text)


@pytest.mark.parametrize(
    "wrong",
    [
        ("create", "a b"),
        ("create", "a", "--expires", "soon"),
        ("create", "a", "--expires", "0d"),
        ("create", "a", "--expires", "4000d"),
        ("create", "a", "--note", "a\nb"),
        ("create", "a", "--role", "root"),
        ("revoke", "0123"),
    ],
)
def test_mistakes_are_one_line(nas: Nas, wrong: tuple[str, ...]) -> None:
    status, out, err = nas("tokens", *wrong)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_expiries() -> None:
    assert parse_expiry("never") is None
    assert parse_expiry("12h") == dt.timedelta(hours=12)
    assert parse_expiry("30D") == dt.timedelta(days=30)
    assert parse_expiry("8w") == dt.timedelta(weeks=8)
