"""A study small enough for a test: a handful of 32x64 scenes, thin networks, this machine's own latency model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from launching import TINY

from hw_latency_model import calibrate, get_device
from search_spaces import get_space


@pytest.fixture(scope="session")
def latency_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latency model calibrated on this machine in a few seconds: rough, but the real thing."""
    space = get_space("encoder_decoder", {"widths": [0.25, 0.5], "resolutions_px": [(32, 64), (64, 64)]})
    report = calibrate(get_device("local-cpu"), space, 14, tmp_path_factory.mktemp("local-cpu"), budget_s=15)
    return Path(report.model_path)


@pytest.fixture
def write_study(tmp_path: Path, latency_model_path: Path) -> Callable[..., Path]:
    """Write a tiny study's YAML into the test's folder; keyword arguments change what tests like to change."""

    def write(
        *,
        trials: int = 3,
        epochs: int = 2,
        rungs: tuple[int, ...] = (),
        backend: str = "inprocess",
        budget_ms: float = 1000.0,
        measure: bool = False,
    ) -> Path:
        text = TINY.format(
            model=latency_model_path,
            budget_ms=budget_ms,
            epochs=epochs,
            trials=trials,
            rungs=list(rungs),
            backend=backend,
            measure=str(measure).lower(),
        )
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return path

    return write
