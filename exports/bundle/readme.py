"""The README.md of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
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
    "preview.png": "validation images with prediction and label",
}


_INT8_FILES = {
    "model.onnx": "the network: float32 in and out, 8-bit integers inside (Q/DQ pairs), batch 1, static shapes",
    "model.pt": "for torch, with `torch.load`: the float network as `state_dict`, and the 8-bit one as `quantized`",
}


def bundle_readme(manifest: Mapping[str, Any]) -> str:
    """Render the README of a bundle from its manifest (``files`` is not used)."""
    source, target, parity = manifest["input"], manifest["output"], manifest["parity"]
    candidate, facts, profile = manifest["candidate"], manifest["facts"], manifest["profile"]
    precision = manifest["precision"]["name"]
    files = {**_FILES, **(_INT8_FILES if precision == "int8" else {})}
    lines = [
        f"# Segmentation network {candidate['id']}",
        "",
        f"Found by paretoseg for `{profile['name']}` ({profile['description']}), to run in {precision.upper()}.",
        "",
        "## Run it",
        "",
        "After `pip install numpy pillow onnxruntime`, save this as `run.py`; "
        "`python run.py THIS_FOLDER IMAGE MASK.png` writes the class of each pixel:",
        "",
        "```python",
        SNIPPET.rstrip(),
        "```",
        "",
        "## What goes in and comes out",
        "",
        f"- `{source['name']}`: float32 {_shape(source['shape'])}, {source['layout']}, {source['colour_order']}. "
        f"Resize ({source['resize']}), divide by 255, subtract mean {source['mean']}, divide by std {source['std']}.",
        f"- `{target['name']}`: float32 {_shape(target['shape'])}: logits at 1/{target['stride']} of the input. "
        f"{target['rule']}",
        f"- Classes: {', '.join(f'{i} {name}' for i, name in enumerate(manifest['classes']['names']))}. "
        f"Label value {manifest['classes']['ignore_index']} means not labelled.",
        "",
        "## What is known about it",
        "",
        "| fact | value |",
        "|---|---|",
        *(f"| {key} | {_cell(value)} |" for key, value in candidate["params"].items()),
        f"| multiply-accumulates | {manifest['network']['macs']:,} |",
        f"| parameters | {manifest['network']['params']:,} |",
        *(f"| {key} | {_cell(value)} |" for key, value in facts.items()),
        f"| torch against ONNX Runtime | {parity['reason']}; largest logit error {parity['max_rel_error']:.1e} "
        "of the range |",
        f"| device check | {_cell(manifest['lint']['summary'])} |",
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
    lines += ["## Files", "", *(f"- `{name}`: {text}" for name, text in files.items()), ""]
    return "\n".join(lines)


def _trtexec_command(onnx_name: str, plan_name: str, precision: str, workspace_mb: int = 512) -> str:
    """Command that builds a TensorRT plan on a board (TensorRT 8: ``--workspace`` in MiB)."""
    flag = " --fp16" if precision == "fp16" else ""
    return f"trtexec --onnx={onnx_name}{flag} --workspace={workspace_mb} --saveEngine={plan_name}"


def _shape(shape: list[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
