"""`paretoseg latency-report` and `paretoseg measurements`, as they are called with a device's own files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from sample_measurement import sample_measurement

from hw_latency_model import LatencyModel, Measurement, MeasurementStore
from hw_latency_model.kernels.candidate_kernels import CandidateKernels
from hw_latency_model.local.sampling import covering_order
from objectives.objective import OBJECTIVES
from objectives.trial_record import store_later_facts
from search_spaces import SearchSpace, get_space
from search_spaces._common.errors import UserError
from trial_runner.cli import latency_report, measurements
from trial_runner.latency_report import architecture_names, next_candidates, report_calibration

DEVICE = "bench-board"
FINGERPRINT = {"board": "bench", "tensorrt": "8.2.1"}
OTHER = {"board": "bench", "tensorrt": "8.5.2"}
STUDY = """
study: {{name: tiny, storage: "sqlite:///{folder}/study.db", output_dir: {folder}/out}}
data: {{kind: synthetic, train_images: 4, val_images: 2, image_height_px: 32, image_width_px: 64}}
space: {{name: encoder_decoder, families: [lcnet, resnet10t], widths: [0.25, 0.5], resolutions_px: [[32, 64]]}}
device: {{name: jetson-nano, precision: fp32, latency_model: {folder}/latency_model.json, latency_budget_ms: 1000}}
training: {{epochs: 1, batch_size: 2}}
search: {{trials: 2}}
"""


@pytest.fixture(autouse=True)
def _few_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each architecture that might be proposed is traced once, which takes most of a report's time."""
    monkeypatch.setattr("trial_runner.latency_report.POOL", 6)


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    options = {"families": ["lcnet", "resnet10t"], "widths": [0.25, 0.5], "resolutions_px": [(32, 64), (64, 96)]}
    return get_space("encoder_decoder", options)


@pytest.fixture(scope="module")
def measured(space: SearchSpace) -> list[Measurement]:
    """Networks of the space with latencies by a law: so much per MMAC, per MB, and per kernel."""
    kernels_of = CandidateKernels(space, 14)
    found = []
    for index, candidate in enumerate(covering_order(space, 12, seed=0)):
        kernels = tuple(replace(kernel, nodes=()) for kernel in kernels_of(candidate))
        cost_ms = sum(0.05 * k.macs / 1e6 + 0.5 * k.activation_bytes / 1e6 + 0.01 for k in kernels)
        found.append(
            Measurement(
                f"{space.architecture_id(candidate)}-14",
                DEVICE,
                cost_ms * (1.0 + 0.01 * (index % 3)),
                1.1 * cost_ms,
                1.2 * cost_ms,
                30,
                0.01,
                1.0,
                FINGERPRINT,
                f"2026-11-23T10:{index:02d}:00+00:00",
                kernels=kernels,
            )
        )
    return found


@pytest.fixture(scope="module")
def fitted(measured: list[Measurement]) -> LatencyModel:
    return LatencyModel.fit(measured, device=DEVICE, fingerprint=FINGERPRINT)


@pytest.fixture
def folder(tmp_path: Path, fitted: LatencyModel, measured: list[Measurement]) -> Path:
    """A device's folder: the model and the store beside it."""
    fitted.save(tmp_path / "latency_model.json")
    with MeasurementStore(tmp_path / "measurements.sqlite") as store:
        store.add_all([(item, {"min_runs": 20}) for item in measured])
    return tmp_path


def run_report(*words: object) -> int:
    parser = argparse.ArgumentParser()
    latency_report.add_arguments(parser)
    return latency_report.run(parser.parse_args(list(map(str, words))))


def run_measurements(*words: object) -> int:
    parser = argparse.ArgumentParser()
    measurements.add_arguments(parser)
    return measurements.run(parser.parse_args(list(map(str, words))))


