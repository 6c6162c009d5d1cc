"""Checks on a GPU: training options, latency through CUDA graphs, and two trainings at once; parts of gpu_checks.sh.

    python -m benchmarks.gpu_checks options|latency|together --json OUT [--size 352x480] [--networks 60] [--runs 30] [--seconds 8]

  options   images per second of a training step in FP32, with bfloat16, and with `torch.compile` beside bfloat16 (its first steps apart);
  latency   networks that cover the default space, each captured as a CUDA graph and timed with CUDA events in turns with a fixed network,
            in FP16; a latency model is fitted, and the errors on families that it has not seen are listed;
  together  images per second of one training process alone, and of two at the same time on the same GPU.

Images are random: these are checks of speed. Without a GPU everything runs on the CPU, without graphs and in FP32, to test the commands.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hw_latency_model.kernels.extract import kernels_from_module
from hw_latency_model.local.calibration import subject_of
from hw_latency_model.local.sampling import covering_order
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.report.left_out import left_out
from hw_latency_model.report.networks import by_network, errors_by_family, median_speed, readings
from hw_latency_model.types import Measurement
from search_spaces import get_space, upsample_logits
from search_spaces._common.files import write_json
from search_spaces.spaces.encoder_decoder import parse_resolution

CLASSES, BATCH, ROUNDS = 11, 16, 7


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--size", default="352x480", help="height x width of the training images")
    parser.add_argument("--networks", type=int, default=60, help="latency: networks to time")
    parser.add_argument("--runs", type=int, default=30, help="latency: runs of a network in each of its rounds")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each timed training")
    parser.add_argument(
        "--no-compile", action="store_true", help="options: without torch.compile, which takes minutes on a CPU"
    )
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    found = CHECKS[options.check](options, device)
    write_json(options.json, {"check": options.check, "device": name, "torch": torch.__version__, **found})


class TrainingStep:
    """Training step of the default network on one random batch.

    Args:
        mixed: bfloat16 autocast.
        compiled: with `torch.compile`.
    """

    def __init__(self, hw: tuple[int, int], device: torch.device, *, mixed: bool, compiled: bool = False) -> None:
        space = get_space("encoder_decoder", {})
        net = space.build(space.default(), CLASSES).to(device).to(memory_format=torch.channels_last).train()
        self._net: Callable[[Tensor], Tensor] = torch.compile(net) if compiled else net
        self._optimizer = torch.optim.AdamW(net.parameters())
        self._images = torch.randn(BATCH, 3, *hw, device=device).contiguous(memory_format=torch.channels_last)
        self._labels = torch.randint(CLASSES, (BATCH, *hw), device=device)
        self._device, self._mixed, self._hw = device, mixed, hw

    def __call__(self) -> None:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            logits = upsample_logits(self._net(self._images), self._hw)
        loss = functional.cross_entropy(logits.float(), self._labels)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def images_per_s(self, seconds: float) -> float:
        """Train for so many seconds."""
        steps, started = 0, self._now()
        while (elapsed := self._now() - started) < seconds:
            self()
            steps += 1
        return steps * BATCH / elapsed

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def training_options(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Images per second by option, and the seconds of the first three steps, in which `torch.compile` compiles."""
    rows = []
    for mixed, compiled in ((False, False), (True, False), (True, True))[: 2 if options.no_compile else 3]:
        step = TrainingStep(parse_resolution(options.size), device, mixed=mixed, compiled=compiled)
        started = time.perf_counter()
        for _ in range(3):
            step()
        first_s = time.perf_counter() - started
        rate = step.images_per_s(options.seconds)
        rows.append({"mixed_precision": mixed, "compile": compiled, "first_steps_s": first_s, "images_per_s": rate})
    return {"size": options.size, "batch": BATCH, "rows": rows}


