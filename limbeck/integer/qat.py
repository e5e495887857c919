"""Quantisation-aware training: forward is the Program's arithmetic, backward is the float net's."""

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbeck.integer.extract import extract, record
from limbeck.integer.formats import Formats, formatted
from limbeck.integer.graph import (
    FloatAdd,
    FloatAveragePool,
    FloatConv,
    FloatMean,
    FloatNarrow,
    FloatNode,
    FloatScale,
    FloatTable,
    Graph,
    apply,
    convolve,
    evaluate,
    pixels,
    window_sums,
)
from limbeck.integer.program import ZERO_POINT, AveragePool, windows
from limbeck.integer.scales import Plan, Ranges, plan
from limbeck.integer.tables import Tables, narrowing, ratios, table_of, tables, together
from limbeck.nets.classifier import Classifier


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
        self.recorded = record(classifier)

    def graph(self) -> Graph:
        """Return the float graph as it is now."""
        return extract(self.inner, self.recorded)

    def forward(self, x: Tensor) -> Tensor:  # noqa: C901 - one case per operation
        graph, plan = formatted(self.graph(), self.plan.formats)[0], self.plan
        made = {name: one for nodes in together(graph) for name, one in self._tables(nodes).items()}
        shapes = {node.name: node.shape for node in graph}

        def in_integers(node: FloatNode, maps: list[Tensor]) -> Tensor:  # noqa: PLR0911
            x, bits = maps[0], plan.bits_of(node.name)
            comes_in, goes_out = plan.scale_of(node.inputs[0]), plan.scale_of(node.name)

            def requantised(sums: Tensor, share: float) -> Tensor:
                mult, shift = ratios(comes_in, goes_out, share, node.shape[0])
                scaled = sums.double() * x.new_tensor(mult * 2.0**-shift, dtype=torch.float64)[:, None, None]
                return whole(_saturated(scaled, bits)).to(x.dtype)

            match node.op:
                case FloatConv() as conv:
                    return _conv(conv, *made[node.name], x, bits)
                case FloatAdd(_, relu):
                    return _saturated(apply(node, maps), bits, relu)
                case FloatNarrow(relu):
                    factor, shift = narrowing(comes_in, goes_out)
                    return whole(_saturated(x * (factor * 2.0**-shift), bits, relu))
                case FloatTable(function):
                    smooth = function(x * comes_in[0]) / goes_out[0]
                    exact = table_of(node, comes_in, goes_out, bits).to(x)[(x.detach() + 128).long()]
                    return smooth + (exact - smooth).detach()
                case FloatScale():
                    return requantised(x.double() * maps[1], plan.scale_of(node.inputs[1])[0])
                case FloatAveragePool() as pool:
                    counts, common = windows(cast(AveragePool, pool), shapes[node.inputs[0]])
                    if not pool.inside:
                        return requantised(window_sums(x, pool), 1 / pool.size**2)
                    return requantised(window_sums(x, pool) * x.new_tensor(common // counts), 1 / common)
                case FloatMean():
                    return requantised(x.double().sum((2, 3), keepdim=True), 1 / math.prod(x.shape[2:]))
                case _:
                    return apply(node, maps)

        images = whole((x - self.inner.shift) / self.inner.scale).clamp(0, 255) - ZERO_POINT
        scores = evaluate(graph, images, lambda _path, _map: None, in_integers)
        return scores * plan.scale_of(graph[-1].name)[0]

    def _tables(self, nodes: list[FloatNode]) -> dict[str, tuple[Tables, int]]:
        """Return each convolution's tables, and its place in them."""
        plan, first = self.plan, nodes[0]
        convs = [node.op for node in nodes if isinstance(node.op, FloatConv)]
        comes_in, goes_out = plan.scale_of(first.inputs[0]), plan.scale_of(first.name)
        mean = plan.mean_of(first.inputs[0])
        made = tables(convs, comes_in, goes_out, plan.formats.weight(first.path), whole, mean)
        return {node.name: (made, place) for place, node in enumerate(nodes)}


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
    inner = copy.deepcopy(classifier).requires_grad_(True)  # a teacher's parameters are frozen
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


def _conv(conv: FloatConv, made: Tables, place: int, x: Tensor, bits: int) -> Tensor:
    acc = convolve(x, made.weight.to(x.dtype), conv).double()
    acc = acc + made.offset[place][:, None, None]
    if made.border is not None and made.ticks[place]:
        acc = acc + made.ticks[place] * made.border[:, made.rows][:, :, made.columns]
    mult = made.mult[place][:, None, None]
    return whole(_saturated(acc * mult * 2.0**-made.shift, bits, conv.relu)).to(x.dtype)


def _saturated(x: Tensor, bits: int, relu: bool = False) -> Tensor:
    """Clip to signed bits, before rounding: the values are the same, and what rounds to an end keeps its gradient."""
    return x.clamp(0 if relu else -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
