"""Append-only store of measurements in a SQLite file or PostgreSQL database, separated by fingerprint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from hw_latency_model.store.fingerprints import MeasuredGroup, choose_fingerprint
from hw_latency_model.store.rows import content_hash, facts_text, kernels_text, measurement_of
from hw_latency_model.store.schema import (
    CONTENTS,
    FINGERPRINTS,
    MEASUREMENTS,
    PROTOCOLS,
    SCHEMA_VERSION,
    SQLITE,
    measured_device,
    now,
    open_engine,
    url_of,
    writing,
)
from hw_latency_model.types import KernelSpec, Measurement, fingerprint_id
from search_spaces._common.errors import UserError
from search_spaces._common.urls import redact_url

__all__ = ["SCHEMA_VERSION", "MeasurementStore", "StoredMeasurement"]


@dataclass(frozen=True)
class StoredMeasurement:
    """Row of the store.

    Attributes:
        number: number in order of insertion, from 1.
        measurement: the measurement with its kernels.
        protocol: protocol settings; None if not recorded.
        stored_at: ISO 8601, UTC; None for rows of schema version 1.
    """

    number: int
    measurement: Measurement
    protocol: Mapping[str, Any] | None
    stored_at: str | None


class MeasurementStore:
    """Measurements in one database; several processes may append concurrently.

    Rows are never changed or deleted: triggers of the database prevent it. Equal measurements are stored once.

    Args:
        path_or_url: a SQLite file, created with its folder if missing; or a URL of SQLite or PostgreSQL.
        create: False raises UserError for a missing file instead of creating it.

    Attributes:
        name: location for display, without a password.
        path: the file; None for PostgreSQL.

    Raises:
        UserError: it is not such a store, has a newer version, or cannot be reached, created or written.
    """

    def __init__(self, path_or_url: Path | str, *, create: bool = True) -> None:
        self.name = redact_url(str(path_or_url))
        self.path: Path | None = None
        with self._explained("opened"):
            url = url_of(path_or_url)
            if url.get_backend_name() == SQLITE and url.database and url.database != ":memory:":
                self.path = Path(url.database)
                self.name = str(self.path)
                if not create and not self.path.is_file():
                    raise UserError(
                        f"there is no measurement store at {self.path}; run `paretoseg calibrate` to make one, or name another."
                    )
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._engine = open_engine(url, self.name)

    def __enter__(self) -> MeasurementStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(
        self,
        measurement: Measurement,
        kernels: Sequence[KernelSpec] | None = None,
        *,
        protocol: Mapping[str, Any] | None = None,
    ) -> int:
        """Append one measurement and return its number; an existing measurement keeps its number.

        Args:
            kernels: kernels in place of the measurement's own.
            protocol: protocol settings, JSON-ready.

        Raises:
            UserError: the database cannot be written.
            ValueError: it contains a NaN or an infinity.
        """
        if kernels is not None:
            measurement = measurement.with_kernels(kernels)
        with self._explained("written"), writing(self._engine) as connection:
            return _append(connection, measurement, protocol)[0]

    def add_all(self, items: Iterable[tuple[Measurement, Mapping[str, Any] | None]]) -> tuple[int, int]:
        """Append (measurement, protocol) pairs, all or none; return the numbers of new and of existing ones.

        Raises:
            UserError, ValueError: as for ``add``; nothing was appended.
        """
        with self._explained("written"), writing(self._engine) as connection:
            news = [_append(connection, measurement, protocol)[1] for measurement, protocol in items]
        return sum(news), len(news) - sum(news)

    def all(self, device: str, fingerprint: Mapping[str, Any], *, precision: str | None = None) -> list[Measurement]:
        """Read all measurements of ``device`` with exactly this fingerprint, oldest first, with their kernels."""
        query = _rows().where(measured_device == device, FINGERPRINTS.c.id == fingerprint_id(fingerprint))
        if precision is not None:
            query = query.where(MEASUREMENTS.c.precision == precision)
        return [item.measurement for item in self._read(query)]

    def of_device(
        self, device: str, *, fingerprint: str | None = None, precision: str | None = None
    ) -> list[Measurement]:
        """Read all measurements of ``device`` with one fingerprint, oldest first.

        Args:
            fingerprint: beginning of its id; None if the device has only one.
            precision: ``fp32``...; None for any.

        Raises:
            UserError: there are none, or several fingerprints without a choice; the message has their differences.
        """
        groups = [group for group in self.groups(device) if precision in (None, group.precision)]
        chosen = choose_fingerprint(groups, wanted=fingerprint, device=device, store=self.name)
        facts = next(group.fingerprint for group in groups if group.fingerprint_id == chosen)
        return self.all(device, facts, precision=precision)

    def stored(
        self, device: str | None = None, fingerprint: Mapping[str, Any] | None = None
    ) -> list[StoredMeasurement]:
        """Read rows, oldest first, optionally of one device or fingerprint."""
        query = _rows()
        if device is not None:
            query = query.where(measured_device == device)
        if fingerprint is not None:
            query = query.where(FINGERPRINTS.c.id == fingerprint_id(fingerprint))
        return list(self._read(query))

    def groups(self, device: str | None = None) -> list[MeasuredGroup]:
        """Summarise the measurements by device, fingerprint and precision, in order of first appearance."""
        table = MEASUREMENTS.c
        query = (
            select(
                measured_device,
                FINGERPRINTS.c.facts,
                table.precision,
                func.count(),
                func.count(table.subject.distinct()),
                func.min(table.started_at),
                func.max(table.started_at),
            )
            .join_from(MEASUREMENTS, FINGERPRINTS)
            .group_by(measured_device, FINGERPRINTS.c.id, FINGERPRINTS.c.facts, table.precision)
            .order_by(func.min(table.id))
        )
        origins = select(table.fingerprint_id, table.precision, table.provenance).distinct()
        if device is not None:
            query = query.where(measured_device == device)
        with self._explained("read"), self._engine.connect() as connection:
            rows = connection.execute(query).all()
            sources = connection.execute(origins).all()
        groups = []
        for name, facts, precision, count, subjects, first, last in rows:
            fingerprint = json.loads(facts)
            key = (fingerprint_id(fingerprint), precision)
            provenances = tuple(sorted(text for owner, kind, text in sources if (owner, kind) == key))
            groups.append(MeasuredGroup(name, fingerprint, precision, count, subjects, first, last, provenances))
        return groups

    def fingerprints(self, device: str | None = None) -> list[dict[str, Any]]:
        """List the fingerprints in order of first appearance."""
        query = select(FINGERPRINTS.c.facts).order_by(FINGERPRINTS.c.first_seen)
        if device is not None:
            theirs = (
                select(MEASUREMENTS.c.fingerprint_id)
                .join_from(MEASUREMENTS, FINGERPRINTS)
                .where(measured_device == device)
            )
            query = query.where(FINGERPRINTS.c.id.in_(theirs))
        with self._explained("read"), self._engine.connect() as connection:
            return [json.loads(row[0]) for row in connection.execute(query)]

    def close(self) -> None:
        """Close the connection to the database."""
        self._engine.dispose()

    def _read(self, query: Select[Any]) -> Iterator[StoredMeasurement]:
        with self._explained("read"), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        for number, stored_at, settings, *texts in rows:
            protocol = None if settings is None else json.loads(settings)
            yield StoredMeasurement(number, measurement_of(*texts), protocol, stored_at)

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        try:
            yield
        except (ArgumentError, NoSuchModuleError) as error:
            raise UserError(
                f"{self.name} is not a database URL; give a file's path, sqlite:///FILE or postgresql://USER@HOST/DATABASE."
            ) from error
        except ImportError as error:
            raise UserError(
                f"the Python driver for {self.name} is not installed; run: pip install 'paretoseg[postgres]'"
            ) from error
        except (OSError, SQLAlchemyError) as error:
            lines = redact_url(str(getattr(error, "orig", None) or error)).strip().splitlines()
            step = "check that the server runs and that the user may make tables there"
            if self.path is not None:
                step = "check the folder's permissions and the free space, or move the file away to start a new one"
            raise UserError(
                f"the measurement store {self.name} cannot be {done} ({lines[0] if lines else type(error).__name__}); {step}."
            ) from error


def _rows() -> Select[Any]:
    table = MEASUREMENTS.c
    columns = select(
        table.id,
        table.stored_at,
        PROTOCOLS.c.settings,
        table.facts,
        FINGERPRINTS.c.facts,
        table.kernels,
        table.kernel_shares,
    )
    return columns.join_from(MEASUREMENTS, FINGERPRINTS).outerjoin(PROTOCOLS).order_by(table.id)


def _append(connection: Connection, measurement: Measurement, protocol: Mapping[str, Any] | None) -> tuple[int, bool]:
    """Append a measurement; return its number, and True if it is new."""
    key = content_hash(measurement)
    known = connection.execute(select(CONTENTS.c.measurement_id).where(CONTENTS.c.hash == key)).scalar()
    if known is not None:
        return int(known), False
    facts = json.dumps(dict(measurement.fingerprint), sort_keys=True, allow_nan=False)
    owner = measurement.fingerprint_id
    if not connection.execute(select(FINGERPRINTS.c.id).where(FINGERPRINTS.c.id == owner)).first():
        connection.execute(
            insert(FINGERPRINTS), {"id": owner, "device": measurement.device, "facts": facts, "first_seen": now()}
        )
    protocol_id = None
    if protocol is not None:
        protocol_id = fingerprint_id(protocol)
        if not connection.execute(select(PROTOCOLS.c.id).where(PROTOCOLS.c.id == protocol_id)).first():
            settings = json.dumps(dict(protocol), sort_keys=True, allow_nan=False)
            connection.execute(insert(PROTOCOLS), {"id": protocol_id, "settings": settings})
    row = {
        "fingerprint_id": owner,
        "subject": measurement.subject,
        "started_at": measurement.started_at,
        "precision": measurement.precision,
        "latency_ms_p50": measurement.latency_ms_p50,
        "facts": facts_text(measurement),
        "kernels": kernels_text(measurement),
        "kernel_shares": json.dumps(measurement.kernel_shares, allow_nan=False),
        "device": measurement.device,
        "provenance": measurement.provenance,
        "protocol_id": protocol_id,
        "stored_at": now(),
    }
    number = int(connection.execute(insert(MEASUREMENTS).returning(MEASUREMENTS.c.id), row).scalar_one())
    connection.execute(insert(CONTENTS), {"hash": key, "measurement_id": number})
    return number, True
