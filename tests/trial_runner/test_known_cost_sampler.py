"""The sampler that knows costs before a trial: what it proposes, keeps to, and repeats."""

from __future__ import annotations

import math
import time

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from objectives.pareto import hypervolume_2d
from trial_runner.search.known_cost import KnownCosts, KnownCostSampler
from trial_runner.search.known_cost.acquisition import boxes, expected_hypervolume_improvement
from trial_runner.search.known_cost.encoding import SpaceEncoding, infer_conditions
from trial_runner.search.known_cost.evidence import CurveEvidence
from trial_runner.search.known_cost.history import read_history

SPACE = {
    "block": CategoricalDistribution(("plain", "residual", "mobile")),
    "depth": IntDistribution(1, 8),
    "width": FloatDistribution(0.25, 2.0, log=True),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
}


def latency_ms(params) -> float:
    factor = {"plain": 1.0, "residual": 1.1, "mobile": 0.6}[params["block"]]
    return factor * (0.5 + params["depth"] * params["width"])


def accuracy(params) -> float:
    gain = {"plain": 0.0, "residual": 0.05, "mobile": -0.02}[params["block"]]
    size = math.log(params["depth"] * params["width"] + 1.0)
    return 0.4 + gain + 0.12 * size - 0.02 * (math.log10(params["rate"]) + 2.0) ** 2


def costs(**options) -> KnownCosts:
    return KnownCosts(lambda rows: [[latency_ms(row)] for row in rows], {1: 0}, **options)


def searched(sampler, trials: int = 22, score=accuracy) -> optuna.Study:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(trials):
        trial = study.ask(SPACE)
        study.tell(trial, [score(trial.params), latency_ms(trial.params)])
    return study


def volume(study: optuna.Study) -> float:
    return hypervolume_2d([[-trial.values[0], trial.values[1]] for trial in study.trials], (0.0, 18.0))


def test_a_mixed_space_is_searched_better_than_at_random():
    known = [
        volume(searched(KnownCostSampler(costs(), search_space=SPACE, references={0: 0.0}, seed=s))) for s in (0, 1)
    ]
    random = [volume(searched(optuna.samplers.RandomSampler(seed=seed))) for seed in range(8)]
    assert min(known) > max(random)


def test_the_same_seed_gives_the_same_trials_and_another_seed_others():
    def params(seed: int):
        return [trial.params for trial in searched(KnownCostSampler(costs(), search_space=SPACE, seed=seed), 12).trials]

    assert params(3) == params(3) != params(4)


def test_the_first_trials_lie_in_different_parts_of_the_latency_range():
    study = searched(KnownCostSampler(costs(), search_space=SPACE, n_startup_trials=5, seed=1), 5)
    sampler = optuna.samplers.RandomSampler(seed=2)
    usual = sorted(trial.values[1] for trial in searched(sampler, 1000).trials)
    parts = [min(4, int(np.searchsorted(usual, trial.values[1]) / 200)) for trial in study.trials]
    assert len(set(parts)) >= 4


def test_a_budget_of_a_known_cost_is_kept_and_one_that_nothing_keeps_is_approached():
    study = searched(KnownCostSampler(costs(budgets={0: 4.0}), search_space=SPACE, seed=1), 20)
    assert max(trial.values[1] for trial in study.trials) <= 4.0
    study = searched(KnownCostSampler(costs(budgets={0: 0.1}), search_space=SPACE, seed=1), 8)
    assert max(trial.values[1] for trial in study.trials) < 2.0


def test_nothing_is_proposed_twice_until_the_space_is_exhausted():
    space = {"a": IntDistribution(0, 4), "b": CategoricalDistribution(("x", "y"))}
    known = KnownCosts(lambda rows: [[1.0 + row["a"]] for row in rows], {1: 0})
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=KnownCostSampler(known, search_space=space, seed=0)
    )
    for _ in range(12):
        trial = study.ask(space)
        study.tell(trial, [trial.params["a"] * (1 + (trial.params["b"] == "x")), 1.0 + trial.params["a"]])
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials[:10]}) == 10


