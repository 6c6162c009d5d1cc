"""Control of the agent on its board through a shell: send, start detached, poll, stop.

No connection is kept open. The agent runs in its own session and writes ``results.jsonl`` on the board; each request is one
short, repeatable script, so a dropped connection costs a request, not a measurement.

Layout below the board's folder: ``work/`` (engines, timing cache; shared) and one folder for each calibration with
``paretoseg_agent.pyz``, ``jobs.json``, ``reference.onnx``, ``onnx/``, ``results.jsonl``, ``agent.log``, ``agent.pid``, ``agent.exit``.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import tarfile
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from hw_latency_model.board.agent_archive import AGENT_FILE
from hw_latency_model.board.transport.shell import COMMAND_TIMEOUT_S, Answer, ConnectionLost, Shell
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path
from search_spaces._common.untrusted import parse_json

DONE_EXIT, USER_EXIT, RESUMABLE_EXIT = 0, 2, 3
CHECK_TIMEOUT_S = 600.0
"""Time limit of ``check``, which opens each runtime; a Nano takes a minute."""
_SLOWEST_BYTES_PER_S = 50_000
_SPARE_KB = 20_000
_NO_PYTHON = 97
_MARK = "@@paretoseg"
_ALIVE = (
    'alive() { pid=$(cat agent.pid 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null '
    "&& grep -qa paretoseg_agent /proc/$pid/cmdline; }"
)


class AgentState(StrEnum):
    """State of the agent's process: ``GONE``: killed, or the board rebooted; ``IDLE``: never started."""

    RUNNING = "running"
    EXIT = "exit"
    GONE = "gone"
    IDLE = "idle"


@dataclass(frozen=True)
class Poll:
    """State and new results of the agent.

    Attributes:
        state: state of the process.
        code: exit status for ``EXIT``, otherwise None.
        size: bytes of ``results.jsonl`` on the board.
        data: its bytes from the requested offset.
    """

    state: AgentState
    code: int | None
    size: int
    data: bytes


