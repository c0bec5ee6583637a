"""Probing, wheel selection, deployment: on recorded boards, through a real sshd, and on an emulated aarch64 board."""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latency import deploy as module
from latency import wheels
from latency.board import Board
from latency.bundle import runner_bundle
from latency.deploy import clean, deploy, this_python
from latency.errors import BoardBusy, BoardUnfit, LatencyError
from latency.fakes import FakeTransport
from latency.probe import BoardFacts, BoardPython, parse_probe, probe
from latency.reach import connect
from latency.transport import Completed, LocalTransport

NCNN = importlib.metadata.version("ncnn")


def python(**change: Any) -> dict[str, Any]:
    told = {
        "executable": "/usr/bin/python3", "version": [3, 11, 2], "implementation": "cpython", "bits": 64,
        "soabi": "cpython-311-aarch64-linux-gnu", "platform": "linux-aarch64", "libc": "glibc 2.36",
    }  # fmt: skip
    return {**told, **change}


def recorded(*pythons: dict[str, Any], **change: str) -> str:
    """What a Raspberry Pi 4 says, with changes."""
    told = {
        "system": "Linux", "machine": "aarch64", "kernel": "6.6.51+rpt-rpi-v8", "bits": "64", "libc": "glibc 2.36",
        "folder": "/home/pi/.cache/lightnas", "disk_free_kib": "9000000", "memory_kib": "3884360",
        "memory_free_kib": "3100000", "cores": "4",
    }  # fmt: skip
    lines = [f"lightnas:{key}={value}" for key, value in {**told, **change}.items()]
    lines += [f"lightnas:python={json.dumps(p)}" for p in (pythons or (python(),))]
    return "\n".join(["Welcome to pi4!", *lines, "lightnas:end=yes", ""])


def board_saying(text: str) -> FakeTransport:
    """A board that can be probed and has no engine."""

    def run(argv: Any, _: bytes | None) -> Completed:
        return (
            Completed(0, text.encode())
            if argv[0] == "sh"
            else Completed(1, b"", b"ModuleNotFoundError: No module named 'ncnn'")
        )

    return FakeTransport(run=run, name="pi4")


def refusal(text: str) -> str:
    board = board_saying(text)
    with pytest.raises(BoardUnfit) as caught:
        deploy(board, "ncnn", wheel_cache=Path("/nonexistent/never-needed"))
    assert not board.files, "told before anything is sent"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_probe_is_read() -> None:
    facts = parse_probe(recorded(), board="pi4")
    assert (facts.machine, facts.bits, facts.libc, facts.libc_version, facts.cores) == (
        "aarch64",
        64,
        "glibc",
        "2.36",
        4,
    )
    assert facts.memory_bytes == 3884360 * 1024
    assert facts.python == BoardPython(**{**python(), "version": (3, 11, 2)})
    assert (facts.python.abi, facts.python.machine) == ("cp311", "aarch64")


def test_a_probe_cut_short_is_no_probe() -> None:
    with pytest.raises(LatencyError, match="to its end"):
        parse_probe("lightnas:system=Linux\n", board="pi4")


@pytest.mark.parametrize(
    ("libc", "told", "expected"),
    [
        ("glibc 2.31", "", ("glibc", "2.31")),
        ("ldd (Ubuntu GLIBC 2.35-0ubuntu3.8) 2.35 Copyright (C) 2022", "", ("glibc", "2.35")),
        ("musl libc (aarch64) Version 1.2.4", "", ("musl", "1.2.4")),
        ("sh: ldd: not found", "", ("", "")),
        ("sh: ldd: not found", "glibc 2.28", ("glibc", "2.28")),
    ],
)
def test_c_libraries(libc: str, told: str, expected: tuple[str, str]) -> None:
    facts = parse_probe(recorded(python(libc=told), libc=libc), board="pi4")
    assert (facts.libc, facts.libc_version) == expected


def test_32_bit_programs_on_a_64_bit_kernel_are_told() -> None:
    arm = python(bits=32, soabi="cpython-311-arm-linux-gnueabihf")  # its platform still says aarch64: that is the trap
    message = refusal(recorded(arm, bits="32"))
    assert "32-bit programs on a 64-bit kernel" in message
    assert "install a 64-bit system" in message


