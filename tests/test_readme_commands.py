"""Every command of the README and of docs/tasks.md is run, in a copy of the repository whose demo study is made small."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SMALL = {
    "train_images: 240": "train_images: 24",
    "val_images: 60": "val_images: 8",
    "epochs: 10": "epochs: 7",
    "trials: 16": "trials: 4",
}


def commands(readme: str) -> list[str]:
    """The lines of the README's shell blocks, without comments."""
    blocks = re.findall(r"```(?:sh|bash|console|shell)\n(.*?)```", readme, flags=re.S)
    lines = [line.split(" #")[0].strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "paretoseg"
    ignored = shutil.ignore_patterns(".venv", ".git", "runs", "__pycache__", ".*_cache")
    shutil.copytree(repo_root, folder, ignore=ignored)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("paretoseg", "python"):
        (folder / ".venv" / "bin" / name).symlink_to(Path(sys.executable).parent / name)
    (folder / ".venv" / ".installed").touch()
    demo = folder / "configs" / "demo.yaml"
    text = demo.read_text()
    for old, new in SMALL.items():
        assert old in text, old
        text = text.replace(old, new)
    demo.write_text(text)
    return folder


def run(command: str, folder: Path, timeout_s: float = 400) -> str:
    # The tests may themselves run under make, which would tell this one to announce the folders it enters and leaves.
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, timeout=timeout_s, env=environment
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def unpredicted(row: dict[str, Any]) -> dict[str, Any]:
    """Facts of a member without its predictions, which a second launch makes anew: the latency model has learnt from the measured front."""
    return {key: value for key, value in row.items() if not key.startswith("latency_") and key != "objectives"}


def test_make_demo_and_then_every_command_of_the_readme(copy: Path, repo_root: Path):
    text = run("make demo", copy)
    assert "Pareto front within" in text and text.strip().splitlines()[-1].startswith("report:")
    front = json.loads(run(".venv/bin/paretoseg front configs/demo.yaml --json", copy))
    assert front and all(row["measured_ms"] and Path(row["bundle"]).is_dir() for row in front)
    again = run("make demo", copy)
    assert "the latency model" in again and "trial   0" not in again  # it goes on: nothing is trained twice
    now = json.loads(run(".venv/bin/paretoseg front configs/demo.yaml --json", copy))
    assert now and all(row["measured_ms"] and Path(row["bundle"]).is_dir() for row in now)
    then = {row["trial"]: unpredicted(row) for row in front}
    common = [row for row in now if row["trial"] in then]
    assert common and all(unpredicted(row) == then[row["trial"]] for row in common)

    ran = []
    pages = [(repo_root / page).read_text() for page in ("README.md", "docs/tasks.md")]
    for command in dict.fromkeys(command for page in pages for command in commands(page)):
        command = command.replace("BUNDLE", front[-1]["bundle"]).replace("NUMBER", str(front[-1]["trial"]))
        words = shlex.split(command)
        if words[0] != "paretoseg":
            continue
        command = f".venv/bin/{command}"
        if words[1] == "dashboard":
            serves(command, copy)
        else:
            run(command, copy)
        ran.append(words[1])
    assert {"doctor", "calibrate", "launch", "dashboard", "front", "export", "evaluate", "refit", "report"} <= set(ran)
    answer = json.loads(run(f".venv/bin/paretoseg predict {front[0]['bundle']}/model.onnx --json", copy))
    assert answer["low_ms"] <= answer["latency_ms"] <= answer["high_ms"] and answer["kernels"]


def serves(command: str, folder: Path) -> None:
    """A server is started, must say where it listens, and is ended as Ctrl-C ends it."""
    process = subprocess.Popen(
        shlex.split(command), cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        assert "http://127.0.0.1:" in process.stdout.readline()
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
