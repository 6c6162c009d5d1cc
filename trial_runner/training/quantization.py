"""A trial's network in the precision of its device: INT8 after training, INT8 trained for, or FP16. That is what is scored."""

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
from trial_runner.training.batches import normalise
from trial_runner.training.checkpoint import Checkpoint
from trial_runner.training.trial_spec import TrialFailed, TrialSpec

_BATCH = 8


class PrecisionStage:
    """When, and how, a training's network leaves float32.

    With INT8 after training (``ptq``) and FP16 the last reading is of the network in that precision, all earlier ones of the float
    network. With INT8 in training (``qat``) a network that rounds takes the float one's place from ``quantization.start`` of the
    epochs on, but not before it has its final shape. A network in FP32 has nothing to do here.

    Args:
        images: uint8 (N, H, W, 3) at the network's input resolution; some of them calibrate the ranges.
        epochs: of the training; prune_epoch: after which the network has its final shape.

    Attributes:
        float_net: the float network that is being trained on in INT8; None as long as it is trained itself.
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
        self._first_epoch = min(max(round(epochs * self._config.start), prune_epoch), epochs - 1)
        self.float_net: nn.Module | None = None
        self._finished: QuantizedNet | None = None

    @property
    def precision(self) -> str:
        return self._precision

    @property
    def training_rounded(self) -> bool:
        return self.float_net is not None

    def check(self, net: nn.Module) -> None:
        """Raise TrialFailed, before anything is trained, where ``net`` cannot be brought to the precision asked for."""
        if self._precision == "fp32":
            return
        try:
            half_precision(net, self._input_hw, subject=self._subject)
        except ExportError as error:
            raise TrialFailed(str(error)) from error

    def due(self, epoch: int) -> bool:
        """Whether, after so many epochs, the network that rounds takes over."""
        return self._trains and self.float_net is None and epoch >= self._first_epoch

    def begin(self, net: nn.Module) -> QuantizedNet:
        """The network to train on, made of the float network as it would be scored now."""
        self.float_net = net
        return self._quantized(net).to(self._device).train()

    def resumed(self, net: nn.Module, checkpoint: Checkpoint) -> nn.Module:
        """The module whose weights the checkpoint holds: ``net``, or the network that rounds which had taken its place."""
        packed = checkpoint.quantization
        if packed is None or "float" not in packed:
            return net
        net.load_state_dict(packed["float"])
        self.float_net = net
        return unpack_quantized(packed).to(self._device)

    def delivered(self, net: nn.Module, *, last: bool) -> nn.Module:
        """What is scored: ``net`` itself, or at the last reading the network in its device's precision."""
        if self.training_rounded or not last or self._precision == "fp32":
            return net
        if self._precision == "fp16":
            return half_precision(net, self._input_hw, subject=self._subject).to(self._device)
        self._finished = self._quantized(net).to(self._device)
        return self._finished

    def packed(self, evaluated: nn.Module) -> dict[str, Any] | None:
        """What a checkpoint keeps of the quantized network; None as long as there is none."""
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


def calibration_batches(
    images: NDArray[np.uint8], count: int, normalisation: Normalisation = IMAGENET
) -> Iterator[Tensor]:
    """``count`` images, or all where there are fewer, spread evenly over the data, normalised, in batches on the CPU."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
    for start in range(0, len(chosen), _BATCH):
        yield normalise(np.asarray(images[chosen[start : start + _BATCH]]), torch.device("cpu"), normalisation)
