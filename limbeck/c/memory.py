"""Where maps lie in the arena: those that live at once lie apart, but what a node writes may follow what it reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

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
TILE = 8  # output pixels that a convolution has at once, at most


@dataclass(frozen=True)
class Memory:
    """The first byte of each map, and what the arena is as large as."""

    places: dict[str, int]
    size: int  # bytes of all maps together
    bound: int  # of the node that takes and gives most, as if nothing overlapped
    node: str  # its name


@dataclass(frozen=True)
class _Buffer:
    name: str
    size: int
    born: int  # the node that writes it; -1: the image
    dies: int  # the last node that reads it


def plan(image: Extent, sites: Sequence[Site]) -> Memory:
    """Return places for the image and the maps of all nodes."""
    buffers = _buffers(image, sites)
    overlaps = {}
    for number, site in enumerate(sites):
        for place, name in enumerate(site.node.inputs):
            if buffers[name].dies == number and site.node.inputs.count(name) == 1:
                shift = ahead(site, place)
                if shift is not None:
                    overlaps[name, site.node.name] = min(_aligned(shift), buffers[site.node.name].size)
    orders = (
        sorted(buffers.values(), key=lambda b: (-b.size, b.born)),
        sorted(buffers.values(), key=lambda b: (-b.size, -b.born)),
        sorted(buffers.values(), key=lambda b: (b.born, -b.size)),
        sorted(buffers.values(), key=lambda b: (-b.born, -b.size)),
        sorted(buffers.values(), key=lambda b: (-(b.dies - b.born) * b.size, b.born)),
    )
    places, size = min((_placed(order, overlaps) for order in orders), key=lambda found: found[1])
    moved = {site.node.name: sum(bytes_of(e) for e in (*dict.fromkeys(site.ins), site.out)) for site in sites}
    node = max(moved, key=moved.__getitem__)
    return Memory(places, size, moved[node], node)


def bytes_of(extent: Extent) -> int:
    """Return the bytes of a map."""
    return prod(extent.shape) * width(extent.bits)


def width(bits: int) -> int:
    """Return the bytes of a value."""
    return {8: 1, 16: 2, 24: 4}[bits]


def ahead(site: Site, place: int) -> int | None:
    """Return how many bytes before its input's first one the node's map must begin, so that nothing is overwritten
    that is still to be read. None: where they must lie apart."""
    op, (x, out) = site.node.op, (site.ins[place], site.out)
    before, after = (width(extent.bits) for extent in (x, out))
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


def _buffers(image: Extent, sites: Sequence[Site]) -> dict[str, _Buffer]:
    dies = {name: number for number, site in enumerate(sites) for name in site.node.inputs}
    last = len(sites)
    extents = {IMAGE: image, **{site.node.name: site.out for site in sites}}
    born = {site.node.name: number for number, site in enumerate(sites)} | {IMAGE: -1}
    return {
        name: _Buffer(name, _aligned(bytes_of(extent)), born[name], dies.get(name, last))
        for name, extent in extents.items()
    }


def _placed(order: Sequence[_Buffer], overlaps: dict[tuple[str, str], int]) -> tuple[dict[str, int], int]:
    """Return the places where each buffer lies as low as those before it in `order` let it, and the size of all."""
    places: dict[str, int] = {}
    done: list[_Buffer] = []
    for buffer in order:
        taken = sorted(
            _forbidden(buffer, other, places[other.name], overlaps)
            for other in done
            if buffer.born <= other.dies and other.born <= buffer.dies
        )
        place = 0
        for first, last in taken:
            if first < place < last:
                place = max(place, last)
        places[buffer.name] = place
        done.append(buffer)
    return places, max(places[buffer.name] + buffer.size for buffer in done)


def _forbidden(buffer: _Buffer, other: _Buffer, at: int, overlaps: dict[tuple[str, str], int]) -> tuple[int, int]:
    """Return between which places, both of them allowed, the buffer can't begin."""
    if (shift := overlaps.get((other.name, buffer.name))) is not None:  # what is written, after what is read
        return at - shift, at + other.size
    if (shift := overlaps.get((buffer.name, other.name))) is not None:
        return at - buffer.size, at + shift
    return at - buffer.size, at + other.size
