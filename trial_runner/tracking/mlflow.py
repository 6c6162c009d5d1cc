"""MLflow runs: an experiment for the study, a run for each trial."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from search_spaces._common.errors import UserError
from trial_runner.tracking.base import TrackedTrial

_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_LONGEST_PARAM = 500


class MlflowSink:
    """Writes to ``MLFLOW_TRACKING_URI``, or to a database in the study's folder where it is not set.

    Attributes:
        errors: of MLflow and of the connection.

    Raises:
        UserError: the server or database cannot be used.
    """

    errors: tuple[type[Exception], ...] = (MlflowException, OSError)

    def __init__(self, study: str, database: Path) -> None:
        address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}"
        try:
            self._client = MlflowClient(tracking_uri=address)
            found = self._client.get_experiment_by_name(study)
            self._experiment = found.experiment_id if found else self._client.create_experiment(study)
        except self.errors as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"study.tracking names mlflow, which cannot be opened: {said}. Correct MLFLOW_TRACKING_URI, or take it out of the list."
            ) from error

    def write(self, trial: TrackedTrial) -> None:
        now = int(time.time() * 1000)
        run = self._client.create_run(self._experiment, run_name=trial.name).info.run_id
        metrics = [Metric("curve_val_miou", miou, now, epoch) for epoch, miou in trial.curve]
        metrics += [Metric(name, value, now, 0) for name, value in trial.metrics.items()]
        params = [Param(name, str(value)[:_LONGEST_PARAM]) for name, value in trial.params.items()]
        tags = [RunTag("outcome", trial.outcome), RunTag("reason", trial.reason)]
        for at in range(0, len(metrics), 900):  # a batch holds 1000 metrics at most
            self._client.log_batch(run, metrics=metrics[at : at + 900])
        self._client.log_batch(run, params=params, tags=tags)
        self._client.set_terminated(run, status=_STATUS.get(trial.outcome, "FINISHED"))

    def close(self) -> None:
        """Do nothing: each trial's run is ended when it was written."""
