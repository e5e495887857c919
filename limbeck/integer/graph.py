"""A trained net as a graph of float operations, from pixels - 128 to the logits, and what it computes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.integer.program import IMAGE, ZERO_POINT, Padding, Shape
from limbeck.nets.classifier import Classifier


@dataclass(frozen=True)
class Constant:
    """A map that is the same for all images, added to the accumulators: times · map."""

    map: Tensor  # [1, channels, height, width]; the same object where evaluations share it
    times: float


@dataclass(frozen=True, eq=False)
class FloatConv:
    """y = (conv(x) + constant) · scale + shift, then ReLU, then a cap. Zeros around the map."""

    weight: Tensor  # [out, in / groups, kernel height, kernel width]
    groups: int
    stride: int
    padding: Padding
    scale: Tensor  # [out]
    shift: Tensor  # [out]
    relu: bool = False
    cap: float | None = None  # of a ReLU6
    constant: Constant | None = None


@dataclass(frozen=True)
class FloatAdd:
    """The sum of factor · map, then ReLU."""

    factors: tuple[float, ...]
    relu: bool = False


@dataclass(frozen=True)
class FloatNarrow:
    """Where a map gets another format: in floats the identity, or a ReLU."""

    relu: bool = False


@dataclass(frozen=True)
class FloatTable:
    """A function of one value, such as hard-swish."""

    function: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FloatScale:
    """Map times channel vector."""


@dataclass(frozen=True)
class FloatMaxPool:
    """Max-pooling; places outside the map don't take part."""

    size: int
    stride: int
    padding: Padding


@dataclass(frozen=True)
class FloatAveragePool:
    """The mean of each window: of its places inside the map, or of all, zeros outside."""

    size: int
    stride: int
    padding: Padding
    inside: bool


@dataclass(frozen=True)
class FloatMean:
    """The mean over the map, [channels, 1, 1]."""


@dataclass(frozen=True)
class FloatConcat:
    """The channels of all inputs, one after the other."""


@dataclass(frozen=True)
class FloatShortcut:
    """Every `stride`-th pixel, zero channels appended up to `channels`."""

    stride: int
    channels: int


FloatOp = (
    FloatConv
    | FloatAdd
    | FloatNarrow
    | FloatTable
    | FloatScale
    | FloatMaxPool
    | FloatAveragePool
    | FloatMean
    | FloatConcat
    | FloatShortcut
)


@dataclass(frozen=True, eq=False)
class FloatNode:
    """One operation and the maps that it takes, by name."""

    name: str
    inputs: tuple[str, ...]
    op: FloatOp
    shape: Shape  # of its map

    @property
    def path(self) -> str:
        """The name without "[n]": the same in all evaluations."""
        return path_of(self.name)


Graph = tuple[FloatNode, ...]
See = Callable[[str, Tensor], None]
Apply = Callable[[FloatNode, list[Tensor]], Tensor]


@cache
def path_of(name: str) -> str:
    """Return the name without "[n]"."""
    return re.sub(r"\[\d+\]", "", name)


def readers(graph: Graph) -> dict[str, list[FloatNode]]:
    """Return the nodes that read each map, by the map's name, the image's included."""
    found: dict[str, list[FloatNode]] = {IMAGE: [], **{node.name: [] for node in graph}}
    for node in graph:
        for name in node.inputs:
            found[name].append(node)
    return found


def affine_conv(gain: Tensor, offset: Tensor) -> FloatConv:
    """Return gain · x + offset as a depthwise convolution."""
    return FloatConv(gain.new_ones(len(gain), 1, 1, 1), len(gain), 1, (0, 0, 0, 0), gain, offset)


# --- what it computes ----------------------------------------------------------------------------------------------


def convolve(x: Tensor, weight: Tensor, conv: FloatConv) -> Tensor:
    """Return the convolution of x with `weight` in place of conv's own."""
    top, bottom, left, right = conv.padding
    if (top, left) != (bottom, right):
        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
    return F.conv2d(x, weight, None, conv.stride, (top, left), groups=conv.groups)


def max_pool(x: Tensor, pool: FloatMaxPool) -> Tensor:
    """Return the largest of each window."""
    top, bottom, left, right = pool.padding
    if len({*pool.padding}) == 1:
        return F.max_pool2d(x, pool.size, pool.stride, top)
    return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=float("-inf")), pool.size, pool.stride)


def window_sums(x: Tensor, pool: FloatAveragePool) -> Tensor:
    """Return the sum of each window."""
    top, bottom, left, right = pool.padding
    padded = F.pad(x, (left, right, top, bottom))
    return F.avg_pool2d(padded, pool.size, pool.stride, divisor_override=1)


def shortcut(x: Tensor, op: FloatShortcut) -> Tensor:
    """Return every stride-th pixel, with zero channels appended."""
    return F.pad(x[:, :, :: op.stride, :: op.stride], (0, 0, 0, 0, 0, op.channels - x.shape[1]))


def apply(node: FloatNode, maps: list[Tensor]) -> Tensor:  # noqa: C901, PLR0911 - one case per operation
    """Return the node's map [N, C, H, W] from those that it takes."""
    x = maps[0]
    match node.op:
        case FloatConv() as conv:
            acc = convolve(x, conv.weight, conv)
            if conv.constant is not None:
                acc = acc + conv.constant.times * conv.constant.map
            y = acc * conv.scale[:, None, None] + conv.shift[:, None, None]
            return y.clamp(0, conv.cap) if conv.relu else y
        case FloatAdd(factors, relu):
            terms = [y if factor == 1 else factor * y for factor, y in zip(factors, maps, strict=True)]
            total = sum(terms[1:], terms[0])
            return F.relu(total) if relu else total
        case FloatNarrow(relu):
            return F.relu(x) if relu else x
        case FloatTable(function):
            return function(x)
        case FloatScale():
            return x * maps[1]
        case FloatMaxPool() as pool:
            return max_pool(x, pool)
        case FloatAveragePool() as pool:
            places = window_sums(torch.ones_like(x[:1, :1]), pool) if pool.inside else pool.size**2
            return window_sums(x, pool) / places
        case FloatMean():
            return x.mean((2, 3), keepdim=True)
        case FloatConcat():
            return torch.cat(maps, 1)
        case FloatShortcut() as op:
            return shortcut(x, op)


def evaluate(graph: Graph, x: Tensor, see: See, apply: Apply = apply) -> Tensor:
    """Return the logits [N, classes] of pixels - 128, calling `see` with each node's name and map."""
    see(IMAGE, x)
    maps = {IMAGE: x}
    last = {name: node.name for node in graph for name in node.inputs}
    for node in graph:
        maps[node.name] = apply(node, [maps[name] for name in node.inputs])
        for name in {*node.inputs}:
            if last[name] == node.name:
                del maps[name]
        see(node.name, maps[node.name])
    return maps[graph[-1].name][:, :, 0, 0]


def centred(graph: Graph, images: Tensor) -> Tensor:
    """Return uint8 images as the graph takes them: minus 128, in the type of its weights."""
    like = next(node.op.weight for node in graph if isinstance(node.op, FloatConv))
    return images.to(like) - ZERO_POINT


def pixels(classifier: Classifier, images: Tensor) -> Tensor:
    """Return uint8 images [N, channels, size, size] as a program takes them: what `prepare` gives, not normalised."""
    values = (classifier.prepare(images).float() - classifier.shift) / classifier.scale
    return values.round().clamp(0, 255).to(torch.uint8)
