"""The contract of Transport and Process, kept by a local one and one through a real sshd; and the shipped double."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import is_running, wait_for

from latency.board import Board
from latency.errors import ConnectionLost, LatencyError
from latency.fakes import FakeTransport
from latency.reach import connect
from latency.transport import (
    Completed,
    LocalProcess,
    LocalTransport,
    ProcessEnded,
    Transport,
    TransportTimeout,
)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what ignores the end of its input. Whatever ends at it needs all the time that a loaded machine takes."""
    monkeypatch.setattr("latency.transport.GRACE_S", 0.3)
    monkeypatch.setattr("latency.ssh.transport.GRACE_S", 0.3)


ECHO = "import sys\nfor line in sys.stdin:\n    print(line.rstrip('\\n')[::-1], flush=True)\n"


def test_run_gives_status_and_both_streams(transport: Transport) -> None:
    done = transport.run(["sh", "-c", "echo out; echo err >&2; exit 7"], timeout_s=30)
    assert done == Completed(7, b"out\n", b"err\n")


@pytest.mark.parametrize(
    "word", ["", " ", "it's", '"', "$HOME", "`id`", "a\nb", "*", "\\", "!x", "ü", "-n", "~", "a;b|c&d"]
)
def test_arguments_arrive_unchanged(transport: Transport, word: str) -> None:
    done = transport.run(["printf", "%s.", "a", word, "b"], timeout_s=30)
    assert done.stdout.decode() == f"a.{word}.b."


def test_run_feeds_input_larger_than_any_pipe(transport: Transport) -> None:
    data = os.urandom(3_000_000)
    assert transport.run(["cat"], timeout_s=60, input=data).stdout == data


def test_run_without_input_gives_an_empty_one(transport: Transport) -> None:
    assert transport.run(["cat"], timeout_s=30).stdout == b""


def test_run_does_not_mind_a_command_that_ignores_its_input(transport: Transport) -> None:
    assert transport.run(["true"], timeout_s=30, input=b"x" * 500_000).exit_status == 0


def test_a_signal_is_a_negative_status(transport: Transport) -> None:
    assert transport.run(["sh", "-c", "kill -KILL $$"], timeout_s=30).exit_status < 0


def test_run_kills_what_takes_too_long_and_the_link_lives_on(transport: Transport, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 600"
    for timeout_s in (1, 10, 60):  # a loaded machine may need more than a second to start it
        with pytest.raises(TransportTimeout) as caught:
            transport.run(["sh", "-c", script], timeout_s=timeout_s)
        if (tmp_path / "pid").exists():
            break
    assert f"took longer than {timeout_s} s" in str(caught.value)
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_running(pid))
    assert transport.run(["echo", "still here"], timeout_s=30).stdout == b"still here\n"


def test_put_and_get(transport: Transport, tmp_path: Path) -> None:
    target = tmp_path / "file"
    transport.put(b"one", str(target))
    transport.put(b"two", str(target), mode=0o750)
    assert transport.get(str(target)) == b"two"
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["file"]


