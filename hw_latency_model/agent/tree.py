"""Files and commands of the board below a root folder; tests use a simulated root."""

import glob
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import List, NamedTuple, Optional


class Output(NamedTuple):
    """Exit code and combined stdout and stderr of a command."""

    code: int
    text: str


class Tree:
    """Access to system files and commands. With a root other than ``/`` only commands below that root are run."""

    FOLDERS = (
        "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
        "/usr/src/tensorrt/bin", "/usr/local/cuda/bin",
    )  # fmt: skip

    def __init__(self, root: str = "/") -> None:
        self.root = Path(root)
        self.is_real = self.root.resolve() == Path("/")
        self._sudo: Optional[bool] = None

    def path(self, absolute: str) -> Path:
        """Return the path of a system file below the root."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str:
        """Return the text of a file; empty for a file that is missing or unreadable (sysfs files may be)."""
        try:
            return self.path(absolute).read_bytes().decode("utf-8", "replace").replace("\0", "")
        except OSError:
            return ""

    def number(self, absolute: str) -> Optional[int]:
        """Return the integer in a file; None for any other content."""
        text = self.read(absolute).strip()
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None

    def glob(self, pattern: str) -> List[str]:
        """Return the matching paths, sorted, as absolute paths relative to the root."""
        found = sorted(glob.glob(str(self.path(pattern))))  # noqa: PTH207 (pathlib's glob of 3.6 fails on /sys links)
        return ["/" + str(Path(path).relative_to(self.root)) for path in found]

    def command(self, name: str) -> Optional[str]:
        """Return the path of an executable; None where it is not installed."""
        if self.is_real and shutil.which(name):
            return shutil.which(name)
        for folder in self.FOLDERS:
            candidate = self.path(folder) / name
            if candidate.is_file() and os.access(str(candidate), os.X_OK):
                return str(candidate)
        return None

    def may_change(self) -> bool:
        """Return True for a user that may set clocks: root, or sudo without a password."""
        if not self.is_real or os.geteuid() == 0:
            return True
        if self._sudo is None:
            self._sudo = False
            if shutil.which("sudo"):
                self._sudo = (
                    subprocess.call(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
                )
        return self._sudo

    def run(self, name: str, *arguments: str, as_root: bool = False, answer: str = "", timeout_s: float = 60) -> Output:
        """Run a command of the board.

        Args:
            as_root: use ``sudo -n`` where the user is not root.
            answer: text for its stdin.
            timeout_s: limit in seconds.

        Returns:
            Its output; code 127 for a missing command, 126 for one that cannot be started, 124 after ``timeout_s``.
        """
        command = self.command(name)
        if command is None:
            return Output(127, "")
        line = [command, *arguments]
        if as_root and self.is_real and os.geteuid() != 0:
            line = ["sudo", "-n", *line]
        try:
            done = subprocess.run(
                line, input=answer.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as late:
            return Output(124, (late.output or b"").decode("utf-8", "replace"))
        except OSError as error:
            return Output(126, str(error))
        return Output(done.returncode, done.stdout.decode("utf-8", "replace"))
