"""Plain PyTorch training loop, as a baseline."""

from __future__ import annotations

import time

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from objectives.data import SegmentationData
from objectives.data.base import IMAGENET_MEAN, IMAGENET_STD


class _Files(Dataset[tuple[Tensor, Tensor]]):
    """Opens, decodes, resizes and changes one image at a time with torchvision's transforms."""

    def __init__(self, data: SegmentationData, hw: tuple[int, int], images: int) -> None:
        from torchvision.transforms import v2

        self._data, self._hw, self._count = data, hw, min(images, len(data))
        self._together = v2.Compose(
            [
                v2.RandomResizedCrop(hw, scale=(0.45, 1.0), ratio=(1.2, 1.5), antialias=True),
                v2.RandomHorizontalFlip(),
            ]
        )
        self._image = v2.Compose(
            [v2.ColorJitter(0.2, 0.2), v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        )

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        from torchvision import tv_tensors

        image, label = self._data.pair(index)
        size = (self._hw[1], self._hw[0])
        small = np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        small_label = np.array(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
        pixels, mask = self._together(
            tv_tensors.Image(torch.from_numpy(small).permute(2, 0, 1)), tv_tensors.Mask(torch.from_numpy(small_label))
        )
        return self._image(pixels).as_subclass(Tensor), mask.as_subclass(Tensor).long()


class PlainLoop:
    """A DataLoader with ``workers`` processes, cross-entropy at full resolution, FP32.

    Attributes:
        waited_s: of the last run, the seconds spent waiting for a batch.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: SegmentationData,
        hw: tuple[int, int],
        *,
        images: int,
        batch: int,
        workers: int,
        device: torch.device,
    ) -> None:
        self._loader = DataLoader(
            _Files(data, hw, images),
            batch,
            shuffle=True,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            multiprocessing_context="fork" if workers else None,  # as in a script: this process was spawned
        )
        self._net, self._optimizer = net, optimizer
        self._device, self._ignored = device, data.info.ignore_index
        self.waited_s = 0.0

    def run(self) -> None:
        self.waited_s, asked = 0.0, time.monotonic()
        self._net.train()
        for images, labels in self._loader:
            self.waited_s += time.monotonic() - asked
            images, labels = images.to(self._device), labels.to(self._device)
            logits = functional.interpolate(self._net(images), size=labels.shape[1:], mode="bilinear")
            loss = functional.cross_entropy(logits, labels, ignore_index=self._ignored)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            loss.item()
            asked = time.monotonic()
