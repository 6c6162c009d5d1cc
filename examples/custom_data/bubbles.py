"""A data set: bright discs on dark noise, drawn on demand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paretoseg import DatasetInfo, InMemoryData

INFO = DatasetInfo("bubbles", ("background", "bubble"), palette=((0, 0, 0), (90, 160, 255)))
SPLITS = {"train": 0, "val": 1, "test": 2}
HEIGHT_PX, WIDTH_PX = 64, 96


def open_bubbles(root: Path | None, split: str, *, images: int = 60, radius_px: int = 12) -> InMemoryData:
    """Draw one split; ``images`` and ``radius_px`` come from ``data.options`` of the study."""
    rng = np.random.default_rng([SPLITS[split], images, radius_px])
    rows, columns = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    pictures, labels = [], []
    for _ in range(images):
        label = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
        for _ in range(3):
            row, column = rng.integers(HEIGHT_PX), rng.integers(WIDTH_PX)
            label[(rows - row) ** 2 + (columns - column) ** 2 < radius_px**2] = 1
        noise = rng.integers(0, 120, (HEIGHT_PX, WIDTH_PX, 3))
        pictures.append((noise + 100 * label[..., None]).astype(np.uint8))
        labels.append(label)
    return InMemoryData(INFO, split, pictures, labels)
