"""Picture of a front for the README: a stand-alone SVG without scripts, fonts or references."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dashboards import text
from dashboards.figures.parts import BUDGET, FAINT, FRONT, GREY, GRID, INK, MEASURED, axis_ranges, staircase
from objectives.pareto import ParetoFront
from objectives.trial_record import TrialRecord
from search_spaces._common.files import atomic_path

WIDTH, HEIGHT = 900, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 28, 116, 62
_BASELINES = ("#8b3fd1", "#0f9d8a", "#a16207")


@dataclass(frozen=True)
class Baseline:
    """Baseline of the picture: one network, or the front of another search.

    Attributes:
        name: name in the legend.
        points: (latency_ms, mIoU) of each of its networks.
        joined: draw the points as a front (a staircase).
    """

    name: str
    points: tuple[tuple[float, float], ...]
    joined: bool = False


@dataclass(frozen=True)
class _Plane:
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, latency: float, score: float) -> tuple[float, float]:
        """Pixel of a value, clipped to the plot."""
        u = (latency - self.x[0]) / (self.x[1] - self.x[0])
        v = (score - self.y[0]) / (self.y[1] - self.y[0])
        u, v = min(max(u, 0.0), 1.0), min(max(v, 0.0), 1.0)
        return _LEFT + u * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - v * (HEIGHT - _TOP - _BOTTOM)


def front_svg(
    records: Sequence[TrialRecord],
    front: ParetoFront,
    *,
    title: str,
    subtitle: str = "",
    latency_budget_ms: float | None = None,
    baselines: Sequence[Baseline] = (),
) -> str:
    """Draw the front as SVG source: 900 x 520, on a white background, also legible on a dark page.

    Grey dots are fully trained networks, the blue staircase is the front with the interval of each predicted latency, orange
    diamonds are measurements.
    """
    ranges = axis_ranges(records, latency_budget_ms)
    body = [_text(_LEFT - 44, 36, title, size=20, weight=600)]
    if subtitle:
        body.append(_text(_LEFT - 44, 58, subtitle, size=13, colour=GREY))
    if ranges is None:
        body.append(
            _text(WIDTH / 2, HEIGHT / 2, "No network has been trained to the end yet.", anchor="middle", colour=GREY)
        )
        return _document(body, title, "no complete trial")
    plane = _fitted(ranges, baselines)
    body += _axes(plane)
    if latency_budget_ms is not None and latency_budget_ms < plane.x[1]:
        x, top = plane.at(latency_budget_ms, plane.y[1])
        body.append(_line((x, top), (x, HEIGHT - _BOTTOM), BUDGET, 1.4, dash="6 4"))
        label = f"budget {latency_budget_ms:g} ms"
        body.append(_text(x - 6, HEIGHT - _BOTTOM - 8, label, size=12, colour=BUDGET, anchor="end"))
    legend: list[tuple[str, str, str]] = []
    off = [r for r in records if r.complete and r not in front]
    if off:
        body += [_mark("dot", plane.at(*_point(r)), GREY, _describe(r), opacity=0.6) for r in off]
        legend.append(("dot", GREY, "trained to the end"))
    for baseline, colour in zip(baselines, _BASELINES * len(baselines), strict=False):
        body += _baseline(baseline, plane, colour)
        legend.append(("square", colour, baseline.name))
    steps = [plane.at(*corner) for corner in staircase(front, plane.x[1], plane.y[0])]
    if steps:
        body.append(_path(steps, FRONT, 2.2))
        legend.append(("dot", FRONT, "Pareto front: predicted, with interval"))
    measured = [r for r in records if r.complete and r.measured_ms is not None]
    for record in measured:
        latency, score = _point(record)
        body.append(
            _line(plane.at(latency, score), plane.at(record.measured_ms or 0, score), MEASURED, 1.4, dash="2 3")
        )
    for record in front.records:
        body += _member(record, plane)
    for record in measured:
        body.append(_mark("diamond", plane.at(record.measured_ms or 0, _point(record)[1]), MEASURED, _describe(record)))
    if measured:
        legend.append(("diamond", MEASURED, "measured"))
    body += _legend(legend)
    fastest = ", ".join(f"{text.miou(r.val_miou)} at {text.milliseconds(r.latency_ms)} ms" for r in front.records)
    return _document(body, title, f"Pareto front of mIoU and latency: {fastest}")


def write_front_picture(path: Path, svg: str) -> Path:
    """Write the text of ``front_svg`` to ``path``, atomically. Raises UserError if it cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(svg, encoding="utf-8")
    return path


