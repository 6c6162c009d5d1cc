"""NAS-Bench-201 cells: what is computed of them, and which are the same to a compiler."""

from __future__ import annotations

import numpy as np
import pytest

from hw_latency_model.few_shot.cell_networks import CellNetwork, cell_pool, graph_features, prior_terms
from search_spaces._common.errors import UserError


def graph_text(arch_str: str) -> str:
    return " ".join(f"{a}>{b}:{op}" for a, b, op in CellNetwork.parse(arch_str).graph)


PLAIN = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|avg_pool_3x3~2|"


def test_a_chain_is_its_three_operations() -> None:
    assert graph_text(PLAIN) == "0>1:nor_conv_3x3 1>2:nor_conv_1x1 2>3:avg_pool_3x3"


def test_dead_ends_and_unfed_edges_are_removed() -> None:
    dead_end = "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|nor_conv_1x1~0|none~1|none~2|"
    unfed = "|none~0|+|none~0|nor_conv_3x3~1|+|nor_conv_1x1~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    assert graph_text(dead_end) == graph_text(unfed) == "0>3:nor_conv_1x1"
    assert CellNetwork.parse(dead_end).without(unfed=True, unused=False).ops[0] == "nor_conv_3x3"
    assert CellNetwork.parse(unfed).without(unfed=False, unused=True).ops[2] == "nor_conv_3x3"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|none~0|skip_connect~1|avg_pool_3x3~2|",
            "|nor_conv_1x1~0|+|nor_conv_3x3~0|none~1|+|none~0|avg_pool_3x3~1|skip_connect~2|",
        ),
        (
            "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_1x1~2|",
            "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|",
        ),
    ],
)
def test_isomorphic_cells_have_equal_graphs_and_features(one: str, other: str) -> None:
    assert graph_text(one) == graph_text(other)
    features = graph_features([CellNetwork.parse(one), CellNetwork.parse(other)])
    assert np.array_equal(features[0], features[1])


def test_equal_strings_of_operations_need_not_be_equal_graphs() -> None:
    """Two convolutions read by one consumer each are more work than one that both read."""
    twice = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|nor_conv_1x1~1|avg_pool_3x3~2|"
    once = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|nor_conv_1x1~1|avg_pool_3x3~2|"
    assert graph_text(twice) != graph_text(once)


def test_a_cell_without_a_path_is_a_group_of_its_own() -> None:
    cut = CellNetwork.parse("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|")
    assert not cut.connected
    assert cut.graph == ()
    pool = cell_pool([cut, CellNetwork.parse(PLAIN)])
    assert pool.groups.tolist() == [1, 0]
    assert prior_terms([cut]).min() >= 0.0


@pytest.mark.parametrize("text", ["", "|nor_conv_3x3~0|", PLAIN.replace("avg_pool_3x3", "conv_7x7"), PLAIN + "+"])
def test_what_is_no_cell_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"architecture has the form|operation is one of"):
        CellNetwork.parse(text)
