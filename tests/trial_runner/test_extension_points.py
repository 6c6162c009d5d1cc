"""Data sets, metrics, latency functions and samplers of the user's own: what they are given, and each mistake in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler

from exports import read_network
from hw_latency_model import KernelSpec, LatencyEstimate
from hw_latency_model.model.custom import CustomLatencyModel
from objectives.custom_metric import SplitPredictions
from objectives.data import DatasetError, DatasetInfo, InMemoryData, open_dataset
from objectives.objective import get_objective, intermediate_values
from objectives.trial_score import TrialScore
from search_spaces._common.errors import UserError
from trial_runner.config.load import ConfigError, load_config
from trial_runner.config.study import SearchSection
from trial_runner.evaluate import evaluate
from trial_runner.launch import launch
from trial_runner.search.samplers import make_sampler
from trial_runner.study.objectives import open_configured
from trial_runner.training.custom_metrics import compute_metrics, load_metrics
from trial_runner.training.trial_spec import TrialFailed, TrialSpec

MODULE = """
import numpy as np
import optuna
from hw_latency_model import LatencyEstimate
from objectives.data import DatasetInfo, InMemoryData, spread_palette
from search_spaces import NetworkSpace
from torch import nn

INFO = DatasetInfo("squares", ("ground", "square"), spread_palette(2))

def open_squares(root, split, *, images=6):
    rng = np.random.default_rng([len(split), images])
    labels = [np.zeros((64, 64), np.uint8) for _ in range(images)]
    for label in labels:
        row, column = rng.integers(0, 40, 2)
        label[row : row + 24, column : column + 24] = 1
    return InMemoryData(INFO, split, [np.stack([200 * label] * 3, -1) for label in labels], labels)

class Space(NetworkSpace):
    dimensions = {"channels": optuna.distributions.IntDistribution(8, 32, step=8)}
    resolutions_px = [(64, 64)]
    prune_ratios = (0.0, 0.5)

    def build(self, params, num_classes):
        channels = params["channels"]
        return nn.Sequential(
            nn.Conv2d(3, channels, 3, stride=4, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, num_classes, 1)
        )

def error_rate(split):
    wrong = [np.mean(prediction != label) for prediction, label in split]
    assert len(wrong) == len(split) and split.confusion.sum() == len(split) * 64 * 64
    return float(np.mean(wrong))

def predict(kernels):
    ms = 0.1 + sum(kernel.macs for kernel in kernels) / 1e6
    return LatencyEstimate(ms, 0.8 * ms, 1.3 * ms, coverage=1.0)

def sampler(seed):
    return optuna.samplers.RandomSampler(seed)
