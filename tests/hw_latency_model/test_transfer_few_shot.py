"""Few-shot latency models: on made-up devices of known physics, and on real tables."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks import latency_nb201
from hw_latency_model.few_shot.cell_networks import OPS, CellNetwork, cell_pool
from hw_latency_model.few_shot.evaluation import FIGURES
from hw_latency_model.few_shot.fit import Settings
from hw_latency_model.few_shot.kernels import Block, Conditioned
from hw_latency_model.few_shot.meta import pooled_margin, tasks
from hw_latency_model.few_shot.pool import NetworkPool, PreparedPool
from hw_latency_model.few_shot.transfer import FewShotModel
from search_spaces._common.errors import UserError

Array = NDArray[np.float64]
NETWORKS = 400


def _made_up(devices: int, noise: float = 0.02, seed: int = 0) -> tuple[Array, Array, Array]:
    """Features, prior terms and latencies of networks whose time is a sum of costs with some saturation."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, size=(NETWORKS, 5)).astype(np.float64)
    terms = np.hstack([np.ones((NETWORKS, 1)), counts])
    costs = np.exp(rng.normal(size=(6, devices)) * 0.8)
    parallel = 1.0 - 0.04 * np.minimum(counts[:, :1], counts[:, 1:2])
    latency_ms = (terms @ costs) * parallel * np.exp(noise * rng.normal(size=(NETWORKS, devices)))
    return counts, terms, latency_ms


def _error(model: FewShotModel, measured: NDArray[np.intp], latency_ms: Array) -> tuple[float, float]:
    """Mean relative error and share inside the interval of networks that were not measured."""
    rest = np.setdiff1d(np.arange(len(latency_ms)), measured)
    got = model.predict(rest)
    assert (got.low_ms <= got.latency_ms).all()
    assert (got.latency_ms <= got.high_ms).all()
    inside = (got.low_ms <= latency_ms[rest]) & (latency_ms[rest] <= got.high_ms)
    return float(np.mean(np.abs(got.latency_ms / latency_ms[rest] - 1.0))), float(inside.mean())


def test_ten_measurements_with_sources_are_enough_for_a_device_like_them() -> None:
    features, terms, latency_ms = _made_up(5)
    model = FewShotModel(NetworkPool.of(features, terms, latency_ms[:, 1:]))
    measured = model.suggest(10)
    assert len(set(measured.tolist())) == 10
    error, inside = _error(model.fit(measured, latency_ms[measured, 0]), measured, latency_ms[:, 0])
    assert error < 0.06
    assert inside >= 0.75


def test_without_sources_it_still_predicts() -> None:
    features, terms, latency_ms = _made_up(1)
    model = FewShotModel(NetworkPool.of(features, terms))
    measured = model.suggest(40)
    error, inside = _error(model.fit(measured, latency_ms[measured, 0]), measured, latency_ms[:, 0])
    assert error < 0.05
    assert inside >= 0.8


def test_one_source_and_holes_in_sources() -> None:
    features, terms, latency_ms = _made_up(4)
    sources = latency_ms[:, 1:].copy()
    sources[np.random.default_rng(1).random(sources.shape) < 0.4] = np.nan
    sources[:, 2] = np.nan
    for table in (sources, sources[:, :1]):
        model = FewShotModel(NetworkPool.of(features, terms, table))
        measured = model.suggest(20)
        error, _ = _error(model.fit(measured, latency_ms[measured, 0]), measured, latency_ms[:, 0])
        assert error < 0.08


def test_the_interval_holds_what_it_says_and_narrows() -> None:
    features, terms, latency_ms = _made_up(6, noise=0.05, seed=3)
    model = FewShotModel(NetworkPool.of(features, terms, latency_ms[:, 1:]))
    shares, widths = [], []
    for count in (10, 200):
        measured = model.suggest(count, seed=1)
        shares.append(_error(model.fit(measured, latency_ms[measured, 0]), measured, latency_ms[:, 0])[1])
        got = model.predict()
        widths.append(float(np.median(got.high_ms / got.low_ms)))
    assert 0.84 <= shares[1] <= 0.96
    assert widths[1] < widths[0]


