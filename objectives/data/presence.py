"""Judge surveys: classes without pixels, rare ones, and labels that are mostly ignored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from objectives.data.base import DatasetError, DatasetInfo
from objectives.data.image_file import FULL_RANGE
from objectives.data.survey import SplitSurvey, require_one_palette

_RARE_SHARE = 1e-4  # of a split's counted pixels
_MOSTLY = 0.5
_DEEP_ENOUGH = FULL_RANGE // 4  # cameras of 10, 12 and 14 bits stay below it


@dataclass(frozen=True)
class Judgement:
    """Defects found in the surveys of a data set's splits.

    Attributes:
        errors: one sentence for each defect that would make trained networks wrong.
        warnings: one sentence for each that may be intended.
    """

    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def judge(
    info: DatasetInfo, train: SplitSurvey, val: SplitSurvey, *, declared: bool, image_max: int | None
) -> Judgement:
    """Compare the classes and values of both splits with what the data set declares.

    Args:
        info: of the data set.
        train, val: surveys of its splits.
        declared: the user declared the classes; a class without a pixel in train is then an error, else a warning.
        image_max: value of white in images of more than 8 bits; None where the study does not state it.
    """
    errors: list[str] = []
    warnings: list[str] = []
    absent = [class_id for class_id, pixels in enumerate(train.class_pixels) if not pixels]
    if absent:
        (errors if declared else warnings).append(_absent_in_train(info, train, absent, declared))
    warnings += [text for text in (_ignored(train), _rare(info, train), _rare(info, val)) if text]
    unseen = [class_id for class_id, pixels in enumerate(val.class_pixels) if not pixels and class_id not in absent]
    if unseen:
        held = ", ".join(
            f"{info.class_names[i]} ({train.class_pixels[i]} pixels in {_images(train.class_images[i])} of train)"
            for i in unseen
        )
        warnings.append(
            f"none of the {len(val.digests)} labels of split val holds a pixel of {held}, so that mIoU says nothing of it; move "
            "images of it to val."
        )
    deep = [survey.deep_maximum for survey in (train, val) if survey.deep_maximum is not None]
    if deep and image_max is None and max(deep) < _DEEP_ENOUGH:
        bits = max(deep).bit_length()
        errors.append(
            f"images of more than 8 bits are scaled by 255 / {FULL_RANGE}, but their largest value is {max(deep)}, so they would be "
            f"almost black; set data.image_max to the value of white, {2**bits - 1} for {bits} bits, or to {FULL_RANGE} to keep "
            "that scale."
        )
    try:
        require_one_palette(train.palette, val.palette)
    except DatasetError as error:
        errors.append(str(error))
    return Judgement(tuple(errors), tuple(warnings))


def _absent_in_train(info: DatasetInfo, train: SplitSurvey, absent: Sequence[int], declared: bool) -> str:
    names = ", ".join(f"{info.class_names[class_id]} (id {class_id})" for class_id in absent[:5])
    names += f" and {len(absent) - 5} more" if len(absent) > 5 else ""
    which = "the class" if len(absent) == 1 else f"{len(absent)} classes:"
    text = f"no label of split train holds a pixel of {which} {names}"
    if train.values:
        text += f"; the {len(train.digests)} labels hold the values {_shares(train)}"
    if not declared:
        return f"{text}."
    values = {value: pixels for value, pixels in train.values.items() if pixels}
    if len(absent) == 1 and 255 in values and len(values) == info.num_classes:
        plain = [value for value in sorted(values) if value != 255]
        present = [class_id for class_id in range(info.num_classes) if class_id not in absent]
        mapping = dict(zip((*present, absent[0]), (*plain, 255), strict=True))
        proposal = ", ".join(f"{info.class_names[class_id]}: {mapping[class_id]}" for class_id in sorted(mapping))
        hint = f"Where 255 stands for {info.class_names[absent[0]]}, set data.label_values to {{{proposal}}}; otherwise correct"
    else:
        hint = "Give the labels' values with data.label_values, data.first_id or data.colours, correct"
    return f"{text}. {hint} the labels or classes.txt, or set data.missing_classes to allow where that is intended."


def _ignored(survey: SplitSurvey) -> str:
    share = survey.ignored_pixels / survey.pixels
    if share <= _MOSTLY:
        return ""
    return (
        f"{share:.0%} of the pixels of split {survey.split} are ignored"
        + (f" (the labels hold the values {_shares(survey)})" if survey.values else "")
        + "; where such a value stands for a class, give it with data.label_values."
    )


def _rare(info: DatasetInfo, survey: SplitSurvey) -> str:
    counted = sum(survey.class_pixels)
    rare = [
        class_id for class_id, pixels in enumerate(survey.class_pixels) if pixels and pixels < _RARE_SHARE * counted
    ]
    if not rare:
        return ""
    held = ", ".join(
        f"{info.class_names[class_id]} ({survey.class_pixels[class_id]} pixels in {_images(survey.class_images[class_id])})"
        for class_id in rare
    )
    return f"split {survey.split} holds less than {_RARE_SHARE:.2%} of its pixels of {held}; its IoU will be uncertain."


def _shares(survey: SplitSurvey) -> str:
    ranked = sorted(survey.values.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{value} ({pixels / survey.pixels:.1%})" for value, pixels in ranked[:6])
    return shown + (f" and {len(ranked) - 6} more" if len(ranked) > 6 else "")


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
