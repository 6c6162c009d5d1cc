"""Round trip of a trial through a study: from memory and from a file."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState
from sample_measurement import sample_measurement

from hw_latency_model import LatencyEstimate
from objectives import trial_record as tr
from objectives.objective import OBJECTIVES
from objectives.trial_score import TrialScore
from search_spaces.candidate import Candidate

SCORE = TrialScore(0.42, 3, 3, 1_000, 200, 12.5, (0.5, None, 0.34))
CANDIDATE = Candidate("encoder_decoder", 1, {"family": "resnet18", "width": 0.5})


@pytest.fixture(params=["memory", "sqlite"])
def study(request, tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}" if request.param == "sqlite" else None
    return optuna.create_study(
        storage=storage, directions=[item.direction for item in OBJECTIVES], sampler=optuna.samplers.RandomSampler()
    )


def write(study, trial):
    trial.set_user_attr(tr.CANDIDATE, CANDIDATE.to_dict())
    trial.set_user_attr(
        tr.ESTIMATE, {"latency_ms": 5.0, "low_ms": 4.0, "high_ms": 6.5, "coverage": 0.9, "unknown_kinds": ["resize"]}
    )
    for epoch, value in ((3, 0.42), (1, 0.2), (2, 0.3)):
        study._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
    trial.set_user_attr(tr.SCORE, SCORE.to_dict())


def test_a_finished_trial_comes_back_whole(study):
    trial = study.ask()
    write(study, trial)
    trial.set_user_attr(tr.OUTCOME, tr.Outcome.FINISHED)
    study.tell(trial, [0.42, 5.0])
    (record,) = tr.read_study(study)
    assert record.candidate == CANDIDATE
    assert record.params == {"family": "resnet18", "width": 0.5}
    assert record.estimate == LatencyEstimate(5.0, 4.0, 6.5, 0.9, unknown_kinds=("resize",))
    assert record.latency_ms == 5.0
    assert record.score == SCORE
    assert record.val_miou == 0.42
    assert record.curve == ((1, 0.2), (2, 0.3), (3, 0.42))
    assert (record.state, record.outcome, record.complete) == ("COMPLETE", tr.Outcome.FINISHED, True)
    assert record.duration_s is not None
    assert (record.measured_ms, record.bundle, record.export_error) == (None, None, None)


def test_facts_learnt_afterwards_join_a_finished_trial_and_add_up(study):
    for _ in range(2):
        study.tell(study.ask(), [0.1, 1.0])
    tr.store_later_facts(study, 1, export_error="parity failed")
    tr.store_later_facts(study, 1, bundle="exports/trial-0001", measurement=sample_measurement(7.5, runs=50))
    first, second = tr.read_study(study)
    assert (first.bundle, first.measured_ms) == (None, None)
    assert (second.bundle, second.measured_ms, second.export_error) == ("exports/trial-0001", 7.5, "parity failed")
    assert second.measurement == sample_measurement(7.5, runs=50)
    with pytest.raises(ValueError, match="colour"):
        tr.store_later_facts(study, 1, colour="red")


def test_a_bundle_is_found_in_the_folder_where_the_study_is_today(study, tmp_path):
    before, today = tmp_path / "before", tmp_path / "today"
    stored = ["bundles/trial-00000", str(before / "bundles/trial-00001"), str(tmp_path / "elsewhere")]
    for number, path in enumerate(stored):
        study.tell(study.ask(), [0.1, 1.0])
        tr.store_later_facts(study, number, bundle=path)
    (today / "bundles" / "trial-00001").mkdir(parents=True)
    study.set_user_attr(tr.CONFIG, {"study": {"output_dir": str(before)}})
    found = [record.bundle for record in tr.read_study(study, today)]
    assert found == [str(today / "bundles/trial-00000"), str(today / "bundles/trial-00001"), stored[2]]
    assert [record.bundle for record in tr.read_study(study)] == [str(before / stored[0]), *stored[1:]]


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (TrialState.PRUNED, tr.Outcome.STOPPED),
        (TrialState.PRUNED, tr.Outcome.INFEASIBLE),
        (TrialState.FAIL, tr.Outcome.FAILED),
    ],
)
def test_what_did_not_reach_the_end_is_not_complete(study, state, outcome):
    trial = study.ask()
    write(study, trial)
    trial.set_user_attr(tr.OUTCOME, outcome)
    trial.set_user_attr(tr.REASON, "why")
    study.tell(trial, state=state)
    (record,) = tr.read_study(study)
    assert (record.complete, record.outcome, record.reason) == (False, outcome, "why")


def test_a_repeated_proposal_and_a_trial_of_others_are_not_complete(study):
    trial = study.ask()
    write(study, trial)
    trial.set_user_attr(tr.DUPLICATE_OF, 0)
    study.tell(trial, [0.42, 5.0])
    study.tell(study.ask(), [0.9, 0.1])
    repeated, foreign = tr.read_study(study)
    assert (repeated.duplicate_of, repeated.complete) == (0, False)
    assert (foreign.candidate, foreign.params, foreign.complete) == (None, {}, False)
