"""`paretoseg launch`: check everything, run trials, export and measure the front, write the report. Run again, it resumes."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from dashboards.text import interval, milliseconds
from exports import get_profile
from objectives.objective import OBJECTIVES, Objective, extra_objectives
from objectives.optuna_private import close_connections
from objectives.trial_record import Outcome, State, TrialRecord, read_study
from search_spaces import open_space
from search_spaces._common.files import remove_left_behind
from search_spaces.describe import network_words
from search_spaces.pretrained import check_source
from trial_runner.backends.base import make_backend
from trial_runner.config.study import KNOWN_COST, StudyConfig
from trial_runner.constraints.channel_plans import ChannelPlans
from trial_runner.constraints.cost import CostConstraint
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.constraints.loaded_models import LoadedModels
from trial_runner.constraints.target_latencies import TargetLatencies
from trial_runner.front.adoption import ModelAdoption
from trial_runner.front.engines import measure_after_launch
from trial_runner.front.exporter import FrontExporter
from trial_runner.front.kernel_times import keep_kernels
from trial_runner.front.report import write_study_report
from trial_runner.front.table import front_records, write_csv
from trial_runner.launch_checks import check_accelerator, check_earlier, check_room, check_target, check_teacher
from trial_runner.launch_monitor import LaunchMonitor
from trial_runner.search.candidate_costs import CandidateCosts
from trial_runner.search.driver import StudyDriver
from trial_runner.search.samplers import StudyFacts, make_sampler
from trial_runner.search.warm_start import initial_candidates, load_earlier_studies
from trial_runner.stopping import check, deferred, stoppable
from trial_runner.study.environment import note_environment
from trial_runner.study.job import note_job
from trial_runner.study.lease import DriverLease
from trial_runner.study.objectives import note_class_names, objectives_of, open_configured
from trial_runner.study.paths import StudyPaths
from trial_runner.study.patience import Patience
from trial_runner.study.storage import StorageError, database_sentence, store_config
from trial_runner.study.stored_space import StoredSpace, distributions_of
from trial_runner.study.write_ahead_log import write_ahead_log
from trial_runner.study_data import RunningStudyData, judged, note_data, require_same_data, survey_data
from trial_runner.tracking.sinks import check_tracking, open_sinks
from trial_runner.training.custom_metrics import load_metrics
from trial_runner.training.trial_spec import TrialSpec
from trial_runner.training.write_fence import WriteFence


@dataclass(frozen=True)
class LaunchResult:
    """Result of a launch.

    Attributes:
        records: all trials of the study.
        front: the front within the budget.
        report: the HTML report.
        why: why no more trials were started.
        objectives: of the study, with their budgets.
    """

    records: list[TrialRecord]
    front: list[TrialRecord]
    report: Path
    why: str
    objectives: tuple[Objective, ...] = OBJECTIVES


@stoppable()
def launch(
    config: StudyConfig,
    say: Callable[[str], None],
    watch: Callable[[LaunchMonitor], AbstractContextManager[None]] = lambda monitor: nullcontext(),
) -> LaunchResult:
    """Run a study to the end of its budget, resuming an earlier launch.

    Args:
        config: of the study.
        say: prints a line for each event.
        watch: entered while trials run, with their state.

    Raises:
        UserError: something the user can put right; the study is intact.
        DatabaseGoneError: the study's database has not answered for ``storage.patience_s``; the study is intact.
        KeyboardInterrupt: after SIGINT (Ctrl-C), SIGTERM or SIGHUP, at any point; running trials are requeued.
    """
    try:
        return _launch(config, say, watch)
    except (StorageInternalError, SQLAlchemyError) as error:
        raise StorageError(database_sentence(config.study.storage, error)) from error


def _launch(
    config: StudyConfig, say: Callable[[str], None], watch: Callable[[LaunchMonitor], AbstractContextManager[None]]
) -> LaunchResult:
    paths = StudyPaths(config.study.output_dir)
    check_room(paths.root)
    config, earlier = check_earlier(config)
    data = survey_data(config)
    if earlier is not None:
        require_same_data(earlier, paths, data.info, data.surveys)
    data = judged(config, data)
    info = data.info
    for warning in data.warnings:
        say(f"data: {warning}")
    space = open_space(config.space)
    check_source(config.training.weights)
    check_target(space, get_profile(config.device.name))
    check_accelerator(config)
    check_teacher(config, len(info.class_names))
    objectives = objectives_of(config, info.class_names)
    models = LoadedModels.load(config, objectives)
    for model in models.latency.values():
        if not model.calibrated:
            say(model.provenance)
    load_metrics(config)
    check_tracking(config.study.tracking)
    earlier_studies = load_earlier_studies(config, space)
    initial = initial_candidates(earlier_studies, config.search.startup_trials)
    existing = open_configured(config, create=True)
    trials = existing.get_trials(deepcopy=False)
    stored_space = StoredSpace(space, trials)
    stored_space.require_resumable(read_study(existing))
    for opened in filter(None, (earlier, existing)):
        close_connections(opened)
    seed = (config.study.seed + 1009 * len(trials)) % 2**32  # NumPy's limit
    patience = Patience(config.storage.patience_s, functools.partial(database_sentence, config.study.storage))
    sampler = make_sampler(config.search, seed, space=stored_space)
    study = open_configured(config, sampler=sampler, patience=patience)
    backend = make_backend(config.compute)
    exporter = FrontExporter(config, study, paths, inline=backend.exports_inline)
    sinks = open_sinks(config.study.tracking, config.study.name, paths.root, objectives, say)
    with write_ahead_log(config.study.storage, study, say), DriverLease(study) as lease:
        check()
        fence = WriteFence(paths.root.resolve(), lease.fence)
        fence.claim(lease.require_held)
        remove_left_behind(paths.root)
        note_class_names(study, info.class_names)
        note_job(study)
        unchanged = RunningStudyData(config, study, paths).require_unchanged
        classes, budget_ms = len(info.class_names), config.device.latency_budget_ms
        first, *others = models.latency.values()
        plans = ChannelPlans(space, classes, first, config.training, others)
        gate = LatencyConstraint(space, classes, first, budget_ms, plans, others)
        costs = CostConstraint(space, classes, objectives, models.costs, gate, config.device.precision)
        targets = TargetLatencies(space, classes, models.targets, models.missing, plans)
        said = [model.provenance for model in models.latency.values() if not model.calibrated]
        for sentence in dict.fromkeys(note for note in targets.notes if note not in said):
            say(sentence)
        adoption = ModelAdoption(config, study, space, classes, objectives, models, plans, say)
        adoption.rescore()

        def know_costs(seed: int) -> None:
            """Give the sampler that needs them the costs of candidates, as they are predicted now."""
            if config.search.sampler == KNOWN_COST:
                known = CandidateCosts(space, gate, objectives, costs).known()
                evidence = [item.evidence(objectives) for item in earlier_studies]
                facts = StudyFacts(distributions_of(space), known, objectives, config.training.epochs, evidence)
                study.sampler = make_sampler(config.search, seed, facts, stored_space)

        know_costs(seed)
        monitor = LaunchMonitor(config, objectives)

        def finished(record: TrialRecord) -> None:
            monitor.ended(record)
            say(describe(record, objectives))
            sinks.ended(record)
            if record.complete:
                exporter.consider()

        def started() -> None:
            """Store what this launch runs with, now that nothing refuses it any more."""
            store_config(config, study, paths)
            note_environment(study)
            note_data(study, paths, data.surveys)
            stored = read_study(study)
            say(progress_line(config, stored))
            monitor.begin(stored)

        def before_trial() -> None:
            unchanged()
            if adoption.reload():
                first, *others = adoption.models.latency.values()
                plans.use(first, others)
                gate.use(first, others)
                costs.use(adoption.models.costs)
                targets.use(adoption.models.targets, adoption.models.missing)
                adoption.rescore()
                stored = read_study(study, paths.root)
                know_costs(seed + 1009 * len(stored))
                driver.restore()
                monitor.rescored(stored)
                exporter.consider()

        def ordered(spec: TrialSpec) -> None:
            monitor.started(spec)
            keep_kernels(spec, gate)

        driver = StudyDriver(
            config,
            study,
            space,
            gate,
            paths,
            finished,
            plans,
            costs,
            started,
            initial,
            before_trial,
            fence=fence,
            patience=patience,
            on_trial=ordered,
            on_progress=monitor.progressed,
            latency_on_targets=targets.estimates,
        )
        try:
            with watch(monitor):
                backend.run(driver)
            exporter.drain()
        except BaseException:
            patience.hurry()
            raise
        finally:
            with deferred():
                exporter.close()
                sinks.close()
                driver.requeue_running()
        check()
        if config.device.measure_front:
            unlimited = [objective.with_budget(None) for objective in objectives]
            members = front_records(read_study(study, config.study.output_dir), math.inf, unlimited)
            measure_after_launch(config, study, members, adoption.models.latency, say)
        check()
        records = read_study(study, config.study.output_dir)
        front = front_records(records, config.device.latency_budget_ms, objectives)
        write_csv(front, paths.front_csv, objectives)
        report = write_study_report(config, study, paths)
    return LaunchResult(records, front, report, driver.ended or "", objectives)


def progress_line(config: StudyConfig, records: Sequence[TrialRecord]) -> str:
    """Return the first line of a launch: the study, and for a resumed one how far it is."""
    ended = (Outcome.FINISHED, Outcome.STOPPED, Outcome.FAILED)
    done = sum(record.outcome in ended and record.parent_trial is None for record in records)
    requeued = sum(record.state == State.WAITING and record.candidate is not None for record in records)
    state = f": {done} of {config.search.trials} trials done, {requeued} requeued" if done or requeued else ""
    return f"study {config.study.name} on {config.device.name}{state}; Ctrl-C stops it, and the same command goes on"


def describe(record: TrialRecord, objectives: Sequence[Objective] = OBJECTIVES) -> str:
    """Return the log line of a trial."""
    name = f"trial {record.number:>3} {record.outcome or record.state.lower():<8} {network_words(record.params)}"
    if record.outcome == Outcome.INFEASIBLE:
        return f"{name}: {record.reason}"
    facts = []
    if record.latency_ms is not None:
        facts.append(f"{milliseconds(record.latency_ms)} ms {interval(record)}")
    if record.score is not None and record.outcome != Outcome.DUPLICATE:
        before = "" if record.float_miou is None else f" (in float {record.float_miou:.3f})"
        epochs = f"{record.score.epoch} of {record.score.epochs_total} epochs"
        facts.append(f"mIoU {record.score.val_miou:.3f}{before} after {epochs}")
    values = [
        (item, item.value(record)) for item in extra_objectives(objectives) if record.outcome != Outcome.DUPLICATE
    ]
    facts += [f"{item.label} {item.text(value)}" for item, value in values if not math.isnan(value)]
    if record.parent_trial is not None:
        facts.append(f"trained on from trial {record.parent_trial}")
    if record.reason and record.outcome in (Outcome.FAILED, Outcome.DUPLICATE):
        facts.append(record.reason)
    return ": ".join([name, ", ".join(facts)])


def quiet_libraries() -> None:
    """Reduce the logging of Optuna and Ray to warnings and errors."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune.execution.tune_controller").setLevel(
        logging.CRITICAL
    )  # each failure is reported by the driver