def test_choosing_uses_no_latency_of_the_target_and_follows_the_seed() -> None:
    features, terms, latency_ms = _made_up(3)
    pool = NetworkPool.of(features, terms, latency_ms[:, 1:])
    model = FewShotModel(pool)
    before = model.suggest(8, seed=2)
    model.fit(before, latency_ms[before, 0])
    assert np.array_equal(before, model.suggest(8, seed=2))
    only = np.arange(50)
    assert set(model.suggest(5, allowed=only)) <= set(only.tolist())
    with pytest.raises(UserError, match="ask for fewer"):
        model.suggest(51, allowed=only)


def test_networks_outside_the_ordinary_are_learnt_apart() -> None:
    """On the target and one source they take next to nothing, on another they take what they look like."""
    features, terms, latency_ms = _made_up(3)
    groups = (np.arange(NETWORKS) % 40 == 0).astype(np.intp)
    latency_ms[groups == 1, :2] = 0.01
    model = FewShotModel(NetworkPool.of(features, terms, latency_ms[:, 1:], groups))
    measured = model.suggest(20)
    model.fit(measured, latency_ms[measured, 0])
    special = np.setdiff1d(np.flatnonzero(groups), measured)
    ratio = model.predict(special).latency_ms / 0.01
    assert np.median(ratio) < 3.0
    ordinary = np.setdiff1d(np.flatnonzero(groups == 0), measured)
    assert np.median(np.abs(model.predict(ordinary).latency_ms / latency_ms[ordinary, 0] - 1.0)) < 0.08


def test_the_margin_follows_what_the_device_misses_its_own_measurements_by() -> None:
    features, terms, latency_ms = _made_up(4)
    pool = PreparedPool.of(NetworkPool.of(features, terms, latency_ms[:, 1:]))
    played = tasks(pool, np.arange(0, NETWORKS, 40), np.random.default_rng(0))
    narrow, usual, wide = (pooled_margin(Settings(), played, 0.9, np.full(10, miss)) for miss in (0.25, 1.0, 2.0))
    assert 1.5 * usual < wide < 2.0 * usual
    assert 0.25 * usual < narrow < 0.5 * usual


def test_a_measurement_far_off_the_others_is_not_believed() -> None:
    inputs = np.linspace(-2.0, 2.0, 41)[:, None]
    block, theta = Block("view 0", "smooth", inputs), np.array([0.0, 0.0, np.log(1e-4)])
    rows, targets = np.arange(0, 41, 2), np.sin(inputs[::2, 0])
    targets[10] += 1.0
    mean, _ = Conditioned.on((block,), theta, rows, targets, 0.0).predict(np.arange(41))
    assert np.abs(mean - np.sin(inputs[:, 0])).max() < 0.02


def test_what_cannot_be_fitted_is_refused() -> None:
    features, terms, latency_ms = _made_up(2)
    model = FewShotModel(NetworkPool.of(features, terms))
    with pytest.raises(UserError, match="at least 3"):
        model.fit([0, 1], latency_ms[:2, 0])
    with pytest.raises(UserError, match="above 0"):
        model.fit([0, 1, 2], np.array([1.0, np.nan, 2.0]))
    with pytest.raises(UserError, match="nothing measured"):
        model.predict()
    with pytest.raises(UserError, match="one row per network"):
        NetworkPool.of(features[:5], terms)
    with pytest.raises(UserError, match="≥ 0"):
        NetworkPool.of(features, terms - 3.0)


@pytest.fixture(scope="module")
def small_table(shared_dir: Path) -> list[dict[str, str]]:
    """400 cells of the real table."""
    with gzip.open(shared_dir / "latency_data" / "nb201.csv.gz", "rt", newline="") as file:
        lines = list(csv.DictReader(file))
    return [lines[index] for index in np.random.default_rng(0).permutation(len(lines))[:400]]


