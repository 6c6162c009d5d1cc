"""The wheel is what a user installs: all that runs, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hw_latency_model.board.kit import agent_path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=repo_root, check=True, capture_output=True, timeout=120)
    return zipfile.ZipFile(next(folder.glob("paretoseg-*.whl")))


def test_every_module_and_data_file_of_the_packages_is_in_the_wheel(wheel: zipfile.ZipFile, repo_root: Path):
    packages = ("search_spaces", "exports", "hw_latency_model", "objectives", "dashboards", "trial_runner", "paretoseg")
    expected = {
        str(path.relative_to(repo_root))
        for package in packages
        for path in (repo_root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "dashboards/report.css" in expected
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == expected


def test_the_wheel_has_its_licence_and_the_command(wheel: zipfile.ZipFile):
    names = wheel.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    assert "paretoseg = trial_runner.cli.main:main" in wheel.read(entry).decode()


def test_the_agent_is_packed_from_an_installed_wheel(wheel: zipfile.ZipFile, tmp_path: Path):
    """The same bytes as from the repository: a board that has them is not sent them again."""
    wheel.extractall(tmp_path / "installed")
    code = "import sys; from hw_latency_model.board.kit import agent_path; sys.stdout.buffer.write(agent_path().read_bytes())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == agent_path().read_bytes()
