"""The live page and the importances beside optuna-dashboard, asked for as a browser does."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import optuna
import pytest
from test_web import get, serving

from objectives import trial_record as tr
from objectives.importance import importances
from objectives.objective import LATENCY, MIOU
from objectives.pareto import pareto_front


def test_the_page_follows_a_study_and_compares_it_with_another(tmp_path, make_study):
    storage = optuna.storages.InMemoryStorage()
    study = make_study(storage, trials=30, measured=False)
    other = make_study(storage, trials=12, measured=False, name="other")
    with serving(study, tmp_path / "artifacts") as server:
        address = server.url("/paretoseg").partition("?")[0]
        known = {"Authorization": f"Bearer {server.token}"}
        page = get(urllib.request.Request(address, headers=known)).decode()
        assert 'src="/paretoseg/live.js"' in page and "http" not in page.replace("http-equiv", "")

        def data(query: str):
            return json.loads(get(f"{server.url('/paretoseg/data')}&{query}"))

        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(server.url("/paretoseg/data").partition("?")[0], timeout=30)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(server.url("/paretoseg/nothing"), timeout=30)

        shown = data(f"study={study._study_id}")
        records = tr.read_study(study)
        front = pareto_front(records)
        tiles = {words: value for value, words in shown["tiles"]}
        assert (shown["title"], tiles["trials"], tiles["on the front"]) == ("demo", "30", str(len(front)))
        refused, stopped = (
            sum(record.outcome == outcome for record in records)
            for outcome in (tr.Outcome.INFEASIBLE, tr.Outcome.STOPPED)
        )
        assert (tiles["refused untrained"], tiles["stopped early"]) == (str(refused), str(stopped)), "apart"
        figures = {figure["title"]: figure for figure in shown["figures"]}
        assert {"Front", "Learning curves", "Hypervolume by trial", "Hypervolume by hours", "Workers"} == figures.keys()
        drawn = next(trace for trace in figures["Front"]["data"] if trace.get("name") == "Pareto front, predicted")
        assert drawn["x"] == [record.latency_ms for record in front.records] and drawn["error_x"]["array"]

        trial = study.ask()
        study._storage.set_trial_intermediate_value(trial._trial_id, 3, 0.25)
        assert data(f"study={study._study_id}")["rows"] == [["30", "unknown candidate", "3", "0.250", "–"]]

        both = data(f"study={study._study_id}&study={other._study_id}")
        assert [row[0] for row in both["rows"]] == ["demo", "other"] and [s["shown"] for s in both["studies"]] == [
            True
        ] * 2
        names = {figure["title"]: [trace["name"] for trace in figure["data"]] for figure in both["figures"]}
        assert names == {"Fronts": ["demo", "other"], "Hypervolume by hours": ["demo", "other"]}


def test_importances_are_of_what_can_matter(tmp_path, make_study):
    study = make_study(trials=60, measured=False)
    with serving(study, tmp_path / "artifacts") as server:
        address = server.url(f"/api/studies/{study._study_id}/param_importances")
        of_miou, of_latency = json.loads(get(address))["param_importances"]
    for shown, objective in ((of_miou, MIOU), (of_latency, LATENCY)):
        found = importances(tr.read_study(study), objective)
        assert {item["name"]: item["importance"] for item in shown} == {item.name: item.share for item in found}
    assert "weight_decay" in {item["name"] for item in of_miou}
    assert not {"weight_decay", "learning_rate"} & {item["name"] for item in of_latency}


def test_a_study_of_others_keeps_the_dashboards_importances(tmp_path):
    study = optuna.create_study()
    for number in range(20):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 1) + 0.01 * number)
    with serving(study, tmp_path / "artifacts") as server:
        (found,) = json.loads(get(server.url(f"/api/studies/{study._study_id}/param_importances")))["param_importances"]
    assert [item["name"] for item in found] == ["x"]
