"""Capabilities of target devices, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from exports.tensorrt_importers import (
    TENSORRT_7_1,
    TENSORRT_8_2,
    TENSORRT_8_5,
    TENSORRT_8_6,
    TENSORRT_10,
    Importer,
)
from search_spaces._common.errors import UserError
from search_spaces._common.names import nearest_name


@dataclass(frozen=True)
class DeviceProfile:
    """Capabilities and limits of one target device.

    Attributes:
        name: key of ``PROFILES``.
        description: one line of text.
        opset: operator set of exported networks, the newest that the target supports.
        precisions: supported precisions, best first.
        runtime: inference runtime of the target.
        importer: operators and conditions of the target's TensorRT; None for a runtime that takes all of ONNX.
        max_memory_mb: limit of weights plus live tensors; None: no limit.
        discouraged_ops: pairs of a slow or fragile ONNX operator and the reason.
        static_shapes: every input shape must be fixed.
        allow_qdq: QuantizeLinear/DequantizeLinear pairs are supported.
        tensorrt: its TensorRT releases, oldest first.
        jetpack: its JetPack releases; empty for a target without.
        memory_gb: memory sizes that the board is sold with, shared by CPU and GPU.
        power_modes: names of its power modes in lower case, the one that its latencies are for first; empty where it takes any.
        int8: the target computes in INT8; False: INT8 is slower than FP16, or no engine can be built.
        dla_cores: number of deep learning accelerators.
        container: base image of a Dockerfile for the board; None where containers are not supported.
    """

    name: str
    description: str
    opset: int
    precisions: tuple[str, ...]
    runtime: Literal["onnxruntime", "tensorrt"]
    importer: Importer | None = None
    max_memory_mb: int | None = None
    discouraged_ops: tuple[tuple[str, str], ...] = ()
    static_shapes: bool = False
    allow_qdq: bool = True
    tensorrt: tuple[str, ...] = ()
    jetpack: str = ""
    memory_gb: tuple[int, ...] = ()
    power_modes: tuple[str, ...] = ()
    int8: bool = False
    dla_cores: int = 0
    container: str | None = None

    @property
    def float_precision(self) -> str:
        """Best precision that is no INT8."""
        return next(precision for precision in self.precisions if precision != "int8")

    @property
    def resize_modes(self) -> tuple[str, ...] | None:
        """Supported ``mode`` values of Resize; None: all."""
        return None if self.importer is None else self.importer.resize.modes


_SLOW_ARGMAX = "it becomes TopK(1), slow and known to crash from 576x576 on; emit low-resolution logits instead"
# 2 GB board: system, CUDA context, and TensorRT's builder take about half of it
_NANO_MEMORY_MB = 1024
_NANO_4GB_MEMORY_MB = 2560

_NANO = DeviceProfile(
    name="jetson-nano",
    description="the original Jetson Nano (Maxwell, JetPack 4.6.x) through TensorRT 8.2",
    opset=13,
    precisions=("fp16", "fp32"),
    runtime="tensorrt",
    importer=TENSORRT_8_2,
    max_memory_mb=_NANO_MEMORY_MB,
    discouraged_ops=(("ArgMax", _SLOW_ARGMAX),),
    static_shapes=True,
    allow_qdq=False,
    tensorrt=("8.0", "8.2"),
    jetpack="4.6",
    memory_gb=(2, 4),
    power_modes=("maxn", "5w"),
)
_NANO_7_1 = replace(
    _NANO,
    name="jetson-nano-jetpack-4.5",
    description="the original Jetson Nano (Maxwell, JetPack 4.4 and 4.5) through TensorRT 7.1",
    opset=11,
    importer=TENSORRT_7_1,
    tensorrt=("7.1",),
    jetpack="4.4 and 4.5",
)
_JETPACK_5 = DeviceProfile(
    name="jetson-jetpack-5",
    description="Jetson Xavier and Orin (JetPack 5.1) through TensorRT 8.5",
    opset=17,
    precisions=("fp16", "fp32"),
    runtime="tensorrt",
    importer=TENSORRT_8_5,
    tensorrt=("8.5",),
    jetpack="5.1",
    int8=True,
)
_JETPACK_6_0 = replace(
    _JETPACK_5,
    name="jetson-jetpack-6.0",
    description="Jetson Orin (JetPack 6.0) through TensorRT 8.6",
    importer=TENSORRT_8_6,
    tensorrt=("8.6",),
    jetpack="6.0",
    container="nvcr.io/nvidia/l4t-jetpack:r36.3.0",
)
_JETPACK_6 = replace(
    _JETPACK_5,
    name="jetson-jetpack-6",
    description="Jetson Orin (JetPack 6.1 and 6.2) through TensorRT 10",
    opset=20,
    importer=TENSORRT_10,
    tensorrt=("10.3",),
    jetpack="6.1 and 6.2",
    container="nvcr.io/nvidia/l4t-jetpack:r36.4.0",
)
_ORIN_NANO: dict[str, Any] = {"memory_gb": (4, 8)}
_AGX_ORIN: dict[str, Any] = {"memory_gb": (32, 64), "dla_cores": 2}

PROFILES_VERSION = 2
"""Version of the table, raised whenever a row changes or is added; the manifest of a bundle names it."""

PROFILES: dict[str, DeviceProfile] = {
    profile.name: profile
    for profile in (
        DeviceProfile(
            name="local-cpu",
            description="this machine's CPU through ONNX Runtime",
            opset=13,
            precisions=("fp32", "int8"),
            runtime="onnxruntime",
            int8=True,
        ),
        _NANO,
        replace(
            _NANO,
            name="jetson-nano-5w",
            description="the original Jetson Nano at 5 W (2 CPU cores, GPU at 614 MHz of 922 MHz) through TensorRT 8.2",
            power_modes=("5w",),
        ),
        replace(
            _NANO,
            name="jetson-nano-4gb",
            description="the original Jetson Nano with 4 GB through TensorRT 8.2",
            max_memory_mb=_NANO_4GB_MEMORY_MB,
            memory_gb=(4,),
        ),
        _NANO_7_1,
        replace(_NANO_7_1, name="jetson-nano-jp44"),
        replace(
            _NANO,
            name="jetson-tx2",
            description="Jetson TX2 (Pascal, JetPack 4.6) through TensorRT 8.2",
            max_memory_mb=None,
            memory_gb=(4, 8),
            power_modes=(),
        ),
        replace(
            _JETPACK_5,
            name="jetson-xavier-nx",
            description="Jetson Xavier NX (Volta, JetPack 5.1) through TensorRT 8.5",
            memory_gb=(8, 16),
            dla_cores=2,
        ),
        replace(
            _JETPACK_5,
            name="jetson-xavier",
            description="Jetson AGX Xavier (Volta, JetPack 5.1) through TensorRT 8.5",
            memory_gb=(16, 32),
            dla_cores=2,
        ),
        replace(
            _JETPACK_6,
            name="jetson-orin-nano",
            description="Jetson Orin Nano (JetPack 6.1 and 6.2) through TensorRT 10",
            **_ORIN_NANO,
        ),
        replace(
            _JETPACK_6_0,
            name="jetson-orin-nano-jp60",
            description="Jetson Orin Nano (JetPack 6.0) through TensorRT 8.6",
            **_ORIN_NANO,
        ),
        replace(
            _JETPACK_6,
            name="jetson-agx-orin",
            description="Jetson AGX Orin (JetPack 6.1 and 6.2) through TensorRT 10",
            **_AGX_ORIN,
        ),
        replace(
            _JETPACK_6_0,
            name="jetson-agx-orin-jp60",
            description="Jetson AGX Orin (JetPack 6.0) through TensorRT 8.6",
            **_AGX_ORIN,
        ),
        _JETPACK_5,
        _JETPACK_6_0,
        _JETPACK_6,
    )
}


def get_profile(name: str) -> DeviceProfile:
    """Look up the profile called ``name``.

    Raises:
        UserError: it is unknown; the message gives the nearest and all known ones.
    """
    if name in PROFILES:
        return PROFILES[name]
    near = nearest_name(name, PROFILES)
    hint = f'Did you mean "{near}"? ' if near else ""
    raise UserError(f'there is no device profile "{name}". {hint}Choose one of: {", ".join(PROFILES)}.')
