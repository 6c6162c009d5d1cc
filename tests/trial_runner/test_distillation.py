"""A teacher draws the student to its probabilities, wherever it lies and whatever its resolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from exports import write_network
from search_spaces import SegmentationNet, get_space
from search_spaces.candidate import Candidate
from search_spaces.errors import UserError
from trial_runner.config_file import load_config
from trial_runner.study_config import DistillationSection
from trial_runner.training.checkpoint import load_checkpoint
from trial_runner.training.distillation import Teacher
from trial_runner.trial import run_trial
from trial_runner.trial_spec import TrialSpec

CPU = torch.device("cpu")


@pytest.fixture
def teacher(tmp_path: Path) -> tuple[Path, SegmentationNet]:
    space = get_space("encoder_decoder", {})
    default = space.default()
    candidate = Candidate(default.space, default.space_version, {**default.params, "width": 0.25})
    net = space.build_pruned(candidate, 14).eval()
    names = tuple(f"c{i}" for i in range(14))
    write_network(
        tmp_path / "teacher.pt",
        net,
        candidate,
        input_hw=(64, 96),
        class_names=names,
        ignore_index=255,
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    return tmp_path / "teacher.pt", net


def test_the_loss_is_zero_for_the_teachers_own_logits_and_falls_along_the_gradient(teacher):
    path, net = teacher
    guide = Teacher(DistillationSection(teacher=path, weight=3.0), 14, CPU)
    images = torch.randn(2, 3, 64, 96)
    own = net(images).detach()
    assert float(guide.loss(images, own)) == pytest.approx(0.0, abs=1e-5)
    student = torch.randn_like(own).requires_grad_()
    first = guide.loss(images, student)
    first.backward()
    moved = (student - 1000 * student.grad).detach()
    assert float(first.detach()) > 0 and float(guide.loss(images, moved)) < float(first.detach())
    half = Teacher(DistillationSection(teacher=path, weight=1.5), 14, CPU)
    assert float(half.loss(images, student).detach()) == pytest.approx(float(first.detach()) / 2, rel=1e-5)
    assert torch.isfinite(guide.loss(torch.randn(2, 3, 32, 32), torch.randn(2, 14, 5, 7)))


def test_a_trial_learns_from_its_teacher_and_resumes_bit_for_bit(
    write_study: Callable[..., Path], teacher: tuple[Path, SegmentationNet], tmp_path: Path
):
    config = load_config(write_study(epochs=2), [f"training.distillation.teacher={teacher[0].name}"])
    assert config.training.distillation.teacher == teacher[0], "relative to the YAML"
    candidate = get_space(config.space.name, config.space.options()).default()
    order = TrialSpec(0, candidate, config, tmp_path / "with", tmp_path / "cache")
    plain = config.model_copy(
        update={"training": config.training.model_copy(update={"distillation": DistillationSection()})}
    )
    run_trial(order, lambda progress: False)
    run_trial(replace(order, config=plain, folder=tmp_path / "without"), lambda progress: False)
    parts = replace(order, folder=tmp_path / "parts")
    run_trial(parts, lambda progress: progress.epoch == 1)
    run_trial(parts, lambda progress: False)
    states = [load_checkpoint(tmp_path / name / "last.pt") for name in ("with", "parts", "without")]
    left, right, without = (state.model for state in states if state is not None)
    assert all(torch.equal(left[key], right[key]) for key in left)
    assert not all(torch.equal(left[key], without[key]) for key in left)


def test_a_teacher_of_other_classes_or_none_at_all_is_refused(teacher: tuple[Path, SegmentationNet], tmp_path: Path):
    with pytest.raises(UserError, match="tells 14 classes apart, the data have 11"):
        Teacher(DistillationSection(teacher=teacher[0]), 11, CPU)
    with pytest.raises(UserError, match="no network file"):
        Teacher(DistillationSection(teacher=tmp_path / "gone.pt"), 14, CPU)
