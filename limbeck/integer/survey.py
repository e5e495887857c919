"""What is proved of a program before it runs: that its nodes fit together, and how large its numbers get."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from limbeck.errors import InputError
from limbeck.integer.fixed import ACCUMULATOR_BITS, MULTIPLIER_BITS, SHIFT_LIMIT, Ints
from limbeck.integer.program import (
    IMAGE,
    Add,
    AveragePool,
    Border,
    Concat,
    Conv,
    Extent,
    MaxPool,
    Node,
    Operation,
    Padding,
    Program,
    Requant,
    Requantised,
    Scale,
    Shape,
    Shortcut,
    Table,
    accumulator_bound,
    image_extent,
    out_extent,
    peak,
)

SIDE_LIMIT = 4096  # pixels
CHANNEL_LIMIT = 1 << 16
MAP_LIMIT = 1 << 26  # values in one image's map
POOL_LIMIT = 64  # side of a pool's window
TICKS_LIMIT = 2048
_BITS = (8, 16, 24)
_HALF = 1 << (ACCUMULATOR_BITS - 1)


class Site(NamedTuple):
    """A node, what it takes and gives, and how large its sums can get."""

    node: Node
    ins: tuple[Extent, ...]
    out: Extent
    bound: int  # no sum, whole or in part, exceeds it in magnitude; 0 where there is none
    weights: int  # of a convolution

    @property
    def accumulator_bits(self) -> int:
        return self.bound.bit_length() + 1 if self.bound else 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return self.weights * self.out.shape[1] * self.out.shape[2]

    @property
    def formats(self) -> str:
        """Bits of weights, of what comes in, of what goes out: "w8 a8 -> 16"."""
        weights = f"w{self.node.op.weight_bits} " if isinstance(self.node.op, Conv) else ""
        return f"{weights}a{max(extent.bits for extent in self.ins)} -> {self.out.bits}"

    def saturated(self, values: Ints) -> int:
        """Return how many values of its map lie at an end of their range, a ReLU's zeros not counted."""
        half = 1 << (self.out.bits - 1)
        return int((values >= half - 1).sum() + (values <= -half).sum())


class Use(NamedTuple):
    """A tensor that an operation uses, and what for."""

    key: str
    what: str
    bits: int  # of each value; 0: as many as the largest needs


def survey(program: Program) -> tuple[Site, ...]:
    """Return the sites of all nodes in their order.

    InputError where nodes don't fit each other or break a limit of numerics.md §4; else `run` is exact.
    """
    _within("input channels", program.input.channels, 1, CHANNEL_LIMIT)
    _within("input height", program.input.height, 1, SIDE_LIMIT)
    _within("input width", program.input.width, 1, SIDE_LIMIT)
    extents, sites = {IMAGE: image_extent(program)}, []
    for node in program.nodes:
        if node.name in extents:
            raise InputError(f"two maps have the name {node.name!r}; a program names each once")
        for name in node.inputs:
            if name not in extents:
                raise InputError(f"{node.name}: it takes {name!r}, which no node before it gives")
        sites.append(_site(program, node, tuple(extents[name] for name in node.inputs)))
        extents[node.name] = sites[-1].out
    _check_uses(program)
    _check_scores(program, sites)
    return tuple(sites)


def stored(program: Program) -> int:
    """Return the bytes that a device keeps for the program: each weight in its bits, multipliers in 16, offsets and
    border tables in as few whole bytes as the largest of each needs; what nodes share, once."""
    every = {use.key: use for node in program.nodes for use in uses(node.op)}
    return sum(_bytes(program.tensors[key], use.bits) for key, use in every.items())


def uses(op: Operation) -> Iterator[Use]:
    """Yield the tensors that an operation takes."""
    match op:
        case Conv():
            yield Use(op.weight, "weights", op.weight_bits)
            if op.border is not None:
                yield Use(op.border.table, "border table", 0)
        case Table():
            yield Use(op.table, "table", op.bits)
    if isinstance(op, Requantised):
        yield Use(op.requant.offset, "offsets", 0)
        yield Use(op.requant.mult, "multipliers", MULTIPLIER_BITS)


