"""`nas tokens`: who may use the REST service."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated

import typer

from api.auth import Role
from api.commands.output import JsonFlag, out, print_json, print_table, say
from api.errors import OptionError
from api.store import Store
from api.store.models import now
from api.store.tokens import TokenRecord

app = typer.Typer(help="Tokens: who may use the REST service of this store.", no_args_is_help=True)
_DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0}
_MOST_DAYS = 3650.0


def parse_expiry(text: str) -> dt.timedelta | None:
    """`12h`, `30d`, `8w` -> how long a token holds; `never` -> None.

    Raises:
        OptionError: none of these, or more than ten years.
    """
    if text == "never":
        return None
    found = re.fullmatch(r"(\d{1,6})([hdw])", text.strip().lower())
    days = int(found[1]) * _DAYS[found[2]] if found else 0.0
    if not 0 < days <= _MOST_DAYS:
        raise OptionError(f"--expires must be a time such as 12h, 30d or 8w of at most 3650d, or never; not {text!r}")
    return dt.timedelta(days=days)


@app.command()
def create(
    user: Annotated[str, typer.Argument(metavar="USER", help="Owner of what is submitted with the token.")],
    role: Annotated[
        Role, typer.Option(help="read: look at everything; user: submit, change one's own; admin: everything.")
    ] = Role.USER,
    note: Annotated[str | None, typer.Option(help="What it is for; shown in lists.")] = None,
    expires: Annotated[str, typer.Option(metavar="TIME", help="12h, 30d, 8w, or never.")] = "90d",
    as_json: JsonFlag = False,
) -> None:
    """Make a token and print it, this once: the store keeps a hash only.

    Example: nas tokens create alice --role user --note "her laptop" --expires 30d
    """
    span = parse_expiry(expires)
    with Store.open() as store:
        record, text = store.tokens.create(user, role, note=note, expires_at=None if span is None else now() + span)
    if as_json:
        print_json({**vars(record), "token": text})
        return
    out(text)
    say(f"token {record.id} of {record.user}, role {record.role}, {_ends(record)}; it is not shown again")


@app.command("list")
def list_tokens(as_json: JsonFlag = False) -> None:
    """List the tokens without their secrets, newest first."""
    with Store.open() as store:
        tokens = store.tokens.list()
    if as_json:
        print_json([vars(token) for token in tokens])
        return
    rows = [(t.id, t.user, str(t.role), _ends(t), _day(t.created_at), _day(t.used_at), t.note) for t in tokens]
    print_table(None, ("token", "user", "role", "valid", "made", "last used", "note"), rows)
    if not tokens:
        out("no token yet; make one: nas tokens create USER")


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id (`nas tokens list`), not its text.")],
    as_json: JsonFlag = False,
) -> None:
    """Make a token worthless, at once and for good."""
    with Store.open() as store:
        record = store.tokens.revoke(token)
    if as_json:
        print_json(vars(record))
    else:
        out(f"token {record.id} of {record.user} is revoked")


def _ends(token: TokenRecord) -> str:
    if token.revoked_at is not None:
        return f"revoked {_day(token.revoked_at)}"
    if token.expires_at is None:
        return "for ever"
    return f"{'expired' if token.expires_at <= now() else 'until'} {_day(token.expires_at)}"


def _day(moment: dt.datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
