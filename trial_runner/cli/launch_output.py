"""Output of a running launch: a status block on a terminal, else a line each minute; text or JSON; and a log file."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trial_runner.cli.console import say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from trial_runner.launch_monitor import LaunchMonitor, LaunchSnapshot

_QUIET_S = 60.0
_REFRESHES = 2.0
_ECHO = 3  # columns; a terminal that echoes ^C there would else begin a new line, and the block's first one would stay


class LaunchOutput:
    """Says what a launch does.

    Args:
        log: file that each line is appended to, with its time.
        as_json: one JSON object a line instead of text: ``time``, and ``message`` or ``status``.
    """

    def __init__(self, log: Path, *, as_json: bool = False) -> None:
        self._log, self._as_json = log, as_json
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        """Print a line, and append it to the log file."""
        with self._lock:
            say(_json(message=line) if self._as_json else _folded(line))
            self._append(line)

    def status(self, snapshot: LaunchSnapshot) -> None:
        """Print the state of the launch as a line."""
        with self._lock:
            say(_json(status=snapshot.to_dict()) if self._as_json else snapshot.line())
            self._append(snapshot.line())

    @contextmanager
    def following(self, monitor: LaunchMonitor) -> Iterator[None]:
        """Show the state of the launch while the block runs: on a terminal as a block below its lines, else each minute."""
        if sys.stdout.isatty() and not self._as_json:
            from rich.console import Console
            from rich.live import Live

            console = Console(highlight=False)
            live = Live(
                get_renderable=lambda: _block(monitor.snapshot(), console.width - _ECHO),
                console=console,
                refresh_per_second=_REFRESHES,
                transient=True,
                vertical_overflow="crop",
            )
            with live, _each(_QUIET_S, lambda: self._note(monitor)):
                yield
        else:
            with _each(_QUIET_S, lambda: self._tell(monitor)):
                yield

    def _tell(self, monitor: LaunchMonitor) -> None:
        snapshot = monitor.snapshot()
        if snapshot is not None:
            self.status(snapshot)

    def _note(self, monitor: LaunchMonitor) -> None:
        snapshot = monitor.snapshot()
        if snapshot is not None:
            with self._lock:
                self._append(snapshot.line())

    def _append(self, line: str) -> None:
        """Append a line to the log file; a full disk ends the log, not the launch."""
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as file:
                file.write(f"{_now()} {line}\n")
        except OSError:
            return


@contextmanager
def _each(interval_s: float, act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` regularly in a thread while the block runs."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(interval_s):
            act()

    thread = threading.Thread(target=repeat, name="launch-status", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _block(snapshot: LaunchSnapshot | None, width: int) -> RenderableType:
    from rich.constrain import Constrain
    from rich.text import Text

    lines = snapshot.block(width) if snapshot is not None else []
    return Constrain(Text("\n".join(lines), style="dim" if lines else "", no_wrap=True, overflow="ellipsis"), width)


def _folded(line: str) -> str:
    """Break a line between words where a terminal would break it within one."""
    width = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or len(line) <= width:
        return line
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


def _json(**values: Any) -> str:
    return json.dumps({"time": _now(), **values})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
