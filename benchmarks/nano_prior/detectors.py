"""Detectors whose latencies are published, without weights and post-processing: EfficientDet, YOLOX and YOLOv8."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

ANCHORS, COCO_CLASSES = 9, 90


def _unit(inner: int, outer: int, side: int = 3, stride: int = 1, act: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    """Convolution, batch normalisation and activation."""
    conv = nn.Conv2d(inner, outer, side, stride, side // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer), act())


def _separable(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, inner, 3, 1, 1, groups=inner, bias=False), nn.Conv2d(inner, outer, 1))


class _Level(nn.Module):
    """A feature map at the width and stride of a level of the pyramid."""

    def __init__(self, inner: int, outer: int, *, halve: bool) -> None:
        super().__init__()
        same = inner == outer
        self.project = nn.Identity() if same else nn.Sequential(nn.Conv2d(inner, outer, 1), nn.BatchNorm2d(outer))
        self.halve = halve

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        value = self.project(value)
        return functional.max_pool2d(value, 3, 2, 1) if self.halve else value


class _BiFpnCell(nn.Module):
    """One bidirectional pass over five levels."""

    def __init__(self, width: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.down = nn.ModuleList([self._node(width, act) for _ in range(4)])
        self.up = nn.ModuleList([self._node(width, act) for _ in range(4)])

    @staticmethod
    def _node(width: int, act: type[nn.Module]) -> nn.Sequential:
        return nn.Sequential(act(), _separable(width, width), nn.BatchNorm2d(width))

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        middle = [levels[4]]
        for index, node in zip((3, 2, 1, 0), self.down, strict=True):
            larger = functional.interpolate(middle[0], size=levels[index].shape[2:], mode="nearest")
            middle.insert(0, node(levels[index] + larger))
        result = [middle[0]]
        for index, node in zip((1, 2, 3, 4), self.up, strict=True):
            smaller = functional.max_pool2d(result[-1], 3, 2, 1)
            total = levels[index] + smaller if index == 4 else levels[index] + middle[index] + smaller
            result.append(node(total))
        return result


class _EfficientDet(nn.Module):
    """EfficientDet with its two heads; 90 classes, nine anchors."""

    def __init__(self, backbone: str, width: int, cells: int, repeats: int) -> None:
        super().__init__()
        import timm

        act: type[nn.Module] = nn.ReLU6 if "lite" in backbone else nn.SiLU
        self.backbone = timm.create_model(backbone, pretrained=False, features_only=True, out_indices=(2, 3, 4))
        inner = self.backbone.feature_info.channels()
        self.inputs = nn.ModuleList([_Level(channels, width, halve=False) for channels in inner])
        self.coarse = nn.ModuleList([_Level(inner[-1], width, halve=True), _Level(width, width, halve=True)])
        self.cells = nn.ModuleList([_BiFpnCell(width, act) for _ in range(cells)])

        def head(outer: int) -> nn.Sequential:
            blocks = [nn.Sequential(_separable(width, width), nn.BatchNorm2d(width), act()) for _ in range(repeats)]
            return nn.Sequential(*blocks, _separable(width, outer))

        self.classes, self.boxes = head(ANCHORS * COCO_CLASSES), head(ANCHORS * 4)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        maps = self.backbone(image)
        levels = [project(value) for project, value in zip(self.inputs, maps, strict=True)]
        levels.append(self.coarse[0](maps[-1]))
        levels.append(self.coarse[1](levels[-1]))
        for cell in self.cells:
            levels = cell(levels)
        return [head(level) for level in levels for head in (self.classes, self.boxes)]


class _Bottleneck(nn.Module):
    def __init__(self, width: int, first_side: int, *, add: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(_unit(width, width, first_side), _unit(width, width))
        self.add = add

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value + self.body(value) if self.add else self.body(value)


class _CspLayer(nn.Module):
    """YOLOX's cross-stage layer."""

    def __init__(self, inner: int, outer: int, count: int, *, add: bool = True) -> None:
        super().__init__()
        half = outer // 2
        self.left, self.right, self.end = _unit(inner, half, 1), _unit(inner, half, 1), _unit(outer, outer, 1)
        self.blocks = nn.Sequential(*(_Bottleneck(half, 1, add=add) for _ in range(count)))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.end(torch.cat([self.blocks(self.left(value)), self.right(value)], 1))


