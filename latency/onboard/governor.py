"""Holds the frequency of the cores, and gives back what was there before however the runner ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from .procfs import policy_folders, read_text

GUARD = """
trap '' HUP INT TERM
echo ready
exec >/dev/null
read -r nothing
while [ $# -gt 1 ]; do
  now=
  read -r now <"$1"
  [ "$now" = performance ] && printf %s "$2" >"$1"
  shift 2
done
"""
"""Says when nothing but SIGKILL ends it. Waits until the runner closes its pipe or is gone; then writes the old
governors, unless others were set since."""


class Governor:
    """Holds the cores' frequency with the governor `performance`, until `give_back` or our end, SIGKILL included.

    Args:
        cores: whose policies are set.
        locks: files that stay locked until all is given back, so that the next runner does not meet our setting.

    Attributes:
        was: the governors before.
        why_not: why they are not held, with the mend; None if they are.
    """

    def __init__(self, cores: list[int], locks: list[int]) -> None:
        self.guard: subprocess.Popen[bytes] | None = None
        files = {folder + "/scaling_governor": core for folder, core in policy_folders(cores).items()}
        before = {path: read_text(path) for path in files}
        self.was = sorted(set(before.values()) - {""})
        self.why_not = self.obstacle(before, files)
        changes = {path: name for path, name in before.items() if name != "performance"}
        if self.why_not is not None or not changes:
            return
        # The guard stands before anything is changed. Of a group of its own, it outlives whatever kills our group.
        self.guard = subprocess.Popen(
            ["sh", "-c", GUARD, "sh", *(word for change in changes.items() for word in change)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath)},  # it is no runner left behind
            start_new_session=True,
            pass_fds=locks,
        )
        assert self.guard.stdout is not None
        with self.guard.stdout as said:
            standing = said.readline() == b"ready\n"
        if not standing:
            self.why_not = "the shell that would give it back does not start"
            self.give_back()
            return
        try:
            for path in changes:
                Path(path).write_text("performance", encoding="ascii")
        except OSError as error:
            self.why_not = f"it could not be set ({error.strerror}); {self.mend(files)}"
            self.give_back()

    def obstacle(self, before: dict[str, str], files: dict[str, int]) -> str | None:
        """What can be seen to be in the way."""
        if not any(before.values()):
            return "the board tells of no frequency scaling"
        for path in before:
            offered = read_text(str(Path(path).with_name("scaling_available_governors"))).split()
            if "performance" not in offered and before[path] != "performance":
                return f"the kernel offers no governor 'performance', only {', '.join(offered) or 'none'}"
        if not all(os.access(path, os.W_OK) for path, name in before.items() if name != "performance"):
            return f"only root may set it: {self.mend(files)}"
        return None

    @staticmethod
    def mend(files: dict[str, int]) -> str:
        """The command that sets it for good."""
        paths = " ".join(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor" for core in files.values())
        return f"echo performance | sudo tee {paths}"

    def give_back(self) -> None:
        """Has the guard write what was there before, and waits for it."""
        if self.guard is not None and self.guard.stdin is not None:
            self.guard.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on without us
                self.guard.wait(5)
            self.guard = None
