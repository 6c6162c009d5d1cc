"""Few-shot latency of NAS-Bench-201 cells on a device with few measurements, with other devices as sources.

    python -m benchmarks.latency_nb201 --data FILE.csv.gz --targets COL,... --sources COL,... --samples 10,100,900 \
        --seeds 5 --json OUT [--selection active|random] [--protocol all|help]

FILE has a column arch_str and one of latencies in ms per device (empty: not measured). A target's own column is dropped from
its sources. By default the networks to measure are chosen by the model from architectures and sources alone, never from
target latencies, out of a random part that the seed decides; `random` draws them. Every other network with a target latency
is predicted: Spearman, mean and median error, shares within 5, 10 and 25 % and inside the 90 % interval, its half width; shares are from
0 to 1 in the JSON file and in per cent on the screen. `paretoseg fit-latency` does the same with one table and one target.
`--protocol help` judges as HELP's code does: sources are known of the first 900 rows of the file only, networks are measured among
those, and rows 900 to 1899 are predicted, without the fastest and the slowest tenth.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.evaluation import FIGURES as ACCURACY, SELECTIONS, fit_and_judge
from hw_latency_model.few_shot.latency_table import LatencyTable
from hw_latency_model.few_shot.transfer import FewShotModel
from search_spaces._common.errors import UserError
from search_spaces._common.files import write_json

Array = NDArray[np.float64]
KNOWN_ROWS, JUDGED_ROWS, TRIMMED = 900, 1000, 0.1
"""HELP's rule: rows whose sources are known, rows behind them that are judged, and the share of these left out at each end."""
FIGURES = (*ACCURACY, "seconds")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CSV, gzipped or not")
    parser.add_argument("--targets", required=True, help="columns to predict, comma-separated")
    parser.add_argument("--sources", default="", help="columns known of all networks; empty for none")
    parser.add_argument("--samples", type=_counts, default="10,100,900", help="numbers of measured networks")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--selection", choices=SELECTIONS, default="active")
    parser.add_argument("--protocol", choices=("all", "help"), default="all", help="networks that are known and judged")
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    options = parser.parse_args(arguments)
    try:
        result = run(
            options.data,
            _names(options.targets),
            _names(options.sources),
            options.samples,
            options.seeds,
            options.selection,
            options.protocol,
        )
    except UserError as error:
        parser.error(str(error))
    write_json(options.json, result)


def run(
    data: Path,
    targets: Sequence[str],
    sources: Sequence[str],
    samples: Sequence[int],
    seeds: int,
    selection: str,
    protocol: str = "all",
) -> dict[str, Any]:
    """All rows, and their means, printed as they come."""
    cells = LatencyTable.read(data)
    columns = {name: cells.numbers(name) for name in dict.fromkeys((*targets, *sources))}
    columns = {name: np.where(values > 0.0, values, np.nan) for name, values in columns.items()}  # 0: not measured
    rows: list[dict[str, Any]] = []
    print(f"samples are {'chosen by the model from inputs alone' if selection == 'active' else 'random'}")
    print(f"{'target':<28}{'samples':>8}{'seed':>6}" + "".join(f"{name:>11}" for name in FIGURES))
    for target in targets:
        have = np.flatnonzero(np.isfinite(columns[target]))
        others = [name for name in dict.fromkeys(sources) if name != target]
        table = np.stack([columns[name][have] for name in others], axis=1) if others else np.zeros((len(have), 0))
        latency_ms = columns[target][have]
        known, judged = rows_of(protocol, have, latency_ms)
        table[~known] = np.nan
        model = FewShotModel(cells.pool(table, have))
        for count in samples:
            if count + 2 > known.sum():
                raise UserError(f"{target} has {known.sum()} latencies, too few to measure {count}; ask for fewer.")
            for seed in range(seeds):
                rows.append({"target": target, "samples": count, "seed": seed})
                rows[-1] |= evaluate(model, latency_ms, count, seed, selection, known, judged)
                _show(rows[-1])
    means = _means(rows)
    for mean in means:
        _show(mean)
    options = {"selection": selection, "protocol": protocol, "sources": list(sources), "seeds": seeds}
    return {"rows": rows, "means": means, **options}


def rows_of(protocol: str, row: NDArray[np.intp], latency_ms: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks (n,) of the networks whose sources are known and that may be measured, and of those that are judged.

    Args:
        protocol: ``all`` or ``help``.
        row: (n,) place of each network in the file.
        latency_ms: (n,) on the target.

    Raises:
        UserError: no network would be judged.
    """
    if protocol == "all":
        return np.ones(len(row), dtype=np.bool_), np.ones(len(row), dtype=np.bool_)
    judged = (row >= KNOWN_ROWS) & (row < KNOWN_ROWS + JUDGED_ROWS)
    if judged.sum() < 3:
        raise UserError(f"HELP's rule judges rows {KNOWN_ROWS} to {KNOWN_ROWS + JUDGED_ROWS - 1}; give a longer file.")
    low, high = np.quantile(latency_ms[judged], [TRIMMED, 1.0 - TRIMMED])
    return row < KNOWN_ROWS, judged & (latency_ms >= low) & (latency_ms <= high)


def evaluate(
    model: FewShotModel,
    latency_ms: Array,
    count: int,
    seed: int,
    selection: str,
    known: NDArray[np.bool_],
    judged: NDArray[np.bool_],
) -> dict[str, float]:
    """Measure ``count`` of the known networks, predict all other judged ones; the seconds are those of choosing, fitting, predicting.

    Raises:
        UserError: fewer than three networks are left to judge.
    """
    begun = time.perf_counter()
    trial = fit_and_judge(
        model,
        latency_ms,
        count,
        seed=seed,
        selection=selection,
        allowed=np.flatnonzero(known),
        judged=np.flatnonzero(judged),
    )
    if trial.figures is None:
        raise UserError(f"fewer than three networks are left to judge after {count} measurements; ask for fewer.")
    return {**trial.figures, "seconds": time.perf_counter() - begun}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _counts(text: str) -> list[int]:
    return [int(name) for name in _names(text)]


def _means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over the seeds for each target and number of samples, then over the targets too."""
    keys = dict.fromkeys((row["target"], row["samples"]) for row in rows)
    keys |= dict.fromkeys(("(mean)", row["samples"]) for row in rows)
    result = []
    for target, count in keys:
        group = [row for row in rows if row["samples"] == count and target in (row["target"], "(mean)")]
        mean = {name: float(np.mean([row[name] for row in group])) for name in FIGURES}
        result.append({"target": target, "samples": count, "seed": "mean", **mean})
    return result


def _show(row: dict[str, Any]) -> None:
    plain = {"spearman": f"{row['spearman']:.3f}", "seconds": f"{row['seconds']:.1f}"}
    figures = "".join(f"{plain.get(name, f'{row[name]:.1%}'):>11}" for name in FIGURES)
    print(f"{row['target']:<28}{row['samples']:>8}{row['seed']:>6}{figures}", flush=True)


if __name__ == "__main__":
    main()
