"""Score of a `solution.pyz`, run and judged as by the referee of the LPCVC 2023."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.board.solution import LPCVC_CLASSES
from objectives.data.base import IGNORE_INDEX, DatasetError
from objectives.data.image_file import read_label
from objectives.dice import MeanImageDice, lpcvc_score
from search_spaces._common.errors import UserError

REFEREE_IMAGES = 600
"""Size of the referee's test set, which it divides by for any number of images."""
MAP_HW = (512, 512)
_NUMBER = re.compile(r"[0-9]+\.[0-9]+")


@dataclass(frozen=True)
class SolutionScore:
    """Result of a run.

    Attributes:
        problem: reason why the referee would give no score, a sentence; None where it gives one.
        images: number of images.
        wall_s: duration of the whole run in seconds.
        exit_code: of the solution; the referee ignores it.
        seconds: summed seconds of the network, as printed; None if the referee rejects the output.
        dice: mean Dice over the images; None without valid class maps.
    """

    problem: str | None
    images: int
    wall_s: float
    exit_code: int | None
    seconds: float | None = None
    dice: float | None = None

    @property
    def score(self) -> float | None:
        """Dice divided by the seconds per image, in 1/s, with the actual number of images."""
        return self._score(self.images)

    @property
    def referee_score(self) -> float | None:
        """The score with the referee's 600 images, whatever their number."""
        return self._score(REFEREE_IMAGES)

    def _score(self, images: int) -> float | None:
        if self.problem or self.dice is None or not self.seconds:
            return None
        return lpcvc_score(self.dice, self.seconds, images)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain JSON."""
        return {
            "problem": self.problem,
            "images": self.images,
            "wall_s": self.wall_s,
            "exit_code": self.exit_code,
            "seconds": self.seconds,
            "seconds_per_image": None if self.seconds is None else self.seconds / self.images,
            "dice": self.dice,
            "score": self.score,
            "score_600": self.referee_score,
        }


def printed_seconds(stdout: str) -> float | None:
    """Return the number on stdout by the referee's rule: the only match of digits, point, digits anywhere; else None.

    ``tensor(9.123)`` is thus 9.123, ``9.1e-05`` is 9.1, and ``9``, ``.91`` or a version such as ``8.2.1.9`` beside it give none.
    """
    found = _NUMBER.findall(stdout)
    return float(found[0]) if len(found) == 1 else None


def referee_python() -> str:
    """Path of the referee's ``python3.6`` where it is installed, else of this Python."""
    return shutil.which("python3.6") or sys.executable


def score_solution(
    archive: Path, images: Path, truth: Path, *, python: str | None = None, timeout_s: float = 900.0
) -> SolutionScore:
    """Run a solution on a folder of images, and compare its class maps with the truth.

    Args:
        archive: the `solution.pyz`.
        images: folder of ``*.png``.
        truth: folder of ``*.png`` with class ids, one per image; paired by sorted name.
        python: interpreter; None: `referee_python`.
        timeout_s: the referee ends a run after 900 s.

    Raises:
        UserError: a file or folder is missing, the folders hold different numbers of images, or a truth is not 512 x 512.
    """
    if not archive.is_file():
        raise UserError(f"there is no solution at {archive}. Write one with `paretoseg solution`.")
    sources, labels = _pngs(images, "images"), _pngs(truth, "truth")
    if len(sources) != len(labels):
        raise UserError(
            f"{images} holds {len(sources)} PNG files, {truth} {len(labels)}: give one truth for each image."
        )
    with tempfile.TemporaryDirectory() as folder:
        maps = Path(folder)
        command = [python or referee_python(), "-W", "ignore", str(archive), "-i", str(images), "-o", str(maps)]
        begin = time.monotonic()
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            late = f"the solution ran longer than {timeout_s:g} s."
            return SolutionScore(late, len(sources), time.monotonic() - begin, None)
        except OSError as error:
            raise UserError(f"{command[0]} cannot be run ({error.strerror}). Name a Python with --python.") from error
        wall_s = time.monotonic() - begin
        seconds = printed_seconds(done.stdout.decode(errors="replace"))
        dice, problem = _dice(maps, labels)
        if problem is None and seconds is None:
            problem = "stdout does not hold exactly one decimal number such as 1.234567."
        if problem is not None and done.returncode != 0:
            problem += f" It exited with status {done.returncode}; run it by hand to read its stderr."
    return SolutionScore(problem, len(sources), wall_s, done.returncode, seconds, dice)


def _pngs(folder: Path, what: str) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}. Give the folder of the {what}.")
    found = sorted(folder.glob("*.png"))
    if not found:
        raise UserError(f"{folder} holds no PNG file. Give the folder of the {what}.")
    return found


def _dice(maps: Path, labels: list[Path]) -> tuple[float | None, str | None]:
    """Mean Dice of the class maps, or the reason why the referee cannot score them."""
    found = sorted(maps.glob("*.png"))
    if len(found) != len(labels):
        return None, f"the solution wrote {len(found)} of {len(labels)} class maps."
    dice = MeanImageDice(LPCVC_CLASSES)
    for path, label in zip(found, labels, strict=True):
        truth = _read(label)
        try:
            predicted = read_label(path).values
        except DatasetError:
            return None, f"the class map {path.name} cannot be read."
        if predicted is None or predicted.shape != MAP_HW:
            size = "in colours" if predicted is None else f"{predicted.shape[1]} x {predicted.shape[0]}"
            return None, f"the class map {path.name} is {size}, not one channel of 512 x 512."
        if predicted.max() >= LPCVC_CLASSES:
            return None, f"the class map {path.name} holds the id {predicted.max()}; ids are 0 to {LPCVC_CLASSES - 1}."
        dice.update(predicted.astype(np.uint8), truth)
    return dice.value, None


def _read(path: Path) -> NDArray[np.uint8]:
    pixels = read_label(path)
    values = pixels.values if pixels.colours is None else pixels.colours[:, :, 0]  # the referee reads the first channel
    if values is None or values.shape != MAP_HW:
        raise UserError(
            f"{path} is not 512 x 512 pixels, the size of the competition's labels. Give labels of that size."
        )
    return np.where(values < LPCVC_CLASSES, values, IGNORE_INDEX).astype(np.uint8)
