"""Given networks on a board: what a study's winners go through, here on this machine by the agent that boards get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exports import export_onnx
from hw_latency_model import LatencyModel, MeasurementStore
from hw_latency_model.board.device_config import DeviceConfig, load_device
from hw_latency_model.board.networks import GivenNetwork, measure_networks
from hw_latency_model.model.fitting import MIN_MEASUREMENTS
from search_spaces import get_space
from search_spaces._common.errors import UserError

QUICK = ["protocol.max_s=0.05", "protocol.warmup_s=0.02", "protocol.min_runs=5", "protocol.rounds=2"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[GivenNetwork]:
    folder = tmp_path_factory.mktemp("networks")
    options = {"families": ["lcnet"], "decoders": ["lraspp"], "widths": [0.25, 0.5], "prune_ratios": [0.0, 0.25, 0.5]}
    space = get_space("encoder_decoder", {**options, "resolutions_px": [(64, 64)]})
    found = []
    for width in options["widths"]:
        for ratio in options["prune_ratios"]:
            candidate = space.candidate({**space.default().params, "width": width, "prune_ratio": ratio})
            path = folder / f"{len(found)}.onnx"
            export_onnx(space.build_pruned(candidate, 3), (64, 64), path)
            found.append(GivenNetwork(f"winner-{len(found)}", path, "lcnet", f"lcnet {width} pruned {ratio}"))
    return found


def here(repo_root: Path, folder: Path, *overrides: str) -> DeviceConfig:
    path = repo_root / "configs" / "devices" / "this-machine.yaml"
    return load_device(path, [f"calibration.output_dir={folder}", *QUICK, *overrides])


def stored(config: DeviceConfig) -> list[str]:
    with MeasurementStore(config.store_location) as store:
        return [item.subject for item in store.of_device(config.device.name)]


def test_each_is_measured_once_and_the_board_s_model_learns_from_all(
    networks: list[GivenNetwork], repo_root: Path, tmp_path: Path
) -> None:
    config = here(repo_root, tmp_path)
    lines: list[str] = []
    few = measure_networks(config, networks[:2], progress=lines.append)
    assert set(few.measurements) == {"winner-0", "winner-1"} and not few.failed
    assert few.model is None and f"a model needs {MIN_MEASUREMENTS}" in lines[-1]
    everything = measure_networks(config, networks)
    assert set(everything.measurements) == {network.subject for network in networks}
    assert sorted(stored(config)) == sorted(everything.measurements), "the first two were not measured again"
    assert everything.measurements["winner-0"] == few.measurements["winner-0"]
    assert everything.model is not None and everything.model.quality.networks == len(networks)
    assert LatencyModel.load(config.model_path).fingerprint_id == everything.model.fingerprint_id
    assert all(item.kernels and item.family == "lcnet" for item in everything.measurements.values())


def test_a_network_is_measured_again_where_that_is_wanted(
    networks: list[GivenNetwork], repo_root: Path, tmp_path: Path
) -> None:
    config = here(repo_root, tmp_path)
    first = measure_networks(config, networks[:2])
    for turn in range(2, 6):  # also beyond the number of attempts that a network without a result gets
        again = measure_networks(config, networks[:2], repeat=["winner-1"])
        assert again.measurements["winner-0"] == first.measurements["winner-0"]
        assert again.measurements["winner-1"].started_at > first.measurements["winner-1"].started_at
        assert stored(config).count("winner-1") == turn and stored(config).count("winner-0") == 1
    assert measure_networks(config, networks[:2]).measurements == again.measurements


def test_a_model_of_another_set_up_stays_as_it_is(
    networks: list[GivenNetwork], repo_root: Path, tmp_path: Path
) -> None:
    config = here(repo_root, tmp_path)
    measure_networks(config, networks[:-1])
    facts = json.loads(config.model_path.read_text())
    facts["fingerprint"]["runtime"] = "onnxruntime 0.1"
    config.model_path.write_text(json.dumps(facts))
    lines: list[str] = []
    found = measure_networks(config, networks, progress=lines.append)
    assert len(found.measurements) == len(networks) and found.model is None
    assert "set up otherwise" in lines[-1]
    assert json.loads(config.model_path.read_text()) == facts


def test_a_file_that_is_no_network_is_named_before_anything_is_measured(
    networks: list[GivenNetwork], repo_root: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(networks[0].path.read_bytes()[:-2000])
    gone = GivenNetwork("gone", tmp_path / "gone.onnx", "lcnet", "gone")
    config = here(repo_root, tmp_path / "out")
    with pytest.raises(UserError, match=r"cannot copy .*gone\.onnx: No such file"):
        measure_networks(config, [gone])
    with pytest.raises(UserError, match=r"broken"):
        measure_networks(config, [GivenNetwork("broken", broken, "lcnet", "broken"), networks[0]])
    assert set(measure_networks(config, networks[:1]).measurements) == {"winner-0"}
