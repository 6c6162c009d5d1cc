"""A launch, its Ctrl-C and its resume on real terminals of two sizes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from launching import TINY

TMUX = shutil.which("tmux")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(TMUX is None, reason="needs tmux; `make test-deps` installs it"),
]
WAIT_S = 240.0
BOX = "┏┃┡│└"


class Terminal:
    """A shell in a tmux server of its own, as large as a terminal."""

    def __init__(self, folder: Path, columns: int, lines: int) -> None:
        self._socket = folder / "tmux"
        shell = "exec env PS1='ready> ' bash --norc --noprofile"
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines), "-c", str(folder), shell
        )

    def _tmux(self, *words: str) -> str:
        command = [str(TMUX), "-S", str(self._socket), *words]
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "TERM": "screen"}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=30).stdout

    def type(self, line: str) -> None:
        """Clear the screen and run a command."""
        self._tmux("send-keys", f"clear; {line}", "Enter")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._tmux("send-keys", "C-c")

    def screen(self) -> list[str]:
        """Return the lines that are shown, without the empty ones at the end."""
        return self._tmux("capture-pane", "-p").rstrip("\n").splitlines()

    def wait(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """Return the first screen that meets a condition."""
        end = time.monotonic() + WAIT_S
        while not condition(shown := self.screen()):
            assert time.monotonic() < end, "\n".join(shown)
            time.sleep(0.2)
        return shown

    def close(self) -> None:
        """End the server with everything that runs in it."""
        subprocess.run([str(TMUX), "-S", str(self._socket), "kill-server"], check=False, timeout=30)


@pytest.fixture
def terminal(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    shown = Terminal(tmp_path, *request.param)
    yield shown
    shown.close()


def prompt(screen: list[str]) -> bool:
    return bool(screen) and screen[-1].strip() == "ready>"


@pytest.mark.parametrize("terminal", [(80, 24), (200, 50)], ids=["80x24", "200x50"], indirect=True)
def test_a_launch_its_stop_and_its_resume_are_readable(terminal: Terminal, tmp_path: Path):
    text = TINY.format(
        model="none/latency_model.json",
        budget_ms=1000,
        epochs=40,
        trials=1,
        rungs=[],
        backend="inprocess",
        measure="false",
    )
    (tmp_path / "study.yaml").write_text(text.replace("local-cpu", "jetson-nano"))
    launch = f"{sys.executable} -m trial_runner.cli launch study.yaml"

    terminal.type(launch)
    running = terminal.wait(lambda screen: any(line.startswith("trial   0 █") and "mIoU" in line for line in screen))
    at = next(index for index, line in enumerate(running) if line.startswith("0 of 1 trials done"))
    assert running[-1].startswith("trial   0 █") and not any("…" in line for line in running[at:-1])
    assert "the original Jetson Nano under" in " ".join(running[:at])  # no word is broken
    facts = "  ".join(running[at:-1])
    assert "left (at most, by" in facts and "CPU" in facts and sum("trials done" in line for line in running) == 1

    terminal.interrupt()
    stopped = terminal.wait(prompt)
    assert "paretoseg: stopped. Nothing is lost; run the same command again to go on." in stopped
    assert not any("trials done" in line or line.startswith("trial   0 █") for line in stopped), stopped

    terminal.type(launch)
    resumed = terminal.wait(lambda screen: any("1 requeued" in line for line in screen))
    assert "0 of 1 trials done, 1 requeued" in " ".join(resumed)
    ended = terminal.wait(lambda screen: prompt(screen) and any("report:" in line for line in screen))
    table = [line for line in ended if line[:1] and line[0] in BOX]
    assert len(table) >= 4 and len({len(line) for line in table}) == 1
    assert any("mIoU" in line for line in table) and not any("1 requeued" in line for line in ended[-8:])
    assert not any("of 1 trials done  " in line or "Traceback" in line for line in ended)
