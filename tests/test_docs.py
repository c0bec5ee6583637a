"""Documents that cannot lag: every command, option, setting and route is in them, every link and file exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml
from uvicorn.middleware.proxy_headers import _TrustedHosts

from api.app import create_app
from api.cli import app
from api.service import Service
from api.settings import Settings
from api.store import Store
from nas.spaces.spec import parse_space

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


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


def options() -> Iterator[str]:
    root = typer.main.get_command(app)
    for command in root.commands.values():  # type: ignore[attr-defined]
        for one in (command, *getattr(command, "commands", {}).values()):
            yield from (name for option in one.params for name in option.opts if name.startswith("--"))


@pytest.mark.parametrize("name", sorted(set(options())))
def test_every_option_is_documented(name: str) -> None:
    assert re.search(rf"{name}(?![a-z0-9-])", COMMANDS + OPERATIONS)


def test_every_route_is_documented_and_no_other(tmp_path: Path) -> None:
    with Store(Settings(tmp_path)) as store:
        paths = create_app(Service.of(store)).openapi()["paths"]
    there = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    text = (ROOT / "docs" / "rest.md").read_text()
    assert set(re.findall(r"^\| `([A-Z]+ /\S+)` \|", text, re.M)) == there


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


def test_compose_believes_its_proxy_and_nobody_else() -> None:
    api = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["api"]
    believed = _TrustedHosts(api["environment"]["FORWARDED_ALLOW_IPS"])
    assert "172.18.0.1" in believed
    assert not any(address in believed for address in ("8.8.8.8", "10.0.0.1"))
    assert "$proxy_add_x_forwarded_for" not in OPERATIONS  # it keeps what the client wrote