def latency(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Errors of a latency model on held-out families, and the measurements."""
    space = get_space("encoder_decoder", {})
    fingerprint = {"device": "cuda-graph" if device.type == "cuda" else "cpu", "torch": torch.__version__}
    half = device.type == "cuda"
    reference = runner(space.build(space.default(), CLASSES), space.input_hw(space.default()), device, options.runs)
    measurements = []
    for candidate in covering_order(space, options.networks, seed=0):
        net = space.build_pruned(candidate, CLASSES).eval()
        hw = space.input_hw(candidate)
        kernels = tuple(kernels_from_module(net, hw))
        times, references = in_turns(runner(net, hw, device, options.runs), reference)
        relative = statistics.quantiles([a / b for a, b in zip(times, references, strict=True)], n=4)
        middle = statistics.median(times)
        measurements.append(
            Measurement(
                subject=subject_of(space, candidate, CLASSES),
                device=fingerprint["device"],
                latency_ms_p50=middle,
                latency_ms_p90=max(times),
                latency_ms_p99=max(times),
                runs=ROUNDS * options.runs,
                noise_rel=(relative[2] - relative[0]) / 2 / relative[1],
                reference_ms=statistics.median(references),
                fingerprint=fingerprint,
                started_at=datetime.now(UTC).isoformat(timespec="seconds"),
                precision="fp16" if half else "fp32",
                family=str(candidate.params["family"]),
                kernels=kernels,
            )
        )
    model = LatencyModel.fit(measurements, device=fingerprint["device"], fingerprint=fingerprint)
    networks = by_network(measurements)
    found = left_out(model, lambda item: item.family)(networks)
    table = errors_by_family(
        readings(networks, found.with_family, lambda item: item.subject, lambda item: item.family, median_speed(model))
    )
    return {
        "networks": len(networks),
        "leave_one_out_median_error_rel": model.quality.median_error_rel,
        "left_out_families": [asdict(row) for row in table],
        "measurements": [
            {"network": item.subject, "family": item.family, "ms": item.latency_ms_p50, "noise_rel": item.noise_rel}
            for item in measurements
        ],
    }


def runner(net: nn.Module, hw: tuple[int, int], device: torch.device, runs: int) -> Callable[[], float]:
    """Return a function that runs the network ``runs`` times on one image and returns the milliseconds of a run."""
    image = torch.randn(1, 3, *hw, device=device)
    net = net.eval().to(device)
    if device.type != "cuda":

        @torch.inference_mode()
        def on_cpu() -> float:
            started = time.perf_counter()
            for _ in range(runs):
                net(image)
            return 1e3 * (time.perf_counter() - started) / runs

        return on_cpu
    net, image = net.half().to(memory_format=torch.channels_last), image.half()
    cuda: Any = torch.cuda
    with torch.inference_mode():
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for _ in range(3):
                net(image)
        cuda.current_stream().wait_stream(side)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            net(image)

    def on_gpu() -> float:
        begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(runs):
            graph.replay()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / runs

    return on_gpu


def in_turns(run: Callable[[], float], reference: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Time both in turns, after a round that warms up."""
    run(), reference()
    pairs = [(run(), reference()) for _ in range(ROUNDS)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def together(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Images per second of one training process, and of two at once."""
    rates = {}
    for count in (1, 2):
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(train_alone, options.size, str(device), options.seconds) for _ in range(count)]
            rates[count] = [job.result() for job in jobs]
    return {
        "size": options.size,
        "alone_images_per_s": rates[1][0],
        "two_images_per_s": rates[2],
        "two_over_one": sum(rates[2]) / rates[1][0],
    }


def train_alone(size: str, device: str, seconds: float) -> float:
    """Images per second of a process, after three steps that warm up."""
    step = TrainingStep(parse_resolution(size), torch.device(device), mixed=device.startswith("cuda"))
    for _ in range(3):
        step()
    return step.images_per_s(seconds)


CHECKS = {"options": training_options, "latency": latency, "together": together}


if __name__ == "__main__":
    main()
