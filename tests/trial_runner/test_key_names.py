"""Keys under the field's words and under their older names: they mean the same and are stored the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces import open_space
from trial_runner.config.load import ConfigError, dump_config, load_config
from trial_runner.training.trial_spec import TrialSpec

NAMES = [
    ("training.ema_decay", "training.average_decay", 0.99),
    ("training.loss.ohem_ratio", "training.loss.hardest_share", 0.3),
    ("training.encoder_lr_multiplier", "training.encoder_rate", 0.1),
    ("training.crop_ratio", "training.crop_share", 0.6),
    ("training.precise_bn_batches", "training.norm_calibration_batches", 8),
]
Study = Callable[..., Path]


@pytest.mark.parametrize(("name", "older", "value"), NAMES)
def test_a_key_means_the_same_under_both_names_and_keeps_its_fingerprint(
    name: str, older: str, value: float, write_study: Study, tmp_path: Path
):
    study = write_study()
    new, old, default = (
        load_config(study, [f"{name}={value}"]),
        load_config(study, [f"{older}={value}"]),
        load_config(study),
    )
    assert new == old != default
    assert dump_config(new) == dump_config(old) and older.rpartition(".")[2] in dump_config(new)
    candidate = open_space(new.space).default()
    orders = [TrialSpec(0, candidate, config, tmp_path, tmp_path) for config in (new, old, default)]
    assert orders[0].fingerprint == orders[1].fingerprint != orders[2].fingerprint
    assert TrialSpec.from_dict(orders[0].to_dict()) == TrialSpec.from_dict(orders[1].to_dict())


@pytest.mark.parametrize(("name", "older", "value"), NAMES)
def test_both_names_of_a_key_in_a_file_are_one_too_many_and_an_override_replaces_either(
    name: str, older: str, value: float, write_study: Study
):
    study, (_, *sections, new), old = write_study(), name.split("."), older.rpartition(".")[2]
    section = f"{{{new}: {value}, {old}: {value}}}"
    for outer in reversed(sections):
        section = f"{{{outer}: {section}}}"
    with pytest.raises(ConfigError, match=f"{new} and {old} are two names of one key: keep {new}"):
        load_config(study, [f"training={section}"])
    replaced = load_config(study, [f"{older}={value}", f"{name}={value / 2 if value < 1 else 4}"])
    assert replaced == load_config(study, [f"{name}={value / 2 if value < 1 else 4}"])


@pytest.mark.parametrize(("name", "older", "value"), NAMES)
def test_an_error_names_the_key_as_it_was_written(name: str, older: str, value: float, write_study: Study):
    for key in (name, older):
        with pytest.raises(ConfigError, match=f": {key}: .* found -1"):
            load_config(write_study(), [f"{key}=-1"])


@pytest.mark.parametrize(("name", "older", "value"), NAMES)
def test_a_searched_key_is_one_dimension_under_both_names(name: str, older: str, value: float, write_study: Study):
    def default(key: str) -> str:
        choices = f"space.training={{{key.removeprefix('training.')}: [{value}]}}"
        return open_space(load_config(write_study(), [choices]).space).default().id

    assert default(name) == default(older)
    both = (
        f"space.training={{{name.removeprefix('training.')}: [{value}], {older.removeprefix('training.')}: [{value}]}}"
    )
    with pytest.raises(ConfigError, match="one key twice, under two names"):
        load_config(write_study(), [both])


def test_a_stratified_start_is_stored_under_its_older_name(write_study: Study):
    new, old = (load_config(write_study(), [f"search.start={start}"]) for start in ("stratified", "spread"))
    assert new == old and new.model_dump()["search"]["start"] == "spread"
    with pytest.raises(ConfigError, match="'stratified'"):
        load_config(write_study(), ["search.start=even"])
