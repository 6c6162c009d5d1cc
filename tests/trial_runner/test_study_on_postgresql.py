"""A study whose storage is a PostgreSQL server: launched, gone on with, and no password in what is written or said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import launching
import postgres_server
import pytest

from trial_runner.cli.main import main


@pytest.mark.slow
def test_a_study_lives_on_a_postgresql_server(
    write_study: Callable[..., Path], postgres_url: str, capsys: pytest.CaptureFixture[str]
):
    study = write_study(trials=2, epochs=1)
    study.write_text(study.read_text().replace("sqlite:///study.db", postgres_url))
    text = launching.finish(study)
    assert "all 2 trials are done" in text
    again = launching.finish(study).removeprefix(text).split("all 2 trials")[0]
    assert "2 of 2 trials done" in again
    assert not [line for line in again.splitlines() if line.startswith("trial")], "nothing is trained twice"
    assert main(["front", str(study), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    for path in study.parent.rglob("*"):
        if path.is_file() and path != study:
            content = path.read_bytes()
            assert postgres_server.PASSWORD.encode() not in content, path
            assert postgres_server.ESCAPED.encode() not in content, path
