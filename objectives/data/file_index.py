"""Index a split's files on disk and pair each image with its label."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from objectives.data.base import DatasetError
from objectives.data.text_file import read_lines

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
LABEL_SUFFIXES = (".png",)
_LEFT_BY_SYSTEMS = frozenset(
    ("@eadir", "@recycle", "@tmp", "#recycle", "$recycle.bin", "__macosx", "lost+found", "system volume information")
)
_FURTHER_SUFFIXES = (".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".json", ".xml", ".txt", ".npy")


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
    """Return the files below ``folder`` by relative path without ``ending`` and suffix.

    Linked folders are followed once each. Hidden files, and what operating systems and file servers leave in folders, are skipped.

    Args:
        folder: folder to list, with the folders below it.
        suffixes: file name suffixes in lower case; files may have them in any case.
        ending: text before the suffix that files must end in, in any case, or such a text with a suffix (``_mask.png``).

    Raises:
        DatasetError: two files share a name and differ in their suffix only, or a folder cannot be listed.
    """
    found: dict[str, Path] = {}
    own_suffix = next((suffix for suffix in suffixes if ending.lower().endswith(suffix)), "")
    if own_suffix:
        suffixes, ending = (own_suffix,), ending[: -len(own_suffix)]
    for relative, path in _walk(folder):
        if path.suffix.lower() not in suffixes:
            continue
        stem = relative[: -len(path.suffix)]
        key = stem[: len(stem) - len(ending)]
        if stem[len(key) :].lower() != ending.lower() or not key or key.endswith("/"):
            continue
        if key in found:
            raise DatasetError(
                f"each name may occur once, but {found[key]} and {path} share theirs; remove one of them, or choose "
                "an extension with data.image_suffix or data.label_suffix (kind folder)."
            )
        found[key] = path
    return found


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield all files below a folder with their relative paths, sorted by path; linked folders after real ones.

    A folder that was seen under another path is not entered again, nor one that holds the folder itself: links may form loops.
    """
    files: list[tuple[str, Path]] = []
    seen: set[tuple[int, int]] = set()
    folders: list[tuple[str, Path]] = [("", folder)]
    links: list[tuple[str, Path]] = []
    real = folder.resolve()
    while folders or links:
        prefix, here = folders.pop() if folders else links.pop(0)
        try:
            if here.is_symlink() and here != folder and here.resolve() in (real, *real.parents):
                continue
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith(".") or entry.name.lower() in _LEFT_BY_SYSTEMS:
                        continue
                    item = (f"{prefix}{entry.name}", here / entry.name)
                    if not _is_folder(entry):
                        files.append(item)
                    else:
                        (links if entry.is_symlink() else folders).append((f"{item[0]}/", item[1]))
        except OSError as error:
            raise DatasetError(
                f"cannot list {here}: {error.strerror or error}; give yourself read permission."
            ) from error
    yield from sorted(files)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def pair_files(
    kind: str,
    split: str,
    image_folder: Path,
    images: Mapping[str, Path],
    label_folder: Path,
    labels: Mapping[str, Path],
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
) -> list[FilePair]:
    """Pair images and labels by name, sorted by name.

    Names that differ in case or in how accents are encoded match where that leaves no choice.

    Raises:
        DatasetError: there is no image, an image has no label, or a label has no image.
    """
    if not images:
        raise DatasetError(
            f"split {split} of data set {kind} needs at least one image ({', '.join(suffixes)}), "
            f"but {image_folder} holds none; put the images there or correct root."
        )
    partners = _partners(images, labels)
    lonely = sorted(set(images) - set(partners))
    if lonely:
        hint = "add the label or remove the image"
        if kind == "folder":
            hint = _label_hint(lonely[0], label_folder, set(labels) - set(partners.values())) or hint
        raise DatasetError(
            f"each image needs a label of the same name, but {images[lonely[0]]} has none below {label_folder}"
            f"{_others(lonely)}; {hint}."
        )
    orphans = sorted(set(labels) - set(partners.values()))
    if orphans:
        raise DatasetError(
            f"each label needs an image of the same name, but {labels[orphans[0]]} has none below {image_folder}"
            f"{_others(orphans)}; {_image_hint(orphans[0], image_folder, suffixes)}."
        )
    return [FilePair(name, images[name], labels[partners[name]]) for name in sorted(images)]


def _partners(images: Mapping[str, Path], labels: Mapping[str, Path]) -> dict[str, str]:
    """Return the label's name of each image's name that has a label."""
    partners = {name: name for name in images if name in labels}
    free: dict[str, list[str]] = {}
    for label in labels:
        if label not in partners:
            free.setdefault(_folded(label), []).append(label)
    waiting: dict[str, list[str]] = {}
    for image in images:
        if image not in partners:
            waiting.setdefault(_folded(image), []).append(image)
    for name, candidates in waiting.items():
        if len(candidates) == len(free.get(name, ())) == 1:
            partners[candidates[0]] = free[name][0]
    return partners


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _label_hint(name: str, folder: Path, unused: set[str]) -> str:
    """Return what would give the image ``name`` a label, judged by the files that lie in the label folder."""
    for suffix in _FURTHER_SUFFIXES:
        for spelling in (suffix, suffix.upper()):
            if (folder / f"{name}{spelling}").exists():
                return (
                    f"{name}{spelling} is there, but labels are PNG files, which lose nothing: export the labels as PNG"
                )
    stem = name.rpartition("/")[2]
    close = sorted(label for label in unused if stem in label)
    if close:
        before, _, after = close[0].rpartition("/")[2].partition(stem)
        if after and not before:
            return f"{close[0]} is there: set data.label_suffix to {after}"
        return f"{close[0]} is there: rename the labels like the images"
    ends = sorted(label for label in unused if label and label.rpartition("/")[2] in stem)
    if ends:
        before, _, after = stem.partition(ends[0].rpartition("/")[2])
        if after and not before:
            return f"the label {ends[0]} is there: set data.image_suffix to {after}"
    return ""


def _image_hint(name: str, folder: Path, suffixes: tuple[str, ...]) -> str:
    """Return what would give the label ``name`` an image, judged by the files that lie in the image folder."""
    here = (folder / name).parent
    stem = name.rpartition("/")[2]
    others = sorted(path.name for path in here.iterdir() if path.stem == stem) if here.is_dir() else []
    if others:
        return f"{others[0]} is there, but images are files of {', '.join(suffixes)}: convert it"
    return "add the image or remove the label"


def read_list(kind: str, split: str, path: Path) -> list[str]:
    """Return the non-empty lines of a split's list.

    Raises:
        DatasetError: the list is missing, cannot be read, or is empty.
    """
    try:
        lines = read_lines(path)
    except FileNotFoundError as error:
        raise DatasetError(
            f"split {split} of data set {kind} is listed in {path}, which is missing; restore it, correct root or choose another "
            "split."
        ) from error
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
    ranked = sorted(pairs, key=lambda pair: hashlib.sha256(os.fsencode(pair.name)).hexdigest())
    cut = min(max(1, round(val_fraction * len(pairs))), len(pairs) - 1)
    chosen = ranked[:cut] if split == "val" else ranked[cut:]
    return sorted(chosen, key=lambda pair: pair.name)


def _others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
