"""The `nas` command: parses, calls, prints. Every mistake of a user ends in one line on stderr and exit status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from api.commands import (
    boards,
    db,
    demo,
    doctor,
    export,
    jobs,
    measure,
    predict,
    profile,
    search,
    searches,
    serve,
    spaces,
    tables,
    tokens,
    train,
    verify,
    worker,
)
from api.commands.output import one_line
from nas.errors import LightnasError

app = typer.Typer(
    name="nas",
    help="Search a neural network that keeps its latency budget when measured on your board.\n\n"
    "Once per board: [bold]nas boards add[/] and [bold]nas profile[/]. Then: [bold]nas search[/], [bold]nas verify[/], "
    "[bold]nas export[/]. First time here? [bold]nas demo[/] does it all on this machine.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group, name in (
    (boards, "boards"),
    (tables, "tables"),
    (spaces, "spaces"),
    (searches, "searches"),
    (jobs, "jobs"),
    (tokens, "tokens"),
    (db, "db"),
):
    app.add_typer(group.app, name=name)
for module in (profile, predict, measure, search, train, verify, export, demo, serve, worker, doctor):
    module.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"lightnas {version('lightnas')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 0, 2 after a mistake, 130 after Ctrl-C."""
    try:
        status = app(args=arguments, prog_name="nas", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except typer.TyperException as e:
        if type(e).__name__ == "NoArgsIsHelpError":  # its message is the help; Typer exports no name for it
            print(e.format_message())
        else:
            print(f"error: {one_line(e.format_message())}", file=sys.stderr)
        return 2
    except LightnasError as e:
        print(f"error: {one_line(str(e))}", file=sys.stderr)
        return 2
    except (BrokenPipeError, SystemExit) as e:
        if not isinstance(e, BrokenPipeError) and not isinstance(e.__context__, BrokenPipeError):  # as Typer tells it
            raise
        # The reader (`| head`) left; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as e:
        where = f"{e.filename}: " if e.filename else ""
        print(f"error: {one_line(f'{where}{e.strerror or e}')}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        return 130


def main() -> None:
    """The console script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
