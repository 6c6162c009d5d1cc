"""`paretoseg init` turns a folder of labelled photographs into a study that runs as it is written."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from trial_runner.cli.main import main
from trial_runner.config.editors import study_schema
from trial_runner.config.load import load_config
from trial_runner.doctor import examine
from trial_runner.onboarding.choices import DataFacts, Machine, choose, resolutions

ROOT = Path(__file__).resolve().parents[2]


def photographs(folder: Path, count: int = 10, *, values: tuple[int, ...] = (0, 1, 2)) -> Path:
    """Scenes of a ground, a bright disc, and a few pixels of a third class."""
    rows, columns = np.mgrid[:72, :96]
    for number in range(count):
        rng = np.random.default_rng(number)
        centre = rng.integers(20, 50, 2)
        disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 200
        spot = (rows > 66) & (columns < 6)
        label = np.full((72, 96), values[0], np.uint8)
        label[disc], label[spot] = values[1], values[-1]
        image = rng.integers(0, 60, (72, 96, 3)) + 150 * disc[..., None] + 80 * spot[..., None]
        for name, array, end in (("images", image, ".jpg"), ("masks", label, "_mask.png")):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(folder / name / f"photo {number}{end}")
    return folder


def test_the_study_passes_doctor_but_for_the_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "photos")
    assert main(["init", "photos"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-2:] == [
        "next:    paretoseg calibrate --minutes 1.5 study.yaml",
        "then:    paretoseg launch study.yaml",
    ]
    assert any(
        line.startswith("data: folder, 8 images to train on, 2 to validate on, 72x96 pixels, 3 classes") for line in out
    )
    config = load_config("study.yaml")
    assert config.data.label_values == {"class_0": 0, "class_1": 1, "class_2": 2}
    assert config.training.loss.class_weights == "sqrt_inverse"  # the third class has 0.4 % of the pixels
    failed = [finding.subject for finding in examine(config) if finding.verdict == "FAIL"]
    assert failed == ["latency model"]
    assert "0.43% of the pixels" in Path("study.yaml").read_text()


def test_the_written_file_follows_the_schema_that_it_names(tmp_path: Path):
    photographs(tmp_path / 'it\'s "mine" #1')
    study = tmp_path / "sub" / "study.yaml"
    assert main(["init", str(tmp_path / 'it\'s "mine" #1'), "--out", str(study)]) == 0
    first = study.read_text().splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert named
    schema = json.loads((study.parent / named[1]).read_text())
    values = _values(study)
    jsonschema.validate(values, schema)
    assert load_config(study).data.root == tmp_path / 'it\'s "mine" #1'


def test_nothing_is_overwritten_and_nothing_written_for_bad_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    photos = photographs(tmp_path / "photos", 4)
    Path("study.yaml").write_text("mine")
    assert main(["init", "photos"]) == 2
    assert "init overwrites nothing" in capsys.readouterr().err and Path("study.yaml").read_text() == "mine"
    Path("study.yaml").unlink()
    (photos / "images" / "photo 2.jpg").write_bytes(b"no picture")
    assert main(["init", "photos"]) == 2
    assert "photo 2.jpg cannot be decoded" in capsys.readouterr().err
    assert main(["init", "photos", "--device", "jetson-nan"]) == 2
    assert 'Did you mean "jetson-nano"?' in capsys.readouterr().err
    assert not Path("study.yaml").exists()


def test_a_board_gets_its_precision_its_budget_and_the_bundled_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "photos", 4)
    assert main(["init", "photos", "--device", "jetson-nano", "--budget-ms", "12.5", "--out", "nano.yaml"]) == 0
    device = load_config("nano.yaml").device
    assert (device.name, device.precision, device.latency_budget_ms, device.measure_front) == (
        "jetson-nano",
        "fp16",
        12.5,
        False,
    )
    assert capsys.readouterr().out.splitlines()[-1] == "next:    paretoseg launch nano.yaml"
    board = ROOT / "configs/devices/jetson-nano.yaml"
    assert main(["init", "photos", "--device", str(board), "--out", "board.yaml"]) == 0
    assert load_config("board.yaml").device.board == board


def test_a_class_that_only_validation_holds_is_allowed_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    photos = photographs(tmp_path / "photos", 4)
    assert main(["init", str(photos), "--out", str(tmp_path / "first.yaml")]) == 0
    for path in (photos / "masks").iterdir():
        label = np.asarray(Image.open(path)).copy()
        label[0, 0] = 3 if path.name == _val_name(tmp_path / "first.yaml") else 0
        Image.fromarray(label).save(path)
    capsys.readouterr()
    assert main(["init", str(photos), "--out", str(tmp_path / "second.yaml")]) == 0
    assert load_config(tmp_path / "second.yaml").data.missing_classes == "allow"
    assert "no label of split train holds a pixel of the class class_3" in capsys.readouterr().out


def test_the_machine_and_the_images_decide():
    data = DataFacts(367, (360, 480), (0.6, 0.4))
    laptop, server = choose(Machine(2), data), choose(Machine(64, 4, 80.0), data)
    assert laptop.slots == 2 and laptop.gpus_per_trial == 0 and max(laptop.resolutions_px) == (160, 224)
    assert (server.slots, server.gpus_per_trial, server.cpus_per_trial) == (16, 0.25, 4)
    assert server.epochs > laptop.epochs and max(server.resolutions_px) == (352, 480) and server.families is None
    assert choose(Machine(1), DataFacts(5, (360, 480), (1.0,))).batch_size == 2
    for size_hw in ((1080, 1920), (20, 40), (3000, 400)):
        sizes = resolutions(size_hw, 160 * 224)
        assert sizes and all(side % 32 == 0 and side >= 32 for size in sizes for side in size)
        height, width = max(sizes)
        assert height * width <= 1.3 * 160 * 224 or height == 32 or width == 32


@pytest.mark.parametrize("study", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_committed_studies_follow_the_schema(study: Path):
    jsonschema.validate(_values(study), study_schema())


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({"training": {"encoder_rate": 0.5, "average_decay": 0.9}}, True),  # older names
        ({"training": None, "objectives": ["val_miou", {"name": "macs", "budget": 1e9}]}, True),
        ({"training": {"epochs": "${EPOCHS:-3}"}}, True),
        ({"space": {"widths": {"low": 0.25, "high": 1.0}, "resolutions_px": [[64, 96]]}}, True),
        ({"trainning": {}}, False),
        ({"training": {"epochs": 0}}, False),
        ({"training": {"epochs": "many"}}, False),
        ({"training": {"optimizer": "adam"}}, False),
        ({"space": {"resolutions_px": [64, 96]}}, False),
    ],
    ids=str,
)
def test_the_schema_accepts_what_a_launch_reads_and_no_more(change: dict[str, object], valid: bool):
    values = {**_values(ROOT / "configs/demo.yaml"), **change}
    assert jsonschema.Draft202012Validator(study_schema()).is_valid(values) is valid


@pytest.mark.slow
def test_every_command_of_the_page_runs_on_a_folder_of_photographs(tmp_path: Path):
    photographs(tmp_path / "photos", 12)
    page = (ROOT / "docs/own_data.md").read_text()
    commands = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert [shlex.split(line)[1] for line in commands] == ["init", "calibrate", "doctor", "launch", "front", "report"]
    small = [
        "search.trials=2",
        "training.epochs=2",
        "search.early_stopping.rungs_epochs=[1]",
        "search.final_training.members=0",
    ]
    for line in commands:
        words = shlex.split(line.replace("--minutes 1.5", "--minutes 0.2"))[1:]
        words += [part for item in small for part in ("--set", item)] if words[0] != "init" else []
        done = subprocess.run(
            [sys.executable, "-m", "trial_runner.cli.main", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "runs/photos/report.html").is_file()


def _values(study: Path) -> dict[str, object]:
    """The file as an editor reads it: variables are not replaced."""
    from search_spaces._common.yaml_config import _Loader

    values: dict[str, object] = _Loader(study.read_text()).get_single_data()
    return json.loads(json.dumps(values))


def _val_name(study: Path) -> str:
    from trial_runner.training.trial import open_split

    config = load_config(study)
    return f"{open_split(config.data, 'val', 1).name(0)}_mask.png"
