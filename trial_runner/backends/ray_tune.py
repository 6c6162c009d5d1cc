"""Ray Tune backend. Tune only executes; the `StudyDriver` in this process decides what runs and records the results.

`ray.tune.search.optuna.OptunaSearch` does not serve: see docs/decisions.md.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray import cloudpickle, tune
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
from trial_runner.backends.gpu_share import GpuShare
from trial_runner.backends.ray_session import RaySession, ray_environment
from trial_runner.config.study import ComputeSection
from trial_runner.search.driver import StudyDriver
from trial_runner.study.job import JOB_VARIABLE
from trial_runner.training.distributed import DistributedContext
from trial_runner.training.trial_spec import Progress, TrialFailed, TrialSpec

logger = logging.getLogger("paretoseg")
_ROUNDING = 1e-6
_JOIN_S = 120.0
_POLL_S = 0.5


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
    except (TrialFailed, UserError) as error:
        if not DistributedContext.current().all_failed():
            raise  # Ray ends the other processes of the trial, which wait for this one
        if isinstance(error, TrialFailed):
            tell({"failure": str(error), "out_of_memory": error.out_of_memory})
        else:
            tell({"fatal": str(error)})


def _trainable(compute: ComputeSection) -> Any:
    """Return the trainable of a trial: a function in one process, or a group of processes under Ray Train."""
    if compute.workers_per_trial == 1:
        return tune.with_resources(
            train, lambda config: tune.PlacementGroupFactory([{"CPU": compute.cpus_per_trial, "GPU": config["gpus"]}])
        )
    from ray.train import ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpus = GpuShare(compute).next(0)
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
    """State shared by searcher and scheduler: order and GPUs of each Tune trial, and the failures reported.

    Attributes:
        numbers: trial number by Tune's id.
        orders: order and GPUs by Tune's id.
        too_small: Tune's ids of trials that ran out of memory on a share that was measured.
        not_begun: Tune's ids of trials that were given to a worker that had died before.
        again: orders to be repeated, with their GPUs: a whole one, where their share of one did not suffice.
    """

    def __init__(self, driver: StudyDriver, compute: ComputeSection) -> None:
        self.driver = driver
        self.share = GpuShare(compute)
        self.numbers: dict[str, int] = {}
        self.orders: dict[str, tuple[TrialSpec, float]] = {}
        self.again: list[tuple[TrialSpec, float]] = []
        self.failures: dict[str, str] = {}
        self.too_small: set[str] = set()
        self.not_begun: set[str] = set()
        self.fatal: UserError | None = None


class _Searcher(Searcher):
    """Asks the driver for as many trials as there are slots, and reports their ends to it."""

    def __init__(self, bridge: _Bridge, compute: ComputeSection) -> None:
        super().__init__(metric=None, mode=None)
        self._bridge, self._compute = bridge, compute

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        bridge = self._bridge
        if bridge.fatal:
            # Where no trial runs, Tune would ask for ten minutes, and `_Watch` end nothing meanwhile.
            return Searcher.FINISHED
        nodes = node_resources()
        gpus = bridge.again[0][1] if bridge.again else bridge.share.next(sum(node.get("GPU", 0) for node in nodes))
        taken = [share for _, share in bridge.orders.values()]
        if taken and not has_room(nodes, self._compute, taken, gpus):
            return None
        try:
            if not bridge.driver.ready():
                return None  # the database is away: Ray asks again
            spec = bridge.again.pop(0)[0] if bridge.again else bridge.driver.ask()
        except UserError as error:
            bridge.fatal = error
            return Searcher.FINISHED
        if spec is None:
            # A trial that still runs may leave a network to train further: Ray asks again until none does.
            return None if bridge.numbers else Searcher.FINISHED
        bridge.numbers[trial_id] = spec.number
        bridge.orders[trial_id] = spec, gpus
        order = {"spec": json.dumps(spec.to_dict())}
        return {**order, "gpus": gpus} if self._compute.workers_per_trial == 1 else {"train_loop_config": order}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._bridge.numbers.pop(trial_id, None)
        spec, gpus = self._bridge.orders.pop(trial_id, (None, 0.0))
        if spec is not None and trial_id in self._bridge.too_small and 0 < gpus < 1:
            logger.warning("trial %s needs more than %g of a GPU; it goes on with a whole one", number, gpus)
            self._bridge.failures.pop(trial_id, None)
            self._bridge.again.append((spec, 1.0))
            return
        if spec is not None and trial_id in self._bridge.not_begun:
            self._bridge.failures.pop(trial_id, None)
            self._bridge.again.append((spec, gpus))
            return
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
            if self._bridge.share.auto and result.get("out_of_memory"):
                self._bridge.too_small.add(trial.trial_id)
            return TrialScheduler.STOP
        if "progress" not in result or trial.trial_id not in self._bridge.numbers:
            return TrialScheduler.CONTINUE
        progress = Progress.from_dict(json.loads(result["progress"]))
        self._bridge.share.note(self._bridge.numbers[trial.trial_id], progress.gpu_peak)
        try:
            stop = self._bridge.driver.progress(self._bridge.numbers[trial.trial_id], progress)
        except UserError as error:  # Tune would make it a failure of the trial
            self._bridge.fatal = error
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        if trial in tune_controller._resetting_trials and isinstance(_error_of(trial), RayActorError):
            # Its worker died while it was idle. Tune would fail the trial, and keep its place.
            self._bridge.not_begun.add(trial.trial_id)
            tune_controller._resetting_trials.discard(trial)
            if trial in tune_controller._staged_trials:
                tune_controller._unstage_trial_with_resources(trial)
        self._bridge.failures[trial.trial_id] = _why(trial)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _error_of(trial: Trial) -> Any:
    """Return the last error of a trial; None where Tune has none. Tune's own reader looks where it is stored only at the end of a run."""
    path = trial.pickled_error_file
    return cloudpickle.loads(Path(path).read_bytes()) if path is not None and Path(path).is_file() else None


