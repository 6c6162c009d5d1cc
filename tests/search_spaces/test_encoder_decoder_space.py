"""The encoder_decoder space: proposals, ids, the default, and what a wrong option is answered with."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest

from search_spaces import Candidate, UserError, get_space
from search_spaces.networks.backbones import FAMILIES

SPACE = get_space("encoder_decoder", {})


def test_one_trial_asked_twice_gives_one_candidate():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    for _ in range(5):
        trial = study.ask()
        first = SPACE.suggest(trial)
        assert SPACE.suggest(trial) == first
        assert SPACE.candidate(trial.params) == first
        assert trial.params == first.params


def test_a_candidate_survives_storage_and_is_suggested_again(tmp_path):
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="s")
    wanted = SPACE.sample(np.random.default_rng(5))
    study.enqueue_trial(dict(wanted.params))
    assert SPACE.suggest(study.ask()) == wanted
    assert Candidate.from_dict(wanted.to_dict()).id == wanted.id


def test_samples_depend_on_the_seed_alone_and_spread_out():
    def draw(seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [SPACE.sample(rng).id for _ in range(30)]

    assert draw(1) == draw(1)
    assert len(set(draw(1) + draw(2))) == 60
    rng = np.random.default_rng(0)
    assert {SPACE.sample(rng).params["family"] for _ in range(200)} == {
        name for name, spec in FAMILIES.items() if spec.by_default
    }


def test_ids_are_a_contract():
    # Stored studies and caches are keyed by these. If this fails, raise the space's version.
    params = {
        "family": "resnet10t",
        "decoder": "fpn",
        "width": 0.5,
        "resolution": "96x128",
        "prune_ratio": 0.25,
        "learning_rate": 0.003,
        "weight_decay": 0.0001,
    }
    candidate = SPACE.candidate(params)
    assert (candidate.id, SPACE.architecture_id(candidate)) == ("b2707407557a6764", "10619d73b6f78fef")
    assert SPACE.candidate(dict(reversed(params.items()))).id == candidate.id


def test_architecture_id_ignores_training_and_nothing_else():
    base = SPACE.default()

    def identity(**changes: Any) -> str:
        return SPACE.architecture_id(SPACE.candidate({**base.params, **changes}))

    assert identity(learning_rate=1e-3, weight_decay=1e-3) == identity()
    changes = [
        {"family": "lcnet"},
        {"decoder": "lraspp"},
        {"width": 0.5},
        {"resolution": "96x128"},
        {"prune_ratio": 0.5},
    ]
    assert len({identity(**change) for change in changes} | {identity()}) == 6


def test_what_is_read_from_a_candidate():
    candidate = SPACE.candidate({**SPACE.default().params, "resolution": "160x224", "prune_ratio": 0.5})
    assert SPACE.input_hw(candidate) == (160, 224)
    assert SPACE.prune_ratio(candidate) == 0.5
    assert set(SPACE.hyperparameters(candidate)) == {"learning_rate", "weight_decay"}


def test_the_default_is_in_the_space_whatever_the_options():
    assert SPACE.default().params["family"] == "mobilenetv2"
    small = get_space(
        "encoder_decoder",
        {
            "families": ["lcnet"],
            "decoders": ["lraspp"],
            "widths": [0.25],
            "resolutions_px": [[64, 64]],
            "prune_ratios": [0.5],
            "learning_rate": [1e-2, 1e-1],
        },
    )
    params = small.default().params
    assert (params["family"], params["width"], params["resolution"], params["learning_rate"]) == (
        "lcnet",
        0.25,
        "64x64",
        1e-2,
    )


@pytest.mark.parametrize(
    "change",
    [{"width": 0.33}, {"family": "vgg"}, {"learning_rate": 1.0}, {"learning_rate": "fast"}, {"surplus": 1}],
)
def test_params_off_the_space_are_a_programming_mistake(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        SPACE.candidate({**SPACE.default().params, **change})


def test_a_candidate_of_another_version_is_refused():
    old = Candidate("encoder_decoder", 0, SPACE.default().params)
    with pytest.raises(UserError, match="version 0"):
        SPACE.build(old, 3)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("encoder_decoderr", {}, "'encoder_decoder'"),
        ("encoder_decoder", {"famillies": ["lcnet"]}, "'families'"),
        ("encoder_decoder", {"families": ["mobilenet_v2"]}, "did you mean 'mobilenetv2'"),
        ("encoder_decoder", {"families": ["mobilenet_v2"]}, "repvgg_a0"),
        ("encoder_decoder", {"decoders": ["fpm"]}, "did you mean 'fpn'"),
        ("encoder_decoder", {"families": []}, "families"),
        ("encoder_decoder", {"families": "lcnet"}, "families"),
        ("encoder_decoder", {"families": ["lcnet", "lcnet"]}, "twice"),
        ("encoder_decoder", {"families": [["lcnet"]]}, "encoder family"),
        ("encoder_decoder", {"widths": [0]}, "widths"),
        ("encoder_decoder", {"widths": 0.5}, "widths"),
        ("encoder_decoder", {"prune_ratios": [1.0]}, "prune_ratios"),
        ("encoder_decoder", {"prune_ratios": [float("nan")]}, "prune_ratios"),
        ("encoder_decoder", {"resolutions_px": [[100, 128]]}, "multiples of 32"),
        ("encoder_decoder", {"resolutions_px": [96, 128]}, "height, width"),
        ("encoder_decoder", {"resolutions_px": ["96x128"]}, "height, width"),
        ("encoder_decoder", {"learning_rate": [1e-2, 1e-3]}, "learning_rate"),
        ("encoder_decoder", {"weight_decay": [0, 1e-3]}, "weight_decay"),
        ("encoder_decoder", {"weight_decay": 1e-3}, "weight_decay"),
    ],
)
def test_a_wrong_option_is_one_clear_sentence(name, options, said):
    with pytest.raises(UserError) as caught:
        get_space(name, options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_that_yaml_reads_as_text_are_taken():
    space = get_space("encoder_decoder", {"learning_rate": ["1e-3", "1e-2"]})
    assert space.default().params["learning_rate"] == pytest.approx(3e-3)