def test_a_64_bit_python_goes_before_a_32_bit_one() -> None:
    arm = python(bits=32, soabi="cpython-311-arm-linux-gnueabihf")
    facts = parse_probe(recorded(arm, python(executable="/opt/python3")), board="pi4")
    assert facts.python is not None
    assert facts.python.executable == "/opt/python3"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (recorded({"not": "python"}), "no CPython 3.9 or newer: install"),
        (recorded(python(version=[3, 7, 3])), r"only cpython 3\.7\.3 at /usr/bin/python3"),
        (recorded(python(implementation="pypy")), "only pypy"),
        (recorded(python(libc="glibc 2.12")), r"glibc 2\.12 is older than 2\.17"),
        (recorded(python(libc=""), libc="musl libc (aarch64) Version 1.2.4"), r"musl 1\.2\.4"),
        (recorded(system="Darwin"), "Darwin: only Linux"),
        (recorded(folder="lightnas"), "no home folder"),
    ],
)
def test_unfit_boards_are_told_first(text: str, match: str) -> None:
    assert re.search(match, refusal(text))


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(LatencyError, match="use one of ncnn, onnxruntime"):
        deploy(board_saying(recorded()), "tflite")


# Wheels.


@pytest.fixture
def facts() -> BoardFacts:
    return parse_probe(recorded(), board="pi4")


def put_wheels(cache: Path, *names: str) -> None:
    cache.mkdir(exist_ok=True)
    for name in names:
        (cache / name).touch()


def no_pip(*_: Any) -> str:
    return "no such wheel"


def test_the_wheel_follows_the_python_and_the_newest_glibc_it_has(tmp_path: Path, facts: BoardFacts) -> None:
    put_wheels(
        tmp_path,
        "ncnn-1-cp311-cp311-manylinux_2_24_aarch64.manylinux_2_28_aarch64.whl",
        "ncnn-1-cp311-cp311-manylinux_2_39_aarch64.whl",
        "ncnn-1-cp311-cp311-manylinux_2_28_x86_64.whl",
        "ncnn-1-cp311-cp311-manylinux2014_aarch64.whl",
        "ncnn-1-cp312-cp312-manylinux_2_28_aarch64.whl",
        "ncnn-2-cp311-cp311-manylinux_2_28_aarch64.whl",
        "ncnn-1-cp311-cp311-musllinux_1_2_aarch64.whl",
    )
    assert facts.python is not None
    chosen = wheels.fetch("ncnn", "1", facts.python, facts, tmp_path, board="pi4")
    assert "manylinux_2_24_aarch64.manylinux_2_28" in chosen.name


def test_platforms_descend_from_the_boards_glibc() -> None:
    tags = wheels.platform_tags("aarch64", 19)
    assert tags == [
        "manylinux_2_19_aarch64", "manylinux_2_18_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64",
    ]  # fmt: skip
    assert wheels.platform_tags("aarch64", 12) == []


def fetch_error(
    monkeypatch: pytest.MonkeyPatch, pip: Callable[..., str | None], facts: BoardFacts, cache: Path
) -> LatencyError:
    monkeypatch.setattr(wheels, "_download", pip)
    assert facts.python is not None
    with pytest.raises(LatencyError) as caught:
        wheels.fetch("ncnn", "1", facts.python, facts, cache, board="pi4")
    assert "\n" not in str(caught.value)
    return caught.value


def test_no_wheel_at_all(monkeypatch: pytest.MonkeyPatch, facts: BoardFacts, tmp_path: Path) -> None:
    error = fetch_error(monkeypatch, no_pip, facts, tmp_path)
    assert isinstance(error, BoardUnfit)
    assert "no wheel of ncnn 1 for cp311 on aarch64" in str(error)