def test_trials_that_run_are_not_proposed_again_and_push_the_next_ones_elsewhere():
    study = searched(KnownCostSampler(costs(), search_space=SPACE, references={0: 0.0}, seed=0), 12)
    running = [study.ask(SPACE) for _ in range(6)]
    assert len({tuple(trial.params.items()) for trial in running}) == 6
    assert np.ptp([latency_ms(trial.params) for trial in running]) > 1.0


def test_params_that_only_some_trials_have_are_modelled_with_their_condition():
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        depth = trial.suggest_int("depth", 1, 3)
        widths = [trial.suggest_float(f"width_{index}", 0.1, 1.0) for index in range(depth)]
        if trial.suggest_categorical("head", ["a", "b"]) == "b":
            widths.append(trial.suggest_float("extra", 0.0, 1.0))
        return sum(widths), sum(width**2 for width in widths)

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=KnownCostSampler(seed=0))
    study.optimize(objective, n_trials=14)
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    space = {name: item for trial in study.trials for name, item in trial.distributions.items()}
    conditions = infer_conditions(dict(sorted(space.items())), [trial.params for trial in study.trials])
    assert {name: (item.parent, set(item.values)) for name, item in conditions.items()} == {
        "extra": ("head", {"b"}),
        "width_1": ("depth", {2, 3}),
        "width_2": ("depth", {3}),
    }


def test_failed_trials_are_left_alone_and_their_surroundings_avoided():
    sampler = KnownCostSampler(costs(), search_space=SPACE, references={0: 0.0}, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(30):
        trial = study.ask(SPACE)
        if trial.params["block"] == "residual":
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [accuracy(trial.params), latency_ms(trial.params)])
    failed = [trial.number for trial in study.trials if trial.state == TrialState.FAIL]
    assert 0 < len(failed) < 12


@pytest.mark.parametrize("known", [{1: 0}, {1: 0, 2: 1}, {}])
def test_three_objectives_of_which_some_are_known(known: dict[int, int]):
    function = KnownCosts(lambda rows: [[latency_ms(row), row["width"] ** 2] for row in rows], known)
    sampler = KnownCostSampler(function, search_space=SPACE, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler=sampler)
    for _ in range(20):
        trial = study.ask(SPACE)
        params = trial.params
        study.tell(trial, [accuracy(params), latency_ms(params), params["width"] ** 2])
    assert len(study.best_trials) >= 5


def test_an_unknown_constraint_is_learnt():
    sampler = KnownCostSampler(costs(), search_space=SPACE, references={0: 0.0}, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(40):
        trial = study.ask(SPACE)
        trial.set_constraint("depth", trial.params["depth"] - 3.5)
        study.tell(trial, [accuracy(trial.params), latency_ms(trial.params)])
    kept = [trial.params["depth"] <= 3 for trial in study.trials]
    assert np.mean(kept[20:]) > 0.7


def test_the_gain_can_be_taken_per_second():
    def mean_latency(seconds) -> float:
        sampler = KnownCostSampler(costs(), search_space=SPACE, references={0: 0.0}, seconds=seconds, seed=0)
        return float(np.mean([trial.values[1] for trial in searched(sampler, 20).trials[5:]]))

    assert mean_latency(lambda trials, rows, table: table[:, 0] ** 2) < mean_latency(None)


def test_stopped_trials_tell_what_they_would_have_reached():
    study = optuna.create_study(directions=["maximize", "minimize"])
    for index in range(8):
        trial = study.ask(SPACE)
        reading = 0.3 + 0.02 * index
        study._storage.set_trial_intermediate_value(trial._trial_id, 3, reading)
        if index % 4 == 3:
            study._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED)
        else:
            study.tell(trial, [reading + 0.2, 1.0])
    found = CurveEvidence({0: 1.0}, 2)(study.trials)
    assert set(found) == {3, 7}
    values, deviations = found[7]
    assert values[0] == pytest.approx(0.64, abs=0.01) and math.isnan(values[1]) and 0 < deviations[0] < 0.02


