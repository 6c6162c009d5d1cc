"""Kinds of data set by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from objectives.data.ade20k import open_ade20k
from objectives.data.base import SPLITS, DatasetError, SegmentationData
from objectives.data.camvid import open_camvid
from objectives.data.cityscapes import open_cityscapes
from objectives.data.folder import open_folder
from objectives.data.lpcvc import open_lpcvc
from objectives.data.rellis3d import open_rellis3d
from objectives.data.synthetic import open_synthetic
from objectives.data.voc import open_voc
from search_spaces._common.names import nearest_name
from search_spaces._common.references import check_arguments, is_reference, parameters_of, resolve_callable

KINDS: dict[str, Callable[..., SegmentationData]] = {
    "synthetic": open_synthetic,
    "camvid": open_camvid,
    "lpcvc": open_lpcvc,
    "cityscapes": open_cityscapes,
    "ade20k": open_ade20k,
    "voc": open_voc,
    "rellis3d": open_rellis3d,
    "folder": open_folder,
}


class DatasetOpener(Protocol):
    """A function that ``data.kind`` names, such as ``mypkg.data:open_mine``.

    ``open(root, split, **options) -> SegmentationData`` opens one split.

    Args:
        root: ``data.root`` of the study; None where it has none.
        split: train, val or test.
        options: ``data.options`` of the study, by name.

    Returns:
        The split, files listed but not read; `InMemoryData` holds arrays, `FileData` reads images and labels.

    Raises:
        DatasetError: the root or a file is missing; the sentence is shown before training.
    """

    def __call__(self, root: Path | None, split: str, /, **options: Any) -> SegmentationData:
        """Open one split."""


def known_options(kind: str) -> tuple[str, ...]:
    """Return the names of the options that ``open_dataset`` accepts for ``kind``."""
    return tuple(name for name in inspect.signature(KINDS[kind]).parameters if name not in ("root", "split"))


def open_dataset(kind: str, *, root: Path | None, split: str, **options: Any) -> SegmentationData:
    """Open one split of a data set: files are listed and paired, but read only by ``check()``.

    Args:
        kind: a key of ``KINDS``, or ``module:name`` of a `DatasetOpener`.
        root: the data set's folder; None for synthetic.
        split: train, val or test.
        options: see the opener of the kind, e.g. ``images, height_px, width_px, seed`` of synthetic.

    Raises:
        DatasetError: unknown kind, split or option, root or split not there, images and labels that do not pair.
    """
    if is_reference(kind):
        return _open_custom(kind, root, split, options)
    if kind not in KINDS:
        raise DatasetError(f"data set kind must be one of {', '.join(KINDS)}, but is {kind!r}{_nearest(kind, KINDS)}")
    if split not in SPLITS:
        raise DatasetError(f"split must be one of {', '.join(SPLITS)}, but is {split!r}{_nearest(split, SPLITS)}")
    known = known_options(kind)
    for name in options:
        if name not in known:
            offered = f"its options are {', '.join(known)}" if known else "it has no options"
            raise DatasetError(f"data set {kind} has no option {name!r}: {offered}{_nearest(name, known)}")
    return KINDS[kind](root, split, **options)


def _open_custom(reference: str, root: Path | None, split: str, options: Mapping[str, Any]) -> SegmentationData:
    opener = resolve_callable(reference, "data.kind")
    names = list(parameters_of(opener))
    if len(names) < 2:
        raise DatasetError(f"data.kind {reference} must take (root, split, **options), but takes ({', '.join(names)}).")
    check_arguments(f"data set {reference!r}", functools.partial(opener, root, split), options)
    data = opener(root, split, **options)
    if not isinstance(data, SegmentationData):
        raise DatasetError(
            f"data.kind {reference} must return a SegmentationData, such as objectives.data.InMemoryData, "
            f"but returned a {type(data).__name__}."
        )
    return data


def _nearest(word: str, known: Iterable[str]) -> str:
    near = nearest_name(word, known, cutoff=0.6)
    return f"; did you mean {near!r}?" if near else "; correct it."
