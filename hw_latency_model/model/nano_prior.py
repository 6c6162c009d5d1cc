"""Kernel latency on the original Jetson Nano under TensorRT: a typed roofline with utilisation, FP32 and FP16.

One SM of 128 Maxwell cores at 921.6 MHz: 118 GMAC/s in FP32, twice that in FP16 where a kernel packs pairs, and 25.6 GB/s of
memory of which about 20 arrive. A kernel's time is

    launch + ((work / (rate · utilisation))^p + (bytes / bandwidth)^p)^(1/p)

with a rate for every class of kernel (a dense 3×3 at stride 1 runs as Winograd and exceeds the peak, a depthwise kernel is
counted in outputs, a memory-bound one in elements), a gain of that rate in FP16, and a utilisation that decreases for small
maps, few output channels and short sums, with output channels rounded up to whole tiles. All coefficients are fitted on
public measurements (``benchmarks/nano_prior/fit.py``); this module only evaluates them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import ELEMENT_BYTES, KernelTable
from hw_latency_model.model.kernel_correction import KernelCorrection
from hw_latency_model.model.nano_columns import KernelColumns, kernel_columns
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

OVERLAP = 3.0
"""Exponent p of the smooth maximum of compute and memory time: nearly, not quite, perfect overlap."""
TILE = 32

# class: (rate, gain of the rate in FP16). Rates: G MAC/s, G outputs/s (dw*), G elements/s (the rest, kinds that move data).
DENSE_CLASSES = {
    "k1": (85.0, 1.6),
    "k1s": (85.0, 1.1),
    "k2": (65.0, 1.6),
    "k3": (170.0, 1.7),
    "k3s": (80.0, 1.6),
    "k4": (90.0, 1.6),
    "k5": (90.0, 1.6),
    "k6": (90.0, 1.6),
    "k7": (90.0, 1.6),
    "narrow": (60.0, 1.4),
    "grouped": (30.0, 1.3),
    "transposed": (50.0, 1.5),
    "gemm": (60.0, 1.5),
    "gemv": (4.0, 1.5),
}
"""``kN``: dense N×N at stride 1 (``k3s``: 3×3 strided or dilated); ``k1s``: a 1×1 beside a depthwise kernel, hardly faster in FP16."""
DEPTHWISE_CLASSES = {"dw2": (0.4, 1.1), "dw3": (0.6, 1.1), "dw4": (0.25, 1.1), "dw5": (0.2, 1.1), "dw7": (0.1, 1.1)}
MOVING_CLASSES = {
    "elementwise": (5.0, 1.25),
    "hard_swish": (4.0, 1.2),
    "transcendental": (4.0, 1.2),
    "pool": (3.0, 1.2),
    "global_pool": (2.5, 1.2),
    "reduce": (2.0, 1.2),
    "resize_linear": (2.0, 1.1),
    "resize_nearest": (3.0, 1.1),
    "concat": (8.0, 1.3),
    "move": (3.0, 1.2),
    "softmax": (1.5, 1.1),
    "argmax": (0.15, 1.0),
    "norm": (4.5, 1.2),
    "other": (1.5, 1.0),
}
CLASSES = (*DENSE_CLASSES, *DEPTHWISE_CLASSES, *MOVING_CLASSES)
_DENSE = len(DENSE_CLASSES)
_DEPTHWISE_END = _DENSE + len(DEPTHWISE_CLASSES)
_WINOGRAD, _DIRECT, _GEMM, _GEMV = (CLASSES.index(name) for name in ("k3", "k5", "gemm", "gemv"))
_POINTWISE_PASS = CLASSES.index("transcendental")
_POINTWISE, _SEPARABLE = CLASSES.index("k1"), CLASSES.index("k1s")
_OF_SIDE = np.array([CLASSES.index(f"k{max(side, 1)}") for side in range(8)], dtype=np.intp)
_DEPTHWISE_OF_SIDE = np.array([CLASSES.index(f"dw{side}") for side in (2, 2, 2, 3, 4, 5, 7, 7)], dtype=np.intp)
_CHOICE = 8.0
"""Exponent of the smooth minimum over the two algorithms of a 3×3 convolution: TensorRT chooses the faster one."""

SHARED = {
    "launch_ms": 0.012,
    "bandwidth_gbs": 18.0,
    "half_pixels": 100.0,
    "half_outer": 16.0,
    "half_depth": 60.0,
    "winograd_half_pixels": 200.0,
    "winograd_half_outer": 32.0,
    "winograd_half_depth": 200.0,
    "depthwise_half_pixels": 200.0,
    "gemv_half_outer": 50.0,
    "launch_fp16": 1.0,
    "bandwidth_fp16": 0.9,
    "loss_fp16": 1.1,
    "activation_rate": 6.0,
    "activation_launch_ms": 0.01,
}
"""Parameters shared by all classes, with their initial values; those ending in ``_fp16`` are factors. A SiLU or the like behind a
convolution is a pass of its own over its output (TensorRT 8.2 fuses only ReLUs): ``activation_rate`` in G elements/s."""

DEFAULTS: dict[str, float] = {
    **{f"rate.{name}": rate for name, (rate, _) in {**DENSE_CLASSES, **DEPTHWISE_CLASSES, **MOVING_CLASSES}.items()},
    **{f"gain.{name}": gain for name, (_, gain) in {**DENSE_CLASSES, **DEPTHWISE_CLASSES, **MOVING_CLASSES}.items()},
    **SHARED,
}
NAMES = tuple(DEFAULTS)
_CLOCKED = np.array(
    [float(name.partition(".")[0] in ("rate", "activation_rate")) - float("launch_ms" in name) for name in NAMES]
)
"""Power of the GPU's clock by which each parameter grows: rates do, launches take longer at a lower one, bandwidth does not change."""
_WITHOUT = {"activation_rate": math.inf, "activation_launch_ms": 0.0}
"""Values of the parameters that models of earlier releases do not have: without effect."""
_POSITION = {name: index for index, name in enumerate(NAMES)}