class _C2f(nn.Module):
    """YOLOv8's cross-stage layer, which concatenates the outputs of all its blocks."""

    def __init__(self, inner: int, outer: int, count: int, *, add: bool = False) -> None:
        super().__init__()
        half = outer // 2
        self.start, self.end = _unit(inner, outer, 1), _unit((2 + count) * half, outer, 1)
        self.blocks = nn.ModuleList([_Bottleneck(half, 3, add=add) for _ in range(count)])

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        parts = list(self.start(value).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.end(torch.cat(parts, 1))


class _Spp(nn.Module):
    """Spatial pyramid pooling, in parallel (YOLOX) or one after the other (YOLOv8)."""

    def __init__(self, inner: int, sides: tuple[int, ...], *, serial: bool) -> None:
        super().__init__()
        self.start, self.end = _unit(inner, inner // 2, 1), _unit(inner // 2 * (len(sides) + 1), inner, 1)
        self.sides, self.serial = sides, serial

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        parts = [self.start(value)]
        for side in self.sides:
            parts.append(functional.max_pool2d(parts[-1] if self.serial else parts[0], side, 1, side // 2))
        return self.end(torch.cat(parts, 1))


class _Focus(nn.Module):
    """Every second pixel in four groups of channels, then a convolution."""

    def __init__(self, outer: int) -> None:
        super().__init__()
        self.body = _unit(12, outer)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        parts = [image[..., row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
        return self.body(torch.cat(parts, 1))


class _Pyramid(nn.Module):
    """Top-down and bottom-up path of both YOLO generations."""

    def __init__(self, widths: list[int], count: int, layer: Callable[..., nn.Module], *, narrow: bool) -> None:
        super().__init__()
        small, middle, large = widths
        self.narrow = narrow
        self.lateral = _unit(large, middle, 1) if narrow else nn.Identity()
        self.reduce = _unit(middle, small, 1) if narrow else nn.Identity()
        above, below = (middle, small) if narrow else (large, middle)
        self.top = layer(above + middle, middle, count, add=False)
        self.out_small = layer(below + small, small, count, add=False)
        self.down_small, self.down_middle = _unit(small, small, 3, 2), _unit(middle, middle, 3, 2)
        self.out_middle = layer(small + (small if narrow else middle), middle, count, add=False)
        self.out_large = layer(middle + (middle if narrow else large), large, count, add=False)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        small, middle, large = maps
        large = self.lateral(large)
        top = self.top(torch.cat([functional.interpolate(large, scale_factor=2.0, mode="nearest"), middle], 1))
        top = self.reduce(top)
        first = self.out_small(torch.cat([functional.interpolate(top, scale_factor=2.0, mode="nearest"), small], 1))
        second = self.out_middle(torch.cat([self.down_small(first), top], 1))
        return [first, second, self.out_large(torch.cat([self.down_middle(second), large], 1))]


class _YoloX(nn.Module):
    """YOLOX with decoupled heads; four classes, as in the published rows."""

    def __init__(self, depth: float, width: float, classes: int = 4) -> None:
        super().__init__()
        base, few, many = int(64 * width), max(1, round(3 * depth)), max(1, round(9 * depth))
        channels = [base * 2**index for index in range(5)]
        self.stem = _Focus(base)
        stages = []
        for index, count in enumerate((few, many, many)):
            inner, outer = channels[index], channels[index + 1]
            stages.append(nn.Sequential(_unit(inner, outer, 3, 2), _CspLayer(outer, outer, count)))
        inner, outer = channels[3:]
        last = (_unit(inner, outer, 3, 2), _Spp(outer, (5, 9, 13), serial=False))
        stages.append(nn.Sequential(*last, _CspLayer(outer, outer, few, add=False)))
        self.stages = nn.ModuleList(stages)
        self.neck = _Pyramid(channels[2:], few, _CspLayer, narrow=True)
        wide = int(256 * width)
        self.heads = nn.ModuleList([self._head(inner, wide, classes) for inner in channels[2:]])

    @staticmethod
    def _head(inner: int, wide: int, classes: int) -> nn.ModuleList:
        def branch() -> nn.Sequential:
            return nn.Sequential(_unit(wide, wide), _unit(wide, wide))

        ends = [nn.Conv2d(wide, outer, 1) for outer in (classes, 4, 1)]
        return nn.ModuleList([_unit(inner, wide, 1), branch(), branch(), *ends])

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        value, maps = self.stem(image), []
        for stage in self.stages:
            value = stage(value)
            maps.append(value)
        result = []
        for level, (start, left, right, kind, box, sure) in zip(self.neck(maps[1:]), self.heads, strict=True):
            shared = start(level)
            boxes = right(shared)
            result += [kind(left(shared)).sigmoid(), box(boxes), sure(boxes).sigmoid()]
        return result


class _YoloV8(nn.Module):
    """YOLOv8 without the decoding of its boxes; 80 classes."""

    def __init__(self, depth: float, width: float, classes: int = 80) -> None:
        super().__init__()
        channels = [int(size * width) for size in (64, 128, 256, 512, 1024)]
        few, many = max(1, round(3 * depth)), max(1, round(6 * depth))
        self.stem = _unit(3, channels[0], 3, 2)
        stages = []
        for index, count in enumerate((few, many, many, few)):
            inner, outer = channels[index], channels[index + 1]
            stages.append(nn.Sequential(_unit(inner, outer, 3, 2), _C2f(outer, outer, count, add=True)))
        stages[-1].append(_Spp(channels[-1], (5, 5, 5), serial=True))
        self.stages = nn.ModuleList(stages)
        self.neck = _Pyramid(channels[2:], few, _C2f, narrow=False)
        boxes, kinds = max(16, channels[2] // 4, 64), max(channels[2], min(classes, 100))
        self.heads = nn.ModuleList(
            [
                nn.Sequential(_unit(inner, wide), _unit(wide, wide), nn.Conv2d(wide, outer, 1))
                for inner in channels[2:]
                for wide, outer in ((boxes, 64), (kinds, classes))
            ]
        )

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        value, maps = self.stem(image), []
        for stage in self.stages:
            value = stage(value)
            maps.append(value)
        levels = self.neck(maps[1:])
        return [head(levels[index // 2]) for index, head in enumerate(self.heads)]


_EFFICIENTDETS = {
    "lite0": ("tf_efficientnet_lite0", 64, 3, 3),
    "lite1": ("tf_efficientnet_lite1", 88, 4, 3),
    "lite2": ("tf_efficientnet_lite2", 112, 5, 3),
    "lite3": ("tf_efficientnet_lite3", 160, 6, 4),
    "lite4": ("tf_efficientnet_lite4", 224, 7, 4),
    "d0": ("tf_efficientnet_b0", 64, 3, 3),
    "d1": ("tf_efficientnet_b1", 88, 4, 3),
    "d2": ("tf_efficientnet_b2", 112, 5, 3),
    "d3": ("tf_efficientnet_b3", 160, 6, 4),
    "d4": ("tf_efficientnet_b4", 224, 7, 4),
}
_YOLOX = {"tiny": (0.33, 0.375), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}
_YOLOV8 = {"n": (0.33, 0.25), "s": (0.33, 0.5)}

DETECTORS: dict[str, Callable[[], nn.Module]] = {
    **{f"efficientdet{key}": (lambda form=form: _EfficientDet(*form)) for key, form in _EFFICIENTDETS.items()},
    **{f"yolox{key}": (lambda form=form: _YoloX(*form)) for key, form in _YOLOX.items()},
    **{f"yolov8{key}": (lambda form=form: _YoloV8(*form)) for key, form in _YOLOV8.items()},
}
"""Constructors by name, in lower case without separators."""
