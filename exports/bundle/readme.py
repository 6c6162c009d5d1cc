"""The README.md of a bundle."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# Needs only numpy, Pillow, and onnxruntime; tests run it from the README.
SNIPPET = """\
import json, sys
import numpy as np, onnxruntime as ort
from PIL import Image
bundle, source, target = sys.argv[1:]
m, rgb = json.load(open(f"{bundle}/manifest.json")), Image.open(source).convert("RGB")
small = rgb.resize((m["input"]["width_px"], m["input"]["height_px"]), Image.BICUBIC, reducing_gap=3.0)
x = (np.asarray(small, np.float32) / 255 - m["input"]["mean"]) / m["input"]["std"]
net = ort.InferenceSession(f"{bundle}/model.onnx")
logits = net.run(None, {"image": x.transpose(2, 0, 1)[None].astype(np.float32)})[0][0]
full = np.stack([np.asarray(Image.fromarray(plane).resize(rgb.size, Image.BILINEAR)) for plane in logits])
mask = Image.fromarray(full.argmax(axis=0).astype(np.uint8))
mask.putpalette(sum(m["classes"]["palette"], []))  # colours to look at; a pixel's value stays its class id
mask.save(target)
"""

_FILES = {
    "model.onnx": "the network: float32, batch 1, static shapes",
    "model.pt": 'the same weights for torch: `torch.load("model.pt", weights_only=True)` gives '
    "`state_dict`, `candidate`, `input_hw`, `class_names`, `ignore_index`, `mean`, `std`",
    "manifest.json": "everything here for programs, with a SHA-256 of each file",
    "study.yaml": "the study's configuration that led here",
    "preview.png": "validation images with prediction, label and wrong pixels, the worst ones below",
}

_BOARD_FILES = {
    "model-fp16.onnx": "the network in float16 inside, float32 in and out, for runtimes that take the precision from the file",
    "model-int8.onnx": "the network in INT8 (Q/DQ pairs with zero points of 0), float32 in and out: `trtexec --int8 --fp16` builds it",
    "run.py": "runs the network on a folder of images; its code is in `runner.pyz`",
    "Dockerfile": "`run.py` in a container, for JetPack 6",
    "graph.json": "the network's operators as plain data, with which `run.py` runs it in torch",
    "weights.safetensors": "its weights, in the format of safetensors, without pickle",
}

_INT8_FILES = {
    "model.onnx": "the network: float32 in and out, 8-bit integers inside (Q/DQ pairs), batch 1, static shapes",
    "model.pt": "for torch, with `torch.load`: the float network as `state_dict`, and the 8-bit one as `quantized`",
}


def bundle_readme(manifest: Mapping[str, Any]) -> str:
    """Render the README of a bundle, its model card, from its manifest (of ``files`` the names)."""
    source, target = manifest["input"], manifest["output"]
    candidate, profile = manifest["candidate"], manifest["profile"]
    classes = _class_rows(manifest)
    precision = manifest["precision"]["name"]
    files = {**_FILES, **(_INT8_FILES if precision == "int8" else {})}
    lines = [
        f"# Segmentation network {candidate['id']}",
        "",
        f"Found by paretoseg for `{profile['name']}` ({profile['description']}), to run in {precision.upper()}.",
        *_superseded_lines(manifest),
        "",
        "## Run it",
        "",
        *(_board_lines(manifest) if "run.py" in manifest.get("files", {}) else []),
        "In Python, after `pip install numpy pillow onnxruntime`, as a program `segment.py`; "
        "`python segment.py THIS_FOLDER IMAGE MASK.png` writes the class of each pixel:",
        "",
        "```python",
        SNIPPET.rstrip(),
        "```",
        "",
        "## Input and output",
        "",
        f"- `{source['name']}`: float32 {_shape(source['shape'])}, {source['layout']}, {source['colour_order']}. "
        f"Resize ({source['resize']}), divide by 255, subtract mean {source['mean']}, divide by std {source['std']}.",
        f"- `{target['name']}`: float32 {_shape(target['shape'])}: logits at 1/{target['stride']} of the input. "
        f"{target['rule']}",
        f"- Classes: {', '.join(f'{i} {_escape(name)}' for i, name in enumerate(manifest['classes']['names']))}. "
        f"Label value {manifest['classes']['ignore_index']} means not labelled.",
        "",
        "## Results",
        "",
        "| fact | value |",
        "|---|---|",
        *(f"| {_escape(key)} | {_escape(value)} |" for key, value in _results(manifest)),
        "",
        "IoU per class on the validation split (– for a class that does not occur there):" if classes else "",
        "",
        *(["| id | class | IoU |", "|---|---|---|"] if classes else []),
        *(f"| {index} | {_escape(name)} | {iou} |" for index, name, iou in classes),
        "",
        "## Architecture",
        "",
        f"Search space `{candidate['space']}`; dimensions under the names of the study's YAML.",
        "",
        "| dimension | value |",
        "|---|---|",
        *(f"| {_escape(key)} | {_escape(_text(value))} |" for key, value in candidate["params"].items()),
        "",
    ]
    if profile["runtime"] == "tensorrt":
        lines += [
            "## On the board",
            "",
            "A TensorRT plan runs only where it was built, so copy this folder there and build it once (minutes):",
            "",
            "```sh",
            f"{_trtexec_command('model.onnx', 'model.plan', precision)}",
            "```",
            "",
        ]
    present = manifest.get("files", {})
    files.update({name: text for name, text in _BOARD_FILES.items() if name in present})
    lines += ["## Files", "", *(f"- `{name}`: {text}" for name, text in files.items()), ""]
    return "\n".join(lines)


def _superseded_lines(manifest: Mapping[str, Any]) -> list[str]:
    """Lines of a bundle whose network left its study's front."""
    mark = manifest.get("superseded")
    if not mark:
        return []
    numbers = ", ".join(map(str, mark["by_trials"]))
    better = f"; better in every objective: trial {numbers}" if numbers else ""
    return ["", f"**Superseded** since {mark['since']}: it left its study's front{better}."]


