"""Schema of the measurement store: tables, migration, and triggers that keep rows from being changed.

Version 1 was a SQLite file of ``fingerprints`` and ``measurements``. Version 2 adds protocols, the hash of each
measurement's content, provenance and the time of storing, and runs on PostgreSQL too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
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
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.schema import CreateColumn

from hw_latency_model.store.rows import content_hash, measurement_of
from search_spaces._common.errors import UserError
from search_spaces._common.urls import parse_database_url, with_installed_driver

SCHEMA_VERSION = 2
SQLITE, POSTGRESQL = "sqlite", "postgresql"

_METADATA = MetaData()
FINGERPRINTS = Table(
    "fingerprints",
    _METADATA,
    Column("id", String(16), primary_key=True),
    Column("device", Text, nullable=False, index=True),
    Column("facts", Text, nullable=False),
    Column("first_seen", String(32), nullable=False),
)
PROTOCOLS = Table(
    "protocols",
    _METADATA,
    Column("id", String(16), primary_key=True),
    Column("settings", Text, nullable=False),
)
MEASUREMENTS = Table(
    "measurements",
    _METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("fingerprint_id", ForeignKey("fingerprints.id"), nullable=False, index=True),
    Column("subject", Text, nullable=False, index=True),
    Column("started_at", Text, nullable=False),
    Column("precision", Text, nullable=False),
    Column("latency_ms_p50", Float(53), nullable=False),
    Column("facts", Text, nullable=False),
    Column("kernels", Text, nullable=False),
    Column("kernel_shares", Text, nullable=False),
    Column("device", Text),  # None in rows of version 1, which stored it with the fingerprint only
    Column("provenance", Text, nullable=False, server_default="measured"),
    Column("protocol_id", ForeignKey("protocols.id")),
    Column("stored_at", String(32)),
)
CONTENTS = Table(
    "contents",
    _METADATA,
    Column("hash", String(64), primary_key=True),
    Column("measurement_id", ForeignKey("measurements.id"), nullable=False),
)
measured_device: ColumnElement[str] = func.coalesce(MEASUREMENTS.c.device, FINGERPRINTS.c.device)
_VERSIONS = Table(
    "store_versions",
    _METADATA,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("since", String(32), nullable=False),
)
_SINCE_2 = ("device", "provenance", "protocol_id", "stored_at")
_REFUSAL = "measurements are never changed"
_LOCK = 0x7061_7265_746F  # arbitrary key of the advisory lock, unlikely to be used by another program


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def url_of(path_or_url: Path | str) -> URL:
    """Return the database URL of a path or URL, with the installed driver for PostgreSQL.

    Raises:
        UserError: no database URL, or a database of another kind.
    """
    given = str(path_or_url)
    if isinstance(path_or_url, Path) or "://" not in given:
        return URL.create(SQLITE, database=given)
    url = with_installed_driver(parse_database_url(given, "the measurement store"))
    if url.get_backend_name() not in (SQLITE, POSTGRESQL):
        raise UserError(
            f"measurements are kept in SQLite or PostgreSQL, not in {url.get_backend_name()}; "
            "give a file's path, sqlite:///FILE or postgresql://USER@HOST/DATABASE."
        )
    return url


def open_engine(url: URL, shown: str) -> Engine:
    """Open an engine, creating the tables or migrating them from version 1.

    Raises:
        UserError: the database has a newer version, or other tables of these names.
        SQLAlchemyError: it cannot be reached, read or written.
    """
    sqlite = url.get_backend_name() == SQLITE
    engine = create_engine(url, **({"connect_args": {"timeout": 60}} if sqlite else {"pool_pre_ping": True}))
    if sqlite:
        _own_transactions(engine)
    with engine.connect() as connection:
        found = _version(connection)
    if found == SCHEMA_VERSION:
        return engine
    with writing(engine) as connection:
        found = _version(connection)  # another process may have created them
        if found > SCHEMA_VERSION:
            raise UserError(
                f"the measurement store {shown} has version {found}, this paretoseg reads up to {SCHEMA_VERSION}; "
                "update paretoseg or move the file away to start a new one."
            )
        if found < SCHEMA_VERSION:
            _bring_up(connection, found, shown)
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open an exclusive write transaction, so that look-ups within it remain valid until it writes."""
    with engine.connect().execution_options(writing=True) as connection, connection.begin():
        if connection.dialect.name == POSTGRESQL:
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        yield connection


def _own_transactions(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # Python's implicit transactions begin too late to protect a look-up
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        alone = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if alone else "BEGIN")


def _version(connection: Connection) -> int:
    """Version of the schema; 0 without a store."""
    if connection.dialect.name == SQLITE:
        return int(connection.execute(text("PRAGMA user_version")).scalar_one())
    if not inspect(connection).has_table(_VERSIONS.name):
        return 0
    return int(connection.execute(select(func.coalesce(func.max(_VERSIONS.c.version), 0))).scalar_one())


def _bring_up(connection: Connection, found: int, shown: str) -> None:
    if found == 0:
        foreign = sorted(set(inspect(connection).get_table_names()) & set(_METADATA.tables))
        if foreign:
            raise UserError(
                f"{shown} is not a measurement store but has a table called {foreign[0]}; "
                "name another file or database for the measurements."
            )
    _METADATA.create_all(connection)
    if found == 1:
        _from_version_1(connection)
    for statement in _guards(connection.dialect.name):
        connection.exec_driver_sql(statement)
    connection.execute(insert(_VERSIONS).values(version=SCHEMA_VERSION, since=now()))
    if connection.dialect.name == SQLITE:
        connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")


def _from_version_1(connection: Connection) -> None:
    """Migrate from version 1 by adding columns and hashes; rows are not changed, which the triggers of version 1 prevent."""
    for name in _SINCE_2:
        column = CreateColumn(MEASUREMENTS.c[name]).compile(dialect=connection.dialect)
        references = " REFERENCES protocols (id)" if name == "protocol_id" else ""
        connection.exec_driver_sql(f"ALTER TABLE measurements ADD COLUMN {column}{references}")
    table = MEASUREMENTS.c
    query = select(table.id, table.facts, FINGERPRINTS.c.facts, table.kernels, table.kernel_shares)
    seen: set[str] = set()
    for number, *texts in connection.execute(query.join(FINGERPRINTS).order_by(table.id)).all():
        key = content_hash(measurement_of(*texts))
        if key not in seen:
            seen.add(key)
            connection.execute(insert(CONTENTS).values(hash=key, measurement_id=number))


def _guards(dialect: str) -> list[str]:
    if dialect == POSTGRESQL:
        function = "CREATE OR REPLACE FUNCTION paretoseg_never_changed() RETURNS trigger LANGUAGE plpgsql AS "
        return [
            f"{function} $$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$",
            *(
                f"CREATE TRIGGER never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON {name} "
                "FOR EACH STATEMENT EXECUTE FUNCTION paretoseg_never_changed()"
                for name in _METADATA.tables
            ),
        ]
    statements = []
    for name, table in _METADATA.tables.items():
        key = next(iter(table.primary_key.columns)).name
        # REPLACE deletes without a delete trigger, so an existing key is rejected before.
        taken = f"WHEN EXISTS (SELECT 1 FROM {name} WHERE {key} = NEW.{key}) "
        for verb, when in (("update", ""), ("delete", ""), ("insert", taken)):
            guard = f"CREATE TRIGGER IF NOT EXISTS no_{verb}_{name} BEFORE {verb} ON {name} {when}"
            statements.append(f"{guard}BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END")
    return statements
