"""Connection by ``ssh``: key authentication, host key checking, and one sentence for each kind of refusal."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from hw_latency_model.board.device_config import SshSection
from hw_latency_model.board.transport.shell import COMMAND_TIMEOUT_S, Answer, ConnectionLost, Shell, run_command
from search_spaces._common.errors import UserError

_SSH_FAILED = 255
_OPTIONS = {
    # Keys only: no password prompt, and none is ever sent.
    "BatchMode": "yes",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "PreferredAuthentications": "publickey",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    # Each request has its own connection, so that a dead one is not reused.
    "ControlMaster": "no",
    "ControlPath": "none",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "EscapeChar": "none",
    "LogLevel": "ERROR",
}


class SshShell(Shell):
    """A host reached with the system's ``ssh``; ``~/.ssh/config`` applies where the section is silent."""

    def __init__(self, section: SshSection) -> None:
        self.section = section
        self.place = f"{section.user}@{section.host}" if section.user else section.host

    def run(self, script: str, *, stdin: Path | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        # Works with any login shell, which only passes one quoted word to sh.
        answer = run_command([*self._command(), f"sh -c {shlex.quote(script)}"], stdin, timeout_s)
        if answer.code == _SSH_FAILED or answer.code < 0:
            self._refuse(answer.err)
            raise ConnectionLost(_last_line(answer.err) or "the connection ended")
        return answer

    def _command(self) -> list[str]:
        section = self.section
        command = ["ssh", "-T"]
        for key, value in _OPTIONS.items():
            command += ["-o", f"{key}={value}"]
        if section.identity_file is not None:
            command += ["-i", str(section.identity_file), "-o", "IdentitiesOnly=yes"]
        if section.known_hosts is not None:
            command += ["-o", f'UserKnownHostsFile="{section.known_hosts}"', "-o", "GlobalKnownHostsFile=/dev/null"]
        if section.port is not None:
            command += ["-p", str(section.port)]
        if section.user is not None:
            command += ["-l", section.user]
        return [*command, "--", section.host]

    def _refuse(self, error: str) -> None:
        """Raise UserError for a refusal that a retry cannot solve."""
        section = self.section
        port = section.port or 22
        known = section.known_hosts or Path("~/.ssh/known_hosts")
        if "REMOTE HOST IDENTIFICATION HAS CHANGED" in error or "Offending" in error:
            entry = section.host if port == 22 else f"[{section.host}]:{port}"
            raise UserError(
                f"{self.place} shows another host key than the one in {known}: it was reinstalled, or something stands in "
                f"between. Nothing was sent. If you know why, run `ssh-keygen -R '{entry}' -f {known}` and add the new key."
            )
        if "Host key verification failed" in error or "host key is known for" in error:
            raise UserError(
                f"the host key of {self.place} is not in {known}, and it is never taken unseen. Compare "
                f"`ssh-keyscan -p {port} {section.host} | ssh-keygen -lf -` with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` "
                f"on the board; when they agree, run `ssh-keyscan -p {port} {section.host} >> {known}` and try again."
            )
        if "UNPROTECTED PRIVATE KEY" in error or "bad permissions" in error:
            raise UserError(
                f"ssh does not use the key {section.identity_file}: others may read it. Run `chmod 600 {section.identity_file}`."
            )
        if "Permission denied" in error or "Too many authentication failures" in error:
            key = section.identity_file or Path("~/.ssh/id_ed25519")
            offered = re.search(r"Permission denied \(([^)]*)\)", error)
            only = " (it offers passwords, which are never used)" if offered and "password" in offered[1] else ""
            raise UserError(
                f"{self.place} accepts none of our keys{only}. Add one on the board: "
                f"`ssh-copy-id -i {key}.pub -p {port} {self.place}`, or name another with ssh.identity_file."
            )
        if "Bad configuration option" in error or "no argument after keyword" in error:
            raise UserError(f"ssh does not take its configuration ({_last_line(error)}). Correct ~/.ssh/config.")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