def _board_lines(manifest: Mapping[str, Any]) -> list[str]:
    """Lines that run a bundle with `run.py`, on a board or any other machine."""
    runtime = "TensorRT, ONNX Runtime or torch"
    return [
        "On the board or any machine with Python 3.6 or newer, numpy, Pillow or OpenCV, and " + runtime + ":",
        "",
        "```sh",
        "scp -r THIS_FOLDER BOARD:network",
        "ssh BOARD",
        "cd network",
        "sha256sum -c SHA256SUMS",
        "python3 run.py --images IMAGES --out MASKS --overlay",
        "```",
        "",
        "It writes a mask for each image (a pixel's value is its class id) and an overlay, and prints frames per second, and the power "
        "where the board measures it. TensorRT builds its plan on first use, which takes minutes on a Nano.",
        "",
    ]


def _trtexec_command(onnx_name: str, plan_name: str, precision: str, workspace_mb: int = 512) -> str:
    """Command that builds a TensorRT plan on a board (TensorRT 8: ``--workspace`` in MiB)."""
    flag = " --fp16" if precision == "fp16" else ""
    return f"trtexec --onnx={onnx_name}{flag} --workspace={workspace_mb} --saveEngine={plan_name}"


def _shape(shape: list[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


# Keys of a bundle's facts that `_results` words itself.
_WORDED = frozenset(
    {
        "study", "targets", "trial", "val_miou", "float_miou", "device", "score", "costs",
        "latency_ms", "latency_low_ms", "latency_high_ms", "latency_coverage",
    }
)  # fmt: skip
_UNITS = {"mj": "mJ", "mb": "MB", "ms": "ms", "s": "s", "px": "pixels"}


def _results(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Rows of the table of results, with units."""
    facts, network, parity = manifest["facts"], manifest["network"], manifest["parity"]
    score = facts.get("score") or {}
    if "trial" in facts:
        yield "trial", f"{facts['trial']} of the study {facts.get('study', '–')}"
    if facts.get("val_miou") is not None:
        yield "mIoU on the validation split", f"{facts['val_miou']:.4f}"
    if score.get("float_miou") is not None:
        yield "mIoU before quantization", f"{score['float_miou']:.4f}"
    if score.get("val_dice") is not None:
        yield "Dice on the validation split (LPCVC)", f"{score['val_dice']:.4f}"
    for name, miou in (score.get("corruption_miou") or {}).items():
        yield f"mIoU under {name}", f"{miou:.4f}"
    for name, value in (score.get("metrics") or {}).items():
        yield f"metric {name}", _text(value)
    if "epoch" in score:
        start = score.get("initial_weights", "random")
        epochs = f"{score['epoch']} of {score['epochs_total']} epochs"
        yield "training", f"{epochs}, {score['train_s']:.0f} s, from {start} weights"
    if facts.get("latency_ms") is not None:
        yield f"predicted latency ({facts.get('device', '–')}, batch 1)", _predicted(facts)
    for name, target in (facts.get("targets") or {}).items():
        known = target.get("latency_ms") is not None
        yield f"predicted latency ({name}, batch 1)", _predicted(target) if known else "not predicted"
    yield "measured latency (batch 1)", "; ".join(map(_measured, _latencies(manifest))) or "not measured"
    for name, cost in (facts.get("costs") or {}).items():
        if name not in ("macs", "parameters"):
            yield _named_with_unit(name), _cost_text(cost)
    yield "multiply-accumulates per image", f"{network['macs']:,}"
    if isinstance(network.get("peak_memory_mb"), int | float):
        yield "peak memory, predicted (float32 weights and live tensors)", f"{network['peak_memory_mb']:.3g} MB"
    yield "parameters", _parameters(network["params"], score.get("params"))
    for key, value in _flat({key: value for key, value in facts.items() if key not in _WORDED}):
        yield key, value
    yield (
        "ONNX Runtime against torch",
        f"{parity['reason']}; largest logit error {parity['max_rel_error']:.1e} of the range",
    )
    for step in manifest.get("ladder", [])[1:]:
        device = f" ({step['device']}, {step['runtime']})" if step.get("device") else ""
        yield f"{step['step']}{device} against torch", _ladder_text(step)
    yield "device check", str(manifest["lint"]["summary"])


def _ladder_text(step: Mapping[str, Any]) -> str:
    """Result of a step of the parity ladder."""
    text = str(step["reason"])
    if step.get("miou_delta") is not None:
        text += f"; mIoU {step['miou_delta'] * 100:+.2f} points"
    if step.get("float_ms") is not None:
        text += f"; {step['latency_ms']:.3g} ms, in {step['float_precision']} {step['float_ms']:.3g} ms"
        text += "" if step["latency_ms"] < step["float_ms"] else ": INT8 is not faster"
    if step.get("kept_in_fp32"):
        text += f"; in float32: {', '.join(step['kept_in_fp32'])}"
    return text


def _predicted(facts: Mapping[str, Any]) -> str:
    text = f"{facts['latency_ms']:.3g} ms"
    if facts.get("latency_low_ms") is not None:
        text += f", 90 % interval {facts['latency_low_ms']:.3g} to {facts['latency_high_ms']:.3g} ms"
    if facts.get("latency_coverage") is not None:
        text += f", {facts['latency_coverage']:.0%} of the work in measured kinds of kernel"
    return text


def _latencies(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [item for item in manifest.get("measurements") or () if "latency_ms_p50" in item]


def _measured(measurement: Mapping[str, Any]) -> str:
    text = f"{measurement['latency_ms_p50']:.3g} ms median"
    if "latency_ms_p90" in measurement:
        text += f" ({measurement['latency_ms_p90']:.3g} ms p90)"
    facts = [measurement.get("device"), measurement.get("precision")]
    facts += [f"{measurement['runs']} runs"] if "runs" in measurement else []
    facts += [f"{measurement['memory_peak_mb']:.3g} MB at most"] if measurement.get("memory_peak_mb") else []
    facts += [str(measurement["started_at"])[:10]] if "started_at" in measurement else []
    return f"{text}: {', '.join(str(fact) for fact in facts if fact)}"


def _parameters(exported: int, trained: int | None) -> str:
    """Return the parameter count, or both counts where export folds batch normalisation into convolutions."""
    if trained is None or trained == exported:
        return f"{exported:,}"
    return (
        f"{exported:,} in model.onnx ({trained:,} in training: export folds batch normalisation into the convolutions)"
    )


def _cost_text(cost: Any) -> str:
    if not isinstance(cost, Mapping):
        return _text(cost)
    interval = "" if cost["low"] == cost["high"] else f", interval {cost['low']:.3g} to {cost['high']:.3g}"
    return f"{cost['value']:.3g}{interval}"


def _named_with_unit(name: str) -> str:
    """``energy_mj`` as ``predicted energy (mJ)``."""
    stem, _, suffix = name.rpartition("_")
    return (
        f"predicted {stem.replace('_', ' ')} ({_UNITS[suffix]})" if stem and suffix in _UNITS else f"predicted {name}"
    )


def _class_rows(manifest: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    """Id, name and IoU of each class; empty without a score per class."""
    names, ious = manifest["classes"]["names"], (manifest["facts"].get("score") or {}).get("class_iou")
    if not ious or len(ious) != len(names):
        return []
    return [
        (i, name, "–" if iou is None else f"{iou:.3f}") for i, (name, iou) in enumerate(zip(names, ious, strict=True))
    ]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested mappings, under their keys joined by spaces."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key} ")
        elif item is not None:
            yield f"{prefix}{key}", _text(item)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)


def _escape(text: str) -> str:
    """Return text for a Markdown table: its characters are shown as they are."""
    return re.sub(r"([\\`*_{}\[\]<>|~#])", r"\\\1", text.replace("\n", " "))
