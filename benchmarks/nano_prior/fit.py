"""Rebuild the bundled Nano prior from the public measurements.

    python -m benchmarks.nano_prior.fit --data DIR --out DIR

``--data`` holds nano_fp32_convnets.csv.gz, nb201.csv.gz, nano_published.csv and jetson_whole_networks.csv; ``--out`` receives
jetson-nano-fp32.json, jetson-nano-fp16.json (ordinary latency models) and jetson-nano-heldout.json (for every published network the
parameters of a fit without its family, for an unbiased score). Only coefficients are written, no measurement.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.nano_prior.campaigns import Campaigns, LeftOut
from benchmarks.nano_prior.cells import cell_kernels
from benchmarks.nano_prior.convnets import ConvNet, read_convnets, read_table
from benchmarks.nano_prior.networks import build_network
from benchmarks.nano_prior.published import KNOWN, PublishedNetworks, PublishedRow, read_published, read_whole_networks
from benchmarks.nano_prior.regression import KnownGain, Regression, Source, regress
from hw_latency_model.kernels.extract import kernels_from_module
from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.bounds import PhysicalBounds
from hw_latency_model.model.conformal import Margins, conformal_quantile
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.model.nano_prior import NanoPrior
from hw_latency_model.model.network_features import GROUPS, network_features, network_groups
from hw_latency_model.model.state import FitQuality
from hw_latency_model.types import KernelSpec
from search_spaces._common.errors import UserError
from search_spaces._common.files import write_json

Array = NDArray[np.float64]

CONVNETS, CELLS, PUBLISHED = "nano_fp32_convnets.csv.gz", "nb201.csv.gz", "nano_published.csv"
WHOLE_NETWORKS, NANO = "jetson_whole_networks.csv", "Jetson Nano"
PRECISIONS = ("fp32", "fp16")
LEVEL = 0.9
HELD_OUT = "jetson-nano-heldout.json"
FINGERPRINT = {
    "board": "NVIDIA Jetson Nano",
    "gpu": "128 Maxwell cores, sm_53, 921.6 MHz",
    "power_mode": "MAXN",
    "runtime": "tensorrt",
    "origin": "public measurements by others",
}
PROVENANCE = (
    "Not calibrated on your device. Fitted on public measurements of the original Jetson Nano under TensorRT at batch 1: "
    "iCAS-Lab/NAS-Performance-Modeling @50e67092 (convolutional networks, FP32, wall clock), LatBench of BRP-NAS "
    "(NAS-Bench-201 cells, FP32 and FP16), NVIDIA-AI-IOT/torch2trt, kentaroy47/benchmark-FP32-FP16-INT8-with-TensorRT, "
    "dusty-nv/jetson-inference, Nota-NetsPresso/netspresso-trainer and NobuoTsukamoto/benchmarks (whole networks). FP16's gain is fitted "
    "by kind of kernel: depthwise kernels hardly gain. Linear resizes were never measured. Power mode and clocks are not stated by "
    "most sources. The interval is conformal on families left out. Calibrate your own board."
)
FAST_SCNN_GAIN = 1.01
"""FP16 over FP32 of Fast-SCNN on the Nano, published."""


@dataclass(frozen=True)
class TrainingData:
    """All that the prior is fitted on.

    Attributes:
        sources: everything but the published networks.
        rows: the published networks that can be predicted.
        networks: kernels of each of them.
        gains: networks of which only the gain in FP16 is known.
        convnets: all networks of the campaigns, of which ``sources`` has a few.
    """

    sources: tuple[Source, ...]
    rows: tuple[PublishedRow, ...]
    networks: tuple[tuple[KernelSpec, ...], ...]
    gains: tuple[KnownGain, ...]
    convnets: tuple[ConvNet, ...] = ()


def read_training_data(folder: Path, *, per_source: int = 60, seed: int = 0) -> TrainingData:
    """Read the three files; of the thousands of similar networks, ``per_source`` of each campaign are enough.

    Raises:
        UserError: a file is missing or has another form.
    """
    rng = np.random.default_rng(seed)
    sources: list[Source] = []
    convnets = read_convnets(folder / CONVNETS).networks
    for campaign in sorted({net.campaign for net in convnets}):
        nets = [net for net in convnets if net.campaign == campaign]
        chosen = [nets[index] for index in rng.permutation(len(nets))[:per_source]]
        latency_ms = np.array([net.latency_ms for net in chosen])
        sources.append(
            Source(
                campaign,
                [net.kernels for net in chosen],
                latency_ms,
                "fp32",
                count_as=15,
                scale_log_std=0.3,
                overhead_ms=1.0,
            )
        )
    columns = {precision: f"jetson_nano_{precision}_ms" for precision in PRECISIONS}
    cells = [
        row
        for row in read_table(folder / CELLS, ("arch_str", *columns.values()))
        if all(row[c] for c in columns.values())
    ]
    picked = [cells[index] for index in rng.permutation(len(cells))[:per_source]]
    graphs = [cell_kernels(row["arch_str"]) for row in picked]
    for precision, column in columns.items():
        kept = [index for index, graph in enumerate(graphs) if graph]
        latency_ms = np.array([float(picked[index][column]) for index in kept])
        # The FP32 figures are 3.4 times the FP16 ones, more than the hardware can gain: another runtime or clock.
        scale = 0.5 if precision == "fp32" else 0.3
        networks = [graphs[index] for index in kept]
        name = f"nb201-{precision}"
        sources.append(Source(name, networks, latency_ms, precision, count_as=15, scale_log_std=scale, overhead_ms=1.0))
    builder = PublishedNetworks()
    table = [*read_published(folder / PUBLISHED), *read_whole_networks(folder / WHOLE_NETWORKS).get(NANO, [])]
    pairs = [(row, tuple(builder.kernels(row))) for row in table if row.status == KNOWN]
    pairs = [(row, kernels) for row, kernels in pairs if kernels and row.latency_ms > 0]
    fast = build_network("fast-scnn")
    assert fast is not None
    gains = tuple(
        KnownGain(kernels_from_module(fast, (side, side), runtime="tensorrt"), FAST_SCNN_GAIN) for side in (384, 576)
    )
    rows, networks = tuple(row for row, _ in pairs), tuple(kernels for _, kernels in pairs)
    return TrainingData(tuple(sources), rows, networks, gains, tuple(convnets))


def published_sources(data: TrainingData, keep: NDArray[np.bool_]) -> list[Source]:
    """The kept published rows as sources, one per origin and precision."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index in np.flatnonzero(keep):
        row = data.rows[index]
        groups.setdefault((row.source, row.precision), []).append(int(index))
    return [
        Source(
            f"{source} {precision}",
            [data.networks[index] for index in chosen],
            np.array([data.rows[index].latency_ms for index in chosen]),
            precision,
            log_std=0.05,
            scale_log_std=next((std for name, std in SCALE_LOG_STD.items() if source.startswith(name)), 0.05),
            overhead_ms=0.2,
        )
        for (source, precision), chosen in groups.items()
    ]


