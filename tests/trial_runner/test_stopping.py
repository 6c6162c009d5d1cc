"""Stop signals: one clean stop at any point of a launch, from before its lease until its report."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import launching
import pytest
from child_signals import default_signals


def run_script(code: str, *, ignore: tuple[signal.Signals, ...] = ()) -> subprocess.CompletedProcess[str]:
    def prepare() -> None:
        default_signals()
        for number in ignore:
            signal.signal(number, signal.SIG_IGN)

    imports = "import os, signal, threading, time\nfrom trial_runner.stopping import *\nme = os.getpid()\n"
    return subprocess.run(
        [sys.executable, "-c", imports + code], capture_output=True, text=True, timeout=60, preexec_fn=prepare
    )


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_first_signal_interrupts_and_the_next_ones_do_not_disturb_the_cleaning_up(number: str):
    done = run_script(f"""
try:
    with stoppable():
        try:
            os.kill(me, signal.{number})
            print("not reached")
        finally:
            for again in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(me, again)
            print("cleaned up")
except KeyboardInterrupt:
    print("interrupted")
""")
    assert done.stdout.split("\n") == ["cleaned up", "interrupted", ""], done.stderr


def test_a_deferred_block_ends_before_the_interrupt():
    done = run_script("""
try:
    with stoppable():
        with deferred():
            with deferred():
                os.kill(me, signal.SIGTERM)
            check()
            print("finished the block")
        print("not reached")
except KeyboardInterrupt:
    print("interrupted")
""")
    assert done.stdout.split("\n") == ["finished the block", "interrupted", ""], done.stderr


def test_a_stop_that_a_library_swallowed_is_raised_at_the_next_check():
    done = run_script("""
with stoppable():
    try:
        os.kill(me, signal.SIGTERM)
    except BaseException:
        print("swallowed")
    try:
        check()
    except KeyboardInterrupt:
        print("interrupted")
""")
    assert done.stdout.split("\n") == ["swallowed", "interrupted", ""], done.stderr


def test_a_stop_in_a_transaction_waits_for_its_end(tmp_path: Path):
    """An interrupt inside would leave the database locked, and the lease could not be released."""
    done = run_script(f"""
import optuna, sqlalchemy
from trial_runner.study.storage import open_study
study = open_study("sqlite:///{tmp_path}/study.db", "a", create=True)
@sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "after_cursor_execute")
def stop(connection, cursor, statement, *rest):
    if "user_attributes" in statement and statement.startswith("INSERT"):
        os.kill(me, signal.SIGTERM)
try:
    with stoppable():
        study.set_user_attr("key", 7)
        time.sleep(5)
        print("not reached")
except KeyboardInterrupt:
    print(study.user_attrs)
""")
    assert done.stdout == "{'key': 7}\n", done.stdout + done.stderr


def test_a_stop_that_is_raised_while_it_waits_for_a_transaction_leaves_no_alarm_behind():
    """The alarm that tries again would end the process with its default action."""
    done = run_script("""
def transaction():
    os.kill(me, signal.SIGTERM)
transaction = type(transaction)(transaction.__code__, {"__name__": "sqlalchemy.engine", "os": os, "signal": signal, "me": me})
try:
    with stoppable():
        transaction()
        check()
except KeyboardInterrupt:
    time.sleep(0.2)
    print("interrupted")
""")
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_a_stop_that_a_library_turned_into_its_own_error_is_a_stop():
    done = run_script("""
try:
    with stoppable():
        try:
            os.kill(me, signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise ValueError("as pydantic does") from error
except KeyboardInterrupt:
    print("interrupted")
""")
    assert done.stdout == "interrupted\n", done.stderr


def test_a_signal_ignored_by_nohup_stays_ignored_and_handlers_are_put_back():
    done = run_script(
        """
with stoppable():
    os.kill(me, signal.SIGHUP)
print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
""",
        ignore=(signal.SIGHUP,),
    )
    assert done.stdout == "True True\n", done.stderr


def test_handlers_that_another_thread_resets_are_installed_again():
    done = run_script("""
import ctypes
libc, done = ctypes.CDLL(None), threading.Event()
def reset():
    libc.signal(int(signal.SIGTERM), None)  # behind Python's back, as Ray does
    time.sleep(0.5)
    os.kill(me, signal.SIGTERM)
    time.sleep(0.1)
    print("the work has ended", flush=True)
    done.set()
try:
    with stoppable():
        threading.Thread(target=reset).start()
        wait_for(done)
except KeyboardInterrupt:
    print("interrupted")
""")
    assert done.stdout.split("\n") == ["the work has ended", "interrupted", ""], done.stderr


def test_a_launch_in_another_thread_takes_no_signals():
    done = run_script("""
def work():
    with stoppable(), deferred():
        check()
    print("worked")
thread = threading.Thread(target=work)
thread.start()
thread.join()
""")
    assert done.stdout == "worked\n", done.stderr


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """TMPDIR of the launches: what they leave there is seen."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def lease_until(study: Path) -> float | None:
    """End of the stored lease; 0 when it was given back, None when there never was one."""
    path = study.with_name("study.db")
    if not path.is_file():
        return None
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT value_json FROM study_user_attributes WHERE key = 'driver'").fetchall()
    return float(json.loads(rows[0][0])["until"]) if rows else None


def stop_at(study: Path, mark: str, number: signal.Signals, *, group: bool = False) -> str:
    """Launch, send the signal as soon as the log holds ``mark``, and check that the end was clean; the log."""
    process = launching.start(study)
    log = study.with_name("launch.log")
    below: dict[int, str] = {}
    try:
        deadline = time.monotonic() + 250
        while mark not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        below = launching.descendants(process.pid)
        if group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait(90) == 130, log.read_text()
    finally:
        launching.kill_tree(process.pid)
    text = log.read_text()
    assert "Nothing is lost" in text and "Traceback" not in text, text
    assert lease_until(study) in (None, 0.0)
    deadline = time.monotonic() + 20
    while left := [name for pid, name in below.items() if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
    return text


@pytest.mark.slow
@pytest.mark.parametrize("mark", ["Ctrl-C stops it", "finished", "measured"])
def test_sigterm_ends_a_launch_cleanly_before_its_lease_in_its_exports_and_while_it_measures(
    write_study: Callable[..., Path], scratch: Path, mark: str
):
    study = write_study(trials=1, epochs=1, measure=True)
    study.write_text(study.read_text().replace("{parity_images: 2}", "{parity_images: 6}"))
    stop_at(study, mark, signal.SIGTERM)
    assert not [path for path in scratch.iterdir() if "pseg" in path.name]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mark", "number", "group"),
    [
        ("Ctrl-C stops it", signal.SIGTERM, False),  # while Ray starts
        ("trial   0 finished", signal.SIGHUP, False),  # while the last trial is exported
        ("measured", signal.SIGTERM, False),
        ("the latency model has learnt", signal.SIGTERM, True),
    ],
)
def test_a_launch_on_ray_ends_cleanly_too_its_last_trial_behind_it(
    write_study: Callable[..., Path], scratch: Path, mark: str, number: signal.Signals, group: bool
):
    study = write_study(trials=1, epochs=1, backend="ray", measure=True)
    stop_at(study, mark, number, group=group)
    assert not [path for path in scratch.iterdir() if "pseg" in path.name]
    assert not [record for record in launching.records(study) if record.state == "RUNNING"]
