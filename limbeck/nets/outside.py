"""A net that runs outside torch, as a Classifier: a Program in numpy, an ONNX file in onnxruntime."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.nets.classifier import Classifier, Input, Lineage, check_input
from limbeck.nets.count import Table, count

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Takes uint8 images [N, channels, size, size], gives logits [N, classes]."""


@dataclass(frozen=True)
class Cost:
    """What can't be counted from outside."""

    parameters: int
    macs: int  # multiply-accumulates of one image


class Outside(nn.Module):
    """Pixels [N, channels, size, size] in [0, 255] in, logits float32 [N, classes] out. There are no gradients."""

    def __init__(self, answer: Answer, engine: str, cost: Cost) -> None:
        super().__init__()
        self.answer = answer
        self.engine = engine
        self.cost = cost
        self.empty = nn.Parameter(torch.zeros(0), requires_grad=False)  # Classifier reads dtype and device from it

    def forward(self, pixels: Tensor) -> Tensor:
        whole = pixels.round().clamp(0, 255).to(torch.uint8)
        logits = self.answer(np.ascontiguousarray(whole.cpu().numpy()))
        return torch.from_numpy(np.asarray(logits, np.float32)).to(pixels.device)


def cost_of(net: Classifier) -> Cost | Table:
    """Return the net's parameters and multiply-accumulates: known, or counted."""
    return net.net.cost if isinstance(net.net, Outside) else count(net.net, net.input.shape)


def outside(
    answer: Answer,
    *,
    engine: str,
    name: str,
    classes: tuple[str, ...],
    size: int,
    channels: int,
    interpolation: str,
    crop_pct: float,
    white: int,
    lineage: Lineage,
    cost: Cost,
) -> Classifier:
    """Return the Classifier that `answer` is. Its normalisation is `answer`'s own: it is given pixels as they are."""
    seen = Input(size, channels, (0.0,) * channels, (1 / 255,) * channels, interpolation, crop_pct, white)
    check_input(seen, lineage.tag)
    return Classifier(
        Outside(answer, engine, cost), name=name, arguments={}, classes=classes, input=seen, lineage=lineage
    )
