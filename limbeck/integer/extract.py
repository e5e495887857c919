"""A trace becomes a graph by a few rules.

BatchNorm, biases, sums' factors and activations go into what makes their map; an affine map, normalisation above all,
into the convolution that takes it; a constant map beside a convolution into its `constant`; a function of one value
becomes a table.
"""

from dataclasses import replace
from math import prod
from typing import cast

import torch

from limbeck.integer.arithmetic import affine, arithmetic, function, relu
from limbeck.integer.builder import Affine, Builder, Map, Padded, Resampled, Value, same
from limbeck.integer.graph import Constant, FloatConcat, FloatConv, Graph, convolve
from limbeck.integer.program import IMAGE, ZERO_POINT, Padding
from limbeck.integer.rewrite import binary, in_order, named, ordered, whole_factors
from limbeck.integer.trace import Call, LowerError, Ref, Trace, trace
from limbeck.integer.windows import adaptive_pool, average_pool, mean, pad, pooled_max, sliced
from limbeck.nets.classifier import Classifier

_POINTWISE = frozenset(
    {"relu", "hardtanh", "clamp", "clamp_min", "clamp_max", "hardswish", "hardsigmoid", "silu", "sigmoid", "gelu"}
    | {"leaky_relu", "elu", "mish", "softplus", "log_sigmoid_forward", "exp", "neg", "abs", "sqrt", "rsqrt", "square"}
    | {"tanh", "pow", "add", "sub", "rsub", "mul", "div", "reciprocal"}
)
_SHAPES = frozenset(["view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "flatten", "expand"])


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
    built = Builder(classifier, recorded)
    for number, call in recorded.calls.items():
        if not call.constant:
            built.values[number] = value(built, call)
    last = built.take(recorded.output)
    graph = named(ordered(binary(whole_factors(built.nodes)), last))
    channels = graph[-1].shape
    if channels != (len(classifier.classes), 1, 1):
        raise LowerError(f"the net ends with a map {channels}; it must end with a score for each class")
    return graph if classifier.order is None else in_order(graph, classifier.order)


def value(made: Builder, call: Call) -> Value:  # noqa: C901, PLR0911, PLR0912 - one case per operation
    """Return what a call gives, in terms of nodes."""
    given = call.arguments
    match call.op:
        case "image":
            return image(made, call)
        case "convolution":
            return convolution(made, call)
        case "addmm" | "mm" | "linear":
            return dense(made, call)
        case "native_batch_norm" | "_native_batch_norm_legit_no_training" | "cudnn_batch_norm":
            return batch_norm(made, call)
        case "relu":
            return relu(made, call, None)
        case "hardtanh" if given["min_val"] == 0:
            return relu(made, call, float(given["max_val"]))
        case "clamp" if given["min"] == 0:
            return relu(made, call, None if given["max"] is None else float(given["max"]))
        case "add" | "sub" | "mul" | "div":
            return arithmetic(made, call)
        case "max_pool2d_with_indices":
            return pooled_max(made, call)
        case "avg_pool2d":
            return average_pool(made, call)
        case "_adaptive_avg_pool2d":
            return adaptive_pool(made, call)
        case "mean":
            return mean(made, call)
        case "cat":
            return concat(made, call)
        case "slice":
            return sliced(made, call)
        case "constant_pad_nd":
            return pad(made, call)
        case op if op in _SHAPES:
            return reshaped(made, call)
        case op if op in _POINTWISE:
            return function(made, call)
    raise made.refused(call, "")


def image(made: Builder, call: Call) -> Value:
    """Normalisation: the net sees gain · (pixel - 128) + offset."""
    like = next(iter(made.constants.values()))
    mean, std = (like.new_tensor(v) for v in (made.classifier.input.mean, made.classifier.input.std))
    return Affine(IMAGE, 1 / (255 * std), (ZERO_POINT / 255 - mean) / std)


def convolution(made: Builder, call: Call) -> Value:
    given = call.arguments
    weight = made.constant(call, given["weight"])
    groups, stride = given["groups"], same(given["stride"])
    if given["transposed"] or stride is None or set(given["dilation"]) != {1}:
        raise made.refused(call, "only plain convolutions with one stride and no dilation have one")
    (rows, columns) = (2 * list(given["padding"]))[:2]
    padding = (rows, rows, columns, columns)
    ref = given["input"]
    value = made.values[ref.number]
    if isinstance(value, Padded):
        padding = cast(Padding, tuple(a + b for a, b in zip(padding, value.padding, strict=True)))
        ref = value.of
    ones = weight.new_ones(len(weight))
    bias = 0 * ones if given["bias"] is None else made.constant(call, given["bias"])
    conv = FloatConv(weight, groups, stride, padding, ones, bias)
    name, conv = into(made, ref, conv)
    return made.node(call, "conv", [name], conv)


def into(made: Builder, ref: Ref, conv: FloatConv) -> tuple[str, FloatConv]:
    """Return the map that a convolution reads, and the convolution with what came before folded in."""
    match made.values[ref.number]:
        case Affine(name, gain, offset):
            seen = offset[:, None, None].expand(made.shape(name))[None]
            constant = Constant(convolve(seen, conv.weight, conv), 1.0)
            share = gain.reshape(conv.groups, -1).repeat_interleave(len(conv.weight) // conv.groups, 0)
            return name, replace(conv, weight=conv.weight * share[..., None, None], constant=constant)
        case Resampled(name, rows, columns) if conv.padding == (0, 0, 0, 0):
            if conv.weight.shape[2:] != (len(rows), len(columns)):
                raise made.refused(made.calls[ref.number], "an adaptive average to more pixels than there are")
            weight = torch.einsum("ockl,ki,lj->ocij", conv.weight, rows, columns)
            return name, replace(conv, weight=weight, stride=1)
        case _:
            return made.take(ref), conv


def dense(made: Builder, call: Call) -> Value:
    """A linear layer: a convolution as large as its map."""
    given = call.arguments
    ref = given["mat1"] if call.op == "addmm" else given["self" if call.op == "mm" else "input"]
    weight = made.constant(call, given["weight" if call.op == "linear" else "mat2"])
    weight = weight if call.op == "linear" else weight.t()
    bias = given.get("self" if call.op == "addmm" else "bias")
    shift = weight.new_zeros(len(weight)) if call.op == "mm" or bias is None else made.constant(call, bias)
    if call.op == "addmm" and (given["beta"], given["alpha"]) != (1, 1):
        raise made.refused(call, "it is scaled")
    value = made.values[ref.number]
    shape = made.shape(value.name) if isinstance(value, Map | Affine) else made.shape(made.take(ref))
    if prod(shape) != weight.shape[1]:
        raise made.refused(call, f"it takes {weight.shape[1]} values of a map {shape}")
    ones = weight.new_ones(len(weight))
    conv = FloatConv(weight.reshape(len(weight), *shape), 1, 1, (0, 0, 0, 0), ones, shift)
    name, conv = into(made, ref, conv)
    return made.node(call, "dense", [name], conv)


def batch_norm(made: Builder, call: Call) -> Value:
    given = call.arguments
    if given.get("training") or given["running_mean"] is None:
        raise made.refused(call, "a BatchNorm without running statistics; train it with track_running_stats")
    mean, variance = (made.constant(call, given[key]) for key in ("running_mean", "running_var"))
    weight = 1 if given["weight"] is None else made.constant(call, given["weight"])
    scale = weight * torch.rsqrt(variance + given["eps"])
    shift = (0 if given["bias"] is None else made.constant(call, given["bias"])) - mean * scale
    return affine(made, call, given["input"], scale, shift)


def concat(made: Builder, call: Call) -> Value:
    refs = call.arguments["tensors"]
    if call.arguments["dim"] % len(call.shape) != 1 or any(made.calls[ref.number].constant for ref in refs):
        raise made.refused(call, "only of channels")
    return made.node(call, "concat", [made.take(ref) for ref in refs], FloatConcat())


def reshaped(made: Builder, call: Call) -> Value:
    ref = call.arguments["self"]
    before, after = ([side for side in shape if side > 1] for shape in (made.calls[ref.number].shape, call.shape))
    if before != after and len(after) > 1:
        raise made.refused(call, f"from {list(made.calls[ref.number].shape)} to {list(call.shape)}")
    return made.values[ref.number]
