"""The static schedule: each work becomes a micro-op with addresses, and waits as long as it must, no longer.

Times are cycles. `front` works on a slot's reading while `back` computes the slot before; a slot is a word of output
pixels. docs/hardware.md derives the figures; rtl/front.sv, back.sv and result.sv keep to them.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from limbeck.errors import InputError
from limbeck.fpga.contract import ADDRESS_BITS, LATENCY, BackOp, FrontOp, ResultOp, fields, too_large
from limbeck.fpga.gaps import spaced, undrained
from limbeck.fpga.op import Cycles, Lanes, Op, Pace, Shape3, spent, with_gap
from limbeck.fpga.works import Work
from limbeck.integer.program import Conv, Requant

OPS_LIMIT = 256
_DEPTH_LIMIT = 1 << ADDRESS_BITS
_TAPS_LIMIT = 1 << fields(FrontOp)["tap_last"].wide


Key = tuple[Hashable, ...]  # what a stretch of a memory holds, by the program's names: works with the same share it


@dataclass(frozen=True, eq=False)
class Schedule:
    """A program's micro-ops and where everything lies, for some lanes."""

    lanes: Lanes
    ops: tuple[Op, ...]
    bases: dict[str, dict[Key, int]]  # by memory, then by what is there
    depths: dict[str, int]  # words, by memory: also map, state, image (of a bank)


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


class _Layout:
    """Where everything lies, and how wide it is."""

    def __init__(self, works: Sequence[Work], lanes: Lanes, values: int) -> None:
        self.lanes = lanes
        self.values = values  # bits of weights and maps
        self.last = len(works) - 1
        self.memories = {name: _Memory() for name in ("weight", "kernel", "table", "offset", "mult")}
        self.halves, self.states = [0, 0], [0, 0]  # words of both halves of a map bank, and of both state buffers
        # the halves take turns: works aside write no map
        self.turns = [sum(not each.aside for each in works[:number]) for number in range(len(works))]
        for work, turn in zip(works, self.turns, strict=True):
            kept = shape3(work.kept, lanes)
            if work.drop is not None:
                self.halves[turn % 2] = max(self.halves[turn % 2], kept.bank)
            if work.buffer is not None:
                self.states[work.buffer] = max(self.states[work.buffer], kept.total)


def schedule(works: Sequence[Work], lanes: Lanes, *, values: int = 8, gaps: bool = True) -> Schedule:
    """Return the micro-ops for these lanes; InputError where a table or an address does not fit.

    `values` are the bits of weights and maps. Without `gaps` ops don't wait for each other: sizes are right, in a
    moment, and nothing else.
    """
    layout = _Layout(works, lanes, values)
    ops: list[Op] = []
    for number, work in enumerate(works):
        op = _op(work, number, layout)
        ops.append(spaced(ops, op) if ops and gaps else op)
    ops[0] = with_gap(ops[0], undrained(ops[-1], ops[0]))  # the next image follows
    depths = {name: memory.depth for name, memory in layout.memories.items()}
    depths |= {"map": sum(layout.halves), "state": max(1, sum(layout.states)), "image": 2 * ops[0].read.bank}
    _check(ops, depths)
    return Schedule(lanes, tuple(ops), {name: memory.bases for name, memory in layout.memories.items()}, depths)


def cycles(plan: Schedule) -> Cycles:
    """Return the cycles of one image, exactly."""
    between = spent(plan.ops)
    first, last = plan.ops[0], plan.ops[-1]
    alone = sum(between) - max(last.pace.back, first.first_cycles)  # but for the last slot
    words = (last.written.words - 1) % plan.lanes.words
    score = words + LATENCY.start_to_score + plan.lanes.chain
    end = last.pace.back - last.pace.period + last.pace.groups + score
    return Cycles(first.first_cycles + alone + end, sum(between))


