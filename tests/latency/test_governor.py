"""The governor is held while a runner lives and given back however it ends.

On a recorded board that can be written to, with real runner processes: no machine of ours has frequency scaling.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from latency.onboard import procfs
from latency.onboard.governor import Governor
from latency.onboard.locks import is_alive

CORE = min(os.sched_getaffinity(0))
NOBODY = 65534
DROP = (
    "import os, sys\nsys.path.insert(0, sys.argv[1])\nimport ncnn.ncnn\nfrom onboard import main\n"
    f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"  # what nobody may read is loaded by now
    "main.run()"
)


class Run:
    """A runner process on a recorded board."""

    def __init__(
        self, file: Path, root: Path, lock: Path, *, unprivileged: bool = False, board_lock: str = "", path: str = ""
    ) -> None:
        self.lock, self.board_lock = lock, board_lock
        # Root ignores the modes of files, so somebody else has to run it.
        start = ["-c", DROP] if unprivileged and os.geteuid() == 0 else []
        self.process = subprocess.Popen(
            [sys.executable, "-u", *start, file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LIGHTNAS_SYSROOT": str(root), **({"PATH": path} if path else {})},
            cwd="/",
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))

    def hello(self, core: int = CORE, owner: str = "tester") -> dict[str, Any]:
        settings = {"engine": "ncnn", "threads": 1, "cores": [core], "dtype": "fp32"}
        return self.ask(do="hello", **settings, lock=str(self.lock), owner=owner, board_lock=self.board_lock)

    def guards(self) -> list[int]:
        return [
            int(word) for word in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream
            try:
                stream.close()
            except BrokenPipeError:
                continue


Start = Callable[..., Run]


@pytest.fixture
def start(runner_file: Path, tmp_path: Path) -> Iterator[Start]:
    made: list[Run] = []

    def run(root: Path, lock: Path | None = None, **settings: Any) -> Run:
        made.append(Run(runner_file, root, lock or tmp_path / "lock", **settings))
        return made[-1]

    yield run
    for each in made:
        each.close()


@pytest.fixture
def root(recorded: Any) -> Path:
    """An RK3588, or one of fewer cores with the same governors."""
    if CORE > 7:
        pytest.skip("the recorded boards have 8 cores, and none of them is ours to use")
    path: Path = recorded("rk3588").root
    return path


def governors(root: Path) -> dict[str, str]:
    policies = sorted((root / "sys/devices/system/cpu/cpufreq").iterdir())
    return {path.name: (path / "scaling_governor").read_text().strip() for path in policies}


def governor_file(root: Path, core: int = CORE) -> Path:
    return (root / f"sys/devices/system/cpu/cpu{core}/cpufreq").resolve() / "scaling_governor"


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Waits for what the guard, a process that nobody here is the parent of, is about to do."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for: {what}"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return not is_alive(pid)


def test_it_is_held_while_the_runner_lives_on_the_cores_used_and_no_others(root: Path, start: Start) -> None:
    before = governors(root)
    run = start(root)
    answer = run.hello()
    assert answer["governor"] == {"set": True, "was": ["ondemand"], "why_not": None}
    assert answer["state"]["governor"] == ["performance"]  # the identity is what is measured under
    used = governor_file(root).parent.name
    assert governors(root) == {**before, used: "performance"}


@pytest.mark.parametrize("end", ["end of input", "lost reader", "SIGTERM", "SIGKILL", "second hello"])
def test_it_is_given_back_however_the_runner_ends(root: Path, start: Start, end: str) -> None:
    before = governors(root)
    run = start(root)
    run.hello()
    (guard,) = run.guards()
    assert run.process.stdin
    assert run.process.stdout
    if end == "end of input":
        run.process.stdin.close()
    elif end == "lost reader":  # the link is cut: nobody takes the answer
        run.process.stdout.close()
        run.process.stdin.write('{"do": "state"}\n')
        run.process.stdin.flush()
    elif end == "SIGTERM":
        run.process.send_signal(signal.SIGTERM)
    elif end == "SIGKILL":
        run.process.kill()
    else:
        assert run.hello()["governor"] == {"set": True, "was": ["ondemand"], "why_not": None}
        run.process.kill()
    run.process.wait(60)
    eventually(lambda: governors(root) == before, "the old governors")
    eventually(lambda: gone(guard), "the guard's end")


def test_the_guard_outlives_signals_to_the_runners_group(root: Path, start: Start, tmp_path: Path) -> None:
    before = governors(root)
    shell = tmp_path / "slow" / "sh"  # as where the guard has to wait for a core
    shell.parent.mkdir()
    shell.write_text('#!/bin/sh\nsleep 0.5\nexec /bin/sh "$@"\n')
    shell.chmod(0o755)
    run = start(root, path=f"{shell.parent}:{os.environ['PATH']}")
    run.hello()
    (guard,) = run.guards()
    assert os.getpgid(guard) != os.getpgid(run.process.pid)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.kill(guard, number)
    assert governors(root) != before
    assert not gone(guard)
    run.process.kill()
    eventually(lambda: governors(root) == before, "the old governors")


def test_without_a_guard_nothing_is_set(root: Path, start: Start, tmp_path: Path) -> None:
    before = governors(root)
    shell = tmp_path / "broken" / "sh"
    shell.parent.mkdir()
    shell.write_text("#!/bin/sh\nexit 1\n")
    shell.chmod(0o755)
    told = start(root, path=f"{shell.parent}:{os.environ['PATH']}").hello()["governor"]
    assert (told["set"], told["why_not"]) == (False, "the shell that would give it back does not start")
    assert governors(root) == before


def test_the_next_runner_never_meets_the_setting_of_one_that_was_killed(root: Path, start: Start) -> None:
    run, following = start(root), start(root)
    run.hello()
    (guard,) = run.guards()
    os.kill(guard, signal.SIGSTOP)  # the slowest guard there may be
    run.process.kill()
    run.process.wait(60)
    assert governors(root)[governor_file(root).parent.name] == "performance"
    threading.Timer(0.3, os.kill, (guard, signal.SIGCONT)).start()
    assert following.hello()["governor"]["was"] == ["ondemand"]


def test_what_others_set_meanwhile_stays(root: Path, start: Start) -> None:
    run = start(root)
    run.hello()
    (guard,) = run.guards()
    governor_file(root).write_text("powersave\n")
    run.process.kill()
    eventually(lambda: gone(guard), "the guard's end")
    assert governor_file(root).read_text() == "powersave\n"


def test_performance_already_needs_no_guard(recorded: Any, start: Start) -> None:
    if CORE > 3:
        pytest.skip("the recorded board has 4 cores, and none of them is ours to use")
    run = start(recorded("imx8mm").root)
    assert run.hello()["governor"] == {"set": True, "was": ["performance"], "why_not": None}
    assert run.guards() == []


def test_a_board_without_frequency_scaling_says_so(recorded: Any, start: Start) -> None:
    answer = start(recorded("container").root).hello()["governor"]
    assert answer == {"set": False, "was": [], "why_not": "the board tells of no frequency scaling"}


def test_a_kernel_without_that_governor_says_so(root: Path, start: Start) -> None:
    governor_file(root).with_name("scaling_available_governors").write_text("ondemand schedutil\n")
    answer = start(root).hello()["governor"]
    assert answer["why_not"] == "the kernel offers no governor 'performance', only ondemand, schedutil"
    assert governors(root) == dict.fromkeys(governors(root), "ondemand")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder as /tmp is: everybody may put files there. pytest's own are closed to other accounts."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def test_without_permission_nothing_changes_and_the_mend_is_told(root: Path, start: Start, open_folder: Path) -> None:
    tree = open_folder / "root"
    shutil.copytree(root, tree, symlinks=True)
    governor_file(tree).chmod(0o444)
    answer = start(tree, open_folder / "lock", unprivileged=True).hello()
    assert answer["governor"] == {
        "set": False,
        "was": ["ondemand"],
        "why_not": "only root may set it: echo performance | sudo tee "
        f"/sys/devices/system/cpu/cpu{CORE}/cpufreq/scaling_governor",
    }
    assert answer["state"]["governor"] == ["ondemand"]


def test_where_one_policy_cannot_be_set_none_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that refuses what the file's mode allows; it stands in for a /sys mounted read-only."""
    monkeypatch.setattr(procfs, "SYS", f"{root}/sys")
    refused, write = governor_file(root, 6), Path.write_text

    def write_text(path: Path, text: str, encoding: str) -> int:
        if path == refused:
            raise OSError(30, "Read-only file system")
        return write(path, text, encoding=encoding)

    monkeypatch.setattr(Path, "write_text", write_text)
    held = Governor([4, 5, 6, 7], [])
    assert held.why_not is not None
    assert "Read-only file system" in held.why_not
    assert "/cpu4/cpufreq/scaling_governor /sys/devices/system/cpu/cpu6/" in held.why_not
    assert governors(root) == dict.fromkeys(governors(root), "ondemand")


