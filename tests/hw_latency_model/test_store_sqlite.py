"""Guarantees of the measurement store on SQLite; and files of measurements, whole, damaged and foreign."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hw_latency_model import KernelSpec, Measurement, MeasurementStore
from hw_latency_model.store.files import export_measurements, import_measurements
from hw_latency_model.store.fingerprints import describe_difference
from search_spaces._common.errors import UserError

COOL = {"device": "nano", "tensorrt": "8.2.1", "clocks": {"gpu_mhz": 921, "locked": True}}
WARM = {"device": "nano", "tensorrt": "8.2.1", "clocks": {"gpu_mhz": 640}, "power_mode": "5W"}
KERNELS = (
    KernelSpec("conv", "stem", 100, 10, 20, 30, kernel=(3, 3), fused=("relu", "add")),
    KernelSpec("op:Odd", 'a "quoted", name', 0, 1, 0, 1),
)
PROTOCOL = {"min_runs": 20, "max_s": 0.6, "lock_clocks": True}


def measurement(subject: str = "a", fingerprint: dict[str, Any] = COOL, **facts: Any) -> Measurement:
    usual: dict[str, Any] = {
        "latency_ms_p50": 0.1 + 0.2,
        "latency_ms_p90": 1 / 3,
        "latency_ms_p99": 2.0,
        "runs": 40,
        "noise_rel": 1e-17,
        "reference_ms": 1.1,
        "started_at": "2026-11-23T10:00:00+00:00",
        "samples_ms": (0.3, 0.30000000000000004, 2.0),
        "energy_mj": 12.5,
        "noisy": True,
        "provenance": 'übernommen, "by hand"\nfrom two lines',
        "kernels": KERNELS,
        "kernel_shares": (0.25, 0.75),
    }
    return Measurement(subject=subject, device="nano", fingerprint=fingerprint, **{**usual, **facts})


BARE = {"samples_ms": (), "energy_mj": None, "provenance": "measured", "kernels": (), "kernel_shares": ()}


@pytest.fixture
def store(tmp_path: Path) -> MeasurementStore:
    return MeasurementStore(tmp_path / "store.sqlite")


def filled(store: MeasurementStore) -> MeasurementStore:
    store.add(measurement("a"), protocol=PROTOCOL)
    store.add(measurement("b", WARM, **BARE))
    store.add(measurement("c", precision="fp16"), protocol={**PROTOCOL, "min_runs": 5})
    return store


def test_a_url_and_a_path_open_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "odd ?&% name.sqlite"
    MeasurementStore(path).add(measurement("a"))
    (tmp_path / "plain.sqlite").write_bytes(path.read_bytes())
    store = MeasurementStore(f"sqlite:///{tmp_path / 'plain.sqlite'}", create=False)
    assert store.all("nano", COOL) == [measurement("a")] and store.path == tmp_path / "plain.sqlite"


def test_a_store_that_shall_only_be_read_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no measurement store at"):
        MeasurementStore(tmp_path / "none.sqlite", create=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["mysql://me:s3cret@host/db", "oracle://me:s3cret@host/db", "what://me:s3cret@host/db"])
def test_other_databases_are_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(UserError) as caught:
        MeasurementStore(url)
    assert "s3cret" not in str(caught.value)


def test_the_protocol_is_kept_with_what_was_measured_by_it(store: MeasurementStore) -> None:
    filled(store)
    assert [item.protocol for item in store.stored()] == [PROTOCOL, None, {**PROTOCOL, "min_runs": 5}]
    assert [item.number for item in store.stored(fingerprint=WARM)] == [2]


def test_the_same_measurement_is_kept_once(store: MeasurementStore) -> None:
    assert [store.add(measurement("a")), store.add(measurement("b")), store.add(measurement("a"))] == [1, 2, 1]
    assert store.add(measurement("a", started_at="2026-11-23T10:00:01+00:00")) == 3
    assert len(store.stored()) == 3


def test_all_or_nothing_is_appended(store: MeasurementStore) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.add_all([(measurement("a"), None), (measurement("b", energy_mj=float("nan")), None)])
    assert store.stored() == []


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM measurements",
        "UPDATE fingerprints SET facts = '{}'",
        "REPLACE INTO measurements SELECT id, fingerprint_id, subject, started_at, precision, 9, facts, kernels, "
        "kernel_shares, device, provenance, protocol_id, stored_at FROM measurements",
        "REPLACE INTO fingerprints SELECT id, 'other', facts, first_seen FROM fingerprints",
        "REPLACE INTO contents SELECT hash, measurement_id FROM contents",
    ],
)
def test_rows_can_not_be_replaced_either(store: MeasurementStore, statement: str) -> None:
    store.add(measurement("a"), protocol=PROTOCOL)
    with sqlite3.connect(str(store.path)) as connection, pytest.raises(sqlite3.IntegrityError, match="never changed"):
        connection.execute(statement)
    assert store.all("nano", COOL) == [measurement("a")]


def test_several_fingerprints_need_a_choice_and_the_difference_is_told(store: MeasurementStore) -> None:
    filled(store)
    with pytest.raises(UserError) as caught:
        store.of_device("nano")
    for part in ("2 fingerprints", "clocks.gpu_mhz: 921 or 640", "clocks.locked: True or not stated", "power_mode"):
        assert part in str(caught.value)
    assert "tensorrt:" not in str(caught.value)
    warm = measurement(fingerprint=WARM).fingerprint_id
    assert [item.subject for item in store.of_device("nano", fingerprint=warm[:5])] == ["b"]
    assert [item.subject for item in store.of_device("nano", precision="fp16")] == ["c"]
    with pytest.raises(UserError, match="no fingerprint of nano that begins with 'zz'"):
        store.of_device("nano", fingerprint="zz")
    with pytest.raises(UserError, match="no measurement of tx2"):
        store.of_device("tx2")


def test_devices_that_share_a_fingerprint_are_kept_apart(store: MeasurementStore) -> None:
    from dataclasses import replace

    store.add(measurement("a"))
    store.add(replace(measurement("a"), device="nano-2"))
    assert [item.device for item in store.all("nano-2", COOL)] == ["nano-2"]
    assert [group.device for group in store.groups()] == ["nano", "nano-2"]
    assert store.fingerprints("nano-2") == [COOL]


def test_groups_count_what_there_is(store: MeasurementStore) -> None:
    filled(store).add(measurement("a", started_at="2027-01-01T00:00:00+00:00", provenance="measured"))
    first = store.groups("nano")[0]
    assert (first.measurements, first.subjects, first.precision) == (2, 1, "fp32")
    assert first.last_at.startswith("2027") and "measured" in first.provenances and len(first.provenances) == 2
    assert [group.fingerprint["tensorrt"] for group in store.groups()] == ["8.2.1"] * 3


def test_nothing_is_said_where_fingerprints_are_the_same() -> None:
    assert describe_difference([COOL, dict(reversed(COOL.items()))]) == ""


# Version 1, as the first release made it.
VERSION_1 = """
CREATE TABLE fingerprints (id VARCHAR(16) NOT NULL, device VARCHAR(100) NOT NULL, facts TEXT NOT NULL,
  first_seen VARCHAR(32) NOT NULL, PRIMARY KEY (id));
