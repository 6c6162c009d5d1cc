"""Simulation of exported networks in torch at device precision: FP16, or INT8 with trainable weights."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from exports.quantization.graph import Program, floats, is_operand, place, read_program, with_global_pools
from exports.quantization.ops import Step, run_step

Calibration = Literal["average", "minmax"]

LEVELS = 255
_RANGE_MOMENTUM = 0.01
"""Momentum of the running activation ranges in training."""
_LEAST_RANGE = 1e-5
_LEAST_SCALE = 1e-10
_TRUNCATION_OFFSET = 0.499
"""Offset in quantization steps that turns rounding to nearest into truncation; slightly below 0.5, so that values on the grid stay."""
_BIAS_STEPS = float(2**30)
_TRAINED = ("Conv", "ConvTranspose", "Gemm")


class GraphNet(nn.Module):
    """Trainable float network of an ONNX model with batch norms folded.

    Parameters are named after their layers, below ``encoder`` or ``decoder``. Images must have the model's input size; the batch
    size is arbitrary.

    Args:
        model: from `onnx_model`.

    Raises:
        ExportError: an operator of the model is not supported.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self.graph = model.SerializeToString(deterministic=True)
        self.program: Program = read_program(model)
        self.encoder, self.decoder = nn.ParameterDict(), nn.ParameterDict()
        self._frees = self.program.last_uses()
        self._places: dict[tuple[str, int], tuple[nn.ParameterDict, str] | str] = {}
        for step in self.program.steps:
            for position, name in enumerate(step.inputs):
                if name in self.program.constants and is_operand(step):
                    self._places[step.name, position] = self._hold(step, position, floats(self.program.constants[name]))

    def _hold(self, step: Step, position: int, value: Any) -> tuple[nn.ParameterDict, str] | str:
        tensor = torch.from_numpy(np.array(value))
        key = f"{step.name.strip('/')}:{position}".replace(".", "/")
        if step.op in _TRAINED:
            part = self.encoder if key.startswith("encoder") else self.decoder
            part[key] = nn.Parameter(tensor)
            return part, key
        self.register_buffer(key, tensor)
        return key

    def has_operand(self, step: Step, position: int) -> bool:
        """True if the step's input at ``position`` is a constant operand."""
        return (step.name, position) in self._places

    def operand(self, step: Step, position: int) -> Tensor:
        """Current value of a constant operand of ``step``. KeyError if the input is not one."""
        place = self._places[step.name, position]
        found: Tensor = getattr(self, place) if isinstance(place, str) else place[0][place[1]]
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of normalised images (N, 3, H, W). ValueError for another image size."""
        if images.shape[2:] != torch.Size(self.program.input_shape[2:]):
            raise ValueError(
                f"the network takes images of {self.program.input_shape[2:]}, not {tuple(images.shape[2:])}"
            )
        with torch.autocast(images.device.type, enabled=False):
            values = {self.program.source: self._quantize_activation(self.program.source, images.float())}
            for step, freed in zip(self.program.steps, self._frees, strict=True):
                results = run_step(step, self._arguments(step, values))
                values.update(
                    (name, self._quantize_activation(name, each))
                    for name, each in zip(step.outputs, results, strict=True)
                )
                for name in freed:
                    values.pop(name, None)
        return values[self.program.result]

    def _arguments(self, step: Step, values: dict[str, Tensor]) -> list[Any]:
        given: list[Any] = []
        for position, name in enumerate(step.inputs):
            if self.has_operand(step, position):
                given.append(self._quantize_operand(step, position))
            elif name in self.program.constants:
                given.append(self.program.constants[name])
            else:
                given.append(values[name] if name else None)
        return given

    def _quantize_operand(self, step: Step, position: int) -> Tensor:
        """Value of a weight at device precision."""
        return self.operand(step, position)

    def _quantize_activation(self, name: str, value: Tensor) -> Tensor:
        """Value of an activation at device precision."""
        return value


class HalfNet(GraphNet):
    """Network with all weights and activations rounded to float16, sums in float32; values beyond 65504 become infinite.

    Args:
        model: from `onnx_model`.
        keep: names of steps that compute in float32.
    """

    def __init__(self, model: onnx.ModelProto, keep: Collection[str] = ()) -> None:
        super().__init__(model)
        self._keep = frozenset(keep)
        kept = {name for step in self.program.steps if step.name in self._keep for name in step.outputs}
        self._floats = kept | ({self.program.source} if keep else set())

    def _arguments(self, step: Step, values: dict[str, Tensor]) -> list[Any]:
        given = super()._arguments(step, values)
        if step.name in self._keep:
            return given
        return [value.half().float() if isinstance(value, Tensor) else value for value in given]

    def _quantize_operand(self, step: Step, position: int) -> Tensor:
        operand = self.operand(step, position)
        return operand if step.name in self._keep else operand.half().float()

    def _quantize_activation(self, name: str, value: Tensor) -> Tensor:
        return value if name in self._floats else value.half().float()


class QuantizedNet(GraphNet):
    """Network with simulated 8-bit quantization, equivalent to its Q/DQ export (arXiv 1806.08342).

    Convolution weights are quantized per output channel, symmetric; activations per tensor, with a range that includes 0. In
    training mode gradients use the straight-through estimator, and ranges are running averages over the batches.

    Args:
        weight_bits: 8, or 7 for processors whose sums of 8-bit products overflow 16 bits (x86 without VNNI).
    """

    low: Tensor
    high: Tensor

    def __init__(self, model: onnx.ModelProto, *, weight_bits: int = 8) -> None:
        super().__init__(with_global_pools(model))
        self.weight_bits = weight_bits
        self.placement = place(self.program)
        owners = [name for name in self.placement.values if name not in self.placement.shared_qparams]
        position = {name: index for index, name in enumerate(owners)}
        self._range_of = {
            name: position[self.placement.shared_qparams.get(name, name)] for name in self.placement.values
        }
        self.register_buffer("low", torch.zeros(len(owners)))
        self.register_buffer("high", torch.zeros(len(owners)))
        self._seen: dict[int, list[Tensor]] | None = None

    @property
    def weight_limit(self) -> int:
        """Largest quantized weight; the smallest is its negative."""
        return int(2 ** (self.weight_bits - 1)) - 1

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor], how: Calibration = "average") -> None:
        """Set the activation ranges from the float network's activations on ``batches`` of normalised images.

        Args:
            how: ``minmax``: extremes over all images; ``average``: mean of each image's extremes.

        Raises:
            ValueError: there is no batch, or an activation is not finite.
        """
        was_training = self.training
        self.eval()
        self._seen = {}
        try:
            for batch in batches:
                self(batch)
            if not self._seen:
                raise ValueError("calibration needs at least one image")
            for index, extremes in self._seen.items():
                each = torch.cat(extremes)
                low, high = each.mean(0) if how == "average" else torch.stack([each[:, 0].amin(), each[:, 1].amax()])
                if not bool(torch.isfinite(low + high)):
                    raise ValueError("an activation is NaN or infinite; the training has probably diverged")
                self.low[index], self.high[index] = low.clamp_max(0.0), high.clamp_min(0.0)
        finally:
            self._seen = None
            self.train(was_training)

    def is_quantized(self, name: str) -> bool:
        """True for a tensor of the graph that is held in 8 bits."""
        return name in self._range_of

    def qparams(self, name: str) -> tuple[Tensor, Tensor]:
        """Scale and zero point of a quantized value: float32 and int32 scalars; 0 is represented exactly."""
        index = self._range_of[name]
        low, high = self.low[index], self.high[index]
        scale = (high - low).clamp_min(_LEAST_RANGE) / LEVELS
        return scale, (-low / scale).round().clamp(0, LEVELS).to(torch.int32)

    def weight_scale(self, step: Step) -> Tensor:
        """Scale of each output channel of an integer convolution, (channels,).

        Large enough that the bias, stored in multiples of it times the input's scale, fits into 32 bits.
        """
        scale = self.operand(step, 1).detach().flatten(1).abs().amax(1) / self.weight_limit
        if len(step.inputs) > 2:
            scale = torch.maximum(
                scale, self.operand(step, 2).detach().abs() / (self.qparams(step.inputs[0])[0] * _BIAS_STEPS)
            )
        return scale.clamp_min(_LEAST_SCALE)

    def _quantize_operand(self, step: Step, position: int) -> Tensor:
        value = self.operand(step, position)
        if position != 1 or self._seen is not None or step.name not in self.placement.integer_steps:
            return value
        scale = self.weight_scale(step)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        limit = self.weight_limit
        return torch.fake_quantize_per_channel_affine(value, scale, zero, 0, -limit, limit)

    def _quantize_activation(self, name: str, value: Tensor) -> Tensor:
        index = self._range_of.get(name)
        if index is None:
            return value
        owner = name not in self.placement.shared_qparams
        if self._seen is not None:
            if owner:
                flat = value.flatten(1)
                self._seen.setdefault(index, []).append(torch.stack([flat.amin(1), flat.amax(1)], 1))
            return value
        if self.training and owner:
            self._update_range(index, value.detach())
        scale, zero = self.qparams(name)
        if name in self.placement.truncated:
            value = value - _TRUNCATION_OFFSET * scale
        return torch.fake_quantize_per_tensor_affine(value, scale, zero, 0, LEVELS)

    @torch.no_grad()
    def _update_range(self, index: int, value: Tensor) -> None:
        self.low[index].lerp_(value.amin().clamp_max(0.0), _RANGE_MOMENTUM)
        self.high[index].lerp_(value.amax().clamp_min(0.0), _RANGE_MOMENTUM)
