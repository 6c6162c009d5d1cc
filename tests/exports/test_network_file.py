from __future__ import annotations

from pathlib import Path

import pytest
import torch

from exports import TrainedNetwork, read_network, write_network
from search_spaces import get_space
from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate

FACTS = {
    "class_names": ("a", "b", "c"),
    "ignore_index": 255,
    "mean": (0.1, 0.2, 0.3),
    "std": (1.0, 2.0, 3.0),
    "data_kind": "camvid",
}


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    default = get_space("encoder_decoder", {}).default()
    return Candidate(default.space, default.space_version, {**default.params, "width": 0.25, "prune_ratio": 0.5})


def test_a_network_comes_back_with_all_that_is_needed_to_run_it(candidate: Candidate, tmp_path: Path):
    net = get_space("encoder_decoder", {}).build_pruned(candidate, 3).eval()
    write_network(tmp_path / "net.pt", TrainedNetwork(net, candidate, input_hw=(64, 96), **FACTS))
    back = read_network(tmp_path / "net.pt")
    image = torch.randn(1, 3, 64, 96)
    assert torch.equal(back.net(image), net(image)) and not back.net.training
    assert back.candidate == candidate and back.input_hw == (64, 96)
    assert {name: getattr(back, name) for name in FACTS} == FACTS


def test_what_is_no_network_is_refused_with_the_next_step(candidate: Candidate, tmp_path: Path):
    with pytest.raises(UserError, match="no network file at"):
        read_network(tmp_path / "nothing.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(UserError, match="cannot be read as a network"):
        read_network(tmp_path / "text.pt")
    torch.save({"model": {}, "epoch": 3}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"training state.*paretoseg export"):
        read_network(tmp_path / "last.pt")
    other = Candidate(candidate.space, candidate.space_version, {**candidate.params, "decoder": "lraspp"})
    net = get_space("encoder_decoder", {}).build_pruned(candidate, 3)
    write_network(tmp_path / "wrong.pt", TrainedNetwork(net, other, input_hw=(64, 96), **FACTS))
    with pytest.raises(UserError, match="do not fit the network"):
        read_network(tmp_path / "wrong.pt")