def test_a_big_upload_from_a_file(transport: Transport, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(20_000_000))
    transport.put(source, f"{tmp_path}/target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_put_that_fails_leaves_nothing(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(LatencyError, match="folder"):
        transport.put(b"x", f"{tmp_path}/folder")
    with pytest.raises(LatencyError, match="No such file"):
        transport.put(b"x", f"{tmp_path}/missing/file")
    assert not list(tmp_path.glob("*.part"))


def test_exists(transport: Transport, tmp_path: Path) -> None:
    assert transport.exists(str(tmp_path))
    assert not transport.exists(f"{tmp_path}/nothing")


def test_get_of_nothing_names_the_path(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(LatencyError, match="nothing"):
        transport.get(f"{tmp_path}/nothing")


def test_relative_paths_are_refused(transport: Transport) -> None:
    for use in (transport.get, transport.exists, lambda path: transport.put(b"", path)):
        with pytest.raises(LatencyError, match="relative"):
            use("file")


def test_a_process_talks_in_lines(transport: Transport) -> None:
    with transport.spawn(["python3", "-c", ECHO]) as process:
        for text in ("abc", "", "grün"):
            process.send_line(text)
            assert process.read_line(30) == text[::-1]
        assert process.exit_status is None
    assert process.exit_status == 0


def test_a_line_may_be_long(transport: Transport) -> None:
    with transport.spawn(["cat"]) as process:
        process.send_line("x" * 2_000_000)
        assert len(process.read_line(60)) == 2_000_000


def test_a_newline_in_a_line_is_refused(transport: Transport) -> None:
    with transport.spawn(["cat"]) as process, pytest.raises(LatencyError, match="newline"):
        process.send_line("a\nb")


def test_spawn_sets_environment_and_folder(transport: Transport, tmp_path: Path) -> None:
    script = 'printf "%s|%s\\n" "$WORD" "$(pwd -P)"'
    with transport.spawn(["sh", "-c", script], env={"WORD": "it's $HOME"}, cwd=str(tmp_path)) as process:
        assert process.read_line(30) == f"it's $HOME|{tmp_path.resolve()}"


def test_a_silent_process_times_out_and_keeps_its_half_line(transport: Transport) -> None:
    with transport.spawn(["sh", "-c", "printf half; read x; echo line"]) as process:
        with pytest.raises(TransportTimeout, match=r"within 0\.2 s"):
            process.read_line(0.2)
        process.send_line("go on")
        assert process.read_line(30) == "halfline"


def test_a_crash_tells_status_and_last_words_on_one_line(transport: Transport) -> None:
    with transport.spawn(["sh", "-c", "echo hello; echo first >&2; echo last words >&2; kill -SEGV $$"]) as process:
        assert process.read_line(30) == "hello"
        with pytest.raises(ProcessEnded, match="last words") as caught:
            process.read_line(30)
        assert caught.value.exit_status < 0
        assert process.exit_status == caught.value.exit_status
        assert "\n" not in str(caught.value)
        assert "first" in process.stderr_tail
        with pytest.raises(ConnectionLost):
            process.read_line(30)


def test_writing_to_an_ended_process_says_so(transport: Transport) -> None:
    with transport.spawn(["sh", "-c", "exit 3"]) as process:
        with pytest.raises(ProcessEnded):
            process.read_line(30)
        with pytest.raises(ProcessEnded, match="status 3"):
            process.send_line("x")


def test_writing_to_an_ended_process_says_so_though_its_pipe_is_open() -> None:
    """As it is for a moment to whoever looks through /proc."""
    with LocalTransport() as local, local.spawn(["sh", "-c", "read x; exit 3"]) as process:
        assert isinstance(process, LocalProcess)
        with Path(f"/proc/{process._process.pid}/fd/0").open("rb"):
            process.send_line("go on")
            with pytest.raises(ProcessEnded):
                process.read_line(30)
            with pytest.raises(ProcessEnded, match="status 3"):
                process.send_line("x")


def test_a_flood_on_standard_error_does_not_stall_and_is_cut(transport: Transport) -> None:
    script = "import sys\nsys.stderr.write('x' * 5_000_000 + 'end')\nprint('done', flush=True)\nsys.stdin.read()"
    with transport.spawn(["python3", "-c", script]) as process:
        assert process.read_line(60) == "done"
        wait_for(lambda: process.stderr_tail.endswith("end"))  # the two streams come each in its own time
    assert len(process.stderr_tail) <= 8192
    assert process.stderr_tail.endswith("end")


def test_close_lets_a_process_put_things_back(transport: Transport, tmp_path: Path) -> None:
    process = transport.spawn(["sh", "-c", f"echo up; cat > /dev/null; echo restored > {tmp_path}/mark"])
    process.read_line(30)
    process.close()
    process.close()
    assert (tmp_path / "mark").read_text() == "restored\n"


@pytest.mark.usefixtures("short_grace")
def test_close_kills_what_will_not_go(transport: Transport, tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/child; echo $$; while :; do sleep 1; done"
    process = transport.spawn(["sh", "-c", script])
    pid = int(process.read_line(30))
    process.close()
    assert not is_running(pid)
    child = int((tmp_path / "child").read_text())
    wait_for(lambda: not is_running(child))  # its parent is gone: whoever inherits it is yet to notice its end


def test_closing_the_transport_closes_its_processes(transport: Transport) -> None:
    process = transport.spawn(["sh", "-c", "echo $$; exec cat"])
    pid = int(process.read_line(30))
    transport.close()
    transport.close()
    assert not is_running(pid)


def test_a_local_program_that_is_not_there_is_named() -> None:
    with LocalTransport() as local, pytest.raises(LatencyError, match="no-such-program"):
        local.run(["no-such-program"], timeout_s=5)


def test_connect_to_this_machine() -> None:
    with connect(Board("here", "local")) as transport:
        assert isinstance(transport, LocalTransport)


# The double.


def test_fake_answers_commands_and_keeps_files() -> None:
    fake = FakeTransport(run=lambda argv, data: Completed(0, argv[0].encode() + (data or b"")))
    assert fake.run(["a", "b"], timeout_s=1, input=b"!").stdout == b"a!"
    fake.put(b"x", "/f")
    assert fake.get("/f") == b"x"
    assert fake.exists("/f")
    assert not fake.exists("/g")
    assert fake.commands == [("a", "b")]
    fake.close()
    assert not fake.open


def test_fake_process_talks_crashes_and_is_cut() -> None:
    def talk(line: str) -> list[str] | None:
        if line == "cut":
            raise ConnectionLost("cut")
        return None if line == "crash" else [line, line]

    process = FakeTransport(talk=talk, greeting=["hi"]).spawn(["x"])
    assert process.read_line(1) == "hi"
    process.send_line("a")
    assert [process.read_line(1), process.read_line(1)] == ["a", "a"]
    with pytest.raises(TransportTimeout):
        process.read_line(1)
    process.send_line("crash")
    with pytest.raises(ProcessEnded):
        process.read_line(1)
    assert process.exit_status == -signal.SIGSEGV

    process = FakeTransport(talk=talk).spawn(["x"])
    process.send_line("cut")
    with pytest.raises(ConnectionLost) as caught:
        process.read_line(1)
    assert not isinstance(caught.value, ProcessEnded)
    assert process.exit_status is None


@pytest.fixture(scope="module")
def cat() -> Iterator[Transport]:
    with LocalTransport() as local:
        yield local


@settings(deadline=None)
@given(
    lines=st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=50), max_size=8)
)
def test_lines_come_back_as_sent(cat: Transport, lines: list[str]) -> None:
    with cat.spawn(["cat"]) as process:
        for line in lines:
            process.send_line(line)
        assert [process.read_line(30) for _ in lines] == lines
