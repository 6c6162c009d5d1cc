"""Well-known networks by name, without weights: torchvision's, timm's, ours, and further segmentation networks.

They are built only to extract their kernels; none is trained or matches a published checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from benchmarks.nano_prior.detectors import DETECTORS
from search_spaces.networks.deeplab import DeepLabV3Plus
from search_spaces.networks.layers import conv_bn_relu, resize_like
from search_spaces.networks.reference_networks.fast_scnn import fast_scnn
from search_spaces.networks.reference_networks.unet import unet

NUM_CLASSES = 21


def build_network(name: str) -> nn.Module | None:
    """Build the network of this name, in any spelling (``ResNet-50``, ``resnet50``); None if it is unknown."""
    make = _maker(name.rpartition("/")[2])
    if make is None:
        return None
    try:
        with torch.device("meta"):  # shapes suffice, and initialising 138 million weights takes seconds
            return make().eval()
    except (NotImplementedError, RuntimeError):  # a constructor that computes with its tensors
        return make().eval()


def _maker(name: str) -> Callable[[], nn.Module] | None:
    key = _key(name)
    key = _ALIASES.get(key, key)
    if key in _OWN:
        return _OWN[key]
    if (detector := re.sub(r"^tf(?=efficientdet)", "", key)) in DETECTORS:
        return DETECTORS[detector]
    match = re.fullmatch(r"(fcn|deeplabv3plus|unet|pspnet)(resnet(?:18|34)|resnet(?:50|101)|mobilenetv2)", key)
    if match is not None and not (match[1] == "fcn" and match[2] in ("resnet50", "resnet101")):
        return partial(_HEADS[match[1]], match[2])
    import torchvision

    for known in torchvision.models.list_models():
        if _key(known) == key:
            options = {"weights_backbone": None} if _has_backbone(known) else {}
            slow = {"init_weights": False} if known in ("googlenet", "inception_v3") else {}
            return partial(torchvision.models.get_model, known, weights=None, **options, **slow)
    import timm

    untagged = _key(name.partition(".")[0])  # timm appends the tag of the weights after a dot
    for known in timm.list_models():
        if _key(known) in (key, untagged):
            return partial(timm.create_model, known, pretrained=False)
    return None


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", re.sub(r"\(.*?\)", "", name.lower()).replace("+", "plus"))


def _has_backbone(name: str) -> bool:
    return name.startswith(
        ("fcn_", "deeplabv3_", "lraspp_", "ssd", "fasterrcnn", "maskrcnn", "retinanet", "keypointrcnn", "fcos")
    )


def _conv(inner: int, outer: int, side: int = 3) -> nn.Sequential:
    return conv_bn_relu(inner, outer, side)


class _Resized(nn.Module):
    """Backbone and head whose logits are resized to the image.

    Args:
        backbone: maps images (N, 3, H, W) to a list of features.
        head: maps features to logits.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return resize_like(self.head(self.backbone(image)), image)