def _bytes(table: Ints, bits: int) -> int:
    need = bits or 8 * -(-(int(np.abs(table).max()).bit_length() + 1) // 8)
    return -(-table.size * need // 8)


def _site(program: Program, node: Node, ins: tuple[Extent, ...]) -> Site:
    op, path = node.op, node.name
    wanted = len(op.factors) if isinstance(op, Add) else 2 if isinstance(op, Scale) else 1
    if not ins or (len(ins) != wanted and not isinstance(op, Concat)):
        raise InputError(f"{path}: it takes {len(ins)} maps; it must take {max(wanted, 1)}")
    for use in uses(op):
        table = program.tensors.get(use.key)
        if table is None or table.dtype != np.int64 or not table.size:
            raise InputError(f"{path}: there is no tensor {use.key!r} of int64 for its {use.what}")
    _check(op, path, program.tensors, ins)
    out = out_extent(op, program.tensors, ins)
    _within(f"{path}: channels", out.shape[0], 1, CHANNEL_LIMIT)
    _within(f"{path}: values in its map", math.prod(out.shape), 1, MAP_LIMIT)
    if isinstance(op, Requantised):
        _check_requant(op.requant, path, program.tensors, out.shape[0])
    if isinstance(op, Conv) and op.border is not None:
        _check_border(op.border, path, program.tensors, out.shape)
    if len(node.scale) not in (1, out.shape[0]) or not all(0 < scale < math.inf for scale in node.scale):
        raise InputError(f"{path}: scales {str(node.scale)[:40]} must be positive, one or {out.shape[0]}")
    bound = accumulator_bound(op, program.tensors, ins)
    need = bound.bit_length() + 1
    if need > ACCUMULATOR_BITS:
        raise InputError(
            f"{path}: its accumulators need {need} bits, the limit is {ACCUMULATOR_BITS}; "
            "lower its weight bits or the bits of the activations that it gets"
        )
    weights = program.tensors[op.weight].size if isinstance(op, Conv) else 0
    return Site(node, ins, out, bound, weights)


def _check(op: Operation, path: str, tensors: dict[str, Ints], ins: Sequence[Extent]) -> None:
    shape = ins[0].shape
    match op:
        case Conv():
            _most_bits(path, ins, 16)
            weight = tensors[op.weight]
            _within(f"{path}: groups", op.groups, 1, shape[0])
            if weight.ndim != 4 or weight.shape[1] * op.groups != shape[0] or len(weight) % op.groups:
                raise InputError(f"{path}: weights {weight.shape} don't fit {op.groups} groups of {shape[0]} channels")
            _one_of(f"{path}: weight bits", op.weight_bits, (4, 8, 16))
            limit = peak(op.weight_bits, relu=True)
            _table_within(f"{path}: weights", weight, -limit, limit)
            _check_windows(path, shape, weight.shape[2:], op.stride, op.padding)
        case MaxPool() | AveragePool():
            _within(f"{path}: size", op.size, 1, POOL_LIMIT)
            _check_windows(path, shape, (op.size, op.size), op.stride, op.padding)
        case Shortcut():
            _within(f"{path}: stride", op.stride, 1, SIDE_LIMIT)
            _within(f"{path}: channels", op.channels, shape[0], CHANNEL_LIMIT)
        case Add():
            _same(path, [each.shape for each in ins])
            _within(f"{path}: smallest factor", min(op.factors), 1 - (1 << MULTIPLIER_BITS), (1 << MULTIPLIER_BITS) - 1)
            _within(f"{path}: largest factor", max(op.factors), 1 - (1 << MULTIPLIER_BITS), (1 << MULTIPLIER_BITS) - 1)
            _within(f"{path}: shift", op.shift, 0, SHIFT_LIMIT)
            _one_of(f"{path}: bits", op.bits, _BITS)
        case Scale():
            _most_bits(path, ins, 16)
            _same(path, [(shape[0], 1, 1), ins[1].shape])
        case Table():
            _most_bits(path, ins, 8)
            _one_of(f"{path}: bits", op.bits, _BITS)
            if tensors[op.table].shape != (256,):
                raise InputError(f"{path}: a table {tensors[op.table].shape}; it must have 256 values")
            half = peak(op.bits)
            _table_within(f"{path}: table", tensors[op.table], -half, half - 1)
        case Concat():
            _same(path, [(0, *each.shape[1:]) for each in ins])


def _check_uses(program: Program) -> None:
    """Raise InputError where a map or a tensor is unused, or a tensor has two uses."""
    taken = {name for node in program.nodes for name in node.inputs}
    for node in program.nodes[:-1]:
        if node.name not in taken:
            raise InputError(f"{node.name}: no node takes its map; leave it out")
    known: dict[str, Use] = {}
    for node in program.nodes:
        for use in uses(node.op):
            if known.setdefault(use.key, use) != use:
                raise InputError(f"{node.name}: the tensor {use.key!r} of its {use.what} is used otherwise, too")
    for key in program.tensors:
        if key not in known:
            raise InputError(f"it holds a tensor that no node uses, {key}")


def _check_scores(program: Program, sites: Sequence[Site]) -> None:
    shape = sites[-1].out.shape if sites else image_extent(program).shape
    if not sites or shape != (len(program.classes), 1, 1):
        raise InputError(
            f"the program ends with a map {shape}; it must end with a node that gives "
            f"{len(program.classes)} scores, one per class"
        )
    if len(sites[-1].node.scale) != 1:
        raise InputError(f"{sites[-1].node.name}: scores have one scale, so that they can be compared")


def _check_windows(path: str, shape: Shape, kernel: Sequence[int], stride: int, padding: Padding) -> None:
    for side, size, pads in ((shape[1], kernel[0], padding[:2]), (shape[2], kernel[1], padding[2:])):
        for pad in pads:
            _within(f"{path}: padding", pad, 0, size - 1)
        _within(f"{path}: kernel", size, 1, side + sum(pads))
    _within(f"{path}: stride", stride, 1, SIDE_LIMIT)


def _check_requant(requant: Requant, path: str, tensors: dict[str, Ints], channels: int) -> None:
    for name, key, low, high in (
        ("offsets", requant.offset, -_HALF, _HALF),
        ("multipliers", requant.mult, 0, (1 << MULTIPLIER_BITS) - 1),
    ):
        if tensors[key].shape != (channels,):
            raise InputError(f"{path}: {name} {tensors[key].shape} don't fit {channels} channels")
        _table_within(f"{path}: {name}", tensors[key], low, high)
    _one_of(f"{path}: bits", requant.bits, _BITS)
    _within(f"{path}: shift", requant.shift, 0, SHIFT_LIMIT)


def _check_border(border: Border, path: str, tensors: dict[str, Ints], out: Shape) -> None:
    table = tensors[border.table]
    if (len(border.rows), len(border.columns)) != out[1:] or table.ndim != 3 or len(table) != out[0]:
        sides = f"{len(border.rows)} rows and {len(border.columns)} columns"
        raise InputError(f"{path}: a border {table.shape} of {sides} doesn't fit a map {out}")
    for what, classes, number in (("rows", border.rows, table.shape[1]), ("columns", border.columns, table.shape[2])):
        _within(f"{path}: smallest class of border {what}", min(classes), 0, number - 1)
        _within(f"{path}: largest class of border {what}", max(classes), 0, number - 1)
    _table_within(f"{path}: border table", table, -_HALF, _HALF)
    _within(f"{path}: border ticks", border.ticks, 0, TICKS_LIMIT)


def _same(path: str, shapes: Sequence[Shape]) -> None:
    if len(set(shapes)) > 1:
        raise InputError(f"{path}: the maps {' and '.join(map(str, shapes))} that it takes don't fit each other")


def _most_bits(path: str, ins: Sequence[Extent], most: int) -> None:
    for extent in ins:
        if extent.bits > most:
            raise InputError(f"{path}: it takes a map of {extent.bits} bits; at most {most} are possible")


def _table_within(what: str, table: Ints, low: int, high: int) -> None:
    _within(f"smallest of {what}", int(table.min()), low, high)
    _within(f"largest of {what}", int(table.max()), low, high)


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{what} is {value}; it must lie from {low} to {high}")


def _one_of(what: str, value: int, choices: tuple[int, ...]) -> None:
    if value not in choices:
        raise InputError(f"{what} is {value}; it must be one of {', '.join(map(str, choices))}")
