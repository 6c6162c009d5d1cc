"""Preview of an exported network: image, prediction, and label side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from exports.bundle.inputs import BundleInputs
from exports.onnx.parity import LabelArray, upsampled_classes
from exports.onnx.runtime import FloatArray, OnnxSession
from search_spaces._common.palette import Palette

_PANEL_WIDTH_PX = 320
_GAP_PX = 6
_LINE_PX = 18
_SWATCH_PX = 18
_LONGEST_NAME = 40
_FONT_PX = 10
# Files of common fonts with many scripts, which Pillow looks for in the system's font folders.
_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "FreeSans.ttf",
    "unifont.ttf",
    "Arial Unicode.ttf",
    "arialuni.ttf",
)
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def write_preview(path: Path, session: OnnxSession, inputs: BundleInputs, *, rows: int = 3) -> None:
    """Write a PNG with one row per image (the first ``rows``): image, prediction, label where given; classes below.

    Pixels of the ignore index are white.
    """
    images, labels, palette = inputs.images, inputs.labels, inputs.palette
    mean, std, ignore_index = inputs.network.mean, inputs.network.std, inputs.network.ignore_index
    height, width = images.shape[2:]
    panel_h = round(_PANEL_WIDTH_PX * height / width)
    count = min(rows, len(images))
    titles = ["image", "prediction"] + (["label"] if labels is not None else [])
    total_w = len(titles) * _PANEL_WIDTH_PX + (len(titles) + 1) * _GAP_PX
    font = ImageFont.load_default()
    entries, fonts = legend_entries(inputs.network.class_names)
    entry_w = (
        _SWATCH_PX
        + _GAP_PX
        + math.ceil(max((f.getlength(name) for name, f in zip(entries, fonts, strict=True)), default=0))
    )
    columns = max(1, (total_w - _GAP_PX) // (entry_w + _GAP_PX))
    legend_lines = -(-len(entries) // columns)
    total_h = _LINE_PX + count * (panel_h + _GAP_PX) + legend_lines * _LINE_PX + _GAP_PX
    canvas = Image.new("RGB", (total_w, total_h), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        draw.text((_GAP_PX + column * (_PANEL_WIDTH_PX + _GAP_PX), 3), title, fill=(0, 0, 0), font=font)
    for row in range(count):
        size_hw = labels[row].shape if labels is not None else (height, width)
        predicted = upsampled_classes(session.run(images[row : row + 1]), (size_hw[0], size_hw[1]))
        panels = [_denormalise(images[row], mean, std), _colour(predicted, palette, ignore_index)]
        if labels is not None:
            panels.append(_colour(labels[row], palette, ignore_index))
        for column, panel in enumerate(panels):
            kind = Image.Resampling.BILINEAR if column == 0 else Image.Resampling.NEAREST
            place = (_GAP_PX + column * (_PANEL_WIDTH_PX + _GAP_PX), _LINE_PX + row * (panel_h + _GAP_PX))
            canvas.paste(Image.fromarray(panel).resize((_PANEL_WIDTH_PX, panel_h), kind), place)
    top = _LINE_PX + count * (panel_h + _GAP_PX)
    for index, (name, colour) in enumerate(zip(entries, palette, strict=True)):
        left, line = _GAP_PX + index % columns * (entry_w + _GAP_PX), top + index // columns * _LINE_PX
        draw.rectangle((left, line + 2, left + 12, line + 14), fill=colour, outline=(0, 0, 0))
        draw.text((left + _SWATCH_PX, line + 3), name, fill=(0, 0, 0), font=fonts[index])
    canvas.save(path, format="PNG")


def legend_entries(names: Sequence[str]) -> tuple[list[str], list[Font]]:
    """Return the text and the font of each class in the legend.

    A name with letters that Pillow's own font lacks is drawn in the first installed font that has them; without one its class
    is named by its id.
    """
    default = ImageFont.load_default()
    texts, fonts = list[str](), list[Font]()
    for index, name in enumerate(names):
        text = name[:_LONGEST_NAME]
        font = default if has_glyphs(default, text) else _installed_font(text)
        texts.append(text if font is not None else f"class {index}")
        fonts.append(font or default)
    return texts, fonts


def has_glyphs(font: Font, text: str) -> bool:
    """Return False if the font draws a letter of ``text`` as its sign for a missing glyph."""
    if isinstance(font, ImageFont.ImageFont):
        return text.isascii()
    missing = bytes(font.getmask("\uffff"))
    return all(letter.isspace() or bytes(font.getmask(letter)) != missing for letter in text)


def _installed_font(text: str) -> Font | None:
    for name in _FONTS:
        try:
            font = ImageFont.truetype(name, _FONT_PX)
        except OSError:
            continue
        if has_glyphs(font, text):
            return font
    return None


def _denormalise(image: FloatArray, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.uint8]:
    unit = image.transpose(1, 2, 0) * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    pixels: NDArray[np.uint8] = (unit.clip(0.0, 1.0) * 255.0).round().astype(np.uint8)
    return pixels


def _colour(ids: LabelArray, palette: Palette, ignore_index: int) -> NDArray[np.uint8]:
    table = np.full((256, 3), 255, np.uint8)
    table[: len(palette)] = palette
    if 0 <= ignore_index < 256:
        table[ignore_index] = 255
    coloured: NDArray[np.uint8] = table[ids]
    return coloured
