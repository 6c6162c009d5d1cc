"""A real sshd on the loopback address, with keys and a home folder of its own, for one test module."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from hw_latency_model.board.device_config import SshSection

_SSHD = next((path for path in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if Path(path).is_file()), None)

_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin {root}
PubkeyAuthentication {keys}
PasswordAuthentication {passwords}
KbdInteractiveAuthentication no
MaxStartups 100
SetEnv HOME={folder}/login
"""


class LoopbackSshd:
    """An sshd that is started and stopped by its process id.

    Attributes:
        section: how to reach it with the right key and the right host key.
    """

    def __init__(self, folder: Path, *, password_only: bool = False) -> None:
        if _SSHD is None or shutil.which("ssh") is None:
            pytest.skip("needs OpenSSH's server and client (packages openssh-server, openssh-client: make test-deps)")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd's privilege separation wants it; a service would make it
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "login").mkdir(exist_ok=True)  # the user's own start-up files say nothing and cost nothing
        for name in ("host_key", "key", "strange_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        shutil.copy(folder / "key.pub", folder / "authorized_keys")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        host_key = (folder / "host_key.pub").read_text()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}")
        config = _CONFIG.format(
            port=self.port,
            folder=folder,
            root="yes" if password_only else "prohibit-password",
            keys="no" if password_only else "yes",
            passwords="yes" if password_only else "no",
        )
        (folder / "sshd_config").write_text(config)
        self.section = SshSection(
            host="127.0.0.1",
            user=getpass.getuser(),
            port=self.port,
            identity_file=folder / "key",
            known_hosts=folder / "known_hosts",
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Listen again."""
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(_SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=log, stdin=subprocess.DEVNULL
            )
        for _ in range(100):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError((self.folder / "sshd.log").read_text())

    def stop(self) -> None:
        """Stop listening and cut every session; what sessions left running in sessions of its own goes on."""
        if self._process is not None:
            for pid in self.sessions():
                _kill(pid)
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def sessions(self) -> list[int]:
        """Process ids of the sshd processes that serve a connection."""
        assert self._process is not None
        found, parents = [], {self._process.pid}
        for _ in range(2):  # the monitor, and the unprivileged child where there is one
            parents = {pid for pid, parent, name in _processes() if parent in parents and name == "sshd"}
            found += sorted(parents)
        return found

    def cut_sessions(self) -> int:
        """Kill every connection as a pulled cable does; returns how many processes there were."""
        pids = self.sessions()
        for pid in pids:
            _kill(pid)
        return len(pids)


def _processes() -> list[tuple[int, int, str]]:
    rows = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = path.read_text().rpartition(")")
        except OSError:
            continue
        pid, _, name = head.partition(" (")
        rows.append((int(pid), int(tail.split()[1]), name))
    return rows


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