def with_curves(study: optuna.Study, *, stop: bool, trials: int = 18) -> optuna.Study:
    """Train on four steps; with ``stop``, end after the second what lies below the median there. One in six finishes anyway."""
    rng = np.random.default_rng(11)
    reached: list[float] = []
    for number in range(trials):
        trial = study.ask(SPACE)
        final = accuracy(trial.params)
        curve = [final - 0.2 * 0.5**step + 0.004 * rng.normal() for step in range(1, 5)]
        for step, value in enumerate(curve[:2], 1):
            study._storage.set_trial_intermediate_value(trial._trial_id, step, value)
        reached.append(curve[1])
        if stop and number > 5 and number % 6 and curve[1] < np.median(reached):
            study.tell(trial, state=TrialState.PRUNED)
            continue
        for step, value in enumerate(curve[2:], 3):
            study._storage.set_trial_intermediate_value(trial._trial_id, step, value)
        study.tell(trial, [final, latency_ms(trial.params)])
    return study


def test_stopped_trials_are_evidence_that_makes_later_proposals_better():
    def found(evidence: CurveEvidence | None, seed: int) -> float:
        sampler = KnownCostSampler(costs(), search_space=SPACE, references={0: 0.0}, evidence=evidence, seed=seed)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        with_curves(study, stop=True)
        return hypervolume_2d([[-accuracy(t.params), latency_ms(t.params)] for t in study.trials], (0.0, 18.0))

    seeds = range(4)
    told = [found(CurveEvidence({0: 1.0}, 2, 0), seed) for seed in seeds]
    assert np.mean(told) > np.mean([found(None, seed) for seed in seeds])


def test_a_running_trial_counts_by_its_curve_so_far():
    study = with_curves(optuna.create_study(directions=["maximize", "minimize"]), stop=False, trials=8)
    running = study.ask(SPACE)
    step, early = 3, 0.9
    study._storage.set_trial_intermediate_value(running._trial_id, step, early)
    values, _ = CurveEvidence({0: 1.0}, 2)(study.trials)[running.number]
    assert values[0] == pytest.approx(early + 0.2 * 0.5**3, abs=0.03)
    history = read_history(study, -1, SpaceEncoding(SPACE), CurveEvidence({0: 1.0}, 2))
    assert running.params in history.rows and running.params in history.pending


def test_an_objective_without_readings_of_its_own_is_told_of_by_the_curve():
    study = optuna.create_study(directions=["maximize", "minimize"])
    for index in range(8):
        trial = study.ask(SPACE)
        study._storage.set_trial_intermediate_value(trial._trial_id, 3, 0.3 + 0.02 * index)
        if index == 7:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, [0.5 + 0.02 * index, 10.0 - index])
    (values, deviations) = CurveEvidence({0: 1.0, 1: 0.0}, 2)(study.trials)[7]
    assert values[0] == pytest.approx(0.64, abs=0.01)
    assert 3.0 - 3 * deviations[1] < values[1] < 7.0  # falls with the reading, though no slope was expected


