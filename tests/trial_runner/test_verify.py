"""`paretoseg verify` on a bundle of an earlier release and on one of this."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from exports import add_measurement
from trial_runner.cli.main import main


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that an earlier release wrote, with synthetic data: its manifest has no checksum."""
    shutil.unpack_archive(Path(__file__).parents[1] / "golden" / "fixtures" / "bundle.zip", tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_bundle_of_an_earlier_release_is_verified_and_run(bundle: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["verify", str(bundle), "--run", "--images", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] >= 5 and not found["manifest_covered"]
    assert found["parity"]["passed"] and found["parity"]["images"] == 3
    assert main(["verify", str(bundle)]) == 0
    assert "the manifest of this release has no checksum of its own" in capsys.readouterr().out


def test_a_flipped_byte_in_any_file_is_found(bundle: Path, capsys: pytest.CaptureFixture[str]):
    add_measurement(bundle, {"device": "local-cpu", "latency_ms_p50": 3.4})  # writes the checksums, too
    assert main(["verify", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest_covered"]
    for path in sorted(bundle.iterdir()):
        kept = path.read_bytes()
        for at in (0, len(kept) // 2, len(kept) - 1):
            path.write_bytes(kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :])
            assert main(["verify", str(bundle)]) == 2, f"byte {at} of {path.name}"
        path.write_bytes(kept)
    assert main(["verify", str(bundle)]) == 0


def test_a_network_that_disagrees_with_torch_ends_with_status_1(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import trial_runner.verify
    from exports import check_parity

    monkeypatch.setattr(trial_runner.verify, "check_parity", lambda *given: check_parity(*given, tolerance=0.0))
    assert main(["verify", str(bundle), "--run", "--images", "1"]) == 1
    assert "logits differ by" in capsys.readouterr().out
