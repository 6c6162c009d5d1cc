"""Transports to a board: ``ssh``, ``local`` (this machine), and ``offline`` (e.g. by USB drive)."""

from __future__ import annotations

import shlex
import sys

from hw_latency_model.board.device_config import DeviceConfig
from hw_latency_model.board.transport.agent_link import (
    DONE_EXIT,
    RESUMABLE_EXIT,
    USER_EXIT,
    AgentLink,
    AgentState,
    Poll,
)
from hw_latency_model.board.transport.offline import find_results, write_offline_kit
from hw_latency_model.board.transport.retry import RetryPolicy
from hw_latency_model.board.transport.shell import ConnectionLost, LocalShell
from hw_latency_model.board.transport.ssh import SshShell

__all__ = [
    "DONE_EXIT",
    "RESUMABLE_EXIT",
    "USER_EXIT",
    "AgentLink",
    "AgentState",
    "ConnectionLost",
    "Poll",
    "RetryPolicy",
    "find_results",
    "open_link",
    "write_offline_kit",
]


def open_link(config: DeviceConfig, session: str) -> AgentLink:
    """Create the link to the board that ``config`` names; nothing is sent yet.

    Raises:
        ValueError: the transport is ``offline``, which has no link.
    """
    board = config.board
    if config.transport == "ssh":
        assert config.ssh is not None
        return AgentLink(SshShell(config.ssh), board.dir, session, board.python or "python3")
    if config.transport == "local":
        root = config.calibration.output_dir / board.dir
        return AgentLink(LocalShell(), str(root), session, board.python or shlex.quote(sys.executable))
    raise ValueError(f"transport {config.transport} has no link")