def test_a_wheel_for_a_newer_glibc_only(monkeypatch: pytest.MonkeyPatch, facts: BoardFacts, tmp_path: Path) -> None:
    def pip(engine: str, version: str, python: BoardPython, minor: int, cache: Path) -> str | None:
        if minor < 39:
            return no_pip()
        put_wheels(cache, "ncnn-1-cp311-cp311-manylinux_2_39_aarch64.whl")
        return None

    error = fetch_error(monkeypatch, pip, facts, tmp_path)
    assert isinstance(error, BoardUnfit)
    assert "needs glibc 2.39, but the board has 2.36" in str(error)


def test_a_host_without_internet_is_not_the_boards_fault(
    monkeypatch: pytest.MonkeyPatch, facts: BoardFacts, tmp_path: Path
) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    assert facts.python is not None
    with pytest.raises(LatencyError, match="connect this machine to the internet") as caught:
        wheels.fetch("ncnn", NCNN, facts.python, facts, tmp_path / "new", board="pi4")
    assert not isinstance(caught.value, BoardUnfit)
    assert str(tmp_path / "new") in str(caught.value)


# A real board of this machine's kind, without the engine, behind a real sshd.

SFTP_SERVER = next(
    (path for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
     if Path(path).exists()), "internal-sftp",
)  # fmt: skip
PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(9, 15)), "python")


@pytest.fixture
def bare_python() -> Path:
    """A Python without ncnn."""
    base = Path(sys._base_executable)  # type: ignore[attr-defined]
    if subprocess.run([base, "-c", "import ncnn"], capture_output=True, check=False).returncode == 0:
        pytest.skip("this machine's own Python has ncnn: no board without it can be played")
    return base


class Bare:
    """A board whose PATH and cache we choose."""

    def __init__(self, ssh_home: Any, start_sshd: Any, folder: Path) -> None:
        self.bin, self.cache = folder / "bin", folder / "cache"
        self.bin.mkdir()
        # Not sshd's SetEnv: the account's own shell reads its startup files after that.
        entry = folder / "entry"
        entry.write_text(
            f"#!/bin/sh\nexport PATH={self.bin}:/usr/bin:/bin XDG_CACHE_HOME={self.cache}\n"
            'eval "$SSH_ORIGINAL_COMMAND"\n'
        )
        entry.chmod(0o755)
        server = start_sshd(f"ForceCommand {entry}", f"Subsystem sftp {SFTP_SERVER}", sftp=False)
        ssh_home.add("bare", server)
        self.board = Board("bare", "bare")

    def shadow(self, script: str) -> None:
        for name in PYTHONS:
            (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.bin / name).chmod(0o755)


@pytest.fixture
def bare(ssh_home: Any, start_sshd: Any, tmp_path: Path) -> Bare:
    return Bare(ssh_home, start_sshd, tmp_path)


@pytest.fixture
def wheel_cache(tmp_path: Path, bare_python: Path) -> Path:
    """Holds a wheel for the bare Python: small, but unpacked and imported as the real one is."""
    asked = "import sysconfig; print(sysconfig.get_config_var('SOABI'))"
    soabi = subprocess.run([bare_python, "-c", asked], capture_output=True, text=True, check=True).stdout.split("-")
    tag = f"cp{soabi[1]}"
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / f"ncnn-{NCNN}-{tag}-{tag}-manylinux2014_{soabi[2]}.whl", "w") as wheel:
        wheel.writestr("ncnn/__init__.py", f"__version__ = '{NCNN}'\nclass Net: pass\n")
        wheel.writestr("ncnn/blob", b"\0" * 1_000_000)
    return folder


def test_a_board_without_python(bare: Bare) -> None:
    bare.shadow("exit 127")
    with connect(bare.board) as link, pytest.raises(BoardUnfit, match=r"no CPython 3\.9 or newer"):
        deploy(link, "ncnn")
    assert not bare.cache.exists()


