"""`solution.pyz` of the LPCVC 2023: class maps of a folder of images, and the summed seconds of the network on stdout.

The referee runs ``python3.6 solution.pyz -i IMAGES -o MAPS 2>/dev/null`` and takes the one decimal number on stdout, so all
other output goes to stderr, that of libraries written in C included.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Tuple

import numpy as np

from hw_latency_model.agent.errors import JobError, StaleEngine

from .images import class_map, image_files, network_input, read_rgb, write_png
from .network_data import Read, read_network_data
from .plan import PlanNetwork, build_plan
from .regions import without_small_regions

MAP_HW = (512, 512)
WARM_UPS = 15
PLAN = "network.plan"
ONNX = "network.onnx"
SETTINGS = "settings.json"

Run = Callable[[Any], Tuple[Any, float]]


class Settings(NamedTuple):
    """Content of ``settings.json``.

    Attributes:
        input_hw: input of the network in pixels.
        output_shape: of one batch: (batch, classes, h, w).
        mean, std: normalisation per channel.
        batch: images per run.
        least_region_pixels: smaller predicted regions are removed; 0: none.
        precision: fp32, fp16 or int8.
        keep_fp32: ONNX nodes that stay in float32 in FP16.
    """

    input_hw: Tuple[int, int]
    output_shape: Tuple[int, ...]
    mean: List[float]
    std: List[float]
    batch: int
    least_region_pixels: int
    precision: str
    keep_fp32: List[str]


def main(arguments: List[str], read: Read, archive: str) -> int:
    """Run the solution; return 0, or 2 for input that cannot be used.

    Args:
        read: reads a data file of the archive; KeyError for one that it lacks.
        archive: path of the ``solution.pyz``.
    """
    answer = os.dup(1)
    os.dup2(2, 1)  # what anything prints from here on is chatter
    parser = argparse.ArgumentParser(prog="solution.pyz", description="LPCVC 2023: class maps of a folder of images.")
    parser.add_argument("-i", "--input", type=Path, help="folder of PNG images")
    parser.add_argument("-o", "--output", type=Path, help="folder for the class maps")
    parser.add_argument("--build", action="store_true", help="build the TensorRT plan on this board and pack it in")
    parser.add_argument("--workspace-mb", type=int, default=256, help="memory for the build (default: 256)")
    options = parser.parse_args(arguments)
    settings = Settings(**json.loads(read(SETTINGS).decode("utf-8")))
    try:
        if options.build:
            _pack_plan(read, Path(archive), settings, options.workspace_mb)
            return 0
        if options.input is None or options.output is None:
            raise JobError("give -i IMAGES and -o MAPS, or --build")
        seconds = _solve(options.input, options.output, settings, read)
    except JobError as error:
        say("{}".format(error))
        return 2
    os.write(answer, "{:.6f}\n".format(seconds).encode("ascii"))
    return 0


def say(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write("solution: " + text + "\n")


def _solve(source: Path, target: Path, settings: Settings, read: Read) -> float:
    """Write the class maps; return the summed seconds of the network."""
    paths = image_files(source, (".png",))
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError("cannot make the folder {}: {}".format(target, error.strerror))
    first = _batch(paths[:1], settings)
    run = _open(settings, read, first)
    for _ in range(WARM_UPS - 1):
        run(first)
    total = 0.0
    for begin in range(0, len(paths), settings.batch):
        chosen = paths[begin : begin + settings.batch]
        logits, seconds = run(_batch(chosen, settings))
        total += seconds
        for path, planes in zip(chosen, logits):
            found = without_small_regions(class_map(planes, MAP_HW), settings.least_region_pixels)
            write_png(target / path.name, found)
    return total


def _batch(paths: List[Path], settings: Settings) -> Any:
    """Network input of the images; the last one is repeated to fill the batch."""
    inputs = [network_input(read_rgb(path), settings.input_hw, settings.mean, settings.std) for path in paths]
    return np.stack(inputs + inputs[-1:] * (settings.batch - len(inputs)))


def _open(settings: Settings, read: Read, first: Any) -> Run:
    """Open the plan, or else the graph in torch, and run it once."""
    try:
        engine = PlanNetwork(read(PLAN))

        def run(images: Any) -> Tuple[Any, float]:
            return engine.run(images, tuple(settings.output_shape))

        run(first)
        return run
    except KeyError:
        say("no TensorRT plan is packed in (solution.pyz --build packs one); torch runs the network")
    except ImportError as error:
        say("TensorRT cannot be used ({}); torch runs the network".format(error))
    except (JobError, StaleEngine) as error:
        say("the packed TensorRT plan cannot be used: {}; torch runs the network".format(error))
    try:
        from .torch_network import TorchNetwork
    except ImportError as error:
        raise JobError("neither TensorRT nor torch can run the network ({})".format(error))
    half = settings.precision == "fp16"
    network = TorchNetwork(read_network_data(read), half=half, keep_fp32=settings.keep_fp32)
    network.run(first)
    return network.run


def _pack_plan(read: Read, archive: Path, settings: Settings, workspace_mb: int) -> None:
    """Build the plan with this board's TensorRT and replace the archive by one that holds it."""
    if settings.precision == "int8":
        raise JobError("TensorRT on this board has no INT8; pack a trial of precision fp16 or fp32")
    with tempfile.TemporaryDirectory() as folder:
        onnx, plan = Path(folder) / ONNX, Path(folder) / PLAN
        onnx.write_bytes(read(ONNX))
        try:
            cache, keep = archive.with_suffix(".timing"), settings.keep_fp32
            seconds = build_plan(onnx, plan, cache, settings.precision, workspace_mb, keep)
        except ImportError as error:
            raise JobError("a plan is built on the board, with its TensorRT ({})".format(error))
        _replace_entry(archive, PLAN, plan.read_bytes())
    say("packed the plan into {} after {:.0f} s".format(archive, seconds))


def _replace_entry(archive: Path, name: str, content: bytes) -> None:
    """Replace or add a data file of the archive, by way of a temporary file."""
    temporary = archive.with_name(".{}.part".format(archive.name))
    try:
        with archive.open("rb") as opened:
            interpreter = opened.readline() if opened.read(2) == b"#!" else b""
        with zipfile.ZipFile(str(archive)) as old, temporary.open("wb") as written:
            written.write(b"#!" + interpreter if interpreter else b"")
            with zipfile.ZipFile(written, "a") as new:
                for entry in old.infolist():
                    if entry.filename != "data/" + name:
                        new.writestr(entry, old.read(entry.filename))
                new.writestr("data/" + name, content)
        shutil.copymode(str(archive), str(temporary))
        temporary.replace(archive)
    except OSError as error:
        raise JobError("cannot write {}: {}".format(archive, error.strerror or error))
    finally:
        if temporary.exists():
            temporary.unlink()
