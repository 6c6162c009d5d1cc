"""A teacher draws the student to its probabilities, wherever it lies and whatever its resolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from exports import TrainedNetwork, read_network, write_network
from objectives.data.base import Normalisation
from search_spaces import SegmentationNet, get_space, open_space
from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate
from trial_runner.config.load import load_config
from trial_runner.config.study import DistillationSection
from trial_runner.training.checkpoint import load_checkpoint
from trial_runner.training.distillation import Teacher, teacher_of
from trial_runner.training.trial import run_trial
from trial_runner.training.trial_spec import RecordedCheckpoint, TrainedTrial, TrialFailed, TrialSpec

CPU = torch.device("cpu")


@pytest.fixture
def teacher(tmp_path: Path) -> tuple[Path, SegmentationNet]:
    space = get_space("encoder_decoder", {})
    default = space.default()
    candidate = Candidate(default.space, default.space_version, {**default.params, "width": 0.25})
    net = space.build_pruned(candidate, 14).eval()
    names = tuple(f"c{i}" for i in range(14))
    trained = TrainedNetwork(
        net, candidate, input_hw=(64, 96), class_names=names, ignore_index=255, mean=(0, 0, 0), std=(1, 1, 1)
    )
    write_network(tmp_path / "teacher.pt", trained)
    return tmp_path / "teacher.pt", net


def test_the_loss_is_zero_for_the_teachers_own_logits_and_falls_along_the_gradient(teacher):
    path, net = teacher
    trained = read_network(path)
    guide = Teacher(trained.net, trained.input_hw, (64, 96), DistillationSection(weight=3.0), CPU)
    images = torch.randn(2, 3, 64, 96)
    own = net(images).detach()
    assert float(guide.loss(images, own)) == pytest.approx(0.0, abs=1e-5)
    student = torch.randn_like(own).requires_grad_()
    first = guide.loss(images, student)
    first.backward()
    moved = (student - 1000 * student.grad).detach()
    assert float(first.detach()) > 0 and float(guide.loss(images, moved)) < float(first.detach())
    half = Teacher(trained.net, trained.input_hw, (64, 96), DistillationSection(weight=1.5), CPU)
    assert float(half.loss(images, student).detach()) == pytest.approx(float(first.detach()) / 2, rel=1e-5)
    assert torch.isfinite(guide.loss(torch.randn(2, 3, 32, 32), torch.randn(2, 14, 5, 7)))


def test_a_trial_learns_from_its_teacher_and_resumes_bit_for_bit(
    write_study: Callable[..., Path], teacher: tuple[Path, SegmentationNet], tmp_path: Path
):
    config = load_config(write_study(epochs=2), [f"training.distillation.teacher={teacher[0].name}"])
    assert config.training.distillation.teacher == teacher[0], "relative to the YAML"
    candidate = open_space(config.space).default()
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


def test_a_crop_looks_to_the_teacher_as_large_as_in_a_whole_image(teacher: tuple[Path, SegmentationNet]):
    _, net = teacher
    sizes: list[torch.Size] = []
    net.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape))
    guide = Teacher(net, (64, 96), (128, 192), DistillationSection(), CPU)
    for height, width in ((128, 192), (64, 128)):
        guide.loss(torch.randn(1, 3, height, width), torch.randn(1, 14, 8, 12))
    assert [tuple(size[2:]) for size in sizes] == [(64, 96), (32, 64)]


def test_a_trial_learns_from_a_finished_one_of_its_study(write_study: Callable[..., Path], tmp_path: Path):
    config = load_config(write_study(epochs=2), ["training.distillation.study_best=true"])
    space = open_space(config.space)
    first = TrialSpec(0, space.default(), config, tmp_path / "first", tmp_path / "cache")
    run_trial(first, lambda progress: False)
    alone = replace(first, folder=tmp_path / "alone", seed=9)
    taught = replace(alone, folder=tmp_path / "taught", teacher=TrainedTrial(0, first.folder, first.candidate))
    assert TrialSpec.from_dict(taught.to_dict()).teacher == taught.teacher
    assert taught.fingerprint != alone.fingerprint
    for order in (alone, taught):
        run_trial(order, lambda progress: False)
    left, right = (load_checkpoint(order.checkpoint_path) for order in (alone, taught))
    assert left is not None and right is not None
    assert not all(torch.equal(left.model[key], right.model[key]) for key in left.model)
    other = replace(taught.teacher, recorded=RecordedCheckpoint(((3, 0.5),), "0" * 64))
    with pytest.raises(TrialFailed, match=r"learn from trial 0, but .* record is of weights of epoch 3"):
        run_trial(replace(taught, folder=tmp_path / "other", teacher=other), lambda progress: False)
    first.checkpoint_path.unlink()
    with pytest.raises(TrialFailed, match="learn from trial 0, which has no usable checkpoint"):
        run_trial(replace(taught, folder=tmp_path / "again"), lambda progress: False)


def test_a_teacher_of_other_classes_or_none_at_all_is_refused(
    write_study: Callable[..., Path], teacher: tuple[Path, SegmentationNet], tmp_path: Path
):
    def ask(path: Path, classes: int) -> None:
        config = load_config(write_study(), [f"training.distillation.teacher={path}"])
        space = open_space(config.space)
        order = TrialSpec(0, space.default(), config, tmp_path / "trial", tmp_path / "cache")
        teacher_of(order, space, classes, CPU)

    with pytest.raises(UserError, match="tells 14 classes apart, the data have 11"):
        ask(teacher[0], 11)
    with pytest.raises(UserError, match="no network file"):
        ask(tmp_path / "gone.pt", 14)
    with pytest.raises(UserError, match="one teacher at most"):
        load_config(
            write_study(), [f"training.distillation.teacher={teacher[0]}", "training.distillation.study_best=true"]
        )


def test_a_teacher_of_another_normalisation_gets_images_as_it_expects_them(teacher):
    _, net = teacher
    images = torch.rand(2, 3, 64, 96)
    own, other = Normalisation((0.1, 0.2, 0.3), (0.5, 0.4, 0.3)), Normalisation()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (own.mean, own.std))
    with torch.no_grad():
        logits = net((images - mean) / std)
    guide = Teacher(net, (64, 96), (64, 96), DistillationSection(weight=3.0, temperature=0.01), CPU, own, other)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (other.mean, other.std))
    right, wrong = (float(guide.loss((images - shift) / std, logits)) for shift in (mean, 0.5))
    assert abs(right) < 0.01 * wrong, (right, wrong)
