"""Findings of `paretoseg doctor` about a machine: cores, GPU, home, shared memory, Ray's folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trial_runner import doctor
from trial_runner.backends import ray_session
from trial_runner.doctor import Finding, examine


def findings(subjects: tuple[str, ...]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine(None) if finding.subject in subjects}


def test_a_difficult_machine_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("RAY_")]:  # importing Ray sets one
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_TMPDIR", "/nowhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setenv("TMPDIR", "/x" * 40)
    monkeypatch.setattr(doctor, "_SHARED_MEMORY", tmp_path / "missing")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    subjects = ("home", "shared memory", "folder for Ray", "Ray's variables", "cpu", "gpu")
    found = findings(subjects)
    assert found["cpu"].text == "1 of 8 cores, by SLURM_CPUS_PER_TASK (1)"
    assert "/proc/nowhere cannot be written" in found["home"].text and "HF_HOME" in found["home"].text
    assert "exports run in the driver" in found["shared memory"].text
    assert found["folder for Ray"].verdict == "ok" and "/x/x" not in found["folder for Ray"].text
    assert "RAY_ADDRESS, RAY_TMPDIR: ignored" in found["Ray's variables"].text
    assert found["gpu"].verdict == "note" and "CUDA_VISIBLE_DEVICES is '-1'" in found["gpu"].text


def test_no_folder_for_ray_is_a_failure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_session, "_temporary_folders", lambda: [Path("/proc")])
    found = findings(("folder for Ray",))["folder for Ray"]
    assert found.verdict == "FAIL" and "Set TMPDIR" in found.text
