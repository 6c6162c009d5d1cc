"""SQLite's write-ahead log in a launch: on while it runs, off afterwards, and not where machines share the file system."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest

import trial_runner.study.write_ahead_log as log
from objectives.optuna_private import close_connections
from objectives.trial_record import read_study
from trial_runner.config.load import load_config
from trial_runner.doctor import examine
from trial_runner.study.patience import Patience
from trial_runner.study.storage import open_study
from trial_runner.study.write_ahead_log import shared_file_system, sqlite_file, write_ahead_log


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def mode(url: str) -> str:
    path = sqlite_file(url)
    assert path is not None
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def writer(url: str) -> optuna.Study:
    return open_study(url, "s", create=True, patience=Patience(60.0, str))


def test_a_reader_in_the_middle_of_reading_does_not_hold_up_a_launch(url: str):
    study, said = writer(url), list[str]()
    with write_ahead_log(url, study, said.append), closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as reader:
        trial = study.ask()
        reader.execute("BEGIN")
        before = reader.execute("SELECT COUNT(*) FROM trial_user_attributes").fetchone()
        written = threading.Thread(target=lambda: trial.set_user_attr("a", 1), daemon=True)
        written.start()
        written.join(timeout=20.0)
        assert not written.is_alive(), "it waits for the reader"
        assert reader.execute("SELECT COUNT(*) FROM trial_user_attributes").fetchone() == before
        reader.rollback()
        assert mode(url) == "wal" and not said


def test_the_database_is_one_file_again_after_a_launch(url: str, tmp_path: Path):
    study = writer(url)
    with write_ahead_log(url, study, print):
        study.ask().set_user_attr("a", 1)
    assert mode(url) == "delete" and [path.name for path in tmp_path.iterdir()] == ["study.db"]
    (copied := tmp_path / "copied.db").write_bytes((tmp_path / "study.db").read_bytes())
    assert [t.user_attrs for t in open_study(f"sqlite:///{copied}", "s", create=False).trials] == [{"a": 1}]
    study.ask()
    assert len(read_study(open_study(url, "s", create=False))) == 2, "it is written to as before"


def test_a_database_that_another_process_has_open_keeps_its_log(url: str):
    study, reader = writer(url), sqlite3.connect(url.removeprefix("sqlite:///"))
    with closing(reader):
        with write_ahead_log(url, study, print):
            study.ask()
            reader.execute("SELECT COUNT(*) FROM trials").fetchone()
        assert mode(url) == "wal"
        other = open_study(url, "s", create=False)
        assert len(other.trials) == 1
        close_connections(other)
    with write_ahead_log(url, writer(url), print):
        pass
    assert mode(url) == "delete", "the next launch sets it back"


MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:50 / /groups rw,relatime shared:5 - nfs4 server:/export/groups rw,vers=4.2
31 30 0:51 / /groups/fast\040disk rw,relatime - xfs /dev/nvme0n1 rw
32 22 0:52 / /scratch rw - lustre 10.0.0.1@o2ib:/scratch rw
33 22 0:53 / /mnt/remote rw - fuse.sshfs user@host:/ rw
34 22 0:54 / /groupsort rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/study.db", None),
        ("/groups/vision/study.db", "nfs4"),
        ("/groups/fast disk/study.db", None),
        ("/scratch/group/study.db", "lustre"),
        ("/mnt/remote/study.db", "fuse.sshfs"),
        ("/groupsort/study.db", None),
    ],
)
def test_file_systems_that_machines_share_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str | None
):
    (tmp_path / "mountinfo").write_text(MOUNTS.lstrip())
    monkeypatch.setattr(log, "_MOUNTS", tmp_path / "mountinfo")
    assert shared_file_system(Path(path)) == kind


def test_on_a_shared_file_system_the_log_stays_off_and_launch_and_doctor_say_so(
    url: str, monkeypatch: pytest.MonkeyPatch, write_study: Callable[..., Path]
):
    monkeypatch.setattr(log, "shared_file_system", lambda path: "nfs4")
    study, said = writer(url), list[str]()
    with write_ahead_log(url, study, said.append):
        study.ask()
        assert mode(url) == "delete"
    assert len(said) == 1 and "nfs4" in said[0] and "PostgreSQL" in said[0]
    notes = [found for found in examine(load_config(write_study())) if found.subject == "storage"]
    assert [found.verdict for found in notes] == ["ok", "note"] and "nfs4" in notes[1].text


@pytest.mark.parametrize("other", ["sqlite://", "sqlite:///:memory:", "postgresql://me@127.0.0.1/db"])
def test_other_databases_are_left_alone(other: str):
    study: Any = None  # not used
    with write_ahead_log(other, study, print):
        assert sqlite_file(other) is None
