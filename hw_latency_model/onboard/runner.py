"""`run.py` of a bundle: class masks and overlays of images or a camera, frames per second, and power where the board has a rail."""

import argparse
import hashlib
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np

from hw_latency_model.agent.errors import JobError, StaleEngine
from hw_latency_model.agent.power import PowerMeter, rail_problem
from hw_latency_model.agent.tree import Tree

from .frames import Camera, Folder
from .images import class_map, network_input, write_png
from .network_data import GRAPH, read_network_data
from .plan import PlanNetwork, build_plan

BACKENDS = ("tensorrt", "onnxruntime", "torch")
WARM_UPS = 10


class Bundle(NamedTuple):
    """A bundle's folder and its manifest."""

    folder: Path
    manifest: Any

    @property
    def input_hw(self) -> Tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.manifest["input"]["height_px"], self.manifest["input"]["width_px"]

    @property
    def precision(self) -> str:
        """Precision on the device: fp32, fp16 or int8."""
        return str(self.manifest.get("precision", {}).get("name", "fp32"))

    @property
    def keep_fp32(self) -> List[str]:
        """ONNX nodes that stay in float32 in FP16."""
        steps = [step for step in self.manifest.get("ladder", []) if step.get("step") == "onnx fp16"]
        return list(steps[0].get("kept_in_fp32", [])) if steps else []


def main(arguments: List[str], folder: str) -> int:
    """Run the network of the bundle ``folder``; return 0, or 2 for input that cannot be used."""
    parser = argparse.ArgumentParser(prog="run.py", description="Segment images or a camera with this network.")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--images", type=Path, help="folder of images")
    given.add_argument(
        "--camera",
        nargs="?",
        const="0",
        metavar="CAMERA",
        help="number of a camera, a video, or a GStreamer pipeline (default: 0); Ctrl-C ends it",
    )
    parser.add_argument("--frames", type=int, default=100, help="frames of the camera (default: 100)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the masks; a pixel's value is its class id")
    parser.add_argument("--overlay", action="store_true", help="also write each image with its classes in colour")
    parser.add_argument("--backend", choices=("auto",) + BACKENDS, default="auto", help="default: the first that works")
    parser.add_argument("--plan", type=Path, help="TensorRT plan; built there on first use (default: in this folder)")
    parser.add_argument("--workspace-mb", type=int, default=512, help="memory for building the plan (default: 512)")
    options = parser.parse_args(arguments)
    try:
        bundle = _open_bundle(Path(folder))
        sys.stdout.write(_run(bundle, options) + "\n")
    except JobError as error:
        say(str(error))
        return 2
    return 0


