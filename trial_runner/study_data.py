"""Data of a study: validation before training, and identity, so that trials on different data are not mixed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.trial import TrialState

from objectives.data import DatasetError, DatasetInfo, SplitSurvey, judge, survey_split
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path
from trial_runner.config.study import StudyConfig
from trial_runner.study.objectives import CLASS_NAMES
from trial_runner.study.paths import StudyPaths
from trial_runner.training.trial import open_split

DATA_FINGERPRINT = "data_fingerprint"
_EXAMPLES = 3


@dataclass(frozen=True)
class ExaminedData:
    """Validated data of a study.

    Attributes:
        info: facts of the data set.
        surveys: of train and val; none for synthetic scenes.
        warnings: sentences on what may be intended, such as a class that val does not hold.
    """

    info: DatasetInfo
    surveys: tuple[SplitSurvey, ...]
    warnings: tuple[str, ...] = ()


def survey_data(config: StudyConfig) -> ExaminedData:
    """Validate every file of both splits and count their classes; unchanged files are not read again.

    Raises:
        UserError: a file is missing, damaged or has invalid content; the message names the first one.
    """
    splits = [open_split(config.data, split, config.study.seed) for split in ("train", "val")]
    cache = StudyPaths(config.study.output_dir).cache
    surveys = [survey_split(split, cache) for split in splits]
    return ExaminedData(splits[0].info, tuple(survey for survey in surveys if survey is not None))


def judged(config: StudyConfig, data: ExaminedData) -> ExaminedData:
    """Return ``data`` with warnings on the classes that its labels hold.

    Raises:
        DatasetError: a declared class has no pixel in train, or values do not fit the declared range.
    """
    if not data.surveys:
        return data
    train, val = data.surveys
    declared = (config.data.kind == "folder" or config.data.custom) and config.data.missing_classes == "refuse"
    judgement = judge(data.info, train, val, declared=declared, image_max=config.data.image_max)
    if judgement.errors:
        raise DatasetError(" ".join(judgement.errors))
    return replace(data, warnings=judgement.warnings)


def examine_data(config: StudyConfig) -> ExaminedData:
    """Return `survey_data` after `judged`; raise as both do."""
    return judged(config, survey_data(config))


def require_same_data(
    study: optuna.Study, paths: StudyPaths, info: DatasetInfo, surveys: Sequence[SplitSurvey]
) -> None:
    """Refuse data that differ from those that the study's trials were trained on.

    A study from before fingerprints were stored is compared by its class names; one whose trials all failed takes any data.

    Args:
        study: the study as it is stored.
        paths: its files.
        info: facts of the data as they are now.
        surveys: of train and val; none for data that are drawn.

    Raises:
        UserError: the sentence names what differs.
    """
    if all(trial.state == TrialState.FAIL for trial in study.get_trials(deepcopy=False)):
        return
    changes = data_changes(study, paths, info, surveys)
    if changes:
        raise _changed(study, "since its trials were trained", changes)


class RunningStudyData:
    """Data of a study that runs: files that change between two trials end the launch.

    Data sets of the user's own and generated scenes are not compared while a study runs.
    """

    def __init__(self, config: StudyConfig, study: optuna.Study, paths: StudyPaths) -> None:
        self._config, self._study, self._paths = config, study, paths
        self._compared = config.data.kind != "synthetic" and not config.data.custom
        self._files = self._fingerprints() if self._compared else []

    def require_unchanged(self) -> None:
        """Compare paths, sizes and modification times of all files, and contents where these differ.

        Raises:
            UserError: the sentence names what differs from the data that the study stored.
        """
        if not self._compared or self._fingerprints() == self._files:
            return
        data = survey_data(self._config)
        changes = data_changes(self._study, self._paths, data.info, data.surveys)
        if changes:
            raise _changed(self._study, "while it ran", changes)
        self._files = self._fingerprints()

    def _fingerprints(self) -> list[str]:
        splits = (open_split(self._config.data, split, self._config.study.seed) for split in ("train", "val"))
        return [split.fingerprint() for split in splits]


def _changed(study: optuna.Study, since: str, changes: Sequence[str]) -> UserError:
    return UserError(
        f"the data of the study {study.study_name} have changed {since}: {'; '.join(changes)}. Trials on old and new data cannot be "
        "compared: put the old data back, or choose another study.name."
    )


def data_changes(
    study: optuna.Study, paths: StudyPaths, info: DatasetInfo, surveys: Sequence[SplitSurvey]
) -> list[str]:
    """Return one phrase for each difference from the data that the study stored; empty where there is none."""
    changes = _class_changes(study.user_attrs.get(CLASS_NAMES), info.class_names)
    stored = study.user_attrs.get(DATA_FINGERPRINT)
    if not isinstance(stored, str) or not surveys or stored == _fingerprint(surveys):
        return changes
    before = _parts(stored)
    listing = _read_listing(paths, stored)
    for survey in surveys:
        now = _part(survey)
        if before.get(survey.split) not in (None, now):
            changes += _split_changes(survey, before[survey.split], listing.get(survey.split))
    return changes


def note_data(study: optuna.Study, paths: StudyPaths, surveys: Sequence[SplitSurvey]) -> None:
    """Store the data's fingerprint with the study, and digests of all files in its folder.

    Raises:
        UserError: the folder cannot be written to.
    """
    if not surveys:
        return
    fingerprint = _fingerprint(surveys)
    if study.user_attrs.get(DATA_FINGERPRINT) == fingerprint and paths.data_listing.is_file():
        return
    listing = {survey.split: {name: list(pair) for name, pair in survey.digests.items()} for survey in surveys}
    with atomic_path(paths.data_listing) as temporary:
        temporary.write_text(json.dumps({"fingerprint": fingerprint, "splits": listing}))
    study.set_user_attr(DATA_FINGERPRINT, fingerprint)


def _fingerprint(surveys: Sequence[SplitSurvey]) -> str:
    return ", ".join(f"{survey.split}: {_part(survey)}" for survey in surveys)


def _part(survey: SplitSurvey) -> str:
    return f"{len(survey.digests)} images {survey.fingerprint}"


def _parts(stored: str) -> dict[str, str]:
    pairs = (part.partition(": ") for part in stored.split(", "))
    return {split: identity for split, _, identity in pairs}


def _read_listing(paths: StudyPaths, fingerprint: str) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Return the digests by split and name as they were stored, or nothing where the file is gone or another study's."""
    try:
        value: Any = json.loads(paths.data_listing.read_text())
        return value["splits"] if value["fingerprint"] == fingerprint else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _class_changes(stored: Any, now: Sequence[str]) -> list[str]:
    if not isinstance(stored, list):
        return []
    before = [str(name).strip("\ufeff").strip() for name in stored]
    if before == list(now):
        return []
    added, removed = [name for name in now if name not in before], [name for name in before if name not in now]
    changes = [f"class {name} was added" for name in added] + [f"class {name} was removed" for name in removed]
    return changes or [f"the order of the classes is {', '.join(now)}, and was {', '.join(before)}"]


def _split_changes(survey: SplitSurvey, before: str, listing: Mapping[str, Sequence[str]] | None) -> list[str]:
    if listing is None:
        return [f"split {survey.split} holds other data ({len(survey.digests)} images, {before.split()[0]} before)"]
    now = survey.digests
    common = sorted(set(now) & set(listing))
    changes = (
        ("image", "images", "added to", sorted(set(now) - set(listing))),
        ("image", "images", "removed from", sorted(set(listing) - set(now))),
        ("image", "images", "changed in", [name for name in common if now[name][0] != listing[name][0]]),
        ("label", "labels", "changed in", [name for name in common if now[name][1] != listing[name][1]]),
    )
    return [
        f"{len(names)} {one if len(names) == 1 else many} {how} {survey.split} ({_some(names)})"
        for one, many, how, names in changes
        if names
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_EXAMPLES]) + (", …" if len(names) > _EXAMPLES else "")