def test_deploy_unpacks_the_wheel_once_and_clean_removes_all(bare: Bare, bare_python: Path, wheel_cache: Path) -> None:
    bare.shadow(f'exec {bare_python} "$@"')
    with connect(bare.board) as link:
        first = deploy(link, "ncnn", wheel_cache=wheel_cache)
        assert first.engine_version == NCNN
        assert first.uploaded_bytes > 0
        assert first.folder == str(bare.cache / "lightnas")
        assert Path(first.runner_path).read_bytes() == runner_bundle()
        second = deploy(link, "ncnn", wheel_cache=wheel_cache)
        assert second.uploaded_bytes == 0
        assert dataclasses.replace(second, uploaded_bytes=0, facts=first.facts) == dataclasses.replace(
            first, uploaded_bytes=0
        )
        assert sorted(path.name for path in bare.cache.iterdir()) == ["lightnas"]
        assert not list(bare.cache.rglob("*.part*"))
        assert not list(bare.cache.rglob("*.whl"))

        env = [f"{key}={value}" for key, value in first.env.items()]
        done = link.run(["env", *env, first.python, "-c", "import ncnn; print(ncnn.__file__)"], timeout_s=60)
        assert done.stdout.decode().startswith(f"{first.folder}/ncnn-{NCNN}-")

        removed = clean(link)
        assert removed.folder == first.folder
        assert removed.files == 3  # two of the wheel, and the runner
        assert removed.size_bytes > 1_000_000
        assert list(bare.cache.iterdir()) == []
        assert clean(link).files == 0


