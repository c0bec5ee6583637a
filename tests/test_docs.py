"""Documents that cannot lag: every command and setting is in docs/commands.md, every link and file exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from api.cli import app
from nas.spaces.spec import parse_space

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = (ROOT / "docs" / "commands.md").read_text()


def commands() -> Iterator[str]:
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        yield name
        for sub in getattr(command, "commands", {}):
            yield f"{name} {sub}"


GROUPS = {name.split()[0] for name in commands() if " " in name} - {"spaces"}


@pytest.mark.parametrize("name", [n for n in commands() if n not in GROUPS])
def test_every_command_is_documented(name: str) -> None:
    assert f"`nas {name}`" in COMMANDS


def test_no_command_is_documented_that_is_not_there() -> None:
    listed = set(re.findall(r"^\| `nas ([a-z ]+)`", COMMANDS, re.M))
    assert listed == {n for n in commands() if n not in GROUPS}


def test_every_setting_is_documented() -> None:
    sources = [p for folder in ("nas", "latency", "api", "tests") for p in (ROOT / folder).rglob("*.py")]
    used = {name for p in sources for name in re.findall(r"\bLIGHTNAS_[A-Z_]+\b", p.read_text())}
    assert {name for name in used if f"`{name}`" not in COMMANDS} == set()


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_documented_space_is_a_space() -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    assert parse_space(block, "quickstart.md").size > 100


def test_documented_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for path in DOCS:
        assert set(re.findall(r"`?make ([a-z-]+)\b`", path.read_text())) <= targets, path.name


def test_the_compose_file_starts_what_exists() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    known = set(commands())
    used = re.findall(r"nas ((?:db upgrade)|[a-z]+)", " ".join(services["api"]["command"]))
    assert used
    assert set(used) <= known
