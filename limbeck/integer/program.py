"""The integer program: frozen layers, and `run`, which is what they mean (docs/numerics.md). Numpy only."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError, assert_never
from limbeck.integer.fixed import Ints, requantise

Solver = Literal["euler", "midpoint", "heun", "rk4"]
Shape = tuple[int, int, int]  # channels, height, width
_Array = NDArray[Any]  # a map [channels, height, width, images], integers held exactly by its float type

# By solver, stage by stage: with k from the field, the next stage starts from z + a·k, and the step ends with
# z plus the sum of b·k, for (a, b) below. The field's last multipliers hold the rest of h.
STAGES: dict[Solver, tuple[tuple[int, int], ...]] = {
    "euler": ((0, 1),),
    "midpoint": ((1, 0), (0, 1)),
    "heun": ((2, 1), (0, 1)),
    "rk4": ((3, 1), (3, 2), (6, 2), (0, 1)),
}
ZERO_POINT = 128  # a pixel p enters as p - 128
_IMAGES = 32  # run at once: the largest maps then stay in a core's cache


@dataclass(frozen=True, eq=False)
class Border:
    """What a constant map, seen by a padded convolution, adds to the accumulators (numerics.md §5)."""

    table: Ints  # [channels, row classes, column classes]
    rows: Ints  # [output height]: the class of each row
    columns: Ints  # [output width]: the class of each column
    ticks: tuple[int, ...]  # by evaluation: how often it is added


@dataclass(frozen=True, eq=False)
class Requant:
    """(acc + offset + ticks · border) · mult / 2**shift, rounded half up and saturated (numerics.md §3).

    Tables have one row, or one row for each evaluation of an ODE block's field.
    """

    offset: Ints  # [1 or evaluations, channels]
    mult: Ints  # [1 or evaluations, channels], 0 to 2**16 - 1
    shift: int
    bits: int  # of the result, signed
    relu: bool
    scale: tuple[float, ...]  # what one unit of the result stands for, one or one a channel: no part of the arithmetic
    border: Border | None = None


@dataclass(frozen=True, eq=False)
class Conv:
    """Dense convolution, zeros around the map."""

    name: str
    weight: Ints  # [out, in, kernel, kernel], -127 to 127 or -32767 to 32767
    weight_bits: int
    stride: int
    padding: int
    requant: Requant


@dataclass(frozen=True, eq=False)
class Depthwise:
    """Convolution of each channel with its own kernel, zeros around the map."""

    name: str
    weight: Ints  # [channels, kernel, kernel]
    weight_bits: int
    stride: int
    padding: int
    requant: Requant


@dataclass(frozen=True, eq=False)
class Pointwise:
    """1x1 convolution; on a 1x1 map it is the dense layer that gives the scores."""

    name: str
    weight: Ints  # [out, in]
    weight_bits: int
    requant: Requant


@dataclass(frozen=True)
class Narrow:
    """State to activation: `shift` bits dropped, rounded half up, saturated."""

    name: str
    shift: int
    bits: int


@dataclass(frozen=True)
class MaxPool:
    """The largest of each window; places outside the map don't take part."""

    name: str
    size: int
    stride: int
    padding: int


@dataclass(frozen=True, eq=False)
class GlobalAverage:
    """The sum over the map, requantised by multipliers that hold 1 / (height · width)."""

    name: str
    requant: Requant


Simple = Conv | Depthwise | Pointwise | Narrow


@dataclass(frozen=True, eq=False)
class Residual:
    """z <- saturate(shortcut(z) + field(z)), then negatives to 0 if `relu`.

    The shortcut takes every `stride`-th pixel and appends zero channels up to `channels` (ResNet's option A).
    """

    name: str
    field: tuple[Simple, ...]
    stride: int
    channels: int
    relu: bool
    bits: int


@dataclass(frozen=True, eq=False)
class Ode:
    """z after `steps` steps of the solver: the same weights, tables by evaluation (numerics.md §7)."""

    name: str
    field: tuple[Simple, ...]
    steps: int
    solver: Solver
    bits: int


Layer = Simple | MaxPool | GlobalAverage | Residual | Ode
Weighted = Conv | Depthwise | Pointwise


@dataclass(frozen=True)
class Input:
    """Images uint8 [channels, height, width], and how any picture is made one of these."""

    channels: int
    height: int
    width: int
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    crop_pct: float = 1.0


@dataclass(frozen=True, eq=False)
class Program:
    """A classifier in integers. Scores times `scale` are nearly the float net's logits."""

    input: Input
    layers: tuple[Layer, ...]
    classes: tuple[str, ...]
    lineage: dict[str, Any] = field(default_factory=dict)  # where the weights come from, as JSON

    @property
    def scale(self) -> float:
        """What one unit of a score stands for."""
        last = self.layers[-1]
        assert isinstance(last, Pointwise)
        return last.requant.scale[0]


