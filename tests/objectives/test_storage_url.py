"""No password is ever shown."""

from __future__ import annotations

import pytest

from search_spaces._common.urls import redact_url


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://me:SECRET@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql+psycopg2://me:SECRET/with@all:of?it@host/db", "postgresql+psycopg2://me:***@host/db"),
        ("postgresql://me:SECRET with blanks@host/db", "postgresql://me:***@host/db"),
        ("redis://:SECRET@host", "redis://:***@host"),
        ("postgresql://me@host/db?sslmode=require&password=SECRET&x=1", "postgresql://me@host/db?sslmode=require&password=***&x=1"),
        ("connecting to mysql://a:SECRET@h/d failed, also mysql://b:SECRET@h/d", "connecting to mysql://a:***@h/d failed, also mysql://b:***@h/d"),
        ("me:SECRET@host/db", "me:***@host/db"),
        ("error: ask admin@example.org at 12:30", "error: ask admin@example.org at 12:30"),
        ("user=me password=SECRET host=h", "user=me password=*** host=h"),
        ("sqlite:////data/a@b/study.db", "sqlite:////data/a@b/study.db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("listening on http://127.0.0.1:8080/dashboard", "listening on http://127.0.0.1:8080/dashboard"),
    ],
)  # fmt: skip
def test_redacted(given, shown):
    assert redact_url(given) == shown
    assert "SECRET" not in redact_url(given)