def test_the_scatter_of_the_last_readings_is_taken_as_noise():
    study = with_curves(optuna.create_study(directions=["maximize", "minimize"]), stop=False, trials=1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        trial = study.ask(SPACE)
        for step in range(1, 11):
            study._storage.set_trial_intermediate_value(trial._trial_id, step, 0.05 * step + 0.02 * rng.normal())
        study.tell(trial, [0.5, 1.0])
    assert CurveEvidence({0: 1.0}, 2, 0).noise(study.trials)[0] == pytest.approx(0.02, rel=0.4)
    assert CurveEvidence({0: 1.0}, 2).noise(study.trials) == [0.0, 0.0]


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_the_expected_gain_is_that_of_random_draws(objectives: int):
    rng = np.random.default_rng(objectives)
    points, reference = rng.uniform(0.0, 1.0, (6, objectives)), np.full(objectives, 1.1)
    lows, highs = boxes(points, reference)
    means, deviations = rng.uniform(0.0, 1.0, (3, objectives)), rng.uniform(0.05, 0.3, (3, objectives))
    deviations[:, -1] = 0.0
    exact = expected_hypervolume_improvement(lows, highs, means, deviations)
    drawn = means[:, None] + deviations[:, None] * rng.normal(size=(3, 40_000, objectives))
    inside = np.maximum(highs - np.maximum(lows, drawn[:, :, None]), 0.0).prod(axis=-1).sum(axis=-1)
    assert exact == pytest.approx(inside.mean(axis=1), rel=0.05, abs=1e-4)
    if objectives == 2:
        best = points[:1] - 0.2
        gain = expected_hypervolume_improvement(lows, highs, best, np.zeros_like(best))
        before = hypervolume_2d(points, tuple(reference))
        assert gain[0] == pytest.approx(hypervolume_2d(np.vstack([points, best]), tuple(reference)) - before)


def test_a_proposal_takes_bounded_time_with_a_thousand_trials():
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=KnownCostSampler(costs(), search_space=SPACE, seed=0)
    )
    rng = np.random.default_rng(0)
    for _ in range(1000):
        params = {
            "block": str(rng.choice(["plain", "residual", "mobile"])),
            "depth": int(rng.integers(1, 9)),
            "width": float(rng.uniform(0.25, 2.0)),
            "rate": float(10 ** rng.uniform(-4, -1)),
        }
        values = [accuracy(params) + 0.01 * rng.normal(), latency_ms(params)]
        study.add_trial(optuna.create_trial(params=params, distributions=SPACE, values=values))
    spent = []
    for _ in range(6):
        begun = time.process_time()
        trial = study.ask(SPACE)
        spent.append(time.process_time() - begun)
        study.tell(trial, [accuracy(trial.params), latency_ms(trial.params)])
    assert np.median(spent) < 0.5 and max(spent) < 1.5


def test_how_bad_a_diverged_training_is_changes_nothing():
    def proposed(worst: float):
        sampler = KnownCostSampler(costs(), search_space=SPACE, references={0: 0.0}, seed=0)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        rng = np.random.default_rng(0)
        for number in range(12):
            params = {"block": "plain", "depth": int(rng.integers(1, 9)), "width": 1.0, "rate": 1e-4 * 1.7**number}
            values = [worst if number == 7 else accuracy(params), latency_ms(params)]
            study.add_trial(optuna.create_trial(params=params, distributions=SPACE, values=values))
        return study.ask(SPACE).params

    assert proposed(-50.0) == proposed(-5e6)


def by_rate_alone(params) -> float:
    """Accuracy that no cost tells of."""
    return (
        0.4
        + {"plain": 0.0, "residual": 0.05, "mobile": -0.02}[params["block"]]
        - 0.03 * (math.log10(params["rate"]) + 2.0) ** 2
    )


def falling_with_size(params) -> float:
    return (
        0.7 - 0.05 * math.log(params["depth"] * params["width"] + 1.0) - 0.02 * (math.log10(params["rate"]) + 2.0) ** 2
    )


def noise_alone(params) -> float:
    return 0.3 + 0.4 * ((math.sin(1e3 * params["rate"] * (1 + params["depth"])) * 43758.5) % 1.0)


@pytest.mark.parametrize("score", [by_rate_alone, falling_with_size, noise_alone])
def test_it_is_no_worse_than_random_where_accuracy_does_not_grow_with_cost(score):
    random = [volume(searched(optuna.samplers.RandomSampler(seed=seed), 20, score)) for seed in range(8)]
    known = [
        volume(searched(KnownCostSampler(costs(), search_space=SPACE, references={0: 0.0}, seed=seed), 20, score))
        for seed in range(2)
    ]
    assert np.mean(known) > np.mean(random) - np.std(random) / 2


