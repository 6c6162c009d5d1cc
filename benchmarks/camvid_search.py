"""CamVid, from scratch: the search, random search and one default network, in equal time.

    python -m benchmarks.camvid_search --data DIR --minutes M --json OUT [--out FOLDER] [--picture FILE.svg]

Calibrates this machine, then spends M minutes on each of
  search        configs/camvid-cpu.yaml as committed,
  random        plain random search in the same space within the same latency budget, each network fully trained,
  random-final  the same with half of its time for final trainings of the best two, as in the search,
  default       the space's default network alone, trained with all cores and as many epochs as fit.
mIoU is on `val` at the labels' own resolution. Hypervolume is from predicted latencies, with the reference point (mIoU 0, the budget).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks._camvid import exported, measured_ms, train_for
from dashboards import Baseline, front_svg, write_front_picture
from hw_latency_model import LatencyModel, calibrate, get_device
from objectives.pareto import hypervolume_2d, pareto_front
from search_spaces import open_space
from search_spaces._common.errors import UserError
from search_spaces._common.files import write_json
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.front.table import front_records
from trial_runner.launch import LaunchResult, launch, quiet_libraries
from trial_runner.launch_checks import check_data

CONFIG = Path(__file__).parents[1] / "configs" / "camvid-cpu.yaml"
RANDOM = ("search.sampler=random", "search.early_stopping.rungs_epochs=[]", "search.start=sampler")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the CamVid folder")
    parser.add_argument("--minutes", type=float, required=True, help="budget of each of the four")
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    parser.add_argument("--out", type=Path, default=Path("runs/camvid_search"), help="folder for studies and bundles")
    parser.add_argument("--picture", type=Path, help="write the search's front as SVG")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    os.environ["CAMVID"] = str(options.data.resolve())
    quiet_libraries()

    def configure(name: str, *overrides: str) -> StudyConfig:
        folder = options.out.resolve()
        return load_config(
            CONFIG,
            [
                f"study.name={name}",
                f"study.storage=sqlite:///{folder}/{name}/study.db",
                f"study.output_dir={folder}/{name}",
                f"study.seed={options.seed}",
                f"device.latency_model={folder}/local-cpu/latency_model.json",
                f"search.time_budget_minutes={options.minutes}",
                *overrides,
            ],
        )

    search = configure("search")
    space = open_space(search.space)
    classes = len(check_data(search).class_names)
    if not search.device.latency_model.is_file():
        report = calibrate(
            get_device("local-cpu"), space, classes, search.device.latency_model.parent, budget_s=110, progress=print
        )
        print(report.summary)
    rows = []
    results = {}
    plain = (*RANDOM, "search.final_training.members=0")
    for name, overrides in (("search", ()), ("random", plain), ("random-final", RANDOM)):
        print(f"\n{name}: {options.minutes:g} minutes", flush=True)
        results[name] = launch(configure(name, *overrides), print)
        rows.append(study_row(name, results[name], search.device.latency_budget_ms))
        write_json(options.json, rows)
    print(f"\ndefault: {options.minutes:g} minutes", flush=True)
    rows.append(default_row(configure("default"), options.minutes, classes))
    print_table(rows)
    write_json(options.json, rows)
    if options.picture:
        draw(options.picture, results, rows, options.minutes, search.device.latency_budget_ms)


def study_row(name: str, result: LaunchResult, budget_ms: float) -> dict[str, Any]:
    """A study's best network within the budget, and its hypervolume."""
    if not result.front:
        raise UserError(f"{name} finished no trial: give it more --minutes")
    best = max(result.front, key=lambda record: record.val_miou or 0.0)
    outcomes = [record.outcome for record in result.records]
    return {
        "method": name,
        "finished": outcomes.count("finished"),
        "stopped": outcomes.count("stopped"),
        "refused": outcomes.count("refused"),
        "front": len(result.front),
        "best_miou": best.val_miou,
        "latency_ms": best.latency_ms,
        "latency_low_ms": best.estimate.low_ms if best.estimate else None,
        "latency_high_ms": best.estimate.high_ms if best.estimate else None,
        "measured_ms": best.measured_ms,
        "hypervolume": pareto_front(result.records, reference=(0.0, budget_ms)).hypervolume,
        "network": describe(best.params),
    }


def default_row(config: StudyConfig, minutes: float, classes: int) -> dict[str, Any]:
    """The default network trained for the whole budget: as many epochs as one timed epoch says will fit."""
    space = open_space(config.space)
    candidate = space.default()
    folder = config.study.output_dir
    order, readings = train_for(config, candidate, minutes, folder)
    estimate = LatencyConstraint(
        space, classes, LatencyModel.load(config.device.latency_model), config.device.latency_budget_ms
    ).estimate(candidate)
    (ms,) = measured_ms([exported(order, classes, folder / "model.onnx")])
    miou = readings[-1].val_miou
    corner = (0.0, config.device.latency_budget_ms)
    return {
        "method": "default",
        "finished": 1,
        "stopped": 0,
        "refused": 0,
        "front": 1,
        "best_miou": miou,
        "latency_ms": estimate.latency_ms,
        "latency_low_ms": estimate.low_ms,
        "latency_high_ms": estimate.high_ms,
        "measured_ms": ms,
        "hypervolume": hypervolume_2d([[-miou, estimate.latency_ms]], corner),
        "network": f"{describe(candidate.params)}, {order.epochs} epochs",
    }


def describe(params: Any) -> str:
    return f"{params['family']} ×{params['width']} + {params['decoder']} {params['resolution']} prune {params['prune_ratio']}"


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    base = rows[-1]
    print(
        f"\n{'method':<13}{'trained':>8}{'mIoU':>8}{'pred ms':>9}{'meas ms':>9}{'hypervolume':>13}{'/ default':>11}  best network"
    )
    for row in rows:
        ratio = row["hypervolume"] / base["hypervolume"] if base["hypervolume"] else float("nan")
        print(
            f"{row['method']:<13}{row['finished'] + row['stopped']:>8}{row['best_miou']:>8.3f}{row['latency_ms']:>9.2f}"
            f"{row['measured_ms'] or float('nan'):>9.2f}{row['hypervolume']:>13.3f}{ratio:>11.2f}  {row['network']}"
        )


def draw(
    path: Path, results: dict[str, LaunchResult], rows: Sequence[dict[str, Any]], minutes: float, budget_ms: float
) -> None:
    """The search's front with the two others beside it."""
    found = results["search"].records
    random = front_records(results["random"].records, budget_ms)
    default = rows[-1]
    svg = front_svg(
        found,
        pareto_front(found, reference=(0.0, budget_ms)),
        title="CamVid from scratch on two CPU cores",
        subtitle=f"{minutes:g} minutes each; latency of one image on one core of the same machine",
        latency_budget_ms=budget_ms,
        baselines=(
            Baseline("random search", tuple((r.latency_ms or 0.0, r.val_miou or 0.0) for r in random), joined=True),
            Baseline("default network, all the time", ((default["latency_ms"], default["best_miou"]),)),
        ),
    )
    write_front_picture(path, svg)


if __name__ == "__main__":
    main()
