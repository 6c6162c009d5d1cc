"""Files of somebody else: read up to a size, or refused in a sentence before they fill the memory."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch

from search_spaces._common.errors import UserError
from search_spaces._common.untrusted import check_archive, load_torch, parse_json, read_bounded
from search_spaces.pretrained import read_state_dict


def test_a_file_is_read_up_to_its_bound_and_a_pipe_never(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x" * 1_000_000)
    assert len(read_bounded(tmp_path / "small", "a thing", 1)) == 1_000_000
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(UserError, match="1000000 MB, more than a thing ever has"):
        read_bounded(tmp_path / "sparse", "a thing", 1)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UserError, match="regular file"):
            read_bounded(path, "a thing", 1)


@pytest.mark.parametrize(
    "text",
    [
        "9" * 400,
        str(2**63),
        "1e999",
        "NaN",
        "-Infinity",
        '"\\ud800"',
        '{"\\udfff": 1}',
        "[" * 100_000,
        "{",
        b"\xff",
        "",
    ],
)
def test_json_that_a_later_step_could_not_hold_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_json_of_ours_is_read_as_before() -> None:
    assert parse_json('{"a": [1, -2.5e-3, true, null, "\\ud83d\\ude00", 9223372036854775807]}') == {
        "a": [1, -0.0025, True, None, "\U0001f600", 2**63 - 1]
    }


def test_weights_that_unpack_to_more_than_their_file_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(4_000_000)}, tmp_path / "net.pt")
    check_archive(tmp_path / "net.pt")
    assert list(read_state_dict(tmp_path / "net.pt")) == ["weight"]
    with (
        zipfile.ZipFile(tmp_path / "net.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(UserError, match="unpacks to 16 MB"):
        read_state_dict(tmp_path / "bomb.pt")


def test_tensors_that_stand_for_more_than_their_file_are_refused(tmp_path: Path) -> None:
    tied = torch.zeros(1_000_000)
    torch.save(
        {"state_dict": {"weight": tied, "again": tied.view(1000, 1000), "row": tied[:1000]}}, tmp_path / "net.pt"
    )
    assert set(load_torch(tmp_path / "net.pt")["state_dict"]) == {"weight", "again", "row"}
    wide: object = torch.zeros(1).expand(10**12)
    for _ in range(60):  # references to references: few bytes, and 2^60 ways to the tensor
        wide = [wide, wide]
    torch.save({"weight": wide}, tmp_path / "net.pt")
    with pytest.raises(UserError, match=r"repeats its values to 4e\+06 MB"):
        load_torch(tmp_path / "net.pt")


def test_weights_larger_than_weights_are_refused_unread(tmp_path: Path) -> None:
    for name in ("net.pt", "net.safetensors"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(10**12)
        with pytest.raises(UserError, match="1000000 MB, more than a file of weights ever has"):
            read_state_dict(tmp_path / name)
