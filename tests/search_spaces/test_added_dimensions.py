"""Axes that a study adds to any space shape no network, and leave the ids of candidates alone where they are not asked for."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces import SPACES, get_space
from search_spaces._common.errors import UserError
from search_spaces.describe import network_words
from search_spaces.spaces.config import SpaceSection


@pytest.mark.parametrize("name", SPACES)
def test_precision_is_a_dimension_of_any_space_that_shapes_no_network(name: str):
    plain, space = get_space(name, {}), get_space(name, {"precisions": ["fp32", "int8"]})
    rng = np.random.default_rng(0)
    drawn = [space.sample(rng) for _ in range(12)]
    assert {candidate.precision for candidate in drawn} == {"fp32", "int8"}
    pair = [space.candidate({**plain.default().params, "precision": precision}) for precision in ("fp32", "int8")]
    assert pair[0].id != pair[1].id
    assert space.architecture_id(pair[0]) == space.architecture_id(pair[1]) == plain.architecture_id(plain.default())
    assert space.default() == pair[0]
    assert network_words(pair[1].params) == f"{network_words(plain.default().params)} · int8"


def test_without_a_choice_of_precision_a_candidate_is_what_it_was():
    space = get_space("encoder_decoder", SpaceSection().arguments())
    assert "precision" not in space.default().params and space.default().precision is None
    assert space.default().id == "05f8d768f4659ebf"


@pytest.mark.parametrize("given", [[], ["fp32", "fp32"], ["fp23"]])
def test_a_wrong_list_of_precisions_is_refused(given: list[str]):
    with pytest.raises(UserError, match="precision"):
        get_space("encoder_decoder", {"precisions": given})
