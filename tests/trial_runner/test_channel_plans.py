"""Plans of how many channels each layer keeps: known before training, the same whenever they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from pydantic import ValidationError

from hw_latency_model import LatencyModel
from search_spaces import Candidate, get_space
from search_spaces.pruning.prune import channel_groups, kept_channels
from trial_runner.config.load import load_config
from trial_runner.config.study import TrainingSection
from trial_runner.constraints.channel_plans import ChannelPlans
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.front.export_job import trained_net
from trial_runner.launch import launch
from trial_runner.search.final_training import spec_of
from trial_runner.study.paths import StudyPaths

CLASSES = 5
SPACE = get_space(
    "encoder_decoder",
    {"families": ["lcnet", "mobilenetv2"], "decoders": ["fpn"], "widths": [0.5, 1.0], "prune_ratios": [0.0, 0.5]},
)


def candidate(family: str = "lcnet", ratio: float = 0.5, width: float = 0.5) -> Candidate:
    params = {"family": family, "prune_ratio": ratio, "width": width}
    return SPACE.candidate({**SPACE.default().params, **params})


@pytest.fixture
def plans(latency_model_path: Path) -> Callable[..., ChannelPlans]:
    model = LatencyModel.load(latency_model_path)

    def make(weights: str = "none", **pruning: object) -> ChannelPlans:
        training = TrainingSection.model_validate({"weights": weights, "pruning": pruning})
        return ChannelPlans(SPACE, CLASSES, model, training)

    return make


def test_by_default_there_is_none(plans):
    assert plans()(candidate()) is None
    assert plans(method="admm")(candidate()) is None
    assert plans(allocation="latency")(candidate(ratio=0.0)) is None


def test_a_larger_multiple_is_a_plan_of_the_same_share(plans):
    plan = plans(channel_multiple=16)(candidate())
    groups = channel_groups(SPACE.build(candidate(), CLASSES))
    assert plan == {group.root: kept_channels(group.channels, 0.5, 16) for group in groups}


def test_a_plan_by_latency_costs_no_more_than_the_uniform_one_and_is_what_the_gate_predicts(plans, latency_model_path):
    planned = plans(allocation="latency")
    plan = planned(candidate("mobilenetv2", width=1.0))
    assert plan is not None and plan == plans(allocation="latency")(candidate("mobilenetv2", width=1.0))
    groups = channel_groups(SPACE.build(candidate("mobilenetv2", width=1.0), CLASSES))
    shares = {round(plan[group.root] / group.channels, 2) for group in groups if group.channels >= 64}
    assert len(shares) > 2 and all(plan[group.root] % 8 == 0 for group in groups)
    model = LatencyModel.load(latency_model_path)
    even, gate = (
        LatencyConstraint(SPACE, CLASSES, model, 1e3),
        LatencyConstraint(SPACE, CLASSES, model, 1e3, plan_of=planned),
    )
    chosen = candidate("mobilenetv2", width=1.0)
    assert gate.estimate(chosen).latency_ms <= even.estimate(chosen).latency_ms
    assert gate.estimate(chosen).latency_ms != even.estimate(chosen).latency_ms


def test_a_plan_by_sensitivity_follows_the_pretrained_weights(plans, tmp_path):
    donor = timm.create_model("lcnet_100", pretrained=False)
    with torch.no_grad():
        for weak in (donor.blocks[4][0].conv_pw, donor.blocks[4][1].conv_dw):
            weak.weight[: weak.out_channels * 3 // 4] *= 1e-3
    torch.save(donor.state_dict(), tmp_path / "lcnet_100.pth")
    plan = plans(str(tmp_path), allocation="sensitivity")(candidate(width=1.0))
    assert plan is not None
    alike = {root: count for root, count in plan.items() if root.startswith("encoder.blocks.4.")}
    assert alike.pop("encoder.blocks.4.1.conv_dw") == 64 < min(alike.values())  # of 256


def test_sensitivity_needs_weights_to_look_at():
    with pytest.raises(ValidationError, match=r"set training\.weights"):
        TrainingSection.model_validate({"pruning": {"allocation": "sensitivity"}})


def test_a_study_keeps_its_trials_plans(write_study):
    path = write_study(trials=3, epochs=2)
    changes = ["training.pruning.allocation=latency", "space.prune_ratios=[0.5]", "space.families=[lcnet]"]
    config = load_config(path, changes)
    result = launch(config, lambda line: None)
    planned = [record for record in result.records if record.channels]
    assert planned and all(record.channels for record in result.records if record.outcome == "finished")
    spec = spec_of(config, StudyPaths(config.study.output_dir), planned[0])
    assert spec.channels == planned[0].channels
    modules = dict(trained_net(spec, 14).named_modules())
    assert {root: modules[root].out_channels for root in planned[0].channels} == planned[0].channels
    assert result.front and all(record.bundle for record in result.front)
