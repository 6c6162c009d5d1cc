"""Energy from the power rails of a simulated Nano."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_board.harness import Kit, fake_onnx
from fake_board.python36 import need_python36
from fake_board.tree import RAILS, FakeBoard, make_board

from hw_latency_model.agent.parsers import parse_tegrastats
from hw_latency_model.agent.power import board_rails, rail_problem


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


XAVIER = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")
ORIN = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO")


@pytest.mark.parametrize(
    ("rails", "expected"),
    [
        (("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"), ("POM_5V_IN",)),
        (("VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI", "VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"), ("VDD_IN",)),
        (("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), ("VDD_IN",)),
        (XAVIER, XAVIER),
        ((*ORIN[:3], "NC", ORIN[3], "NC"), ORIN),
        (("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0", "VIN"), ("VIN",)),
        (("POM_5V_GPU", "POM_5V_CPU"), ()),
        ((), ()),
    ],
    ids=["Nano", "TX2", "Xavier NX and Orin NX", "AGX Xavier", "AGX Orin", "Thor", "parts only", "2 GB Nano"],
)
def test_rails_whose_sum_is_the_board(rails: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert board_rails(rails) == expected


def test_power_in_recorded_tegrastats(shared_dir: Path) -> None:
    """Orin NX has a total, which no other rail is added to; AGX Orin has none."""
    text = (shared_dir / "fixtures/jetson/tegrastats_orin.txt").read_text()
    nx, agx = ({name: now for name, (now, _) in sample["rails_mw"].items()} for sample in parse_tegrastats(text))
    assert [sum(rails[name] for name in board_rails(list(rails))) for rails in (nx, agx)] == [17946, 7056]
    assert rail_problem(nx) is None and rail_problem(agx) is None


def test_energy_of_a_board_without_a_total_rail_is_that_of_all_its_rails(tmp_path: Path) -> None:
    busy, idle = (3000, 1000, 900, 0, 600, 500), (500, 300, 500, 0, 300, 400)
    board = make_board(tmp_path / "root", need_python36(), rails=XAVIER, busy_mw=busy, idle_mw=idle)
    kit = Kit(tmp_path / "kit", board.python, board.root)
    kit.write({"net": fake_onnx(ms=20.0)}, power_profile="maxn", protocol={"energy_s": 0.8})
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()["net"]
    assert measured["power_rail"] == "GPU + CPU + SOC + CV + VDDRQ + SYS5V"
    assert measured["power_mw"] == pytest.approx(6000, rel=0.15)
    assert measured["idle_power_mw"] == pytest.approx(2000, rel=0.15)
    assert kit.records("board")[0]["power_rail"] == measured["power_rail"]
