"""What is proved of a program before it runs: that its layers fit, and how large its numbers get."""

import math
from typing import NamedTuple

import numpy as np

from limbeck.errors import InputError, assert_never
from limbeck.integer.fixed import ACCUMULATOR_BITS, MULTIPLIER_BITS, SHIFT_LIMIT, Ints
from limbeck.integer.program import (
    STAGES,
    ZERO_POINT,
    Border,
    Conv,
    Depthwise,
    GlobalAverage,
    Layer,
    MaxPool,
    Narrow,
    Ode,
    Pointwise,
    Program,
    Requant,
    Residual,
    Shape,
    Weighted,
    accumulator_bound,
    peak,
)

SIDE_LIMIT = 4096  # pixels
CHANNEL_LIMIT = 1 << 16
MAP_LIMIT = 1 << 26  # values in one image's map
STEPS_LIMIT = 1024
_BITS = (8, 16, 24)


class Site(NamedTuple):
    """Where a layer is run: what comes in and out, and how large its accumulators can get."""

    path: str  # "stem.conv", or "layer1.conv1.depthwise" for a layer of the field of "layer1"
    layer: Layer
    shape: Shape  # of the map that comes in
    largest: int  # magnitude that can come in
    out_shape: Shape
    out_largest: int
    bound: int  # no accumulator, whole or in part, exceeds it in magnitude; 0 where there is none
    evaluations: int  # runs an image

    @property
    def accumulator_bits(self) -> int:
        return self.bound.bit_length() + 1 if self.bound else 0


def survey(program: Program) -> tuple[Site, ...]:
    """Return the sites of all layers, those of a field before their block, in the order in which they run.

    InputError where layers don't fit each other or break a limit of numerics.md §4; else `run` is exact.
    """
    size = program.input
    _within("input channels", size.channels, 1, CHANNEL_LIMIT)
    _within("input height", size.height, 1, SIDE_LIMIT)
    _within("input width", size.width, 1, SIDE_LIMIT)
    shape, largest = (size.channels, size.height, size.width), ZERO_POINT
    sites: list[Site] = []
    for layer in program.layers:
        sites += _sites(layer, layer.name, shape, largest, 1)
        shape, largest = sites[-1].out_shape, sites[-1].out_largest
    paths = [site.path for site in sites]
    if repeated := next((path for path in paths if paths.count(path) > 1), ""):
        raise InputError(f"{repeated}: two layers have this name; names say whose weights are whose and must differ")
    if not sites or not isinstance(sites[-1].layer, Pointwise) or shape != (len(program.classes), 1, 1):
        raise InputError(
            f"the program ends with a map {shape}; it must end with a pointwise layer that gives "
            f"{len(program.classes)} scores, one a class"
        )
    if len(sites[-1].layer.requant.scale) != 1:
        raise InputError(f"{sites[-1].path}: scores have one scale, so that they can be compared")
    return tuple(sites)


def stored(program: Program) -> int:
    """Return the bytes that a device keeps for the program: each weight in its bits, multipliers in 16, offsets and
    border tables in as many whole bytes as their largest number needs. Its instructions are not counted."""
    return sum(_stored(site.layer) for site in survey(program))