class AgentLink:
    """Folder of one calibration on a board.

    Args:
        shell: shell on the board.
        root: folder on the board, relative to the login folder or absolute.
        session: name of the calibration's own folder below it.
        python: command of Python 3.6 or newer on the board; may be several words.
    """

    def __init__(self, shell: Shell, root: str, session: str, python: str) -> None:
        self.shell = shell
        self.root = root.removeprefix("~/").rstrip("/") or "."
        self.folder = f"{self.root}/{session}"
        self.python = python

    def check(self, agent: Path) -> dict[str, Any]:
        """Install the agent and return its description of the board.

        Raises:
            ConnectionLost: no answer; a retry may succeed.
            UserError: the folder cannot be written, Python is missing, or the agent does not run.
        """
        self._send([(agent, AGENT_FILE)])
        words = shlex.split(self.python)
        first, command = shlex.quote(words[0]), " ".join(map(shlex.quote, words))
        answer = self.shell.run(
            f"cd {self._quoted} && {{ command -v {first} >/dev/null || exit {_NO_PYTHON}; }} && {command} {AGENT_FILE} check",
            timeout_s=CHECK_TIMEOUT_S,
        )
        if answer.code in (_NO_PYTHON, 126, 127):
            raise UserError(
                f"there is no {words[0]} on {self.shell.place}. Install it there (`sudo apt-get install python3`), "
                "or name the command that runs Python 3.6 or newer with board.python."
            )
        text = answer.out.decode(errors="replace")
        try:
            facts = parse_json(text[text.index("{") : text.rindex("}") + 1])
        except ValueError as error:
            cause = (answer.err or text).strip().splitlines()[-1:] or [f"exit status {answer.code}"]
            raise UserError(
                f"the agent does not run on {self.shell.place} ({cause[0]}). It needs Python 3.6 or newer: "
                "name its command with board.python."
            ) from error
        if not isinstance(facts, dict):
            raise UserError(f"the agent on {self.shell.place} did not describe its board. Run the same command again.")
        return facts

    def send(self, kit: Path) -> None:
        """Send the kit's files, ``jobs.json`` last. Existing identical files are not sent again, so that the call can be
        repeated until it succeeds; networks of earlier batches are removed first.

        Raises:
            ConnectionLost: the connection dropped; complete files are kept.
            UserError: the board's disk is full, or the folder cannot be written.
        """
        files = [path for path in sorted(kit.rglob("*")) if path.is_file() and path.name != "jobs.json"]
        self._send([(path, path.relative_to(kit).as_posix()) for path in [*files, kit / "jobs.json"]], prune=True)

    def start(self) -> None:
        """Start the agent detached from this connection; a running agent is not restarted.

        Raises:
            ConnectionLost: no answer; the agent may have started.
            UserError: the board cannot start it.
        """
        command = " ".join(map(shlex.quote, shlex.split(self.python)))
        run = f"{command} {AGENT_FILE} run --jobs jobs.json --results results.jsonl --work ../work"
        # The wrapper forwards a stop signal to the agent only, never to its engine build, and outlives it to store its exit status.
        wrapper = (
            f"trap 'kill -TERM $child' TERM INT; {run} >agent.log 2>&1 & child=$!; "
            "wait $child; code=$?; while kill -0 $child 2>/dev/null; do wait $child; code=$?; done; "
            "echo $code >agent.exit.part; mv agent.exit.part agent.exit"
        )
        script = (
            f"cd {self._quoted} && {_ALIVE}; alive && exit 0; mkdir -p ../work && rm -f agent.exit && : >agent.pid || exit 1; "
            f"setsid sh -c {shlex.quote(wrapper)} </dev/null >/dev/null 2>&1 & echo $! >agent.pid"
        )
        self._done(self.shell.run(script))

    def poll(self, offset: int) -> Poll:
        """Query the state of the agent and its results from byte ``offset`` on.

        Raises:
            ConnectionLost: no answer, or an incomplete one.
        """
        script = (
            f"cd {self._quoted} 2>/dev/null || {{ echo '{_MARK} idle - 0'; exit 0; }}; {_ALIVE}; "
            "if alive; then s='running -'; elif [ -s agent.exit ]; then s=\"exit $(cat agent.exit)\"; "
            "elif [ -e agent.pid ]; then s='gone -'; else s='idle -'; fi; "
            "n=$( [ -e results.jsonl ] && wc -c <results.jsonl || echo 0 ); "
            f'echo "{_MARK} $s "$n; [ "$n" -gt {offset} ] && tail -c +{offset + 1} results.jsonl | head -c $((n - {offset})); true'
        )
        out = self.shell.run(script).out
        # A login script may have printed something before.
        match = re.search(rb"^@@paretoseg (running|exit|gone|idle) (-|\d+) (\d+)\n", out, re.MULTILINE)
        if match is None:
            raise ConnectionLost("the board's answer was cut off")
        size, data = int(match[3]), out[match.end() :]
        if len(data) != max(0, size - offset):
            raise ConnectionLost("the board's answer was cut off")
        return Poll(AgentState(match[1].decode()), None if match[2] == b"-" else int(match[2]), size, data)

    def fetch(self, name: str, size: int, target: Path) -> None:
        """Copy a file of this folder from the board, atomically.

        Args:
            name: relative to the folder.
            size: its bytes.
            target: file to write.

        Raises:
            ConnectionLost: the connection dropped, or the file did not arrive whole.
            UserError: ``target`` cannot be written.
        """
        script = f"cat {self._quoted}/{shlex.quote(name)}"
        answer = self.shell.run(script, timeout_s=COMMAND_TIMEOUT_S + size / _SLOWEST_BYTES_PER_S)
        if len(answer.out) != size:
            raise ConnectionLost(f"{name} did not arrive whole: {len(answer.out)} of {size} bytes")
        with atomic_path(target) as temporary:
            temporary.write_bytes(answer.out)

    def stop(self, wait_s: int = 20) -> None:
        """Stop the agent, which restores the clocks, and wait for it.

        Raises:
            ConnectionLost: no answer.
        """
        script = (
            f"cd {self._quoted} 2>/dev/null || exit 0; {_ALIVE}; alive || exit 0; kill -TERM $pid 2>/dev/null; "
            f"i=0; while alive && [ $i -lt {2 * wait_s} ]; do sleep 0.5; i=$((i + 1)); done; true"
        )
        self.shell.run(script, timeout_s=COMMAND_TIMEOUT_S + wait_s)

    def log_tail(self) -> str:
        """Return the last lines of the agent's log; empty without one.

        Raises:
            ConnectionLost: no answer.
        """
        out = self.shell.run(f"tail -n 5 {self._quoted}/agent.log 2>/dev/null; true").out
        return out.decode(errors="replace").strip()

    def full_disk(self) -> UserError | None:
        """Return the error for a nearly full disk on the board, None otherwise.

        Raises:
            ConnectionLost: no answer.
        """
        left = _free_kb(self.shell.run(f"df -Pk {self._quoted} 2>/dev/null").out)
        return self._full(left) if left is not None and left < 1000 else None

    @property
    def _quoted(self) -> str:
        return shlex.quote(self.folder)

    def _send(self, files: list[tuple[Path, str]], *, prune: bool = False) -> None:
        """Send these files in order, skipping identical ones; ``prune`` removes other networks."""
        wanted = {name: _sha256(path) for path, name in files}
        names = " ".join(map(shlex.quote, wanted))
        survey = self._done(
            self.shell.run(
                f"mkdir -p {self._quoted}/onnx && cd {self._quoted} && df -Pk . && ls onnx | sed 's/^/old: /'; "
                f"[ -d {self._quoted} ] || exit 1; sha256sum -- {names} 2>/dev/null; true"
            )
        )
        present = _matching(survey.out, wanted)
        missing = [(path, name) for path, name in files if name not in present]
        there = re.findall(r"^old: (.+)$", survey.out.decode(errors="replace"), re.MULTILINE)
        old = [f"onnx/{name}" for name in there if f"onnx/{name}" not in wanted] if prune else []
        if not missing and not old:
            return
        needed_kb = sum(path.stat().st_size for path, _ in missing) // 1024 + 1
        left = _free_kb(survey.out)
        if left is not None and left < needed_kb + _SPARE_KB:
            raise self._full(left, needed_kb)
        remove = f"rm -f -- {' '.join(map(shlex.quote, old))} && " if old else ""
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder) / "kit.tar"
            with tarfile.open(bundle, "w") as tar:
                for path, name in missing:
                    tar.add(path, name)
            answer = self.shell.run(
                f"cd {self._quoted} && {remove}tar -xof - && sha256sum -- {names}",
                stdin=bundle,
                timeout_s=COMMAND_TIMEOUT_S + needed_kb * 1024 / _SLOWEST_BYTES_PER_S,
            )
        arrived = _matching(answer.out, wanted)
        if arrived != set(wanted):
            self._done(answer)
            raise ConnectionLost(f"{len(wanted) - len(arrived)} of {len(wanted)} files did not arrive whole")

    def _done(self, answer: Answer) -> Answer:
        """Run a script that has to succeed; return its answer."""
        if answer.code == 0:
            return answer
        place = f"{self.folder} on {self.shell.place}"
        if "No space left" in answer.err or "Disk quota" in answer.err:
            raise self._full(0)
        if "Permission denied" in answer.err or "Read-only" in answer.err:
            raise UserError(
                f"{place} cannot be written ({answer.err.splitlines()[-1]}). Choose another folder: board.dir."
            )
        cause = answer.err.splitlines()[-1] if answer.err else f"exit status {answer.code}"
        raise UserError(
            f"{place} cannot be used ({cause}). Put that right on the board and run the same command again."
        )

    def _full(self, left_kb: int, needed_kb: int = _SPARE_KB) -> UserError:
        return UserError(
            f"the disk of {self.shell.place} is full: {self.folder} has {left_kb / 1000:.0f} MB left and needs "
            f"{(needed_kb + _SPARE_KB) / 1000:.0f}. Free some space there, or name a larger disk with board.dir, and run the "
            "same command again; nothing that was measured is lost."
        )


def _matching(out: bytes, wanted: dict[str, str]) -> set[str]:
    """Names with the expected checksum in the output of sha256sum."""
    found = re.findall(r"^([0-9a-f]{64}) [ *](.+)$", out.decode(errors="replace"), re.MULTILINE)
    return {name for digest, name in found if wanted.get(name) == digest}


def _free_kb(out: bytes) -> int | None:
    """Free kB in the output of ``df -Pk``."""
    found = re.search(r"^.+?\s+\d+\s+\d+\s+(\d+)\s+\d+%\s", out.decode(errors="replace"), re.MULTILINE)
    return int(found[1]) if found else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
