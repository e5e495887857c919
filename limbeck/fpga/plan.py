"""How wide the engine is on a part: the widest that fits; what it takes, and how many cycles per image."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from limbeck.errors import InputError
from limbeck.fpga.contract import MICRO_OPS, BackOp, FrontOp, ResultOp, width
from limbeck.fpga.op import Cycles, Lanes
from limbeck.fpga.parts import PARTS, Part, part_of
from limbeck.fpga.schedule import Schedule, depth_for, pace, schedule, shape3
from limbeck.fpga.schedule import cycles as cycles_of
from limbeck.fpga.works import Work, works_of
from limbeck.integer.program import Program, Requantised
from limbeck.integer.survey import survey

ACCUMULATOR_LIMIT = {8: 27, 16: 44}  # by the bits of values: what one DSP48E2 multiplies, what two do
STATE_BITS = (16, 24)
INPUT_LANES = (2, 4, 8, 16)
_URAM_FROM = 1024  # words
_FLAGS = {FrontOp: 0, BackOp: 4, ResultOp: 6}  # bits that are made as a micro-op is stored


@dataclass(frozen=True)
class Resources:
    """What a design takes. DSPs are exact for parts that pack; the rest is an estimate until synthesis."""

    dsps: int
    brams: int  # of 36 Kb
    urams: int
    luts: int
    ffs: int


@dataclass(frozen=True, eq=False)
class Plan:
    """An engine for a program on a part. Bits are those of weights and maps, of accumulators and of state."""

    part: Part
    lanes: Lanes
    value_bits: int
    accumulator_bits: int
    state_bits: int
    urams: bool  # maps and state lie in UltraRAM
    schedule: Schedule

    @property
    def packs(self) -> bool:
        """Whether two products share a multiplier, and one multiplier requantises."""
        return self.part.packs and self.value_bits == 8

    @property
    def offset_urams(self) -> bool:
        """Whether offsets lie in UltraRAM."""
        return self.part.urams > 0 and depth_for(self.schedule.depths["offset"]) >= _URAM_FROM


def plan(program: Program, part: str, *, lanes: Lanes | None = None, max_dsp: int | None = None) -> Plan:
    """Return the plan with the fewest cycles per image on the part, or that for `lanes`.

    InputError where the engine cannot do a layer, or where what it takes does not fit: which resource, by how much.
    """
    chip, works = part_of(part), works_of(program)
    bits = _bits(program, works)
    packs = chip.packs and bits[0] == 8
    limit = min(chip.dsps, max_dsp or chip.dsps)

    def made(wanted: Lanes, *, gaps: bool = True) -> Plan:
        _check_lanes(wanted, program.input.channels, stem=works[0].stem)
        times = schedule(works, wanted, values=bits[0], gaps=gaps)
        urams = chip.urams > 0 and times.depths["map"] >= _URAM_FROM
        return Plan(chip, wanted, *bits, urams, times)

    if lanes is not None:
        only = made(lanes)
        if short := _short(resources(only), only, chip.dsps):
            raise InputError(f"{program_size(works)} does not fit {part} with {_words(lanes)}: {short}")
        return only
    problems: list[tuple[Lanes, str]] = []
    best: Plan | None = None
    for wanted in _candidates(works, program.input.channels, limit, chip, packs=packs):
        if best is not None and _estimate(works, wanted) >= cycles_of(best.schedule).interval:
            break  # nor will the others, which only get slower
        try:
            found = made(wanted, gaps=False)
        except InputError as error:  # a memory is too deep for its addresses
            problems.append((wanted, str(error)))
            continue
        if short := _short(resources(found), found, limit):
            problems.append((wanted, short))
        else:
            found = made(wanted)
            best = min(best or found, found, key=lambda p: cycles_of(p.schedule).interval)
    if best is not None:
        return best
    if not problems:
        smallest = _dsps(Lanes(1, 2, 4), packs=packs)
        raise InputError(f"DSPs: {limit:,} are too few for any engine; the smallest takes {smallest}")
    raise InputError(_refusal(works, problems, part, lambda wanted: made(wanted, gaps=False)))


def _refusal(works: Sequence[Work], problems: list[tuple[Lanes, str]], part: str, made: Callable[[Lanes], Plan]) -> str:
    """Return why no engine fits: what the smallest lacks, and which parts have it."""
    least, short = problems[-1]
    with contextlib.suppress(InputError):
        fits = ", ".join(_fitting(made(least))) or "none that Limbeck knows"
        short = f"{short}, with {_words(least)}; parts that fit: {fits}"
    return f"{program_size(works)} does not fit {part}: {short}"


def trade_offs(program: Program, part: str) -> tuple[Plan, ...]:
    """Return the engines that fit the part and are faster than every smaller one, the smallest first."""
    chip, works = part_of(part), works_of(program)
    bits = _bits(program, works)
    packs = chip.packs and bits[0] == 8
    best: list[Plan] = []
    candidates = _candidates(works, program.input.channels, chip.dsps, chip, packs=packs)
    for lanes in sorted(candidates, key=lambda lanes: _dsps(lanes, packs=packs)):
        fastest = cycles_of(best[-1].schedule).interval if best else math.inf
        if _estimate(works, lanes) >= fastest:
            continue
        times = schedule(works, lanes, values=bits[0])
        urams = chip.urams > 0 and times.depths["map"] >= _URAM_FROM
        found = Plan(chip, lanes, *bits, urams, times)
        if not _short(resources(found), found, chip.dsps) and cycles_of(times).interval < fastest:
            if best and resources(best[-1]).dsps == resources(found).dsps:
                best.pop()  # of two equally large, the faster
            best.append(found)
    return tuple(best)


def cycles(found: Plan, program: Program) -> Cycles:
    """Return the cycles of one image, exactly: those that simulation counts."""
    del program  # the plan is the program's
    return cycles_of(found.schedule)


def macs(program: Program) -> int:
    """Return the multiply-accumulates of one image that the engine does usefully (docs/hardware.md)."""
    return sum(work.macs for work in works_of(program))


def multipliers(lanes: Lanes) -> tuple[int, int]:
    """Return the multiplications per cycle, pointwise and depthwise."""
    return lanes.pixels * lanes.inputs * lanes.outputs, lanes.pixels * lanes.inputs * 9


def resources(found: Plan) -> Resources:
    """Return what the plan takes."""
    lanes = found.lanes
    brams = sum(_brams(width, depth, found.part) for width, depth in _blocks(found))
    urams = sum(-(-width // 72) * -(-depth // 4096) for width, depth in _ultra(found))
    results = lanes.pixels * lanes.inputs
    products = -(-lanes.pixels // (1 if found.value_bits == 16 else 2)) * lanes.inputs * (lanes.outputs + 9)
    # fitted to Yosys' counts (docs/fpga-figures.md §2): what always is, a result lane, an accumulator, a multiplier
    luts = 1400 + 580 * results + 30 * lanes.pixels * lanes.outputs + 19 * products // 2
    ffs = 2700 + 240 * results + 56 * lanes.pixels * lanes.outputs + 20 * products
    return Resources(_dsps(lanes, packs=found.packs), math.ceil(brams), urams, luts, ffs)


def widths(found: Plan) -> dict[str, int]:
    """Return the bits of a word, by memory."""
    lanes, bits, values = found.lanes, found.accumulator_bits, found.value_bits
    return {
        "kernel": lanes.inputs * 9 * values,
        "table": lanes.inputs * (bits + 16),
        "offset": 3 * lanes.inputs * bits,
        "mult": lanes.inputs * 16,
        "weight": lanes.outputs * values,  # of one input lane
        "map": lanes.pixels * lanes.inputs * values,
        "state": lanes.pixels * lanes.inputs * found.state_bits,
    }


def program_size(works: Sequence[Work]) -> str:
    """Return how large a program is, in words."""
    largest = max(work.shape[0] * work.shape[1] * work.shape[2] for work in works)
    return f"the program ({len(works)} passes, largest map {largest:,} values)"


def _bits(program: Program, works: Sequence[Work]) -> tuple[int, int, int]:
    """Return the bits of values, accumulators and states; InputError where they are too many or too different."""
    values = max(bits for work in works for bits in work.values)
    _check_maps(works, values)
    summed = (
        site for site in survey(program) if isinstance(site.node.op, Requantised)
    )  # states have an adder of theirs
    worst = max(summed, key=lambda site: site.accumulator_bits)
    if worst.accumulator_bits > ACCUMULATOR_LIMIT[values]:
        raise InputError(
            f"{worst.node.name}: its accumulators need {worst.accumulator_bits} bits; the accelerator has "
            f"{ACCUMULATOR_LIMIT[values]}: lower with fewer state bits or smaller maps"
        )
    found = {bits for work in works for bits in (work.bits, work.requant.bits) if bits not in (0, values)}
    if len(found) > 1 or (found and min(found) < values):
        raise InputError(f"states and results have {sorted(found)} bits; the accelerator takes one width from {values}")
    state_bits = found.pop() if found else STATE_BITS[0]
    for work in works:
        _check_shift(work)
    return values, max(20, state_bits, worst.accumulator_bits), state_bits


def _check_maps(works: Sequence[Work], values: int) -> None:
    for work in works:
        maps = {work.map_bits} if work.drop is not None else set()
        maps |= {work.depthwise.requant.bits} if work.depthwise else set()
        if maps - {values}:
            raise InputError(f"{work.path}: a map of 8 bits beside maps or weights of 16; lower all maps with 16")


def _check_shift(work: Work) -> None:
    for requant in (work.requant, *((work.depthwise.requant,) if work.depthwise else ())):
        if requant.shift == 0 and int(work.tensors[requant.mult].max()) >= 1 << 15:
            raise InputError(
                f"{work.path}: a multiplier of 16 bits with a shift of 0; the accelerator shifts at least 1"
            )


def _check_lanes(lanes: Lanes, channels: int, *, stem: bool) -> None:
    pixels, inputs, outputs = lanes.pixels, lanes.inputs, lanes.outputs
    if not (pixels == 1 or (pixels % 2 == 0 and 2 <= pixels <= 16)):
        raise InputError(f"{pixels} pixel lanes; choose 1, 2, 4, 8 or 16")
    if inputs not in INPUT_LANES:
        raise InputError(f"{inputs} input lanes; choose 2, 4, 8 or 16")
    if outputs % inputs or not inputs <= outputs <= 128:
        raise InputError(f"{outputs} output lanes; choose a multiple of {inputs} up to 128")
    if channels > 4:
        raise InputError(f"images have {channels} channels; the accelerator takes up to 4")
    if channels > inputs and not stem:
        raise InputError(f"images have {channels} channels; choose at least as many input lanes")


def _candidates(works: Sequence[Work], channels: int, limit: int, chip: Part, *, packs: bool) -> list[Lanes]:
    """Return the lanes within this many DSPs, the fastest first and, of these, the smallest."""
    # of so few multipliers powers of two would leave many over
    outputs = range(4, 65, 4) if chip.family == "ecp5" else (4, 8, 16, 32, 64, 128)
    every = [Lanes(*sizes) for sizes in product((1, 2, 4, 8, 16), INPUT_LANES, outputs)]
    widest = max(work.out[0] for work in works)
    fit = [
        lanes
        for lanes in every
        if lanes.outputs % lanes.inputs == 0
        and (channels <= lanes.inputs or works[0].stem)
        and lanes.outputs < 2 * max(widest, 4)
        and _dsps(lanes, packs=packs) <= limit
    ]
    return sorted(fit, key=lambda lanes: (_estimate(works, lanes), _dsps(lanes, packs=packs)))


def _estimate(works: Sequence[Work], lanes: Lanes) -> int:
    """Return the cycles of an image without gaps."""
    shapes = ((shape3(work.out, lanes), pace(work, lanes)) for work in works)
    return sum(out.rows * out.slots * slot.slot for out, slot in shapes)


def _dsps(lanes: Lanes, *, packs: bool) -> int:
    pairs = -(-lanes.pixels // 2) if packs else lanes.pixels
    requantisers = 2 * lanes.pixels * lanes.inputs * (1 if packs else 2)
    return pairs * lanes.inputs * (lanes.outputs + 9) + requantisers


def _blocks(found: Plan) -> Iterator[tuple[int, int]]:
    """Yield the width and depth of every memory that lies in block RAM."""
    wide, depths = widths(found), found.schedule.depths
    for name in ("kernel", "table", "mult"):
        yield wide[name], depth_for(depths[name])
    if pooled := max((op.kept.slots * op.kept.words for op in found.schedule.ops if op.work.pool), default=0):
        yield wide["state"], depth_for(pooled)
    if not found.offset_urams:
        yield wide["offset"], depth_for(depths["offset"])
    if not found.urams:
        yield from _large(found)
    for _ in range(found.lanes.inputs):
        yield wide["weight"], depth_for(depths["weight"])
    first = found.schedule.ops[0].work
    for _ in range(3):
        yield found.lanes.pixels * (2 if first.stem else 1) * first.shape[0] * 8, depths["image"]
    for kind in MICRO_OPS:
        yield width(kind) + _FLAGS[kind], depth_for(len(found.schedule.ops))


def _large(found: Plan) -> Iterator[tuple[int, int]]:
    """Yield the width and depth of maps and state."""
    wide, depths = widths(found), found.schedule.depths
    for _ in range(3):
        yield wide["map"], depths["map"]
    yield wide["state"], depths["state"]


def _ultra(found: Plan) -> Iterator[tuple[int, int]]:
    """Yield the width and depth of every memory that lies in UltraRAM."""
    if found.urams:
        yield from _large(found)
    if found.offset_urams:
        yield widths(found)["offset"], depth_for(found.schedule.depths["offset"])


def _brams(width: int, depth: int, part: Part) -> float:
    """Return the 36 Kb blocks of a memory with one read and one write port, in halves."""
    if part.family == "ecp5":  # in slices of one block, few words in LUTs (ram.sv)
        if depth <= 32:
            return 0
        sliced = next((wide for wide, words in ((18, 1024), (9, 2048), (4, 4096), (2, 8192)) if depth <= words), 1)
        return -(-width // sliced) * -(-depth // 16384) / 2
    half = min(-(-width // wide) * -(-depth // words) for wide, words in ((36, 512), (18, 1024), (9, 2048), (4, 4096)))
    whole = min(
        -(-width // wide) * -(-depth // words) for wide, words in ((72, 512), (36, 1024), (18, 2048), (9, 4096))
    )
    return min(half / 2, whole)


def _short(need: Resources, found: Plan, dsps: int) -> str:
    """Return which resources are short and by how much; empty where none is."""
    part = found.part
    have = {"DSPs": (need.dsps, dsps), "BRAMs": (need.brams, part.brams), "URAMs": (need.urams, part.urams)}
    have |= {"LUTs": (need.luts, part.luts), "FFs": (need.ffs, part.ffs)}
    return "; ".join(
        f"{name}: it needs {wanted:,}, {there:,} are there, {wanted - there:,} too few"
        for name, (wanted, there) in have.items()
        if wanted > there
    )


def _fitting(found: Plan) -> Iterator[str]:
    for name, part in PARTS.items():
        urams = part.urams > 0 and found.schedule.depths["map"] >= _URAM_FROM
        other = replace(found, part=part, urams=urams)
        if not _short(resources(other), other, part.dsps):
            yield name


def _words(lanes: Lanes) -> str:
    return f"{lanes.pixels} x {lanes.inputs} x {lanes.outputs} lanes (pixels, inputs, outputs)"
