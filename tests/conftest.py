"""Shared by all tests: one torch thread, no network, and where the real data lie."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from child_signals import restore_interrupt
from postgres_server import postgres, postgres_server, postgres_url  # noqa: F401  (fixtures)
from shared_data import SHARED

restore_interrupt()

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data sets and measurements that is handed round beside the checkout (never committed)."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED}; set PARETOSEG_SHARED to the folder that holds datasets/camvid")
    return SHARED
