"""Capabilities of target devices, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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

    @property
    def resize_modes(self) -> tuple[str, ...] | None:
        """Supported ``mode`` values of Resize; None: all."""
        return None if self.importer is None else self.importer.resize.modes


_SLOW_ARGMAX = "it becomes TopK(1), slow and known to crash from 576x576 on; emit low-resolution logits instead"
# 2 GB board: system, CUDA context, and TensorRT's builder take about half of it
_NANO_MEMORY_MB = 1024

PROFILES: dict[str, DeviceProfile] = {
    profile.name: profile
    for profile in (
        DeviceProfile(
            name="local-cpu",
            description="this machine's CPU through ONNX Runtime",
            opset=13,
            precisions=("fp32", "int8"),
            runtime="onnxruntime",
        ),
        DeviceProfile(
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
        ),
        DeviceProfile(
            name="jetson-nano-jetpack-4.5",
            description="the original Jetson Nano (Maxwell, JetPack 4.4 and 4.5) through TensorRT 7.1",
            opset=11,
            precisions=("fp16", "fp32"),
            runtime="tensorrt",
            importer=TENSORRT_7_1,
            max_memory_mb=_NANO_MEMORY_MB,
            discouraged_ops=(("ArgMax", _SLOW_ARGMAX),),
            static_shapes=True,
            allow_qdq=False,
        ),
        DeviceProfile(
            name="jetson-jetpack-5",
            description="Jetson Xavier and Orin (JetPack 5.1) through TensorRT 8.5",
            opset=17,
            precisions=("fp16", "fp32"),
            runtime="tensorrt",
            importer=TENSORRT_8_5,
        ),
        DeviceProfile(
            name="jetson-jetpack-6.0",
            description="Jetson Orin (JetPack 6.0) through TensorRT 8.6",
            opset=17,
            precisions=("fp16", "fp32"),
            runtime="tensorrt",
            importer=TENSORRT_8_6,
        ),
        DeviceProfile(
            name="jetson-jetpack-6",
            description="Jetson Orin (JetPack 6.1 and 6.2) through TensorRT 10",
            opset=20,
            precisions=("fp16", "fp32"),
            runtime="tensorrt",
            importer=TENSORRT_10,
        ),
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
