"""Energy from the power rails of a simulated Nano."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_board.harness import Kit, fake_onnx
from fake_board.python36 import need_python36
from fake_board.tree import RAILS, FakeBoard, make_board


def test_energy_is_integrated_and_the_idle_board_taken_off(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx(ms=20.0)}, power_profile="maxn", protocol={"energy_s": 0.8})
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()["net"]
    assert measured["power_rail"] == "POM_5V_IN"
    assert measured["power_mw"] == pytest.approx(6000, rel=0.15)
    assert measured["idle_power_mw"] == pytest.approx(2000, rel=0.15)
    share = 1 - measured["idle_power_mw"] / measured["power_mw"]
    assert measured["energy_mj_net"] == pytest.approx(measured["energy_mj_gross"] * share, rel=0.01)
    assert 0 < measured["energy_mj_net"] < measured["energy_mj_gross"]


@pytest.mark.parametrize(
    ("rails", "busy", "words"),
    [
        ((), (), "no power rail"),
        (("POM_5V_GPU", "POM_5V_IN", "POM_5V_CPU"), (8949, 3227, 3148), "mislabelled"),
        (RAILS, (0, 0, 0), "reads 0 mW"),
    ],
    ids=["2 GB board", "mislabelled carrier", "dead sensor"],
)
def test_power_that_cannot_be_believed_is_not_reported(
    tmp_path: Path, rails: tuple[str, ...], busy: tuple[int, ...], words: str
) -> None:
    board = make_board(tmp_path / "root", need_python36(), rails=rails, busy_mw=busy, idle_mw=busy)
    kit = Kit(tmp_path / "kit", board.python, board.root)
    kit.write({"net": fake_onnx(ms=5.0)}, protocol={"energy_s": 0.3})
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()["net"]
    assert words in measured["power_note"]
    names = ("energy_mj_gross", "energy_mj_net", "power_mw", "power_rail")
    assert [measured[name] for name in names] == [None] * 4
