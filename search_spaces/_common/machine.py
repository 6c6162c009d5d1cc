"""The name of this machine."""

from __future__ import annotations

import os
import socket


def node_name() -> str:
    """Name of this machine in its cluster: the batch system's own name of the node, or the host's."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()
