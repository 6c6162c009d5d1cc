"""Shape, texture and surroundings carry the class in the built-in scenes: colour alone does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import nn
from torch.nn import functional

from objectives.data import ArraySplit, load_arrays, open_dataset

CLASSES = 14
BATCH = 8
SIZE = (96, 128)


def load(split: str, images: int) -> ArraySplit:
    data = open_dataset("synthetic", root=None, split=split, images=images, height_px=SIZE[0], width_px=SIZE[1], seed=0)
    return load_arrays(data, SIZE, cache_dir=None)


def mean_iou(predicted: np.ndarray, label: np.ndarray) -> float:
    pairs = np.bincount(label.ravel().astype(int) * CLASSES + predicted.ravel(), minlength=CLASSES**2)
    matrix = pairs.reshape(CLASSES, CLASSES)
    hit = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hit
    return float((hit[union > 0] / union[union > 0]).mean())


def colour_classifier(train: ArraySplit, val: ArraySplit) -> float:
    """Boosted trees on one pixel's RGB, with rare classes drawn more often than they occur."""
    rng = np.random.default_rng(0)
    colours, ids = train.images.reshape(-1, 3), train.train_labels.reshape(-1)
    chosen = np.concatenate([rng.choice(np.flatnonzero(ids == c), 1500) for c in range(CLASSES)])
    background = rng.choice(np.flatnonzero(ids == 0), 6000)
    chosen = np.concatenate([chosen, background])
    model = HistGradientBoostingClassifier(max_iter=40, random_state=0).fit(colours[chosen], ids[chosen])
    return mean_iou(model.predict(val.images[::2].reshape(-1, 3)).astype(int), val.train_labels[::2])


def block(channels_in: int, channels_out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU())


class SmallNet(nn.Module):
    """Logits at a quarter of the resolution: a stem, and a dilated branch at an eighth for surroundings."""

    def __init__(self) -> None:
        super().__init__()
        self.at_quarter = nn.Sequential(block(3, 24, 2), block(24, 48, 2), block(48, 48))
        self.at_eighth = nn.Sequential(block(48, 96, 2), block(96, 96, dilation=2), block(96, 96, dilation=3))
        self.narrow = nn.Conv2d(96, 48, 1)
        self.out = nn.Sequential(block(48, 48), nn.Conv2d(48, CLASSES, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        quarter = self.at_quarter(image)
        surroundings = self.narrow(self.at_eighth(quarter))
        return self.out(quarter + functional.interpolate(surroundings, scale_factor=2.0))


def trained_network(train: ArraySplit, val: ArraySplit, epochs: int) -> float:
    torch.manual_seed(0)
    net = SmallNet().to(memory_format=torch.channels_last)
    steps = epochs * (len(train) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    weights = torch.from_numpy(np.bincount(train.train_labels.ravel(), minlength=CLASSES).astype(np.float32)) ** -0.25
    weights /= weights.mean()
    images = torch.from_numpy(train.images.astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1)
    labels = torch.from_numpy(train.train_labels.astype(np.int64))
    for _ in range(epochs):
        for batch in torch.randperm(len(images))[: len(images) // BATCH * BATCH].split(BATCH):
            image, label = images[batch], labels[batch]
            for axis in (1, 2):
                if torch.rand(()) < 0.5:
                    image, label = image.flip(axis + 1), label.flip(axis)
            logits = functional.interpolate(net(image), size=SIZE, mode="bilinear")
            loss = functional.cross_entropy(logits, label, weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        images = torch.from_numpy(val.images.astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1)
        logits = torch.cat([functional.interpolate(net(part), size=SIZE, mode="bilinear") for part in images.split(8)])
    return mean_iou(logits.argmax(1).numpy(), val.labels)


@pytest.mark.slow
def test_colour_alone_stays_under_half_of_a_small_network() -> None:
    train, val = load("train", 120), load("val", 40)
    network = trained_network(train, val, epochs=36)
    colour = colour_classifier(train, val)
    print(f"val mIoU: small network {network:.3f}, colour of a pixel {colour:.3f}")
    assert network > 0.3
    assert colour < 0.5 * network