@dataclass(frozen=True)
class NanoTerms:
    """Parameter-independent terms of each kernel, computed once; all (n,).

    Attributes:
        klass: index into ``CLASSES``; ``len(CLASSES)`` for a view.
        work: units of 1e6 (MACs, outputs or elements), so that work over a G/s rate is milliseconds.
        megabytes: MB moved in the kernel's precision.
        patches: factor on the work of a Winograd convolution due to whole patches; 1 or more.
        pixels, outer, depth: inputs of the utilisation.
        launched: 1 for a separate launch, 0 for a pointwise operation merged into the preceding pointwise kernel.
        fp16: 1 for a kernel that runs in FP16.
        activated: million elements that a fused activation reads and writes in a pass of its own.
    """

    klass: Indices
    work: Array
    megabytes: Array
    patches: Array
    pixels: Array
    outer: Array
    depth: Array
    launched: Array
    fp16: NDArray[np.bool_]
    activated: Array


def nano_terms(columns: KernelColumns, precision: str | NDArray[np.bool_]) -> NanoTerms:
    """Compute the parameter-free terms of kernels that run in ``precision`` (or in FP16 by the mask)."""
    fp16 = np.full(len(columns), precision == "fp16") if isinstance(precision, str) else precision
    klass = nano_classes(columns)
    dense, depthwise = klass < _DENSE, (klass >= _DENSE) & (klass < _DEPTHWISE_END)
    tiles = np.ceil(columns.outer / TILE) * TILE / columns.outer
    joined = _joins_the_one_before(columns)
    moved = np.where(joined, np.maximum(columns.read - columns.written, 0.0), columns.read + columns.written)
    tiles = np.where((klass == _GEMV) | (columns.groups > 1), 1.0, tiles)
    # Winograd computes whole 4×4 patches of the map, sixteen of them at a time.
    patches = np.ceil(np.ceil(columns.height / 4) * np.ceil(columns.width / 4) / 16) * 256
    work = np.where(dense, columns.macs * tiles, np.where(depthwise, columns.written, moved))
    size = np.where(fp16, ELEMENT_BYTES["fp16"], ELEMENT_BYTES["fp32"])
    megabytes = (moved + columns.weights) * size / 1e6
    depth = columns.inner * columns.taps
    whole = np.maximum(patches / columns.pixels, 1.0)
    activated = np.where(dense | depthwise, columns.activated * 2.0 * columns.written / 1e6, 0.0)
    launched = 1.0 - joined.astype(np.float64)
    return NanoTerms(
        klass, work / 1e6, megabytes, whole, columns.pixels, columns.outer, depth, launched, fp16, activated
    )


