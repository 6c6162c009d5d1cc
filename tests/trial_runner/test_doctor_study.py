"""Findings of `paretoseg doctor` about a study: each check of a launch has one, so that what it accepts launches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from search_spaces._common.errors import UserError
from trial_runner import doctor
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig
from trial_runner.doctor import Finding, examine
from trial_runner.launch import launch


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own findings are tested elsewhere."""
    monkeypatch.setattr(doctor, "_PACKAGES", ())
    monkeypatch.setattr(doctor, "_networks", lambda: Finding("ok", "networks", ""))


def failures(config: StudyConfig) -> dict[str, str]:
    return {finding.subject: finding.text for finding in examine(config) if finding.verdict == "FAIL"}


@pytest.mark.parametrize(
    ("override", "subject", "said"),
    [
        ("search.sampler=nosuch_module:Sampler", "search", "nosuch_module"),
        ("search.warm_start=[other]", "search", "there is no study at"),
        ("training.distillation.teacher=gone.pt", "teacher", "gone.pt"),
    ],
)
def test_what_a_launch_refuses_is_found(
    write_study: Callable[..., Path], override: str, subject: str, said: str
) -> None:
    config = load_config(write_study(), [override])
    found = failures(config)
    assert list(found) == [subject] and said in found[subject]
    with pytest.raises(UserError) as caught:
        launch(config, lambda line: None)
    assert str(caught.value) == found[subject]


def test_a_study_of_another_program_is_found(write_study: Callable[..., Path]) -> None:
    config = load_config(write_study())
    names = {"storage": config.study.storage, "study_name": config.study.name}
    foreign = optuna.create_study(**names, directions=["maximize", "minimize"])
    foreign.tell(foreign.ask(), [0.5, 1.0])
    assert "that paretoseg did not make" in failures(config)["storage"]


def test_a_ray_cluster_that_does_not_answer_is_found(write_study: Callable[..., Path]) -> None:
    config = load_config(write_study(backend="ray"), ["compute.ray_address=127.0.0.1:1"])
    assert "no Ray cluster answers at 127.0.0.1:1" in failures(config)["Ray cluster"]


def test_the_largest_seed_launches_and_resumes(write_study: Callable[..., Path]) -> None:
    """Later launches draw with the seed and the number of trials, and NumPy takes 32 bits."""
    for trials in (1, 2):
        config = load_config(write_study(trials=trials, epochs=1), [f"study.seed={2**32 - 1}", "search.sampler=tpe"])
        assert not failures(config)
        assert len(launch(config, lambda line: None).records) == trials
