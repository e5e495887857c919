"""The integers of a graph whose scales are known: weights, offsets, multipliers and tables (numerics.md §8)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import InputError
from limbeck.integer.fixed import MULTIPLIER_BITS, SHIFT_LIMIT, multipliers
from limbeck.integer.graph import FloatConv, FloatNode, FloatTable, Graph
from limbeck.integer.rewrite import unit_of
from limbeck.integer.scales import MULT_FLOOR, OFFSET_BITS, Round, Scale, best_clips


@dataclass(frozen=True)
class Tables:
    """The integers of a convolution in all of its evaluations, as float64 tensors that a gradient may flow through."""

    weight: Tensor  # [out, in / groups, kernel height, kernel width]
    offset: Tensor  # [evaluations, out]
    mult: Tensor  # [evaluations, out]
    shift: int
    border: Tensor | None  # [out, row classes, column classes]
    rows: tuple[int, ...]  # by output row: its class
    columns: tuple[int, ...]
    ticks: tuple[int, ...]  # by evaluation: how often the border is added


def together(graph: Graph) -> list[list[FloatNode]]:
    """Return the convolutions, those that share weights and constant maps in one list."""
    convs = [(node, node.op) for node in graph if isinstance(node.op, FloatConv)]
    maps = {node.path: id(conv.constant.map) for node, conv in convs if conv.constant is not None}
    found: dict[tuple[str, int, int], list[FloatNode]] = {}
    for node, conv in convs:
        constant = maps.get(node.path, 0) if conv.constant is None else id(conv.constant.map)
        found.setdefault((node.path, id(conv.weight), constant), []).append(node)
    return list(found.values())


def tables(
    convs: Sequence[FloatConv],
    in_scale: Scale,
    out_scale: Scale,
    weight_bits: int,
    whole: Round,
    mean: Tensor | None = None,
) -> Tables:
    """Return the integers of convolutions that share their weights (numerics.md §8); `whole` rounds, and decides how
    gradients pass. What weights' rounding adds to a map whose channels have this `mean` goes into the offsets."""
    conv = convs[0]
    scale, shift_by = (torch.stack([getattr(each, key) for each in convs]).double() for key in ("scale", "shift"))
    sign = torch.where(scale[0] < 0, -1.0, 1.0)
    gain = scale.abs().amax(0)
    # What is left of a channel's gain by evaluation: BatchNorm's statistics differ, its weight does not.
    relative = torch.where(gain > 0, scale.abs() / gain, 1.0).detach()
    goes_out = scale.new_tensor(out_scale)
    effective = conv.weight.double() * (sign * gain)[:, None, None, None] * _incoming(conv, in_scale)[..., None, None]
    high = (1 << (weight_bits - 1)) - 1
    largest = _weight_clips(effective.detach().abs().flatten(1), high) / high  # what a weight's unit must be at least,
    largest = largest.maximum((shift_by / relative).detach().abs().amax(0) * 2.0**-OFFSET_BITS)  # and an offset's
    mult, shift = _channel_multipliers(largest / goes_out)
    unit = goes_out * mult * 2.0**-shift  # so that this multiplier is exact
    tick, ticks = _ticks([each.constant.times if each.constant else 0.0 for each in convs])
    constant = next((each.constant.map for each in convs if each.constant), None)
    border, rows, columns = (None, (), ()) if constant is None else _classes(constant[0])
    wanted = effective / unit[:, None, None, None]
    weight = whole(wanted.clamp(-high - 0.25, high + 0.25))
    offset = shift_by / (unit * relative)
    if mean is not None:
        came_in = _by_input(conv, mean.to(scale) / scale.new_tensor(in_scale))
        offset = offset + ((wanted - weight).detach().sum((2, 3)) * came_in).sum(1)
    return Tables(
        weight=weight,
        offset=whole(offset),
        mult=torch.round(mult * relative),
        shift=shift,
        border=None if border is None else whole(border.double() * tick * (sign * gain / unit)[:, None, None]),
        rows=rows,
        columns=columns,
        ticks=ticks,
    )


