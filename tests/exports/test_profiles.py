"""The table of targets is consistent, and rows that one board shares follow from each other."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from exports import PROFILES, get_profile
from hw_latency_model.board.device_config import TargetSection
from hw_latency_model.bundled.load import load_bundled


def test_each_tensorrt_target_is_linted_by_the_rules_of_its_newest_release() -> None:
    for profile in PROFILES.values():
        assert (profile.importer is None) == (profile.runtime == "onnxruntime") == (not profile.tensorrt)
        if profile.importer is not None:
            assert profile.tensorrt[-1].split(".")[0] == profile.importer.version.split(".")[0]
            assert profile.tensorrt[-1].startswith(profile.importer.version)


def test_targets_without_int8_take_no_quantized_graph() -> None:
    assert {profile.name for profile in PROFILES.values() if not profile.int8} >= {"jetson-nano", "jetson-tx2"}
    assert all(profile.allow_qdq for profile in PROFILES.values() if profile.int8)


def test_the_4_gb_nano_takes_larger_networks_at_the_same_latency() -> None:
    small, large = get_profile("jetson-nano"), get_profile("jetson-nano-4gb")
    assert (large.max_memory_mb or 0) > (small.max_memory_mb or 0)
    model = load_bundled("jetson-nano-4gb", "fp16")
    assert model.device == "jetson-nano-4gb" and not model.calibrated


def test_a_target_of_one_power_mode_is_not_measured_in_another() -> None:
    assert TargetSection(name="jetson-nano-5w", power_profile="5W").power_profile == "5w"
    with pytest.raises(
        ValidationError, match=r"jetson-nano-5w has no power mode 'maxn': set device.power_profile to 5w"
    ):
        TargetSection(name="jetson-nano-5w", power_profile="maxn")
