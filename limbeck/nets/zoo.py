"""Classifiers by pinned tag: what a net expects to see, where its weights come from, loaded strictly or not at all."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Input:
    """What a net expects: a square of `size` pixels, `channels` (1 or 3), (x / 255 - mean) / std."""

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop_pct: float = 0.875


@dataclass(frozen=True)
class Lineage:
    """Where a net's weights come from, for reports: never guessed, empty where unknown."""

    tag: str  # the exact timm / torchvision tag, hub id, file or run
    data: str = ""  # data that the weights have seen, outside data named ("ImageNet-1k", "JFT-300M + ImageNet-1k")
    licence: str = ""
    sha256: str = ""  # of the weights
    teachers: tuple["Lineage", ...] = field(default=())


class Classifier(nn.Module):
    """A net with its eyes: uint8 images [N, C, H, W] of any size in, logits [N, classes] out.

    `prepare` resizes to `input.size` where the size differs, turns grey into RGB or RGB into grey where the
    channels differ, and normalises; so teachers and student take the same view, each in its own way.
    """

    net: nn.Module
    name: str  # what timm.create_model takes
    arguments: dict[str, Any]  # what else it takes, JSON-able
    classes: tuple[str, ...]
    input: Input
    lineage: Lineage

    def prepare(self, images: Tensor) -> Tensor: ...  # type: ignore[empty-body]

    def forward(self, images: Tensor) -> Tensor: ...  # type: ignore[empty-body]
