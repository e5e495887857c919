"""A trained net as a graph of float operations, from pixels - 128 to the logits: what `lower` rounds.

A trace (integer/trace.py) becomes this graph by a few rules: BatchNorm, biases, sums' factors and activations go into
what makes their map; an affine map, normalisation above all, into the convolution that takes it; a constant map beside
a convolution into its `constant`; a function of one value becomes a table.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from math import lcm, prod
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.integer.program import IMAGE, ZERO_POINT, Padding, Shape
from limbeck.integer.trace import Call, LowerError, Ref, Trace, apply_call, constants, trace
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
    """Where a map gets another format: in floats nothing happens but a ReLU, if it is one."""

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
    """Return who takes each map, by the map's name, the image's too."""
    found: dict[str, list[FloatNode]] = {IMAGE: [], **{node.name: [] for node in graph}}
    for node in graph:
        for name in node.inputs:
            found[name].append(node)
    return found


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
    """Return every stride-th pixel, and zero channels behind."""
    return F.pad(x[:, :, :: op.stride, :: op.stride], (0, 0, 0, 0, 0, op.channels - x.shape[1]))


def apply(node: FloatNode, maps: list[Tensor]) -> Tensor:  # noqa: C901, PLR0911 - a case an operation
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
    """Return the logits [N, classes] of pixels - 128, telling `see` every map under its node's name."""
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


# --- from a trace ----------------------------------------------------------------------------------------------------


def record(classifier: Classifier) -> Trace:
    """Return the operations of the classifier's net on one of its images."""
    seen = classifier.input
    return trace(classifier.net, (seen.channels, seen.size, seen.size))


def extract(classifier: Classifier, recorded: Trace | None = None) -> Graph:
    """Return the graph of the net, from pixels - 128 to the logits in the order of its classes.

    Gradients flow from it to the net's parameters, which may have changed since `recorded`. LowerError where an
    operation has no integer form.
    """
    recorded = record(classifier) if recorded is None else recorded
    built = _Builder(classifier, recorded)
    last = built.build()
    graph = _named(_ordered(_binary(_whole_factors(built.nodes)), last))
    channels = graph[-1].shape
    if channels != (len(classifier.classes), 1, 1):
        raise LowerError(f"the net ends with a map {channels}; it must end with a score for each class")
    return graph if classifier.order is None else _in_order(graph, classifier.order)


@dataclass(frozen=True)
class _Map:
    """A node's map."""

    name: str


@dataclass(frozen=True, eq=False)
class _Affine:
    """gain · map + offset, by channel: what a convolution can take into itself."""

    name: str
    gain: Tensor  # [channels]
    offset: Tensor


@dataclass(frozen=True)
class _Function:
    """A function of each of a map's values."""

    name: str
    function: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Sum:
    """The sum of factor · map."""

    terms: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class _Padded:
    """What a call gave, with zeros around it."""

    of: Ref
    padding: Padding


@dataclass(frozen=True)
class _Strided:
    """Every so-manieth row and column of a map."""

    name: str
    rows: int
    columns: int


@dataclass(frozen=True, eq=False)
class _Resampled:
    """A map whose rows and columns are each mixed by a matrix [new, old]: an adaptive average of a small map."""

    name: str
    rows: Tensor
    columns: Tensor


_Value = _Map | _Affine | _Function | _Sum | _Padded | _Strided | _Resampled