def _joins_the_one_before(columns: KernelColumns) -> NDArray[np.bool_]:
    """Mask (n,) of pointwise operations that TensorRT merges into the preceding one; only their additional reads count."""
    joined = np.zeros(len(columns), dtype=np.bool_)
    pointwise = columns.is_kind("elementwise", "hard_swish", "transcendental")
    start = pointwise | columns.is_kind("norm")
    joined[1:] = pointwise[1:] & start[:-1] & (columns.first[1:] == 0.0) & (columns.written[1:] == columns.written[:-1])
    return joined


def nano_classes(columns: KernelColumns) -> Indices:
    """Classify kernels, given in order of execution: (n,) index into ``CLASSES``, one past the last for views."""
    by_kind = np.array([_class_of_kind(kind) for kind in columns.kinds], dtype=np.intp)
    klass = by_kind[columns.kind] if len(columns) else np.zeros(0, dtype=np.intp)
    square = columns.side * columns.side == columns.taps
    side = np.where(square, columns.side, np.where(columns.taps > 1, 5, 1))
    general = columns.is_kind("conv", "pointwise")
    klass = np.where(general, _OF_SIDE[np.clip(side, 1, 7).astype(np.intp)], klass)
    separable = columns.is_kind("depthwise")
    beside = np.zeros(len(columns), dtype=np.bool_)
    follows = columns.first[1:] == 0.0
    beside[1:] |= separable[:-1] & follows
    beside[:-1] |= separable[1:] & follows
    klass = np.where(general & (columns.taps == 1) & beside, _SEPARABLE, klass)
    slow3 = general & (side == 3) & ((columns.stride > 1) | (columns.dilation > 1))  # Winograd supports neither
    klass = np.where(slow3, CLASSES.index("k3s"), klass)
    deep = _DEPTHWISE_OF_SIDE[np.clip(columns.side, 1, 7).astype(np.intp)]
    klass = np.where(separable, deep, klass)
    vector = columns.is_kind("gemm", "vector") & (columns.macs <= 1.01 * columns.weights)
    return np.where(vector, _GEMV, klass).astype(np.intp)


def _class_of_kind(kind: str) -> int:
    name = {
        "view": "view",
        "conv": "k3",
        "pointwise": "k1",
        "narrow_conv": "narrow",
        "narrow_pointwise": "narrow",
        "grouped_conv": "grouped",
        "transposed_conv": "transposed",
        "vector": "gemm",
        "depthwise": "dw3",
    }.get(kind, kind)
    if name == "view":
        return len(CLASSES)
    return CLASSES.index(name) if name in CLASSES else CLASSES.index("other")


def evaluate(terms: NanoTerms, values: Array) -> Array:
    """Evaluate the milliseconds of each kernel, (n,), for parameter values in the order of ``NAMES``."""
    count = len(CLASSES)
    rate, gain = values[:count].copy(), values[count : 2 * count]
    rate[_SEPARABLE] = rate[_POINTWISE]  # the same kernel; only the gain of FP16 depends on its neighbours
    shared = {name: values[_POSITION[name]] for name in SHARED}
    view = terms.klass == count
    klass = np.where(view, 0, terms.klass)
    winograd, matrix_vector = klass == _WINOGRAD, klass == _GEMV
    dense, depthwise = klass < _DENSE, (klass >= _DENSE) & (klass < _DEPTHWISE_END)

    def busy(work: Array, of: Indices, lost: Array) -> Array:
        """Milliseconds of arithmetic: one FP16 gain on the work, and another on the utilisation loss."""
        gained = np.where(terms.fp16, gain[of], 1.0)
        kept = np.where(terms.fp16, shared["loss_fp16"], 1.0)
        return np.asarray(work / rate[of] * (1.0 / gained + lost / kept), dtype=np.float64)

    def lost(prefix: str) -> Array:
        pixels, outer, depth = (shared[f"{prefix}half_{name}"] for name in ("pixels", "outer", "depth"))
        slow = (1.0 + pixels / terms.pixels) * (1.0 + outer / terms.outer) * (1.0 + depth / terms.depth)
        return np.asarray(slow - 1.0, dtype=np.float64)

    losses = np.where(dense & (klass != _GEMM), lost(""), 0.0)
    losses = np.where(matrix_vector, shared["gemv_half_outer"] / terms.outer, losses)
    losses = np.where(depthwise, shared["depthwise_half_pixels"] / terms.pixels, losses)
    direct = busy(terms.work, np.where(winograd, _DIRECT, klass), losses)
    fast = busy(terms.work * terms.patches, np.full(len(klass), _WINOGRAD), lost("winograd_"))
    best = np.minimum(direct, fast)
    worse = np.maximum(np.maximum(direct, fast), 1e-12)
    compute = np.where(winograd, best * (1.0 + (best / worse) ** _CHOICE) ** (-1.0 / _CHOICE), direct)
    memory = terms.megabytes / (shared["bandwidth_gbs"] * np.where(terms.fp16, shared["bandwidth_fp16"], 1.0))
    launch = shared["launch_ms"] * np.where(terms.fp16, shared["launch_fp16"], 1.0)
    passed = terms.activated / (shared["activation_rate"] * np.where(terms.fp16, gain[_POINTWISE_PASS], 1.0))
    passed = np.where(terms.activated > 0.0, passed + shared["activation_launch_ms"], 0.0)
    total = launch * terms.launched + (compute**OVERLAP + memory**OVERLAP) ** (1.0 / OVERLAP) + passed
    return np.asarray(np.where(view, 0.0, total), dtype=np.float64)


