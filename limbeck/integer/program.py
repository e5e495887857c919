"""The integer program: a graph of frozen nodes, and `run`, which is what they mean (docs/numerics.md). Numpy only."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import lcm, prod
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError, assert_never
from limbeck.integer.fixed import Ints, requantise

Shape = tuple[int, int, int]  # channels, height, width
Padding = tuple[int, int, int, int]  # rows above and below, columns to the left and to the right
_Array = NDArray[Any]  # a map [channels, height, width, images], integers held exactly by its float type

IMAGE = "input"  # the name of the map that a program begins with
ZERO_POINT = 128  # a pixel p enters as p - 128
_IMAGES = 32  # run at once at most, and
_VALUES = 1 << 19  # of the largest map at once, where one image doesn't have more: maps then stay in a core's cache
_CACHED = 1 << 15  # values of a depthwise convolution's sums


@dataclass(frozen=True)
class Border:
    """What a constant map, seen by a padded convolution, adds to the accumulators (numerics.md §5)."""

    table: str  # key of [out channels, row classes, column classes]
    rows: tuple[int, ...]  # by output row: its class
    columns: tuple[int, ...]  # by output column
    ticks: int  # how often it is added


@dataclass(frozen=True)
class Requant:
    """(acc + offset) · mult / 2**shift, rounded half up, saturated, then negatives to 0 if `relu` (numerics.md §3)."""

    offset: str  # key of [channels]
    mult: str  # key of [channels], 0 to 2**16 - 1
    shift: int
    bits: int  # of the result, signed: 8, 16 or 24
    relu: bool


@dataclass(frozen=True)
class Conv:
    """Convolution in `groups` groups of channels, zeros around the map. 1x1 on a 1x1 map: the dense layer."""

    weight: str  # key of [out, in / groups, kernel height, kernel width]
    weight_bits: int  # 4, 8 or 16: -7 to 7, -127 to 127, -32767 to 32767
    groups: int
    stride: int
    padding: Padding
    requant: Requant
    border: Border | None = None


@dataclass(frozen=True)
class Add:
    """(sum of factor · map) / 2**shift, rounded half up, saturated, then negatives to 0 if `relu`.

    One factor per input; the maps have equal shapes. Of one map it is a narrowing, a rescaling or a ReLU.
    """

    factors: tuple[int, ...]
    shift: int
    bits: int
    relu: bool


@dataclass(frozen=True)
class Scale:
    """Map times channel vector [channels, 1, 1], its second input, requantised: squeeze-and-excite's gate."""

    requant: Requant


@dataclass(frozen=True)
class Table:
    """table[x + 128] of a map of 8 bits: any function of one value."""

    table: str  # key of [256]
    bits: int


@dataclass(frozen=True)
class MaxPool:
    """The largest of each window; places outside the map don't take part."""

    size: int
    stride: int
    padding: Padding


@dataclass(frozen=True)
class AveragePool:
    """The sum of each window, requantised by multipliers that hold 1 / size**2.

    With `inside` it is the mean of the places inside the map: the sum is first multiplied by L / places, where L is
    the least common multiple of the numbers of places that occur, and multipliers hold 1 / L.
    """

    size: int
    stride: int
    padding: Padding
    inside: bool
    requant: Requant


@dataclass(frozen=True)
class GlobalAverage:
    """The sum over the map, requantised by multipliers that hold 1 / (height · width)."""

    requant: Requant


@dataclass(frozen=True)
class Concat:
    """The channels of all inputs, one after the other."""


@dataclass(frozen=True)
class Shortcut:
    """Every `stride`-th pixel from the first on, and zero channels appended up to `channels` (ResNet's option A)."""

    stride: int
    channels: int


Requantised = Conv | Scale | AveragePool | GlobalAverage  # those that sum, and end in a Requant
Operation = Conv | Add | Scale | Table | MaxPool | AveragePool | GlobalAverage | Concat | Shortcut


@dataclass(frozen=True)
class Node:
    """One operation, and the maps that it takes by name: nodes before it, or the image, "input".

    Names are module paths. Where a module is called again and again, "[n]" after one of its parts counts from 0:
    "layer1[2].f.conv1.space.depthwise" is in the third evaluation of layer1's field, and "layer1[2]" its step.
    """

    name: str
    inputs: tuple[str, ...]
    op: Operation
    scale: tuple[
        float, ...
    ]  # what one unit of its map stands for, one number or one per channel: not used in the arithmetic

    @property
    def path(self) -> str:
        """The name without "[n]": the same in all evaluations."""
        return re.sub(r"\[\d+\]", "", self.name)


WHITE = 65535  # of 16 bits


