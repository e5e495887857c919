"""Quantisation-aware training: forward is the Program's arithmetic, backward is the float net's."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.integer.graph import (
    FloatConv,
    FloatLayer,
    FloatMean,
    FloatNarrow,
    FloatOde,
    FloatPlain,
    FloatPool,
    FloatResidual,
    evaluate,
    extract,
    pixels,
    walk,
)
from limbeck.integer.program import ZERO_POINT
from limbeck.integer.scales import Formats, Plan, Ranges, Tables, mean_ratio, plan, tables
from limbeck.nets.zoo import Classifier


class _Whole(torch.autograd.Function):
    """floor(x + 1/2), whose gradient is that of x: the straight-through estimator."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - torch gives no type
        return torch.floor(x + 0.5)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        return gradient


def whole(x: Tensor) -> Tensor:
    """Return x rounded half up; gradients pass as if it had not been."""
    return _Whole.apply(x)  # type: ignore[no-any-return]


class QuantisedNet(nn.Module):
    """A net in the integers of its Program: normalised images in, logits out.

    Values are integers held by floats, so that forward equals program.run exactly while accumulators stay under
    2**24 (8 bits), and else within float32's rounding. Where a value saturates its gradient is zero. BatchNorm
    uses its running statistics, in training too: they are folded.
    """

    def __init__(self, classifier: Classifier, plan: Plan) -> None:
        super().__init__()
        self.inner = classifier  # the float net, whose parameters are trained
        self.plan = plan

    def layers(self) -> tuple[FloatLayer, ...]:
        """Return the float layers as they are now."""
        return extract(self.inner)

    def forward(self, x: Tensor) -> Tensor:
        layers, plan = self.layers(), self.plan
        made = {path: self._tables(path, layer) for path, layer in walk(layers) if isinstance(layer, FloatConv)}

        def apply(path: str, layer: FloatPlain, x: Tensor, evaluation: int) -> Tensor:
            bits, ratio = plan.bits[path], plan.in_scales[path][0] / plan.scales[path][0]
            match layer:
                case FloatConv():
                    return _conv(layer, made[path], x, evaluation, bits)
                case FloatNarrow():
                    return whole(_saturated(x * ratio, bits))
                case FloatPool():
                    return F.max_pool2d(x, layer.size, layer.stride, layer.padding)
                case FloatMean():
                    mult, shift = mean_ratio(layer.pixels, plan.in_scales[path], plan.scales[path])
                    total = x.double().sum((2, 3), keepdim=True)
                    return whole(_saturated(total * (mult * 2.0**-shift), bits)).to(x.dtype)

        def add(block: FloatResidual | FloatOde, total: Tensor) -> Tensor:
            relu = isinstance(block, FloatResidual) and block.relu
            return _saturated(total, plan.bits[block.name], relu)

        pixels = whole((x - self.inner.shift) / self.inner.scale).clamp(0, 255) - ZERO_POINT
        scores = evaluate(layers, pixels, lambda _path, _map: None, apply, add)
        return scores * plan.scales[layers[-1].name][0]

    def _tables(self, path: str, layer: FloatConv) -> Tables:
        plan = self.plan
        return tables(layer, plan.in_scales[path], plan.scales[path], plan.formats.weight(path), whole)


def prepare_qat(
    classifier: Classifier,
    images: Tensor,
    *,
    weight_bits: int = 8,
    activation_bits: int = 8,
    state_bits: int = 16,
    wide: tuple[str, ...] = (),
    eight: tuple[str, ...] | None = None,
    ranges: Ranges = "mse",
) -> Classifier:
    """Return a copy of the classifier that computes as its Program does, to be trained and then lowered.

    Scales of maps are chosen from uint8 `images` and stay; those of weights follow the weights.
    """
    inner = copy.deepcopy(classifier).requires_grad_(True)  # a net that has taught is frozen
    formats = Formats(weight_bits, activation_bits, state_bits, wide, eight)
    with torch.no_grad():
        chosen = plan(extract(inner), pixels(inner, images), formats, ranges)
    return Classifier(
        QuantisedNet(inner, chosen),
        name=inner.name,
        arguments=inner.arguments,
        classes=inner.classes,
        input=inner.input,
        lineage=inner.lineage,
    )


def _conv(layer: FloatConv, made: Tables, x: Tensor, evaluation: int, bits: int) -> Tensor:
    acc = F.conv2d(x, made.weight.to(x.dtype), None, layer.stride, layer.padding, groups=layer.groups).double()
    acc = acc + made.offset[evaluation % len(made.offset)][:, None, None]
    if made.border is not None and layer.constant is not None:
        ticks = layer.constant.ticks[evaluation % len(layer.constant.ticks)]
        acc = acc + ticks * made.border[:, layer.constant.rows][:, :, layer.constant.columns]
    mult = made.mult[evaluation % len(made.mult)][:, None, None]
    return whole(_saturated(acc * mult * 2.0**-made.shift, bits, layer.relu)).to(x.dtype)


def _saturated(x: Tensor, bits: int, relu: bool = False) -> Tensor:
    """Clip to signed bits; before rounding, which is the same, so that what rounds to an end keeps its gradient."""
    return x.clamp(0 if relu else -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