def test_a_session_tells_whether_it_is_held(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from latency.board import Board
    from latency.deploy import deploy
    from latency.engines import get_engine
    from latency.session import RunnerSession
    from latency.transport import LocalTransport

    monkeypatch.setenv("LIGHTNAS_SYSROOT", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with LocalTransport() as local:
        where = deploy(local, "ncnn")
        with RunnerSession(local, where, Board("here", "local", cores=(CORE,)), get_engine("ncnn")) as session:
            assert session.governor == {"set": True, "was": ["ondemand"], "why_not": None}
            assert session.state["governor"] == ["performance"]
        assert governors(root) == dict.fromkeys(governors(root), "ondemand")  # at once, not eventually


def test_it_is_given_back_when_a_real_link_is_cut(
    root: Path, tmp_path: Path, start_sshd: Any, ssh_home: Any, runner_file: Path
) -> None:
    from latency.board import Board
    from latency.errors import ConnectionLost
    from latency.ssh import SshTransport

    before = governors(root)
    server = start_sshd(f"SetEnv LIGHTNAS_SYSROOT={root}")
    ssh_home.add("governed", server)
    hello = {"do": "hello", "engine": "ncnn", "threads": 1, "cores": [CORE], "dtype": "fp32", "owner": "me"}
    with SshTransport.connect(Board("governed", "governed")) as link:
        runner_process = link.spawn([sys.executable, "-u", str(runner_file)])
        runner_process.send_line(json.dumps({**hello, "lock": str(tmp_path / "lock")}))
        assert json.loads(runner_process.read_line(60))["governor"]["set"]
        assert governors(root) != before
        for pid in server.sessions():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            runner_process.read_line(60)
        eventually(lambda: governors(root) == before, "the old governors")


# The locks: two profilers never share a board.


def test_two_accounts_share_the_boards_lock(root: Path, start: Start, open_folder: Path) -> None:
    tree, lock = open_folder / "root", open_folder / "board.lock"
    shutil.copytree(root, tree, symlinks=True)
    first = start(tree, open_folder / "lock-a", unprivileged=True, board_lock=str(lock))
    assert first.hello(owner="ada@one pid 7")["ok"]
    assert lock.stat().st_mode & 0o777 == 0o666
    second = start(tree, open_folder / "lock-b", board_lock=str(lock))
    refused = second.hello()
    assert refused["kind"] == "busy"
    account = "nobody" if os.geteuid() == 0 else ""
    assert f"ada@one pid 7 (runner pid {first.process.pid} of {account}" in refused["message"]
    assert not (open_folder / "lock-b").exists()  # who reads it there must not take us for the holder
    # A refused runner keeps nothing: its account's lock is free.
    third = start(tree, open_folder / "lock-b")
    assert third.hello()["ok"]
    refused = second.hello()
    assert f"runner pid {first.process.pid} " in refused["message"]  # the board's lock was not the third one's
    for run in (third, first):
        run.process.kill()
        run.process.wait(60)
    assert second.hello()["ok"]  # another account's file, in a folder like /tmp
    assert second.process.stdin
    second.process.stdin.close()
    second.process.wait(60)
    assert lock.read_text() == ""


def test_the_boards_lock_follows_no_link_and_waits_for_no_pipe(root: Path, start: Start, open_folder: Path) -> None:
    victim = open_folder / "precious"
    victim.write_text("precious\n")
    (open_folder / "own").write_text("precious\n")
    (open_folder / "link").symlink_to(open_folder / "own")
    (open_folder / "nowhere").symlink_to(open_folder / "made")
    os.link(victim, open_folder / "second-name")
    os.mkfifo(open_folder / "pipe")
    (open_folder / "folder").mkdir()
    run = start(root)
    for name in ("link", "nowhere", "second-name", "pipe", "folder"):
        run.board_lock = str(open_folder / name)
        refused = run.hello()
        assert refused["kind"] == "board"
        assert f"the board's lock {open_folder / name} " in refused["message"]
        assert refused["message"].endswith(f"sudo rm -r {open_folder / name}")
    assert victim.read_text() == (open_folder / "own").read_text() == "precious\n"
    assert not (open_folder / "made").exists()
    run.board_lock = str(open_folder / "lock")
    assert run.hello()["ok"]


def test_what_another_account_wrote_into_the_lock_cannot_disturb_the_screen(
    root: Path, start: Start, open_folder: Path
) -> None:
    lock = open_folder / "board.lock"
    holder = start(root, open_folder / "a", board_lock=str(lock))
    holder.hello()
    lock.write_bytes(b"\x1b[31mred\nrunner pid 1\xff" + b"x" * 9000)
    refused = start(root, open_folder / "b", board_lock=str(lock)).hello()
    assert refused["kind"] == "busy"
    assert refused["message"].isprintable()
    assert len(refused["message"]) <= 300
