"""Write the fixtures of the golden tests with the code of this checkout.

    OMP_NUM_THREADS=1 PYTHONPATH=. python tests/golden/make.py [PART ...]

The fixtures were written by commit b8deb69, before the modules moved. They are not to be written anew because a test fails:
the tests say that newer code still reads, and prints, what that commit wrote. Write a part anew only where its form is meant
to change, and say so in CHANGELOG.md. Parts, all by default, in this order: help, configs, identities, study, board, answers.
`study` calibrates this machine and trains a few tiny networks (about two minutes).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_answers
import torch
import yaml
from golden_internals import dump_config, load_config, study_records, training_fingerprints, trial_checkpoint
from golden_kit import (
    ENVIRONMENT,
    FIXTURES,
    PARSERS,
    ROOT,
    console_script,
    copied,
    environment,
    help_file,
    help_text,
    paretoseg,
    scrubbed,
    shape,
    store,
)

from exports import PROFILES, read_bundle
from hw_latency_model import CandidateKernels, LatencyModel, load_device
from search_spaces import SPACES, get_space, open_space

OTHER = {
    "encoder_decoder": {"family": "lcnet", "decoder": "lraspp", "width": 0.25, "prune_ratio": 0.5},
    "mobile_stages": {"stage2_kernel": 5, "stage3_depth": 1, "activation": "hard_swish", "stage1_se": True},
    "references": {"family": "ddrnet23_slim"},
}


def make_help() -> None:
    """help/*.txt"""
    for words in PARSERS:
        help_file(words).parent.mkdir(parents=True, exist_ok=True)
        help_file(words).write_text(help_text(words))


def make_configs() -> None:
    """studies.json, devices.json"""
    folder = ROOT / "configs"
    with environment(**ENVIRONMENT):
        studies = {path.name: dump_config(load_config(path)) for path in sorted(folder.glob("*.yaml"))}
        devices = {path.name: load_device(path) for path in sorted((folder / "devices").glob("*.yaml"))}
    store("studies.json", {name: scrubbed(yaml.safe_load(text), ROOT) for name, text in studies.items()})
    store("devices.json", {name: scrubbed(item.model_dump(mode="json"), ROOT) for name, item in devices.items()})


def make_identities() -> None:
    """candidates.json, fingerprints.json, profiles.json"""
    found = {}
    for name in SPACES:
        space = get_space(name)
        params = {**space.default().params, "learning_rate": 0.005, "resolution": "96x128", **OTHER[name]}
        other = space.candidate(params)
        net = space.build_pruned(other, 5)
        network = {
            "architecture_id": space.architecture_id(other),
            "operations_id": space.operations_id(other),
            "input_hw": list(space.input_hw(other)),
            "prune_ratio": space.prune_ratio(other),
            "hyperparameters": space.hyperparameters(other),
            "parameters": sum(item.numel() for item in net.parameters()),
            "weights": sorted(net.state_dict()),
        }
        found[name] = {"default": space.default().to_dict(), "other": other.to_dict(), "network": network}
    store("candidates.json", found)
    store("fingerprints.json", training_fingerprints(FIXTURES / "fingerprint_study.yaml"))
    profiles = PROFILES.items()
    store("profiles.json", {key: {"runtime": p.runtime, "precisions": list(p.precisions)} for key, p in profiles})


def make_study(work: Path) -> None:
    """study/study.db, bundle.zip, latency/, resumable/: a study run to its end, and one that was stopped in the middle."""
    place = copied("study", work / "study")
    (place / "study.db").unlink(missing_ok=True)
    yaml_file, model = place / "study.yaml", place / "model"
    run("calibrate", "--minutes", 0.3, yaml_file)
    calibrated = Path(shutil.copytree(model, work / "calibrated"))
    wanted = {"finished", "stopped", "refused", "reused"}
    for seed in range(3, 12):
        for folder in (place / "out", model):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(calibrated, model)
        (place / "study.db").unlink(missing_ok=True)
        text = re.sub(r"budget_ms: [0-9.]+", f"budget_ms: {budget(yaml_file):.4g}", yaml_file.read_text())
        yaml_file.write_text("".join(f"{line}\n" for line in _seeded(text.splitlines(), seed)))
        run("launch", yaml_file)
        records = study_records(yaml_file)
        if wanted <= {item["outcome"] for item in records} and any(item["continues"] is not None for item in records):
            break
    else:
        raise SystemExit("no seed gave a study with every outcome; run it again")
    target = FIXTURES / "study"
    shutil.copyfile(yaml_file, target / "study.yaml")
    settle(place / "study.db", target / "study.db", place)
    (FIXTURES / "latency").mkdir(exist_ok=True)
    for name in ("latency_model.json", "measurements.sqlite"):
        shutil.copyfile(model / name, FIXTURES / "latency" / name)
    thinnest = min((place / "out" / "bundles").iterdir(), key=lambda folder: (folder / "model.onnx").stat().st_size)
    keep_bundle(thinnest, FIXTURES / "bundle.zip", place)
    make_resumable(work)


def make_resumable(work: Path) -> None:
    """resumable/: a study whose launch was ended by SIGTERM in the third epoch of five of its first trial."""
    place = copied("resumable", work / "resumable")
    (place / "study.db").unlink(missing_ok=True)
    shutil.rmtree(place / "out", ignore_errors=True)
    yaml_file = place / "study.yaml"
    command = [*console_script(), "launch", str(yaml_file)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    while process.poll() is None and epochs_stored(place / "study.db") < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    (record,) = study_records(yaml_file)
    assert record["state"] == "WAITING" and 2 <= len(record["curve"]) < 5, record
    checkpoint = trial_checkpoint(yaml_file, 0)
    content = torch.load(checkpoint, weights_only=True)
    content["train_s"] = golden_answers.EARLIER_TRAIN_S  # tells a resumed training from one that started anew
    kept = FIXTURES / "resumable" / checkpoint.relative_to(place)
    kept.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, kept)
    settle(place / "study.db", FIXTURES / "resumable" / "study.db", place)


def make_board(work: Path) -> None:
    """board/: what the host keeps of a calibration by stick, its job list, and what the agent wrote."""
    place, target = work / "board", FIXTURES / "board"
    place.mkdir()
    shutil.copyfile(target / "device.yaml", place / "device.yaml")
    run("calibrate", place / "device.yaml")
    kit = place / "out" / "kit-0001"
    subprocess.run(["sh", kit / "run.sh"], env={**os.environ, "PYTHON": sys.executable}, check=True)
    (target / "out" / "session").mkdir(parents=True, exist_ok=True)
    for path in (place / "out" / "session").glob("*.json"):
        shutil.copyfile(path, target / "out" / "session" / path.name)
    shutil.copyfile(kit / "jobs.json", target / "jobs.json")
    lines = [anonymous(json.loads(line)) for line in (kit / "results.jsonl").read_text().splitlines()]
    (target / "results.jsonl").write_text("".join(line + "\n" for line in lines))


def make_answers(work: Path) -> None:
    """answers/*.json: what the code makes of all these."""
    for name in ("study", "bundle", "predictions", "measurements", "latency_report", "board_results", "board_kit"):
        (work / name).mkdir()
        answer = getattr(golden_answers, name)(work / name)
        store(f"answers/{name}.json", shape(answer) if name == "latency_report" else answer)
    (work / "launched").mkdir()
    store("answers/launched.json", golden_answers.launched(work / "launched"))
    databases = {name: FIXTURES / name / "study.db" for name in ("study", "resumable")}
    store("answers/words.json", {name: golden_answers.words(path) for name, path in databases.items()})
    store("answers/attributes.json", {name: golden_answers.attribute_shapes(path) for name, path in databases.items()})
    place = copied("study", work / "refit")
    number = min(item["number"] for item in study_records(place / "study.yaml") if item["outcome"] == "finished")
    refit = paretoseg("refit", place / "study.yaml", "--trial", number, "--seeds", 2, "--epochs", 1, "--json")
    networks = [Path(path).relative_to(place).as_posix() for path in refit.json["networks"]]
    store("answers/refit.json", {"trial": number, "shape": shape(refit.json), "networks": networks})


def run(*arguments: object) -> None:
    """A command of `paretoseg`, which must succeed."""
    done = paretoseg(*arguments)
    print(done.out)
    if done.status:
        raise SystemExit(done.err)


def budget(yaml_file: Path) -> float:
    """A latency budget that refuses the slowest network of the study's space, and no other."""
    config = load_config(yaml_file)
    space = open_space(config.space)
    model, kernels = LatencyModel.load(config.device.latency_model), CandidateKernels(space, 14)
    params = [
        {"family": family, "width": width, "prune_ratio": ratio}
        for family in config.space.families or ()
        for width in (0.25, 0.5, 0.75)
        for ratio in (0.0, 0.5)
    ]
    candidates = [space.candidate({**space.default().params, **item}) for item in params]
    lows = sorted(model.predict(kernels(candidate)).low_ms for candidate in candidates)
    return (lows[-1] + lows[-2]) / 2


def epochs_stored(database: Path) -> int:
    """Readings of the first trial in a database that may not be there yet."""
    if not database.is_file():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            return int(connection.execute("SELECT COUNT(*) FROM trial_intermediate_values").fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # its tables are not made yet, or it is being written to


def settle(source: Path, target: Path, place: Path) -> None:
    """Copy a study's database without the paths and the name of this machine, as small as it gets."""
    shutil.copyfile(source, target)
    with sqlite3.connect(target) as connection:
        for table in golden_answers.ATTRIBUTES:
            connection.execute(f"UPDATE {table} SET value_json = replace(value_json, ?, '/golden')", (str(place),))
        lease = {"host": "golden", "pid": 1, "started": "1", "until": 0.0}
        connection.execute("UPDATE study_user_attributes SET value_json = ? WHERE key = 'driver'", (json.dumps(lease),))
    connection.execute("VACUUM")
    connection.close()


def keep_bundle(source: Path, target: Path, place: Path) -> None:
    """Pack a bundle, without the paths of this machine, which its study.yaml names. Packed, no formatter changes its files."""
    study = source / "study.yaml"
    study.write_text(study.read_text().replace(str(place), "/golden"))
    manifest = json.loads((source / "manifest.json").read_text().replace(str(place), "/golden"))
    content = study.read_bytes()
    manifest["files"]["study.yaml"] = {"sha256": golden_answers.sha256(content), "bytes": len(content)}
    (source / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    read_bundle(source)
    shutil.make_archive(str(target.with_suffix("")), "zip", source)


def anonymous(record: dict[str, Any]) -> str:
    """A line of the agent without what names this machine, with its checksum set right."""
    for key in ("boot_id", "kernel"):
        if key in record:
            record[key] = "golden"
    content = {key: value for key, value in record.items() if key != "crc"}
    crc = zlib.crc32(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()) & 0xFFFFFFFF
    return json.dumps({**content, "crc": crc}, sort_keys=True, separators=(",", ":"))


def _seeded(lines: list[str], seed: int) -> list[str]:
    head = 'study: {name: golden, storage: "sqlite:///study.db", output_dir: out, seed: '
    return [f"{head}{seed}}}" if line.startswith("study:") else line for line in lines]


PARTS: dict[str, Callable[[Path], None]] = {
    "help": lambda work: make_help(),
    "configs": lambda work: make_configs(),
    "identities": lambda work: make_identities(),
    "study": make_study,
    "board": make_board,
    "answers": make_answers,
}


def main() -> None:
    for name in sys.argv[1:] or PARTS:
        print(f"writing {name}")
        with tempfile.TemporaryDirectory() as work:
            PARTS[name](Path(work).resolve())


if __name__ == "__main__":
    main()