"""

STUDY = """
study: {name: own, storage: "sqlite:///study.db", output_dir: out, seed: 1}
data: {kind: "MOD:open_squares", options: {images: 5}}
space: {name: "MOD:Space"}
device: {name: local-cpu, latency_model: "MOD:predict", latency_budget_ms: 50, measure_front: true}
objectives: [val_miou, latency_ms, {name: "MOD:error_rate", direction: minimize, budget: 0.99}]
training: {epochs: 2, batch_size: 2}
search: {sampler: "MOD:sampler", trials: 3, startup_trials: 2, early_stopping: {rungs_epochs: [1], min_trials: 2}}
compute: {backend: inprocess}
export: {parity_images: 2}
"""


@pytest.fixture
def own_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A study of which everything is the user's own; the module's name is unlike that of other tests."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"own_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("MOD", name))
    yield path
    sys.modules.pop(name, None)


def test_a_study_of_own_parts_runs_and_every_part_counts(own_study: Path):
    config = load_config(own_study)
    result = launch(config, lambda line: None)
    done = [record for record in result.records if record.complete]
    reference = next(name for name in config.references.values() if name.endswith("error_rate"))
    assert done and all(
        0 < record.score.metrics[reference] < 1 for record in done if record.score and record.score.metrics
    )
    assert open_configured(config).metric_names == ["val_miou", "latency_ms", reference]
    for record in done:
        assert record.candidate is not None and record.candidate.space == "Space"
        assert record.latency_ms is not None and record.estimate.low_ms == pytest.approx(0.8 * record.latency_ms)
        assert record.bundle is None or (Path(record.bundle) / "model.onnx").is_file()
    assert result.front and all(record.bundle and record.measured_ms for record in result.front)
    assert result.report.is_file() and "error rate" in result.report.read_text()
    again = load_config(config.study.output_dir / "study.yaml")  # from another folder, the modules are found as well
    assert again.study.python_path == own_study.parent and again.references == config.references


def test_networks_are_trained_scored_and_delivered_with_the_data_sets_own_normalisation(own_study: Path):
    module = next(own_study.parent.glob("own_*.py"))
    given = "spread_palette(2), mean=(0.0, 0.1, 0.2), std=(0.004, 0.004, 0.004))"
    module.write_text(module.read_text().replace("spread_palette(2))", given))
    space = "space={name: encoder_decoder, families: [lcnet], widths: [0.25], resolutions_px: [[64, 64]]}"
    changes = [space, "search.trials=1", "objectives=[val_miou, latency_ms]"]
    launched = launch(load_config(own_study, changes), lambda line: None)
    (record,) = launched.front
    bundle = Path(record.bundle)
    network = read_network(bundle / "model.pt")
    assert (network.mean, network.std) == ((0.0, 0.1, 0.2), (0.004, 0.004, 0.004))
    with pytest.raises(UserError, match="--run-code"):
        evaluate(bundle, device="cpu")
    score = evaluate(bundle, device="cpu", run_code=True)
    assert score.miou == pytest.approx(record.score.val_miou, abs=1e-9)


def test_a_worker_finds_the_modules_by_its_order_alone(own_study: Path, monkeypatch: pytest.MonkeyPatch):
    from search_spaces import get_space

    config = load_config(own_study)
    space = get_space(config.space.name)
    order = TrialSpec(0, space.default(), config, own_study.parent / "0", own_study.parent / "cache").to_dict()
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(own_study.parent)])
    TrialSpec.from_dict(order)
    assert sys.path[0] == str(own_study.parent)


def test_options_of_own_parts_may_not_change_within_a_study(own_study: Path):
    launch(load_config(own_study, ["search.trials=1"]), lambda line: None)
    changed = load_config(own_study, ["search.trials=1", "data.options.images=6"])
    with pytest.raises(UserError, match=r"was started with another data.options"):
        launch(changed, lambda line: None)


def test_an_option_that_an_opener_does_not_take_is_named(own_study: Path):
    with pytest.raises(UserError, match="'imags': did you mean 'images'"):
        launch(load_config(own_study, ["data.options={imags: 3}"]), lambda line: None)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("data.kind=squares", "data.kind must be one of .* or module:name of your own"),
        ("data.kind=camvidd", "did you mean camvid"),
        ("search.sampler=tpa", "search.sampler must be one of known_cost, tpe, nsga2, gp, random, module:name"),
        ("objectives=[val_miou, 'm:f']", "the objective m:f is a function of your own: give it a direction"),
        ("objectives=[{name: val_miou, direction: minimize}, latency_ms]", "val_miou is to maximize"),
    ],
)
def test_each_wrong_key_is_named(own_study: Path, change: str, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        load_config(own_study, [change])


def test_options_are_for_own_parts_alone(write_study: Callable[..., Path]):
    study = write_study()
    for change in ("data.options={images: 3}", "search.sampler_options={a: 1}"):
        with pytest.raises(ConfigError, match="takes none: leave it out"):
            load_config(study, [change])


def test_a_metric_that_does_not_exist_is_named_before_a_trial_is_spent(own_study: Path):
    config = load_config(own_study)
    reference = next(name for name in config.references.values() if name.endswith("error_rate"))
    wrong = load_config(own_study, [f"objectives=[val_miou, {{name: '{reference}s', direction: minimize}}]"])
    with pytest.raises(UserError, match="did you mean 'error_rate'"):
        launch(wrong, lambda line: None)


# -- metrics


def split_of(*pairs: tuple[np.ndarray, np.ndarray]) -> SplitPredictions:
    return SplitPredictions(lambda: iter(pairs), len(pairs), np.zeros((3, 3), np.int64), 255)


def test_a_metric_returns_a_number_or_the_trial_fails():
    split = split_of()
    assert compute_metrics({"m:f": lambda split: np.float32(0.5), "m:g": lambda split: float("nan")}, split) == {
        "m:f": 0.5
    }
    with pytest.raises(TrialFailed, match=r"the metric m:f must return a number, but returned \[1\]"):
        compute_metrics({"m:f": lambda split: [1]}, split)  # type: ignore[dict-item,return-value]


def test_a_metric_to_be_minimised_is_stood_in_for_by_its_opposite_at_rungs():
    score = TrialScore(0.3, 1, 2, 0, 0, 0.0, ())
    record: Any = SimpleNamespace(score=score, val_miou=0.3)
    down, up = (get_objective("m:f", direction=way) for way in ("minimize", "maximize"))  # type: ignore[arg-type]
    assert intermediate_values([down, up], record) == (0.7, 0.3)


def test_values_of_own_metrics_travel_with_a_score_and_old_scores_are_unchanged():
    score = TrialScore(0.3, 2, 2, 0, 0, 0.0, (), metrics={"m:f": 0.2})
    assert TrialScore.from_dict(score.to_dict()) == score
    assert "metrics" not in TrialScore(0.3, 2, 2, 0, 0, 0.0, ()).to_dict()


def test_the_iou_of_a_class_is_no_module():
    section = SimpleNamespace(objectives=[SimpleNamespace(name="class_iou:road"), SimpleNamespace(name="val_miou")])
    assert load_metrics(section) == {}  # type: ignore[arg-type]


# -- latency functions

KERNELS = (KernelSpec("conv", "a", 1000, 10, 10, 10),)


def test_milliseconds_are_an_interval_without_width_and_the_precision_is_given_where_it_is_taken():
    plain = CustomLatencyModel(lambda kernels: len(kernels), "m:f", "int8", "onnxruntime")
    assert plain.predict(KERNELS) == LatencyEstimate(1.0, 1.0, 1.0, coverage=1.0)
    by = CustomLatencyModel(
        lambda kernels, precision: 2.0 if precision == "int8" else 9.0, "m:f", "int8", "onnxruntime"
    )
    assert by.predict(KERNELS).latency_ms == 2.0 and not by.calibrated


@pytest.mark.parametrize("answer", [0.0, float("nan"), float("inf"), LatencyEstimate(2.0, 3.0, 4.0, 1.0), "2 ms", True])
def test_an_estimate_that_is_none_is_refused(answer: Any):
    with pytest.raises(UserError, match=r"m:f (must return milliseconds|returned)"):
        CustomLatencyModel(lambda kernels: answer, "m:f", "fp32", "onnxruntime").predict(KERNELS)


# -- samplers


def hub(**offered: Any) -> Any:
    package = ModuleType("package")
    vars(package).update(offered, __all__=list(offered))
    module = ModuleType("optunahub")
    module.load_module = lambda name: {"samplers/mine": package}[name]  # type: ignore[attr-defined]
    return module


def test_a_sampler_of_optunahub(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optunahub", hub(Mine=RandomSampler, helper=len))
    sampler = make_sampler(SearchSection(sampler="optunahub:mine"), 3)
    study = optuna.create_study(sampler=sampler)
    assert 0 <= study.ask().suggest_float("x", 0, 1) <= 1
    monkeypatch.setitem(sys.modules, "optunahub", hub(One=RandomSampler, Two=RandomSampler))
    with pytest.raises(UserError, match="has the samplers One, Two"):
        make_sampler(SearchSection(sampler="optunahub:mine"), 3)
    make_sampler(SearchSection(sampler="optunahub:mine.Two"), 3)


def test_optunahub_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optunahub", None)
    with pytest.raises(UserError, match=r"OptunaHub is not installed. Run: pip install optunahub"):
        make_sampler(SearchSection(sampler="optunahub:mine"), 3)


def test_something_else_than_a_sampler_is_refused():
    with pytest.raises(UserError, match=r"must give an optuna.samplers.BaseSampler, but gave a OrderedDict"):
        make_sampler(SearchSection(sampler="collections:OrderedDict"), 3)
    with pytest.raises(UserError, match="unknown option of sampler"):
        make_sampler(SearchSection(sampler="optuna.samplers:RandomSampler", sampler_options={"sed": 1}), 3)


# -- data in memory


def test_data_in_memory_are_checked_and_known_by_their_content():
    info = DatasetInfo("mine", ("a", "b"), ((0, 0, 0), (9, 9, 9)))
    image, label = np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), np.uint8)
    data = InMemoryData(info, "val", [image], [label])
    data.check()
    assert len(data) == 1 and data.label_hw(0) == (4, 6) and data.name(0) == "00000"
    assert data.fingerprint() != InMemoryData(info, "val", [image], [0 * label]).fingerprint()
    for images, labels, sentence in (
        ([image], [2 * label], "holds 2; class ids go from 0 to 1, and 255 is ignored"),
        ([image], [label[:2]], r"must be uint8 \(4, 6\), but is uint8 \(2, 6\)"),
        ([image.astype(float)], [label], r"must be uint8 \(H, W, 3\), but is float64"),
        ([image], [255 * label], "no label of the split val of mine holds a class"),
    ):
        with pytest.raises(DatasetError, match=sentence):
            InMemoryData(info, "val", images, labels).check()
    with pytest.raises(DatasetError, match="2 images and 1 labels"):
        InMemoryData(info, "val", [image, image], [label])


def test_an_opener_that_returns_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "odd_opener.py").write_text("def few(root): ...\n\ndef none(root, split): ...\n")
    with pytest.raises(DatasetError, match=r"must return a SegmentationData, .* but returned a NoneType"):
        open_dataset("odd_opener:none", root=None, split="train")
    with pytest.raises(DatasetError, match=r"must take \(root, split, \*\*options\), but takes \(root\)"):
        open_dataset("odd_opener:few", root=None, split="train")


def test_a_study_without_own_parts_is_dumped_as_before(write_study: Callable[..., Path]):
    values = load_config(write_study()).model_dump(mode="json")
    assert "options" not in values["data"] and "options" not in values["space"] and "python_path" not in values["study"]
    assert "sampler_options" not in values["search"] and set(values["objectives"][0]) == {"name", "budget"}