@dataclass(frozen=True)
class Input:
    """Images uint8 [channels, height, width], and how any picture is made one of these."""

    channels: int
    height: int
    width: int
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    crop_pct: float = 1.0
    white: int = WHITE  # of grey pictures of 16 bits: what is made 255


@dataclass(frozen=True, eq=False)
class Program:
    """A classifier in integers. Scores, the last node's map [classes, 1, 1], times `scale` are nearly the float net's
    logits. Nodes are in order of execution; those that use the same weights or tables name the same key."""

    input: Input
    tensors: dict[str, Ints]  # weights and tables, by key
    nodes: tuple[Node, ...]
    classes: tuple[str, ...]
    lineage: dict[str, Any] = field(default_factory=dict)  # where the weights come from, as JSON

    @property
    def scale(self) -> float:
        """What one unit of a score stands for."""
        return self.nodes[-1].scale[0]


class Extent(NamedTuple):
    """What is known of a map before anything runs."""

    shape: Shape
    bits: int  # signed
    largest: int  # no value exceeds it in magnitude


def run(program: Program, images: NDArray[np.uint8]) -> Ints:
    """Return the scores [N, classes] of uint8 images [N, channels, height, width]: what the program means."""
    images, steps = _checked(program, images), _steps(program)
    at_once = max(1, min(_IMAGES, _VALUES // max(prod(step.out.shape) for step in steps)))
    scores = [np.zeros((0, len(program.classes)), np.int64)]
    for start in range(0, len(images), at_once):
        for _, values in _maps(steps, images[start : start + at_once]):
            last = values
        scores.append(last[:, 0, 0].T.astype(np.int64))
    return np.concatenate(scores)


def predict(program: Program, images: NDArray[np.uint8]) -> Ints:
    """Return the class of each image: the first of the largest scores."""
    best: Ints = run(program, images).argmax(1)
    return best


def trace(program: Program, images: NDArray[np.uint8]) -> Iterator[tuple[str, Ints]]:
    """Yield every map [N, channels, height, width] by its node's name, from "input" to the scores, in their order."""
    for name, x in _maps(_steps(program), _checked(program, images)):
        yield name, np.ascontiguousarray(x.transpose(3, 0, 1, 2)).astype(np.int64)


# --- what is known before anything runs ---------------------------------------------------------------------------


def peak(bits: int, relu: bool = False) -> int:
    """Return the largest magnitude of signed `bits` bits: 2**(bits - 1), one less without negatives."""
    return (1 << (bits - 1)) - (1 if relu else 0)


def image_extent(program: Program) -> Extent:
    """Return the extent of the map "input"."""
    return Extent((program.input.channels, program.input.height, program.input.width), 8, ZERO_POINT)


def out_extent(op: Operation, tensors: dict[str, Ints], ins: Sequence[Extent]) -> Extent:  # noqa: PLR0911 - a case each
    """Return the extent of what the operation gives."""
    shape, bits, largest = ins[0]
    match op:
        case Conv():
            out, _, *kernel = tensors[op.weight].shape
            return _requantised_extent(op, (out, *_sides(shape, kernel, op.stride, op.padding)))
        case Scale():
            return _requantised_extent(op, shape)
        case GlobalAverage():
            return _requantised_extent(op, (shape[0], 1, 1))
        case AveragePool():
            sides = _sides(shape, (op.size, op.size), op.stride, op.padding)
            return _requantised_extent(op, (shape[0], *sides))
        case MaxPool():
            return Extent((shape[0], *_sides(shape, (op.size, op.size), op.stride, op.padding)), bits, largest)
        case Add():
            return Extent(shape, op.bits, peak(op.bits, op.relu))
        case Table():
            return Extent(shape, op.bits, peak(op.bits))
        case Concat():
            channels = sum(each.shape[0] for each in ins)
            return Extent((channels, *shape[1:]), max(each.bits for each in ins), max(each.largest for each in ins))
        case Shortcut():
            height, width = _sides(shape, (1, 1), op.stride, (0, 0, 0, 0))
            return Extent((op.channels, height, width), bits, largest)
        case _:
            return assert_never(op)


def accumulator_bound(op: Operation, tensors: dict[str, Ints], ins: Sequence[Extent]) -> int:
    """Return the bound of numerics.md §4 on what the operation sums, 0 where it sums nothing.

    A sum of magnitudes, for the worst channel: no partial sum in any order exceeds it either.
    """
    shape, _, largest = ins[0]
    match op:
        case Add():
            return sum(abs(factor) * each.largest for factor, each in zip(op.factors, ins, strict=True))
        case Conv():
            weight = tensors[op.weight]
            sums = np.abs(weight).reshape(len(weight), -1).sum(1) * largest + np.abs(tensors[op.requant.offset])
            if op.border is not None:
                sums += np.abs(tensors[op.border.table]).max((1, 2)) * op.border.ticks
            return int(sums.max())
        case Scale():
            bound = largest * ins[1].largest
        case AveragePool():
            bound = largest * (windows(op, shape)[1] if op.inside else op.size**2)
        case GlobalAverage():
            bound = largest * prod(shape[1:])
        case _:
            return 0
    return bound + int(np.abs(tensors[op.requant.offset]).max())


def windows(op: AveragePool, shape: Shape) -> tuple[Ints, int]:
    """Return how many places of each window lie inside the map, [height, width], and L of AveragePool."""
    places = []
    for side, before, after in ((shape[1], *op.padding[:2]), (shape[2], *op.padding[2:])):
        firsts = range(-before, side + after - op.size + 1, op.stride)
        places.append(np.array([min(first + op.size, side) - max(first, 0) for first in firsts]))
    counts: Ints = places[0][:, None] * places[1]
    return counts, lcm(*map(int, np.unique(counts)))


def _requantised_extent(op: Requantised, shape: Shape) -> Extent:
    return Extent(shape, op.requant.bits, peak(op.requant.bits, op.requant.relu))


def _sides(shape: Shape, kernel: Sequence[int], stride: int, padding: Padding) -> tuple[int, int]:
    top, bottom, left, right = padding
    return (shape[1] + top + bottom - kernel[0]) // stride + 1, (shape[2] + left + right - kernel[1]) // stride + 1


# --- running -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Step:
    """A node, and what of it is made ready once for all images."""

    node: Node
    out: Extent
    bound: int
    dead: tuple[str, ...]  # maps that no later node reads
    weight: _Array  # of a convolution; the factors [height, width, 1] of an average; a table
    offset: Ints  # [channels, 1 or height, 1 or width, 1], its border added
    mult: Ints  # [channels, 1, 1, 1]


def _steps(program: Program) -> list[_Step]:
    extents = {IMAGE: image_extent(program)}
    last = {name: node.name for node in program.nodes for name in node.inputs}
    steps = []
    for node in program.nodes:
        ins = [extents[name] for name in node.inputs]
        dead = tuple(name for name in dict.fromkeys(node.inputs) if last[name] == node.name)
        steps.append(_step(node, program.tensors, ins, dead))
        extents[node.name] = steps[-1].out
    return steps


def _step(node: Node, tensors: dict[str, Ints], ins: Sequence[Extent], dead: tuple[str, ...]) -> _Step:
    op, bound = node.op, accumulator_bound(node.op, tensors, ins)
    weight = offset = mult = np.zeros(1, np.int64)
    if isinstance(op, Requantised):
        offset, mult = (tensors[key][:, None, None, None] for key in (op.requant.offset, op.requant.mult))
    match op:
        case Conv():
            weight = tensors[op.weight]
            if op.border is not None:
                table = tensors[op.border.table][:, op.border.rows][:, :, op.border.columns]
                offset = offset + op.border.ticks * table[..., None]
        case AveragePool() if op.inside:
            counts, every = windows(op, ins[0].shape)
            weight = every // counts[..., None]
        case AveragePool():
            weight = weight + 1
        case Table():
            weight = tensors[op.table]
    return _Step(node, out_extent(op, tensors, ins), bound, dead, _as(weight, bound), offset, mult)


def _checked(program: Program, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    i = program.input
    if images.dtype != np.uint8 or images.shape[1:] != (i.channels, i.height, i.width):
        raise InputError(
            f"the program takes uint8 images [N, {i.channels}, {i.height}, {i.width}]; "
            f"these are {images.dtype} {list(images.shape)}"
        )
    return images


def _maps(steps: Sequence[_Step], images: NDArray[np.uint8]) -> Iterator[tuple[str, _Array]]:
    """Yield every map with its name; those that no later node reads are freed."""
    pixels = np.ascontiguousarray(images.transpose(1, 2, 3, 0)).astype(np.float32) - ZERO_POINT
    maps: dict[str, _Array] = {IMAGE: pixels}
    yield IMAGE, pixels
    for step in steps:
        values = _values(step, [maps[name] for name in step.node.inputs])
        maps[step.node.name] = _as(values, step.out.largest)
        for name in step.dead:
            del maps[name]
        yield step.node.name, maps[step.node.name]


def _values(step: _Step, maps: Sequence[_Array]) -> _Array:  # noqa: PLR0911 - a case each
    """Return the node's map. Sums are taken in a float type that holds their bound."""
    op, x = step.node.op, maps[0]
    match op:
        case Conv():
            return _requantised(step, op.requant, _convolved(step.weight, op, _as(x, step.bound)))
        case Scale():
            return _requantised(step, op.requant, _as(x, step.bound) * maps[1])
        case AveragePool():
            taps = _windows(_as(x, step.bound), (op.size, op.size), op.stride, op.padding)
            return _requantised(step, op.requant, sum(taps) * step.weight)
        case GlobalAverage():
            return _requantised(step, op.requant, x.sum((1, 2), dtype=np.float64)[:, None, None])
        case MaxPool():
            first, *taps = _windows(x, (op.size, op.size), op.stride, op.padding, outside=-np.inf)
            return reduce(np.maximum, taps, first)
        case Add():
            half = (1 << op.shift) >> 1
            maps = [_as(each, step.bound + half) * factor for each, factor in zip(maps, op.factors, strict=True)]
            total = (reduce(np.add, maps) + half) * 2.0**-op.shift
            return _saturated(np.floor(total, out=total), op.bits, op.relu)
        case Table():
            return step.weight[x.astype(np.intp) + ZERO_POINT]
        case Concat():
            return np.concatenate(maps)
        case Shortcut():
            short = x[:, :: op.stride, :: op.stride]
            return np.pad(short, [(0, op.channels - len(short)), (0, 0), (0, 0), (0, 0)])
        case _:
            return assert_never(op)


def _convolved(weight: _Array, op: Conv, x: _Array) -> _Array:
    """Return the sums, in x's float type, which holds every partial sum exactly."""
    taps = _windows(x, weight.shape[2:], op.stride, op.padding)
    if op.groups == len(weight) == len(x):
        return _depthwise(weight.reshape(len(weight), -1), taps)
    shape = taps[0].shape[1:]
    parts = []
    for kernel, channels in zip(np.split(weight, op.groups), np.split(np.arange(len(x)), op.groups), strict=True):
        group = slice(channels[0], channels[-1] + 1)
        columns = taps[0][group] if len(taps) == 1 else np.stack([tap[group] for tap in taps], 1)
        parts.append(kernel.reshape(len(kernel), -1) @ columns.reshape(-1, prod(shape)))
    return np.concatenate(parts).reshape(-1, *shape)


def _depthwise(weight: _Array, taps: Sequence[_Array]) -> _Array:
    acc = np.empty_like(taps[0], order="C")
    some = max(1, _CACHED // acc[0].size)  # channels at once: their sums stay in cache
    for start in range(0, len(acc), some):
        these = slice(start, start + some)
        product = np.empty_like(acc[these])
        for place, tap in enumerate(taps):
            out = product if place else acc[these]
            np.multiply(tap[these], weight[these, place, None, None, None], out=out)
            if place:
                np.add(acc[these], product, out=acc[these])
    return acc


def _windows(x: _Array, kernel: Sequence[int], stride: int, padding: Padding, outside: float = 0) -> list[_Array]:
    """Return a map for each place in the kernel, row by row: the values that it meets, by output pixel."""
    top, bottom, left, right = padding
    height, width = _sides((len(x), *x.shape[1:3]), kernel, stride, padding)
    if any(padding):
        x = np.pad(x, [(0, 0), (top, bottom), (left, right), (0, 0)], constant_values=outside)
    rows, columns = (height - 1) * stride + 1, (width - 1) * stride + 1
    return [
        x[:, row : row + rows : stride, column : column + columns : stride]
        for row in range(kernel[0])
        for column in range(kernel[1])
    ]


def _requantised(step: _Step, requant: Requant, acc: _Array) -> _Array:
    """Return fixed.requantise of the accumulators with their offsets; in float64 where all bits of it fit."""
    if step.bound * int(step.mult.max()) + (1 << requant.shift) < 1 << 53:
        ratio = step.mult * 2.0**-requant.shift
        scaled = acc * ratio
        scaled += step.offset * ratio + (0.5 if requant.shift else 0)
        return _saturated(np.floor(scaled, out=scaled), requant.bits, requant.relu)
    whole = acc.astype(np.int64) + step.offset
    return requantise(whole, step.mult, requant.shift, requant.bits, requant.relu).astype(np.float64)


def _saturated(x: _Array, bits: int, relu: bool = False) -> _Array:
    return np.clip(x, 0 if relu else -(1 << (bits - 1)), (1 << (bits - 1)) - 1, out=x)


def _as(x: _Array, bound: int) -> _Array:
    """Return x in the smaller float type that holds every integer up to `bound`."""
    assert bound < 1 << 53
    return x.astype(np.float32 if bound < 1 << 24 else np.float64, copy=False)
