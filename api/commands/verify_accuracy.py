"""`nas verify --accuracy`: an export's test pictures run on a board."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from api.commands.output import out, print_json, print_table, progress_bar, say
from api.commands.profile import say_waiting
from api.errors import OptionError
from api.store import Store
from latency.errors import WrongAnswers
from latency.link import PatientLink


def verify_accuracy(
    target: str,
    *,
    board: str | None,
    pictures: int | None,
    data: str | None,
    accept: bool,
    as_json: bool,
) -> None:
    """Runs an export on a board, shows what it answers there beside here, and keeps that with the export."""
    from api.export.accuracy import load_test_pictures, read_export
    from api.export.accuracy import verify_accuracy as run_there

    folder = Path(target).expanduser()
    export = read_export(folder)
    with Store.open() as store:
        name = board or (export.facts.get("board") or {}).get("board")
        if name is None:
            raise OptionError(f"{folder} was made for no board: name one with --board")
        found = store.boards.get(name)
        part = load_test_pictures(export, pictures, data=data, cache=store.settings.home / "cache" / "pictures")
        link = PatientLink(found, accept_new_host_key=accept, on_wait=say_waiting(name))
        kept = folder / f"verified-{name}.json"
        try:
            with link, progress_bar() as bar:
                task = bar.add_task(f"pictures on {name}", total=len(part))
                result = run_there(link, export, part, on_progress=lambda done, _: bar.update(task, completed=done))
        except WrongAnswers:
            with contextlib.suppress(OSError):
                kept.unlink(missing_ok=True)  # what it says of earlier is true no more
            raise
    about = {"export": str(folder), **result}
    _keep(kept, about, quiet=as_json)
    show_accuracy(about, as_json=as_json)


def show_accuracy(about: dict[str, Any], *, as_json: bool) -> None:
    """Tell how an export did on a board."""
    if as_json:
        print_json(about)
    else:
        _show(about)


def _keep(path: Path, about: dict[str, Any], *, quiet: bool) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(about, indent=1) + "\n")
        temporary.replace(path)
    except OSError as e:
        say(f"not kept with the export: {path} cannot be written ({e.strerror})", quiet=quiet)


def _show(about: dict[str, Any]) -> None:
    identity = about["identity"]
    threads = f"{identity['threads']} thread{'s' if identity['threads'] > 1 else ''}"
    out(
        f"{about['export']} on {about['board']} ({identity['model']}; {about['engine']} {identity['engine_version']}, "
        f"{about['dtype']}, {threads}), {about['pictures']} test pictures"
    )
    if about["emulated"]:
        out("an emulated board: its milliseconds count instructions and are no real board's")
    if about["changed_files"]:
        out(f"changed since the export, though it answers alike: {', '.join(about['changed_files'])}")
    if about["remark"]:
        out(about["remark"])
    rows = [
        ("accuracy", f"{about['accuracy_here']:.2%}", f"{about['accuracy_board']:.2%}"),
        ("same answer", "", f"{about['same_answers']} of {about['pictures']}"),
        ("largest difference of a logit", "", f"{about['largest_difference']:.2g}"),
        ("  of the logits' range", "", f"{about['relative_difference']:.1e}"),
        ("latency, median", "", f"{about['median_ms']:.4g} ms"),
        ("latency, p95", "", f"{about['p95_ms']:.4g} ms"),
        ("peak memory", "", f"{about['peak_memory_mb']:.1f} MB"),
    ]
    print_table(None, ("", ">here", ">on the board"), rows)
