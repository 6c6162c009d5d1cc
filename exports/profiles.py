"""Capabilities of target devices, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
        max_memory_mb: limit of weights plus live tensors; None: no limit.
        forbidden_ops: pairs of an unsupported ONNX operator and the reason.
        discouraged_ops: pairs of a slow or fragile ONNX operator and the reason.
        resize_modes: supported ``mode`` values of Resize; None: all.
        resize_coordinates: supported ``coordinate_transformation_mode`` values of Resize; None: all.
        static_shapes: every input shape must be fixed.
        constant_parameters: weights, Slice and Squeeze axes, TopK's K, and Resize scales must be constants.
        allow_qdq: QuantizeLinear/DequantizeLinear pairs are supported.
    """

    name: str
    description: str
    opset: int
    precisions: tuple[str, ...]
    runtime: Literal["onnxruntime", "tensorrt"]
    max_memory_mb: int | None = None
    forbidden_ops: tuple[tuple[str, str], ...] = ()
    discouraged_ops: tuple[tuple[str, str], ...] = ()
    resize_modes: tuple[str, ...] | None = None
    resize_coordinates: tuple[str, ...] | None = None
    static_shapes: bool = False
    constant_parameters: bool = False
    allow_qdq: bool = True


_NO_IMPORTER = "TensorRT 8.2 has no importer for it"
_SLOW_ARGMAX = "it becomes TopK(1), slow and known to crash from 576x576 on; emit low-resolution logits instead"

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
            # 2 GB board: system, CUDA context, and TensorRT's builder take about half of it
            max_memory_mb=1024,
            forbidden_ops=(
                ("HardSwish", "TensorRT takes it from 8.4 on; decompose it to HardSigmoid and Mul"),
                ("LayerNormalization", "TensorRT takes it from 8.6 on; export at an opset below 17"),
                ("GroupNormalization", "TensorRT takes it from 8.6 on; export at an opset below 18"),
                ("Trilu", "TensorRT takes it from 8.5 on"),
                *((op, _NO_IMPORTER) for op in ("GridSample", "OneHot", "Mod", "NonZero", "RoiAlign", "Gelu", "Mish")),
                *((op, _NO_IMPORTER) for op in ("DeformConv", "MaxUnpool")),
            ),
            discouraged_ops=(("ArgMax", _SLOW_ARGMAX),),
            resize_modes=("nearest", "linear"),
            resize_coordinates=("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"),
            static_shapes=True,
            constant_parameters=True,
            allow_qdq=False,
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