def _incoming(conv: FloatConv, in_scale: Scale) -> Tensor:
    """Return what one unit of the input stands for, [1 or out, 1 or in / groups]."""
    scale = conv.weight.new_tensor(in_scale, dtype=torch.float64)
    return scale[:, None] if len(scale) == 1 else _by_input(conv, scale)


def _by_input(conv: FloatConv, values: Tensor) -> Tensor:
    """Return what belongs to each input channel, [out, in / groups]."""
    assert len(values) == conv.weight.shape[1] * conv.groups, "a map's channels are those of the weights"
    return values.reshape(conv.groups, -1).repeat_interleave(len(conv.weight) // conv.groups, 0)


def _ticks(times: list[float]) -> tuple[float, tuple[int, ...]]:
    """Return (tick, how many of it each time is): the longest tick that fits all."""
    tick = unit_of([each for each in times if each]) if any(times) else 1.0
    if tick is None:
        raise InputError(f"constant maps are added {times} times, which have no common part; lower another net")
    return tick, tuple(round(each / tick) for each in times)


def _weight_clips(magnitudes: Tensor, high: int) -> Tensor:
    """Return where each channel's weights [out, taps] may be clipped: with few levels, clipping outliers costs less."""
    return magnitudes.amax(1) if high >= 127 else best_clips(magnitudes.T, high)


def _channel_multipliers(least: Tensor) -> tuple[Tensor, int]:
    """Return the least multipliers, and their shift, that give each channel at least this ratio."""
    if not float(least.max()) > 0:
        return torch.full_like(least, 1 << (MULTIPLIER_BITS - 1)), MULTIPLIER_BITS - 1
    _, shift = multipliers(least.cpu().numpy() * (1 + 2.0**-MULTIPLIER_BITS))  # room to round up
    shift = max(0, shift)
    return torch.ceil(least * 2.0**shift).clamp(MULT_FLOOR, (1 << MULTIPLIER_BITS) - 1), shift


def _classes(constant: Tensor) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """Return (table [channels, row classes, column classes], class of each row, class of each column) of a map.

    Rows that differ by no more than float32's rounding are one class.
    """
    rows, columns = (_alike(constant.detach().movedim(axis, 0).flatten(1)) for axis in (1, 2))
    firsts = [[each.index(number) for number in range(max(each) + 1)] for each in (rows, columns)]
    return constant[:, firsts[0]][:, :, firsts[1]], rows, columns


def _alike(lines: Tensor) -> tuple[int, ...]:
    """Return a class for each line: numbered from the first, lines of one class are the same."""
    near = 1e-5 * float(lines.abs().max())
    firsts: list[Tensor] = []
    found = []
    for line in lines:
        number = next((i for i, first in enumerate(firsts) if float((line - first).abs().max()) <= near), len(firsts))
        firsts += [line] if number == len(firsts) else []
        found.append(number)
    return tuple(found)


def ratios(in_scale: Scale, out_scale: Scale, share: float, channels: int) -> tuple[np.ndarray, int]:
    """Return (mult [channels], shift) for sums that count `share` each: means, and products of two maps."""
    ratio = np.array(in_scale) * share / np.array(out_scale)
    mult, shift = multipliers(ratio)
    return np.broadcast_to(mult, (channels,)).astype(np.int64), shift


def narrowing(in_scale: Scale, out_scale: Scale) -> tuple[int, int]:
    """Return (factor, shift) of an Add that gives a map another unit: (1, shift) where that is a power of two."""
    ratio = in_scale[0] / out_scale[0]
    exact = -math.log2(ratio)
    if exact >= 0 and abs(exact - round(exact)) < 1e-9:
        return 1, round(exact)
    shift = min(SHIFT_LIMIT, max(0, math.floor(MULTIPLIER_BITS - 1 - math.log2(ratio))))
    return round(ratio * 2.0**shift), shift


def table_of(node: FloatNode, in_scale: Scale, out_scale: Scale, bits: int) -> Tensor:
    """Return the function's integers [256] for -128 to 127, float64, rounded and saturated."""
    assert isinstance(node.op, FloatTable)
    values = node.op.function(torch.arange(-128, 128, dtype=torch.float64) * in_scale[0]) / out_scale[0]
    half = 1 << (bits - 1)
    return torch.floor(values + 0.5).clamp(-half, half - 1)
