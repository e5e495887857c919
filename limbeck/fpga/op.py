"""The nouns of a schedule: lanes, maps as words, micro-ops and their cycles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from limbeck.fpga.contract import BackOp, FrontOp, ResultOp
from limbeck.fpga.works import Work


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

    @property
    def words(self) -> int:
        """Words of an output group."""
        return self.outputs // self.inputs


@dataclass(frozen=True)
class Cycles:
    """Cycles of one image: from its first read to its scores, and from image to image in a stream."""

    latency: int
    interval: int


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


@dataclass(frozen=True)
class Pace:
    """How long a slot of a micro-op takes, in cycles but where words are counted."""

    taps: int  # words for `pointwise` per channel group; of a 7x7 stem per three rows
    groups: int  # words of an accumulation
    before: int  # that read without a result
    period: int  # of an output group
    out_groups: int
    interval: int  # from a word of results to the next: 2 where the shortcut is strided

    @property
    def front(self) -> int:
        """Cycles of reading a slot that is not a pass's first."""
        return self.before + self.groups

    @property
    def back(self) -> int:
        """Cycles of computing a slot."""
        return self.out_groups * self.period

    @property
    def slot(self) -> int:
        """Cycles from a slot to the next: one is read while the one before is computed."""
        return max(self.front, self.back)


@dataclass(frozen=True, eq=False)
class Op:
    """A micro-op: its three records, and the figures that its schedule needs."""

    work: Work
    lanes: Lanes
    read: Shape3
    written: Shape3
    kept: Shape3  # what is written of it: less where it is pooled
    pace: Pace
    front: FrontOp
    back: BackOp
    result: ResultOp

    @property
    def gap(self) -> int:
        return self.front.gap

    @property
    def slots(self) -> int:
        return self.written.rows * self.written.slots

    @property
    def walk(self) -> int:
        """Cycles that read a slot's words: by channel group or, of a 7x7 stem, by three rows."""
        return 3 if self.work.stem else self.read.words

    @property
    def first_cycles(self) -> int:
        """Cycles that read the first slot."""
        return self.gap + 1 + self.walk + self.pace.groups


def with_gap(op: Op, gap: int) -> Op:
    """Return the op with another gap."""
    return replace(op, front=replace(op.front, gap=gap))


def spent(ops: Sequence[Op]) -> tuple[int, ...]:
    """Return the cycles from each micro-op to the next, the first after the last; their sum is the interval."""
    followers = [*ops[1:], ops[0]]
    return tuple(from_to(op, after) for op, after in zip(ops, followers, strict=True))


def from_to(op: Op, after: Op) -> int:
    """Return the cycles from `back`'s first slot of a micro-op to that of the next."""
    return (op.slots - 1) * op.pace.slot + max(op.pace.back, after.first_cycles)