@dataclass(frozen=True)
class NanoPrior:
    """The fitted prior in one precision.

    Attributes:
        kinds: kinds of kernel in the measurements it was fitted on; others have the physical default of their class.
        precision: ``fp32`` or ``fp16``.
        parameters: value by name; missing ones are taken from ``DEFAULTS``.
        correction: learned factor on the kernels' times; None without one.
        gpu_clock: clock of the GPU over the one of the measurements; memory keeps its own.
    """

    prior_type: ClassVar[str] = "nano"

    kinds: tuple[str, ...]
    precision: str
    parameters: Mapping[str, float]
    correction: KernelCorrection | None = None
    gpu_clock: float = 1.0

    def kernel_ms(self, kernels: Sequence[KernelSpec]) -> Array:
        """Predict milliseconds of each kernel, (n,); views cost nothing."""
        return self._columns_ms(kernel_columns(kernels))

    def table_ms(self, table: KernelTable) -> Array:
        """Predict like ``kernel_ms``, for all networks of the table at once, (n,)."""
        return self._columns_ms(kernel_columns(table))

    def _columns_ms(self, columns: KernelColumns) -> Array:
        if not len(columns):
            return np.zeros(0)
        terms = nano_terms(columns, self.precision)
        values = [self.parameters.get(name, _WITHOUT.get(name, start)) for name, start in DEFAULTS.items()]
        physical_ms = evaluate(terms, np.array(values))
        result = physical_ms
        if self.gpu_clock != 1.0:
            result = evaluate(terms, np.array(values) * self.gpu_clock**_CLOCKED)
        if self.correction is not None:
            result = result * np.exp(self.correction.log_factor(columns, terms.klass, physical_ms))
        return np.asarray(result, dtype=np.float64)

    def novelty(self, table: KernelTable, costs: Array) -> Array:
        """Share of each network's time, (networks,), in kernels whose shapes no measured network covers; 1 without a correction.

        Args:
            table: kernels of the networks.
            costs: (n,) ``table_ms`` of it.
        """
        if self.correction is None:
            return np.ones(len(table.starts))
        columns = kernel_columns(table)
        known = self.correction.known(columns, nano_classes(columns))
        return np.asarray(1.0 - table.sums(known * costs) / np.maximum(table.sums(costs), 1e-12), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, without the prior's type."""
        value: dict[str, Any] = {
            "kinds": list(self.kinds),
            "precision": self.precision,
            "parameters": dict(self.parameters),
        }
        if self.correction is not None:
            value["correction"] = self.correction.to_dict()
        return value if self.gpu_clock == 1.0 else {**value, "gpu_clock": self.gpu_clock}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> NanoPrior:
        """Inverse of ``to_dict``. Raises KeyError/TypeError/ValueError on a damaged value."""
        parameters = {str(name): float(number) for name, number in dict(value["parameters"]).items()}
        unknown = sorted(set(parameters) - set(DEFAULTS))
        if unknown:
            raise ValueError(f"unknown parameter {unknown[0]}")
        if value["precision"] not in ("fp32", "fp16"):
            raise ValueError(f"precision {value['precision']!r} is neither fp32 nor fp16")
        learned = value.get("correction")
        correction = None if learned is None else KernelCorrection.from_dict(learned)
        clock = float(value.get("gpu_clock", 1.0))
        return cls(tuple(value["kinds"]), str(value["precision"]), parameters, correction, clock)
