"""Warm start: an earlier study's best networks come first, and its results guide the sampler as far as they hold here."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from test_known_cost_sampler import SPACE, accuracy, costs, latency_ms, searched

import trial_runner.launch
from objectives.objective import OBJECTIVES
from objectives.pareto import hypervolume_2d
from search_spaces import open_space
from search_spaces._common.errors import UserError
from trial_runner.config.load import load_config
from trial_runner.search.known_cost import EarlierTrials, KnownCostSampler
from trial_runner.search.samplers import StudyFacts
from trial_runner.search.warm_start import initial_candidates, load_earlier_studies

GOLDEN = Path(__file__).parents[1] / "golden" / "fixtures" / "study"
TRIALS = 12


def earlier_trials(score: Callable[..., float], seed: int) -> EarlierTrials:
    study = searched(optuna.samplers.RandomSampler(seed=100 + seed), 40, score)
    return EarlierTrials([trial.params for trial in study.trials], np.array([trial.values for trial in study.trials]))


def other_data(params: Any) -> float:
    """Accuracy on other data: another scale, another best learning rate."""
    return 0.2 + 0.7 * accuracy(params) - 0.01 * (math.log10(params["rate"]) + 2.5) ** 2


def mean_volume(seeds: range, *, earlier: Callable[[int], EarlierTrials] | None = None) -> float:
    volumes = []
    for seed in seeds:
        known = (earlier(seed),) if earlier else ()
        sampler = KnownCostSampler(
            costs(), search_space=SPACE, references={0: 0.0}, n_startup_trials=4, earlier=known, seed=seed
        )
        study = searched(sampler, TRIALS)
        volumes.append(
            hypervolume_2d([[-trial.values[0], latency_ms(trial.params)] for trial in study.trials], (0.0, 18.0))
        )
    return float(np.mean(volumes))


def test_an_earlier_study_on_other_data_saves_trials_and_a_meaningless_one_costs_none():
    seeds = range(3)
    alone = mean_volume(seeds)
    assert mean_volume(seeds, earlier=lambda seed: earlier_trials(other_data, seed)) > alone + 0.1
    noise = np.random.default_rng(5)
    assert (
        mean_volume(seeds, earlier=lambda seed: earlier_trials(lambda params: float(noise.normal()), seed))
        > alone - 0.1
    )


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """The YAML of a study that was run to its end, in a folder and a database of its own."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "earlier")) / "study.yaml"


def later(golden: Path, *overrides: str):
    """A new study in another database that starts from the golden one, named by its file relative to the new YAML."""
    path = golden.parents[1] / "later" / "study.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(golden.read_text().replace("name: golden", "name: later"))
    return load_config(path, ["search.warm_start=[../earlier/study.yaml]", *overrides])


def test_studies_of_other_databases_are_named_by_their_yaml_files(golden: Path):
    config = later(golden)
    space = open_space(config.space)
    (study,) = load_earlier_studies(config, space)
    evidence = study.evidence(OBJECTIVES)
    assert len(evidence.rows) == len(study.records) > 2 and np.isfinite(evidence.values).all()
    best = max(study.records, key=lambda record: record.val_miou or 0.0)
    assert best.params in [dict(item.params) for item in initial_candidates([study], 4)]
    with pytest.raises(UserError, match="this study itself"):
        load_earlier_studies(load_config(golden, ["search.warm_start=golden"]), space)


def test_networks_of_other_resolutions_take_the_one_of_the_same_rank(golden: Path):
    config = later(golden, "space.resolutions_px=[[64, 64], [96, 128]]")
    (study,) = load_earlier_studies(config, open_space(config.space))
    assert {item.params["resolution"] for item in study.candidates} == {"96x128"}  # the largest of those there were


def test_a_launch_gives_the_results_to_the_sampler(golden: Path, write_study: Callable[..., Path], monkeypatch):
    class Made(Exception):
        pass

    def make(search: Any, seed: int, facts: StudyFacts | None = None, space: Any = None):
        if facts is not None:
            raise Made(len(facts.earlier), len(facts.earlier[0].rows))
        return optuna.samplers.RandomSampler(seed=seed)

    monkeypatch.setattr(trial_runner.launch, "make_sampler", make)
    space = [line for line in golden.read_text().splitlines() if "families" in line or "decoders" in line]
    overrides = [f"space.{line.strip().replace(': ', '=', 1)}" for line in space]
    config = load_config(write_study(), ["search.sampler=known_cost", f"search.warm_start={golden}", *overrides])
    with pytest.raises(Made) as made:
        trial_runner.launch.launch(config, lambda line: None)
    assert made.value.args[0] == 1 and made.value.args[1] > 0
