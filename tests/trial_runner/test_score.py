"""`paretoseg score` against solutions that behave, and that fall into the traps of the referee's rules."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trial_runner.cli.main import main
from trial_runner.score import printed_seconds


@pytest.mark.parametrize(
    ("stdout", "seconds"),
    [
        ("9.123\n", 9.123),
        ("tensor(9.123)\n", 9.123),
        ("9.1e-05\n", 9.1),
        ("9\n", None),
        (".91\n", None),
        ("", None),
        ("1.5\n2.5\n", None),
        ("loaded in 0.5 s: 1.5\n", None),
        ("TensorRT v8.2.1.9\n1.5\n", None),
    ],
)
def test_the_number_is_read_by_the_referees_rule(stdout: str, seconds: float | None):
    assert printed_seconds(stdout) == seconds


SOLUTION = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
images, maps = Path(sys.argv[2]), Path(sys.argv[4])
for number, path in enumerate(sorted(images.iterdir())):
    classes = np.zeros((512, 512), np.uint8)
    classes[:, 256:] = 3
    CHANGE
    Image.fromarray(classes).save(maps / path.name)
print("chatter 1.0", file=sys.stderr)
print(END)
"""


def solution(folder: Path, change: str = "pass", end: str = "'6.000000'") -> Path:
    path = folder / "solution.pyz"  # Python runs a file of source under any name
    path.write_text(SOLUTION.replace("CHANGE", change).replace("END", end))
    return path


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Two images; half of each label is class 0, half class 3, and one holds an id that is no class."""
    for name in ("images", "truth"):
        (tmp_path / name).mkdir()
    for number in range(2):
        Image.fromarray(np.zeros((512, 512, 3), np.uint8)).save(tmp_path / "images" / f"{number}.png")
        label = np.zeros((512, 512), np.uint8)
        label[:, 256:] = 3
        label[:10] = 14 if number else label[:10]
        Image.fromarray(label).save(tmp_path / "truth" / f"{number}.png")
    return ["--images", str(tmp_path / "images"), "--truth", str(tmp_path / "truth"), "--python", sys.executable]


def test_both_scores_of_a_perfect_solution(tmp_path: Path, folders: list[str], capsys: pytest.CaptureFixture[str]):
    archive = str(solution(tmp_path))
    assert main(["score", archive, *folders, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["dice"], found["seconds"], found["seconds_per_image"], found["images"]) == (1.0, 6.0, 3.0, 2)
    assert (found["score"], found["score_600"]) == (pytest.approx(1 / 3), pytest.approx(100.0))
    assert main(["score", archive, *folders]) == 0
    printed = capsys.readouterr().out
    assert "score 0.3333 with 2 images" in printed and "score 100 as the referee computes it" in printed


def test_one_stray_pixel_costs_a_class(tmp_path: Path, folders: list[str], capsys: pytest.CaptureFixture[str]):
    archive = solution(tmp_path, "classes[100, 100] = 9 if number else classes[100, 100]")
    assert main(["score", str(archive), *folders, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dice"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "end", "words"),
    [
        ("pass", "6", "exactly one decimal number"),
        ("if number: break", "'6.0'", "wrote 1 of 2 class maps"),
        ("if number: raise SystemExit(3)", "'6.0'", "wrote 1 of 2 class maps. It exited with status 3"),
        ("classes = classes[:256]", "'6.0'", "0.png is 512 x 256, not one channel of 512 x 512"),
        ("classes[0, 0] = 14", "'6.0'", "holds the id 14"),
        ("import time; time.sleep(60)", "'6.0'", "ran longer than 3 s"),
    ],
)
def test_what_the_referee_would_not_score(
    tmp_path: Path, folders: list[str], change: str, end: str, words: str, capsys: pytest.CaptureFixture[str]
):
    limit = ["--timeout-s", "3"] if "sleep" in change else []
    assert main(["score", str(solution(tmp_path, change, end)), *folders, *limit]) == 1
    assert words in capsys.readouterr().err


def test_mistakes_are_answered_with_a_sentence(tmp_path: Path, folders: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["score", str(tmp_path / "nowhere.pyz"), *folders]) == 2
    assert "there is no solution at" in capsys.readouterr().err
    archive = str(solution(tmp_path))
    (tmp_path / "truth" / "1.png").unlink()
    assert main(["score", archive, *folders]) == 2
    assert "holds 2 PNG files" in capsys.readouterr().err
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "truth" / "1.png")
    assert main(["score", archive, *folders]) == 2
    assert "is not 512 x 512" in capsys.readouterr().err
    assert main(["score", archive, *folders[:4], "--python", str(tmp_path / "python")]) == 2
    assert "Name a Python" in capsys.readouterr().err