_POINTWISE = frozenset(
    {
        "relu",
        "hardtanh",
        "clamp",
        "clamp_min",
        "clamp_max",
        "hardswish",
        "hardsigmoid",
        "silu",
        "sigmoid",
        "gelu",
        "tanh",
    }
    | {"leaky_relu", "elu", "mish", "softplus", "log_sigmoid_forward", "exp", "neg", "abs", "sqrt", "rsqrt", "square"}
    | {"pow", "add", "sub", "rsub", "mul", "div", "reciprocal"}
)
_SHAPES = frozenset(["view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "flatten", "expand"])
_WAY_OUT = (
    "distil it into a net that has one (resnet18, mobilenetv2_100, efficientnet_lite0, dsodenet20, ...), "
    "or export it in floats: limbeck export --format onnx"
)


class _Builder:
    """The nodes so far, and what each call of the trace became."""

    def __init__(self, classifier: Classifier, recorded: Trace) -> None:
        self.calls, self.output = recorded.calls, recorded.output
        self.uses = recorded.uses()
        self.constants = constants(recorded.calls, classifier.net)
        self.classifier = classifier
        self.nodes: dict[str, FloatNode] = {}
        self.values: dict[int, _Value] = {}

    def build(self) -> str:
        """Make all nodes; return the name of the last."""
        for number, call in self.calls.items():
            if not call.constant:
                self.values[number] = self.value(call)
        return self.take(self.output)

    def value(self, call: Call) -> _Value:  # noqa: C901, PLR0911, PLR0912 - a case an operation
        """Return what a call gives, in terms of nodes."""
        given = call.arguments
        match call.op:
            case "image":
                return self.image(call)
            case "convolution":
                return self.convolution(call)
            case "addmm" | "mm" | "linear":
                return self.dense(call)
            case "native_batch_norm" | "_native_batch_norm_legit_no_training" | "cudnn_batch_norm":
                return self.batch_norm(call)
            case "relu":
                return self.relu(call, None)
            case "hardtanh" if given["min_val"] == 0:
                return self.relu(call, float(given["max_val"]))
            case "clamp" if given["min"] == 0:
                return self.relu(call, None if given["max"] is None else float(given["max"]))
            case "add" | "sub" | "mul" | "div":
                return self.arithmetic(call)
            case "max_pool2d_with_indices":
                return self.max_pool(call)
            case "avg_pool2d":
                return self.average_pool(call)
            case "_adaptive_avg_pool2d":
                return self.adaptive_pool(call)
            case "mean":
                return self.mean(call)
            case "cat":
                return self.concat(call)
            case "slice":
                return self.slice(call)
            case "constant_pad_nd":
                return self.pad(call)
            case op if op in _SHAPES:
                return self.reshaped(call)
            case op if op in _POINTWISE:
                return self.function(call)
        raise self.refused(call, "")

    def refused(self, call: Call, why: str) -> LowerError:
        """Return the error that says which operation, where, why, and what can be done."""
        where = path_of(call.path) or "the net"
        reason = f": {why}" if why else ""
        return LowerError(f"{where} computes {call.op}, which has no integer form{reason}; {_WAY_OUT}")

    # --- nodes ---

    def node(self, call: Call, what: str, inputs: Sequence[str], op: FloatOp, shape: Shape | None = None) -> _Map:
        """Append a node, named after its module, and by `what` it does where that has several parts."""
        name = (call.path if call.leaf or not what else f"{call.path}.{what}".lstrip(".")) or what or "sum"
        name = f"{name}#{len(self.nodes)}"  # `_named` numbers those alone that meet another
        self.nodes[name] = FloatNode(name, tuple(inputs), op, shape or _shape(call))
        return _Map(name)

    def shape(self, name: str) -> Shape:
        seen = self.classifier.input
        return (seen.channels, seen.size, seen.size) if name == IMAGE else self.nodes[name].shape

    def once(self, ref: Ref) -> bool:
        return self.uses[ref.number] == 1

    def own_conv(self, ref: Ref) -> tuple[str, FloatConv] | None:
        """Return the convolution that gave this and whose map nobody else takes, if it may still be changed."""
        value = self.values[ref.number]
        node = self.nodes.get(value.name) if isinstance(value, _Map) else None
        if node is None or not isinstance(node.op, FloatConv) or node.op.relu or not self.once(ref):
            return None
        return node.name, node.op

    def put(self, name: str, op: FloatOp) -> _Map:
        self.nodes[name] = replace(self.nodes[name], op=op)
        return _Map(name)

    def take(self, ref: Ref) -> str:
        """Return the name of the node that gives what this call gave; it is made where there is none yet."""
        value, call = self.values[ref.number], self.calls[ref.number]
        if not isinstance(value, _Map):
            value = self.values[ref.number] = self.made(value, call)
            value = cast(_Map, self.values[ref.number])
        return value.name

    def made(self, value: _Value, call: Call) -> _Map:
        match value:
            case _Map():
                return value
            case _Affine(name, gain, offset):
                return self.node(call, "affine", [name], _by_channel(gain, offset), self.shape(name))
            case _Function(name, function):
                return self.node(call, "table", [name], FloatTable(function), self.shape(name))
            case _Sum(terms):
                return self.sum(call, terms)
            case _Strided(name, rows, columns):
                if rows != columns:
                    raise self.refused(call, "rows and columns are taken in different strides")
                channels = self.shape(name)[0]
                return self.node(call, "shortcut", [name], FloatShortcut(rows, channels))
        padded = isinstance(value, _Padded)
        raise self.refused(
            call, "no convolution takes the zeros around it" if padded else "to more pixels than there are"
        )

    def sum(self, call: Call, terms: tuple[tuple[str, float], ...], relu: bool = False) -> _Map:
        shape = self.shape(terms[0][0])
        if len(terms) > 1:
            names = [name for name, _ in terms]
            return self.node(call, "", names, FloatAdd(tuple(factor for _, factor in terms), relu), shape)
        (name, factor), like = terms[0], next(iter(self.constants.values()))
        gain = like.new_full((shape[0],), factor)
        return self.node(call, "scaled", [name], replace(_by_channel(gain, 0 * gain), relu=relu), shape)

    # --- rules ---

    def image(self, call: Call) -> _Value:
        """Normalisation: the net sees gain · (pixel - 128) + offset."""
        like = next(iter(self.constants.values()))
        mean, std = (like.new_tensor(v) for v in (self.classifier.input.mean, self.classifier.input.std))
        return _Affine(IMAGE, 1 / (255 * std), (ZERO_POINT / 255 - mean) / std)

    def convolution(self, call: Call) -> _Value:
        given = call.arguments
        weight = self.constant(call, given["weight"])
        groups, stride = given["groups"], _one(given["stride"])
        if given["transposed"] or stride is None or set(given["dilation"]) != {1}:
            raise self.refused(call, "only plain convolutions with one stride and no dilation have one")
        (rows, columns) = (2 * list(given["padding"]))[:2]
        padding = (rows, rows, columns, columns)
        ref = given["input"]
        value = self.values[ref.number]
        if isinstance(value, _Padded):
            padding = cast(Padding, tuple(a + b for a, b in zip(padding, value.padding, strict=True)))
            ref = value.of
        ones = weight.new_ones(len(weight))
        bias = 0 * ones if given["bias"] is None else self.constant(call, given["bias"])
        conv = FloatConv(weight, groups, stride, padding, ones, bias)
        name, conv = self.into(ref, conv)
        return self.node(call, "conv", [name], conv)

    def into(self, ref: Ref, conv: FloatConv) -> tuple[str, FloatConv]:
        """Return the map that a convolution takes, and the convolution with what came before folded into it."""
        match self.values[ref.number]:
            case _Affine(name, gain, offset):
                seen = offset[:, None, None].expand(self.shape(name))[None]
                constant = Constant(convolve(seen, conv.weight, conv), 1.0)
                share = gain.reshape(conv.groups, -1).repeat_interleave(len(conv.weight) // conv.groups, 0)
                return name, replace(conv, weight=conv.weight * share[..., None, None], constant=constant)
            case _Resampled(name, rows, columns) if conv.padding == (0, 0, 0, 0):
                if conv.weight.shape[2:] != (len(rows), len(columns)):
                    raise self.refused(self.calls[ref.number], "an adaptive average to more pixels than there are")
                weight = torch.einsum("ockl,ki,lj->ocij", conv.weight, rows, columns)
                return name, replace(conv, weight=weight, stride=1)
            case _:
                return self.take(ref), conv

    def dense(self, call: Call) -> _Value:
        """A linear layer: a convolution as large as its map."""
        given = call.arguments
        ref = given["mat1"] if call.op == "addmm" else given["self" if call.op == "mm" else "input"]
        weight = self.constant(call, given["weight" if call.op == "linear" else "mat2"])
        weight = weight if call.op == "linear" else weight.t()
        bias = given.get("self" if call.op == "addmm" else "bias")
        shift = weight.new_zeros(len(weight)) if call.op == "mm" or bias is None else self.constant(call, bias)
        if call.op == "addmm" and (given["beta"], given["alpha"]) != (1, 1):
            raise self.refused(call, "it is scaled")
        value = self.values[ref.number]
        shape = self.shape(value.name) if isinstance(value, _Map | _Affine) else self.shape(self.take(ref))
        if prod(shape) != weight.shape[1]:
            raise self.refused(call, f"it takes {weight.shape[1]} values of a map {shape}")
        ones = weight.new_ones(len(weight))
        conv = FloatConv(weight.reshape(len(weight), *shape), 1, 1, (0, 0, 0, 0), ones, shift)
        name, conv = self.into(ref, conv)
        return self.node(call, "dense", [name], conv)

    def batch_norm(self, call: Call) -> _Value:
        given = call.arguments
        if given.get("training") or given["running_mean"] is None:
            raise self.refused(call, "a BatchNorm without running statistics; train it with track_running_stats")
        mean, variance = (self.constant(call, given[key]) for key in ("running_mean", "running_var"))
        weight = 1 if given["weight"] is None else self.constant(call, given["weight"])
        scale = weight * torch.rsqrt(variance + given["eps"])
        shift = (0 if given["bias"] is None else self.constant(call, given["bias"])) - mean * scale
        return self.affine(call, given["input"], scale, shift)

    def affine(self, call: Call, ref: Ref, gain: Tensor, offset: Tensor) -> _Value:
        """Return gain · value + offset, by channel."""
        if (found := self.own_conv(ref)) is not None:
            name, conv = found
            self.check_channels(call, name, gain)
            return self.put(name, replace(conv, scale=conv.scale * gain, shift=conv.shift * gain + offset))
        value = self.values[ref.number]
        if isinstance(value, _Affine):
            self.check_channels(call, value.name, gain)
            return _Affine(value.name, value.gain * gain, value.offset * gain + offset)
        name = self.take(ref)
        self.check_channels(call, name, gain)
        return _Affine(name, gain, offset)

    def check_channels(self, call: Call, name: str, gain: Tensor) -> None:
        if len(gain) != self.shape(name)[0]:
            raise self.refused(call, f"{len(gain)} channels beside a map {self.shape(name)}")

    def relu(self, call: Call, cap: float | None) -> _Value:
        ref = call.arguments["self"]
        if (found := self.own_conv(ref)) is not None:
            return self.put(found[0], replace(found[1], relu=True, cap=cap))
        value = self.values[ref.number]
        match value:
            case _Sum(terms) if self.once(ref) and cap is None and len(terms) > 1:
                return self.sum(self.calls[ref.number], terms, relu=True)
            case _Affine(name, gain, offset):
                conv = replace(_by_channel(gain, offset), relu=True, cap=cap)
                return self.node(call, "affine", [name], conv, self.shape(name))
            case _Map(name) if cap is None:
                op = self.nodes[name].op
                if isinstance(op, FloatConv | FloatAdd) and op.relu:
                    return value
                return self.node(call, "relu", [name], FloatNarrow(relu=True), self.shape(name))
            case _:
                return self.function(call)

    def arithmetic(self, call: Call) -> _Value:
        """A sum, difference, product or quotient: of maps, or with what is the same for all images."""
        given = call.arguments
        left, right = given["self"], given["other"]
        maps = [v for v in (left, right) if isinstance(v, Ref) and not self.calls[v.number].constant]
        if len(maps) == 2:
            return self.product(call) if call.op == "mul" else self.total(call)
        other = left if isinstance(left, Ref) and left != maps[0] else right
        number = self.constant(call, other) if isinstance(other, Ref) else float(other)
        alpha = given.get("alpha", 1)
        if call.op == "div" and (given.get("rounding_mode") or left != maps[0]):
            return self.function(call)
        if call.op in ("add", "sub"):
            flipped = call.op == "sub" and left != maps[0]  # constant - map
            number = number if flipped or call.op == "add" else -1 * number
            number = number if alpha == 1 or flipped else alpha * number if isinstance(number, float) else number
            return self.added(call, maps[0], number, alpha, -1.0 if flipped else 1.0)
        return self.multiplied(call, maps[0], 1 / number if call.op == "div" else number)

    def added(self, call: Call, ref: Ref, number: Tensor | float, alpha: float, sign: float) -> _Value:
        """Return sign · value + number, where a map is still to be multiplied by alpha."""
        shape = self.calls[ref.number].shape
        if isinstance(number, Tensor) and number.numel() > 1 and alpha != 1 and not _is_map(number, shape):
            number = alpha * number
        if isinstance(number, Tensor) and _is_map(number, shape):
            found = self.own_conv(ref)
            if found is None or sign != 1 or found[1].constant is not None:
                raise self.refused(call, "a constant map is added to what no convolution gives")
            name, conv = found
            plain = bool((conv.scale == 1).all()) and not bool(conv.shift.any())
            if not plain:  # the constant comes after the affine
                weight = conv.weight * conv.scale[:, None, None, None]
                conv = replace(conv, weight=weight, scale=torch.ones_like(conv.scale))
            return self.put(name, replace(conv, constant=Constant(number, float(alpha))))
        if (vector := self.by_channel(ref, number)) is not None:
            return self.affine(call, ref, torch.full_like(vector, sign), vector)
        return self.function(call)

    def multiplied(self, call: Call, ref: Ref, number: Tensor | float) -> _Value:
        value = self.values[ref.number]
        single = not isinstance(number, Tensor) or number.numel() == 1
        if single and self.own_conv(ref) is None and not isinstance(value, _Affine):
            factor = float(number)
            match value:
                case _Sum(terms) if self.once(ref):
                    return _Sum(tuple((name, factor * each) for name, each in terms))
                case _Map(name) if not isinstance(self.nodes[name].op, FloatTable):
                    return _Sum(((name, factor),))
                case _:
                    return self.function(call)
        if (vector := self.by_channel(ref, number)) is not None:
            return self.affine(call, ref, vector, torch.zeros_like(vector))
        return self.function(call)

    def by_channel(self, ref: Ref, number: Tensor | float) -> Tensor | None:
        """Return the number as a vector [channels] that a map can be changed by; None where it is one number for a map
        that nothing can be folded into, or where it is not by channel."""
        value, shape = self.values[ref.number], self.calls[ref.number].shape
        channels = shape[1]
        if isinstance(number, Tensor) and number.numel() == channels and _channel_axis(number, shape):
            return number.reshape(-1)
        if isinstance(number, Tensor) and number.numel() > 1:
            raise self.refused(self.calls[ref.number], f"it meets a constant {tuple(number.shape)}")
        if self.own_conv(ref) is None and not isinstance(value, _Affine):
            return None
        like = next(iter(self.constants.values()))
        return like.new_ones(channels) * number

    def total(self, call: Call) -> _Value:
        given = call.arguments
        refs = given["self"], given["other"]
        if self.calls[refs[0].number].shape != self.calls[refs[1].number].shape or call.op == "div":
            raise self.refused(call, "of maps of different shapes" if call.op != "div" else "a quotient of maps")
        if all(isinstance(self.values[ref.number], _Function) for ref in refs) and self.one_base(refs):
            return self.function(call)
        alpha = float(given.get("alpha", 1)) * (-1 if call.op == "sub" else 1)
        terms: dict[str, float] = {}
        for ref, factor in zip(refs, (1.0, alpha), strict=True):
            value = self.values[ref.number]
            inner = value.terms if isinstance(value, _Sum) and self.once(ref) else ((self.take(ref), 1.0),)
            for name, each in inner:
                terms[name] = terms.get(name, 0.0) + factor * each
        places = {name: place for place, name in enumerate(self.nodes)}
        return _Sum(tuple(sorted(terms.items(), key=lambda term: places[term[0]])))

    def product(self, call: Call) -> _Value:
        left, right = call.arguments["self"], call.arguments["other"]
        if self.one_base((left, right)):
            return self.function(call)
        if _pixel(self.calls[left.number]) and not _pixel(self.calls[right.number]):
            left, right = right, left
        if not _pixel(self.calls[right.number]):
            raise self.refused(call, "a product of two maps")
        return self.node(call, "scale", [self.take(left), self.take(right)], FloatScale(), self.shape(self.take(left)))

    def one_base(self, refs: Iterable[Ref]) -> bool:
        """Whether all are functions of the values of one map, at least one more than the map itself."""
        values = [self.values[ref.number] for ref in refs]
        bases = [self.base(ref) for ref in refs]
        return len({*bases}) == 1 and None not in bases and any(isinstance(v, _Function) for v in values)

    def base(self, ref: Ref) -> str | None:
        match self.values[ref.number]:
            case _Map(name) | _Function(name, _):
                return name
            case _Sum(terms) if len(terms) == 1:
                return terms[0][0]
            case _:
                return None

    def function(self, call: Call) -> _Value:
        """A function of each value of one map."""
        refs = [v for v in call.arguments.values() if isinstance(v, Ref)]
        if not all(self.calls[r.number].constant for r in refs if r.number not in self.values):
            raise self.refused(call, "")
        maps = [ref for ref in refs if ref.number in self.values]
        single = all(self.constants[r.number].numel() == 1 for r in refs if r.number not in self.values)
        if len({self.base(ref) for ref in maps}) != 1 or self.base(maps[0]) is None:
            if len(maps) != 1:
                raise self.refused(call, "of two maps")
            self.take(maps[0])
        if not single:
            raise self.refused(call, "with a number by channel")
        inner = {ref.number: self.function_of(ref) for ref in maps}
        fixed = {r.number: self.constants[r.number] for r in refs if r.number not in self.values}

        def function(x: Tensor) -> Tensor:
            return apply_call(
                call, lambda ref: inner[ref.number](x) if ref.number in inner else fixed[ref.number].to(x)
            )

        return _Function(cast(str, self.base(maps[0])), function)

    def function_of(self, ref: Ref) -> Callable[[Tensor], Tensor]:
        match self.values[ref.number]:
            case _Function(_, function):
                return function
            case _Sum(((_, factor),)):
                return lambda x: factor * x
            case _:
                return lambda x: x

    def max_pool(self, call: Call) -> _Value:
        given = call.arguments
        ref = given["self"]
        size, stride, padding = self.window(call)
        if set(given["dilation"]) != {1}:
            raise self.refused(call, "with dilation")
        value = self.values[ref.number]
        if isinstance(value, _Padded):  # its zeros take part: no matter where nothing is below them
            name = self.take(value.of)
            op = self.nodes[name].op
            if not (isinstance(op, FloatConv | FloatAdd | FloatNarrow) and op.relu):
                raise self.refused(call, "zeros around a map with negative values")
            padding = cast(Padding, tuple(a + b for a, b in zip(padding, value.padding, strict=True)))
        else:
            name = self.take(ref)
        return self.node(call, "pool", [name], FloatMaxPool(size, stride, padding))

    def window(self, call: Call) -> tuple[int, int, Padding]:
        """Return a pool's size, stride and padding; ceil_mode is more padding below and to the right."""
        given = call.arguments
        size = _one(given["kernel_size"])
        stride = _one(given["stride"] or given["kernel_size"])
        before = _one(given["padding"])
        if size is None or stride is None or before is None:
            raise self.refused(call, "only square windows have one")
        sides = self.calls[given["self"].number].shape[2:]
        after = [before, before]
        if given["ceil_mode"]:
            after = [
                max(before, (out - 1) * stride + size - side - before)
                for out, side in zip(call.shape[2:], sides, strict=True)
            ]
        return size, stride, (before, after[0], before, after[1])

    def average_pool(self, call: Call) -> _Value:
        given = call.arguments
        size, stride, padding = self.window(call)
        inside = not given["count_include_pad"] and any(padding)
        if given["divisor_override"] or (not inside and padding[0] < max(padding)):
            raise self.refused(call, "ceil_mode with count_include_pad, or a divisor of its own")
        return self.node(call, "pool", [self.take(given["self"])], FloatAveragePool(size, stride, padding, inside))

    def adaptive_pool(self, call: Call) -> _Value:
        ref = call.arguments["self"]
        old, new = self.calls[ref.number].shape[2:], call.shape[2:]
        if new == (1, 1):
            return self.node(call, "mean", [self.take(ref)], FloatMean())
        if old == new:
            return self.values[ref.number]
        ratios = [a // b for a, b in zip(old, new, strict=True)]
        if ratios[0] == ratios[1] and all(a == b * ratios[0] for a, b in zip(old, new, strict=True)):
            op = FloatAveragePool(ratios[0], ratios[0], (0, 0, 0, 0), False)
            return self.node(call, "pool", [self.take(ref)], op)
        like = next(iter(self.constants.values()))
        rows, columns = (_averages(a, b, like) for a, b in zip(old, new, strict=True))
        return _Resampled(self.take(ref), rows, columns)

    def mean(self, call: Call) -> _Value:
        ref, shape = call.arguments["self"], self.calls[call.arguments["self"].number].shape
        axes = {axis % len(shape) for axis in call.arguments["dim"] or range(len(shape))}
        if len(shape) != 4 or axes != {2, 3}:
            raise self.refused(call, f"over axes {sorted(axes)} of {list(shape)}; only over the whole map")
        if shape[2:] == (1, 1):
            return self.values[ref.number]
        return self.node(call, "mean", [self.take(ref)], FloatMean(), (shape[1], 1, 1))

    def concat(self, call: Call) -> _Value:
        refs = call.arguments["tensors"]
        if call.arguments["dim"] % len(call.shape) != 1 or any(self.calls[ref.number].constant for ref in refs):
            raise self.refused(call, "only of channels")
        return self.node(call, "concat", [self.take(ref) for ref in refs], FloatConcat())

    def slice(self, call: Call) -> _Value:
        given, ref = call.arguments, call.arguments["self"]
        shape = self.calls[ref.number].shape
        axis, value = given["dim"] % len(shape), self.values[ref.number]
        if call.shape == shape:
            return value
        whole = not given["start"] and (given["end"] is None or given["end"] >= shape[axis])
        if axis not in (2, 3) or not whole or len(shape) != 4:
            raise self.refused(call, "a part of a map")
        strided = value if isinstance(value, _Strided) else _Strided(self.take(ref), 1, 1)
        step = given["step"]
        return (
            replace(strided, rows=strided.rows * step)
            if axis == 2
            else replace(strided, columns=strided.columns * step)
        )

    def pad(self, call: Call) -> _Value:
        ref, pads = call.arguments["self"], list(call.arguments["pad"])
        if call.arguments["value"]:
            raise self.refused(call, "padding with another number than 0")
        left, right, top, bottom, *others = [*pads, 0, 0, 0, 0][: max(4, len(pads))]
        if any(others):
            front, back, *more = [*others, 0, 0]
            value = self.values[ref.number]
            name, rows, columns = (
                (value.name, value.rows, value.columns) if isinstance(value, _Strided) else (self.take(ref), 1, 1)
            )
            if front or back < 0 or any(more) or any((left, right, top, bottom)) or rows != columns:
                raise self.refused(call, "only channels behind the others, or rows and columns around a map")
            channels = self.shape(name)[0] + back
            return self.node(call, "shortcut", [name], FloatShortcut(rows, channels))
        if min(left, right, top, bottom) < 0 or isinstance(self.values[ref.number], _Padded):
            raise self.refused(call, "cropping, or padding of what is padded")
        return _Padded(ref, (top, bottom, left, right))

    def reshaped(self, call: Call) -> _Value:
        ref = call.arguments["self"]
        before, after = ([side for side in shape if side > 1] for shape in (self.calls[ref.number].shape, call.shape))
        if before != after and len(after) > 1:
            raise self.refused(call, f"from {list(self.calls[ref.number].shape)} to {list(call.shape)}")
        return self.values[ref.number]

    def constant(self, call: Call, ref: Ref) -> Tensor:
        if not isinstance(ref, Ref) or ref.number not in self.constants:
            raise self.refused(call, "its weights depend on the image")
        return self.constants[ref.number]


def _shape(call: Call) -> Shape:
    channels, height, width = (*call.shape[1:], 1, 1)[:3]
    return channels, height, width


def _pixel(call: Call) -> bool:
    return all(side == 1 for side in call.shape[2:])


def _one(values: Sequence[int]) -> int | None:
    """Return the number that all of these are."""
    return values[0] if len({*values}) == 1 else None


def _is_map(number: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a constant differs from pixel to pixel."""
    return number.shape == (1, *shape[1:]) and number.shape[-2:] != (1, 1)


def _channel_axis(number: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether the one axis of a constant, broadcast against a map, is that of channels."""
    axes = [axis - number.ndim for axis, side in enumerate(number.shape) if side > 1]
    return not axes or axes == [1 - len(shape)]


def _by_channel(gain: Tensor, offset: Tensor) -> FloatConv:
    """Return gain · x + offset as a depthwise convolution."""
    return FloatConv(gain.new_ones(len(gain), 1, 1, 1), len(gain), 1, (0, 0, 0, 0), gain, offset)


def _averages(old: int, new: int, like: Tensor) -> Tensor:
    """Return the matrix [new, old] of an adaptive average."""
    eye = torch.eye(old, dtype=like.dtype, device=like.device)
    return F.adaptive_avg_pool1d(eye[None], new)[0].T


# --- what is done to the whole graph ---------------------------------------------------------------------------------


def _whole_factors(nodes: dict[str, FloatNode]) -> dict[str, FloatNode]:
    """Make the factors of all sums whole numbers: the rest of each goes into the convolution that gives its map, or
    into one of its own."""
    nodes = dict(nodes)
    takers = readers(tuple(nodes.values()))
    for name, node in list(nodes.items()):
        found = [nodes[taker.name] for taker in takers[name]]
        if not isinstance(node.op, FloatConv) or node.op.relu or not found:
            continue
        if not all(isinstance(taker.op, FloatAdd) for taker in found):
            continue
        unit = unit_of([f for taker in found for f in _factors_of(taker, name)])
        if unit is not None and unit != 1:
            nodes[name] = replace(node, op=replace(node.op, scale=node.op.scale * unit, shift=node.op.shift * unit))
            for taker in found:
                factors = [
                    f / unit if each == name else f for each, f in zip(taker.inputs, _factors(taker), strict=True)
                ]
                nodes[taker.name] = replace(taker, op=replace(cast(FloatAdd, taker.op), factors=tuple(factors)))
    made: dict[str, FloatNode] = {}
    like = next(node.op.weight for node in nodes.values() if isinstance(node.op, FloatConv))
    for node in nodes.values():
        if isinstance(node.op, FloatAdd):
            inputs, factors = list(node.inputs), [float(round(f)) for f in node.op.factors]
            for place, exact in enumerate(node.op.factors):
                if abs(exact - factors[place]) > 1e-6 * abs(exact) or not factors[place]:
                    name, shape = f"{node.name}.scaled{place}", node.shape
                    gain = like.new_full((shape[0],), exact)
                    made[name] = FloatNode(name, (inputs[place],), _by_channel(gain, 0 * gain), shape)
                    inputs[place], factors[place] = name, 1.0
            node = replace(node, inputs=tuple(inputs), op=replace(node.op, factors=tuple(factors)))  # noqa: PLW2901
        made[node.name] = node
    return made


def _factors(node: FloatNode) -> tuple[float, ...]:
    return cast(FloatAdd, node.op).factors


def _factors_of(node: FloatNode, name: str) -> list[float]:
    return [factor for each, factor in zip(node.inputs, _factors(node), strict=True) if each == name]


def unit_of(factors: list[float]) -> float | None:
    """Return the largest number of which all factors are whole multiples; None where there is no such."""
    least = min(abs(factor) for factor in factors)
    if not least:
        return None
    shares = [Fraction(abs(factor) / least).limit_denominator(12) for factor in factors]
    near = all(abs(float(s) * least - abs(f)) <= 1e-6 * abs(f) for s, f in zip(shares, factors, strict=True))
    return least / lcm(*(share.denominator for share in shares)) if near else None


def _binary(nodes: dict[str, FloatNode]) -> list[FloatNode]:
    """Split sums of more than two maps: each takes the next map as soon as there is one, as an ODE's solver does."""
    after: dict[str, list[FloatNode]] = {}
    made: list[FloatNode] = []
    for node in nodes.values():
        if not isinstance(node.op, FloatAdd) or len(node.inputs) == 2:
            made.append(node)
            continue
        *firsts, last = zip(node.inputs, node.op.factors, strict=True)
        (so_far, factor), *rest = firsts
        for place, (name, each) in enumerate(rest):
            part = FloatNode(f"{node.name}.part{place}", (so_far, name), FloatAdd((factor, each)), node.shape)
            after.setdefault(name, []).append(part)
            so_far, factor = part.name, 1.0
        made.append(replace(node, inputs=(so_far, last[0]), op=FloatAdd((factor, last[1]), node.op.relu)))
    return [each for node in made for each in (node, *after.get(node.name, []))]


def _ordered(nodes: list[FloatNode], last: str) -> Graph:
    """Return the nodes that the last one needs, it at the end."""
    by_name, wanted, left = {node.name: node for node in nodes}, set(), [last]
    while left:
        name = left.pop()
        if name != IMAGE and name not in wanted:
            wanted.add(name)
            left += by_name[name].inputs
    if not wanted:
        raise LowerError("the net's output does not depend on the image; it can't be lowered")
    return tuple(node for node in nodes if node.name in wanted)


def _named(graph: Graph) -> Graph:
    """Return the graph with its nodes named by their modules, numbered where several have one name."""
    plain = {node.name: re.sub(r"#\d+", "", node.name) for node in graph}
    count, met = Counter(plain.values()), Counter[str]()
    names = {IMAGE: IMAGE}
    for old, name in plain.items():
        names[old] = f"{name}[{met[name]}]" if count[name] > 1 else name
        met[name] += 1
    return tuple(replace(n, name=names[n.name], inputs=tuple(names[each] for each in n.inputs)) for n in graph)


def _in_order(graph: Graph, order: Tensor) -> Graph:
    """Return the graph with its outputs in another order."""
    last = graph[-1]
    if not isinstance(last.op, FloatConv):
        like = next(node.op.weight for node in graph if isinstance(node.op, FloatConv))
        eye = torch.eye(last.shape[0], dtype=like.dtype, device=like.device)[order][:, :, None, None]
        conv = FloatConv(eye, 1, 1, (0, 0, 0, 0), eye.new_ones(len(eye)), eye.new_zeros(len(eye)))
        return (*graph, FloatNode(f"{last.name}.order", (last.name,), conv, last.shape))
    constant = last.op.constant and replace(last.op.constant, map=last.op.constant.map[:, order])
    changed: dict[str, Any] = {key: getattr(last.op, key)[order] for key in ("weight", "scale", "shift")}
    return (*graph[:-1], replace(last, op=replace(last.op, constant=constant, **changed)))
