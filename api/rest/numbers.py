"""Numbers in paths: `{job_id:int}` takes no more digits than a number of ours can have."""

from __future__ import annotations

from starlette.convertors import IntegerConvertor, register_url_convertor

DIGITS = 19
"""Of 2^63 - 1. Which of them a route takes is checked, and described, by its parameter."""


class PathNumber(IntegerConvertor):
    """A number of at most `DIGITS` digits; with more, nothing is at the address.

    Starlette's own takes any number of digits, of which Python converts 4 300 and raises for more: an error of the
    server, while the address is looked for and nobody has asked yet who sends it.
    """

    regex = f"[0-9]{{1,{DIGITS}}}"


def install() -> None:
    """Make `:int` in paths mean `PathNumber`; a route that is declared before would keep Starlette's."""
    register_url_convertor("int", PathNumber())
