"""Index a split's files on disk and pair each image with its label."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from objectives.data.base import DatasetError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
LABEL_SUFFIXES = (".png",)


@dataclass(frozen=True)
class FilePair:
    """Files of one image and its label.

    Attributes:
        name: name of both, unique within the split.
        image: PNG or JPEG file.
        label: single-channel PNG of the same size.
    """

    name: str
    image: Path
    label: Path


def require_root(kind: str, root: Path | None) -> Path:
    """Return the data set's folder after checking that it exists.

    Raises:
        DatasetError: no root was given, or it is no folder.
    """
    if root is None:
        raise DatasetError(f"data set {kind} is read from a folder, but no root was given; set root to its folder.")
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise DatasetError(f"the root of data set {kind} must be a folder, but {root} {found}; correct root.")
    return root


def first_folder(candidates: Iterable[Path]) -> Path | None:
    return next((folder for folder in candidates if folder.is_dir()), None)


def require_folder(kind: str, split: str, what: str, candidates: Iterable[Path], hint: str = "") -> Path:
    """Return the first of ``candidates`` that is a folder.

    Raises:
        DatasetError: none is; the message names all of them.
    """
    candidates = list(candidates)
    folder = first_folder(candidates)
    if folder is None:
        looked = " or ".join(str(path) for path in candidates)
        raise DatasetError(
            f"split {split} of data set {kind} has no folder of {what}: looked for {looked}; "
            f"put the {what} there, correct root or choose another split{hint}."
        )
    return folder


def index_files(folder: Path, suffixes: tuple[str, ...], ending: str = "") -> dict[str, Path]:
    """Return the files below ``folder`` by relative path without ``ending`` and suffix; hidden files are skipped.

    Raises:
        DatasetError: two files share a name and differ in their suffix only, or the folder cannot be listed.
    """
    found: dict[str, Path] = {}
    try:
        paths = sorted(folder.rglob("*"))
    except OSError as error:
        raise DatasetError(
            f"cannot list {folder}: {error.strerror or error}; give yourself read permission."
        ) from error
    for path in paths:
        relative = path.relative_to(folder).as_posix()
        if path.suffix.lower() not in suffixes or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        stem = relative[: -len(path.suffix)]
        if not stem.endswith(ending) or path.is_dir():
            continue
        key = stem[: len(stem) - len(ending)]
        if key in found:
            raise DatasetError(
                f"each name may occur once, but {found[key]} and {path} share theirs; remove one of them."
            )
        found[key] = path
    return found


def pair_files(
    kind: str,
    split: str,
    image_folder: Path,
    images: Mapping[str, Path],
    label_folder: Path,
    labels: Mapping[str, Path],
) -> list[FilePair]:
    """Pair images and labels by name, sorted by name.

    Raises:
        DatasetError: there is no image, an image has no label, or a label has no image.
    """
    if not images:
        raise DatasetError(
            f"split {split} of data set {kind} needs at least one image ({', '.join(IMAGE_SUFFIXES)}), "
            f"but {image_folder} holds none; put the images there or correct root."
        )
    lonely = sorted(set(images) - set(labels))
    if lonely:
        raise DatasetError(
            f"each image needs a label of the same name, but {images[lonely[0]]} has none below {label_folder}"
            f"{_others(lonely)}; add the label or remove the image."
        )
    orphans = sorted(set(labels) - set(images))
    if orphans:
        raise DatasetError(
            f"each label needs an image of the same name, but {labels[orphans[0]]} has none below {image_folder}"
            f"{_others(orphans)}; add the image or remove the label."
        )
    return [FilePair(name, images[name], labels[name]) for name in sorted(images)]


def read_list(kind: str, split: str, path: Path) -> list[str]:
    """Return the non-empty lines of a split's list.

    Raises:
        DatasetError: the list is missing, cannot be read, or is empty.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise DatasetError(
            f"split {split} of data set {kind} is listed in {path}, which is missing; restore it, correct root or choose another "
            "split."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} must be a readable text file: {error}; restore it.") from error
    if not lines:
        raise DatasetError(
            f"split {split} of data set {kind} needs at least one image, but {path} lists none; restore it."
        )
    return lines


def listed_pairs(kind: str, split: str, entries: Iterable[tuple[str, Path, Path]]) -> list[FilePair]:
    """Return pairs from (name, image, label), sorted by name.

    Raises:
        DatasetError: a file is missing, or a name is listed twice.
    """
    pairs: dict[str, FilePair] = {}
    for name, image, label in entries:
        for what, path in (("image", image), ("label", label)):
            if not path.is_file():
                raise DatasetError(
                    f"split {split} of data set {kind} lists {name}, but its {what} {path} is missing (the pair: {image} and "
                    f"{label}); restore it or correct root."
                )
        if name in pairs:
            raise DatasetError(f"split {split} of data set {kind} lists {name} twice; correct the list.")
        pairs[name] = FilePair(name, image, label)
    return [pairs[name] for name in sorted(pairs)]


def train_val_split(kind: str, split: str, pairs: list[FilePair], val_fraction: float) -> list[FilePair]:
    """Return the train or val part of ``pairs``.

    Val is the ``val_fraction`` with the smallest name hashes, at least one; it depends on the names alone, so it is the same on every
    machine.

    Raises:
        DatasetError: the fraction is not between 0 and 1, there is one image only, or another split is requested.
    """
    if not isinstance(val_fraction, int | float) or not 0 < val_fraction < 1:
        raise DatasetError(f"val_fraction must be a number between 0 and 1, but is {val_fraction!r}; 0.2 is usual.")
    if split not in ("train", "val"):
        raise DatasetError(
            f"data set {kind} has no folder for split {split}, and only train and val are made by holding images out; "
            "choose train or val, or add the folder."
        )
    if len(pairs) < 2:
        raise DatasetError(f"holding out a val split needs at least 2 images, but {kind} has {len(pairs)}; add images.")
    ranked = sorted(pairs, key=lambda pair: hashlib.sha256(pair.name.encode()).hexdigest())
    cut = min(max(1, round(val_fraction * len(pairs))), len(pairs) - 1)
    chosen = ranked[:cut] if split == "val" else ranked[cut:]
    return sorted(chosen, key=lambda pair: pair.name)


def _others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
