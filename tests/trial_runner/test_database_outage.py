"""A study whose database goes away for a while, or for good: nothing lost, nothing twice, one sentence."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import launching
import optuna
import postgres_server
import pytest
from black_hole import BlackHole
from driving import LatencyByWidth
from optuna.storages import get_storage
from optuna.trial import TrialState
from postgres_server import ESCAPED
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from objectives.optuna_private import StudyAttribute
from objectives.trial_score import TrialScore
from search_spaces import open_space
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.search.driver import StudyDriver
from trial_runner.search.samplers import make_sampler
from trial_runner.study import server_answers
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths
from trial_runner.study.patience import DatabaseAwayError, DatabaseGoneError, Patience, PatientStorage
from trial_runner.study.storage import StorageError, database_sentence, open_study
from trial_runner.training.trial_spec import Progress


@pytest.fixture
def server() -> Iterator[postgres_server.Server]:
    with postgres_server.running_server() as running:
        yield running
        running.go_on()  # one that is paused does not end


def patience_of(url: str, limit_s: float) -> Patience:
    return Patience(limit_s, lambda error: database_sentence(url, error))


def progress(epoch: int, epochs: int, miou: float) -> Progress:
    curve = (*((at, 0.1 * at) for at in range(1, epoch)), (epoch, miou))
    return Progress(epoch, miou, curve, TrialScore(miou, epoch, epochs, 10, 10, 1.0, (miou,)))


def test_what_is_written_while_the_server_restarts_arrives(server: postgres_server.Server):
    url = server.create_database("restarts")
    study = open_study(url, "s", create=True, patience=patience_of(url, 120.0))
    trial = study.ask()
    server.stop(signal.SIGQUIT)
    back = threading.Timer(1.0, server.start)
    back.start()
    trial.set_user_attr("outcome", "finished")
    back.join()
    study.tell(trial, [0.5, 1.0])
    assert [(t.state, t.values, t.user_attrs) for t in study.trials] == [
        (TrialState.COMPLETE, [0.5, 1.0], {"outcome": "finished"})
    ]


def test_a_server_that_stays_away_is_one_sentence_without_the_password(server: postgres_server.Server):
    url = server.create_database("goes")
    study = open_study(url, "s", create=True, patience=patience_of(url, 0.5))
    server.stop(signal.SIGQUIT)
    with pytest.raises(DatabaseGoneError, match=r"storage\.patience_s.*run the same command again") as caught:
        study.set_user_attr("a", 1)
    assert ESCAPED not in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_status == 3


@pytest.mark.timeout(120)
def test_a_paused_server_is_an_outage_too(server: postgres_server.Server, monkeypatch: pytest.MonkeyPatch):
    """Its connections stay open, so that an answer would be waited for without end."""
    monkeypatch.setattr(server_answers, "ANSWER_S", 0.5)
    url = f"{server.create_database('pauses')}?connect_timeout=2"
    study = open_study(url, "s", create=True, patience=patience_of(url, 60.0))
    reader = open_study(url, "s", create=False, patience=patience_of(url, 1.0))
    trial = study.ask()
    server.pause()
    with pytest.raises(DatabaseGoneError, match=r"storage\.patience_s"):
        reader.get_trials()
    with pytest.raises(StorageError, match="timeout expired"):
        open_study(url, "s", create=False)
    back = threading.Timer(1.0, server.go_on)
    back.start()
    trial.set_user_attr("outcome", "finished")
    back.join()
    assert [found.user_attrs for found in reader.get_trials()] == [{"outcome": "finished"}]


@pytest.fixture
def hole(postgres_server: postgres_server.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlackHole]:
    """A network to the server that can drop packets; a server that does not answer is given up soon."""
    monkeypatch.setattr(server_answers, "ANSWER_S", 1.0)
    monkeypatch.setattr(server_answers, "IDLE_S", 2.0)
    made = BlackHole(postgres_server.address)
    yield made
    made.close()


def through(hole: BlackHole, server: postgres_server.Server, name: str) -> str:
    return server.create_database(name).replace(server.address, hole.address) + "?connect_timeout=2"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("word", [b"UPDATE trials", b"COMMIT"])
def test_dropped_packets_are_an_outage_too(hole: BlackHole, postgres_server: postgres_server.Server, word: bytes):
    """The server holds the locks of a transaction whose client it never hears of again."""
    url = through(hole, postgres_server, f"drops_at_{word[:3].decode().lower()}")
    study = open_study(url, "s", create=True, patience=patience_of(url, 60.0))
    reader = open_study(url, "s", create=False, patience=patience_of(url, 1.0))
    trial = study.ask()
    lease = StudyAttribute(study, "driver")
    assert lease.replace(None, "1")
    lease.guard_writes(lambda text: None)
    hole.drop_at(word)
    back = threading.Thread(target=lambda: (hole.wait_for_drop(30), time.sleep(2.0), hole.forward()))
    back.start()
    study.tell(trial, [0.5, 1.0])
    back.join()
    assert [(found.state, found.values) for found in reader.get_trials()] == [(TrialState.COMPLETE, [0.5, 1.0])]
    hole.drop()
    with pytest.raises(DatabaseGoneError, match=r"storage\.patience_s"):
        reader.get_trials()


@pytest.mark.timeout(300)
def test_a_launch_outlasts_dropped_packets_or_hands_its_trials_back(
    hole: BlackHole,
    postgres_server: postgres_server.Server,
    write_study: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
):
    study = write_study(trials=2, epochs=3)
    study.write_text(study.read_text().replace("sqlite:///study.db", through(hole, postgres_server, "dropped")))
    hole.drop_at(b"INSERT INTO trial_intermediate_values")
    assert main(["launch", str(study), "--set", "storage.patience_s=1"]) == 3
    said = capsys.readouterr().err
    assert "storage.patience_s" in said and "Traceback" not in said and ESCAPED not in said
    hole.forward()
    hole.drop_at(b"INSERT INTO trial_intermediate_values")
    forwarded: list[None] = []
    back = threading.Thread(target=lambda: (hole.wait_for_drop(120), time.sleep(2.0), forwarded.append(hole.forward())))
    back.start()
    assert main(["launch", str(study)]) == 0
    back.join()
    assert forwarded, "the second launch met no outage"
    launching.assert_whole(launching.records(study), 2, 3)


class Unheard:
    """A storage whose next commit of one method is stored, but reported as failed."""

    def __init__(self, inner: Any, method: str) -> None:
        self._inner, self._method, self.failures = inner, method, 1

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._method:
            return found

        def call(*arguments: Any) -> Any:
            result = found(*arguments)
            if self.failures:
                self.failures -= 1
                raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))
            return result

        return call


@pytest.mark.parametrize(
    "method", ["create_new_trial", "set_trial_state_values", "set_trial_param", "set_trial_user_attr"]
)
def test_a_commit_whose_answer_was_lost_is_not_made_twice(tmp_path: Path, method: str):
    url = f"sqlite:///{tmp_path}/study.db"
    plain = open_study(url, "s", create=True)
    plain.enqueue_trial({"x": 0.5})
    unheard = Unheard(get_storage(plain._storage), method)
    storage = PatientStorage(unheard, patience_of(url, 60.0))  # type: ignore[arg-type]
    study = optuna.load_study(study_name="s", storage=storage, sampler=optuna.samplers.RandomSampler())
    for _ in range(2):
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        trial.set_user_attr("outcome", "finished")
        study.tell(trial.number, [1.0, 2.0], skip_if_finished=True)
    assert unheard.failures == 0
    found = [(t.number, t.state, t.values, t.user_attrs, len(t.params)) for t in plain.trials]
    assert found == [(n, TrialState.COMPLETE, [1.0, 2.0], {"outcome": "finished"}, 1) for n in range(2)]


def test_reports_of_an_outage_wait_in_memory_while_the_trials_train_on(
    write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    config = load_config(write_study(trials=1, epochs=3))
    patience = patience_of(config.study.storage, 60.0)
    study = open_configured(config, create=True, sampler=make_sampler(config.search, 0), patience=patience)
    ended: list[Any] = []
    space, paths = open_space(config.space), StudyPaths(config.study.output_dir)
    driver = StudyDriver(config, study, space, LatencyByWidth(1000.0), paths, ended.append, patience=patience)
    spec = driver.ask()
    assert spec is not None
    away = True

    def refuse(*arguments: object) -> None:
        if away:
            raise OperationalError("SELECT 1", {}, Exception("the database system is shutting down"))

    engine = study._storage._backend._backend.engine  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", refuse)
    for epoch in (1, 2, 3):
        assert not driver.progress(spec.number, progress(epoch, 3, 0.1 * epoch))
    driver.finish(spec.number)
    assert not driver.ready() and not ended
    away = False
    monkeypatch.setattr(patience, "_next_s", 0.0)
    assert driver.ready()
    record = ended[0]
    assert (record.state, record.outcome, [epoch for epoch, _ in record.curve]) == ("COMPLETE", "finished", [1, 2, 3])
    assert driver.ask() is None


def test_an_error_that_no_waiting_mends_is_raised_at_once(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/study.db"
    study = open_study(url, "s", create=True, patience=patience_of(url, 600.0))
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("DROP TABLE trial_user_attributes")
    with pytest.raises(optuna.exceptions.StorageInternalError):
        study.ask().set_user_attr("a", 1)


def test_an_outage_is_reported_to_those_who_do_not_wait(tmp_path: Path):
    patience = Patience(60.0, str)

    def away() -> None:
        raise OperationalError("SELECT 1", {}, Exception("no"))

    with patience.brief(), pytest.raises(DatabaseAwayError):
        patience.run(away)


def middle(found: list[Any]) -> bool:
    return any(record.state == "RUNNING" and 1 <= len(record.curve) < 5 for record in found)


@pytest.fixture
def on_server(write_study: Callable[..., Path], server: postgres_server.Server) -> Callable[..., Path]:
    def write(backend: str) -> Path:
        study = write_study(trials=2, epochs=6, backend=backend)
        text = study.read_text().replace("train_images: 12", "train_images: 240")
        study.write_text(text.replace("sqlite:///study.db", server.create_database(f"{backend}_study")))
        return study

    return write


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["inprocess", "ray"])
def test_a_launch_outlasts_a_restart_of_its_database(
    on_server: Callable[..., Path], server: postgres_server.Server, backend: str
):
    study = on_server(backend)
    process = launching.start(study)
    try:
        launching.wait_until(study, process, middle)
        server.stop(signal.SIGQUIT)
        time.sleep(6.0)
        server.start()
        assert process.wait(300) == 0, study.with_name("launch.log").read_text()
    finally:
        launching.kill_tree(process.pid)
    text = study.with_name("launch.log").read_text()
    assert "Traceback" not in text
    launching.assert_whole(launching.records(study), 2, 6)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["inprocess", "ray"])
def test_a_launch_whose_database_stays_away_ends_with_a_sentence_and_the_next_one_goes_on(
    on_server: Callable[..., Path], server: postgres_server.Server, backend: str
):
    study = on_server(backend)
    process = launching.start(study, "--set", "storage.patience_s=3")
    try:
        launching.wait_until(study, process, middle)
        server.stop(signal.SIGQUIT)
        status = process.wait(120)
    finally:
        launching.kill_tree(process.pid)
    text = study.with_name("launch.log").read_text()
    assert status == 3 and "Traceback" not in text, text
    assert "storage.patience_s" in text and ESCAPED not in text
    assert main(["front", str(study)]) == 2, "no server"
    server.start()
    launching.finish(study)
    launching.assert_whole(launching.records(study), 2, 6)
