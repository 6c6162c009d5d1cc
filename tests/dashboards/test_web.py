"""optuna-dashboard with what belongs to finished trials, asked for through its own API."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState
from optuna_dashboard import get_note, save_note

from dashboards.web import (
    FIGURES,
    make_server,
    open_artifact_store,
    serve,
    update_study_page,
    upload_bundle,
)
from objectives import trial_record as tr
from objectives.objective import OBJECTIVES
from objectives.pareto import pareto_front
from objectives.rung_reliability import Rung
from search_spaces._common.errors import UserError

PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452")


def get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read()


@contextmanager
def serving(study, artifact_dir):
    """A dashboard of the study's storage."""
    server = make_server(study._storage, artifact_dir, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def site(request, tmp_path, make_study):
    """A study, in a file where a test asks for it, its artifact folder, a bundle, and the records and front."""
    url = f"sqlite:///{tmp_path / 'study.db'}" if getattr(request, "param", "") == "file" else None
    study = make_study(url, trials=8)
    bundle = tmp_path / "trial-bundle"
    bundle.mkdir()
    (bundle / "preview.png").write_bytes(PNG)
    (bundle / "model.onnx").write_bytes(b"onnx one")
    (bundle / "manifest.json").write_text("{}")
    records = tr.read_study(study)
    return url, study, tmp_path / "artifacts", bundle, records, pareto_front(records, reference=(0.0, 12.0))


@pytest.mark.parametrize("site", ["file"], indirect=True)
def test_a_finished_trial_shows_bundle_note_and_figures(site):
    url, study, artifact_dir, bundle, records, front = site
    member = front.records[0]
    store = open_artifact_store(artifact_dir)
    upload_bundle(study, member, bundle, store)
    update_study_page(study, records, front, latency_budget_ms=12.0, device="local-cpu", rungs=(Rung(1), Rung(3)))
    before = study._storage.get_study_system_attrs(study._study_id)

    # Again, with another model: nothing twice, and the new file is served.
    (bundle / "model.onnx").write_bytes(b"onnx two")
    upload_bundle(study, member, bundle, store)
    update_study_page(study, records, front, latency_budget_ms=12.0, device="local-cpu", rungs=(Rung(1), Rung(3)))
    assert study._storage.get_study_system_attrs(study._study_id) == before

    source = (
        "import sys; from pathlib import Path; from dashboards.web import serve\n"
        "serve(sys.argv[1], Path(sys.argv[2]), port=0, on_ready=lambda address: print(address, flush=True))"
    )
    command = [sys.executable, "-c", source, url, str(artifact_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        base, _, token = process.stdout.readline().strip().partition("/dashboard")
        detail = json.loads(get(f"{base}/api/studies/{study._study_id}{token}"))
        shown = next(trial for trial in detail["trials"] if trial["number"] == member.number)
        artifacts = {artifact["filename"]: artifact for artifact in shown["artifacts"]}
        assert sorted(artifacts) == ["manifest.json", "model.onnx", "preview.png"]
        assert len(shown["artifacts"]) == 3
        address = f"{base}/artifacts/{study._study_id}/{shown['trial_id']}/"
        assert get(address + artifacts["model.onnx"]["artifact_id"] + token) == b"onnx two"
        assert get(address + artifacts["preview.png"]["artifact_id"] + token) == PNG
        note = shown["note"]["body"]
        assert f"## Trial {member.number}" in note
        assert f"| mIoU | {member.val_miou:.3f} |" in note
        assert f"![preview](/artifacts/{study._study_id}/{shown['trial_id']}/" in note
        assert [t for t in detail["trials"] if t["artifacts"] and t["number"] != member.number] == []
        graphs = {graph["id"]: json.loads(graph["graph_object"]) for graph in detail["plotly_graph_objects"]}
        assert sorted(graphs) == sorted(FIGURES)
        assert all(graph["data"] for graph in graphs.values())
        assert "### The front" in detail["note"]["body"]
        assert "local-cpu" in detail["note"]["body"]
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == ""


def test_a_file_that_left_the_bundle_leaves_the_dashboard(site):
    _, study, artifact_dir, bundle, _, front = site
    store = open_artifact_store(artifact_dir)
    assert upload_bundle(study, front.records[0], bundle, store) == ("preview.png", "model.onnx", "manifest.json")
    (bundle / "preview.png").unlink()
    assert upload_bundle(study, front.records[0], bundle, store) == ("model.onnx", "manifest.json")
    attrs = study._storage.get_study_system_attrs(study._study_id)
    kept = [json.loads(value) for key, value in attrs.items() if key.startswith("dashboard:artifacts:")]
    assert sorted(meta["filename"] for meta in kept if meta) == ["manifest.json", "model.onnx"]


def test_what_a_person_wrote_is_kept(site):
    _, study, _, _, records, front = site
    save_note(study, "my own thoughts")
    update_study_page(study, records, front)
    assert get_note(study).endswith("my own thoughts\n")
    save_note(study, get_note(study) + "and a second thought")
    update_study_page(study, records, front, device="jetson-nano")
    body = get_note(study)
    assert body.endswith("my own thoughts\nand a second thought\n")
    assert body.count("my own thoughts") == 1
    assert body.count("## Your words") == 1
    assert "jetson-nano" in body


def test_markup_in_a_note_is_shown_as_it_is(site):
    _, study, _, _, records, front = site
    update_study_page(study, records, front, device="<img src=x onerror=alert(1)> | [a](javascript:b)\nc")
    row = next(line for line in get_note(study).splitlines() if "device" in line)
    assert row == r"| device | \<img src=x onerror=alert(1)\> \| \[a\](javascript:b) c |"


def test_the_constraint_is_read_by_the_dashboard_and_by_every_sampler(tmp_path):
    for sampler in (
        optuna.samplers.GPSampler(seed=0, n_startup_trials=3),
        optuna.samplers.TPESampler(seed=0, n_startup_trials=3),
        optuna.samplers.NSGAIISampler(seed=0, population_size=3),
    ):
        study = optuna.create_study(directions=[item.direction for item in OBJECTIVES], sampler=sampler)
        for number in range(7):
            trial = study.ask()
            x = trial.suggest_float("x", 0, 1)
            tr.set_constraints(study, trial._trial_id, [3.5 if number == 2 else -1.0])
            study.tell(trial, [x + number, x])
        assert [list(trial.constraints.values()) for trial in study.trials][1:3] == [[-1.0], [3.5]]
        server = make_server(study._storage, tmp_path, port=0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            trials = json.loads(get(server.url(f"/api/studies/{study._study_id}")))["trials"]
        finally:
            server.shutdown()
            server.server_close()
        assert [trial["constraints"] for trial in trials][1:3] == [[-1.0], [3.5]]
    trial = study.ask()
    with pytest.raises(ValueError, match="NaN"):
        tr.set_constraints(study, trial._trial_id, [0.0, float("nan")])
    study.tell(trial, state=TrialState.FAIL)


def test_clear_sentences(site, tmp_path):
    _, study, artifact_dir, _, _, front = site
    with pytest.raises(UserError, match="paretoseg export"):
        upload_bundle(study, front.records[0], tmp_path / "nowhere", open_artifact_store(artifact_dir))
    with pytest.raises(UserError, match="paretoseg launch"):
        serve(f"sqlite:///{tmp_path / 'absent.db'}", artifact_dir)
    assert not (tmp_path / "absent.db").exists()
    (tmp_path / "broken.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(UserError, match="cannot be opened"):
        serve(f"sqlite:///{tmp_path / 'broken.db'}", artifact_dir)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="--port"):
            serve(study._storage, artifact_dir, port=taken.getsockname()[1])


@pytest.mark.parametrize(
    "url", ["postgresql://me:SECRET@127.0.0.1:9/db", "nonsense://me:SECRET@host/db", "me:SECRET@host"]
)
def test_an_unreachable_storage_keeps_its_password(url, tmp_path):
    with pytest.raises(UserError) as caught:
        make_server(url, tmp_path, port=0)
    assert "SECRET" not in str(caught.value)
    assert "cannot be opened" in str(caught.value)
    assert caught.value.__cause__ is None


def test_attributes_of_an_earlier_release_are_shown_as_short_values(site):
    _, study, artifact_dir, _, records, front = site
    tr.store_later_facts(study, front.records[0].number, bundle="out/bundles/trial-00000")
    study.set_user_attr("config", {"study": {"name": "s" * 500}})
    study.set_user_attr("class_names", [f"class number {number}" for number in range(150)])
    with serving(study, artifact_dir) as server:
        detail = json.loads(get(server.url(f"/api/studies/{study._study_id}")))
        summaries = json.loads(get(server.url("/api/studies")))["study_summaries"]
    assert len(detail["trials"]) == len(records)
    for trial in (*detail["trials"], *detail["best_trials"]):
        shown = {item["key"]: item["value"] for item in trial["user_attrs"]}
        assert not tr.HIDDEN & shown.keys()
        assert all(len(value) <= 120 and not value.startswith(("{", "[")) for value in shown.values())
        record = records[trial["number"]]
        assert shown["network"].startswith(record.params["family"])
        if record.score is not None:
            assert float(shown["miou"]) == pytest.approx(record.score.val_miou, abs=1e-4)
    columns = {item["key"]: item["sortable"] for item in detail["union_user_attrs"]}
    assert columns["predicted_latency_ms"] and not columns["network"] and not tr.HIDDEN & columns.keys()
    for attrs in (detail["user_attrs"], summaries[0]["user_attrs"]):
        assert [item["key"] for item in attrs] == ["class_names"] and len(attrs[0]["value"]) == 80
    assert tr.read_study(study) == [
        replace(record, bundle="out/bundles/trial-00000") if record == front.records[0] else record
        for record in records
    ], "the study itself is as it was"


def test_a_study_renamed_in_the_dashboard_keeps_what_is_out_of_sight(site):
    _, _, artifact_dir, _, _, _ = site
    study = optuna.create_study(directions=[item.direction for item in OBJECTIVES], study_name="before")
    tr.hide_objects(study)
    study.add_trial(optuna.trial.create_trial(values=[0.5, 5.0]))
    tr.store_later_facts(study, 0, export_error="parity failed")
    with serving(study, artifact_dir) as server:
        request = urllib.request.Request(
            server.url(f"/api/studies/{study._study_id}/rename"),
            data=json.dumps({"study_name": "after"}).encode(),
            headers={"Content-Type": "application/json"},
        )
        assert json.loads(get(request))["study_name"] == "after"
    renamed = optuna.load_study(study_name="after", storage=study._storage)
    assert tr.hides_objects(renamed)
    assert tr.read_study(renamed)[0].export_error == "parity failed"
