"""Weight precision of an ONNX file, read without the onnx package."""

from pathlib import Path
from typing import Dict, Iterable, Optional, Tuple, Union

from .errors import JobError

_ONNX_PRECISION = {1: "fp32", 2: "int8", 3: "int8", 10: "fp16", 16: "bf16"}
_TYPE_BYTES = {1: 4, 2: 1, 3: 1, 10: 2, 16: 2}


def onnx_precision(path: Path) -> Optional[str]:
    """Return the precision of most weights; None for a file without weights or one that cannot be parsed.

    Runtimes that execute the stored precision (ONNX Runtime, TensorRT 11) measure this one, regardless of the job's.
    """
    counts: Dict[str, int] = {}
    try:
        for field, graph in _fields(path.read_bytes()):
            if field == 7 and isinstance(graph, bytes):
                for inner, tensor in _fields(graph):
                    if inner == 5 and isinstance(tensor, bytes):
                        _count_weights(tensor, counts)
    except (OSError, ValueError, IndexError, MemoryError):
        return None
    return max(counts, key=lambda name: counts[name]) if counts else None


def _count_weights(tensor: bytes, counts: Dict[str, int]) -> None:
    values = list(_fields(tensor))
    data_type = next((value for field, value in values if field == 2 and isinstance(value, int)), 0)
    name = _ONNX_PRECISION.get(data_type)
    if name:
        size = sum(len(value) for field, value in values if isinstance(value, bytes) and field in (4, 9))
        counts[name] = counts.get(name, 0) + max(1, size // _TYPE_BYTES[data_type])


def _fields(message: bytes) -> Iterable[Tuple[int, Union[int, bytes]]]:
    """Iterate over (number, value) of the fields of a protobuf message.

    Raises:
        ValueError, IndexError: the bytes are not a protobuf message.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            number, at = _varint(message, at)
            yield key >> 3, number
        elif wire == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("the message ends too early")
            yield key >> 3, message[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("this is no protobuf message")


def _varint(message: bytes, at: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("this is no protobuf message")


def check_precision(path: Path, asked: str, runtime: str) -> None:
    """Check the stored precision, for runtimes that execute it unchanged.

    Args:
        path: ONNX file.
        asked: precision of the job.
        runtime: name for the error message.

    Raises:
        JobError: the weights have another precision than the job.
    """
    stored = onnx_precision(path)
    if stored is not None and stored != asked:
        raise JobError(
            f"{runtime} runs a file in its own precision, which is {stored}, and the job asks for {asked}: "
            f"export it in {asked}"
        )
