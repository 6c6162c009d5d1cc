"""The same number outside the study, and the same candidate on other seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import launching
import pytest
import torch

from exports import read_network
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.study.paths import StudyPaths
from trial_runner.study.refits import stored_refits


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, latency_model_path: Path) -> Path:
    study = tmp_path_factory.mktemp("finished") / "study.yaml"
    tiny = {"budget_ms": 1000.0, "measure": "false", "epochs": 2, "trials": 2, "rungs": [], "backend": "inprocess"}
    study.write_text(launching.TINY.format(model=latency_model_path, **tiny))
    launching.finish(study)
    return study


@pytest.mark.slow
def test_evaluate_repeats_the_number_of_the_study(finished: Path, capsys: pytest.CaptureFixture[str]):
    for record in (r for r in launching.records(finished) if r.bundle):
        assert main(["evaluate", record.bundle, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["miou"] == pytest.approx(record.val_miou, abs=1e-6)
        assert found["images"] == 6 and len(found["per_class"]) == 14
        present = [value for value in found["per_class"].values() if value is not None]
        assert found["miou"] == pytest.approx(statistics.fmean(present))
        assert main(["evaluate", record.bundle, "--split", "test"]) == 0
        assert "6 images of synthetic test" in capsys.readouterr().out


def test_evaluate_answers_mistakes_with_a_sentence(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], shared_dir: Path
):
    bundle = next(r.bundle for r in launching.records(finished) if r.bundle)
    assert main(["evaluate", str(tmp_path / "nowhere")]) == 2
    assert "no network file" in capsys.readouterr().err
    assert main(["evaluate", bundle, "--kind", "camvid"]) == 2
    assert "Add --data" in capsys.readouterr().err
    camvid = str(shared_dir / "datasets" / "camvid")
    assert main(["evaluate", bundle, "--data", camvid]) == 2
    assert "Say what the data in --data are" in capsys.readouterr().err
    assert main(["evaluate", bundle, "--kind", "camvid", "--data", camvid]) == 2
    assert "tells 14 classes apart" in capsys.readouterr().err


@pytest.mark.slow
def test_refit_trains_each_seed_once_and_tells_mean_and_spread(finished: Path, capsys: pytest.CaptureFixture[str]):
    record = next(r for r in launching.records(finished) if r.complete)
    arguments = ["refit", str(finished), "--trial", str(record.number), "--seeds", "2", "--epochs", "3", "--json"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    weights = [
        torch.cat([p.flatten() for p in read_network(Path(path)).net.parameters()]) for path in found["networks"]
    ]
    assert len(weights) == len(found["val_miou"]) == 2 and not torch.allclose(*weights)
    assert found["mean"] == pytest.approx(statistics.fmean(found["val_miou"]))
    assert found["sd"] == pytest.approx(statistics.stdev(found["val_miou"]))
    assert found["search_miou"] == record.val_miou and err.count("after 3 epochs") == 2
    (kept,) = stored_refits(StudyPaths(load_config(finished).study.output_dir))
    assert (kept.trial, kept.epochs) == (record.number, 3) and list(kept.miou_by_seed.values()) == found["val_miou"]
    before = [Path(path).parent.joinpath("last.pt").stat().st_mtime_ns for path in found["networks"]]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["val_miou"] == found["val_miou"]
    assert before == [Path(path).parent.joinpath("last.pt").stat().st_mtime_ns for path in found["networks"]]


def test_refit_of_what_is_not_there_says_so(
    finished: Path, write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    assert main(["refit", str(finished), "--trial", "99"]) == 2
    assert "no trial 99" in capsys.readouterr().err
    assert main(["refit", str(finished), "--trial", "0", "--seeds", "0"]) == 2
    assert "at least one seed" in capsys.readouterr().err