def nice_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Compute about ``wanted`` multiples of 1, 2 or 5 times a power of ten between low and high."""
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def _fitted(ranges: tuple[tuple[float, float], tuple[float, float]], baselines: Sequence[Baseline]) -> _Plane:
    (left, right), (bottom, top) = ranges
    points = [point for baseline in baselines for point in baseline.points]
    right = max([right, *(1.06 * latency for latency, _ in points)])
    bottom = max(0.0, min([bottom, *(score - 0.01 for _, score in points)]))
    top = min(1.0, max([top, *(score + 0.01 for _, score in points)]))
    return _Plane((left, right), (bottom, top))


def _point(record: TrialRecord) -> tuple[float, float]:
    return record.latency_ms or 0.0, record.val_miou or 0.0


def _describe(record: TrialRecord) -> str:
    measured = f", measured {text.milliseconds(record.measured_ms)} ms" if record.measured_ms is not None else ""
    predicted = f"{text.milliseconds(record.latency_ms)} ms {text.interval(record)}"
    return f"trial {record.number}: {text.network(record)}; mIoU {text.miou(record.val_miou)}; {predicted}{measured}"


def _axes(plane: _Plane) -> list[str]:
    parts = []
    left, bottom = plane.at(plane.x[0], plane.y[0])
    right, top = plane.at(plane.x[1], plane.y[1])
    for value in nice_ticks(*plane.y, wanted=8):
        y = plane.at(0, value)[1]
        parts.append(_line((left, y), (right, y), GRID, 1))
        parts.append(_text(left - 10, y + 4, f"{value:g}", size=12, anchor="end"))
    for value in nice_ticks(*plane.x, wanted=8):
        x = plane.at(value, 0)[0]
        parts.append(_line((x, bottom), (x, bottom + 5), FAINT, 1))
        parts.append(_text(x, bottom + 20, f"{value:g}", size=12, anchor="middle"))
    parts.append(_path([(left, top), (left, bottom), (right, bottom)], FAINT, 1.2))
    parts.append(_text((left + right) / 2, HEIGHT - 18, "latency, ms", size=13, anchor="middle"))
    middle = (top + bottom) / 2
    parts.append(_text(24, middle, "validation mIoU", size=13, anchor="middle", rotate=True))
    return parts


def _member(record: TrialRecord, plane: _Plane) -> list[str]:
    latency, score = _point(record)
    x, y = plane.at(latency, score)
    parts = []
    if record.estimate is not None:
        low, high = plane.at(record.estimate.low_ms, score)[0], plane.at(record.estimate.high_ms, score)[0]
        parts.append(_line((low, y), (high, y), FRONT, 1.4))
        parts += [_line((end, y - 4), (end, y + 4), FRONT, 1.4) for end in (low, high)]
    parts.append(_mark("dot", (x, y), FRONT, _describe(record), radius=5.5))
    return parts


def _baseline(baseline: Baseline, plane: _Plane, colour: str) -> list[str]:
    points = sorted(baseline.points)
    parts = []
    if baseline.joined and points:
        corners = [points[0]]
        for latency, score in points[1:]:
            corners += [(latency, corners[-1][1]), (latency, score)]
        corners.append((plane.x[1], corners[-1][1]))
        parts.append(_path([plane.at(*corner) for corner in corners], colour, 1.6, dash="5 3"))
    title = f"{baseline.name}: "
    for latency, score in points:
        label = f"{title}mIoU {text.miou(score)} at {text.milliseconds(latency)} ms"
        parts.append(_mark("square", plane.at(latency, score), colour, label))
    return parts


def _legend(entries: Sequence[tuple[str, str, str]]) -> list[str]:
    """Draw the legend above the plot, in a second line if it is too long."""
    parts, x, y = [], float(_LEFT), float(_TOP - 30)
    widths = [34 + 6.9 * len(label) for _, _, label in entries]
    if sum(widths) <= WIDTH - _LEFT - _RIGHT:
        y += 14
    for (shape, colour, label), width in zip(entries, widths, strict=True):
        if x > _LEFT and x + width > WIDTH - _RIGHT + 20:
            x, y = float(_LEFT), y + 19
        parts.append(_mark(shape, (x + 5, y), colour, ""))
        parts.append(_text(x + 16, y + 4, label, size=12))
        x += width
    return parts


def _mark(
    shape: str, at: tuple[float, float], colour: str, title: str, *, radius: float = 4.5, opacity: float = 1.0
) -> str:
    x, y = at
    inner, edge = ("#ffffff", colour) if shape == "diamond" else (colour, "#ffffff")
    stroke = 1.8 if shape == "diamond" else 1
    style = f'fill="{inner}" fill-opacity="{opacity:g}" stroke="{edge}" stroke-width="{stroke:g}"'
    tip = f"<title>{escape(title)}</title>" if title else ""
    if shape == "dot":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" {style}>{tip}</circle>'
    r = radius if shape == "diamond" else radius - 0.5
    turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if shape == "diamond" else ""
    side = f'x="{x - r * 0.9:.1f}" y="{y - r * 0.9:.1f}" width="{1.8 * r:.1f}" height="{1.8 * r:.1f}"'
    return f"<rect {side}{turn} {style}>{tip}</rect>"


def _line(start: tuple[float, float], end: tuple[float, float], colour: str, width: float, *, dash: str = "") -> str:
    return _path([start, end], colour, width, dash=dash)


def _path(points: Sequence[tuple[float, float]], colour: str, width: float, *, dash: str = "") -> str:
    data = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="{data}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}/>'


def _text(
    x: float,
    y: float,
    value: str,
    *,
    size: int = 13,
    colour: str = INK,
    anchor: str = "start",
    weight: int = 400,
    rotate: bool = False,
) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if rotate else ""
    style = f'font-size="{size}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}{turn}>{escape(value)}</text>'


def _document(body: Sequence[str], title: str, description: str) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" font-family="system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif">'
    )
    card = f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10" fill="#ffffff" stroke="{FAINT}"/>'
    lines = [head, f"<title>{escape(title)}</title>", f"<desc>{escape(description)}</desc>", card, *body, "</svg>"]
    return "\n".join(lines) + "\n"
