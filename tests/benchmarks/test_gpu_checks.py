"""The script of GPU checks starts everywhere: every command exists, results are kept, and a second run repeats nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_checks.sh"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), "--python", sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)


@pytest.mark.slow
def test_a_dry_run_starts_every_module_and_the_limits_are_twelve_minutes(tmp_path: Path):
    found = run("--dry-run", "--out", str(tmp_path / "out"))
    assert found.returncode == 0, found.stderr
    limits = [int(line.split("at most ")[1].split()[0]) for line in found.stdout.splitlines()]
    assert len(limits) == 5 and sum(limits) <= 720


def test_what_is_there_is_not_repeated_and_wrong_arguments_are_refused(tmp_path: Path):
    for name in ("options", "latency", "together"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"check": name}))
    found = run("--tiny", "--out", str(tmp_path))
    assert found.returncode == 0 and found.stdout.count("done before") == 3
    assert json.loads((tmp_path / "summary.json").read_text())["latency"] == {"check": "latency"}
    assert run("--out", str(tmp_path)).returncode == 2, "no data"
    assert run("--fast").returncode == 2


@pytest.mark.slow
def test_on_a_small_scale_every_check_leaves_its_result(tmp_path: Path):
    found = run("--tiny", "--out", str(tmp_path))
    assert found.returncode == 0, found.stderr + "".join(path.read_text() for path in tmp_path.glob("*.log"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [row["compile"] for row in summary["options"]["rows"]] == [False, False]
    assert summary["latency"]["networks"] == 8 and summary["latency"]["left_out_families"]
    assert len(summary["together"]["two_images_per_s"]) == 2
