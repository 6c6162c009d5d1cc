"""Settings of a first study, chosen from its data and from the machine that trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hw_latency_model.agent.cores import available_cores

_STEP_PX = 32
_AREA_SHARES = (1.0, 0.6, 0.35)
_LARGEST_CPU_PX = 160 * 224
_LARGEST_GPU_PX = 512 * 512
_LARGEST_BIG_GPU_PX = 512 * 1024
_BIG_GPU_GB = 24.0
_CPU_IMAGES, _GPU_IMAGES = 4000, 40000
_IMBALANCED = 0.01
FRAME_MS = 33.0
"""Default latency budget in ms: 30 frames a second."""
QUICK_FAMILIES = (
    "mobilenetv1",
    "mobilenetv2",
    "mobilenetv3_small",
    "mobilenetv3_large",
    "mobilenetv4_conv_small",
    "lcnet",
    "resnet10t",
)


@dataclass(frozen=True)
class Machine:
    """Cores and GPUs that trials may use.

    Attributes:
        cores: CPU cores of this process.
        gpus: GPUs that torch sees.
        gpu_memory_gb: memory of the smallest one; 0 without a GPU.
    """

    cores: int
    gpus: int = 0
    gpu_memory_gb: float = 0.0


@dataclass(frozen=True)
class DataFacts:
    """Facts of a data set that the choices depend on.

    Attributes:
        train_images: images to train on.
        size_hw: median height and width of the labels in pixels.
        class_shares: share of each class in the counted pixels of train.
    """

    train_images: int
    size_hw: tuple[int, int]
    class_shares: tuple[float, ...]

    @property
    def imbalanced(self) -> bool:
        """True where a class that occurs has less than 1 % of the pixels."""
        return any(0 < share < _IMBALANCED for share in self.class_shares)


@dataclass(frozen=True)
class StudyChoices:
    """Values of a study's keys.

    Attributes:
        resolutions_px: input sizes, (height, width), ascending.
        families: encoder families; None for all.
        epochs, batch_size: of each training.
        rungs_epochs: rungs of early stopping, ascending.
        final_epochs: epochs of the final training of two members.
        trials: candidates to train.
        slots: trials that run at the same time.
        cpus_per_trial, gpus_per_trial: of each trial.
        class_weights: weights of the classes in the loss.
    """

    resolutions_px: tuple[tuple[int, int], ...]
    families: tuple[str, ...] | None
    epochs: int
    batch_size: int
    rungs_epochs: tuple[int, ...]
    final_epochs: int
    trials: int
    slots: int
    cpus_per_trial: int
    gpus_per_trial: float
    class_weights: str


def this_machine() -> Machine:
    """Return the cores and GPUs of this machine."""
    import torch

    if not torch.cuda.is_available():
        return Machine(available_cores())
    memory = [torch.cuda.get_device_properties(gpu).total_memory / 2**30 for gpu in range(torch.cuda.device_count())]
    return Machine(available_cores(), len(memory), min(memory))


def choose(machine: Machine, data: DataFacts) -> StudyChoices:
    """Choose settings that fit a data set and a machine."""
    gpu = machine.gpus > 0
    largest = (
        (_LARGEST_BIG_GPU_PX if machine.gpu_memory_gb >= _BIG_GPU_GB else _LARGEST_GPU_PX) if gpu else _LARGEST_CPU_PX
    )
    shown = (_GPU_IMAGES if gpu else _CPU_IMAGES) / data.train_images
    epochs = min(max(round(shown), 40), 200) if gpu else min(max(round(shown), 8), 60)
    per_gpu = 1 if machine.gpu_memory_gb < 12 else 2 if machine.gpu_memory_gb < 32 else 4
    slots = machine.gpus * per_gpu if gpu else machine.cores
    return StudyChoices(
        resolutions_px=resolutions(data.size_hw, largest),
        families=None if gpu else QUICK_FAMILIES,
        epochs=epochs,
        batch_size=min(16 if gpu else 8, max(2, data.train_images // 2)),
        rungs_epochs=tuple(sorted({math.ceil(0.3 * epochs), math.ceil(0.6 * epochs)})),
        final_epochs=2 * epochs,
        trials=100 if gpu else 32,
        slots=slots,
        cpus_per_trial=min(4, max(1, machine.cores // slots)) if gpu else 1,
        gpus_per_trial=1 / per_gpu if gpu else 0,
        class_weights="sqrt_inverse" if data.imbalanced else "none",
    )


def resolutions(size_hw: Sequence[int], largest_px: int) -> tuple[tuple[int, int], ...]:
    """Return input sizes of an image's aspect, in multiples of 32 and not above the image.

    Args:
        size_hw: height and width of the images in pixels.
        largest_px: area of the largest input in pixels.
    """
    height, width = size_hw
    area = min(largest_px, height * width)
    scales = [math.sqrt(area * share / (height * width)) for share in _AREA_SHARES]
    return tuple(sorted({(_rounded(height, scale), _rounded(width, scale)) for scale in scales}))


def _rounded(side_px: int, scale: float) -> int:
    return max(_STEP_PX, _STEP_PX * round(side_px * scale / _STEP_PX))