SCALE_LOG_STD = {"Nota-NetsPresso": 0.02, "NVIDIA-AI-IOT": 0.03, "kentaroy47": 0.15}
"""Standard deviation of a source from the prior's scale, in e-folds; 0.05 for others. Two sources agree on the ResNets within 5 %, the
third is a fifth slower."""


def fit_without(
    data: TrainingData, labels: Sequence[str], left_out: str | None, begin: Regression | None
) -> Regression:
    """Fit without the published rows of one label; None for all rows."""
    keep = np.array([label != left_out for label in labels], dtype=np.bool_)
    sources = [*data.sources, *published_sources(data, keep)]
    return regress(sources, data.gains, begin=begin, max_evaluations=25 if begin is None else 8)


def held_out_errors(data: TrainingData, labels: Sequence[str], fits: dict[str, Regression]) -> Array:
    """(rows,) log of predicted over published, each by the fit that never saw its label."""
    errors = []
    for row, label, kernels in zip(data.rows, labels, data.networks, strict=True):
        prior = NanoPrior((), row.precision, fits[label].parameters)
        errors.append(np.log(prior.kernel_ms(kernels).sum() / row.latency_ms))
    return np.array(errors)


def build(data: TrainingData) -> tuple[dict[str, LatencyModel], dict[str, dict[str, float]], Array]:
    """Fit the bundled models of each precision, every network's parameters without its family, and the rows' held-out log errors."""
    full = fit_without(data, [""] * len(data.rows), None, None)
    families = [row.family for row in data.rows]
    by_family = {name: fit_without(data, families, name, full) for name in sorted(set(families))}
    errors = held_out_errors(data, families, by_family)
    far = np.abs(errors)
    log_std = float(np.sqrt(np.mean(far**2)))
    tables = [KernelTable.of(kernels) for kernels in data.networks]
    groups = groups_of(NanoPrior((), "fp16", full.parameters), tables)
    held = {name: conformal_quantile(far[groups == index] / log_std, LEVEL) for index, name in enumerate(GROUPS)}
    margin = max(held.values())
    models = {}
    for precision in PRECISIONS:
        networks = [kernels for source in data.sources if source.precision == precision for kernels in source.networks]
        networks += [
            kernels for row, kernels in zip(data.rows, data.networks, strict=True) if row.precision == precision
        ]
        kinds = sorted({kernel.kind for kernels in networks for kernel in kernels} - {"view"})
        quality = FitQuality(
            networks=len(networks),
            median_error_rel=float(np.median(np.abs(np.expm1(errors)))),
            within10=float(np.mean(np.abs(np.expm1(errors)) <= 0.1)),
            coverage=float(np.mean(np.abs(errors) <= margin * log_std)),
            noise_rel=0.05,
            reference_ms=0.0,
            speed_exponent=0.0,
            reference_drift_rel=0.0,
            families=len(by_family),
            family_error_rel=float(np.median(np.expm1(far))),
            family_within10=float(np.mean(np.expm1(far) <= 0.1)),
        )
        prior, margins = NanoPrior(tuple(kinds), precision, full.parameters), Margins(margin, margin)
        group_margins = {name: Margins(value, value) for name, value in held.items()}
        if precision == "fp32":
            campaigns = Campaigns(data.convnets, fp32_sources(data), full.parameters)
            prior = replace(campaigns.fit(), kinds=tuple(kinds))
            left_out = campaigns.left_out()
            margins = campaign_margins(left_out, log_std, margin)
            group_margins = {name: campaign_margins(left_out, log_std, value) for name, value in held.items()}
        models[precision] = LatencyModel.from_prior(
            prior,
            device="jetson-nano",
            precision=precision,
            fingerprint={**FINGERPRINT, "precision": precision},
            log_std=log_std,
            quality=quality,
            provenance=PROVENANCE,
            networks=networks,
            margin=margins,
            level=LEVEL,
            group_margins=group_margins,
            bounds=BOUNDS[precision],
        )
    return models, {row.key: by_family[row.family].parameters for row in data.rows}, errors


