"""Costs predicted before training equal those of the trained network; a missing model is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hw_latency_model import KernelSpec, LatencyModel, Measurement
from hw_latency_model.kernels.candidate_kernels import CandidateKernels
from hw_latency_model.model.cost_models import MODEL_FILES, fit_cost_models, load_cost_model, memory_floor_mb
from objectives.cost import deployed_cost
from objectives.objective import get_objective
from objectives.trial_record import CostEstimate
from search_spaces import Candidate, SearchSpace, get_space
from search_spaces._common.errors import UserError
from search_spaces.pruning.prune import Plan, channel_groups, prune_network, uniform_plan
from trial_runner.config.load import load_config
from trial_runner.constraints.cost import CostConstraint, load_cost_models

FINGERPRINT = {"device": "board", "runtime": "onnxruntime 1"}


def gate_of(space: SearchSpace, plan_of: Callable[[Candidate], Plan | None] = lambda candidate: None) -> Any:
    """Stand-in with the part of the latency gate that the cost gate uses."""
    return SimpleNamespace(table=CandidateKernels(space, 5, plan_of=plan_of).table, plan_of=plan_of)


def measurement(index: int, rng: np.random.Generator) -> Measurement:
    """A chain of convolutions whose energy is 2 mJ a million MACs, and whose memory 30 MB and what it holds."""
    kernels = [
        KernelSpec(
            "conv",
            f"conv{i}",
            int(rng.integers(1, 20)) * 10**6,
            10**5,
            10**4,
            10**5,
            16,
            16,
            (3, 3),
            (1, 1),
            1,
            (32, 32),
            (32, 32),
        )
        for i in range(int(rng.integers(3, 9)))
    ]
    macs = sum(kernel.macs for kernel in kernels)
    facts = {"latency_ms_p50": macs / 1e6, "latency_ms_p90": macs / 1e6, "latency_ms_p99": macs / 1e6}
    taken = Measurement(
        subject=f"n{index}", device="board", runs=50, noise_rel=0.01, reference_ms=1.0, fingerprint=FINGERPRINT,
        started_at="2026-01-01T00:00:00+00:00", energy_mj=2 * macs / 1e6, memory_peak_mb=30 + memory_floor_mb(kernels), **facts,
    )  # fmt: skip
    return taken.with_kernels(kernels)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The latency model of a board with a power rail, which has models of energy and memory beside it."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("board") / "latency_model.json"
    taken = [measurement(index, rng) for index in range(12)]
    written = fit_cost_models(taken, path, device="board", fingerprint=FINGERPRINT)
    assert [item.name for item in written] == list(MODEL_FILES.values())
    return path


def test_arithmetic_is_that_of_the_network_that_is_trained():
    space = get_space(
        "encoder_decoder", {"families": ["lcnet", "repvgg_a0"], "widths": [0.25, 0.5], "resolutions_px": [(64, 96)]}
    )
    gate = CostConstraint(
        space,
        5,
        [get_objective("val_miou"), get_objective("macs"), get_objective("parameters")],
        [],
        gate_of(space),
    )
    rng = np.random.default_rng(1)
    for ratio in (0.0, 0.5):
        drawn = space.sample(rng)
        candidate = Candidate(drawn.space, drawn.space_version, {**drawn.params, "prune_ratio": ratio})
        net = space.prune(space.build(candidate, 5, seed=3), candidate)
        truth = deployed_cost(net, space.input_hw(candidate))
        costs = gate.costs(candidate)
        assert {name: cost.value for name, cost in costs.items()} == {
            "macs": truth.macs,
            "parameters": truth.parameters,
        }
        table = CandidateKernels(space, 5).table(candidate)
        assert sum(kernel.macs for kernel in table.kernels) == pytest.approx(truth.macs, rel=1e-3)


def test_a_plan_of_channels_is_counted_as_it_is_cut():
    space = get_space("encoder_decoder", {"families": ["lcnet"], "widths": [0.5], "resolutions_px": [(64, 96)]})
    candidate = Candidate(space.name, space.version, {**space.default().params, "prune_ratio": 0.5})
    plan = uniform_plan(channel_groups(space.build(candidate, 5)), 0.5, 16)
    gate = CostConstraint(space, 5, [get_objective("parameters")], [], gate_of(space, lambda candidate: plan))
    net = prune_network(space.build(candidate, 5, seed=1), 0.5, plan=plan)
    assert gate.costs(candidate)["parameters"].value == deployed_cost(net, space.input_hw(candidate)).parameters


def test_energy_and_memory_come_from_the_devices_own_models(models: Path):
    space = get_space("encoder_decoder", {"families": ["lcnet"], "widths": [0.25], "resolutions_px": [(64, 96)]})
    loaded = {
        name: load_cost_model(models, name, device="board", precision="fp32")
        for name in ("energy_mj", "memory_peak_mb")
    }
    objectives = [get_objective("energy_mj", budget=1e-6), get_objective("memory_peak_mb", budget=1e6)]
    gate = CostConstraint(space, 5, objectives, [model for model in loaded.values() if model], gate_of(space))
    costs = gate.costs(space.default())
    for name, cost in costs.items():
        model = loaded[name]
        assert isinstance(model, LatencyModel) and model.target == name
        assert 0 < cost.low < cost.value < cost.high
    assert "over the budget of 1e-06 mJ" in str(gate.violation_reason(costs))
    assert (
        CostConstraint(space, 5, objectives[1:], [], gate_of(space)).violation_reason(
            {"memory_peak_mb": costs["memory_peak_mb"]}
        )
        is None
    )


def test_only_an_interval_that_is_over_the_budget_as_a_whole_is_refused():
    objectives = [get_objective("energy_mj", budget=9.0)]
    space = get_space("encoder_decoder", {})
    gate = CostConstraint(space, 5, objectives, [], gate_of(space))
    assert gate.violation_reason({"energy_mj": CostEstimate(10.0, 8.9, 12.0)}) is None
    assert gate.violation_reason({"energy_mj": CostEstimate(10.0, 9.0, 12.0)}) is None
    assert gate.violation_reason({"energy_mj": CostEstimate(10.0, 9.1, 12.0)}) == (
        "predicted 10 mJ [9.1, 12]: over the budget of 9 mJ"
    )


def test_without_a_model_memory_is_the_least_that_the_network_needs():
    space = get_space(
        "encoder_decoder", {"families": ["lcnet"], "widths": [0.25, 1.0], "resolutions_px": [(64, 96), (128, 192)]}
    )
    gate = CostConstraint(space, 5, [get_objective("memory_peak_mb")], [], gate_of(space))

    def mb(**changes: object) -> float:
        params = {**space.default().params, "prune_ratio": 0.0, **changes}
        return gate.costs(Candidate(space.name, space.version, params))["memory_peak_mb"].value

    small, wide, large = (
        mb(width=0.25, resolution="64x96"),
        mb(width=1.0, resolution="64x96"),
        mb(width=0.25, resolution="128x192"),
    )
    assert 0 < small < wide and small < large
    net = space.build(space.default(), 5)
    assert mb(width=1.0, resolution="64x96") > 0.9 * sum(p.numel() for p in net.parameters()) * 4 / 1e6


def test_energy_without_a_model_is_answered_with_what_to_do(tmp_path: Path, models: Path):
    (tmp_path / "study.yaml").write_text(
        "study: {name: s, storage: 'sqlite:///s.db', output_dir: out}\ndata: {kind: synthetic}\n"
        "device: {latency_model: latency_model.json, latency_budget_ms: 10}\nobjectives: [val_miou, energy_mj, memory_peak_mb]\n"
    )
    config = load_config(tmp_path / "study.yaml")
    with pytest.raises(UserError, match="Calibrate a board that has a power rail"):
        load_cost_models(config, [get_objective("energy_mj")])
    assert load_cost_models(config, [get_objective("memory_peak_mb"), get_objective("macs")]) == []
    (tmp_path / "energy_model.json").write_bytes((models.with_name("energy_model.json")).read_bytes())
    with pytest.raises(UserError, match="speaks for board in fp32, not for local-cpu"):
        load_cost_models(config, [get_objective("energy_mj")])


def test_a_board_without_a_power_rail_gets_no_energy_model(tmp_path: Path):
    rng = np.random.default_rng(2)
    taken = [replace(measurement(index, rng), energy_mj=None) for index in range(8)]
    written = fit_cost_models(taken, tmp_path / "latency_model.json", device="board", fingerprint=FINGERPRINT)
    assert [path.name for path in written] == ["memory_model.json"]
    assert fit_cost_models(taken[:3], tmp_path / "x" / "m.json", device="board", fingerprint=FINGERPRINT) == ()


def test_five_networks_of_two_families_are_enough(tmp_path: Path):
    rng = np.random.default_rng(3)
    taken = [replace(measurement(index, rng), family="a" if index else "b") for index in range(5)]
    path = tmp_path / "latency_model.json"
    times = LatencyModel.fit(taken, device="board", fingerprint=FINGERPRINT)
    written = fit_cost_models(taken, path, device="board", fingerprint=FINGERPRINT, times=times.fit_result.prior)
    assert [item.name for item in written] == list(MODEL_FILES.values())
    energy = load_cost_model(path, "energy_mj", device="board", precision="fp32")
    assert energy is not None
    for item in taken:
        assert energy.estimate([item.kernels])[0].value == pytest.approx(item.energy_mj, rel=0.25)
