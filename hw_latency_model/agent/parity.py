"""Given images through an engine: the images file of a job, and the file of logits that is carried back."""

import array
import json
import os
from pathlib import Path
from typing import Any, List, NamedTuple

from .errors import JobError
from .files import Json, file_sha256

OUTPUTS = "outputs"
"""Folder beside the results file."""
_MOST_HEADER = 4096


class ImagesFile(NamedTuple):
    """Images of one network: a line of JSON, 3 x 256 float32 (network input by channel and pixel value), then the pixels.

    Attributes:
        path: the file.
        images: number of images.
        plane: pixels of one channel of an image; an image is three planes of bytes, R, G and B.
        table: network input by pixel value, 3 channels of 256.
        start: offset of the first pixel.
    """

    path: Path
    images: int
    plane: int
    table: List[float]
    start: int

    def network_input(self, index: int) -> bytes:
        """Return the normalised image ``index``, float32 (3, height, width)."""
        with self.path.open("rb") as stream:
            stream.seek(self.start + 3 * self.plane * index)
            pixels = stream.read(3 * self.plane)
        values = array.array("f")
        for channel in range(3):
            table = self.table[256 * channel : 256 * channel + 256]
            values.extend(map(table.__getitem__, bytearray(pixels[self.plane * channel : self.plane * (channel + 1)])))
        return values.tobytes()


def read_images_file(path: Path) -> ImagesFile:
    """Open an images file.

    Raises:
        JobError: it is damaged.
    """
    try:
        with path.open("rb") as stream:
            line = stream.readline(_MOST_HEADER)
            head = json.loads(line.decode("ascii"))
            table = array.array("f")
            table.frombytes(stream.read(4 * 3 * 256))
        count, height, width = (int(head[name]) for name in ("count", "height_px", "width_px"))
        start = len(line) + 4 * 3 * 256
        if len(table) != 3 * 256 or path.stat().st_size != start + 3 * count * height * width:
            raise ValueError("it has another size")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError("the images file {} is damaged: {}".format(path.name, error), retry=True) from error
    return ImagesFile(path, count, height * width, table.tolist(), start)


def write_outputs(runner: Any, images: ImagesFile, target: Path) -> Json:
    """Run every image and write the logits, float32 one after the other; return the file's facts.

    Raises:
        JobError: the runtime cannot run given images, or the network has other inputs.
        OSError: the file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(".{}.part".format(target.name))
    try:
        with temporary.open("wb") as stream:
            for index in range(images.images):
                stream.write(runner.run(images.network_input(index))[0])
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(target)
    finally:
        if temporary.exists():
            temporary.unlink()
    name = "{}/{}".format(OUTPUTS, target.name)
    return {"file": name, "sha256": file_sha256(target), "images": images.images, "bytes": target.stat().st_size}
