"""The static schedule: each work becomes a micro-op with addresses, and waits as long as it must, no longer.

Times are cycles. `front` works on a slot's reading while `back` computes the slot before; a slot is a word of output
pixels. docs/hardware.md derives the figures; rtl/front.sv, back.sv and result.sv keep to them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.fpga.gaps import spaced, undrained, with_gap
from limbeck.fpga.works import Work
from limbeck.integer.program import Border, Requant

START_TO_SCORE = 30  # plus the lanes of a chain: cycles from the end of the last accumulation to the scores
OPS_LIMIT = 256
_DEPTH_LIMIT = 1 << 16
_TAPS_LIMIT = 32


@dataclass(frozen=True)
class Lanes:
    """How wide the engine is: output pixels, input channels and output channels at once."""

    pixels: int
    inputs: int
    outputs: int

    @property
    def chain(self) -> int:
        """Input lanes whose products one cascade of multipliers sums."""
        return min(self.inputs, 8)


@dataclass(frozen=True)
class Shape3:
    """A map as words: rows, words in a row, words of a pixel's channels."""

    rows: int
    slots: int
    words: int

    @property
    def bank(self) -> int:
        """Words in one of the three banks, which hold every third row."""
        return -(-self.rows // 3) * self.slots * self.words

    @property
    def total(self) -> int:
        return self.rows * self.slots * self.words


@dataclass(frozen=True, eq=False)
class Op:
    """A micro-op: the fields of rtl/ops.svh, and the figures that its schedule needs."""

    work: Work
    pixels: int  # of a word
    read: Shape3
    written: Shape3
    kept: Shape3  # what is written of it: less where it is pooled
    taps: int  # words for `pointwise` by channel group; of a 7x7 stem by three rows
    groups: int  # words of an accumulation
    before: int  # cycles of a slot that read without a result
    period: int  # cycles of an output group
    out_groups: int
    interval: int  # cycles from a word of results to the next: 2 where the shortcut is strided
    gap: int
    front: dict[str, int]
    back: dict[str, int]
    result: dict[str, int]

    @property
    def slots(self) -> int:
        return self.written.rows * self.written.slots

    @property
    def walk(self) -> int:
        """Cycles that read a slot's words: by channel group or, of a 7x7 stem, by three rows."""
        return 3 if self.work.stem else self.read.words

    @property
    def front_cycles(self) -> int:
        """Of each slot but the first."""
        return self.before + self.groups

    @property
    def first_cycles(self) -> int:
        return self.gap + 1 + self.walk + self.groups

    @property
    def back_cycles(self) -> int:
        return self.out_groups * self.period


class Key(NamedTuple):
    """What a stretch of a memory holds: a layer's table, for one evaluation where they differ."""

    path: str
    row: int = 0
    ticks: int = 0


@dataclass(frozen=True, eq=False)
class Schedule:
    """A program's micro-ops and where everything lies, for some lanes."""

    lanes: Lanes
    ops: tuple[Op, ...]
    bases: dict[str, dict[Key, int]]  # by memory, then by what is there
    depths: dict[str, int]  # words, by memory: also map, state, image (of a bank)


@dataclass(frozen=True)
class Cycles:
    """Cycles of one image: from its first read to its scores, and from image to image in a stream."""

    latency: int
    interval: int


class _Memory:
    """Words handed out from address 0 on, once for each key."""

    def __init__(self) -> None:
        self.bases: dict[Key, int] = {}
        self.depth = 0

    def place(self, key: Key, words: int) -> int:
        if key not in self.bases:
            self.bases[key] = self.depth
            self.depth += words
        return self.bases[key]


def schedule(works: Sequence[Work], lanes: Lanes, *, values: int = 8, gaps: bool = True) -> Schedule:
    """Return the micro-ops for these lanes; InputError where a table or an address does not fit.

    `values` are the bits of weights and maps. Without `gaps` ops don't wait for each other: sizes are right, in a
    moment, and nothing else.
    """
    memories = {name: _Memory() for name in ("weight", "kernel", "table", "offset", "mult")}
    halves, states = _regions(works, lanes)
    ops: list[Op] = []
    for number, work in enumerate(works):
        op = _op(work, number, lanes, memories, halves, states, values, final=number == len(works) - 1)
        ops.append(spaced(ops[-1], op, lanes) if ops and gaps else op)
    ops[0] = with_gap(ops[0], undrained(ops[-1], ops[0], lanes))  # the next image follows
    depths = {name: memory.depth for name, memory in memories.items()}
    depths |= {"map": sum(halves), "state": max(1, sum(states)), "image": 2 * ops[0].read.bank}
    _check(ops, depths)
    return Schedule(lanes, tuple(ops), {name: memory.bases for name, memory in memories.items()}, depths)


def cycles(plan: Schedule) -> Cycles:
    """Return the cycles of one image, exactly."""
    inside = sum((op.slots - 1) * max(op.front_cycles, op.back_cycles) for op in plan.ops)
    followers = [*plan.ops[1:], plan.ops[0]]
    between = [max(op.back_cycles, after.first_cycles) for op, after in zip(plan.ops, followers, strict=True)]
    first, last = plan.ops[0], plan.ops[-1]
    words = (last.written.words - 1) % (plan.lanes.outputs // plan.lanes.inputs)
    end = last.back_cycles - last.period + last.groups + words + START_TO_SCORE + plan.lanes.chain
    return Cycles(first.first_cycles + inside + sum(between[:-1]) + end, inside + sum(between))


def shape3(shape: tuple[int, int, int], lanes: Lanes) -> Shape3:
    """Return a map [channels, height, width] as words."""
    return Shape3(shape[1], -(-shape[2] // lanes.pixels), -(-shape[0] // lanes.inputs))


def ticks_of(requant: Requant, evaluation: int) -> int:
    """Return how often the border is added in an evaluation."""
    return requant.border.ticks[evaluation % len(requant.border.ticks)] if requant.border else 0


def bordered(requant: Requant, evaluation: int) -> Border | None:
    """Return the border where an evaluation adds it."""
    return requant.border if ticks_of(requant, evaluation) else None


def row_of(table: NDArray[np.int64], evaluation: int) -> int:
    return evaluation % len(table)


def _regions(works: Sequence[Work], lanes: Lanes) -> tuple[list[int], list[int]]:
    """Return the words of both halves of a map bank, and of both state buffers."""
    halves, states = [0, 0], [0, 0]
    for number, work in enumerate(works):
        kept = shape3(work.kept, lanes)
        if work.drop is not None:
            halves[number % 2] = max(halves[number % 2], kept.bank)
        if work.buffer is not None:
            states[work.buffer] = max(states[work.buffer], kept.total)
    return halves, states


def _op(
    work: Work,
    number: int,
    lanes: Lanes,
    memories: dict[str, _Memory],
    halves: list[int],
    states: list[int],
    values: int,
    *,
    final: bool,
) -> Op:
    read, written, kept = _read_shape(work, lanes), shape3(work.out, lanes), shape3(work.kept, lanes)
    first_tap, taps = _taps(work, lanes)
    groups, before = words_of(work, lanes)
    strided = work.shortcut is not None and work.shortcut.stride == 2 and lanes.pixels > 1
    interval = 2 if strided else 1
    drain = interval * min(lanes.outputs // lanes.inputs, written.words)
    out_groups = -(-written.words // (lanes.outputs // lanes.inputs))
    period = max(groups, drain)
    key, rows = Key(work.path), -(-written.words // (lanes.outputs // lanes.inputs)) * groups
    weight = 0 if work.from_sum else memories["weight"].place(key, rows)
    front = {
        "final_op": final,
        "image": work.image,
        "taps": work.depthwise is None,
        "stem": work.stem,
        "stride_2": work.stride == 2,
        "bottom": work.stride == 1 or work.shape[1] % 2 == 1,
        "right": work.stride == 1 or work.stem or read.slots % 2 == 1,
        "tap_first": first_tap,
        "tap_last": first_tap + taps - 1,
        "groups": (3 if work.stem else read.words) - 1,
        "rows": written.rows - 1,
        "slots": written.slots - 1,
        "base": 0 if work.image else halves[0] * ((number - 1) % 2),
        "pitch": read.slots * read.words,
        **_depthwise_fields(work, read, memories),
        "gap": 0,
    }
    back = {
        "groups": groups - 1,
        "period": period - 1,
        "out_groups": out_groups - 1,
        "slots": written.rows * written.slots - 1,
        "weight": weight,
    }
    result = {
        "out_groups": out_groups - 1,
        "rows": written.rows - 1,
        "slots": written.slots - 1,
        "words": written.words,
        "last_pixel": (work.out[2] - 1) % lanes.pixels,
        "pool": bool(work.pool),
        "base": halves[0] * (number % 2),
        "pitch": kept.slots * kept.words,
        "write_map": work.drop is not None,
        **_requant_fields(work, written, memories, values),
        **_state_fields(work, lanes, states, values, strided=strided),
        "drop": work.drop or 0,
        "sum": work.sum,
        "from_sum": work.from_sum,
        "score": work.score,
    }
    return Op(
        work,
        lanes.pixels,
        read,
        written,
        kept,
        taps,
        groups,
        before,
        period,
        out_groups,
        interval,
        0,
        front,
        back,
        result,
    )


def _read_shape(work: Work, lanes: Lanes) -> Shape3:
    if work.from_sum:
        return Shape3(1, 1, 1)
    if work.stem:  # a word has the pixels that two output words stand on
        return Shape3(work.shape[1], -(-work.shape[2] // (2 * lanes.pixels)), 1)
    return shape3(work.shape, lanes)


def _taps(work: Work, lanes: Lanes) -> tuple[int, int]:
    """Return the first tap and how many there are by channel group, or by three rows."""
    if work.stem:
        return 0, -(-3 * 7 * work.shape[0] // lanes.inputs)
    if work.depthwise is not None:
        return 0, 1
    if not work.dense:
        return 4, 1  # the middle of the window
    if work.image:
        return 9, -(-9 * work.shape[0] // lanes.inputs)
    return 0, 9


def words_of(work: Work, lanes: Lanes) -> tuple[int, int]:
    """Return the words of an accumulation, and the cycles of a slot that read without a result."""
    _, taps = _taps(work, lanes)
    if work.stem:  # three rows, three rows, and one
        return 2 * taps + -(-7 * work.shape[0] // lanes.inputs), 0
    words = _read_shape(work, lanes).words
    return words * taps, words if work.stride == 2 else 0


def _depthwise_fields(work: Work, read: Shape3, memories: dict[str, _Memory]) -> dict[str, int]:
    layer = work.depthwise
    if layer is None:
        return {"weight": 0, "table_base": 0, "shift_less_1": 0, "relu": 0}
    requant = layer.requant
    rows = max(len(requant.offset), len(requant.mult))
    key = Key(work.path, work.evaluation % rows)
    return {
        "weight": memories["kernel"].place(Key(work.path), read.words),
        "table_base": memories["table"].place(key, read.words),
        "shift_less_1": max(0, requant.shift - 1),
        "relu": requant.relu,
    }


def _requant_fields(work: Work, written: Shape3, memories: dict[str, _Memory], values: int) -> dict[str, int]:
    requant, evaluation = work.requant, work.evaluation
    border = bordered(requant, evaluation) is not None
    rows, columns = (4, 2) if border and work.stem else (3, 1) if border else (1, 1)
    offset = Key(work.path, row_of(requant.offset, evaluation), ticks_of(requant, evaluation))
    return {
        "offset": memories["offset"].place(offset, rows * columns * written.words),
        "offset_pitch": columns * written.words if border else 0,
        "wide": border and work.stem,
        "mult": memories["mult"].place(Key(work.path, row_of(requant.mult, evaluation)), written.words),
        "shift_less_1": max(0, requant.shift - 1),
        "relu": requant.relu,
        "narrow": requant.bits == values,
    }


def _state_fields(work: Work, lanes: Lanes, states: list[int], values: int, *, strided: bool) -> dict[str, int]:
    short = work.shortcut
    source = shape3(short.shape, lanes) if short else Shape3(0, 0, 0)
    stride = short.stride if short else 1
    return {
        "add": short is not None,
        "add_twice": strided,
        "state": states[0] if short and short.buffer else 0,
        "state_slot": source.words * stride,
        "state_row": source.slots * source.words * stride,
        "state_words": source.words,
        "write_state": work.buffer is not None,
        "state_base": states[0] if work.buffer else 0,
        "state_relu": work.relu,
        "state_narrow": (work.bits or work.requant.bits) == values,
    }


def _check(ops: Sequence[Op], depths: dict[str, int]) -> None:
    if len(ops) > OPS_LIMIT:
        raise InputError(f"the program needs {len(ops)} micro-ops, the limit is {OPS_LIMIT}; use fewer steps or layers")
    for name, depth in depths.items():
        if depth > _DEPTH_LIMIT:
            raise InputError(f"the {name} memory needs {depth:,} words, the limit is {_DEPTH_LIMIT:,}; use more lanes")
    for op in ops:
        if op.front["tap_last"] >= _TAPS_LIMIT:
            raise InputError(f"{op.work.path}: {op.front['tap_last'] + 1} taps by word; use more input lanes")
        if op.work.stem and op.written.slots < 2:
            raise InputError(f"{op.work.path}: a row of its map is one word; use fewer pixel lanes")


def depth_for(words: int) -> int:
    """Return the power of two, at least 2, that holds so many words."""
    return 1 << max(1, math.ceil(math.log2(max(1, words))))
