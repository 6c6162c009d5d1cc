"""Ray Tune backend. Tune only executes; the `StudyDriver` in this process decides what runs and records the results.

`ray.tune.search.optuna.OptunaSearch` does not serve: see docs/decisions.md.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from ray.tune.callback import Callback
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.schedulers.trial_scheduler import FIFOScheduler
from ray.tune.search import Searcher

from hw_latency_model.agent.cores import available_cores
from search_spaces._common.errors import UserError
from trial_runner import stopping
from trial_runner.backends.ray_session import RaySession, ray_environment
from trial_runner.config.study import ComputeSection
from trial_runner.search.driver import StudyDriver
from trial_runner.training.trial_spec import Progress, TrialFailed, TrialSpec

logger = logging.getLogger("paretoseg")
_WATCH_S = 5.0


def train(config: dict[str, Any]) -> None:
    """Train one trial on a Tune worker; each evaluation is reported as JSON text."""
    _train(config, tune.report)


def train_together(config: dict[str, Any]) -> None:
    """Train one trial on a worker of a Ray Train group; only the first worker's reports count."""
    from ray.train import report
    from ray.train.torch import get_device

    if torch.cuda.is_available():
        torch.cuda.set_device(get_device())
    _train(config, report)


def _train(config: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
    from trial_runner.training.trial import run_trial

    def report(progress: Progress) -> bool:
        tell({"epoch": progress.epoch, "val_miou": progress.val_miou, "progress": json.dumps(progress.to_dict())})
        return False

    try:
        run_trial(TrialSpec.from_dict(json.loads(config["spec"])), report)
    except TrialFailed as error:
        tell({"failure": str(error)})
    except UserError as error:
        tell({"fatal": str(error)})


def _trainable(compute: ComputeSection) -> Any:
    """Return the trainable of a trial: a function in one process, or a group of processes under Ray Train."""
    if compute.workers_per_trial == 1:
        return tune.with_resources(train, {"cpu": compute.cpus_per_trial, "gpu": compute.gpus_per_trial})
    from ray.train import ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpus = compute.gpus_per_trial
    return TorchTrainer(
        train_together,
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=compute.workers_per_trial,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": compute.cpus_per_trial, **({"GPU": gpus} if gpus else {})},
            trainer_resources={"CPU": 0},
        ),
    )


class _Bridge:
    """State shared by searcher and scheduler: the trial number of each Tune trial, and the failures reported."""

    def __init__(self, driver: StudyDriver) -> None:
        self.driver = driver
        self.numbers: dict[str, int] = {}
        self.failures: dict[str, str] = {}
        self.fatal: UserError | None = None