class _Features(nn.Module):
    """Feature maps of a torchvision backbone at strides 2, 4, 8, 16 and 32."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import torchvision

        if name == "mobilenetv2":
            layers = list(torchvision.models.mobilenet_v2(weights=None).features)
            self.stages = nn.ModuleList(
                [
                    nn.Sequential(*layers[:2]),
                    nn.Sequential(*layers[2:4]),
                    nn.Sequential(*layers[4:7]),
                    nn.Sequential(*layers[7:14]),
                    nn.Sequential(*layers[14:18]),
                ]
            )
            self.channels = [16, 24, 32, 96, 320]
            return
        net = torchvision.models.get_model(name, weights=None)
        stem = nn.Sequential(net.conv1, net.bn1, net.relu)
        self.stages = nn.ModuleList([stem, nn.Sequential(net.maxpool, net.layer1), net.layer2, net.layer3, net.layer4])
        wide = 4 if name in ("resnet50", "resnet101") else 1
        self.channels = [64, 64 * wide, 128 * wide, 256 * wide, 512 * wide]

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        values = []
        for stage in self.stages:
            image = stage(image)
            values.append(image)
        return values


class _Fcn(nn.Module):
    """jetson-inference's FCN: the backbone at stride 32, torchvision's head, logits at that resolution."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.features = _Features(backbone)
        inner = self.features.channels[-1]
        self.head = nn.Sequential(_conv(inner, inner // 4), nn.Conv2d(inner // 4, NUM_CLASSES, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", self.head(self.features(image)[-1]))


class _DeepLabFeatures(_Features):
    """Feature maps at strides 4 and 16."""

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return super().forward(image)[1:4:2]


def _deeplab_v3_plus(backbone: str) -> nn.Module:
    """Chen et al. 2018, without dilated stages: pyramid of dilated convolutions at stride 16, decoder at stride 4."""
    features = _DeepLabFeatures(backbone)
    channels = features.channels[1:4:2]
    return _Resized(features, DeepLabV3Plus(channels, (4, 16), 256, NUM_CLASSES, depthwise=False))


class _PspNet(nn.Module):
    """Zhao et al. 2017, without dilated stages: pooled context of four sizes concatenated to the last map."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.features = _Features(backbone)
        inner = self.features.channels[-1]
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), _conv(inner, inner // 4, 1)) for size in (1, 2, 3, 6)
        )
        self.head = nn.Sequential(_conv(2 * inner, inner // 4), nn.Conv2d(inner // 4, NUM_CLASSES, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        deep = self.features(image)[-1]
        context = [resize_like(branch(deep), deep) for branch in self.branches]
        return resize_like(self.head(torch.cat([deep, *context], 1)), image)


class _BackboneUnet(nn.Module):
    """A U-Net decoder (256, 128, 64, 32, 16 channels) over a classification backbone."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.features = _Features(backbone)
        skips = [*self.features.channels[:4][::-1], 0]
        inner = self.features.channels[-1]
        blocks = []
        for skip, outer in zip(skips, (256, 128, 64, 32, 16), strict=True):
            blocks.append(nn.Sequential(_conv(inner + skip, outer), _conv(outer, outer)))
            inner = outer
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(inner, NUM_CLASSES, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = self.features(image)
        value = maps[-1]
        for block, skip in zip(self.blocks, [*maps[:4][::-1], None], strict=True):
            value = functional.interpolate(value, scale_factor=2.0, mode="nearest")
            value = block(value if skip is None else torch.cat([value, skip], 1))
        return cast("torch.Tensor", self.head(value))


class _Factorised(nn.Module):
    """ERFNet's residual block of 3×1 and 1×3 convolutions."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for reach in (1, dilation):
            layers += [
                nn.Conv2d(width, width, (3, 1), padding=(reach, 0), dilation=(reach, 1)),
                nn.ReLU(),
                nn.Conv2d(width, width, (1, 3), padding=(0, reach), dilation=(1, reach), bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers[:-1])

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return torch.relu(value + self.body(value))


class _Downsampler(nn.Module):
    """Initial block of ERFNet and ENet: a strided convolution concatenated with a max-pooling."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer - inner, 3, 2, 1)
        self.norm = nn.BatchNorm2d(outer)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(torch.cat([self.conv(value), functional.max_pool2d(value, 2)], 1)))


def _erfnet() -> nn.Module:
    def up(inner: int, outer: int) -> nn.Sequential:
        conv = nn.ConvTranspose2d(inner, outer, 3, 2, 1, output_padding=1)
        return nn.Sequential(conv, nn.BatchNorm2d(outer), nn.ReLU())

    return nn.Sequential(
        _Downsampler(3, 16),
        _Downsampler(16, 64),
        *(_Factorised(64, 1) for _ in range(5)),
        _Downsampler(64, 128),
        *(_Factorised(128, dilation) for _ in range(2) for dilation in (2, 4, 8, 16)),
        up(128, 64),
        *(_Factorised(64, 1) for _ in range(2)),
        up(64, 16),
        *(_Factorised(16, 1) for _ in range(2)),
        nn.ConvTranspose2d(16, NUM_CLASSES, 2, 2),
    )


_HEADS: dict[str, Callable[[str], nn.Module]] = {
    "fcn": _Fcn,
    "deeplabv3plus": _deeplab_v3_plus,
    "unet": _BackboneUnet,
    "pspnet": _PspNet,
}
_OWN: dict[str, Callable[[], nn.Module]] = {
    "fastscnn": lambda: _Resized(*fast_scnn(1.0, NUM_CLASSES)),
    "unet": lambda: _Resized(*unet(1.0, NUM_CLASSES)),
    "erfnet": _erfnet,
}
_ALIASES = {
    "deeplabv3": "deeplabv3resnet50",
    "deeplabv3plus": "deeplabv3plusmobilenetv2",
    "pspnet": "pspnetresnet50",
    "lraspp": "lrasppmobilenetv3large",
    "fcn": "fcnresnet18",
    "inception": "inceptionv3",
    "shufflenetv2": "shufflenetv2x10",
    "mobilenet": "mobilenetv1100",
    "mobilenetv1": "mobilenetv1100",
    "mobilenetv3": "mobilenetv3large",
    "efficientnet": "efficientnetb0",
    "mnasnet": "mnasnet10",
    "squeezenet": "squeezenet10",
    "xception": "legacyxception",
}
