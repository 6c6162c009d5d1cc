"""A study whose storage is a PostgreSQL server: launched, gone on with, and no password in what is written or said."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import launching
import postgres_server
import pytest

from trial_runner.cli.main import main

PASSWORDS = (postgres_server.PASSWORD.encode(), postgres_server.ESCAPED.encode())


def holds_password(content: bytes) -> bool:
    return any(password in content for password in PASSWORDS)


@pytest.fixture
def short() -> Iterator[Path]:
    """A temporary folder with a path short enough for Ray."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_password_is_in_no_process_and_no_file_of_a_launch_under_ray(
    write_study: Callable[..., Path], postgres_url: str, short: Path, monkeypatch: pytest.MonkeyPatch
):
    """The password as an option of the URL; read while the launch runs: the session folder is removed at its end."""
    url = postgres_url.replace(f":{postgres_server.ESCAPED}@", "@") + f"?password={postgres_server.ESCAPED}"
    study = write_study(trials=1, epochs=1, backend="ray")
    study.write_text(study.read_text().replace("sqlite:///study.db", url))
    monkeypatch.setenv("TMPDIR", str(short))
    process = launching.start(study)
    seen: dict[str, int] = {"processes": 0, "files": 0, "environments": 0}
    try:
        deadline = time.monotonic() + 280
        while process.poll() is None and time.monotonic() < deadline:
            for pid in launching.descendants(process.pid):
                for kind, name in (("processes", "cmdline"), ("environments", "environ")):
                    try:
                        content = Path(f"/proc/{pid}/{name}").read_bytes()
                    except OSError:  # it has just ended
                        continue
                    assert not holds_password(content), (name, content)
                    seen[kind] += bool(content)
            for path in short.rglob("*"):
                try:
                    content = path.read_bytes() if path.is_file() else b""
                except OSError:
                    continue
                assert not holds_password(content), path
                seen["files"] += bool(content)
            time.sleep(2)
        assert process.wait(10) == 0, study.with_name("launch.log").read_text()
    finally:
        launching.kill_tree(process.pid)
    assert all(seen.values()), seen
    for path in study.parent.rglob("*"):
        assert path == study or not path.is_file() or not holds_password(path.read_bytes()), path


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
