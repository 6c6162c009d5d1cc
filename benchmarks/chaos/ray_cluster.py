"""A Ray cluster of several nodes on loopback: its processes are started here and ended by number, never by `ray stop`."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.processes import MARK, descendants, kill, kill_tree
from search_spaces._common.errors import UserError
from trial_runner.backends.ray_session import cluster_environment
from trial_runner.cluster.node import ray_command

_UP_S = 120.0
_POLL_S = 0.2
_STARTED = "Ray runtime started"


@dataclass
class _Node:
    process: subprocess.Popen[bytes]
    log: Path


class RayCluster:
    """A head and worker nodes of one CPU each, every one with a loopback address and a folder of its own.

    Args:
        folder: with a short path, for Ray's sockets.
        nodes: their number, with the head.

    Attributes:
        address: ``HOST:PORT`` of the head, for ``compute.ray_address``.
    """

    def __init__(self, folder: Path, nodes: int) -> None:
        self._folder, self._count = folder, nodes
        self._token = folder / "token"
        with os.fdopen(os.open(self._token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        self._started = 0
        self._nodes: list[_Node] = []
        self.address = ""

    @property
    def environment(self) -> dict[str, str]:
        """Variables that a process needs to join the cluster."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self._token)}

    def start(self) -> None:
        """Start all nodes, the head first, and wait for them."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._await(self._start_node(head=True))
        for node in [self._start_node() for _ in range(self._count - 1)]:
            self._await(node)

    def add_node(self) -> None:
        """Let a new node join."""
        self._await(self._start_node())

    def kill_node(self, index: int) -> None:
        """Send SIGKILL to the raylet of a worker node, and to what it leaves behind."""
        node = self._nodes.pop(1 + index % (len(self._nodes) - 1))
        for pid, name in descendants(node.process.pid).items():
            if "raylet/raylet " in name:
                kill(pid)
        node.process.wait(_UP_S)  # `ray start --block` ends with its raylet

    def kill_head_service(self) -> None:
        """Send SIGKILL to the control service (GCS), without which the cluster is lost."""
        for pid, name in descendants(self._nodes[0].process.pid).items():
            if "gcs_server" in name.split(" ")[0]:
                kill(pid)

    def workers(self) -> list[int]:
        """Return the processes that train trials."""
        found = [item for node in self._nodes for item in descendants(node.process.pid).items()]
        return sorted(pid for pid, name in found if name.startswith("ray::ImplicitFunc"))

    def stop(self) -> None:
        """End all nodes at once, with SIGKILL: a lost head would let them wait."""
        for node in self._nodes:
            kill_tree(node.process.pid)
            node.process.wait(_UP_S)
            try:
                os.killpg(node.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._nodes = []

    def _start_node(self, *, head: bool = False) -> _Node:
        self._started += 1
        folder = self._folder / f"n{self._started}"
        folder.mkdir()
        log = self._folder / f"n{self._started}.log"
        command = ray_command(argparse.Namespace(cpus=1, gpus=0, head=head, address=self.address), folder)
        if not head:
            command.append(f"--node-ip-address=127.0.0.{1 + self._started}")
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**cluster_environment(self._token), MARK: "cluster"},
                start_new_session=True,
            )
        node = _Node(process, log)
        self._nodes.append(node)
        return node

    def _await(self, node: _Node) -> None:
        deadline = time.monotonic() + _UP_S
        while _STARTED not in node.log.read_text(errors="replace"):
            if node.process.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"a Ray node did not start: {node.log.read_text(errors='replace')[-2000:]}")
            time.sleep(_POLL_S)
