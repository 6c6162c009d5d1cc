"""The section ``space`` edited between launches: resumed where it holds the trials so far, refused with the key where not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from driving import LatencyByWidth, records_of

from objectives.trial_record import TrialRecord, read_study, study_attributes
from objectives.trial_score import TrialScore
from search_spaces import open_space
from search_spaces._common.errors import UserError
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig
from trial_runner.search.driver import StudyDriver
from trial_runner.search.samplers import make_sampler
from trial_runner.search.warm_start import initial_candidates, load_earlier_studies
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths
from trial_runner.study.storage import open_study
from trial_runner.study.stored_space import StoredSpace
from trial_runner.training.trial_spec import Progress

TEXT = """
study: {name: s, storage: "sqlite:///study.db", output_dir: out}
data: {kind: synthetic}
space:
  families: [lcnet]
  decoders: [fpn]
  widths: [0.25, 0.5]
  resolutions_px: [[32, 64]]
  prune_ratios: [0.0]
  training: {loss.dice: [0.0, 0.5]}
device: {latency_model: model.json, latency_budget_ms: 100}
training: {epochs: 4}
search: {trials: 40, startup_trials: 3}
"""
Edit = Callable[..., StudyConfig]


@pytest.fixture
def edited(tmp_path: Path) -> Edit:
    def edit(*overrides: str) -> StudyConfig:
        (tmp_path / "study.yaml").write_text(TEXT)
        return load_config(tmp_path / "study.yaml", overrides)

    return edit


def launch(config: StudyConfig, trials: int, *, seed: int = 0, finish: bool = True) -> list[TrialRecord]:
    """Train some trials as a launch of this configuration does; the study's records."""
    existing = open_configured(config, create=True)
    space = open_space(config.space)
    stored = StoredSpace(space, existing.get_trials(deepcopy=False))
    stored.require_resumable(read_study(existing))
    study = open_configured(config, sampler=make_sampler(config.search, seed, space=stored))
    driver = StudyDriver(config, study, space, LatencyByWidth(100.0), StudyPaths(config.study.output_dir))
    for _ in range(trials):
        spec = driver.ask()
        assert spec is not None
        miou = float(spec.candidate.params["width"])
        driver.progress(spec.number, Progress(4, miou, ((4, miou),), TrialScore(miou, 4, 4, 1000, 100, 1.0, (miou,))))
        if finish:
            driver.finish(spec.number)
    driver.requeue_running()
    return records_of(config)


EDITS = {
    "family": ("space.families=[lcnet, resnet10t]", {"lcnet", "resnet10t"}),
    "decoder": ("space.decoders=[lraspp, fpn]", {"fpn", "lraspp"}),
    "resolution": ("space.resolutions_px=[[64, 64], [32, 64]]", {"32x64", "64x64"}),
    "prune_ratio": ("space.prune_ratios=[0.0, 0.5]", {0.0, 0.5}),
    "training.loss.dice": ("space.training={loss.dice: [0.0, 0.5, 1.0]}", {0.0, 0.5, 1.0}),
}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_added_choices_are_searched_in_the_same_study(edited: Edit, sampler: str):
    before = launch(edited(f"search.sampler={sampler}"), 4)
    changes = [override for override, _ in EDITS.values()]
    after = launch(edited(f"search.sampler={sampler}", *changes), 20, seed=1)
    assert [record.params for record in after[: len(before)]] == [record.params for record in before]
    assert {record.outcome for record in after} <= {"finished", "reused"}
    tried = {name: {record.params[name] for record in after} for name in EDITS}
    if sampler == "nsga2":  # children mostly inherit
        assert any(tried[name] == choices for name, (_, choices) in EDITS.items())
    else:
        assert tried == {name: choices for name, (_, choices) in EDITS.items()}
    assert len(launch(edited(f"search.sampler={sampler}", *changes), 2, seed=2)) > len(after), "and once more"


def test_a_list_may_become_a_range_around_its_values_and_a_range_may_have_other_ends(edited: Edit):
    before = launch(edited(), 3)
    config = edited("space.widths={low: 0.25, high: 0.75}", "space.learning_rate={low: 1e-5, high: 1.0}")
    after = launch(config, 10, seed=1)
    widths = {record.params["width"] for record in after[len(before) :]}
    assert widths - {0.25, 0.5} and all(0.25 <= width <= 0.75 for width in widths)
    assert {record.outcome for record in after} <= {"finished", "reused"}
    narrow = edited("space.widths={low: 0.25, high: 0.75}", "space.learning_rate={low: 1e-3, high: 1e-2}")
    assert {record.outcome for record in launch(narrow, 3, seed=2)} <= {"finished", "reused"}


def test_an_edit_that_no_trial_used_may_be_taken_back(edited: Edit):
    before = launch(edited(), 2)
    open_study(edited().study.storage, "s", create=False).enqueue_trial({**before[0].params, "width": 0.5})
    launch(edited("space.families=[lcnet, resnet10t]"), 1)
    after = launch(edited(), 3, seed=1)
    assert {record.params["family"] for record in after} == {"lcnet"}


