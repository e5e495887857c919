"""The static schedule: each work becomes a micro-op with addresses, and waits as long as it must, no longer.

Times are cycles. `front` works on a slot's reading while `back` computes the slot before; a slot is a word of output
pixels. docs/hardware.md derives the figures; rtl/front.sv, back.sv and result.sv keep to them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.fpga.works import Work
from limbeck.integer.program import Border, Conv, Requant

_Times = NDArray[np.int64]

READ_AFTER_WRITE = 32  # plus the input lanes: cycles from the end of an accumulation to the first read of its map
SUM_AFTER_SUM = 9  # cycles from the last summand to the reading of the sum
START_TO_SCORE = 30  # plus the input lanes: cycles from the end of the last accumulation to the scores
OPS_LIMIT = 256
_DEPTH_LIMIT = 1 << 16


@dataclass(frozen=True)
class Lanes:
    """How wide the engine is: output pixels, input channels and output channels at once."""

    pixels: int
    inputs: int
    outputs: int


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
    taps: int  # words for `pointwise` by channel group
    period: int  # cycles of an output group
    out_groups: int
    interval: int  # cycles from a word of results to the next: 2 where the shortcut is strided
    gap: int
    front: dict[str, int]
    back: dict[str, int]
    result: dict[str, int]

    @property
    def groups(self) -> int:
        """Words of an accumulation."""
        return self.read.words * self.taps

    @property
    def slots(self) -> int:
        return self.written.rows * self.written.slots

    @property
    def before(self) -> int:
        """Cycles of a slot that read without a result."""
        return self.read.words if self.work.stride == 2 else 0

    @property
    def front_cycles(self) -> int:
        """Of each slot but the first."""
        return self.before + self.groups

    @property
    def first_cycles(self) -> int:
        return self.gap + 1 + self.read.words + self.groups

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


def schedule(works: Sequence[Work], lanes: Lanes, *, gaps: bool = True) -> Schedule:
    """Return the micro-ops for these lanes; InputError where a table or an address does not fit.

    Without `gaps` they don't wait for each other: sizes are right, in a moment, and nothing else.
    """
    memories = {name: _Memory() for name in ("weight", "kernel", "table", "offset", "mult")}
    halves, states = _regions(works, lanes)
    ops: list[Op] = []
    for number, work in enumerate(works):
        op = _op(work, number, lanes, memories, halves, states, final=number == len(works) - 1)
        ops.append(_spaced(ops[-1], op, lanes) if ops and gaps else op)
    ops[0] = _with_gap(ops[0], _undrained(ops[-1], ops[0], lanes))  # the next image follows
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
    end = last.back_cycles - last.period + last.groups + words + START_TO_SCORE + plan.lanes.inputs
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
        written = shape3(work.out, lanes)
        if work.drop is not None:
            halves[number % 2] = max(halves[number % 2], written.bank)
        if work.buffer is not None:
            states[work.buffer] = max(states[work.buffer], written.total)
    return halves, states


def _op(
    work: Work,
    number: int,
    lanes: Lanes,
    memories: dict[str, _Memory],
    halves: list[int],
    states: list[int],
    *,
    final: bool,
) -> Op:
    read, written = shape3(work.shape, lanes), shape3(work.out, lanes)
    if work.from_sum:
        read = Shape3(1, 1, 1)
    first_tap, taps = _taps(work, lanes)
    groups = read.words * taps
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
        "stride_2": work.stride == 2,
        "bottom": work.stride == 1 or work.shape[1] % 2 == 1,
        "right": work.stride == 1 or read.slots % 2 == 1,
        "tap_first": first_tap,
        "tap_last": first_tap + taps - 1,
        "groups": read.words - 1,
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
        "base": halves[0] * (number % 2),
        "pitch": written.slots * written.words,
        "write_map": work.drop is not None,
        **_requant_fields(work, written, memories),
        **_state_fields(work, lanes, states, strided=strided),
        "drop": work.drop or 0,
        "sum": work.sum,
        "from_sum": work.from_sum,
        "score": work.score,
    }
    return Op(work, lanes.pixels, read, written, taps, period, out_groups, interval, 0, front, back, result)


def _taps(work: Work, lanes: Lanes) -> tuple[int, int]:
    """Return the first tap and how many there are by channel group."""
    if work.depthwise is not None:
        return 0, 1
    if not work.dense:
        return 4, 1  # the middle of the window
    if work.image:
        return 9, -(-9 * work.shape[0] // lanes.inputs)
    return 0, 9


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


def _requant_fields(work: Work, written: Shape3, memories: dict[str, _Memory]) -> dict[str, int]:
    requant, evaluation = work.requant, work.evaluation
    classes = 3 if bordered(requant, evaluation) else 1
    offset = Key(work.path, row_of(requant.offset, evaluation), ticks_of(requant, evaluation))
    return {
        "offset": memories["offset"].place(offset, classes * written.words),
        "offset_pitch": written.words if classes == 3 else 0,
        "mult": memories["mult"].place(Key(work.path, row_of(requant.mult, evaluation)), written.words),
        "shift_less_1": max(0, requant.shift - 1),
        "relu": requant.relu,
        "narrow": requant.bits == 8,
    }


def _state_fields(work: Work, lanes: Lanes, states: list[int], *, strided: bool) -> dict[str, int]:
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
        "state_narrow": (work.bits or work.requant.bits) == 8,
    }


def _spaced(before: Op, op: Op, lanes: Lanes) -> Op:
    """Return the op with the shortest gap after which everything it reads has been written."""
    gap = 0
    while late := _late(before, _with_gap(op, gap), lanes):
        gap += late
    return _with_gap(op, gap)


def _with_gap(op: Op, gap: int) -> Op:
    return Op(**{**vars(op), "gap": gap, "front": {**op.front, "gap": gap}})


def _late(before: Op, op: Op, lanes: Lanes) -> int:
    """Return by how many cycles a read of `op` comes too early; 0 where none does. `before` begins at time 0."""
    pace = max(before.front_cycles, before.back_cycles)
    starts = np.arange(before.slots) * pace  # of back's slots
    begin = int(starts[-1])
    steps = np.array([op.first_cycles, *[op.front_cycles] * (op.slots - 1)])
    lengths = np.maximum(steps, [before.back_cycles, *[op.back_cycles] * (op.slots - 1)])
    fronts = begin + np.concatenate([[0], np.cumsum(lengths)[:-1]])  # when front begins with each slot of op
    ends = _ends(before, starts, lanes)
    late = _undrained(before, op, lanes)
    if op.work.from_sum:
        back = int(fronts[0] + lengths[0])
        reads = back + op.groups - 1 + np.arange(op.written.words)  # the first group's; later ones come later
        return max(late, int((ends[-1, -1] + SUM_AFTER_SUM - reads).max()))
    written = ends + READ_AFTER_WRITE + lanes.inputs
    return max(late, *(int((written[row, word] - time).max()) for row, word, time in _reads(op, fronts)))


def _undrained(before: Op, op: Op, lanes: Lanes) -> int:
    """Return by how many cycles the first sums of `op` come before the last ones of `before` have been handed on."""
    last = before.written.words - (before.out_groups - 1) * (lanes.outputs // lanes.inputs)
    need = before.back_cycles - before.period + before.groups + before.interval * last - op.groups
    return max(0, need - op.first_cycles) if need > before.back_cycles else 0


def _ends(op: Op, starts: _Times, lanes: Lanes) -> _Times:
    """Return when `back` ends with each word [row, slot, channel word], as `result` comes to it."""
    word = np.arange(op.written.words)
    group, place = word // (lanes.outputs // lanes.inputs), word % (lanes.outputs // lanes.inputs)
    inside = group * op.period + op.groups - 1 + place * op.interval + op.interval - 1
    return (starts[:, None] + inside).reshape(op.written.rows, op.written.slots, -1)


def _reads(op: Op, fronts: _Times) -> Iterator[tuple[int, int, _Times]]:
    """Yield row and word of the map, and when its channel words must have been written, for all that is read."""
    passes = [(int(fronts[0]) + op.gap + 1, False)]
    for slot, front in enumerate(fronts):
        begin = int(front) + (op.gap + 1 + op.read.words if slot == 0 else 0)
        if slot > 0 and op.before:
            passes.append((begin, False))
            begin += op.before
        passes.append((begin, True))
    channel = np.arange(op.read.words)
    words = op.written.slots * (2 if op.work.stride == 2 else 1)
    for number, (begin, emits) in enumerate(passes):
        row, word = number // words * op.work.stride, number % words
        if word < op.read.slots:  # else it is masked
            for near, wait in _near(op, emits=emits):
                if 0 <= row + near < op.read.rows:
                    yield row + near, word, begin + channel * (op.taps if emits else 1) + wait


def _near(op: Op, *, emits: bool) -> Iterator[tuple[int, int]]:
    """Yield the rows that matter around the one that is read, and how much later each is used."""
    if op.work.depthwise is None and not op.work.dense:
        yield 0, 0
    elif op.taps == 1 or not emits:
        yield from ((-1, 0), (0, 0), (1, 0))
    else:  # tap by tap: of the word that comes in, the column on the right is seen first
        yield from ((near, 3 * (near + 1) + _first_column(op)) for near in (-1, 0, 1))


def _first_column(op: Op) -> int:
    return 2 if op.work.stride == 1 else max(0, 3 - op.pixels)


def _check(ops: Sequence[Op], depths: dict[str, int]) -> None:
    if len(ops) > OPS_LIMIT:
        raise InputError(f"the program needs {len(ops)} micro-ops, the limit is {OPS_LIMIT}; use fewer steps or layers")
    for name, depth in depths.items():
        if depth > _DEPTH_LIMIT:
            raise InputError(f"the {name} memory needs {depth:,} words, the limit is {_DEPTH_LIMIT:,}; use more lanes")
    for op in ops:
        if isinstance(op.work.layer, Conv) and op.work.image and not op.work.dense:
            raise InputError(f"{op.work.path}: the first layer must be a 3x3 convolution")


def depth_for(words: int) -> int:
    """Return the power of two, at least 2, that holds so many words."""
    return 1 << max(1, math.ceil(math.log2(max(1, words))))
