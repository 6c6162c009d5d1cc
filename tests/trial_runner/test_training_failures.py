"""Errors of a training that its user can put right become sentences; all others are raised unchanged."""

from __future__ import annotations

import pytest
import torch

from trial_runner.config.study import TrainingSection
from trial_runner.training.distributed import DistributedContext
from trial_runner.training.runtime import translate_errors
from trial_runner.training.trial_spec import TrialFailed


def allocate_too_much() -> None:
    torch.empty(2**55, dtype=torch.float32)


def raise_on_accelerator() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("work", [allocate_too_much, raise_on_accelerator])
def test_an_allocation_that_fails_is_a_reason_of_the_trial(work):
    with (
        pytest.raises(TrialFailed, match="out of memory; lower training"),
        translate_errors(TrainingSection(), DistributedContext()),
    ):
        work()


def test_another_runtime_error_is_raised_unchanged():
    with pytest.raises(RuntimeError, match="shapes differ"), translate_errors(TrainingSection(), DistributedContext()):
        raise RuntimeError("shapes differ")
