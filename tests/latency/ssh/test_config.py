"""The user's SSH configuration, where it can be compared, against OpenSSH's own reading of it (`ssh -G`)."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from pathlib import Path

import pytest

from latency.board import parse_address
from latency.errors import LatencyError
from latency.ssh.config import HostConfig, lookup


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config"
    path.touch()
    monkeypatch.setenv("LIGHTNAS_SSH_CONFIG", str(path))
    return path


def read(config: Path, text: str, address: str = "pi") -> HostConfig:
    config.write_text(text)
    return lookup(parse_address(address))


def test_nothing_configured(config: Path) -> None:
    found = read(config, "")
    assert (found.host, found.port, found.user) == ("pi", 22, getpass.getuser())
    assert found.proxy_jump == ()
    assert found.proxy_command is None
    assert found.connect_timeout_s is None
    assert found.identity_files[0] == str(Path("~/.ssh/id_ed25519").expanduser())
    assert found.user_known_hosts[0] == str(Path("~/.ssh/known_hosts").expanduser())


def test_the_address_goes_before_the_file(config: Path) -> None:
    found = read(config, "Host pi\n User root\n Port 5\n HostName 10.0.0.1\n", "me@pi:7")
    assert (found.host, found.port, found.user) == ("10.0.0.1", 7, "me")


CASES = [
    "Host pi\n  HostName 10.0.0.1\n  User root\nHost *\n  User other\n  Port 99\n",
    "Host p? !pi\n  Port 5\nHost p*\n  Port 6\n",
    "Port = 12\nUser=x\n# a comment\n\nHost nothing\n  User y\n",
    'Host "pi" other\n  IdentityFile "/keys/with space"\n  IdentityFile ~/k_%h_%r_%p\nHost *\n  IdentityFile /last\n',
    "Host pi\n  HostName %h.example.com\n  ProxyJump me@a:5,b\n  ConnectTimeout 7\n  HostKeyAlias x\n",
    "Host pi\n  ProxyJump none\nHost *\n  ProxyJump a\n",
    "Match host pi user nobody\n  Port 1\nMatch originalhost p* !localuser nobody\n  Port 2\n",
    "Match exec true\n  Port 3\nMatch all\n  Port 4\n",
    'Match !exec true\n  Port 3\nMatch exec "test %n = pi"\n  Port 4\n',
    "Host pi\n  HostName ten\nMatch host ten\n  User found\n",
    "Host pi\n  Include part\n  Port 8\nHost *\n  Port 9\n",
    "Host other\n  Include part\nHost pi\n  Port 8\n",
    "Host pi\n  UserKnownHostsFile /a /b\n  GlobalKnownHostsFile /c\n  IdentitiesOnly yes\n",
]


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh here to compare with: install openssh-client")
@pytest.mark.parametrize("text", CASES)
def test_as_openssh_reads_it(config: Path, text: str) -> None:
    part = config.parent / "part"
    part.write_text("User included\nHost nobody\n  Port 1\n")
    text = text.replace("Include part", f"Include {part}")
    found = read(config, text)
    told: dict[str, list[str]] = {}
    lines = subprocess.run(["ssh", "-G", "-F", str(config), "pi"], capture_output=True, text=True, check=True).stdout
    for line in lines.splitlines():
        key, _, value = line.partition(" ")
        told.setdefault(key, []).append(value)
    assert (found.host, str(found.port), found.user) == (told["hostname"][0], told["port"][0], told["user"][0])
    assert ",".join(found.proxy_jump) == told.get("proxyjump", [""])[0]
    assert (found.host_key_alias or "") == told.get("hostkeyalias", [""])[0]
    assert found.identities_only == (told["identitiesonly"][0] == "yes")
    if "IdentityFile" in text:
        tokens = {"%h": found.host, "%r": found.user, "%p": str(found.port)}
        expected = []
        for file in told["identityfile"]:
            for token, value in tokens.items():
                file = file.replace(token, value)
            expected.append(str(Path(file).expanduser()))
        assert list(found.identity_files) == expected
    if "KnownHosts" in text:
        assert " ".join(found.user_known_hosts) == told["userknownhostsfile"][0]
        assert " ".join(found.global_known_hosts) == told["globalknownhostsfile"][0]
    if "ConnectTimeout" in text:
        assert found.connect_timeout_s == float(told["connecttimeout"][0])


def test_match_exec_does_not_eat_our_input(config: Path, tmp_path: Path) -> None:
    read(config, f"Match exec 'cat > {tmp_path}/eaten'\n  Port 3\n")
    assert (tmp_path / "eaten").read_text() == ""


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("Host pi\n  nonsense\n", "line 2"),
        ("Host 'pi\n", "line 1.*quotation"),
        ("Match host\n", "Match host lacks"),
        ("Port ssh\n", "Port is 'ssh'"),
        ("Port 70000\n", "Port is '70000'"),
    ],
)
def test_mistakes_are_located(config: Path, text: str, match: str) -> None:
    with pytest.raises(LatencyError, match=match):
        read(config, text)


def test_a_file_that_includes_itself(config: Path) -> None:
    with pytest.raises(LatencyError, match="nest too deep"):
        read(config, f"Include {config}\n")


def test_a_missing_file_named_by_the_variable(config: Path) -> None:
    config.unlink()
    with pytest.raises(LatencyError, match="LIGHTNAS_SSH_CONFIG"):
        lookup(parse_address("pi"))
