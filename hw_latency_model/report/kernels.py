"""Comparison of predicted and profiled kernel times inside their networks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from hw_latency_model.report.networks import shape_key
from hw_latency_model.report.parts import KernelDisagreement, KindErrors
from hw_latency_model.types import KernelSpec, Measurement

if TYPE_CHECKING:
    from hw_latency_model.model.latency_model import LatencyModel

WORST = 15
_LEAST_SHARE = 0.01
"""Minimum share of a network's time for a meaningful profile."""


@dataclass(frozen=True)
class _Profiled:
    """Profiled kernel of a network, in ms; ``measured_ms`` is the network's."""

    kernel: KernelSpec
    network: int
    name: str
    predicted_ms: float
    profiled_ms: float
    measured_ms: float


def kernel_errors(
    model: LatencyModel, networks: Sequence[Sequence[Measurement]], name_of: Callable[[Measurement], str]
) -> tuple[tuple[KindErrors, ...], tuple[KernelDisagreement, ...]]:
    """Compute errors by kind, largest share of time first, and the shapes with the largest errors; empty without profiles."""
    rows = _profiled(model, networks, name_of)
    return _by_kind(rows), _worst(rows)


def shape_words(kernel: KernelSpec) -> str:
    """Format a shape as far as it applies to the kind: ``3×3 /2, 3 → 32 channels, 96×128, +relu``; ``3×3 ×4`` is dilated by 4."""
    parts = []
    if any(kernel.kernel):
        stride = f" /{kernel.stride[0]}" if kernel.stride[0] > 1 else ""
        dilation = f" ×{max(kernel.dilation)}" if max(kernel.dilation) > 1 else ""
        parts.append(f"{kernel.kernel[0]}×{kernel.kernel[1]}{stride}{dilation}")
    if kernel.in_channels or kernel.out_channels:
        same = kernel.in_channels == kernel.out_channels
        parts.append(f"{kernel.in_channels}" + ("" if same else f" → {kernel.out_channels}") + " channels")
    if any(kernel.in_hw):
        same = kernel.in_hw == kernel.out_hw or not any(kernel.out_hw)
        parts.append("×".join(map(str, kernel.in_hw)) + ("" if same else " → " + "×".join(map(str, kernel.out_hw))))
    parts += [f"+{name}" for name in kernel.fused]
    return ", ".join(parts) or "no shape"


def _profiled(
    model: LatencyModel, networks: Sequence[Sequence[Measurement]], name_of: Callable[[Measurement], str]
) -> list[_Profiled]:
    rows = []
    for index, items in enumerate(networks):
        item = next((item for item in items if item.kernel_shares), None)
        if item is None:
            continue
        estimate = model.predict(item.kernels)
        for kernel, share, (_, _, predicted_ms) in zip(
            item.kernels, item.kernel_shares, estimate.per_kernel, strict=True
        ):
            profiled_ms = share * item.latency_ms_p50
            rows.append(_Profiled(kernel, index, name_of(item), predicted_ms, profiled_ms, item.latency_ms_p50))
    return rows


def _by_kind(rows: Sequence[_Profiled]) -> tuple[KindErrors, ...]:
    networks = {row.network for row in rows}
    kinds: dict[str, dict[int, list[_Profiled]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.kernel.kind != "view":
            kinds[row.kernel.kind][row.network].append(row)
    found = []
    for kind, groups in kinds.items():
        shares = [sum(row.profiled_ms for row in group) / group[0].measured_ms for group in groups.values()]
        errors = [
            sum(row.predicted_ms for row in group) / sum(row.profiled_ms for row in group) - 1.0
            for group, share in zip(groups.values(), shares, strict=True)
            if share >= _LEAST_SHARE
        ]
        found.append(
            KindErrors(
                kind=kind,
                networks=len(groups),
                kernels=sum(map(len, groups.values())),
                time_share=sum(shares) / len(networks),
                median_error_rel=median(map(abs, errors)) if errors else None,
                bias_rel=median(errors) if errors else None,
            )
        )
    return tuple(sorted(found, key=lambda item: -item.time_share))


def _worst(rows: Sequence[_Profiled]) -> tuple[KernelDisagreement, ...]:
    shapes: dict[tuple[object, ...], list[_Profiled]] = defaultdict(list)
    for row in rows:
        if row.kernel.kind != "view":
            shapes[shape_key(row.kernel)].append(row)
    found = []
    for group in shapes.values():
        most = max(group, key=lambda row: abs(_effect(row)))
        found.append(
            KernelDisagreement(
                kind=most.kernel.kind,
                shape=shape_words(most.kernel),
                network=most.name,
                occurrences=len(group),
                predicted_ms=fmean(row.predicted_ms for row in group),
                profiled_ms=fmean(row.profiled_ms for row in group),
                effect_rel=_effect(most),
            )
        )
    return tuple(sorted(found, key=lambda item: -abs(item.effect_rel))[:WORST])


def _effect(row: _Profiled) -> float:
    return (row.predicted_ms - row.profiled_ms) / row.measured_ms
