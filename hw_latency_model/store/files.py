"""Lossless export and import of measurements as CSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_latency_model.store.columns import (
    CONTENT_HASH,
    FILE_VERSION,
    PROTOCOL,
    CellError,
    FileColumn,
    checked,
    file_columns,
    from_text,
    to_text,
)
from hw_latency_model.store.measurement_store import MeasurementStore, StoredMeasurement
from hw_latency_model.store.rows import content_hash
from hw_latency_model.types import KernelSpec, Measurement
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path
from search_spaces._common.untrusted import check_size

VERSION = 2
CSV, PARQUET = ".csv", ".parquet"
_ROWS_AT_ONCE = 500
_LONGEST_CELL = 2**31 - 1
_MOST_MB = 512
_MOST_ROWS = 1_000_000
_MOST_UNPACKED_MB = 4096
_Rows = Iterator[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class ImportResult:
    """Result of an import: rows of the file, of which new, and of which already stored."""

    rows: int
    added: int
    known: int


def export_measurements(
    store: MeasurementStore,
    path: Path,
    *,
    device: str | None = None,
    fingerprint: Mapping[str, Any] | None = None,
) -> int:
    """Write the store, or its measurements of one device or fingerprint, as CSV or Parquet by the suffix of ``path``.

    Returns:
        The number of rows; each includes its fingerprint, so that they remain separate when imported.

    Raises:
        UserError: the suffix is unknown, or the file cannot be written.
    """
    suffix = _suffix(path)
    items = store.stored(device, fingerprint)
    columns = file_columns()
    with atomic_path(path) as temporary:
        (_write_csv if suffix == CSV else _write_parquet)(temporary, columns, items)
    return len(items)


def import_measurements(store: MeasurementStore, path: Path) -> ImportResult:
    """Append the new measurements of a file written by ``export_measurements``, all or none.

    Raises:
        UserError: the file is missing, damaged, or not such a file; names the row and the column. Nothing was appended.
    """
    suffix = _suffix(path)
    if not path.is_file():
        raise UserError(f"there is no file {path} to import; name a .csv or .parquet that was exported.")
    check_size(path, "an export of measurements", _MOST_MB)
    columns = file_columns()
    rows = _read_csv(path, columns) if suffix == CSV else _read_parquet(path, columns)
    pairs = [_pair(path, where, row, columns) for where, row in rows]
    added, known = store.add_all(pairs)
    return ImportResult(len(pairs), added, known)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (CSV, PARQUET):
        raise UserError(f"measurements are exported and imported as .csv or .parquet, not as {path.name!r}.")
    return suffix


def _values(item: StoredMeasurement) -> dict[str, Any]:
    measurement = item.measurement
    return {
        **measurement.to_dict(),
        "kernels": [kernel.to_dict() for kernel in measurement.kernels],
        "kernel_shares": list(measurement.kernel_shares),
        FILE_VERSION: VERSION,
        CONTENT_HASH: content_hash(measurement),
        PROTOCOL: item.protocol,
    }


def _write_csv(path: Path, columns: Sequence[FileColumn], items: Sequence[StoredMeasurement]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow([column.name for column in columns])
        for item in items:
            values = _values(item)
            writer.writerow([to_text(column, values[column.name]) for column in columns])


def _write_parquet(path: Path, columns: Sequence[FileColumn], items: Sequence[StoredMeasurement]) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    types = {
        "text": pa.string(),
        "json": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "floats": pa.list_(pa.float64()),
    }
    schema = pa.schema([pa.field(column.name, types[column.kind]) for column in columns])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(items), _ROWS_AT_ONCE):
            rows = [_values(item) for item in items[start : start + _ROWS_AT_ONCE]]
            for column in (column for column in columns if column.kind == "json"):
                for row in rows:
                    row[column.name] = to_text(column, row[column.name]) or None
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _read_csv(path: Path, columns: Sequence[FileColumn]) -> _Rows:
    known = {column.name: column for column in columns}
    limit = csv.field_size_limit(_LONGEST_CELL)
    where = "the header"
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, strict=True)
            header = next(reader, [])
            _check_header(path, header, columns)
            where = "row 1"
            for number, cells in enumerate(reader, start=1):
                where = f"row {number} (line {reader.line_num})"
                if len(cells) != len(header):
                    raise _refused(path, where, None, f"it has {len(cells)} cells, the header has {len(header)}")
                row = {}
                for name, cell in zip(header, cells, strict=True):
                    row[name] = _cell(path, where, known[name], cell, from_text)
                yield where, row
                where = f"row {number + 1}"
    except (UnicodeDecodeError, csv.Error) as error:
        raise _refused(path, where, None, f"it cannot be read ({error})") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error
    finally:
        csv.field_size_limit(limit)


def _read_parquet(path: Path, columns: Sequence[FileColumn]) -> _Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = {column.name: column for column in columns}
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            _check_header(path, file.schema_arrow.names, columns)
            facts = file.metadata
            unpacked = sum(facts.row_group(group).total_byte_size for group in range(facts.num_row_groups))
            if facts.num_rows > _MOST_ROWS or unpacked > _MOST_UNPACKED_MB * 1_000_000:
                why = f"it unpacks to {facts.num_rows:,} rows of {unpacked / 1e6:,.0f} MB, more than measurements ever are"
                raise _refused(path, "the file", None, why)
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    where = f"row {number}"
                    for column in (known[name] for name in row if known[name].kind == "json"):
                        if isinstance(row[column.name], str):
                            row[column.name] = _cell(path, where, column, row[column.name], from_text)
                    yield where, row
    except (pa.ArrowException, OSError) as error:
        cause = str(error).partition("\n")[0]
        raise _refused(path, "the file", None, f"it is not readable as Parquet ({cause})") from error


def _check_header(path: Path, header: Sequence[str], columns: Sequence[FileColumn]) -> None:
    names = [column.name for column in columns]
    for column in columns:
        if column.required and column.name not in header:
            raise _refused(path, "the header", column.name, "the column is missing, so this is no file of measurements")
    for index, name in enumerate(header):
        if name not in names:
            raise _refused(path, "the header", name, "there is no such fact of a measurement")
        if name in header[:index]:
            raise _refused(path, "the header", name, "the column is there twice")


def _pair(
    path: Path, where: str, row: Mapping[str, Any], columns: Sequence[FileColumn]
) -> tuple[Measurement, Mapping[str, Any] | None]:
    values = {c.name: _cell(path, where, c, row[c.name], checked) for c in columns if c.name in row}
    version = values.pop(FILE_VERSION)
    if version != VERSION:
        why = f"it is of version {version}, this paretoseg reads {VERSION}"
        raise _refused(path, where, FILE_VERSION, why)
    stated_hash, protocol = values.pop(CONTENT_HASH, None), values.pop(PROTOCOL, None)
    for name, value in (("fingerprint", values["fingerprint"]), (PROTOCOL, protocol or {})):
        if not isinstance(value, Mapping):
            raise _refused(path, where, name, "it is not a JSON object")
    values["kernels"] = _kernels(path, where, values.get("kernels", ()))
    if values.get("kernel_shares") and len(values["kernel_shares"]) != len(values["kernels"]):
        raise _refused(path, where, "kernel_shares", "there are not as many as kernels")
    measurement = Measurement(**values)
    if stated_hash and stated_hash != content_hash(measurement):
        why = "the row does not hold what was exported; it was damaged or changed (empty this cell if you meant to)"
        raise _refused(path, where, CONTENT_HASH, why)
    return measurement, protocol


def _kernels(path: Path, where: str, value: Any) -> tuple[KernelSpec, ...]:
    try:
        return tuple(KernelSpec.from_dict(kernel) for kernel in value)
    except (TypeError, AttributeError, ValueError, KeyError) as error:
        raise _refused(path, where, "kernels", f"it is not a list of kernels ({error})") from error


def _cell(path: Path, where: str, column: FileColumn, value: Any, read: Callable[[FileColumn, Any], Any]) -> Any:
    try:
        return read(column, value)
    except CellError as error:
        raise _refused(path, where, column.name, str(error)) from error


def _refused(path: Path, where: str, column: str | None, why: str) -> UserError:
    place = where if column is None else f"{where}, column {column}"
    return UserError(
        f"cannot import {path}: {place}: {why}; nothing was imported, mend it or export the measurements again."
    )