def test_samplers_see_every_trial_under_its_dimension_with_the_present_choices(edited: Edit):
    launch(edited(), 3)
    config = edited("space.families=[lcnet, resnet10t]", "space.widths={low: 0.25, high: 0.75}")
    launch(config, 5, seed=1)
    trials = open_configured(config).get_trials(deepcopy=False)
    assert {"family", "family@2", "width", "width@2"} <= {name for trial in trials for name in trial.params}
    stored = StoredSpace(open_space(config.space), trials)
    shown = stored.shown(trials)
    assert len(shown) == len(trials)
    for trial, record in zip(shown, records_of(config), strict=True):
        assert trial.params == record.params and trial.distributions == stored.distributions


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("space.families=[resnet10t]", "space.families was edited and does not offer lcnet any more"),
        ("space.resolutions_px=[[64, 64]]", "space.resolutions_px was edited and does not offer 32x64 any more"),
        ("space.widths={low: 0.5, high: 1.0}", "space.widths was edited and does not offer 0.25 any more"),
        ("space.depths=[1.0]", "space.depths is new in this study"),
        (
            "space.training={loss.dice: [0.0, 0.5], ema_decay: [0.0, 0.9]}",
            "space.training.average_decay is new in this study",
        ),
        ("space.training=", "space.training.loss.dice was taken out in this study"),
    ],
)
def test_a_space_that_lacks_what_trials_used_is_refused_with_key_trials_and_way_out(
    edited: Edit, change: str, said: str
):
    config = edited()
    study = open_configured(config, create=True)
    for width in (0.25, 0.5):
        study.enqueue_trial({**open_space(config.space).default().params, "width": width})
    before = launch(config, 2)
    with pytest.raises(UserError) as caught:
        launch(edited(change), 1)
    message = str(caught.value)
    assert said in message and "trial" in message and "search.warm_start" in message
    assert records_of(config) == before


def test_a_waiting_trial_keeps_its_values_through_an_edit(edited: Edit):
    before = launch(edited(), 2)
    study = open_configured(edited())
    wanted = {**before[0].params, "width": 0.5, "learning_rate": 0.00321}
    study.enqueue_trial(wanted)
    config = edited("space.families=[resnet10t, lcnet]", "space.widths=[0.5, 0.25, 0.75]")
    assert launch(config, 1, seed=1)[-1].params == wanted


def test_a_requeued_trial_goes_on_with_its_own_network_through_an_edit(edited: Edit):
    (begun,) = launch(edited(), 1, finish=False)
    assert begun.state == "WAITING" and begun.candidate is not None
    (after,) = launch(edited("space.families=[resnet10t, lcnet]"), 1, seed=1)
    assert after.candidate == begun.candidate and after.outcome == "finished"


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0.3}, {"family": "no such"}, {"width": "wide"}, {"learning_rate": 5.0}, {"learning_rate": "fast"}],
)
def test_a_trial_that_was_enqueued_off_the_space_fails_alone(edited: Edit, wrong: dict[str, object]):
    config = edited()
    study = open_configured(config, create=True)
    study.enqueue_trial({**open_space(config.space).default().params, **wrong})
    first, second = launch(config, 1)
    assert first.outcome == "failed" and "enqueued with parameters that are not of the space" in (first.reason or "")
    assert second.outcome == "finished"


def test_a_new_study_may_start_from_the_best_networks_of_another(edited: Edit):
    old = launch(edited(), 6)
    config = edited(
        "study.name=t", "space.families=[resnet10t, lcnet]", "space.widths=[0.5, 0.75]", "search.warm_start=s"
    )
    found = initial_candidates(load_earlier_studies(config, open_space(config.space)), config.search.startup_trials)
    assert found and all(
        candidate.params["width"] == 0.5 and candidate.params["family"] == "lcnet" for candidate in found
    )
    known = [{**record.params} for record in old]
    assert all(dict(candidate.params) in known for candidate in found) and len(found) <= 3
    with pytest.raises(UserError, match="holds no study nobody; it holds: s"):
        load_earlier_studies(edited("search.warm_start=nobody"), open_space(config.space))
    none = edited("study.name=t", "search.warm_start=s", "space.families=[resnet10t]")
    with pytest.raises(UserError, match="none of whose networks is one of this study's space"):
        load_earlier_studies(none, open_space(none.space))


def test_a_refused_launch_changes_nothing_and_a_resumed_one_says_how_far_it_is(
    write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    study, set_one = write_study(trials=2, epochs=1), "--set=search.trials=1"
    assert main(["launch", str(study), set_one]) == 0
    first = capsys.readouterr().out
    assert "study tiny on local-cpu; Ctrl-C stops it" in first and "done" not in first.splitlines()[0]
    config = load_config(study)
    stored = study_attributes(open_configured(config))["config"]
    assert main(["launch", str(study), "--set=space.families=[repvgg_a0]"]) == 2
    out, err = capsys.readouterr()
    assert "space.families was edited" in err and "Ctrl-C" not in out
    for change in ("space.name=references", "training.epochs=2", "device.latency_model=nowhere.json"):
        assert main(["launch", str(study), f"--set={change}"]) == 2
        assert "Ctrl-C" not in capsys.readouterr().out
    opened = open_configured(config)
    assert study_attributes(opened)["config"] == stored and len(opened.trials) == len(records_of(config)) == 1
    assert main(["launch", str(study), "--set=space.widths=[0.25, 0.5, 0.75]"]) == 0
    out = capsys.readouterr().out
    assert "study tiny on local-cpu: 1 of 2 trials done, 0 requeued; Ctrl-C stops it" in out
    assert study_attributes(open_configured(config))["config"]["space"]["widths"] == [0.25, 0.5, 0.75]


def test_a_study_of_another_program_is_left_alone(write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]):
    study = write_study(trials=1, epochs=1)
    config = load_config(study)
    other = optuna.create_study(
        storage=config.study.storage, study_name=config.study.name, directions=["maximize", "minimize"]
    )
    other.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=2)
    running = other.ask()
    assert main(["launch", str(study)]) == 2
    assert "with 3 trials that paretoseg did not make. Choose another study.name" in capsys.readouterr().err
    assert other.trials[running.number].state.name == "RUNNING" and not other.user_attrs