def shape3(shape: tuple[int, int, int], lanes: Lanes) -> Shape3:
    """Return a map [channels, height, width] as words."""
    return Shape3(shape[1], -(-shape[2] // lanes.pixels), -(-shape[0] // lanes.inputs))


def weight_key(work: Work) -> Key:
    return work.layer.weight if isinstance(work.layer, Conv) else "", work.image


def kernel_key(layer: Conv) -> Key:
    return (layer.weight,)


def table_key(requant: Requant) -> Key:
    """Return what names a depthwise layer's offsets and multipliers; the latter are doubled where the shift is 0."""
    return requant.offset, requant.mult, requant.shift == 0


def offset_key(work: Work) -> Key:
    return work.requant.offset, work.border


def mult_key(requant: Requant) -> Key:
    return requant.mult, requant.shift == 0


def pace(work: Work, lanes: Lanes) -> Pace:
    """Return how long a slot of a work takes."""
    _, taps = _taps(work, lanes)
    if work.stem:  # three rows, three rows, and one
        groups, before = 2 * taps + -(-7 * work.shape[0] // lanes.inputs), 0
    else:
        words = _read_shape(work, lanes).words
        groups, before = words * taps, words if work.stride == 2 else 0
    strided = work.shortcut is not None and work.shortcut.stride == 2 and lanes.pixels > 1
    interval, written = 2 if strided else 1, shape3(work.out, lanes).words
    drain = interval * min(lanes.words, written)
    return Pace(taps, groups, before, max(groups, drain), -(-written // lanes.words), interval)


def _op(work: Work, number: int, layout: _Layout) -> Op:
    lanes = layout.lanes
    read, written, kept = _read_shape(work, lanes), shape3(work.out, lanes), shape3(work.kept, lanes)
    found = pace(work, lanes)
    return Op(
        work=work,
        lanes=lanes,
        read=read,
        written=written,
        kept=kept,
        pace=found,
        front=_front(work, number, read, written, layout),
        back=BackOp(
            groups=found.groups - 1,
            period=found.period - 1,
            out_groups=found.out_groups - 1,
            slots=written.rows * written.slots - 1,
            weight=0
            if work.from_sum
            else layout.memories["weight"].place(weight_key(work), found.out_groups * found.groups),
        ),
        result=_result(work, number, written, kept, layout),
    )


def _front(work: Work, number: int, read: Shape3, written: Shape3, layout: _Layout) -> FrontOp:
    first_tap, taps = _taps(work, layout.lanes)
    kernel = table = shift = 0
    if work.depthwise is not None:
        requant = work.depthwise.requant
        kernel = layout.memories["kernel"].place(kernel_key(work.depthwise), read.words)
        table = layout.memories["table"].place(table_key(requant), read.words)
        shift = max(0, requant.shift - 1)
    return FrontOp(
        final_op=number == layout.last,
        image=work.image,
        taps=work.depthwise is None,
        stem=work.stem,
        stride_2=work.stride == 2,
        bottom=work.stride == 1 or work.shape[1] % 2 == 1,
        right=work.stride == 1 or work.stem or read.slots % 2 == 1,
        tap_first=first_tap,
        tap_last=first_tap + taps - 1,
        groups=(3 if work.stem else read.words) - 1,
        rows=written.rows - 1,
        slots=written.slots - 1,
        base=0 if work.image else layout.halves[0] * ((layout.turns[number] - 1) % 2),
        pitch=read.slots * read.words,
        kernel=kernel,
        table_base=table,
        shift_less_1=shift,
        relu=work.depthwise is not None and work.depthwise.requant.relu,
        gap=0,
    )


def _result(work: Work, number: int, written: Shape3, kept: Shape3, layout: _Layout) -> ResultOp:
    lanes, requant, border, short = layout.lanes, work.requant, work.border is not None, work.shortcut
    rows, columns = (4, 2) if border and work.stem else (3, 1) if border else (1, 1)
    source = shape3(short.shape, lanes) if short else Shape3(0, 0, 0)
    stride = short.stride if short else 1
    return ResultOp(
        out_groups=-(-written.words // lanes.words) - 1,
        rows=written.rows - 1,
        slots=written.slots - 1,
        words=written.words,
        last_pixel=(work.out[2] - 1) % lanes.pixels,
        pool=bool(work.pool),
        map_base=layout.halves[0] * (layout.turns[number] % 2),
        map_pitch=kept.slots * kept.words,
        write_map=work.drop is not None,
        offset=layout.memories["offset"].place(offset_key(work), rows * columns * written.words),
        offset_pitch=columns * written.words if border else 0,
        stem=border and work.stem,
        mult=layout.memories["mult"].place(mult_key(requant), written.words),
        shift_less_1=max(0, requant.shift - 1),
        relu=requant.relu,
        narrow=requant.bits == layout.values,
        add=short is not None,
        strided=stride == 2 and lanes.pixels > 1,
        short_base=layout.states[0] if short and short.buffer else 0,
        short_slot=source.words * stride,
        short_row=source.slots * source.words * stride,
        short_words=source.words,
        write_state=work.buffer is not None,
        state_base=layout.states[0] if work.buffer else 0,
        state_relu=work.relu,
        state_narrow=(work.bits or work.requant.bits) == layout.values,
        drop=work.drop or 0,
        sum=work.sum,
        from_sum=work.from_sum,
        score=work.score,
    )


def _read_shape(work: Work, lanes: Lanes) -> Shape3:
    if work.from_sum:
        return Shape3(1, 1, 1)
    if work.stem:  # a word has the pixels that two output words stand on
        return Shape3(work.shape[1], -(-work.shape[2] // (2 * lanes.pixels)), 1)
    return shape3(work.shape, lanes)


def _taps(work: Work, lanes: Lanes) -> tuple[int, int]:
    """Return the first tap and how many there are per channel group, or per three rows."""
    if work.stem:
        return 0, -(-3 * 7 * work.shape[0] // lanes.inputs)
    if work.depthwise is not None:
        return 0, 1
    if not work.dense:
        return 4, 1  # the middle of the window
    if work.image:
        return 9, -(-9 * work.shape[0] // lanes.inputs)
    return 0, 9


def _check(ops: Sequence[Op], depths: dict[str, int]) -> None:
    if len(ops) > OPS_LIMIT:
        raise InputError(f"the program needs {len(ops)} micro-ops, the limit is {OPS_LIMIT}; use fewer steps or layers")
    for name, depth in depths.items():
        if depth > _DEPTH_LIMIT:
            raise InputError(f"the {name} memory needs {depth:,} words, the limit is {_DEPTH_LIMIT:,}; use more lanes")
    for op in ops:
        if op.front.tap_last >= _TAPS_LIMIT:
            raise InputError(f"{op.work.path}: {op.front.tap_last + 1} taps per word; use more input lanes")
        if op.work.stem and op.written.slots < 2:
            raise InputError(f"{op.work.path}: a row of its map is one word; use fewer pixel lanes")
        for part in (op.front, op.back, op.result):
            if problem := too_large(part):
                raise InputError(f"{op.work.path}: its micro-op's {problem}; use more lanes")


def depth_for(words: int) -> int:
    """Return the power of two, at least 2, that holds this many words."""
    return 1 << max(1, math.ceil(math.log2(max(1, words))))
