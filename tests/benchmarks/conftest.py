"""CamVid in miniature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    """Eight training and four validation images of 64x96 pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for folder in (split, f"{split}annot"):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
        for number in range(count):
            label = np.kron(rng.integers(0, 12, (4, 6)), np.ones((16, 16))).astype(np.uint8)
            image = (label * 20)[..., None].repeat(3, 2).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "camvid" / split / f"{number:03d}.png")
            Image.fromarray(label).save(tmp_path / "camvid" / f"{split}annot" / f"{number:03d}.png")
    return tmp_path / "camvid"
