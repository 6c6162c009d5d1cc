"""Measurements survive, in order, by machine, whoever else writes at the same time."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hw_latency_model import KernelSpec, Measurement, MeasurementStore
from search_spaces._common.errors import UserError

FAST = {"device": "local-cpu", "cpu": "fast", "threads": 1}
SLOW = {"device": "local-cpu", "cpu": "slow", "threads": 1}
KERNEL = KernelSpec("conv", "c", 100, 10, 20, 30, kernel=(3, 3), fused=("relu",))


def measurement(subject: str, fingerprint: dict[str, object] = FAST) -> Measurement:
    return Measurement(
        subject,
        "local-cpu",
        1.5,
        1.625,
        2.0,
        40,
        0.02,
        1.1,
        fingerprint,
        "2026-11-23T10:00:00+00:00",
        kernels=(KERNEL,),
    )


def test_what_was_added_is_there_after_reopening_in_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.sqlite"
    store = MeasurementStore(path)
    assert [store.add(measurement(name)) for name in "abc"] == [1, 2, 3]
    store.close()
    assert MeasurementStore(path).all("local-cpu", FAST) == [measurement(name) for name in "abc"]


def test_fingerprints_are_kept_apart(tmp_path: Path) -> None:
    store = MeasurementStore(tmp_path / "store.sqlite")
    store.add(measurement("a", FAST))
    store.add(measurement("b", SLOW))
    assert [item.subject for item in store.all("local-cpu", SLOW)] == ["b"]
    assert store.all("local-cpu", {**FAST, "threads": 2}) == []
    assert store.all("nano", FAST) == []
    assert store.fingerprints("local-cpu") == [FAST, SLOW]
    assert store.fingerprints("nano") == []


@pytest.mark.parametrize("statement", ["DELETE FROM measurements", "UPDATE measurements SET latency_ms_p50 = 0"])
def test_rows_can_be_neither_changed_nor_deleted(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "store.sqlite"
    store = MeasurementStore(path)
    store.add(measurement("a"))
    with sqlite3.connect(path) as connection, pytest.raises(sqlite3.IntegrityError, match="never changed"):
        connection.execute(statement)
    assert store.all("local-cpu", FAST) == [measurement("a")]


WRITER = """
import sys
from pathlib import Path
from hw_latency_model import Measurement, MeasurementStore
for number in range(15):
    store = MeasurementStore(Path(sys.argv[1]))
    facts = {"device": "local-cpu", "cpu": "fast", "threads": 1}
    store.add(Measurement(f"{sys.argv[2]}{number}", "local-cpu", 1.5, 1.6, 2.0, 40, 0.02, 1.1, facts, "2026-11-23"))
    store.close()
"""


def test_several_processes_create_and_append_at_the_same_time(tmp_path: Path, repo_root: Path) -> None:
    path = tmp_path / "store.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], cwd=repo_root) for name in "abc"]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    subjects = [item.subject for item in MeasurementStore(path).all("local-cpu", FAST)]
    assert sorted(subjects) == sorted(f"{name}{number}" for name in "abc" for number in range(15))
    assert [item for item in subjects if item.startswith("b")] == [f"b{number}" for number in range(15)]


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"this is not a database, whatever its name says" * 20)
    with pytest.raises(UserError, match=r"store\.sqlite cannot be opened"):
        MeasurementStore(path)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    MeasurementStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="version 99"):
        MeasurementStore(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be opened"):
        MeasurementStore(tmp_path / "file" / "store.sqlite")
