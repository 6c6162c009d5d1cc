"""A trial scores its network in the device's precision, and exports the network it scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exports import read_bundle, read_network
from search_spaces import open_space
from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate
from trial_runner.config.load import dump_config, load_config
from trial_runner.config.study import QuantizationSection
from trial_runner.evaluate import evaluate
from trial_runner.front.export_job import ExportOrder, export_trial, quantized_net, trained_net, write_trained
from trial_runner.training.checkpoint import load_checkpoint
from trial_runner.training.evaluator import split_scores
from trial_runner.training.trial import load_splits, run_trial
from trial_runner.training.trial_spec import Continuation, Progress, TrialFailed, TrialSpec

STUDY = """
study: {name: tiny, storage: "sqlite:///study.db", output_dir: out, seed: 3}
data: {kind: synthetic, train_images: 12, val_images: 6, image_height_px: 32, image_width_px: 64}
space: {families: [resnet10t], widths: [0.25], decoders: [lraspp], resolutions_px: [[64, 96]], prune_ratios: [0.5]}
device: {name: NAME, precision: PRECISION, latency_model: model.json, latency_budget_ms: 1000}
training: {epochs: 4, batch_size: 4, quantization: {calibration_images: 5}}
export: {parity_images: 3}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., TrialSpec]:
    def make(precision: str, name: str = "local-cpu", folder: str = "trial", **quantization: object) -> TrialSpec:
        path = tmp_path / "study.yaml"
        path.write_text(STUDY.replace("PRECISION", precision).replace("NAME", name))
        config = load_config(path)
        section = QuantizationSection(**{"calibration_images": 5, **quantization})
        training = config.training.model_copy(update={"quantization": section})
        config = config.model_copy(update={"training": training})
        space = open_space(config.space)
        return TrialSpec(0, space.default(), config, tmp_path / folder, tmp_path / "cache")

    return make


def trained(order: TrialSpec) -> list[Progress]:
    reports: list[Progress] = []
    assert run_trial(order, lambda progress: bool(reports.append(progress)))
    return reports


def miou(net: torch.nn.Module, order: TrialSpec) -> float:
    info, _, val = load_splits(order, (64, 96))
    scores = split_scores(net, val.images, val.labels, 14, info.ignore_index, device=torch.device("cpu"))
    return scores.matrix.miou()


def test_after_training_the_last_reading_is_of_the_quantized_network(spec: Callable[..., TrialSpec]):
    order = spec("int8")
    scores = [progress.score for progress in trained(order)]
    assert [score.precision for score in scores] == ["fp32", "fp32", "fp32", "int8"]
    quantized = quantized_net(order)
    assert quantized is not None
    assert scores[-1].val_miou == miou(quantized, order)
    assert scores[-1].float_miou == miou(trained_net(order, 14), order)
    assert scores[-1].params == scores[-2].params and scores[-1].macs == scores[-2].macs


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_training_in_int8_resumes_bit_for_bit(spec: Callable[..., TrialSpec], decay: float):
    whole, parts = (spec("int8", folder=name, method="qat", start=0.5) for name in ("whole", "parts"))
    whole, parts = (
        replace(
            order,
            config=order.config.model_copy(
                update={"training": order.config.training.model_copy(update={"ema_decay": decay})}
            ),
        )
        for order in (whole, parts)
    )
    reports = trained(whole)
    assert [progress.score.precision for progress in reports] == ["fp32", "fp32", "int8", "int8"]
    for stop_at in (2, 3):
        assert not run_trial(parts, lambda progress, epoch=stop_at: progress.epoch >= epoch)
    assert trained(parts)[-1].curve == reports[-1].curve
    left, right = (load_checkpoint(order.checkpoint_path, order.fingerprint) for order in (whole, parts))
    assert left is not None and right is not None and left.quantization and right.quantization
    assert all(torch.equal(left.model[key], right.model[key]) for key in left.model)
    states = left.quantization["state"], right.quantization["state"]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    quantized = quantized_net(whole)
    assert quantized is not None and miou(quantized, whole) == reports[-1].val_miou


def test_a_bundle_repeats_the_score_outside_the_study(spec: Callable[..., TrialSpec], tmp_path: Path):
    order = spec("int8", method="qat", start=0.5)
    last = trained(order)[-1]
    folder = export_trial(ExportOrder(order, tmp_path / "bundle", {}, dump_config(order.config)))
    assert read_bundle(folder).manifest["precision"]["name"] == "int8"
    assert evaluate(folder, split="val", device="cpu").miou == pytest.approx(last.val_miou, abs=1e-12)
    network = write_trained(order, tmp_path / "network.pt")
    assert miou(read_network(network).delivered(), order) == pytest.approx(last.val_miou, abs=1e-12)


def test_a_final_training_goes_on_from_the_float_network(spec: Callable[..., TrialSpec], tmp_path: Path):
    base = spec("int8", method="qat", start=0.5)
    trained(base)
    order = replace(base, number=1, folder=tmp_path / "final", continues=Continuation(0, base.folder, 2))
    reports = trained(order)
    assert [progress.score.precision for progress in reports] == ["fp32", "int8"]


def test_half_precision_is_what_is_scored_for_a_device_that_runs_it(spec: Callable[..., TrialSpec], tmp_path: Path):
    order = spec("fp16", name="jetson-nano")
    last = trained(order)[-1].score
    assert last.precision == "fp16" and last.float_miou == pytest.approx(last.val_miou, abs=0.02)
    folder = export_trial(ExportOrder(order, tmp_path / "bundle", {}, dump_config(order.config)))
    assert read_bundle(folder).manifest["precision"] == {"name": "fp16"}
    assert evaluate(folder, split="val", device="cpu").miou == pytest.approx(last.val_miou, abs=1e-12)


@pytest.mark.parametrize(("name", "precision"), [("jetson-nano", "int8"), ("local-cpu", "fp16")])
def test_a_precision_that_the_device_lacks_is_refused(spec: Callable[..., TrialSpec], name: str, precision: str):
    with pytest.raises(UserError, match=f"{name} does not run {precision}: set device.precision to"):
        spec(precision, name=name)


def test_settings_of_quantization_do_not_touch_a_float_study(spec: Callable[..., TrialSpec]):
    assert spec("fp32").fingerprint != spec("int8").fingerprint
    order = spec("int8")
    assert order.fingerprint == spec("int8").fingerprint != spec("int8", method="qat").fingerprint


def test_a_diverged_network_fails_its_trial_and_not_the_launch(spec: Callable[..., TrialSpec]):
    order = spec("int8")
    params = {**order.candidate.params, "learning_rate": 1e18}
    broken = replace(order, candidate=Candidate(order.candidate.space, order.candidate.space_version, params))
    with pytest.raises(TrialFailed), np.errstate(all="ignore"):
        trained(broken)