def test_of_two_candidates_with_equal_gain_the_cheaper_one_is_trained():
    space = {"a": IntDistribution(0, 5), "mode": CategoricalDistribution(("slow", "quick"))}
    known = KnownCosts(lambda rows: [[1.0 + row["a"]] for row in rows], {1: 0})

    def modes(seconds) -> list[str]:
        sampler = KnownCostSampler(
            known, search_space=space, references={0: 0.0}, seconds=seconds, seed=0, n_startup_trials=2
        )
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        for _ in range(6):
            trial = study.ask(space)
            study.tell(trial, [0.1 * trial.params["a"], 1.0 + trial.params["a"]])
        return [trial.params["mode"] for trial in study.trials[2:]]

    def quick_is_ten_times_faster(trials, rows, table):
        return np.array([10.0 if row["mode"] == "slow" else 1.0 for row in rows])

    assert set(modes(quick_is_ten_times_faster)) == {"quick"} != set(modes(None))


def test_a_budget_of_an_uncertain_objective_is_the_value_from_which_it_counts():
    sampler = KnownCostSampler(costs(), search_space=SPACE, references={0: 0.42}, seed=0)
    study = searched(sampler, 25)
    late = [trial.values[0] >= 0.42 for trial in study.trials[10:]]
    everything = searched(KnownCostSampler(costs(), search_space=SPACE, references={0: 0.0}, seed=0), 25)
    assert sum(late) > sum(trial.values[0] >= 0.42 for trial in everything.trials[10:])


def test_an_uncertain_latency_counts_by_its_expected_gain():
    space = {"a": IntDistribution(1, 9), "mode": CategoricalDistribution(("sure", "unsure"))}

    def table(rows):
        return [[float(row["a"]), 0.3 * row["a"] * (row["mode"] == "unsure")] for row in rows]

    known = KnownCosts(table, {1: 0}, deviations={0: 1})
    assert known.informative(np.array(table([{"a": 2, "mode": "unsure"}]))).tolist() == [[2.0]]
    lows, highs = boxes([[-0.5, 4.0]], [0.0, 9.0])
    means = np.array([[-0.5, 4.2], [-0.5, 4.2], [-0.5, 3.9]])
    gains = expected_hypervolume_improvement(lows, highs, means, np.array([[1e-6, 0.0], [1e-6, 0.4], [1e-6, 0.0]]))
    assert gains[0] < 1e-5 < gains[1] and gains[2] == pytest.approx(0.05, rel=0.01)
    sampler = KnownCostSampler(known, search_space=space, references={0: 0.0}, n_startup_trials=3, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(10):
        trial = study.ask(space)
        study.tell(trial, [0.1 * trial.params["a"], float(trial.params["a"])])
    assert "unsure" in {trial.params["mode"] for trial in study.trials[3:]}


def test_values_that_an_older_model_predicted_are_restated_where_asked_for():
    """An older model that was wrong in the order of latencies misleads, unless the trials' latencies are predicted again."""

    def gain(seed: int, *, restate: bool) -> float:
        known = KnownCosts(lambda rows: [[latency_ms(row)] for row in rows], {1: 0}, restate=restate)
        sampler = KnownCostSampler(known, search_space=SPACE, references={0: 0.0}, n_startup_trials=2, seed=seed)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        for params in SpaceEncoding(SPACE).random(np.random.default_rng(seed), 30):
            values = [accuracy(params), 18.0 - latency_ms(params)]
            study.add_trial(optuna.create_trial(params=params, distributions=SPACE, values=values))
        before = len(study.trials)
        for _ in range(3):
            trial = study.ask(SPACE)
            study.tell(trial, [accuracy(trial.params), latency_ms(trial.params)])
        points = [[-accuracy(trial.params), latency_ms(trial.params)] for trial in study.trials]
        return hypervolume_2d(points, (0.0, 18.0)) - hypervolume_2d(points[:before], (0.0, 18.0))

    seeds = range(4)
    assert sum(gain(seed, restate=True) for seed in seeds) > 2 * sum(gain(seed, restate=False) for seed in seeds)
