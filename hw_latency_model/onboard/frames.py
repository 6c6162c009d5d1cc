"""Sources of images for `run.py`: a folder, or a camera by OpenCV."""

import importlib
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import numpy as np

from hw_latency_model.agent.errors import JobError

from .images import image_files, read_rgb

_NO_OPENCV = (
    "--camera needs OpenCV, which is not installed ({}); run `sudo apt-get install python3-opencv`, or give --images"
)


class Folder(object):
    """Images of a folder, by name.

    Args:
        folder: the folder.

    Raises:
        JobError: there is no such folder, or no image in it.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = image_files(folder)

    def first(self) -> Any:
        """Return the first image, uint8 (H, W, 3), RGB."""
        return read_rgb(self._paths[0])

    def __iter__(self) -> Iterator[Tuple[str, Any]]:
        """Yield the name of each image's mask without suffix, and the image, uint8 (H, W, 3), RGB."""
        for path, name in zip(self._paths, mask_names(self._paths)):
            yield name, read_rgb(path)


class Camera(object):
    """Frames of a camera, a video or a GStreamer pipeline.

    Args:
        source: number of a camera, address or file of a video, or a pipeline, which holds a "!" and ends in appsink.
        frames: number of frames; Ctrl-C ends earlier.

    Raises:
        JobError: OpenCV is not installed, or does not open the source.
    """

    def __init__(self, source: str, frames: int) -> None:
        try:
            opencv = importlib.import_module("cv2")
        except ImportError as error:
            raise JobError(_NO_OPENCV.format(error))
        if frames < 1:
            raise JobError("--frames is {}; give a number above 0".format(frames))
        self._source, self._frames = source, frames
        if source.isdigit():
            self._capture = opencv.VideoCapture(int(source))
        elif "!" in source:
            self._capture = opencv.VideoCapture(source, opencv.CAP_GSTREAMER)
        else:
            self._capture = opencv.VideoCapture(source)
        if not self._capture.isOpened():
            raise JobError(
                "OpenCV does not open the camera {}; give its number (ls /dev/video*), a video, or a GStreamer pipeline that "
                "ends in appsink, for which OpenCV is built with GStreamer on Jetson boards".format(source)
            )

    def first(self) -> Any:
        """Return a frame, uint8 (H, W, 3), RGB.

        Raises:
            JobError: the camera gives none.
        """
        frame = self._read()
        if frame is None:
            raise JobError("the camera {} gives no image; see whether another program uses it".format(self._source))
        return frame

    def __iter__(self) -> Iterator[Tuple[str, Any]]:
        """Yield the name of each frame's mask, and the frame, uint8 (H, W, 3), RGB, until the video or the number of frames ends."""
        try:
            for number in range(self._frames):
                frame = self._read()
                if frame is None:
                    return
                yield "frame-{:06d}".format(number), frame
        finally:
            self._capture.release()

    def _read(self) -> Any:
        there, frame = self._capture.read()
        return np.ascontiguousarray(frame[:, :, ::-1]) if there else None


def mask_names(paths: List[Path]) -> List[str]:
    """Return the names of the masks without suffix: the image's stem, or its whole name where two images share a stem."""
    stems = [path.stem for path in paths]
    return [path.name if stems.count(path.stem) > 1 else path.stem for path in paths]