CREATE TABLE measurements (id INTEGER NOT NULL, fingerprint_id VARCHAR(16) NOT NULL, subject VARCHAR(200) NOT NULL,
  started_at VARCHAR(32) NOT NULL, precision VARCHAR(8) NOT NULL, latency_ms_p50 FLOAT NOT NULL, facts TEXT NOT NULL,
  kernels TEXT NOT NULL, kernel_shares TEXT NOT NULL, PRIMARY KEY (id),
  FOREIGN KEY(fingerprint_id) REFERENCES fingerprints (id));
CREATE TRIGGER no_update_measurements BEFORE update ON measurements
  BEGIN SELECT RAISE(ABORT, 'measurements are never changed'); END;
CREATE TRIGGER no_delete_measurements BEFORE delete ON measurements
  BEGIN SELECT RAISE(ABORT, 'measurements are never changed'); END;
PRAGMA user_version=1;
"""
OLD_FACTS = (
    "subject", "device", "latency_ms_p50", "latency_ms_p90", "latency_ms_p99", "runs", "noise_rel", "reference_ms",
    "started_at", "drift_rel", "waited_rel", "noisy", "repeats", "precision",
)  # fmt: skip


def version_1(path: Path, subjects: str) -> list[Measurement]:
    items = [measurement(name, **BARE) for name in subjects]
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_1)
        key = items[0].fingerprint_id
        connection.execute("INSERT INTO fingerprints VALUES (?, 'nano', ?, '2026')", (key, json.dumps(COOL)))
        for item in items:
            facts = json.dumps({name: getattr(item, name) for name in OLD_FACTS})
            row = (key, item.subject, item.started_at, item.precision, item.latency_ms_p50, facts, "[]", "[]")
            names = "fingerprint_id, subject, started_at, precision, latency_ms_p50, facts, kernels, kernel_shares"
            connection.execute(f"INSERT INTO measurements ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.close()
    return items


def test_a_file_of_version_1_is_brought_up_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    old = version_1(path, "abca")
    store = MeasurementStore(path)
    assert store.all("nano", COOL) == old  # a measurement that was stored twice stays there twice
    assert store.add(measurement("b", **BARE)) == 2
    assert store.add(measurement("d"), protocol=PROTOCOL) == 5
    assert [item.protocol for item in store.stored()] == [None] * 4 + [PROTOCOL]
    with sqlite3.connect(path) as connection, pytest.raises(sqlite3.IntegrityError, match="never changed"):
        connection.execute("UPDATE measurements SET provenance = 'other'")
    store.close()
    assert MeasurementStore(path).all("nano", COOL)[:4] == old


def test_a_migration_that_fails_leaves_version_1_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    version_1(path, "ab")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE contents (something TEXT)")
    before = sqlite3.connect(path).execute("SELECT * FROM measurements").fetchall()
    with pytest.raises(UserError, match="cannot be opened"):
        MeasurementStore(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT * FROM measurements").fetchall() == before
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


@pytest.mark.parametrize("name", ["m.csv", "m.parquet", "M.CSV"])
def test_a_round_trip_loses_and_doubles_nothing(store: MeasurementStore, tmp_path: Path, name: str) -> None:
    filled(store)
    path = tmp_path / "out" / name
    assert export_measurements(store, path) == 3
    other = MeasurementStore(tmp_path / "other.sqlite")
    result = import_measurements(other, path)
    assert (result.rows, result.added, result.known) == (3, 3, 0)
    pairs = [(item.measurement, item.protocol) for item in store.stored()]
    assert [(item.measurement, item.protocol) for item in other.stored()] == pairs
    assert [item.measurement.fingerprint_id for item in other.stored()] == [m.fingerprint_id for m, _ in pairs]
    again = import_measurements(other, path)
    assert (again.added, again.known) == (0, 3) and len(other.stored()) == 3


def test_only_what_was_asked_for_is_exported(store: MeasurementStore, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    assert export_measurements(filled(store), path, device="nano", fingerprint=WARM) == 1
    assert [row["subject"] for row in csv.DictReader(path.open(newline="", encoding="utf-8"))] == ["b"]
    assert export_measurements(store, path, device="tx2") == 0
    assert import_measurements(store, path).rows == 0


def test_a_file_written_by_hand_needs_the_facts_alone(store: MeasurementStore, tmp_path: Path) -> None:
    path = tmp_path / "hand.csv"
    names = "file_version,subject,device,latency_ms_p50,latency_ms_p90,latency_ms_p99,runs,noise_rel,reference_ms"
    path.write_text(f'{names},started_at,fingerprint\n2,a,nano,1,2,3,40,0.1,1,2026,"{{""board"": ""mine""}}"\n')
    assert import_measurements(store, path).added == 1
    found = store.of_device("nano")[0]
    assert (found.latency_ms_p50, found.fingerprint, found.kernels) == (1.0, {"board": "mine"}, ())


def exported(store: MeasurementStore, path: Path) -> list[list[str]]:
    export_measurements(filled(store), path)
    return list(csv.reader(path.open(newline="", encoding="utf-8")))


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("latency_ms_p50", "fast", "row 2 .*column latency_ms_p50: 'fast' is not a number"),
        ("latency_ms_p50", "nan", "row 2 .*column latency_ms_p50: nan is not a finite number"),
        ("latency_ms_p50", "-1", "column latency_ms_p50: -1.0 is not above 0"),
        ("latency_ms_p50", "0.31", "row 2 .*column content_hash: the row does not hold what was exported"),
        ("runs", "4.5", "column runs: '4.5' is not a whole number"),
        ("noisy", "maybe", "column noisy: 'maybe' is neither"),
        ("fingerprint", "[1]", "column fingerprint: it is not a JSON object"),
        ("fingerprint", "{", "column fingerprint: '{' is not JSON"),
        ("kernels", '[{"kind": "conv"}]', "column kernels: it is not a list of kernels"),
        ("kernel_shares", '["a"]', "column kernel_shares: .* is not a list of numbers"),
        ("samples_ms", "7", "column samples_ms: 7 is not a list"),
        ("file_version", "3", "column file_version: it is of version 3"),
    ],
)
def test_a_damaged_cell_is_named_and_nothing_is_imported(
    store: MeasurementStore, tmp_path: Path, column: str, cell: str, said: str
) -> None:
    path = tmp_path / "m.csv"
    table = exported(store, path)
    table[2][table[0].index(column)] = cell
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows(table)
    other = MeasurementStore(tmp_path / "other.sqlite")
    with pytest.raises(UserError, match=said) as caught:
        import_measurements(other, path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert other.stored() == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "column file_version: the column is missing"),
        (b"trial,val_miou\n1,0.5\n", "column file_version: the column is missing"),
        (b"\xff\xfe\x00\x01", "the header: it cannot be read"),
        (b"PAR1 this is not", "column file_version: the column is missing"),
    ],
)
def test_a_foreign_csv_is_refused(store: MeasurementStore, tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        import_measurements(store, path)


def test_a_cut_csv_is_refused(store: MeasurementStore, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    exported(store, path)
    whole = path.read_bytes()
    for share in (0.5, 0.8, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match=r"row \d.*nothing was imported"):
            import_measurements(MeasurementStore(tmp_path / "other.sqlite"), path)
    assert MeasurementStore(tmp_path / "other.sqlite").stored() == []


def test_an_unknown_or_repeated_column_is_named(store: MeasurementStore, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    for name in ("remark", "subject"):
        table = exported(store, path)
        with path.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([[*row, name] for row in table])
        with pytest.raises(UserError, match=f"the header, column {name}"):
            import_measurements(store, path)


def test_a_damaged_or_foreign_parquet_is_refused(store: MeasurementStore, tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    export_measurements(filled(store), path)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["subject"]), path)
    with pytest.raises(UserError, match="the header, column subject: the column is missing"):
        import_measurements(store, path)
    column = table.column_names.index("latency_ms_p50")
    pq.write_table(table.set_column(column, "latency_ms_p50", [["1", "fast", "2"]]), path)
    with pytest.raises(UserError, match="row 1, column latency_ms_p50: '1' is not a finite number"):
        import_measurements(store, path)
    path.write_bytes(b"PAR1" + bytes(200))
    with pytest.raises(UserError, match="not readable as Parquet"):
        import_measurements(store, path)


def test_an_export_that_would_fill_the_memory_is_refused_unread(store: MeasurementStore, tmp_path: Path) -> None:
    for name in ("m.csv", "m.parquet"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(10**12)
        with pytest.raises(UserError, match="1000000 MB, more than an export of measurements ever has"):
            import_measurements(store, tmp_path / name)
    path = tmp_path / "m.parquet"
    export_measurements(filled(store), path)
    row = pq.read_table(path).slice(0, 1)
    with pq.ParquetWriter(path, row.schema, compression="zstd") as writer:
        writer.write_table(row.take([0] * 1_000_001))  # the same row a million times: a few kB
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UserError, match="unpacks to 1,000,001 rows"):
        import_measurements(store, path)


def test_only_csv_and_parquet_are_known_and_a_missing_file_is_named(store: MeasurementStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"as \.csv or \.parquet"):
        export_measurements(store, tmp_path / "m.xlsx")
    with pytest.raises(UserError, match="there is no file"):
        import_measurements(store, tmp_path / "none.csv")
