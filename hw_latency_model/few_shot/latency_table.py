"""Latency tables of users: a CSV file of networks and their latencies on several devices."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.cell_networks import CellNetwork, cell_pool
from hw_latency_model.few_shot.kernel_networks import kernel_pool
from hw_latency_model.few_shot.pool import NetworkPool
from hw_latency_model.kernels.candidate_kernels import CandidateKernels
from hw_latency_model.kernels.extract import kernels_from_onnx
from hw_latency_model.types import KernelSpec
from search_spaces import get_space
from search_spaces._common.errors import UserError
from search_spaces._common.names import nearest_name
from search_spaces.candidate import Candidate

Array = NDArray[np.float64]

ARCHITECTURE, ONNX, CANDIDATE = NETWORK_COLUMNS = ("arch_str", "onnx", "candidate")
"""Columns that name a network: a NAS-Bench-201 cell, an ONNX file (relative to the table's folder), a candidate as JSON."""
_GZIP_MAGIC = b"\x1f\x8b"
_FOREIGN_UNITS = {"_us": "microseconds", "_ns": "nanoseconds", "_s": "seconds", "_sec": "seconds"}
_GAP, _RANGE = 50.0, 300.0
"""Factor between neighbouring latencies of a device, and between its extremes, from which its column mixes units."""
_CLASSES = 19


@dataclass(frozen=True)
class LatencyTable:
    """Rows of a latency table.

    Attributes:
        path: file that it was read from, for messages.
        lines: field of each row by its column.
    """

    path: Path
    lines: tuple[dict[str, str], ...]

    @classmethod
    def read(cls, path: Path) -> LatencyTable:
        """Read a CSV file, gzipped or not.

        Raises:
            UserError: it cannot be read, has no rows, or a row has more or fewer fields than the header.
        """
        try:
            raw = path.read_bytes()
            text = (gzip.decompress(raw) if raw[:2] == _GZIP_MAGIC else raw).decode("utf-8-sig")
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read as CSV ({error}); give a CSV file, gzipped or not.") from error
        try:
            lines = list(csv.DictReader(io.StringIO(text, newline="")))
        except csv.Error as error:
            raise UserError(f"{path} cannot be read as CSV ({error}); give a CSV file, gzipped or not.") from error
        for number, line in enumerate(lines, 2):
            if None in line or None in line.values():
                raise UserError(f"row {number} of {path} has another number of fields than the header; correct it.")
        return cls(path, tuple(lines))

    @property
    def columns(self) -> list[str]:
        """Names of the columns; none of a table without rows."""
        return list(self.lines[0]) if self.lines else []

    @cached_property
    def kind(self) -> str:
        """Column that names the networks, one of ``NETWORK_COLUMNS``.

        Raises:
            UserError: there is none, or more than one.
        """
        found = [name for name in NETWORK_COLUMNS if name in self.columns]
        if len(found) != 1:
            raise UserError(
                f"{self.path} needs one column that names the networks: {ARCHITECTURE} (NAS-Bench-201 cells), {ONNX} (paths of files), "
                f"or {CANDIDATE} (JSON as in a bundle's manifest). It has {', '.join(self.columns) or 'no rows'}."
            )
        return found[0]

    @cached_property
    def networks(self) -> list[str]:
        """Text that names each network.

        Raises:
            UserError: fewer than two rows, a field is empty, or two rows name the same network.
        """
        names = [line[self.kind].strip() for line in self.lines]
        if len(names) < 2:
            raise UserError(f"{self.path} has {len(names)} row; a model needs several networks. Add rows.")
        first: dict[str, int] = {}
        for number, name in enumerate(names, 2):
            if not name:
                raise UserError(f"row {number} of {self.path} names no network in column {self.kind}; fill it in.")
            if name in first:
                raise UserError(
                    f"rows {first[name]} and {number} of {self.path} are the same network ({name[:60]}); keep one of them, with the "
                    "median of its latencies."
                )
            first[name] = number
        return names

    def numbers(self, name: str) -> Array:
        """Column of numbers, (n,), NaN where the field is empty.

        Raises:
            UserError: there is no such column, or a field is no number.
        """
        if name not in self.columns:
            near = nearest_name(name, self.columns, cutoff=0.4)
            hint = f"; did you mean {near!r}?" if near else "."
            raise UserError(f"{self.path} has no column {name}{hint} It has {', '.join(self.columns) or 'no rows'}.")
        values = np.full(len(self.lines), np.nan)
        for row, line in enumerate(self.lines):
            text = line[name].strip()
            try:
                values[row] = float(text) if text else math.nan
            except ValueError as error:
                raise UserError(
                    f"column {name} of {self.path} holds something that is no number: {text!r} in row {row + 2}."
                ) from error
        return values

    def latencies(self, name: str) -> Array:
        """Column of latencies (n,) in ms, NaN where the field is empty.

        Raises:
            UserError: as `numbers`; a latency is not finite and above 0; or the column is of another unit, or mixes units.
        """
        values = self.numbers(name)
        unit = next((unit for end, unit in _FOREIGN_UNITS.items() if name.lower().endswith(end)), None)
        if unit is not None:
            raise UserError(
                f"column {name} of {self.path} is in {unit}, by its name; give milliseconds, and rename it."
            )
        for row, line in enumerate(self.lines):
            if line[name].strip() and not (math.isfinite(values[row]) and values[row] > 0.0):
                raise UserError(
                    f"column {name} of {self.path} holds {line[name].strip()} in row {row + 2}, which is no latency in ms. Leave the field "
                    "empty where a network was not measured."
                )
        self._require_one_unit(name, values)
        return values

    def _require_one_unit(self, name: str, values: Array) -> None:
        rows = np.flatnonzero(np.isfinite(values))
        if len(rows) < 2:
            return
        rows = rows[np.argsort(values[rows])]
        ratios = values[rows[1:]] / values[rows[:-1]]
        at = int(np.argmax(ratios))
        if ratios[at] < _GAP or values[rows[-1]] / values[rows[0]] < _RANGE:
            return
        below, above = rows[at], rows[at + 1]
        raise UserError(
            f"column {name} of {self.path} seems to mix units: {values[below]:g} ms (row {below + 2}) and {values[above]:g} ms (row "
            f"{above + 2}), and nothing between. Give all latencies of a device in milliseconds, or leave one of the groups out."
        )

    def pool(
        self, sources_ms: Array | None = None, rows: Sequence[int] | NDArray[np.intp] | None = None
    ) -> NetworkPool:
        """Build the pool of these rows, or of all, for few-shot models.

        Args:
            sources_ms: latencies (rows, m) in ms on other devices, NaN where unknown.

        Raises:
            UserError: a network cannot be read.
        """
        names = self.networks if rows is None else [self.networks[row] for row in rows]
        if self.kind == ARCHITECTURE:
            return cell_pool([CellNetwork.parse(name) for name in names], sources_ms)
        read = _kernels_of_candidates if self.kind == CANDIDATE else self._kernels_of_files
        return kernel_pool(read(names), sources_ms)

    def _kernels_of_files(self, names: Sequence[str]) -> list[Sequence[KernelSpec]]:
        found: list[Sequence[KernelSpec]] = []
        for name in names:
            path = self.path.parent / name
            if not path.is_file():
                raise UserError(
                    f"there is no ONNX file at {path}, which {self.path} names. Paths are relative to its folder."
                )
            found.append(kernels_from_onnx(path))
        return found


def _kernels_of_candidates(names: Sequence[str]) -> list[Sequence[KernelSpec]]:
    kernels: dict[str, CandidateKernels] = {}
    found: list[Sequence[KernelSpec]] = []
    for name in names:
        try:
            candidate = Candidate.from_dict(json.loads(name))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{name[:60]!r} is no candidate: give the object `candidate` of a bundle's manifest as JSON."
            ) from error
        if candidate.space not in kernels:
            kernels[candidate.space] = CandidateKernels(get_space(candidate.space, {}), _CLASSES)
        found.append(kernels[candidate.space](candidate))
    return found
