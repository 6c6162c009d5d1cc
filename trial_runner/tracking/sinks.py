"""Tracking tools of a study: opened before the launch, fed with each trial that ends, dropped when they fail."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.objective import Objective
from objectives.trial_record import TrialRecord
from search_spaces._common.errors import UserError
from trial_runner.tracking.base import TrackedTrial, TrialSink


@dataclass(frozen=True)
class _Tool:
    module: str
    extra: str
    opener: Callable[[str, Path], TrialSink]


def _tensorboard(study: str, folder: Path) -> TrialSink:
    from trial_runner.tracking.tensorboard import TensorBoardSink

    return TensorBoardSink(folder / "tensorboard")


def _mlflow(study: str, folder: Path) -> TrialSink:
    from trial_runner.tracking.mlflow import MlflowSink

    return MlflowSink(study, folder / "mlflow.db")


def _wandb(study: str, folder: Path) -> TrialSink:
    from trial_runner.tracking.wandb import WandbSink

    return WandbSink(study, folder)


TOOLS: Mapping[str, _Tool] = {
    "tensorboard": _Tool("tensorboardX", "tensorboard", _tensorboard),
    "mlflow": _Tool("mlflow", "mlflow", _mlflow),
    "wandb": _Tool("wandb", "wandb", _wandb),
}


def check_tracking(names: Sequence[str]) -> None:
    """Refuse tools that are not installed.

    Raises:
        UserError: the first of them is named, with the command that installs it.
    """
    for name in names:
        if importlib.util.find_spec(TOOLS[name].module) is None:
            raise UserError(
                f"study.tracking names {name}, which is not installed. Run: pip install 'paretoseg[{TOOLS[name].extra}]', or take "
                "it out of the list."
            )


class TrialSinks:
    """The tracking tools of a launch. One that fails is dropped with a sentence; the study goes on.

    Args:
        sinks: by name.
        objectives: of the study.
        say: prints a line.
    """

    def __init__(
        self, sinks: Mapping[str, TrialSink], objectives: Sequence[Objective], say: Callable[[str], None]
    ) -> None:
        self._sinks, self._objectives, self._say = dict(sinks), tuple(objectives), say

    def ended(self, record: TrialRecord) -> None:
        """Pass on a trial that ended; refused and repeated ones, which trained nothing, are left out."""
        if record.score is None or record.duplicate_of is not None:
            return
        trial = tracked(record, self._objectives)
        self._each(lambda sink: sink.write(trial))

    def close(self) -> None:
        """End all tools."""
        self._each(lambda sink: sink.close())

    def _each(self, act: Callable[[TrialSink], None]) -> None:
        for name, sink in list(self._sinks.items()):
            try:
                act(sink)
            except sink.errors as error:
                del self._sinks[name]
                first = (str(error).splitlines() or [type(error).__name__])[0]
                self._say(f"tracking: {name} takes no more trials in this launch ({first}); the study goes on")


def open_sinks(
    names: Sequence[str], study: str, folder: Path, objectives: Sequence[Objective], say: Callable[[str], None]
) -> TrialSinks:
    """Open the tracking tools of a study.

    Args:
        names: keys of `TOOLS`.
        study: name of the study, which is the experiment's or the project's.
        folder: the study's folder, where they keep their files.
        objectives: of the study.
        say: prints a line.

    Raises:
        UserError: a tool is not installed, or cannot be opened.
    """
    check_tracking(names)
    return TrialSinks({name: TOOLS[name].opener(study, folder) for name in names}, objectives, say)


def tracked(record: TrialRecord, objectives: Sequence[Objective]) -> TrackedTrial:
    """Return a record as tracking tools take it; values that are not known are left out."""
    score = record.score
    values: dict[str, float | None] = {item.name.replace(":", "_"): item.value(record) for item in objectives}
    values |= {
        "val_miou": record.val_miou,
        "latency_ms": record.latency_ms,
        "epochs": score.epoch if score else None,
        "macs": score.macs if score else None,
        "parameters": score.params if score else None,
        "duration_s": record.duration_s,
    }
    params: dict[str, Any] = {
        name: value if isinstance(value, bool | int | float) else str(value) for name, value in record.params.items()
    }
    return TrackedTrial(
        f"trial-{record.number:05d}",
        str(record.outcome),
        params,
        {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)},
        record.curve,
        record.reason or "",
    )
