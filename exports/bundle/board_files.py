"""Files with which a bundle runs on a board: `run.py`, the graph and the weights as plain data, and a Dockerfile for JetPack 6."""

from __future__ import annotations

from pathlib import Path

import onnx

from exports.bundle.plain_network import plain_network
from exports.errors import ExportError
from exports.profiles import DeviceProfile

RUN_PY = '''\
#!/usr/bin/env python3
"""Segments a folder of images: python3 run.py --images DIR --out DIR [--overlay]

Python 3.6 or newer with numpy, Pillow or OpenCV, and TensorRT, ONNX Runtime or torch. The code is in runner.pyz, a zip archive.
"""

import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(FOLDER, "runner.pyz"))

from hw_latency_model.onboard.runner import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], FOLDER))
'''

_DOCKERFILE = """\
# Runs this network on a Jetson Orin (JetPack {jetpack}). On the board:
#   docker build -t network . && docker run --rm --runtime nvidia -v "$PWD":/network -v IMAGES:/images -v MASKS:/masks network
# A camera: docker run --rm --runtime nvidia --device /dev/video0 -v "$PWD":/network -v MASKS:/masks network \\
#   python3 run.py --camera 0 --out /masks --overlay
FROM {image}
RUN apt-get update \\
 && apt-get install -y --no-install-recommends python3 python3-numpy python3-pil python3-opencv python3-libnvinfer \\
 && rm -rf /var/lib/apt/lists/*
WORKDIR /network
CMD ["python3", "run.py", "--images", "/images", "--out", "/masks", "--overlay"]
"""


def write_board_files(folder: Path, profile: DeviceProfile, runner: bytes | None) -> str | None:
    """Write the files beside ``model.onnx``; return the reason why torch cannot run the network on a board, or None.

    Args:
        folder: the bundle.
        profile: its device; boards with JetPack 6 get a Dockerfile.
        runner: content of `runner.pyz`; None: no `run.py`.
    """
    if runner is not None:
        (folder / "runner.pyz").write_bytes(runner)
        (folder / "run.py").write_text(RUN_PY)
        if profile.container is not None:
            (folder / "Dockerfile").write_text(_DOCKERFILE.format(jetpack=profile.jetpack, image=profile.container))
    try:
        plain = plain_network(onnx.load(str(folder / "model.onnx")))
    except ExportError as error:
        return str(error)
    (folder / "graph.json").write_bytes(plain.graph_json())
    (folder / "weights.safetensors").write_bytes(plain.weights())
    return None