class _Searcher(Searcher):
    """Asks the driver for as many trials as there are slots, and reports their ends to it."""

    def __init__(self, bridge: _Bridge, compute: ComputeSection) -> None:
        super().__init__(metric=None, mode=None)
        self._bridge, self._compute = bridge, compute

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._bridge.fatal or len(self._bridge.numbers) >= slots(self._compute):
            return None
        try:
            if not self._bridge.driver.ready():
                return None  # the database is away: Ray asks again
            spec = self._bridge.driver.ask()
        except UserError as error:
            self._bridge.fatal = error
            return None
        if spec is None:
            # A trial that still runs may leave a network to train further: Ray asks again until none does.
            return None if self._bridge.numbers else Searcher.FINISHED
        self._bridge.numbers[trial_id] = spec.number
        order = {"spec": json.dumps(spec.to_dict())}
        return order if self._compute.workers_per_trial == 1 else {"train_loop_config": order}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._bridge.numbers.pop(trial_id, None)
        if number is not None and not self._bridge.fatal:
            failure = self._bridge.failures.pop(trial_id, "the worker died without a message" if error else None)
            try:
                self._bridge.driver.finish(number, failure)
            except UserError as error:
                self._bridge.fatal = error

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file: the study's state is in its database, and a storage URL must not appear in Tune's files."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a study is resumed from its database, by launching it again")

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Scheduler(FIFOScheduler):
    """Passes every report to the driver, including the last one, and stops a trial on the driver's decision."""

    _supports_buffered_results = False

    def __init__(self, bridge: _Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        if "fatal" in result:
            self._bridge.fatal = UserError(result["fatal"])
            return TrialScheduler.CONTINUE
        if "failure" in result:
            self._bridge.failures[trial.trial_id] = result["failure"]
            return TrialScheduler.STOP
        if "progress" not in result or trial.trial_id not in self._bridge.numbers:
            return TrialScheduler.CONTINUE
        progress = Progress.from_dict(json.loads(result["progress"]))
        try:
            stop = self._bridge.driver.progress(self._bridge.numbers[trial.trial_id], progress)
        except UserError as error:  # Tune would make it a failure of the trial
            self._bridge.fatal = error
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        self._bridge.failures[trial.trial_id] = _why(trial)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _why(trial: Trial) -> str:
    error = trial.get_pickled_error()
    if isinstance(error, RayTaskError):
        cause = error.cause
        return f"{type(cause).__name__}: {cause}".splitlines()[0]
    if isinstance(error, OutOfMemoryError):
        return "the machine ran out of memory; lower training.batch_size or raise compute.cpus_per_trial so that fewer trials run at once"
    if isinstance(error, RayActorError):
        return "the worker process died (killed, out of memory, or a crash in native code) more often than compute.max_failures allows"
    return f"{type(error).__name__}: {error}".splitlines()[0] if error else "the worker died without a message"


class _Watch(Callback):
    """Ends the run on errors that concern all trials; a callback, because Tune catches what its other hooks raise.

    On a local cluster it also detects the death of Ray's own processes: Tune would wait for a node forever.
    """

    def __init__(self, bridge: _Bridge, *, local: bool) -> None:
        self._bridge, self._local = bridge, local
        self._next = 0.0

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = self._bridge.numbers.get(trial.trial_id)
        logger.warning("the worker of trial %s died; the trial goes on from its checkpoint on another", number)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        stopping.check()
        if self._bridge.fatal:
            raise self._bridge.fatal
        self._bridge.driver.catch_up()
        if not self._local or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _WATCH_S
        if not any(node["Alive"] for node in ray.nodes()):
            raise UserError(
                "Ray's own processes on this machine have died, most often for want of memory. "
                "The study is kept; free some memory and run the same command again."
            )


def slots(compute: ComputeSection) -> int:
    """Trials that can run side by side on what the cluster has now."""
    resources, workers = ray.cluster_resources(), compute.workers_per_trial
    by_cpu = resources.get("CPU", 0) / (workers * compute.cpus_per_trial)
    by_gpu = resources.get("GPU", 0) / (workers * compute.gpus_per_trial) if compute.gpus_per_trial else by_cpu
    return max(int(min(by_cpu, by_gpu) + 1e-9), 1)


class RayTuneBackend:
    """Runs trials side by side on Ray Tune.

    Ray is started for one run alone, on loopback, unless ``compute.ray_address`` names a cluster; it is shut down again in every
    case, Ctrl-C included.
    """

    exports_inline = False

    def __init__(self, compute: ComputeSection) -> None:
        self._compute = compute

    def run(self, driver: StudyDriver) -> None:
        """Run trials until the driver has no more; see `Backend.run`.

        Raises:
            UserError: the cluster cannot be reached, or lacks the resources of one trial.
        """
        compute = self._compute
        with ray_environment(compute), RaySession(compute, available_cores(), torch.cuda.device_count()) as session:
            _check_resources(compute)
            bridge = _Bridge(driver)
            tuner = tune.Tuner(
                _trainable(compute),
                tune_config=tune.TuneConfig(
                    search_alg=_Searcher(bridge, compute),
                    scheduler=_Scheduler(bridge),
                    num_samples=-1,
                    reuse_actors=compute.workers_per_trial == 1,
                ),
                run_config=tune.RunConfig(
                    storage_path=str(session.folder),
                    name="study",
                    verbose=0,
                    progress_reporter=tune.CLIReporter(),  # the one of notebooks shows a widget in spite of verbose=0
                    failure_config=tune.FailureConfig(max_failures=compute.max_failures),
                    log_to_file=False,
                    callbacks=[_Watch(bridge, local=compute.ray_address is None)],
                ),
            )
            tuner.fit()


def _check_resources(compute: ComputeSection) -> None:
    have = ray.cluster_resources()
    workers = compute.workers_per_trial
    for kind, need in (("CPU", compute.cpus_per_trial), ("GPU", compute.gpus_per_trial)):
        if workers * need > have.get(kind, 0):
            times = f" times workers_per_trial {workers}" if workers > 1 else ""
            raise UserError(
                f"compute.{kind.lower()}s_per_trial is {need:g}{times} but the cluster has {have.get(kind, 0):g} {kind}s. "
                "Lower it, or add nodes."
            )
