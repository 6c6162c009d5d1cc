"""The lease of a study: one driver at a time, and no write of a driver that has lost it. On SQLite and PostgreSQL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import launching
import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.chaos.lease_starts import start_at_once
from objectives.optuna_private import StudyStorage, trial_id
from search_spaces._common.errors import UserError
from trial_runner.study import lease as lease_module
from trial_runner.study.lease import DriverLease, LeaseLostError
from trial_runner.study.storage import open_study
from trial_runner.training.write_fence import WriteFence

HOUR_S = 3600.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[optuna.Study], DriverLease]:
    """Leases as another host takes them, an hour later."""

    def lease(study: optuna.Study) -> DriverLease:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "gethostname", lambda: "elsewhere")
            made = DriverLease(study)
        now = time.time
        monkeypatch.setattr(lease_module.time, "time", lambda: now() + HOUR_S)
        monkeypatch.setattr(lease_module, "LEASE_S", 0.4)
        return made

    return lease


def test_of_two_hundred_simultaneous_starts_exactly_one_drives(url: str):
    with DriverLease(open_study(url, "s", create=True)):
        pass  # so that they replace a row instead of inserting one
    starts = start_at_once(url, "s", 200)
    assert (starts.held, starts.refused, starts.failed) == (1, 199, ())


def test_a_clock_that_is_an_hour_ahead_takes_no_lease_from_a_living_process(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(url, "s", create=True)
    now = time.time
    with DriverLease(study) as held:
        monkeypatch.setattr(lease_module.time, "time", lambda: now() + HOUR_S)
        with pytest.raises(UserError, match=f"being driven by process {os.getpid()}"), DriverLease(study):
            pass
        monkeypatch.setattr(lease_module.time, "time", now)
        held.require_held()
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
            held_there = {
                "host": socket.gethostname(),
                "pid": process.pid,
                "started": started,
                "until": now() - HOUR_S,
            }
            study.set_user_attr("driver", held_there)
            with pytest.raises(UserError, match=f"being driven by process {process.pid}"), DriverLease(study):
                pass
        finally:
            process.kill()


def test_an_expired_lease_of_another_host_is_left_to_it_while_it_is_renewed(
    url: str, elsewhere: Callable[[optuna.Study], DriverLease], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock an hour ahead of the holder's."""
    study, other = open_study(url, "s", create=True), open_study(url, "s", create=True)
    now = time.time
    monkeypatch.setattr(lease_module, "LEASE_S", 0.4)
    with DriverLease(study):
        second = elsewhere(other)
        monkeypatch.setattr(lease_module.time, "time", lambda: now() + (HOUR_S if _in_take() else 0.0))
        with pytest.raises(UserError, match="being driven by process"), second:
            pass


def _in_take() -> bool:
    return threading.current_thread() is threading.main_thread()


@pytest.fixture
def overtaken(
    url: str, elsewhere: Callable[[optuna.Study], DriverLease], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[optuna.Study, DriverLease, optuna.Study, DriverLease]]:
    """A study whose first driver was suspended, and is driven by another one now: study and lease of each."""
    study, other = open_study(url, "s", create=True), open_study(url, "s", create=True)
    monkeypatch.setattr(DriverLease, "_renew_until_stopped", lambda self: None)
    with (
        pytest.raises(LeaseLostError, match="now driven by process"),
        DriverLease(study) as first,
        elsewhere(other) as second,
    ):
        yield study, first, other, second


def test_the_token_grows_with_every_driver(overtaken: tuple[optuna.Study, DriverLease, optuna.Study, DriverLease]):
    study, first, _, second = overtaken
    assert second.token == first.token + 1
    assert study.user_attrs["driver"]["token"] == second.token


def test_every_write_of_a_driver_that_lost_the_study_is_refused(
    overtaken: tuple[optuna.Study, DriverLease, optuna.Study, DriverLease],
):
    study, _, other, _ = overtaken
    trial = other.ask()
    storage, number = StudyStorage(study), trial_id(trial)
    before = other.get_trials()
    writes: list[Callable[[], object]] = [
        study.ask,
        lambda: study.enqueue_trial({"x": 1}),
        lambda: study.tell(trial.number, state=TrialState.FAIL),
        lambda: study.set_user_attr("class_names", ["a"]),
        lambda: storage.set_system_attr("paretoseg:config", {}),
        lambda: storage.set_user_attr(number, "outcome", "finished"),
        lambda: storage.set_trial_system_attr(number, "paretoseg:score", {}),
        lambda: storage.set_constraints(number, [1.0]),
        lambda: storage.set_intermediate_value(number, 1, 0.5),
        lambda: storage.set_state(number, TrialState.WAITING),
        lambda: optuna.trial.Trial(study, number).suggest_float("x", 0.0, 1.0),
    ]
    for index, write in enumerate(writes):
        with pytest.raises(LeaseLostError, match="writes nothing more"):
            pytest.fail(f"write {index} was let through: {write()}")
    assert other.get_trials() == before
    assert "class_names" not in other.user_attrs
    StudyStorage(other).set_intermediate_value(number, 1, 0.25)  # the driver's own
    assert study.trials[0].intermediate_values == {1: 0.25}, "reading goes on"


def test_a_worker_of_a_driver_that_lost_the_study_replaces_no_checkpoint(tmp_path: Path):
    from trial_runner.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

    def state(epoch: int) -> Checkpoint:
        return Checkpoint("f", epoch, False, {}, {}, ((epoch, 0.5),), 1.0, None)

    path = tmp_path / "trials" / "00000" / "last.pt"
    first, second = WriteFence(tmp_path, "1 a"), WriteFence(tmp_path, "2 b")
    first.claim(lambda: None)
    save_checkpoint(path, state(1), first)
    second.claim(lambda: None)
    save_checkpoint(path, state(2), second)
    with pytest.raises(UserError, match="has taken the study"):
        save_checkpoint(path, state(1), first)
    kept = load_checkpoint(path)
    assert kept is not None and kept.epoch == 2
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]

    def lost() -> None:
        raise LeaseLostError("lost")

    with pytest.raises(LeaseLostError):
        first.claim(lost)
    save_checkpoint(path, state(3), second)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["inprocess", "ray"])
def test_a_driver_suspended_beyond_its_lease_ends_with_a_sentence_and_sets_no_checkpoint_back(
    write_study: Callable[..., Path],
    elsewhere: Callable[[optuna.Study], DriverLease],
    backend: str,
):
    study = write_study(trials=2, epochs=40, backend=backend)
    study.write_text(study.read_text().replace("train_images: 12", "train_images: 120"))
    process = launching.start(study)
    try:
        launching.wait_until(study, process, lambda found: any(2 <= len(record.curve) < 30 for record in found))
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        other = open_study(f"sqlite:///{study.parent}/study.db", "tiny", create=False)
        with elsewhere(other) as lease:
            WriteFence(study.parent / "out", lease.fence).claim(lease.require_held)
            checkpoints = {path: path.read_bytes() for path in study.parent.glob("out/trials/*/last.pt")}
            trials = other.get_trials()
            process.send_signal(signal.SIGCONT)
            status = process.wait(60)
            assert {path: path.read_bytes() for path in study.parent.glob("out/trials/*/last.pt")} == checkpoints
            assert other.get_trials() == trials
            assert other.user_attrs["driver"]["token"] == lease.token
    finally:
        launching.kill_tree(process.pid)
    text = study.with_name("launch.log").read_text()
    assert status == 2, text
    assert "Traceback" not in text and checkpoints, text
    assert "has taken the study" in text or "is now driven by process" in text, text
