"""The measurement store on a real PostgreSQL server: what the database itself promises, and that no password is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import postgres_server
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from hw_latency_model import KernelSpec, Measurement, MeasurementStore
from hw_latency_model.store.files import export_measurements, import_measurements
from search_spaces._common.errors import UserError

FAST = {"device": "nano", "tensorrt": "8.2.1"}
SLOW = {"device": "nano", "tensorrt": "8.5.2"}
KERNEL = KernelSpec("conv", "c", 100, 10, 20, 30, kernel=(3, 3), fused=("relu",))


def measurement(subject: str, fingerprint: dict[str, object] = FAST) -> Measurement:
    return Measurement(
        subject,
        "nano",
        1.5,
        1.625,
        0.1 + 2.0,
        40,
        0.02,
        1.1,
        fingerprint,
        "2026-11-23T10:00:00+00:00",
        samples_ms=(1.4, 1.5, 1 / 3),
        energy_mj=12.5,
        kernels=(KERNEL,),
        kernel_shares=(1.0,),
    )


def sql(url: str, statement: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    try:
        with engine.begin() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()


def test_what_was_added_is_there_after_reopening_bit_for_bit(postgres_url: str) -> None:
    with MeasurementStore(postgres_url) as store:
        assert [store.add(measurement(name), protocol={"min_runs": 20}) for name in "abca"] == [1, 2, 3, 1]
    with MeasurementStore(postgres_url) as store:
        assert store.all("nano", FAST) == [measurement(name) for name in "abc"]
        assert [item.protocol for item in store.stored()] == [{"min_runs": 20}] * 3


def test_fingerprints_never_mix_silently(postgres_url: str) -> None:
    with MeasurementStore(postgres_url) as store:
        store.add(measurement("a", FAST))
        store.add(measurement("b", SLOW))
        with pytest.raises(UserError, match=r"tensorrt: '8\.2\.1' or '8\.5\.2'"):
            store.of_device("nano")
        chosen = measurement("b", SLOW).fingerprint_id[:6]
        assert [item.subject for item in store.of_device("nano", fingerprint=chosen)] == ["b"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM measurements",
        "UPDATE measurements SET latency_ms_p50 = 0",
        "TRUNCATE measurements CASCADE",
        "UPDATE fingerprints SET facts = '{}'",
        "INSERT INTO contents VALUES ((SELECT hash FROM contents), 1) ON CONFLICT (hash) DO UPDATE SET measurement_id = 1",
    ],
)
def test_the_database_refuses_to_change_or_delete_rows(postgres_url: str, statement: str) -> None:
    with MeasurementStore(postgres_url) as store:
        store.add(measurement("a"))
        with pytest.raises(DBAPIError, match="never changed"):
            sql(postgres_url, statement)
        assert store.all("nano", FAST) == [measurement("a")]


WRITER = """
import sys
from hw_latency_model import Measurement, MeasurementStore
for number in range(8):
    with MeasurementStore(sys.argv[1]) as store:
        for subject in (f"{sys.argv[2]}{number}", f"all{number}"):
            facts = {"device": "nano", "tensorrt": "8.2.1"}
            store.add(Measurement(subject, "nano", 1.5, 1.6, 2.0, 40, 0.02, 1.1, facts, "2026-11-23"))
"""


def test_several_processes_create_and_append_at_the_same_time(postgres_url: str, repo_root: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, postgres_url, name], cwd=repo_root) for name in "ab"]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    with MeasurementStore(postgres_url) as store:
        subjects = [item.subject for item in store.all("nano", FAST)]
    assert sorted(subjects) == sorted(f"{name}{number}" for name in ("a", "b", "all") for number in range(8))


def test_measurements_move_between_postgresql_and_sqlite(postgres_url: str, tmp_path: Path) -> None:
    with MeasurementStore(postgres_url) as there, MeasurementStore(tmp_path / "here.sqlite") as here:
        there.add_all([(measurement(name), {"rounds": 3}) for name in "abc"])
        assert export_measurements(there, tmp_path / "m.parquet") == 3
        assert import_measurements(here, tmp_path / "m.parquet").added == 3
        assert here.all("nano", FAST) == there.all("nano", FAST)
        assert import_measurements(there, tmp_path / "m.parquet").known == 3


def test_tables_of_something_else_are_left_alone(postgres_url: str) -> None:
    sql(postgres_url, "CREATE TABLE measurements (height integer)")
    with pytest.raises(UserError, match="is not a measurement store but has a table called measurements"):
        MeasurementStore(postgres_url)
    sql(postgres_url, "INSERT INTO measurements VALUES (1)")


def test_a_newer_version_is_refused(postgres_url: str) -> None:
    MeasurementStore(postgres_url).close()
    sql(postgres_url, "INSERT INTO store_versions VALUES (99, 'later')")
    with pytest.raises(UserError, match="version 99"):
        MeasurementStore(postgres_url)


def test_a_wrong_password_is_told_without_showing_it(postgres: str) -> None:
    with pytest.raises(UserError) as caught:
        MeasurementStore(f"postgresql://tester:wr0ng@{postgres}/postgres")
    assert "wr0ng" not in str(caught.value) and "tester:***@" in str(caught.value)


def test_the_name_of_a_store_hides_its_password(postgres_url: str) -> None:
    with MeasurementStore(postgres_url) as store:
        assert (
            postgres_server.ESCAPED not in store.name
            and postgres_server.PASSWORD not in store.name
            and "tester" in store.name
        )
        assert store.path is None