def test_it_beats_macs_on_a_real_device(small_table: list[dict[str, str]]) -> None:
    lines = [line for line in small_table if line["jetson_nano_fp16_ms"]]
    cells = [CellNetwork.parse(line["arch_str"]) for line in lines]
    latency_ms = np.array([float(line["jetson_nano_fp16_ms"]) for line in lines])
    names = [name for name in lines[0] if name in ("jetson_nano_fp32_ms", "xeon_gold_6226", "edge_tpu_int8_ms")]
    sources = np.array([[float(line[name]) for name in names] for line in lines])
    model = FewShotModel(cell_pool(cells, sources))
    measured = model.suggest(20)
    rest = np.setdiff1d(np.arange(len(lines)), measured)
    ours = model.fit(measured, latency_ms[measured]).predict(rest).latency_ms
    macs = np.array([9.0 * cell.ops.count(OPS[3]) + cell.ops.count(OPS[2]) for cell in cells])
    line = np.polyval(np.polyfit(macs[measured], latency_ms[measured], 1), macs[rest])
    assert spearmanr(ours, latency_ms[rest]).statistic > spearmanr(line, latency_ms[rest]).statistic + 0.05
    ours_error, line_error = (np.mean(np.abs(guess / latency_ms[rest] - 1.0)) for guess in (ours, line))
    assert ours_error < 0.5 * line_error


@pytest.mark.parametrize("selection", ["active", "random"])
def test_the_benchmark_writes_its_rows(small_table: list[dict[str, str]], tmp_path: Path, selection: str) -> None:
    names = {"left out": "jetson_nano_fp32_ms", "other": "xeon_gold_6226", "third": "raspi4"}
    path, out = tmp_path / "table.csv", tmp_path / "rows.json"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch_str", *names])
        writer.writerows([line["arch_str"], *(line[name] for name in names.values())] for line in small_table)
    asked = ["--targets", "left out", "--sources", "left out,other,third", "--samples", "10,30", "--seeds", "1"]
    latency_nb201.main(["--data", str(path), *asked, "--json", str(out), "--selection", selection])
    rows = json.loads(out.read_text())["rows"]
    assert [(row["target"], row["samples"], row["seed"]) for row in rows] == [
        ("left out", 10, 0),
        ("left out", 30, 0),
    ]
    wanted = {"target", "samples", "seed", "seconds", *FIGURES}
    assert all(set(row) == wanted and np.isfinite(list(row.values())[1:]).all() for row in rows)
    assert all(0.6 < row["spearman"] <= 1.0 and 0.0 <= row["within5"] <= row["within10"] <= 1.0 for row in rows)
    assert all(0.0 < row["mape"] < 0.5 and 0.3 < row["coverage90"] <= 1.0 for row in rows)  # shares, not per cent


def test_helps_rule_knows_the_first_rows_and_judges_the_middle_of_the_next() -> None:
    latency_ms = np.random.default_rng(0).permutation(np.arange(1.0, 3001.0))
    known, judged = latency_nb201.rows_of("help", np.arange(3000), latency_ms)
    assert np.flatnonzero(known).tolist() == list(range(900))
    assert not judged[:900].any() and not judged[1900:].any()
    assert judged.sum() == 800
    query = latency_ms[900:1900]
    assert latency_ms[judged].min() == np.sort(query)[100] and latency_ms[judged].max() == np.sort(query)[899]
    with pytest.raises(UserError, match="longer file"):
        latency_nb201.rows_of("help", np.arange(900), latency_ms[:900])


def test_the_benchmark_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.csv"
    path.write_text("arch_str,fast\n")
    asked = ["--targets", "slow", "--sources", "", "--json", str(tmp_path / "rows.json")]
    with pytest.raises(SystemExit):
        latency_nb201.main(["--data", str(path), *asked])
    assert "has no column" in capsys.readouterr().err
