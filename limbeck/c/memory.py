"""Where maps lie in the arena: those that live at once lie apart, but what a node writes may follow what it reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from limbeck.integer.fixed import Ints
from limbeck.integer.program import (
    IMAGE,
    Add,
    AveragePool,
    Conv,
    Extent,
    GlobalAverage,
    MaxPool,
    Operation,
    Scale,
    Shortcut,
    Table,
)
from limbeck.integer.survey import Site

ALIGNED = 8  # bytes
TILE = 8  # most output pixels that a convolution computes at once


class Step(NamedTuple):
    """What is computed at once: a node, and the sum behind it, if that follows pixel by pixel, so that the node's own
    map lies nowhere."""

    site: Site
    sum: Site | None = None

    @property
    def last(self) -> Site:
        """The site whose map it gives."""
        return self.sum or self.site

    @property
    def name(self) -> str:
        return self.last.node.name

    @property
    def reads(self) -> Sequence[tuple[str, Extent]]:
        """The maps that it takes."""
        taken = list(zip(self.site.node.inputs, self.site.ins, strict=True))
        if self.sum is not None:
            both = zip(self.sum.node.inputs, self.sum.ins, strict=True)
            taken += [(name, extent) for name, extent in both if name != self.site.node.name]
        return taken


def steps(sites: Sequence[Site]) -> Iterator[Step]:
    """Yield the sites in their order: a convolution over all channels with the Add behind it, where that alone takes
    it."""
    takers = [name for site in sites for name in site.node.inputs]
    summed: Site | None = None
    for site, after in zip(sites, [*sites[1:], None], strict=True):
        if site is summed:
            continue
        op, name = site.node.op, site.node.name
        follows = after is not None and isinstance(after.node.op, Add) and name in after.node.inputs
        summed = after if follows and isinstance(op, Conv) and op.groups == 1 and takers.count(name) == 1 else None
        yield Step(site, summed)


@dataclass(frozen=True)
class Memory:
    """The first byte of each map, and the size of the arena with what bounds it."""

    places: dict[str, int]
    size: int  # bytes of all maps together
    bound: int  # bytes that the largest node reads and writes, as if nothing overlapped
    node: str  # the name of that node


@dataclass(frozen=True)
class _Buffer:
    name: str
    size: int
    born: int  # number of the node that writes it; -1 for the image
    dies: int  # number of the last node that reads it


def plan(image: Extent, steps: Sequence[Step]) -> Memory:
    """Return places for the image and the maps of all steps."""
    buffers = _buffers(image, steps)
    overlaps = {}
    for number, step in enumerate(steps):
        names = [name for name, _ in step.reads]
        for place, name in enumerate(names):
            if buffers[name].dies == number and names.count(name) == 1:
                shift = ahead(step, place)
                if shift is not None:
                    overlaps[name, step.name] = min(_aligned(shift), buffers[step.name].size)
    orders = (
        sorted(buffers.values(), key=lambda b: (-b.size, b.born)),
        sorted(buffers.values(), key=lambda b: (-b.size, -b.born)),
        sorted(buffers.values(), key=lambda b: (b.born, -b.size)),
        sorted(buffers.values(), key=lambda b: (-b.born, -b.size)),
        sorted(buffers.values(), key=lambda b: (-(b.dies - b.born) * b.size, b.born)),
    )
    places, size = min((_improved(order, overlaps) for order in orders), key=lambda found: found[1])
    moved = {step.name: sum(map(bytes_of, (*dict(step.reads).values(), step.last.out))) for step in steps}
    node = max(moved, key=moved.__getitem__)
    return Memory(places, size, moved[node], node)


def bytes_of(extent: Extent) -> int:
    """Return the bytes of a map."""
    return prod(extent.shape) * width(extent.bits)


def width(bits: int) -> int:
    """Return the bytes of a value."""
    return {8: 1, 16: 2, 24: 4}[bits]


def ahead(step: Step, place: int) -> int | None:
    """Return how many bytes before its input's first one the step's map must begin, so that nothing is overwritten
    that is still to be read. None: where they must lie apart."""
    op, (x, out) = step.site.node.op, (step.reads[place][1], step.last.out)
    before, after = (width(extent.bits) for extent in (x, out))
    if step.sum is not None and place > 0:
        return max(0, prod(out.shape) * (after - before))
    match op:
        case Add() | Table():
            return max(0, prod(out.shape) * (after - before))
        case Scale():
            return max(0, prod(out.shape) * (after - before)) if place == 0 else None
        case Conv(groups=1) | MaxPool() | AveragePool() | GlobalAverage() | Shortcut():
            pass
        case Conv() if op.groups == x.shape[0] == out.shape[0]:
            pass
        case _:
            return None
    stride, top, left = _frame(op)
    first = _first_read(x.shape, out.shape, stride, top, left) * x.shape[0] * before
    tile = TILE if isinstance(op, Conv) else 1
    written = np.minimum(np.arange(len(first)) + tile, len(first)) * out.shape[0] * after
    return max(0, int((written - first).max()))


def _frame(op: Operation) -> tuple[int, int, int]:
    match op:
        case Conv() | MaxPool() | AveragePool():
            return op.stride, op.padding[0], op.padding[2]
        case Shortcut():
            return op.stride, 0, 0
        case _:
            return 1, 0, 0


def _first_read(x: Sequence[int], out: Sequence[int], stride: int, top: int, left: int) -> Ints:
    """Return for each output pixel the first pixel that it or a later one reads."""
    rows = np.maximum(np.arange(out[1]) * stride - top, 0)
    columns = np.maximum(np.arange(out[2]) * stride - left, 0)
    first: Ints = (rows[:, None] * x[2] + columns).reshape(-1)
    return np.minimum.accumulate(first[::-1])[::-1]


def _aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def _buffers(image: Extent, steps: Sequence[Step]) -> dict[str, _Buffer]:
    dies = {name: number for number, step in enumerate(steps) for name, _ in step.reads}
    last = len(steps)
    extents = {IMAGE: image, **{step.name: step.last.out for step in steps}}
    born = {step.name: number for number, step in enumerate(steps)} | {IMAGE: -1}
    return {
        name: _Buffer(name, _aligned(bytes_of(extent)), born[name], dies.get(name, last))
        for name, extent in extents.items()
    }


def _improved(order: list[_Buffer], overlaps: dict[tuple[str, str], int]) -> tuple[dict[str, int], int]:
    """Return places, and the size of all, once what reaches highest, or lives beside it, was placed first, as long as
    that helps."""
    places, size = _placed(order, overlaps)
    while True:
        highest = [buffer for buffer in order if places[buffer.name] + buffer.size == size]
        moved = [buffer for buffer in order if any(_together(buffer, other) for other in highest)]
        others = [[buffer, *(other for other in order if other is not buffer)] for buffer in moved]
        tried = [(*_placed(other, overlaps), other) for other in others]
        found = min(tried, key=lambda tried: tried[1])
        if found[1] >= size:
            return places, size
        places, size, order = found


def _placed(order: Sequence[_Buffer], overlaps: dict[tuple[str, str], int]) -> tuple[dict[str, int], int]:
    """Return the places where each buffer lies as low as those before it in `order` let it, and the size of all."""
    places: dict[str, int] = {}
    done: list[_Buffer] = []
    for buffer in order:
        taken = sorted(
            _forbidden(buffer, other, places[other.name], overlaps) for other in done if _together(buffer, other)
        )
        place = 0
        for first, last in taken:
            if first < place < last:
                place = max(place, last)
        places[buffer.name] = place
        done.append(buffer)
    return places, max(places[buffer.name] + buffer.size for buffer in done)


def _together(a: _Buffer, b: _Buffer) -> bool:
    return a.born <= b.dies and b.born <= a.dies


def _forbidden(buffer: _Buffer, other: _Buffer, at: int, overlaps: dict[tuple[str, str], int]) -> tuple[int, int]:
    """Return between which places, both of them allowed, the buffer can't begin."""
    if (shift := overlaps.get((other.name, buffer.name))) is not None:  # what is written, after what is read
        return at - shift, at + other.size
    if (shift := overlaps.get((buffer.name, other.name))) is not None:
        return at - buffer.size, at + shift
    return at - buffer.size, at + other.size
