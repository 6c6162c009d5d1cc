"""Child processes. A crash, a hang or memory exhaustion in a runtime ends one child, not the run."""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List, NamedTuple, Optional

from .errors import StopEarly
from .files import Json, json_or_none

LOG_TAIL_CHARS = 4000
"""Length to which the output of a child is cut in a failure record."""
_PRCTL = ctypes.CDLL(None).prctl  # resolved at import: no lock may be taken between fork and exec


def die_with_parent() -> None:
    """Request SIGKILL on the death of the parent: an orphan would keep using the GPU that a resumed run measures on."""
    _PRCTL(1, signal.SIGKILL)


class StopFlag:
    """Flag set by SIGINT, SIGTERM and SIGHUP, checked where a run can stop consistently."""

    def __init__(self) -> None:
        self.reason: Optional[str] = None

    def listen(self) -> None:
        """Install the signal handlers; an ignored SIGHUP (nohup) stays ignored."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name)
            if not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                signal.signal(number, self._set)

    def _set(self, number: int, frame: Any) -> None:
        self.reason = signal.Signals(number).name

    def check(self) -> None:
        """Raise StopEarly once a signal has arrived."""
        if self.reason:
            raise StopEarly(f"stopped by {self.reason}")


class Answer(NamedTuple):
    """Result of a child: its answer or None, the end of its output, and the reason for a missing answer."""

    value: Optional[Json]
    log_tail: str
    crash: str


def agent_command() -> List[str]:
    """Return the command line that starts this agent: its archive, or the package where it is not packed."""
    archive = Path(__file__).parents[1].resolve()
    return [sys.executable, str(archive)] if archive.is_file() else [sys.executable, "-m", str(__package__)]


def run_child(task: str, spec: Json, timeout_s: float, stop: StopFlag) -> Answer:
    """Run a task of ``child.CHILD_TASKS`` in a child process; after ``timeout_s`` seconds the child is killed.

    Raises:
        StopEarly: a signal arrived; the child has been killed.
    """
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [*agent_command(), "_child", task, str(writer), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(writer,),
        start_new_session=True,
    )
    os.close(writer)
    assert process.stdin is not None and process.stdout is not None
    log, content = b"", b""
    deadline = time.monotonic() + timeout_s
    try:
        try:
            process.stdin.write(json.dumps(spec).encode())
            process.stdin.close()
        except BrokenPipeError:
            pass
        output = process.stdout.fileno()
        waiting = {reader, output}
        while waiting:
            stop.check()
            if time.monotonic() > deadline:
                return Answer(None, _tail(log), f"took longer than {timeout_s:.0f} s")
            for handle in select.select(list(waiting), [], [], 0.1)[0]:
                chunk = os.read(handle, 65536)
                if not chunk:
                    waiting.discard(handle)
                elif handle == reader:
                    content += chunk
                else:
                    log = (log + chunk)[-4 * LOG_TAIL_CHARS :]
        process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        os.close(reader)
    value = json_or_none(content.decode("utf-8", "replace"))
    if isinstance(value, dict):
        return Answer(value, _tail(log), "")
    return Answer(None, _tail(log), _describe_crash(process.returncode, _tail(log)))


def _tail(log: bytes) -> str:
    return log.decode("utf-8", "replace")[-LOG_TAIL_CHARS:]


def _describe_crash(code: int, log_tail: str) -> str:
    if code == -signal.SIGKILL:
        return "was killed (signal 9): most likely the board ran out of memory"
    printed = [line for line in log_tail.splitlines() if line.strip()]
    last = printed[-1][:300] if printed else "it printed nothing"
    how = f"crashed with {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{how}: {last}"
