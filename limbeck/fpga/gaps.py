"""How long a micro-op waits for the one before it: no longer than what it reads takes to be written."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.fpga.contract import LATENCY
from limbeck.fpga.op import Op, from_to, with_gap

FETCH = 4  # cycles from a micro-op to the next

_Times = NDArray[np.int64]


def spaced(ops: Sequence[Op], op: Op) -> Op:
    """Return the op with the shortest gap after `ops` in which everything it reads has been written."""
    gap = 0
    while late := _late(ops, with_gap(op, gap)):
        gap += late
    return with_gap(op, gap)


def _late(ops: Sequence[Op], op: Op) -> int:
    """Return by how many cycles a read of `op` comes too early; 0 where none does. The op before begins at time 0."""
    before = ops[-1]
    starts = np.arange(before.slots) * before.pace.slot  # of back's slots
    begin = int(starts[-1])
    steps = np.array([op.first_cycles, *[op.pace.front] * (op.slots - 1)])
    lengths = np.maximum(steps, [before.pace.back, *[op.pace.back] * (op.slots - 1)])
    fronts = begin + np.concatenate([[0], np.cumsum(lengths)[:-1]])  # when front begins with each slot of op
    ends = _ends(before, starts)
    late = max(undrained(before, op), _unfetched(before, op))
    if op.work.from_sum:
        back = int(fronts[0] + lengths[0])
        reads = back + op.pace.groups - 1 + np.arange(op.written.words)  # the first group's; later ones come later
        return max(late, int((ends[-1, -1] + LATENCY.sum_after_sum - reads).max()))
    if before.work.aside:
        late = max(late, _unsummed(before, op, ends, int(fronts[0] + lengths[0])))
    while before.work.aside:  # the map is that of an op before
        ops = ops[:-1]
        starts = np.arange(ops[-1].slots) * ops[-1].pace.slot + starts[0] - from_to(ops[-1], before)
        before = ops[-1]
    written = _kept(before, _ends(before, starts)) + LATENCY.read_after_write + op.lanes.chain
    return max(late, *(int((written[row, word] - time).max()) for row, word, time in _reads(op, fronts)))


def _unfetched(before: Op, op: Op) -> int:
    """Return by how many cycles the op comes too soon to be fetched, of ops of one slot: rtl/fetch.sv takes four."""
    soon = FETCH - op.first_cycles
    return soon if soon > 0 and before.pace.back < FETCH and 1 in (before.slots, op.slots) else 0


def _unsummed(before: Op, op: Op, ends: _Times, back: int) -> int:
    """Return by how many cycles `op` adds a state of `before` too early. Its own first slot of `back` begins at `back`.

    A state is read as the result comes to the adder, and written with its value: in that cycle it is still the old one.
    """
    short = op.work.shortcut
    if short is None or short.buffer != before.work.buffer:
        return 0
    sums = _ends(op, back + np.arange(op.slots) * op.pace.slot)
    reads = sums[:, :, : before.written.words] + LATENCY.added - LATENCY.ram - (op.pace.interval - 1)
    words = (short.stride * np.arange(op.written.slots)[:, None] + np.arange(op.pace.interval)).max(1)
    words = np.minimum(words, before.written.slots - 1)
    kept = ends[:: short.stride][: op.written.rows, words][:, :, : op.written.words] + LATENCY.value + 1
    return int((kept - reads).max())


def undrained(before: Op, op: Op) -> int:
    """Return by how many cycles the first sums of `op` come before the last ones of `before` have been handed on."""
    pace = before.pace
    last = before.written.words - (pace.out_groups - 1) * op.lanes.words
    handed = pace.back - pace.period + pace.groups + pace.interval * last
    need = handed + (LATENCY.pool if before.work.pool else 0) - op.pace.groups
    return max(0, need - op.first_cycles) if need > pace.back else 0


def _ends(op: Op, starts: _Times) -> _Times:
    """Return when `back` ends with each word [row, slot, channel word], as `result` comes to it."""
    word = np.arange(op.written.words)
    group, place, pace = word // op.lanes.words, word % op.lanes.words, op.pace
    inside = group * pace.period + pace.groups - 1 + place * pace.interval + pace.interval - 1
    return (starts[:, None] + inside).reshape(op.written.rows, op.written.slots, -1)


def _kept(op: Op, ends: _Times) -> _Times:
    """Return the times [row, slot, channel word] of what is kept: a pool's with the last of its window."""
    if not op.work.pool:
        return ends
    rows = np.minimum(2 * np.arange(op.kept.rows) + 1, op.written.rows - 1)
    slots = np.minimum(2 * np.arange(op.kept.slots) + 1, op.written.slots - 1)
    return ends[rows][:, slots] + LATENCY.pool


def _reads(op: Op, fronts: _Times) -> Iterator[tuple[int, int, _Times]]:
    """Yield row and word of the map, and when its channel words must have been written, for all that is read."""
    passes = [(int(fronts[0]) + op.gap + 1, False)]
    for slot, front in enumerate(fronts):
        begin = int(front) + (op.gap + 1 + op.read.words if slot == 0 else 0)
        if slot > 0 and op.pace.before:
            passes.append((begin, False))
            begin += op.pace.before
        passes.append((begin, True))
    channel = np.arange(op.read.words)
    words = op.written.slots * (2 if op.work.stride == 2 else 1)
    alone = op.work.side == 1 and op.work.depthwise is None
    idle = alone and op.lanes.pixels == 1 and op.work.stride == 2  # its odd words are not used
    for number, (begin, emits) in enumerate(passes):
        row, word = number // words * op.work.stride, number % words
        if word < op.read.slots and not (idle and emits):  # else it is masked
            for near, wait in _near(op, emits=emits):
                if 0 <= row + near < op.read.rows:
                    yield row + near, word, begin + channel * (op.pace.taps if emits else 1) + wait


def _near(op: Op, *, emits: bool) -> Iterator[tuple[int, int]]:
    """Yield the rows that matter around the one that is read, and how much later each is used."""
    if op.work.depthwise is None and not op.work.dense:
        yield 0, 0
    elif op.pace.taps == 1 or not emits:
        yield from ((-1, 0), (0, 0), (1, 0))
    else:  # tap by tap: of the word that comes in, the column on the right is seen first
        yield from ((near, 3 * (near + 1) + _first_column(op)) for near in (-1, 0, 1))


def _first_column(op: Op) -> int:
    return 2 if op.work.stride == 1 else max(0, 3 - op.lanes.pixels)
