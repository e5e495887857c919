"""What the RTL and its generator agree on: fields of micro-ops, numbers of memories and registers, latencies.

Each stands here only. docs/make_contract.py makes rtl/contract.svh and the tables of docs/hardware.md of it; tests
compare both, and measure the latencies of the blocks.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, NamedTuple, get_type_hints

from limbeck.fpga.driver import Error, Register

ADDRESS_BITS = 16  # of all memories
WORD_BITS = 10  # of the number of a word among a pixel's channels


class Bits(NamedTuple):
    """How many bits a field has, and what it means."""

    wide: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class FrontOp:
    """A micro-op as `front` reads it: what is read, and what becomes of it."""

    final_op: Annotated[bool, Bits(1, "the last micro-op of the program")]
    image: Annotated[bool, Bits(1, "reads the image, else a map")]
    taps: Annotated[bool, Bits(1, "passes on window taps, else depthwise results")]
    stem: Annotated[bool, Bits(1, "the 7x7 of the image: walks by three rows, a row of output further on")]
    stride_2: Annotated[bool, Bits(1)]
    bottom: Annotated[bool, Bits(1, "the last row's window has a row below the map")]
    right: Annotated[bool, Bits(1, "the last slot's next word is right of the map")]
    tap_first: Annotated[int, Bits(5, "0 to 8: a place of the window; from 9: packed taps of the image")]
    tap_last: Annotated[int, Bits(5)]
    groups: Annotated[int, Bits(WORD_BITS, "channel groups of the map read, less one")]
    rows: Annotated[int, Bits(12, "rows of the output, less one")]
    slots: Annotated[int, Bits(12, "words in a row of the output, less one")]
    base: Annotated[int, Bits(ADDRESS_BITS, "first address of the map read")]
    pitch: Annotated[int, Bits(ADDRESS_BITS, "words from one row to the next in the same bank")]
    kernel: Annotated[int, Bits(ADDRESS_BITS, "first address of the depthwise weights")]
    table_base: Annotated[int, Bits(ADDRESS_BITS, "first address of depthwise offsets and multipliers")]
    shift_less_1: Annotated[int, Bits(6)]
    relu: Annotated[bool, Bits(1)]
    gap: Annotated[int, Bits(16, "cycles to wait for what the previous micro-op has yet to write")]


@dataclass(frozen=True, kw_only=True)
class BackOp:
    """A micro-op as `back` reads it: what is multiplied."""

    groups: Annotated[int, Bits(12, "words of an accumulation, less one")]
    period: Annotated[
        int, Bits(12, "cycles of an output group, less one: at least groups, and what the last one drains in")
    ]
    out_groups: Annotated[int, Bits(WORD_BITS, "less one")]
    slots: Annotated[int, Bits(24, "slots in all rows, less one")]
    weight: Annotated[int, Bits(ADDRESS_BITS)]


@dataclass(frozen=True, kw_only=True)
class ResultOp:
    """A micro-op as `result` reads it: what becomes of the sums, and where it goes."""

    out_groups: Annotated[int, Bits(WORD_BITS, "less one")]
    rows: Annotated[int, Bits(12, "less one")]
    slots: Annotated[int, Bits(12, "less one")]
    words: Annotated[int, Bits(WORD_BITS + 1, "words of a pixel's channels")]
    last_pixel: Annotated[int, Bits(4, "pixels of a row's last slot, less one")]
    pool: Annotated[bool, Bits(1, "keeps the largest of each 3x3, of every other row and column")]
    map_base: Annotated[int, Bits(ADDRESS_BITS, "first address of the map written")]
    map_pitch: Annotated[int, Bits(ADDRESS_BITS)]
    write_map: Annotated[bool, Bits(1)]
    offset: Annotated[int, Bits(ADDRESS_BITS)]
    offset_pitch: Annotated[int, Bits(ADDRESS_BITS, "words from one row class to the next")]
    stem: Annotated[bool, Bits(1, "one more row class, and the first columns' offsets before the others'")]
    mult: Annotated[int, Bits(ADDRESS_BITS)]
    shift_less_1: Annotated[int, Bits(6)]
    relu: Annotated[bool, Bits(1)]
    narrow: Annotated[bool, Bits(1, "requantises to the bits of a map")]
    add: Annotated[bool, Bits(1, "adds the shortcut")]
    strided: Annotated[bool, Bits(1, "the shortcut takes every other pixel: two words for one")]
    short_base: Annotated[int, Bits(ADDRESS_BITS, "first address of the shortcut's state")]
    short_slot: Annotated[int, Bits(ADDRESS_BITS, "words from one slot to the next")]
    short_row: Annotated[int, Bits(ADDRESS_BITS)]
    short_words: Annotated[int, Bits(WORD_BITS + 1, "words of a pixel's channels; later channels have no shortcut")]
    write_state: Annotated[bool, Bits(1)]
    state_base: Annotated[int, Bits(ADDRESS_BITS, "first address of the state written")]
    state_relu: Annotated[bool, Bits(1, "ReLU after the shortcut")]
    state_narrow: Annotated[bool, Bits(1, "saturates the sum to the bits of a map")]
    drop: Annotated[int, Bits(5, "bits dropped from state to map")]
    sum: Annotated[bool, Bits(1, "adds up over the map")]
    from_sum: Annotated[bool, Bits(1, "requantises the sums instead of accumulators")]
    score: Annotated[bool, Bits(1, "the result is the scores")]


MicroOp = FrontOp | BackOp | ResultOp
MICRO_OPS: tuple[type[MicroOp], ...] = (FrontOp, BackOp, ResultOp)


class Select(IntEnum):
    """Numbers of the memories in the MEMORY register; WEIGHT + i are the weights of input lane i."""

    FRONT = 0
    BACK = 1
    RESULT = 2
    KERNEL = 3
    TABLE = 4
    OFFSET = 5
    MULT = 6
    WEIGHT = 16


def fields(kind: type[MicroOp]) -> dict[str, Bits]:
    """Return a micro-op's fields by name, those of the highest bits first."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


