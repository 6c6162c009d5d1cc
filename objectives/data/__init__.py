"""Data sets behind one interface: built-in scenes and folders on disk."""

from __future__ import annotations

from objectives.data.arrays import ArraySplit, decoded_parts, load_arrays
from objectives.data.base import SPLITS, DatasetError, DatasetInfo, SegmentationData
from objectives.data.inspection import survey_split
from objectives.data.memory import InMemoryData
from objectives.data.presence import Judgement, judge
from objectives.data.registry import KINDS, DatasetOpener, known_options, open_dataset
from objectives.data.survey import SplitSurvey
from search_spaces._common.palette import spread_palette

__all__ = [
    "KINDS",
    "SPLITS",
    "ArraySplit",
    "DatasetError",
    "DatasetInfo",
    "DatasetOpener",
    "InMemoryData",
    "Judgement",
    "SegmentationData",
    "SplitSurvey",
    "decoded_parts",
    "judge",
    "known_options",
    "load_arrays",
    "open_dataset",
    "spread_palette",
    "survey_split",
]
