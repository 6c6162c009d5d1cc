"""Data sets: one interface for built-in scenes and for folders on disk, checked before training."""

from __future__ import annotations

from objectives.data.arrays import SplitArrays, decoded_parts, load_arrays
from objectives.data.base import SPLITS, DatasetError, DatasetInfo, SegmentationData
from objectives.data.registry import KINDS, known_options, open_dataset

__all__ = [
    "KINDS",
    "SPLITS",
    "DatasetError",
    "DatasetInfo",
    "SegmentationData",
    "SplitArrays",
    "decoded_parts",
    "known_options",
    "load_arrays",
    "open_dataset",
]
