"""A real PostgreSQL server on loopback for the tests that ask for it, started by the first and stopped after the last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.chaos import postgres as chaos_postgres
from benchmarks.chaos.postgres import ESCAPED, PASSWORD, NoServerError, Server

__all__ = ["ESCAPED", "PASSWORD", "Server", "postgres", "postgres_server", "postgres_url", "running_server"]


@contextmanager
def running_server() -> Iterator[Server]:
    """A server that is stopped at the end of the block; the test is skipped where there can be none."""
    server = chaos_postgres.running_server()
    try:
        running = server.__enter__()
    except NoServerError as error:
        pytest.skip(str(error))
    try:
        yield running
    finally:
        server.__exit__(None, None, None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A server that lives as long as the tests."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Server) -> str:
    """Host and port of the server that lives as long as the tests."""
    return postgres_server.address


@pytest.fixture
def postgres_url(postgres_server: Server, request: pytest.FixtureRequest) -> str:
    """URL of an empty database."""
    return postgres_server.create_database(f"db{abs(hash(request.node.name))}")
