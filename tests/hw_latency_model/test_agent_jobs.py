"""The agent's job list: mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hw_latency_model.agent.errors import UserMistake
from hw_latency_model.agent.jobs import JobList


def test_a_wrong_job_list_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "jobs.json"
    good = {"format": "paretoseg jobs", "version": 1, "jobs": [{"id": "a", "onnx": "a.onnx", "sha256": "0"}]}
    cases = [
        ("{", "is no job list"),
        (json.dumps({**good, "version": 2}), "version 1"),
        (json.dumps({**good, "backend": "tvm"}), "no backend 'tvm'"),
        (json.dumps({**good, "jobs": good["jobs"] * 2}), "comes twice"),
        (json.dumps({**good, "jobs": [{"id": "a", "onnx": "a.onnx"}]}), "no sha256"),
        (json.dumps({**good, "reference": {"onnx": "missing.onnx"}}), "is missing"),
    ]
    for text, words in cases:
        path.write_text(text)
        with pytest.raises(UserMistake, match=words):
            JobList(path)
