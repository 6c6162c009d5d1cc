"""Files of one calibration of one board: planned batches and received results. They survive a crash of the process.

In ``<output_dir>/session/``: ``session.json`` (its name, device, precision), ``batch-0001.json`` (the jobs with their kernels),
``kit-0001/`` (the kit of the batch), ``results-board-0001.jsonl`` (the part of the board's file read so far: its size is the
offset of the next read), ``results-carried.jsonl`` (lines transferred offline).
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_latency_model.board.results import BoardResults, KnownJob, read_results
from hw_latency_model.types import JobKind, KernelSpec
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path, write_error, write_json
from search_spaces._common.untrusted import read_bounded

FORMAT = "paretoseg board session"
VERSION = 1
_MOST_RESULTS_MB = 512


@dataclass(frozen=True)
class Batch:
    """Jobs sent together.

    Attributes:
        number: number of the batch, from 1.
        jobs: jobs in order of measurement.
        seconds: planned seconds of each job.
    """

    number: int
    jobs: tuple[KnownJob, ...]
    seconds: tuple[float, ...]


class BoardSession:
    """Files of one calibration; created if missing.

    Args:
        folder: folder of the files.
        device, precision: device and precision of the measurements.

    Raises:
        UserError: the folder belongs to another device or precision, or cannot be read or written.
    """

    def __init__(self, folder: Path, *, device: str, precision: str) -> None:
        self.folder, self.device, self.precision = folder, device, precision
        path = folder / "session.json"
        if not path.is_file():
            facts = {"format": FORMAT, "version": VERSION, "device": device, "precision": precision}
            write_json(path, {**facts, "id": f"{device}-{precision}-{secrets.token_hex(4)}"})
        value = _read_json(path)
        if value.get("format") != FORMAT or value.get("version") != VERSION:
            raise _damaged(path, "it is not one, or of another version")
        if (value.get("device"), value.get("precision")) != (device, precision):
            raise UserError(
                f"{folder} holds the calibration of {value.get('device')} in {value.get('precision')}, not of {device} in "
                f"{precision}. Give this one another calibration.output_dir."
            )
        self.id = str(value["id"])

    @property
    def batches(self) -> list[Batch]:
        """All batches, oldest first."""
        return [_batch(path) for path in sorted(self.folder.glob("batch-*.json"))]

    def jobs(self) -> dict[str, KnownJob]:
        """Every planned job by id."""
        return {job.id: job for batch in self.batches for job in batch.jobs}

    def add_batch(self, jobs: Sequence[KnownJob], seconds: Sequence[float]) -> Batch:
        """Store a batch before it is sent. Its kit must be in ``kit_folder`` already."""
        number = self.next_number
        rows = [
            {
                "id": job.id,
                "subject": job.subject,
                "sha256": job.sha256,
                "kind": job.kind,
                "family": job.family,
                "kernels": [{**kernel.to_dict(), "nodes": list(kernel.nodes)} for kernel in job.kernels],
                "seconds": planned,
            }
            for job, planned in zip(jobs, seconds, strict=True)
        ]
        write_json(self.folder / f"batch-{number:04d}.json", {"jobs": rows})
        return Batch(number, tuple(jobs), tuple(seconds))

    @property
    def next_number(self) -> int:
        """Number of the next batch."""
        return len(list(self.folder.glob("batch-*.json"))) + 1

    def kit_folder(self, number: int) -> Path:
        """Kit folder of batch ``number``."""
        return self.folder / f"kit-{number:04d}"

    def drop_kits(self) -> None:
        """Delete the kits; the batches describe their networks."""
        for path in self.folder.glob("kit-*"):
            shutil.rmtree(path, ignore_errors=True)

    @property
    def offset(self) -> int:
        """Number of bytes of the board's results file already received."""
        mirror = self._mirror()
        return mirror.stat().st_size if mirror.is_file() else 0

    def append(self, data: bytes) -> None:
        """Append the next complete lines of the board's results file; the agent removes a truncated last line.

        Raises:
            UserError: they cannot be written; they remain on the board.
        """
        whole = data[: data.rfind(b"\n") + 1]
        if whole:
            self._append(self._mirror(), whole)

    def start_over(self) -> None:
        """Start a new results file because the board's was replaced; results from the old one are kept."""
        count = len(list(self.folder.glob("results-board-*.jsonl")))
        self._append(self.folder / f"results-board-{count + 1:04d}.jsonl", b"")

    def import_results(self, files: Iterable[Path]) -> None:
        """Import results transferred offline; duplicate lines are stored once.

        Raises:
            UserError: a file cannot be read.
        """
        target = self.folder / "results-carried.jsonl"
        for path in files:
            try:
                data = read_bounded(path, "a results file", _MOST_RESULTS_MB)
            except OSError as error:
                raise UserError(f"cannot read {path}: {error.strerror}. Copy it from the USB drive again.") from error
            old = target.read_bytes() if target.is_file() else b""
            if data and not _contains(old, data):
                # Whole files in order: each run's ``board`` record precedes its measurements.
                self._append(target, data if data.endswith(b"\n") else data + b"\n")

    def outputs_path(self, name: str) -> Path:
        """Place here of a file that lies beside the board's results, such as ``outputs/b0001-001.f32``."""
        return self.folder / name

    def import_outputs(self, files: Iterable[Path], names: Iterable[str]) -> None:
        """Copy files that were carried beside results files; those that are missing stay missing.

        Raises:
            UserError: a file cannot be copied.
        """
        wanted = list(names)
        for path in files:
            for name in wanted:
                source, target = path.parent / name, self.outputs_path(name)
                if source.is_file():
                    with atomic_path(target) as temporary:
                        shutil.copyfile(source, temporary)

    def results(self) -> BoardResults:
        """Parse the results of all files received so far."""
        data = b""
        for path in sorted(self.folder.glob("results-*.jsonl")):
            text = path.read_bytes()
            data += text if not text or text.endswith(b"\n") else text + b"\n"
        return read_results(data, self.jobs(), device=self.device, precision=self.precision)

    def open_batch(self, results: BoardResults) -> Batch | None:
        """Return the last batch if some of its jobs have neither a measurement nor a failure."""
        batches = self.batches
        if batches and any(job.id not in results.done for job in batches[-1].jobs):
            return batches[-1]
        return None

    def _mirror(self) -> Path:
        found = sorted(self.folder.glob("results-board-*.jsonl"))
        return found[-1] if found else self.folder / "results-board-0001.jsonl"

    def _append(self, path: Path, data: bytes) -> None:
        try:
            with path.open("ab") as file:
                file.write(data)
        except OSError as error:
            raise write_error(path, error) from error


def _contains(old: bytes, new: bytes) -> bool:
    lines = set(old.split(b"\n"))
    return all(line in lines for line in new.split(b"\n"))


def _batch(path: Path) -> Batch:
    try:
        rows = _read_json(path)["jobs"]
        jobs = tuple(
            KnownJob(
                id=row["id"],
                subject=row["subject"],
                sha256=row["sha256"],
                kind=JobKind(row["kind"]),
                kernels=tuple(KernelSpec.from_dict(kernel) for kernel in row["kernels"]),
                family=row["family"],
            )
            for row in rows
        )
        return Batch(int(path.stem.split("-")[1]), jobs, tuple(float(row["seconds"]) for row in rows))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(value, dict):
        raise _damaged(path, "it is no object")
    return value


def _damaged(path: Path, cause: str) -> UserError:
    return UserError(
        f"{path} is damaged ({cause}). Move the folder {path.parent} away and calibrate again: what was measured is in the store."
    )