def _why(trial: Trial) -> str:
    error = _error_of(trial)
    if isinstance(error, RayTaskError):
        cause = error.cause
        if isinstance(cause, TrialFailed | UserError):
            return str(cause)
        return f"{type(cause).__name__}: {cause}".splitlines()[0]
    if isinstance(error, OutOfMemoryError):
        return "the machine ran out of memory; lower training.batch_size or raise compute.cpus_per_trial so that fewer trials run at once"
    if isinstance(error, RayActorError):
        return "the worker process died (killed, out of memory, or a crash in native code) more often than compute.max_failures allows"
    return f"{type(error).__name__}: {error}".splitlines()[0] if error else "the worker died without a message"


class _Watch(Callback):
    """Ends the run on errors that concern all trials; a callback, because Tune catches what its other hooks raise."""

    def __init__(self, bridge: _Bridge) -> None:
        self._bridge = bridge

    def __getstate__(self) -> dict[str, Any]:
        """Empty state: Tune writes its callbacks into a file, and the driver holds locks and the storage's password."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._bridge.not_begun.discard(trial.trial_id)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = self._bridge.numbers.get(trial.trial_id)
        logger.warning("the worker of trial %s died; the trial goes on from its checkpoint on another", number)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        stopping.check()
        if self._bridge.fatal:
            raise self._bridge.fatal
        self._bridge.driver.catch_up()


def node_resources() -> list[dict[str, float]]:
    """CPUs and GPUs of each node that is in the cluster now; nodes come and go."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def has_room(
    nodes: Sequence[Mapping[str, float]], compute: ComputeSection, taken: Sequence[float], gpus: float
) -> bool:
    """Return True where the nodes have room for one more trial.

    A process of a trial runs on one node, so what is left over on two nodes does not add up to a place.

    Args:
        taken: GPUs of each process of the trials that run.
        gpus: GPUs of each process of the next one.
    """
    free = [_Node(node.get("CPU", 0.0), [1.0] * int(node.get("GPU", 0.0))) for node in nodes]
    workers = compute.workers_per_trial
    wanted = sorted((share for share in taken for _ in range(workers)), reverse=True) + [gpus] * workers
    return all(any(node.place(compute.cpus_per_trial, share) for node in free) for share in wanted)


class _Node:
    """Free resources of a node: CPUs, and the share of each GPU."""

    def __init__(self, cpus: float, gpus: list[float]) -> None:
        self._cpus, self._gpus = cpus, gpus

    def place(self, cpus: float, gpus: float) -> bool:
        """Take what a process needs; False where there is not enough. A share below 1 is of one GPU, others are whole ones."""
        whole = [at for at, left in enumerate(self._gpus) if left + _ROUNDING >= min(gpus, 1.0)]
        needed = 0 if gpus == 0 else max(math.ceil(gpus - _ROUNDING), 1)
        if self._cpus + _ROUNDING < cpus or len(whole) < needed:
            return False
        self._cpus -= cpus
        for at in whole[:needed]:
            self._gpus[at] -= min(gpus, 1.0)
        return True


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
        cores, gpus = available_cores(), torch.cuda.device_count()
        with ray_environment(compute), RaySession(compute, cores, gpus, driver.requeue_running) as session:
            _check_resources(compute)
            bridge = _Bridge(driver, compute)
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
                    callbacks=[_Watch(bridge)],
                ),
            )
            tuner.fit()
            if bridge.fatal:
                raise bridge.fatal


def _check_resources(compute: ComputeSection) -> None:
    """Raise UserError where the cluster lacks the resources of one trial. In a job, nodes that still join are waited for."""
    deadline = time.monotonic() + (_JOIN_S if JOB_VARIABLE in os.environ else 0.0)
    while (problem := _lacking(compute)) is not None:
        if time.monotonic() >= deadline:
            raise UserError(problem)
        stopping.check()
        time.sleep(_POLL_S)


def _lacking(compute: ComputeSection) -> str | None:
    have, workers = ray.cluster_resources(), compute.workers_per_trial
    gpus = 0.0 if compute.gpus_per_trial == "auto" else compute.gpus_per_trial
    for kind, need in (("CPU", compute.cpus_per_trial), ("GPU", gpus)):
        if workers * need > have.get(kind, 0):
            times = f" times workers_per_trial {workers}" if workers > 1 else ""
            return (
                f"compute.{kind.lower()}s_per_trial is {need:g}{times} but the cluster has {have.get(kind, 0):g} {kind}s. "
                "Lower it, or add nodes."
            )
    return None