def test_the_summary_is_printed_and_the_page_linked_last(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_report("--model", folder / "latency_model.json") == 0
    text = capsys.readouterr().out
    page = Path(text.strip().splitlines()[-1].partition("file://")[2])
    assert page == folder / "latency_report.html" and "Latency model of bench-board" in page.read_text()
    assert "bench-board fp32, calibrated: 12 measurements" in text and "intervals held" in text


def test_json_is_all_that_is_printed_with_readable_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_report("--model", folder / "latency_model.json", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["errors"]["networks"] == 12 and not (folder / "latency_report.html").exists()
    assert {row["name"] for row in value["families"]} == {"not stated"}  # widths of 32x64 are of no usual space
    assert run_report("--model", folder / "latency_model.json", "--json", "--out", folder / "deep" / "r.html") == 0
    assert (folder / "deep" / "r.html").is_file()


def test_measurements_of_another_set_up_are_left_out_and_told(
    folder: Path, measured: list[Measurement], capsys: pytest.CaptureFixture[str]
) -> None:
    with MeasurementStore(folder / "measurements.sqlite") as store:
        store.add(replace(measured[0], fingerprint=OTHER, latency_ms_p50=99.0))
    assert run_report("--model", folder / "latency_model.json") == 0
    text = capsys.readouterr().out
    assert "12 measurements" in text
    assert "left out: 1 measurements of another set-up (tensorrt: '8.2.1' or '8.5.2')" in text


def test_a_bundled_model_needs_a_choice_where_set_ups_differ(
    folder: Path, fitted: LatencyModel, measured: list[Measurement], capsys: pytest.CaptureFixture[str]
) -> None:
    replace(fitted, calibrated=False, provenance="out of a box").save(folder / "latency_model.json")
    assert run_report("--model", folder / "latency_model.json") == 0
    assert "NOT CALIBRATED" in capsys.readouterr().out
    with MeasurementStore(folder / "measurements.sqlite") as store:
        store.add(replace(measured[0], fingerprint=OTHER))
    with pytest.raises(UserError, match="under 2 fingerprints, which are never mixed"):
        run_report("--model", folder / "latency_model.json")
    chosen = replace(measured[0], fingerprint=OTHER).fingerprint_id[:8]
    assert run_report("--model", folder / "latency_model.json", "--fingerprint", chosen) == 0
    assert "fp32, NOT CALIBRATED on your device: 1 measurements" in capsys.readouterr().out


def test_without_a_store_the_model_alone_is_shown(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "measurements.sqlite").rename(tmp_path / "elsewhere.sqlite")
    assert run_report("--model", folder / "latency_model.json") == 0
    assert "no measurements: there is no" in capsys.readouterr().out
    assert run_report("--model", folder / "latency_model.json", "--store", tmp_path / "elsewhere.sqlite") == 0
    assert "12 measurements" in capsys.readouterr().out
    with pytest.raises(UserError, match="no measurement store at"):
        run_report("--model", folder / "latency_model.json", "--store", tmp_path / "none.sqlite")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "none.json"], "no latency model at none.json"),
        (["--model", "a.json", "--device", "jetson-nano"], "give one of them"),
        (["--device", "toaster"], "toaster"),
    ],
)
def test_what_is_not_there_is_named(
    words: Sequence[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        run_report(*words)


def test_a_model_of_energy_is_not_taken_for_one_of_latency(folder: Path, fitted: LatencyModel) -> None:
    replace(fitted, target="energy_mj").save(folder / "latency_model.json")
    with pytest.raises(UserError, match="predicts energy_mj"):
        run_report("--model", folder / "latency_model.json")


def test_a_study_shows_its_front_beside_the_model(
    folder: Path, fitted: LatencyModel, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(fitted, device="jetson-nano").save(folder / "latency_model.json")
    study_yaml = folder / "study.yaml"
    study_yaml.write_text(STUDY.format(folder=folder))
    assert run_report(study_yaml) == 0  # before the first launch
    space = get_space("encoder_decoder", {"families": ["lcnet"], "widths": [0.5], "resolutions_px": [(32, 64)]})
    candidate = space.default()
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/study.db", study_name="tiny", directions=[item.direction for item in OBJECTIVES]
    )
    score = {
        "val_miou": 0.5,
        "epoch": 1,
        "epochs_total": 1,
        "macs": 10,
        "params": 5,
        "train_s": 1.0,
        "class_iou": [0.5],
    }
    study.add_trial(
        optuna.trial.create_trial(
            values=[0.5, 4.0],
            user_attrs={
                "candidate": candidate.to_dict(),
                "latency": {"latency_ms": 4.0, "low_ms": 3.0, "high_ms": 5.0, "coverage": 1.0, "unknown_kinds": []},
                "outcome": "finished",
                "score": score,
            },
        )
    )
    store_later_facts(study, 0, measurement=sample_measurement(6.0))
    capsys.readouterr()
    assert run_report(study_yaml, "--json") == 0
    member = json.loads(capsys.readouterr().out)["members"][0]
    assert (member["predicted_ms"], member["measured_ms"], member["family"]) == (4.0, 6.0, "lcnet")
    assert run_report(study_yaml) == 0
    assert "1 of 1 measured; 0 of 1 inside" in (folder / "latency_report.html").read_text()


def test_a_calibration_ends_in_the_report(folder: Path, space: SearchSpace) -> None:
    said: list[str] = []
    with MeasurementStore(folder / "measurements.sqlite") as store:
        page = report_calibration(folder / "latency_model.json", store, said.append, space=space)
    assert said[-1].endswith(page.absolute().as_uri()) and page.is_file()
    assert "lcnet" in page.read_text() and "12 networks" in said[0]


def test_ids_of_a_space_get_their_names_back(space: SearchSpace) -> None:
    names = architecture_names(space)
    candidate = space.candidate({**space.default().params, "family": "lcnet", "width": 0.25, "prune_ratio": 0.5})
    family, words = names[space.architecture_id(candidate)]
    assert family == "lcnet" and words.startswith("lcnet ×0.25 + ") and words.endswith("pruned 50%")
    assert len(names) == len({text for _, text in names.values()})


def test_what_to_measure_next_was_not_measured_and_is_least_known(
    space: SearchSpace, fitted: LatencyModel, measured: list[Measurement]
) -> None:
    names = architecture_names(space)
    known = {names[item.subject.partition("-")[0]][1] for item in measured}
    chosen = next_candidates(fitted, space, 14, measured)
    assert chosen and not {item.name for item in chosen} & known
    assert len({item.name for item in chosen}) == len(chosen)
    assert all(item.low_ms < item.predicted_ms < item.high_ms for item in chosen)


def test_measurements_are_listed_exported_and_imported(
    folder: Path, measured: list[Measurement], capsys: pytest.CaptureFixture[str]
) -> None:
    store = folder / "measurements.sqlite"
    with MeasurementStore(store) as opened:
        opened.add(replace(measured[0], fingerprint=OTHER))
    assert run_measurements("list", "--store", store) == 0
    text = capsys.readouterr().out
    assert "12 measurements of 12 networks" in text and "they differ in tensorrt: '8.2.1' or '8.5.2'" in text
    assert run_measurements("list", "--store", store, "--json") == 0
    groups = json.loads(capsys.readouterr().out)
    assert [group["measurements"] for group in groups] == [12, 1]
    assert run_measurements("export", folder / "all.parquet", "--store", store) == 0
    chosen = groups[0]["fingerprint_id"][:6]
    assert run_measurements("export", folder / "one.csv", "--store", store, "--fingerprint", chosen) == 0
    assert run_measurements("import", folder / "one.csv", "--store", folder / "new" / "copy.sqlite") == 0
    assert run_measurements("import", folder / "all.parquet", "--store", folder / "new" / "copy.sqlite") == 0
    text = capsys.readouterr().out
    assert "13 measurements written" in text and "12 measurements added" in text
    assert "1 measurements added" in text and "12 of 13 were there already" in text
    with MeasurementStore(folder / "new" / "copy.sqlite", create=False) as copy:
        assert copy.all(DEVICE, FINGERPRINT) == measured


def test_a_store_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    for words in (["list"], ["export", str(tmp_path / "m.csv")]):
        with pytest.raises(UserError, match="no measurement store"):
            run_measurements(*words, "--store", tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_fingerprint_that_fits_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="no fingerprint in"):
        run_measurements("export", folder / "m.csv", "--store", folder / "measurements.sqlite", "--fingerprint", "zzz")


def test_a_password_is_never_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError) as caught:
        run_measurements("list", "--store", "postgresql://me:s3cret@127.0.0.1:1/db")
    assert "s3cret" not in str(caught.value) + capsys.readouterr().out and "me:***@127.0.0.1" in str(caught.value)
