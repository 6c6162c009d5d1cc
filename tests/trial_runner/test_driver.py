"""The driver against a real Optuna study in sqlite; networks and their cost are stood in for by numbers."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from driving import LatencyByWidth, driver_of, records_of

from hw_latency_model import LatencyEstimate
from objectives.trial_record import TrialRecord
from objectives.trial_score import TrialScore
from search_spaces import get_space
from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig
from trial_runner.search.driver import StudyDriver
from trial_runner.study.lease import DriverLease
from trial_runner.study.storage import StorageError, open_study
from trial_runner.training.trial_spec import Progress

TEXT = """
study: {name: s, storage: "sqlite:///study.db", output_dir: out}
data: {kind: synthetic}
space: {families: [lcnet], decoders: [fpn], widths: [0.25, 0.5, 0.75, 1.0], resolutions_px: [[32, 64]], prune_ratios: [0.0]}
device: {latency_model: model.json, latency_budget_ms: 6}
training: {epochs: 4}
search: {sampler: tpe, trials: 4, startup_trials: 2, early_stopping: {rungs_epochs: [2], min_trials: 2}}
"""


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    (tmp_path / "study.yaml").write_text(TEXT)
    return load_config(tmp_path / "study.yaml")


@pytest.fixture
def new_driver(config: StudyConfig) -> Callable[..., StudyDriver]:
    """A driver as a fresh start of the same study makes it."""

    def make(on_finished: Callable[[TrialRecord], None] = lambda record: None, seed: int = 0) -> StudyDriver:
        return driver_of(config, seed=seed, on_finished=on_finished)

    return make


def params_of(config: StudyConfig) -> dict[str, object]:
    return dict(get_space(config.space.name, config.space.arguments()).default().params)


def reading(epoch: int, miou: float) -> Progress:
    score = TrialScore(miou, epoch, 4, 1000, 100, 1.0, (miou, None))
    return Progress(epoch, miou, tuple((e, miou * e / epoch) for e in range(1, epoch + 1)), score)


def run(driver: StudyDriver, miou: float = 0.5) -> int:
    """Train what is proposed to the end; its number."""
    spec = driver.ask()
    assert spec is not None
    for epoch in range(1, 5):
        if driver.progress(spec.number, reading(epoch, miou)):
            break
    driver.finish(spec.number)
    return spec.number


def test_refused_candidates_are_never_handed_out_and_do_not_count_as_trials(new_driver, config: StudyConfig):
    driver = new_driver()
    widths = []
    while (spec := driver.ask()) is not None:
        widths.append(spec.candidate.params["width"])
        driver.progress(spec.number, reading(4, 0.5))
        driver.finish(spec.number)
    assert len(widths) == 4 and max(widths) <= 0.5
    refused = [record for record in records_of(config) if record.outcome == "refused"]
    assert refused and all(record.state == "PRUNED" for record in refused)
    assert all("even the low end is over the budget of 6 ms" in (record.reason or "") for record in refused)
    assert all(record.latency_ms and record.latency_ms > 6 and not record.curve for record in refused)


def test_a_candidate_whose_interval_reaches_below_the_budget_is_trained(config: StudyConfig):
    driver = driver_of(config, LatencyByWidth(budget_ms=7.0))
    open_study(config.study.storage, "s", create=False).enqueue_trial({**params_of(config), "width": 0.75})
    spec = driver.ask()
    assert spec is not None and spec.candidate.params["width"] == 0.75
    record = records_of(config)[spec.number]
    assert record.outcome is None and record.estimate is not None
    assert record.estimate.low_ms < 7.0 < record.estimate.latency_ms


def test_a_refused_candidate_is_weighed_anew_against_the_budget_of_today(config: StudyConfig):
    params = {**params_of(config), "width": 1.0}
    first = driver_of(config)
    study = open_study(config.study.storage, "s", create=False)
    study.enqueue_trial(params)
    assert first.ask() is not None
    first.requeue_running()
    refused = records_of(config)[0]
    assert refused.outcome == "refused" and refused.params == params
    study.enqueue_trial(params)
    second = driver_of(config, LatencyByWidth(budget_ms=12.0), seed=3)
    specs = [second.ask(), second.ask()]  # what the first start had begun, and the candidate itself
    spec = next(item for item in specs if item is not None and item.candidate.id == refused.candidate.id)
    assert records_of(config)[spec.number].duplicate_of is None


def test_optuna_and_its_samplers_see_the_refused_as_infeasible(new_driver, config: StudyConfig):
    driver = new_driver()
    while (spec := driver.ask()) is not None:
        driver.finish(spec.number, "does not matter here")
    trials = open_study(config.study.storage, "s", create=False).trials
    for trial in trials:
        record_ms = trial.user_attrs["latency"]["latency_ms"]
        assert list(trial.constraints.values()) == [pytest.approx(record_ms - 6)]


def test_states_are_right_and_the_curve_is_whole_even_where_reports_were_lost(new_driver, config: StudyConfig):
    driver = new_driver()
    spec = driver.ask()
    driver.progress(spec.number, reading(3, 0.6))
    driver.progress(spec.number, reading(4, 0.6))
    driver.finish(spec.number)
    record = records_of(config)[spec.number]
    assert record.state == "COMPLETE" and record.outcome == "finished" and record.complete
    assert [epoch for epoch, _ in record.curve] == [1, 2, 3, 4]
    trial = open_study(config.study.storage, "s", create=False).trials[spec.number]
    assert trial.values == [0.6, record.latency_ms]


def test_a_stopped_trial_is_pruned_with_its_curve_and_reason_and_never_complete(new_driver, config: StudyConfig):
    driver = new_driver()
    first = run(driver, 0.9)
    stopped = None
    for _ in range(3):
        number = run(driver, 0.1)
        if records_of(config)[number].outcome == "stopped":
            stopped = records_of(config)[number]
    assert records_of(config)[first].outcome == "finished"
    assert stopped is not None
    assert stopped.state == "PRUNED" and not stopped.complete and len(stopped.curve) == 2
    assert stopped.reason and "epoch 2" in stopped.reason and stopped.val_miou == 0.1


def test_a_failure_is_told_with_its_reason(new_driver, config: StudyConfig):
    driver = new_driver()
    spec = driver.ask()
    driver.finish(spec.number, "the loss is nan")
    record = records_of(config)[spec.number]
    assert (record.state, record.outcome, record.reason) == ("FAIL", "failed", "the loss is nan")


def test_five_failures_in_a_row_end_the_launch_with_the_reason(new_driver, config: StudyConfig):
    config_many = config.model_copy(update={"search": config.search.model_copy(update={"trials": 50})})
    driver = driver_of(config_many)
    with pytest.raises(UserError, match="5 trials in a row failed, the last one because: no such file"):
        for _ in range(10):
            driver.finish(driver.ask().number, "no such file")
    assert [r.state for r in records_of(config) if r.outcome == "failed"] == ["FAIL"] * 5


def test_what_an_earlier_start_left_running_comes_first_with_number_params_and_curve(new_driver, config: StudyConfig):
    driver = new_driver()
    spec = driver.ask()
    driver.progress(spec.number, reading(2, 0.4))
    again = new_driver(seed=7)
    adopted = again.ask()
    assert adopted is not None
    assert (adopted.number, adopted.candidate) == (spec.number, spec.candidate)
    again.progress(adopted.number, reading(4, 0.5))
    again.finish(adopted.number)
    record = records_of(config)[adopted.number]
    assert record.state == "COMPLETE" and [epoch for epoch, _ in record.curve] == [1, 2, 3, 4]
    assert len([r for r in records_of(config) if r.number == spec.number]) == 1


def test_leaving_hands_running_trials_back(new_driver, config: StudyConfig):
    driver = new_driver()
    spec = driver.ask()
    driver.requeue_running()
    assert records_of(config)[spec.number].state == "WAITING"


def test_a_start_that_died_between_outcome_and_state_is_put_right(new_driver, config: StudyConfig):
    driver = new_driver()
    spec = driver.ask()
    study = open_study(config.study.storage, "s", create=False)
    trial_id = study.trials[spec.number]._trial_id
    study._storage.set_trial_user_attr(trial_id, "score", reading(4, 0.7).score.to_dict())
    study._storage.set_trial_user_attr(trial_id, "outcome", "finished")
    new_driver()
    record = records_of(config)[spec.number]
    assert record.state == "COMPLETE" and record.complete and record.val_miou == 0.7


def test_a_trial_whose_params_never_arrived_is_failed_and_does_not_count(new_driver, config: StudyConfig):
    study = open_study(config.study.storage, "s", create=True)
    study.ask()
    driver = new_driver()
    done = 0
    while (spec := driver.ask()) is not None:
        driver.progress(spec.number, reading(4, 0.5))
        driver.finish(spec.number)
        done += 1
    assert done == 4
    assert records_of(config)[0].state == "FAIL"


def test_a_repeated_proposal_takes_over_the_result_instead_of_training_again(new_driver, config: StudyConfig):
    driver = new_driver()
    number = run(driver, 0.5)
    record = records_of(config)[number]
    study = open_study(config.study.storage, "s", create=False)
    study.enqueue_trial(record.params)
    again = new_driver(seed=3)
    spec = again.ask()
    assert spec is not None and spec.candidate.id != record.candidate.id
    repeated = next(r for r in records_of(config) if r.duplicate_of == number)
    assert repeated.state == "COMPLETE" and repeated.val_miou == record.val_miou and not repeated.complete


class UnmeasuredKinds(LatencyByWidth):
    """Predictions for networks with a kind of kernel that the latency model has no measurement of."""

    def estimate(self, candidate: Candidate) -> LatencyEstimate:
        known = super().estimate(candidate)
        return replace(known, coverage=0.8, level=0.8, unknown_kinds=("op:Gelu", "resize"), extrapolation=0.25)


def test_a_repeated_proposal_keeps_the_whole_estimate(config: StudyConfig):
    gate = UnmeasuredKinds(config.device.latency_budget_ms)
    driver = driver_of(config, gate)
    number = run(driver)
    open_study(config.study.storage, "s", create=False).enqueue_trial(records_of(config)[number].params)
    driver_of(config, gate, seed=3).ask()
    records = records_of(config)
    repeated = next(record for record in records if record.duplicate_of == number)
    assert repeated.estimate == records[number].estimate
    assert repeated.estimate is not None and repeated.estimate.unknown_kinds == ("op:Gelu", "resize")
    assert (repeated.estimate.extrapolation, repeated.estimate.level) == (0.25, 0.8)


def test_a_larger_budget_goes_on_where_the_smaller_one_ended(new_driver, config: StudyConfig):
    driver = new_driver()
    while (spec := driver.ask()) is not None:
        driver.progress(spec.number, reading(4, 0.5))
        driver.finish(spec.number)
    assert driver.ended == "all 4 trials are done"
    more = config.model_copy(update={"search": config.search.model_copy(update={"trials": 5})})
    second = driver_of(more, seed=9)
    assert second.ask() is not None
    assert second.ask() is None


def test_a_budget_that_no_network_keeps_ends_with_a_sentence(config: StudyConfig, monkeypatch: pytest.MonkeyPatch):
    driver = driver_of(config, LatencyByWidth(budget_ms=0.001))
    monkeypatch.setattr("trial_runner.search.driver._FREE_PROPOSALS", 12)
    with pytest.raises(UserError, match=r"Raise device\.latency_budget_ms"):
        driver.ask()


def test_only_one_driver_at_a_time(config: StudyConfig):
    study = open_study(config.study.storage, "s", create=True)
    held = {"host": "elsewhere", "pid": 1, "started": "1", "until": 4e9}
    study.set_user_attr("driver", held)
    with pytest.raises(UserError, match="being driven by process 1 on elsewhere"), DriverLease(study):
        pass
    study.set_user_attr("driver", {**held, "until": 1.0})
    with DriverLease(study):
        assert study.user_attrs["driver"]["until"] > 1e9
    assert study.user_attrs["driver"]["until"] == 0.0


def test_a_lease_whose_process_number_was_given_to_another_process_is_taken_over(config: StudyConfig):
    """A container that starts anew gives its processes the numbers of those that died."""
    study = open_study(config.study.storage, "s", create=True)
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
            held = {"host": socket.gethostname(), "pid": process.pid, "started": started, "until": 4e9}
            study.set_user_attr("driver", held)
            with pytest.raises(UserError, match=f"being driven by process {process.pid}"), DriverLease(study):
                pass
            study.set_user_attr("driver", {**held, "started": str(int(started) - 1)})
            with DriverLease(study):
                assert study.user_attrs["driver"]["pid"] == os.getpid()
        finally:
            process.kill()


def test_storage_that_cannot_be_used_is_a_sentence_without_the_password(tmp_path: Path):
    with pytest.raises(StorageError, match="there is no study at"):
        open_study(f"sqlite:///{tmp_path}/none.db", "s", create=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot use the study's database"):
        open_study(f"sqlite:///{tmp_path}/file/study.db", "s", create=True)
    (tmp_path / "garbage.db").write_bytes(b"this is no database, but long enough to look like one" * 40)
    with pytest.raises(StorageError, match="cannot use the study's database"):
        open_study(f"sqlite:///{tmp_path}/garbage.db", "s", create=True)
    with pytest.raises(StorageError) as caught:
        open_study("postgresql+psycopg2://me:s3cret@127.0.0.1:1/db", "s", create=True)
    assert "s3cret" not in str(caught.value) and "127.0.0.1:1" in str(caught.value)
    with pytest.raises(StorageError, match=r"Python driver for oracle.* is not installed"):
        open_study("oracle+cx_oracle://me:s3cret@127.0.0.1/db", "s", create=True)
    with pytest.raises(StorageError, match="is not a database URL"):
        open_study("nonsense://x", "s", create=True)


def test_another_study_in_the_same_database_is_listed(config: StudyConfig):
    open_study(config.study.storage, "s", create=True)
    with pytest.raises(StorageError, match=r"holds no study other; it holds: s\."):
        open_study(config.study.storage, "other", create=False)


def test_a_study_with_other_objectives_is_refused(config: StudyConfig):
    optuna.create_study(storage=config.study.storage, study_name="s", direction="minimize")
    with pytest.raises(StorageError, match="other objectives"):
        open_study(config.study.storage, "s", create=True)
