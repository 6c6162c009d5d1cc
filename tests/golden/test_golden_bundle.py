"""A bundle that was written before the restructuring: verified, loaded and scored as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import golden_answers
import numpy as np
import pytest
from golden_kit import FIXTURES, copied, differences, stored

from exports import read_bundle
from search_spaces import UserError

EXPECTED: dict[str, Any] = stored("answers/bundle.json")
NUMBERS = ("logits", "evaluate")


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return golden_answers.bundle(tmp_path_factory.mktemp("bundle"))


@pytest.mark.parametrize("part", [part for part in EXPECTED if part not in NUMBERS])
def test_the_bundle_is_read_as_before(answer: dict[str, Any], part: str):
    assert differences(answer[part], EXPECTED[part]) == []


def test_its_network_computes_what_it_did(answer: dict[str, Any], tmp_path: Path):
    expected = np.array(EXPECTED["logits"])
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(answer["logits"], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(golden_answers.onnx_logits(tmp_path).ravel(), expected, rtol=0, atol=1e-3)


def test_its_score_is_what_it_was(answer: dict[str, Any]):
    assert differences(answer["evaluate"], EXPECTED["evaluate"], rel=1e-3) == []


@pytest.mark.parametrize("name", sorted(ZipFile(FIXTURES / "bundle.zip").namelist()))
def test_a_bundle_with_a_changed_or_missing_file_is_refused(tmp_path: Path, name: str):
    folder = copied("bundle", tmp_path / "bundle")
    (folder / name).write_bytes((folder / name).read_bytes()[:-7])
    with pytest.raises(UserError):
        read_bundle(folder)
    (folder / name).unlink()
    with pytest.raises(UserError):
        read_bundle(folder)