def run(program: Program, images: NDArray[np.uint8]) -> Ints:
    """Return the scores [N, classes] of uint8 images [N, channels, height, width]: what the program means."""
    scores = [_scores(program, part) for part in _parts(program, images)]
    return np.concatenate(scores) if scores else np.zeros((0, len(program.classes)), np.int64)


def predict(program: Program, images: NDArray[np.uint8]) -> Ints:
    """Return the class of each image: the first of the largest scores."""
    best: Ints = run(program, images).argmax(1)
    return best


def trace(program: Program, images: NDArray[np.uint8]) -> Iterator[tuple[str, Ints]]:
    """Yield every map [N, channels, height, width] in the order of its making, from "input" to the scores.

    In an ODE block the name holds the evaluation, as in "layer1[2].conv1.depthwise"; "layer1[2]" is the state
    that the next evaluation starts from.
    """
    images = _checked(program, images)
    for path, x in _maps(program, images):
        yield path, np.ascontiguousarray(x.transpose(3, 0, 1, 2)).astype(np.int64)


def peak(bits: int, relu: bool = False) -> int:
    """Return the largest magnitude of signed `bits` bits: 2**(bits - 1), one less without negatives."""
    return (1 << (bits - 1)) - (1 if relu else 0)


def accumulator_bound(layer: Weighted | GlobalAverage, shape: Shape, largest: int) -> int:
    """Return the bound of numerics.md §4 on the accumulators over a map of magnitudes up to `largest`.

    sum |w| · largest + |offset| + ticks · |border|, for the worst channel: no partial sum exceeds it either.
    """
    match layer:
        case GlobalAverage():
            sums = np.full(shape[0], shape[1] * shape[2])
        case _:
            sums = np.abs(layer.weight).reshape(len(layer.weight), -1).sum(1)
    border = layer.requant.border
    extra = np.abs(border.table).max((1, 2)) * max(border.ticks) if border else 0
    return int((sums * largest + np.abs(layer.requant.offset).max(0) + extra).max())


