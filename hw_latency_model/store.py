"""What was measured, kept for ever: an append-only SQLite file in which each machine's fingerprint is kept apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from hw_latency_model.types import KernelSpec, Measurement, fingerprint_id
from search_spaces.errors import UserError

SCHEMA_VERSION = 1

_METADATA = MetaData()
_FINGERPRINTS = Table(
    "fingerprints",
    _METADATA,
    Column("id", String(16), primary_key=True),
    Column("device", String(100), nullable=False, index=True),
    Column("facts", Text, nullable=False),
    Column("first_seen", String(32), nullable=False),
)
_MEASUREMENTS = Table(
    "measurements",
    _METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("fingerprint_id", ForeignKey("fingerprints.id"), nullable=False, index=True),
    Column("subject", String(200), nullable=False, index=True),
    Column("started_at", String(32), nullable=False),
    Column("precision", String(8), nullable=False),
    Column("latency_ms_p50", Float, nullable=False),
    Column("facts", Text, nullable=False),
    Column("kernels", Text, nullable=False),
    Column("kernel_shares", Text, nullable=False),
)


class MeasurementStore:
    """Measurements in one SQLite file; several processes may append at the same time.

    Rows are never changed or deleted: the database itself refuses it.

    Args:
        path: the file; made, with its folder, when it is not there.

    Raises:
        UserError: the file is not such a store, is of a newer version, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._engine = _open(path)
        except (OSError, DBAPIError) as error:
            raise self._error("opened", error) from error

    def add(self, measurement: Measurement, kernels: Sequence[KernelSpec] | None = None) -> int:
        """Append one measurement and return its number. Its own kernels are kept where none are given.

        Raises:
            UserError: the file cannot be written.
        """
        if kernels is not None:
            measurement = measurement.with_kernels(kernels)
        facts = measurement.to_dict()
        del facts["fingerprint"]
        row = {
            "fingerprint_id": measurement.fingerprint_id,
            "subject": measurement.subject,
            "started_at": measurement.started_at,
            "precision": measurement.precision,
            "latency_ms_p50": measurement.latency_ms_p50,
            "facts": json.dumps(facts, allow_nan=False),
            "kernels": json.dumps([kernel.to_dict() for kernel in measurement.kernels], allow_nan=False),
            "kernel_shares": json.dumps(measurement.kernel_shares, allow_nan=False),
        }
        try:
            self._know(measurement)
            with self._engine.begin() as connection:
                return int(connection.execute(insert(_MEASUREMENTS).returning(_MEASUREMENTS.c.id), row).scalar_one())
        except DBAPIError as error:
            raise self._error("written", error) from error

    def all(self, device: str, fingerprint: Mapping[str, Any]) -> list[Measurement]:
        """All measurements of ``device`` taken under exactly this fingerprint, oldest first, with their kernels."""
        query = (
            select(_MEASUREMENTS.c.facts, _MEASUREMENTS.c.kernels, _MEASUREMENTS.c.kernel_shares)
            .join(_FINGERPRINTS)
            .where(_FINGERPRINTS.c.device == device, _FINGERPRINTS.c.id == fingerprint_id(fingerprint))
            .order_by(_MEASUREMENTS.c.id)
        )
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(query).all()
        except DBAPIError as error:
            raise self._error("read", error) from error
        return [
            Measurement.from_dict({**json.loads(facts), "fingerprint": dict(fingerprint)}).with_kernels(
                [KernelSpec.from_dict(kernel) for kernel in json.loads(kernels)], json.loads(shares)
            )
            for facts, kernels, shares in rows
        ]

    def fingerprints(self, device: str | None = None) -> list[dict[str, Any]]:
        """The fingerprints measurements were taken under, first seen first."""
        query = select(_FINGERPRINTS.c.facts).order_by(_FINGERPRINTS.c.first_seen)
        if device is not None:
            query = query.where(_FINGERPRINTS.c.device == device)
        with self._engine.connect() as connection:
            return [json.loads(row[0]) for row in connection.execute(query)]

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def _know(self, measurement: Measurement) -> None:
        key = measurement.fingerprint_id
        with self._engine.connect() as connection:
            if connection.execute(select(_FINGERPRINTS.c.id).where(_FINGERPRINTS.c.id == key)).first():
                return
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    insert(_FINGERPRINTS).values(
                        id=key,
                        device=measurement.device,
                        facts=json.dumps(dict(measurement.fingerprint), sort_keys=True, allow_nan=False),
                        first_seen=datetime.now(UTC).isoformat(timespec="microseconds"),
                    )
                )
        except IntegrityError:
            return  # another process was first

    def _error(self, done: str, error: Exception) -> UserError:
        cause = str(getattr(error, "orig", None) or error)
        return UserError(
            f"the measurement store {self.path} cannot be {done} ({cause}); "
            "check the folder's permissions and the free space, or move the file away to start a new one."
        )


def _open(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 60})

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA foreign_keys=ON")

    with engine.connect() as connection:
        found = int(connection.execute(text("PRAGMA user_version")).scalar_one())
    if found > SCHEMA_VERSION:
        raise UserError(
            f"the measurement store {path} has version {found}, this paretoseg reads up to {SCHEMA_VERSION}; "
            "update paretoseg or move the file away to start a new one."
        )
    if found == SCHEMA_VERSION:
        return engine
    raw = engine.raw_connection()
    try:
        # The write lock is taken first, so that several processes may create the same file.
        raw.cursor().executescript(_schema(engine))
    finally:
        raw.close()
    return engine


def _schema(engine: Engine) -> str:
    from sqlalchemy.schema import CreateIndex, CreateTable

    statements = []
    for table in _METADATA.sorted_tables:
        statements.append(str(CreateTable(table, if_not_exists=True).compile(engine)))
        statements += [str(CreateIndex(index, if_not_exists=True).compile(engine)) for index in table.indexes]
        statements += [
            f"CREATE TRIGGER IF NOT EXISTS no_{verb}_{table.name} BEFORE {verb} ON {table.name} "
            "BEGIN SELECT RAISE(ABORT, 'measurements are never changed'); END"
            for verb in ("update", "delete")
        ]
    return "BEGIN IMMEDIATE;\n" + ";\n".join([*statements, f"PRAGMA user_version={SCHEMA_VERSION}"]) + ";\nCOMMIT;"
