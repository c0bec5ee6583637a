from __future__ import annotations

import pytest

from api.commands.output import out, print_table, progress_bar, say

HOSTILE = "[/x] [red]a\x1b]0;owned\x07\u202eb"
SHOWN = "[/x] [red]a\\x1b]0;owned\\x07\\u202eb"


def test_what_others_wrote_neither_steers_the_terminal_nor_is_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HOSTILE, ("name", HOSTILE), [(HOSTILE, 1), (None, HOSTILE)])
    out(f"{HOSTILE}\nsecond line")
    say(HOSTILE)
    told = capsys.readouterr()
    assert told.out.count(SHOWN) == 5
    assert "\nsecond line" in told.out
    assert SHOWN in told.err.replace("\n", "")
    assert not {"\x1b", "\x07", "\u202e"} & set(told.out + told.err)


def test_a_bar_takes_no_markup() -> None:
    with progress_bar() as bar:
        bar.add_task("[/x]", total=1)
        bar.refresh()