BOUNDS = {
    "fp32": PhysicalBounds(118e6 * 2.25, 25.6e6, 0.1),
    "fp16": PhysicalBounds(236e6 * 2.25, 51.2e6, 0.1),
}
"""Peak of the data sheet, times what Winograd saves; bytes are counted as those of FP32."""


def groups_of(prior: NanoPrior, tables: Sequence[KernelTable]) -> NDArray[np.intp]:
    """Index into ``GROUPS`` of each network."""
    table = KernelTable.join(tables)
    return network_groups(network_features(table, prior.table_ms(table)))


def fp32_sources(data: TrainingData) -> list[Source]:
    """The published networks in FP32, which the campaigns' prior is fitted on, too."""
    return published_sources(data, np.array([row.precision == "fp32" for row in data.rows], dtype=np.bool_))


KNOWN_SHARE, UNLIKE_SHARE = 0.05, 0.5
"""Share of a network's time in kernels unlike the campaigns' up to which it counts as one of them, and from which it does not."""


def campaign_margins(left_out: LeftOut, log_std: float, far: float) -> Margins:
    """Margins from errors on campaigns left out, for networks of such kernels, to ``far`` for all others.

    Args:
        left_out: errors on each campaign, of the fit to the others.
        log_std: unit of the margins, in e-folds.
        far: margin of networks of other families.
    """
    near = left_out.half_width(LEVEL) / log_std
    return Margins(near, max(near, far), KNOWN_SHARE, UNLIKE_SHARE, 1.0, by="kernels")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.nano_prior.fit", description="Rebuild the Nano prior from the public measurements."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the public measurements")
    parser.add_argument("--out", type=Path, required=True, help="folder for the bundled models")
    options = parser.parse_args(arguments)
    try:
        data = read_training_data(options.data)
        models, held_out, errors = build(data)
        for precision, model in models.items():
            model.save(options.out / f"jetson-nano-{precision}.json")
        write_json(
            options.out / HELD_OUT, {"format": "paretoseg held-out priors", "version": 1, "parameters": held_out}
        )
    except UserError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    for row, error in zip(data.rows, errors, strict=True):
        ratio = float(np.exp(error))
        sys.stdout.write(
            f"{row.model:16} {row.input_hxw:10} {row.precision} {row.latency_ms:8.2f} ms, held out: {ratio:.3f}\n"
        )
    within = float(np.mean(np.abs(np.expm1(errors)) <= 0.25))
    sys.stdout.write(f"within 25 %: {within:.0%} of {len(errors)} held-out rows\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
