"""Ids that stored studies, checkpoints and caches are recognised by: they must come out as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from golden_internals import training_fingerprints
from golden_kit import FIXTURES, stored

from exports import PROFILES
from search_spaces import SPACES, Candidate, get_space

CANDIDATES: dict[str, Any] = stored("candidates.json")


def test_no_search_space_is_gone():
    assert SPACES.keys() >= CANDIDATES.keys()


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_candidate_keeps_its_id(name: str):
    space = get_space(name)
    assert space.default().to_dict() == CANDIDATES[name]["default"]
    other = CANDIDATES[name]["other"]
    assert space.candidate(other["params"]).to_dict() == other
    assert Candidate.from_dict(other).id == other["id"]


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_network_keeps_its_ids_shape_and_parameters(name: str):
    space = get_space(name)
    candidate = space.candidate(CANDIDATES[name]["other"]["params"])
    found = {
        "architecture_id": space.architecture_id(candidate),
        "operations_id": space.operations_id(candidate),
        "input_hw": list(space.input_hw(candidate)),
        "prune_ratio": space.prune_ratio(candidate),
        "hyperparameters": space.hyperparameters(candidate),
        "parameters": sum(item.numel() for item in space.build_pruned(candidate, 5).parameters()),
        "weights": sorted(space.build_pruned(candidate, 5).state_dict()),
    }
    assert found == CANDIDATES[name]["network"]


def test_a_training_keeps_its_fingerprint(tmp_path: Path):
    study = tmp_path / "study.yaml"
    study.write_bytes((FIXTURES / "fingerprint_study.yaml").read_bytes())
    assert training_fingerprints(study) == stored("fingerprints.json")


def test_the_device_profiles_are_as_before():
    known = stored("profiles.json")
    assert {name: PROFILES[name].runtime for name in known} == {name: item["runtime"] for name, item in known.items()}
    assert {name: list(PROFILES[name].precisions) for name in known} == {
        name: item["precisions"] for name, item in known.items()
    }
