"""A trial's network in the precision of its device, which is scored: PTQ or QAT in INT8, or FP16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exports import ExportError
from exports.quantization.net import QuantizedNet
from exports.quantization.quantize import half_precision, pack_quantized, quantize, unpack_quantized
from objectives.data.base import IMAGENET, Normalisation
from trial_runner.config.study import QuantizationSection
from trial_runner.training.batches import normalise
from trial_runner.training.checkpoint import Checkpoint
from trial_runner.training.trial_spec import TrialFailed, TrialSpec

_BATCH = 8


class PrecisionStage:
    """Conversion of a training's network to its precision.

    With PTQ and FP16 the last evaluation is of the network in that precision, all earlier ones of the float network. With QAT a
    fake-quantized network replaces the float one from ``quantization.start`` of the epochs on, but not before it has its final
    shape. FP32 needs no conversion.

    Args:
        images: uint8 (N, H, W, 3) at the network's input resolution; some of them calibrate the ranges.
        epochs: of the training; prune_epoch: after which the network has its final shape.

    Attributes:
        float_net: the float network behind the fake-quantized one; None before QAT starts.
    """

    def __init__(
        self,
        spec: TrialSpec,
        input_hw: tuple[int, int],
        images: NDArray[np.uint8],
        device: torch.device,
        *,
        epochs: int,
        prune_epoch: int,
        normalisation: Normalisation = IMAGENET,
    ) -> None:
        self._normalisation = normalisation
        self._config, self._precision = spec.training.quantization, spec.precision
        self._input_hw, self._images, self._device = input_hw, images, device
        self._subject = f"candidate {spec.candidate.id}"
        self._trains = self._precision == "int8" and self._config.method == "qat"
        self._first_epoch = qat_epoch(self._config, epochs, prune_epoch)
        self.float_net: nn.Module | None = None
        self._finished: QuantizedNet | None = None

    @property
    def precision(self) -> str:
        return self._precision

    @property
    def training_rounded(self) -> bool:
        return self.float_net is not None

    def check(self, net: nn.Module) -> None:
        """Raise TrialFailed before training if ``net`` cannot be converted to its precision."""
        if self._precision == "fp32":
            return
        try:
            half_precision(net, self._input_hw, subject=self._subject)
        except ExportError as error:
            raise TrialFailed(str(error)) from error

    def due(self, epoch: int) -> bool:
        """Return True if QAT starts after ``epoch`` epochs."""
        return self._trains and self.float_net is None and epoch >= self._first_epoch

    def begin(self, net: nn.Module) -> QuantizedNet:
        """Return the fake-quantized network to continue training with."""
        self.float_net = net
        return self._quantized(net).to(self._device).train()

    def resumed(self, net: nn.Module, checkpoint: Checkpoint) -> nn.Module:
        """Return the module whose weights the checkpoint holds: ``net``, or the fake-quantized network that replaced it."""
        packed = checkpoint.quantization
        if packed is None or "float" not in packed:
            return net
        net.load_state_dict(packed["float"])
        self.float_net = net
        return unpack_quantized(packed).to(self._device)

    def delivered(self, net: nn.Module, *, last: bool) -> nn.Module:
        """Return the network to score: ``net`` itself, or at the last evaluation the network in its device's precision."""
        if self.training_rounded or not last or self._precision == "fp32":
            return net
        if self._precision == "fp16":
            return half_precision(net, self._input_hw, subject=self._subject).to(self._device)
        self._finished = self._quantized(net).to(self._device)
        return self._finished

    def packed(self, evaluated: nn.Module) -> dict[str, Any] | None:
        """Return the quantized network's state for a checkpoint; None before it exists."""
        if self.float_net is not None:
            assert isinstance(evaluated, QuantizedNet)
            return {**pack_quantized(evaluated), "float": self.float_net.state_dict()}
        return pack_quantized(self._finished) if self._finished is not None else None

    def _quantized(self, net: nn.Module) -> QuantizedNet:
        try:
            return quantize(
                net,
                self._input_hw,
                calibration_batches(self._images, self._config.calibration_images, self._normalisation),
                calibration=self._config.calibration,
                weight_bits=self._config.weight_bits,
                subject=self._subject,
            )
        except (ExportError, ValueError) as error:
            raise TrialFailed(f"it could not be quantized: {error}") from error


def qat_epoch(config: QuantizationSection, epochs: int, prune_epoch: int) -> int:
    """Return the epochs after which QAT starts, not before the network has its final shape after ``prune_epoch`` (0: from the start)."""
    return min(max(round(epochs * config.start), prune_epoch), epochs - 1)


def calibration_batches(
    images: NDArray[np.uint8], count: int, normalisation: Normalisation = IMAGENET
) -> Iterator[Tensor]:
    """Yield up to ``count`` normalised images, spread evenly over the data, in batches on the CPU."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
    for start in range(0, len(chosen), _BATCH):
        yield normalise(np.asarray(images[chosen[start : start + _BATCH]]), torch.device("cpu"), normalisation)