def width(kind: type[MicroOp]) -> int:
    """Return the bits of a micro-op."""
    return sum(bits.wide for bits in fields(kind).values())


def too_large(op: MicroOp) -> str:
    """Return which field does not hold its value, in words; empty where all do."""
    for name, bits in fields(type(op)).items():
        if not 0 <= (value := getattr(op, name)) < 1 << bits.wide:
            return f"{name} is {value:,}; the limit is {(1 << bits.wide) - 1:,}"
    return ""


def packed_op(op: MicroOp) -> int:
    """Return a micro-op as a word of its memory."""
    word = 0
    for name, bits in fields(type(op)).items():
        word = word << bits.wide | int(getattr(op, name))
    return word


@dataclass(frozen=True)
class Latencies:
    """Cycles of the engine's pipelines. Those without a default's sum are measured by the tests of the blocks."""

    ram: Annotated[int, "from an address to its word"] = 2
    window: Annotated[int, "from the words of three rows to their windows"] = 2
    taps: Annotated[int, "from windows to the words of a dense convolution"] = 1
    chain: Annotated[int, "from the first product's factors to a chain's sum, besides a cycle per lane"] = 2
    requant: Annotated[int, "from an accumulator to its requantised value"] = 5
    requant_shift: Annotated[int, "of these, those before the shift is taken"] = 2
    requant_sides: Annotated[int, "of these, those before ReLU and width are taken"] = 4
    notice: Annotated[int, "by which the end of an accumulation comes before its sums"] = 3
    pool: Annotated[int, "from a window's last values to their maximum"] = 2
    drop: Annotated[int, "from a value to what is written to the map"] = 2
    settle: Annotated[int, "from RUN to the first pixel: what a run before left in the pipelines passes"] = 64

    @property
    def depthwise_table(self) -> int:
        """From windows to the accumulators of a depthwise convolution: a chain of three, and the sum of three."""
        return 3 + self.chain + 1

    @property
    def depthwise(self) -> int:
        """From windows to requantised values."""
        return self.depthwise_table + self.requant

    @property
    def front(self) -> int:
        """From the outputs of `front` to a word for `pointwise`."""
        return self.ram + self.window + self.depthwise

    @property
    def back(self) -> int:
        """From the outputs of `back` to the reading of a word: one more, since it was written."""
        return self.front + 1

    @property
    def pointwise(self) -> int:
        """From the reading of a word to sums, besides a cycle per lane of a chain: the word, part, accumulator."""
        return 1 + self.chain + 2

    @property
    def added(self) -> int:
        """From the address of a result's word to its requantised value, to which the shortcut is added."""
        return self.ram + self.requant

    @property
    def value(self) -> int:
        """From the address of a result's word to its value: the sum with the shortcut, saturated."""
        return self.added + 2

    @property
    def start_to_score(self) -> int:
        """From the end of an accumulation in `back` to its scores, besides a cycle per lane of a chain.

        The registers of `back`, of `result`'s notice and of the first word's address take a cycle each.
        """
        return 1 + self.back + self.pointwise - self.notice + 1 + 1 + self.value

    @property
    def read_after_write(self) -> int:
        """From the end of an accumulation to the first read of its map, besides a cycle per lane of a chain."""
        return self.start_to_score + self.drop

    @property
    def sum_after_sum(self) -> int:
        """From the last summand's accumulation to that which reads the sum over a map."""
        return self.value + 2 - self.ram


LATENCY = Latencies()


class Row(NamedTuple):
    """A register as docs/hardware.md lists it."""

    register: Register
    access: str
    text: str


REGISTERS = (
    Row(Register.RUN, "rw", "bit 0: run. 0 drops all images under way and makes the memories writable"),
    Row(
        Register.STATUS,
        "r",
        "bit 0 busy, bit 1 an image waits, bits 3:2 images whose scores have not all been taken",
    ),
    Row(Register.ERRORS, "rw", "; ".join(f"bit {error.value}: {error.text}" for error in Error) + ". Write 1 to clear"),
    Row(Register.IMAGES, "r", "images whose scores are valid, since RUN"),
    Row(Register.INTERVAL, "r", "cycles between the beginnings of the last two images"),
    Row(Register.LATENCY, "r", "cycles of the last image, from its first read to its last score"),
    Row(Register.WAIT_PIXELS, "r", "idle cycles without an image"),
    Row(Register.WAIT_SCORES, "r", "idle cycles with an image but without room for its scores"),
    Row(Register.IDENTITY, "r", "identifies the engine: designs with the same value take each other's memories"),
    Row(Register.LAST_OP, "rw", "number of the last micro-op"),
    Row(Register.MEMORY, "rw", "bits 7:0 the number of a memory, bits 15:8 pieces of 32 bits in its word"),
    Row(Register.ADDRESS, "rw", "address of the next word"),
    Row(Register.DATA, "w", "a piece, low bits first; after a word's last piece it is written and ADDRESS counts on"),
)
