"""Boards that are not there: a simulated Jetson, its kit, and a machine behind ssh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_board.harness import Kit
from fake_board.python36 import need_python36
from fake_board.tree import FakeBoard, make_board
from loopback_sshd import LoopbackSshd


@pytest.fixture
def board(tmp_path: Path) -> FakeBoard:
    return make_board(tmp_path / "root", need_python36())


@pytest.fixture
def kit(board: FakeBoard, tmp_path: Path) -> Kit:
    return Kit(tmp_path / "kit", board.python, board.root)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    server = LoopbackSshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()