def _stored(layer: Layer) -> int:
    if not isinstance(layer, Conv | Depthwise | Pointwise | GlobalAverage):
        return 0
    requant = layer.requant
    weights = 0 if isinstance(layer, GlobalAverage) else -(-layer.weight.size * layer.weight_bits // 8)
    border = _in_bytes(requant.border.table) if requant.border else 0
    return weights + requant.mult.size * MULTIPLIER_BITS // 8 + _in_bytes(requant.offset) + border


def _in_bytes(table: Ints) -> int:
    return table.size * -(-(int(np.abs(table).max()).bit_length() + 1) // 8)


def _sites(layer: Layer, path: str, shape: Shape, largest: int, evaluations: int) -> list[Site]:
    inner: list[Site] = []
    bound = 0
    match layer:
        case Residual() | Ode():
            inner, out = _block(layer, path, shape, largest)
            out_largest = peak(layer.bits, isinstance(layer, Residual) and layer.relu)
        case Narrow():
            _within(f"{path}: shift", layer.shift, 0, 31)
            _one_of(f"{path}: bits", layer.bits, _BITS)
            out, out_largest = shape, peak(layer.bits)
        case MaxPool():
            out, out_largest = _windows(path, shape, layer.size, layer.stride, layer.padding), largest
        case GlobalAverage() | Conv() | Depthwise() | Pointwise():
            out = _out_shape(layer, path, shape)
            _check_requant(layer.requant, path, out, evaluations)
            bound = _bound(layer, path, shape, largest)
            out_largest = peak(layer.requant.bits, layer.requant.relu)
        case _:
            assert_never(layer)
    _within(f"{path}: values in its map", out[0] * out[1] * out[2], 1, MAP_LIMIT)
    return [*inner, Site(path, layer, shape, largest, out, out_largest, bound, evaluations)]


def _block(block: Residual | Ode, path: str, shape: Shape, largest: int) -> tuple[list[Site], Shape]:
    """Return the sites of the block's field, and the shape of the block's map."""
    _one_of(f"{path}: bits", block.bits, _BITS)
    _within(f"{path}: largest value coming in", largest, 0, peak(block.bits))
    expected, evaluations = _block_shape(block, path, shape)
    sites: list[Site] = []
    inner, inner_largest = shape, peak(block.bits)
    for layer in block.field:
        sites += _sites(layer, f"{path}.{layer.name}", inner, inner_largest, evaluations)
        inner, inner_largest = sites[-1].out_shape, sites[-1].out_largest
    _within(f"{path}: largest value of its field", inner_largest, 0, peak(block.bits))
    if not sites or inner != expected:
        raise InputError(f"{path}: its field gives a map {inner} where the block needs {expected}")
    return sites, expected


def _block_shape(block: Residual | Ode, path: str, shape: Shape) -> tuple[Shape, int]:
    match block:
        case Residual():
            _within(f"{path}: stride", block.stride, 1, SIDE_LIMIT)
            _within(f"{path}: channels", block.channels, shape[0], CHANNEL_LIMIT)
            height, width = (-(-side // block.stride) for side in shape[1:])
            return (block.channels, height, width), 1
        case Ode():
            _within(f"{path}: steps", block.steps, 1, STEPS_LIMIT)
            return shape, block.steps * len(STAGES[block.solver])


def _bound(layer: Weighted | GlobalAverage, path: str, shape: Shape, largest: int) -> int:
    if not isinstance(layer, GlobalAverage):
        _within(f"{path}: largest value coming in", largest, 0, peak(16))
    bound = accumulator_bound(layer, shape, largest)
    need = bound.bit_length() + 1
    if need > ACCUMULATOR_BITS:
        raise InputError(
            f"{path}: its accumulators need {need} bits, the limit is {ACCUMULATOR_BITS}; "
            "lower its weight bits or the bits of the activations that it gets"
        )
    return bound


def _out_shape(layer: Weighted | GlobalAverage, path: str, shape: Shape) -> Shape:
    match layer:
        case GlobalAverage():
            return shape[0], 1, 1
        case Pointwise():
            _fits(layer.weight, path, shape, 2, 1)
            out = len(layer.weight), shape[1], shape[2]
        case Depthwise():
            _fits(layer.weight, path, shape, 3, 0)
            out = _windows(path, shape, layer.weight.shape[-1], layer.stride, layer.padding)
        case Conv():
            _fits(layer.weight, path, shape, 4, 1)
            _, height, width = _windows(path, shape, layer.weight.shape[-1], layer.stride, layer.padding)
            out = len(layer.weight), height, width
    _one_of(f"{path}: weight bits", layer.weight_bits, (4, 8, 16))
    limit = peak(layer.weight_bits, relu=True)
    _table_within(f"{path}: weights", layer.weight, -limit, limit)
    return out


def _fits(weight: Ints, path: str, shape: Shape, axes: int, channel_axis: int) -> None:
    square = weight.shape[-1] == weight.shape[-2] if weight.ndim == axes > 2 else True
    if weight.ndim != axes or not weight.size or weight.shape[channel_axis] != shape[0] or not square:
        raise InputError(f"{path}: weights {weight.shape} don't fit a map of {shape[0]} channels")


def _windows(path: str, shape: Shape, size: int, stride: int, padding: int) -> Shape:
    _within(f"{path}: padding", padding, 0, size // 2)
    _within(f"{path}: kernel", size, 1, min(shape[1:]) + 2 * padding)
    _within(f"{path}: stride", stride, 1, SIDE_LIMIT)
    height, width = ((side + 2 * padding - size) // stride + 1 for side in shape[1:])
    return shape[0], height, width


def _check_requant(requant: Requant, path: str, out: Shape, evaluations: int) -> None:
    for name, table in (("offsets", requant.offset), ("multipliers", requant.mult)):
        if table.shape not in ((1, out[0]), (evaluations, out[0])):
            raise InputError(f"{path}: {name} {table.shape} don't fit {evaluations} evaluations of {out[0]} channels")
    half = 1 << (ACCUMULATOR_BITS - 1)
    _table_within(f"{path}: offsets", requant.offset, -half, half)
    _table_within(f"{path}: multipliers", requant.mult, 0, (1 << MULTIPLIER_BITS) - 1)
    _one_of(f"{path}: bits", requant.bits, _BITS)
    _within(f"{path}: shift", requant.shift, 0, SHIFT_LIMIT)
    if len(requant.scale) not in (1, out[0]) or not all(0 < scale < math.inf for scale in requant.scale):
        raise InputError(f"{path}: scales {str(requant.scale)[:40]} must be positive, one or {out[0]}")
    if requant.border is not None:
        _check_border(requant.border, path, out, evaluations)


def _check_border(border: Border, path: str, out: Shape, evaluations: int) -> None:
    shapes = border.rows.shape, border.columns.shape
    if shapes != ((out[1],), (out[2],)) or border.table.ndim != 3 or border.table.shape[0] != out[0]:
        raise InputError(f"{path}: border {border.table.shape}, {shapes} doesn't fit a map {out}")
    if len(border.ticks) not in (1, evaluations):
        raise InputError(f"{path}: {len(border.ticks)} border ticks don't fit {evaluations} evaluations")
    _table_within(f"{path}: border rows", border.rows, 0, border.table.shape[1] - 1)
    _table_within(f"{path}: border columns", border.columns, 0, border.table.shape[2] - 1)
    half = 1 << (ACCUMULATOR_BITS - 1)
    _table_within(f"{path}: border table", border.table, -half, half)
    _within(f"{path}: smallest tick", min(border.ticks), 0, 2 * STEPS_LIMIT)
    _within(f"{path}: largest tick", max(border.ticks), 0, 2 * STEPS_LIMIT)


def _table_within(what: str, table: Ints, low: int, high: int) -> None:
    _within(f"smallest of {what}", int(table.min()), low, high)
    _within(f"largest of {what}", int(table.max()), low, high)


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{what} is {value}; it must lie from {low} to {high}")


def _one_of(what: str, value: int, choices: tuple[int, ...]) -> None:
    if value not in choices:
        raise InputError(f"{what} is {value}; it must be one of {', '.join(map(str, choices))}")
