"""Results file: JSON lines with a checksum each, appended and flushed to disk one by one."""

import binascii
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

from .errors import StopEarly, is_disk_full
from .files import Json


def _canonical(record: Json) -> bytes:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def encode_line(record: Json) -> bytes:
    """Encode a record as one line, newline included, with the CRC-32 of its canonical JSON under ``crc``."""
    body = {key: value for key, value in record.items() if key != "crc"}
    return _canonical(dict(body, crc=binascii.crc32(_canonical(body)) & 0xFFFFFFFF)) + b"\n"


def decode_line(line: Union[bytes, str]) -> Optional[Json]:
    """Decode one line; None for a truncated, damaged or foreign line."""
    try:
        record = json.loads(line.decode("utf-8") if isinstance(line, bytes) else line)
        if not isinstance(record, dict) or not isinstance(record.get("type"), str):
            return None
        crc = record.pop("crc", None)
        return record if crc == binascii.crc32(_canonical(record)) & 0xFFFFFFFF else None
    except (ValueError, RecursionError):
        return None


def read_results(path: Union[str, Path]) -> Tuple[List[Json], int]:
    """Read a results file: its valid records, in order, and the number of damaged lines skipped."""
    records: List[Json] = []
    damaged = 0
    try:
        content = Path(str(path)).read_bytes()
    except FileNotFoundError:
        return [], 0
    for line in content.split(b"\n"):
        if line.strip():
            record = decode_line(line)
            if record is None:
                damaged += 1
            else:
                records.append(record)
    return records, damaged


class ResultsFile:
    """Append-only ``results.jsonl``. Opening it removes an incomplete last line, left by a power cut or a full disk.

    Attributes:
        repaired: an incomplete last line was removed.
        records: valid records, in order.
        damaged: number of damaged lines.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repaired = self._repair_tail()
        self.records, self.damaged = read_results(path)

    def _repair_tail(self) -> bool:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return False
        if not content or content.endswith(b"\n"):
            return False
        start = content.rfind(b"\n") + 1
        with self.path.open("r+b") as stream:
            if decode_line(content[start:]) is not None:
                stream.seek(0, os.SEEK_END)
                stream.write(b"\n")
            else:
                stream.truncate(start)
            os.fsync(stream.fileno())
        return True

    def append(self, record: Json) -> None:
        """Write one record and flush it to disk; on a full disk the partial line is removed.

        Raises:
            StopEarly: the disk is full.
        """
        line = encode_line(record)
        handle = os.open(str(self.path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        length = os.fstat(handle).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(handle, line[written:])
            os.fsync(handle)
        except OSError as error:
            os.ftruncate(handle, length)
            if is_disk_full(error):
                raise StopEarly(f"disk full: {self.path} cannot take another line") from error
            raise
        finally:
            os.close(handle)
        self.records.append(json.loads(line.decode("ascii")))

    def finished(self, retry_failures: bool) -> Dict[Tuple[Any, ...], str]:
        """Return the kind of result (``measurement`` or ``failure``) by job: (id, sha256, precision, power profile).

        Args:
            retry_failures: treat failed jobs as unfinished.
        """
        done: Dict[Tuple[Any, ...], str] = {}
        for record in self.records:
            kind = record["type"]
            if kind == "measurement" or (kind == "failure" and not (record.get("retry") or retry_failures)):
                names = ("job_id", "sha256", "precision", "power_profile")
                done[tuple(record.get(name) for name in names)] = kind
        return done
