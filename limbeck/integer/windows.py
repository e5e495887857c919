"""Pools, pads and slices: what they do to the nodes so far."""

from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.integer.builder import Builder, Padded, Resampled, Strided, Value, same
from limbeck.integer.graph import (
    FloatAdd,
    FloatAveragePool,
    FloatConv,
    FloatMaxPool,
    FloatMean,
    FloatNarrow,
    FloatShortcut,
)
from limbeck.integer.program import Padding
from limbeck.integer.trace import Call


def pooled_max(made: Builder, call: Call) -> Value:
    given = call.arguments
    ref = given["self"]
    size, stride, padding = window(made, call)
    if set(given["dilation"]) != {1}:
        raise made.refused(call, "with dilation")
    value = made.values[ref.number]
    if isinstance(value, Padded):  # its zeros take part, which changes nothing where no value is negative
        name = made.take(value.of)
        op = made.nodes[name].op
        if not (isinstance(op, FloatConv | FloatAdd | FloatNarrow) and op.relu):
            raise made.refused(call, "zeros around a map with negative values")
        padding = cast(Padding, tuple(a + b for a, b in zip(padding, value.padding, strict=True)))
    else:
        name = made.take(ref)
    return made.node(call, "pool", [name], FloatMaxPool(size, stride, padding))


def window(made: Builder, call: Call) -> tuple[int, int, Padding]:
    """Return a pool's size, stride and padding; ceil_mode is more padding below and to the right."""
    given = call.arguments
    size = same(given["kernel_size"])
    stride = same(given["stride"] or given["kernel_size"])
    before = same(given["padding"])
    if size is None or stride is None or before is None:
        raise made.refused(call, "only square windows have one")
    sides = made.calls[given["self"].number].shape[2:]
    after = [before, before]
    if given["ceil_mode"]:
        after = [
            max(before, (out - 1) * stride + size - side - before)
            for out, side in zip(call.shape[2:], sides, strict=True)
        ]
    return size, stride, (before, after[0], before, after[1])


def average_pool(made: Builder, call: Call) -> Value:
    given = call.arguments
    size, stride, padding = window(made, call)
    inside = not given["count_include_pad"] and any(padding)
    if given["divisor_override"] or (not inside and padding[0] < max(padding)):
        raise made.refused(call, "ceil_mode with count_include_pad, or a divisor of its own")
    return made.node(call, "pool", [made.take(given["self"])], FloatAveragePool(size, stride, padding, inside))


def adaptive_pool(made: Builder, call: Call) -> Value:
    ref = call.arguments["self"]
    old, new = made.calls[ref.number].shape[2:], call.shape[2:]
    if new == (1, 1):
        return made.node(call, "mean", [made.take(ref)], FloatMean())
    if old == new:
        return made.values[ref.number]
    ratios = [a // b for a, b in zip(old, new, strict=True)]
    if ratios[0] == ratios[1] and all(a == b * ratios[0] for a, b in zip(old, new, strict=True)):
        op = FloatAveragePool(ratios[0], ratios[0], (0, 0, 0, 0), False)
        return made.node(call, "pool", [made.take(ref)], op)
    like = next(iter(made.constants.values()))
    rows, columns = (_averages(a, b, like) for a, b in zip(old, new, strict=True))
    return Resampled(made.take(ref), rows, columns)


def mean(made: Builder, call: Call) -> Value:
    ref, shape = call.arguments["self"], made.calls[call.arguments["self"].number].shape
    axes = {axis % len(shape) for axis in call.arguments["dim"] or range(len(shape))}
    if len(shape) != 4 or axes != {2, 3}:
        raise made.refused(call, f"over axes {sorted(axes)} of {list(shape)}; only over the whole map")
    if shape[2:] == (1, 1):
        return made.values[ref.number]
    return made.node(call, "mean", [made.take(ref)], FloatMean(), (shape[1], 1, 1))


def sliced(made: Builder, call: Call) -> Value:
    given, ref = call.arguments, call.arguments["self"]
    shape = made.calls[ref.number].shape
    axis, value = given["dim"] % len(shape), made.values[ref.number]
    if call.shape == shape:
        return value
    whole = not given["start"] and (given["end"] is None or given["end"] >= shape[axis])
    if axis not in (2, 3) or not whole or len(shape) != 4:
        raise made.refused(call, "a part of a map")
    strided = value if isinstance(value, Strided) else Strided(made.take(ref), 1, 1)
    step = given["step"]
    return replace(strided, rows=strided.rows * step) if axis == 2 else replace(strided, columns=strided.columns * step)


def pad(made: Builder, call: Call) -> Value:
    ref, pads = call.arguments["self"], list(call.arguments["pad"])
    if call.arguments["value"]:
        raise made.refused(call, "padding with another number than 0")
    left, right, top, bottom, *others = [*pads, 0, 0, 0, 0][: max(4, len(pads))]
    if any(others):
        front, back, *more = [*others, 0, 0]
        value = made.values[ref.number]
        name, rows, columns = (
            (value.name, value.rows, value.columns) if isinstance(value, Strided) else (made.take(ref), 1, 1)
        )
        if front or back < 0 or any(more) or any((left, right, top, bottom)) or rows != columns:
            raise made.refused(call, "only zero channels after the others, or rows and columns around a map")
        channels = made.shape(name)[0] + back
        return made.node(call, "shortcut", [name], FloatShortcut(rows, channels))
    if min(left, right, top, bottom) < 0 or isinstance(made.values[ref.number], Padded):
        raise made.refused(call, "cropping, or padding of what is padded")
    return Padded(ref, (top, bottom, left, right))


def _averages(old: int, new: int, like: Tensor) -> Tensor:
    """Return the matrix [new, old] of an adaptive average."""
    eye = torch.eye(old, dtype=like.dtype, device=like.device)
    return F.adaptive_avg_pool1d(eye[None], new)[0].T