def say(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write("run.py: " + text + "\n")
    sys.stderr.flush()


def _open_bundle(folder: Path) -> Bundle:
    try:
        return Bundle(folder, json.loads((folder / "manifest.json").read_bytes().decode("utf-8")))
    except (OSError, ValueError) as error:
        raise JobError("{}/manifest.json cannot be read ({}); copy the whole bundle again".format(folder, error))


def _run(bundle: Bundle, options: Any) -> str:
    """Write masks and overlays; return a summary in one line."""
    frames = Folder(options.images) if options.camera is None else Camera(options.camera, options.frames)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError("cannot make the folder {}: {}".format(options.out, error.strerror))
    source, classes = bundle.manifest["input"], bundle.manifest["classes"]
    first = network_input(frames.first(), bundle.input_hw, source["mean"], source["std"])[None]
    network = open_network(bundle, first, options.backend, options.plan, options.workspace_mb)
    for _ in range(WARM_UPS):
        network.run(first)
    meter = PowerMeter(Tree())
    if meter.parts:
        meter.start()
    begin, busy, count = time.monotonic(), 0.0, 0
    try:
        for name, rgb in frames:
            logits, seconds = network.run(network_input(rgb, bundle.input_hw, source["mean"], source["std"])[None])
            found = class_map(logits[0], rgb.shape[:2])
            write_png(options.out / (name + ".png"), found, classes["palette"])
            if options.overlay:
                colours = np.asarray(classes["palette"], np.uint16)[found]
                write_png(options.out / (name + "-overlay.png"), ((rgb + colours) // 2).astype(np.uint8))
            busy, count = busy + seconds, count + 1
    except KeyboardInterrupt:
        if options.camera is None:
            raise
    if not count:
        raise JobError("the camera gave no frame")
    end = time.monotonic()
    text = (
        "{} images by {} in {}: network {:.2f} ms an image ({:.1f} frames/s), all {:.1f} ms ({:.1f} frames/s)".format(
            count,
            network.name,
            bundle.precision,
            busy / count * 1e3,
            count / max(busy, 1e-9),
            (end - begin) / count * 1e3,
            count / (end - begin),
        )
    )
    return text + ", " + _power(meter, begin, end)


def _power(meter: PowerMeter, begin: float, end: float) -> str:
    if not meter.parts:
        return "power not measured: {}".format(meter.note)
    meter.stop()
    problem = rail_problem(meter.mean_rails()) if meter.samples else None
    energy = meter.integral_mj(begin, end)
    if problem or energy is None:
        return "power not measured: {}".format(problem or "too few readings; give more images")
    return "{:.2f} W on {}".format(energy / (end - begin) / 1e3, meter.total)


def open_network(bundle: Bundle, first: Any, backend: str, plan: Optional[Path], workspace_mb: int) -> Any:
    """Open the network in the first runtime that runs it, and run ``first`` once.

    Raises:
        JobError: no runtime, or not the one wanted, runs it.
    """
    reasons = []
    for name in BACKENDS if backend == "auto" else (backend,):
        try:
            network = _OPENERS[name](bundle, plan, workspace_mb)
            network.run(first)
            return network
        except ImportError as error:
            reasons.append("{} is not installed ({})".format(name, error))
        except (JobError, StaleEngine) as error:
            reasons.append("{}: {}".format(name, error))
    raise JobError("no runtime here runs the network: {}".format("; ".join(reasons)))


class OnnxRuntimeNetwork(object):
    """A network in ONNX Runtime."""

    name = "onnxruntime"

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=onnxruntime.get_available_providers())
        except Exception as error:  # noqa: BLE001 (its errors have no common class that every release exports)
            raise JobError("it does not take {} ({})".format(path.name, str(error)[:200]))
        self.session, self.source = session, session.get_inputs()[0].name

    def run(self, images: Any) -> Tuple[Any, float]:
        """Run images, float32 (1, 3, height, width); return logits and the seconds of the network."""
        begin = time.perf_counter()
        logits = self.session.run(None, {self.source: images})[0]
        return logits, time.perf_counter() - begin


class _Plan(object):
    """A plan with the output shape of its bundle."""

    name = PlanNetwork.name

    def __init__(self, engine: PlanNetwork, output_shape: Tuple[int, ...]) -> None:
        self.engine, self.output_shape = engine, output_shape

    def run(self, images: Any) -> Tuple[Any, float]:
        """Run images, float32 (1, 3, height, width); return logits and the seconds of the engine."""
        return self.engine.run(images, self.output_shape)


def _open_plan(bundle: Bundle, plan: Optional[Path], workspace_mb: int) -> Any:
    """Load the plan of this bundle; build it where there is none, or one that this board's TensorRT does not take."""
    importlib.import_module("tensorrt")  # without it there is nothing to build
    onnx = _onnx_file(bundle)
    network = hashlib.sha256(onnx.read_bytes()).hexdigest()[:12]
    path = plan or bundle.folder / "network-{}-{}.plan".format(network, bundle.precision)
    shape = tuple(bundle.manifest["output"]["shape"])
    if path.exists():
        try:
            return _Plan(PlanNetwork(path.read_bytes()), shape)
        except (JobError, StaleEngine) as error:
            say("{} is built again: {}".format(path.name, error))
    say("building the TensorRT plan {}; this takes minutes, once".format(path))
    try:
        seconds = build_plan(onnx, path, path.with_suffix(".cache"), bundle.precision, workspace_mb, bundle.keep_fp32)
    except OSError as error:
        raise JobError("cannot write {} ({}); give another place with --plan".format(path, error.strerror))
    say("built in {:.0f} s".format(seconds))
    return _Plan(PlanNetwork(path.read_bytes()), shape)


def _onnx_file(bundle: Bundle) -> Path:
    """Return the file that TensorRT builds from: since 11 it takes the precision from the file."""
    half, flags = bundle.folder / "model-fp16.onnx", importlib.import_module("tensorrt").BuilderFlag
    typed = bundle.precision == "fp16" and not hasattr(flags, "FP16")
    return half if typed and half.exists() else bundle.folder / "model.onnx"


def _open_onnxruntime(bundle: Bundle, plan: Optional[Path], workspace_mb: int) -> Any:
    return OnnxRuntimeNetwork(bundle.folder / "model.onnx")


def _open_torch(bundle: Bundle, plan: Optional[Path], workspace_mb: int) -> Any:
    from .torch_network import TorchNetwork

    if not (bundle.folder / GRAPH).exists():
        raise JobError("the bundle holds no {}: torch does not know one of the network's operators".format(GRAPH))
    read = lambda name: (bundle.folder / name).read_bytes()  # noqa: E731
    return TorchNetwork(read_network_data(read), half=bundle.precision == "fp16", keep_fp32=bundle.keep_fp32)


_OPENERS = {"tensorrt": _open_plan, "onnxruntime": _open_onnxruntime, "torch": _open_torch}