def test_an_engine_of_several_wheels_is_one_folder(bare: Bare, bare_python: Path, wheel_cache: Path) -> None:
    bare.shadow(f'exec {bare_python} "$@"')
    tag = next(wheel_cache.iterdir()).name.split("-", 2)[2]
    files = {
        "onnxruntime": "import numpy\n__version__ = '1.x'\nclass SessionOptions: pass\n",
        "numpy": "__version__ = '2.x'\n",
    }
    for name, source in files.items():
        version = wheels.version_for(name, this_python())
        with zipfile.ZipFile(wheel_cache / f"{name}-{version}-{tag}", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", source)
    with connect(bare.board) as link:
        first = deploy(link, "onnxruntime", wheel_cache=wheel_cache)
        assert first.engine_version == "1.x"
        assert first.pythonpath
        assert {path.name for path in Path(first.pythonpath).iterdir()} == set(files)
        assert not list(bare.cache.rglob("*.whl"))
        assert deploy(link, "onnxruntime", wheel_cache=wheel_cache).uploaded_bytes == 0
        (wheel_cache / f"numpy-{wheels.version_for('numpy', this_python())}-{tag}").write_bytes(b"half")
        with pytest.raises(LatencyError, match=r"numpy-.*is not a wheel"):
            deploy(link, "onnxruntime", wheel_cache=wheel_cache)


def test_a_wheel_that_does_not_unpack_leaves_nothing(bare: Bare, bare_python: Path, wheel_cache: Path) -> None:
    bare.shadow(f'exec {bare_python} "$@"')
    wheel = next(wheel_cache.iterdir())
    wheel.write_bytes(wheel.read_bytes().replace(b"\0" * 1000, b"\1" * 1000, 1))
    with connect(bare.board) as link, pytest.raises(BoardUnfit, match="cannot unpack ncnn"):
        deploy(link, "ncnn", wheel_cache=wheel_cache)
    assert list((bare.cache / "lightnas").iterdir()) == []


def test_an_old_python_gets_the_last_wheels_made_for_it() -> None:
    def board_python(minor: int) -> BoardPython:
        return dataclasses.replace(this_python(), version=(3, minor, 1), soabi=f"cpython-3{minor}-aarch64-linux-gnu")

    assert wheels.version_for("onnxruntime", board_python(9)) == "1.19.2"
    assert wheels.version_for("numpy", board_python(10)) == "2.2.6"
    assert wheels.version_for("onnxruntime", board_python(11)) == importlib.metadata.version("onnxruntime")
    assert wheels.version_for("ncnn", board_python(9)) == NCNN


def test_clean_leaves_a_board_in_use_alone(bare: Bare, bare_python: Path, wheel_cache: Path) -> None:
    if shutil.which("flock") is None:
        pytest.skip("no flock(1) here: install util-linux")
    bare.shadow(f'exec {bare_python} "$@"')
    with connect(bare.board) as link:
        deployed = deploy(link, "ncnn", wheel_cache=wheel_cache)
        with Path(deployed.lock_path).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(BoardBusy):
                clean(link)
            assert Path(deployed.runner_path).exists()
        clean(link)


def test_an_engine_that_does_not_start_says_why(bare: Bare, bare_python: Path, wheel_cache: Path) -> None:
    bare.shadow(f'exec {bare_python} "$@"')
    wheel = next(wheel_cache.iterdir())
    with zipfile.ZipFile(wheel, "w") as broken:
        broken.writestr("ncnn/__init__.py", "raise ImportError('libgomp.so.1: cannot open shared object file')\n")
    with connect(bare.board) as link, pytest.raises(BoardUnfit, match=r"libgomp\.so\.1"):
        deploy(link, "ncnn", wheel_cache=wheel_cache)


def test_a_broken_wheel_is_named(bare: Bare, bare_python: Path, wheel_cache: Path) -> None:
    bare.shadow(f'exec {bare_python} "$@"')
    wheel = next(wheel_cache.iterdir())
    wheel.write_bytes(b"half a wheel")
    with connect(bare.board) as link, pytest.raises(LatencyError, match=f"{wheel.name} is not a wheel"):
        deploy(link, "ncnn", wheel_cache=wheel_cache)


def test_a_full_disk_is_told_before_uploading(
    bare: Bare, bare_python: Path, wheel_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.shadow(f'exec {bare_python} "$@"')
    monkeypatch.setattr(module, "probe", lambda link: dataclasses.replace(probe(link), disk_free_bytes=1_000_000))
    with connect(bare.board) as link, pytest.raises(BoardUnfit, match="only 1 MiB are free"):
        deploy(link, "ncnn", wheel_cache=wheel_cache)
    assert not list(bare.cache.rglob("*.whl"))


def test_a_cache_that_cannot_be_made(bare: Bare, bare_python: Path) -> None:
    bare.shadow(f'exec {bare_python} "$@"')
    bare.cache.write_text("a file, not a folder")
    with connect(bare.board) as link, pytest.raises(BoardUnfit, match="cannot make"):
        deploy(link, "ncnn")


def test_this_machine_uses_its_own_python_and_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with LocalTransport() as local:
        deployed = deploy(local, "ncnn")
        assert (deployed.python, deployed.engine_version, deployed.pythonpath) == (sys.executable, NCNN, None)
        assert deployed.folder == str(tmp_path / "lightnas")
        assert Path(deployed.lock_path).parent.is_dir()
        assert Path(deployed.runner_path).read_bytes() == runner_bundle()
        assert deploy(local, "ncnn").runner_path == deployed.runner_path
        clean(local)
    assert not (tmp_path / "lightnas").exists()


# A real ARM board, emulated.


@pytest.mark.slow
@pytest.mark.qemu
def test_on_an_aarch64_board(qemu_board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alias = qemu_board.write_ssh_config(tmp_path / "config")
    monkeypatch.setenv("LIGHTNAS_SSH_CONFIG", str(tmp_path / "config"))
    with connect(Board("qemu", alias)) as link:
        facts = probe(link)
        assert facts.python is not None
        assert (facts.python.machine, facts.python.abi, facts.libc) == ("aarch64", "cp311", "glibc")
        deployed = deploy(link, "ncnn", wheel_cache=tmp_path / "wheels")
        (wheel,) = (tmp_path / "wheels").iterdir()
        assert "cp311-manylinux" in wheel.name
        assert "aarch64" in wheel.name
        assert deployed.engine_version == NCNN
        assert deploy(link, "ncnn", wheel_cache=tmp_path / "wheels").uploaded_bytes == 0
        script = (
            "import sys, ncnn; n = ncnn.Net(); "
            "print(n.load_param_mem('7767517\\n1 1\\nInput data 0 1 data\\n'), 'numpy' in sys.modules)"
        )
        env = [f"{key}={value}" for key, value in deployed.env.items()]
        done = link.run(["env", *env, deployed.python, "-c", script], timeout_s=120)
        assert done.stdout.split() == [b"0", b"False"], done.stderr
        assert clean(link).files > 10
        assert not link.exists(deployed.folder)
