"""Survey any data set, once for the same files."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np

from objectives.data.base import SegmentationData
from objectives.data.file_data import FileData
from objectives.data.survey import SplitSurvey, SurveyBuilder, array_digest
from objectives.data.synthetic import SyntheticData
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path

_FORMAT = 1


def survey_split(data: SegmentationData, cache_dir: Path | None = None) -> SplitSurvey | None:
    """Validate a split as ``data.check()`` does, and count its classes.

    Args:
        data: the split.
        cache_dir: folder that keeps surveys; one of unchanged files (path, size, modification time) is not repeated.

    Returns:
        The survey; None for synthetic scenes, which are drawn from the study's configuration.

    Raises:
        DatasetError: as ``data.check()``, or labels whose palettes contradict each other.
    """
    if isinstance(data, SyntheticData):
        data.check()
        return None
    if cache_dir is None:
        return _survey(data)
    key = hashlib.sha256(f"survey {_FORMAT}:{data.fingerprint()}".encode()).hexdigest()[:16]
    path = cache_dir / f"{data.info.name}-{data.split}-{key}-survey.json"
    try:
        return SplitSurvey.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        survey = _survey(data)
    with contextlib.suppress(UserError), atomic_path(path) as temporary:  # without it the next call surveys again
        temporary.write_text(json.dumps(survey.to_dict()))
    return survey


def _survey(data: SegmentationData) -> SplitSurvey:
    if isinstance(data, FileData):
        return data.survey()
    data.check()
    builder = SurveyBuilder(data)
    for index in range(len(data)):
        image, label = data.pair(index)
        counts = np.bincount(label.ravel(), minlength=256)
        builder.add(data.name(index), array_digest(image), array_digest(label), counts)
    return builder.survey()
