"""Preview of an exported network: image, prediction, label, and wrong pixels side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
_WRONG = (200, 30, 40)
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


@dataclass(frozen=True)
class _Row:
    """One image with its prediction, its label and the share of its labelled pixels that are wrong."""

    image: FloatArray
    predicted: LabelArray
    label: LabelArray | None
    wrong: float


def write_preview(path: Path, session: OnnxSession, inputs: BundleInputs, *, rows: int = 3) -> None:
    """Write a PNG with one row per image (the first ``rows``, then as many of the worst others): image, prediction, and, where labels
    are given, label and wrong pixels in red; classes below.

    The worst images are those with the largest share of wrong pixels. Pixels of the ignore index are white.
    """
    palette, ignore_index = inputs.palette, inputs.network.ignore_index
    height, width = inputs.images.shape[2:]
    panel_h = round(_PANEL_WIDTH_PX * height / width)
    groups = _groups(session, inputs, rows)
    titles = ["image", "prediction"] + (["label", "wrong pixels"] if inputs.labels is not None else [])
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
    heads = len(groups) * _LINE_PX
    total_h = heads + sum(len(group) for _, group in groups) * (panel_h + _GAP_PX) + legend_lines * _LINE_PX + _GAP_PX
    canvas = Image.new("RGB", (total_w, total_h), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    top = 0
    for words, group in groups:
        for column, title in enumerate(titles):
            text = f"{title}{words}" if column == 0 else title
            draw.text((_GAP_PX + column * (_PANEL_WIDTH_PX + _GAP_PX), top + 3), text, fill=(0, 0, 0), font=font)
        top += _LINE_PX
        for row in group:
            panels = [
                _denormalise(row.image, inputs.network.mean, inputs.network.std),
                _colour(row.predicted, palette, ignore_index),
            ]
            if row.label is not None:
                panels += [_colour(row.label, palette, ignore_index), _wrong_pixels(row, panels[0], ignore_index)]
            for column, panel in enumerate(panels):
                kind = Image.Resampling.BILINEAR if column == 0 else Image.Resampling.NEAREST
                place = (_GAP_PX + column * (_PANEL_WIDTH_PX + _GAP_PX), top)
                canvas.paste(Image.fromarray(panel).resize((_PANEL_WIDTH_PX, panel_h), kind), place)
            top += panel_h + _GAP_PX
    for index, (name, colour) in enumerate(zip(entries, palette, strict=True)):
        left, line = _GAP_PX + index % columns * (entry_w + _GAP_PX), top + index // columns * _LINE_PX
        draw.rectangle((left, line + 2, left + 12, line + 14), fill=colour, outline=(0, 0, 0))
        draw.text((left + _SWATCH_PX, line + 3), name, fill=(0, 0, 0), font=fonts[index])
    canvas.save(path, format="PNG")


def _groups(session: OnnxSession, inputs: BundleInputs, rows: int) -> list[tuple[str, list[_Row]]]:
    """Rows of the preview with words on them: the first images, and the worst of the others where labels are given."""
    ignore_index = inputs.network.ignore_index
    images = [*inputs.images, *(() if inputs.further_images is None else inputs.further_images)]
    labels = None if inputs.labels is None else [*inputs.labels, *inputs.further_labels]
    if labels is None:
        hw = (inputs.images.shape[2], inputs.images.shape[3])
        first = [_Row(one, upsampled_classes(session.run(one[None]), hw), None, 0.0) for one in inputs.images[:rows]]
        return [("", first)]
    made = []
    for image, label in zip(images, labels, strict=True):
        predicted = upsampled_classes(session.run(image[None]), (label.shape[0], label.shape[1]))
        known = label != ignore_index
        made.append(_Row(image, predicted, label, float((predicted != label)[known].mean()) if known.any() else 0.0))
    worst = sorted(made[rows:], key=lambda row: -row.wrong)[:rows]
    return [("", made[:rows]), *([(f": the worst of {len(made) - rows} others", worst)] if worst else [])]


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


def _wrong_pixels(row: _Row, image: NDArray[np.uint8], ignore_index: int) -> NDArray[np.uint8]:
    """Wrong pixels in red on a pale grey image at the label's size; pixels of the ignore index are white."""
    assert row.label is not None
    size = (row.label.shape[1], row.label.shape[0])
    grey = np.asarray(Image.fromarray(image).convert("L").resize(size, Image.Resampling.BILINEAR))
    shown = np.repeat((160 + grey[..., None] // 3).clip(0, 235).astype(np.uint8), 3, axis=2)
    ignored = row.label == ignore_index
    shown[(row.predicted != row.label) & ~ignored] = _WRONG
    shown[ignored] = 255
    return shown


def _colour(ids: LabelArray, palette: Palette, ignore_index: int) -> NDArray[np.uint8]:
    table = np.full((256, 3), 255, np.uint8)
    table[: len(palette)] = palette
    if 0 <= ignore_index < 256:
        table[ignore_index] = 255
    coloured: NDArray[np.uint8] = table[ids]
    return coloured