def _checked(program: Program, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    i = program.input
    if images.dtype != np.uint8 or images.shape[1:] != (i.channels, i.height, i.width):
        raise InputError(
            f"the program takes uint8 images [N, {i.channels}, {i.height}, {i.width}]; "
            f"these are {images.dtype} {list(images.shape)}"
        )
    return images


def _parts(program: Program, images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    images = _checked(program, images)
    for start in range(0, len(images), _IMAGES):
        yield images[start : start + _IMAGES]


def _scores(program: Program, images: NDArray[np.uint8]) -> Ints:
    x = None
    for _, x in _maps(program, images):  # noqa: B007 - the last one is meant
        pass
    assert x is not None
    return x[:, 0, 0].T.astype(np.int64)


_Maps = Generator[tuple[str, _Array], None, "_Map"]


@dataclass(frozen=True)
class _Map:
    values: _Array
    largest: int  # no value can exceed it in magnitude


def _maps(program: Program, images: NDArray[np.uint8]) -> Iterator[tuple[str, _Array]]:
    pixels = np.ascontiguousarray(images.transpose(1, 2, 3, 0)).astype(np.float32) - ZERO_POINT
    yield "input", pixels
    x = _Map(pixels, ZERO_POINT)
    for layer in program.layers:
        x = yield from _layer(layer, x)


def _layer(layer: Layer, x: _Map) -> _Maps:
    match layer:
        case Residual():
            return (yield from _residual(layer, x))
        case Ode():
            return (yield from _ode(layer, x))
        case MaxPool():
            y = _Map(_max_pool(layer, x.values), x.largest)
        case GlobalAverage():
            bound = accumulator_bound(layer, _shape(x), x.largest)
            sums = x.values.sum((1, 2), dtype=np.float64)[:, None, None]
            y = _requantised(layer.requant, sums, bound, 0)
        case _:
            y = _simple(layer, x, 0)
    yield layer.name, y.values
    return y


def _field(block: Residual | Ode, path: str, z: _Map, evaluation: int) -> _Maps:
    for layer in block.field:
        z = _simple(layer, z, evaluation)
        yield f"{path}.{layer.name}", z.values
    return z


def _residual(block: Residual, z: _Map) -> _Maps:
    k = yield from _field(block, block.name, z, 0)
    short = z.values[:, :: block.stride, :: block.stride]
    total = _as(k.values, z.largest + k.largest)
    total = total + np.pad(short, [(0, block.channels - len(short)), (0, 0), (0, 0), (0, 0)])
    values = _saturated(total, block.bits, block.relu)
    yield block.name, values
    return _Map(values, peak(block.bits, block.relu))


def _ode(block: Ode, z: _Map) -> _Maps:
    state, stages = z.values, STAGES[block.solver]
    limit = peak(block.bits)
    for step in range(block.steps):
        end = here = state
        for stage, (a, b) in enumerate(stages):
            evaluation = step * len(stages) + stage
            path = f"{block.name}[{evaluation}]"
            k = yield from _field(block, path, _Map(here, limit), evaluation)
            wide = _as(k.values, limit + max(a, b) * k.largest)
            here = _saturated(state + a * wide, block.bits)
            end = _saturated(end + b * wide, block.bits)
            yield path, end if stage == len(stages) - 1 else here
        state = end
    return _Map(state, limit)


def _simple(layer: Simple, x: _Map, evaluation: int) -> _Map:
    match layer:
        case Narrow():
            wide = _as(x.values, 2 * x.largest + 1)
            values = np.floor(wide * 2.0**-layer.shift + 0.5) if layer.shift else wide
            return _Map(_saturated(values, layer.bits), peak(layer.bits))
        case Conv() | Depthwise() | Pointwise():
            bound = accumulator_bound(layer, _shape(x), x.largest)
            values = _as(x.values, bound)
            return _requantised(layer.requant, _accumulate(layer, values), bound, evaluation)
        case _:
            return assert_never(layer)


def _accumulate(layer: Weighted, x: _Array) -> _Array:
    """Return the accumulators, in x's float type, which holds every partial sum exactly."""
    weight = layer.weight.astype(x.dtype)
    match layer:
        case Pointwise():
            acc: _Array = weight @ x.reshape(len(x), -1)
            return acc.reshape(-1, *x.shape[1:])
        case Depthwise():
            taps = _windows(x, layer.weight.shape[-1], layer.stride, layer.padding)
            return _depthwise(weight, taps)
        case Conv():
            taps = _windows(x, layer.weight.shape[-1], layer.stride, layer.padding)
            columns = np.stack([tap for _, _, tap in taps], 1)  # [in, taps, height, width, images]
            acc = weight.reshape(len(weight), -1) @ columns.reshape(-1, columns[0, 0].size)
            return acc.reshape(-1, *columns.shape[2:])


def _depthwise(weight: _Array, taps: list[tuple[int, int, _Array]]) -> _Array:
    acc = np.empty_like(taps[0][2], order="C")
    product = np.empty_like(acc[0])
    for channel, sums in enumerate(acc):  # channel by channel: the sums stay in cache
        sums.fill(0)
        for row, column, tap in taps:
            np.multiply(tap[channel], weight[channel, row, column], out=product)
            np.add(sums, product, out=sums)
    return acc


def _max_pool(layer: MaxPool, x: _Array) -> _Array:
    taps = _windows(x, layer.size, layer.stride, layer.padding, outside=-np.inf)
    best = taps[0][2].copy()
    for _, _, tap in taps[1:]:
        np.maximum(best, tap, out=best)
    return best


def _windows(x: _Array, size: int, stride: int, padding: int, outside: float = 0) -> list[tuple[int, int, _Array]]:
    """Return (row, column, map) for each place in the kernel: the values that it meets, by output pixel."""
    pad = (padding, padding)
    x = np.pad(x, [(0, 0), pad, pad, (0, 0)], constant_values=outside)
    height, width = ((side - size) // stride * stride + 1 for side in x.shape[1:3])
    return [
        (row, column, x[:, row : row + height : stride, column : column + width : stride])
        for row in range(size)
        for column in range(size)
    ]


def _requantised(requant: Requant, acc: _Array, bound: int, evaluation: int) -> _Map:
    """Return fixed.requantise of the accumulators with their offsets; in float64 where all bits of it fit."""
    row = evaluation % len(requant.offset)
    offset = requant.offset[row][:, None, None, None]
    if requant.border is not None:
        border = requant.border
        ticks = border.ticks[evaluation % len(border.ticks)]
        offset = offset + ticks * border.table[:, border.rows][:, :, border.columns][..., None]
    mult = requant.mult[evaluation % len(requant.mult)][:, None, None, None]
    if bound * int(mult.max()) + (1 << requant.shift) < 1 << 53:
        scaled = acc + offset.astype(np.float64)
        scaled *= mult * 2.0**-requant.shift
        scaled += 0.5 if requant.shift else 0
        values = _saturated(np.floor(scaled, out=scaled), requant.bits, requant.relu)
    else:
        whole = acc.astype(np.int64) + offset
        values = requantise(whole, mult, requant.shift, requant.bits, requant.relu).astype(np.float64)
    return _Map(_as(values, peak(requant.bits)), peak(requant.bits, requant.relu))


def _saturated(x: _Array, bits: int, relu: bool = False) -> _Array:
    return np.clip(x, 0 if relu else -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def _as(x: _Array, bound: int) -> _Array:
    """Return x in the smaller float type that holds every integer up to `bound`."""
    assert bound < 1 << 53
    return x.astype(np.float32 if bound < 1 << 24 else np.float64, copy=False)


def _shape(x: _Map) -> Shape:
    channels, height, width, _ = x.values.shape
    return channels, height, width
