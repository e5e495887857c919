"""A design for a report: where its cycles go, and what it takes of its chip."""

from dataclasses import dataclass

from limbeck.artefacts.readers import Design
from limbeck.errors import InputError
from limbeck.fpga import parts
from limbeck.fpga.op import Op, spent
from limbeck.fpga.plan import plan

CLOCK = parts.CLOCK  # for the templates


@dataclass(frozen=True)
class Part:
    """How much of a chip's resource is taken."""

    name: str
    unit: str
    needed: int
    there: int
    exact: bool


@dataclass(frozen=True)
class Pass:
    """A layer on the engine, all its evaluations together."""

    path: str
    passes: int
    cycles: int  # of an image in a stream
    share: float  # of all cycles
    macs: int
    busy: float  # useful multiplications over those that all multipliers could do meanwhile


def chip(found: Design) -> tuple[Part, ...]:
    """Return the design's resources beside its chip's; those that neither has are left out."""
    need, have = found.resources, found.part
    every = (
        Part("DSP", "", need.dsps, have.dsps, have.packs),
        Part("BRAM", "36 Kb", need.brams, have.brams, False),
        Part("URAM", "288 Kb", need.urams, have.urams, False),
        Part("LUT", "", need.luts, have.luts, False),
        Part("flip-flop", "", need.ffs, have.ffs, False),
    )
    return tuple(part for part in every if part.needed or part.there)


def busy(found: Design) -> float:
    """Return useful multiplications over all that the multipliers could do, in a stream of images."""
    return found.macs / (found.cycles.interval * sum(found.multipliers))


def passes(found: Design) -> tuple[Pass, ...]:
    """Return the layers in their order with their cycles, which sum to the design's interval; none where the plan of
    its Program is not the manifest's."""
    try:
        times = plan(found.program, found.part.name, lanes=found.lanes).schedule
    except InputError:
        return ()
    taken = spent(times.ops)
    if sum(taken) != found.cycles.interval:
        return ()
    every = sum(found.multipliers)
    rows: dict[str, list[tuple[int, Op]]] = {}
    for cycles, op in zip(taken, times.ops, strict=True):
        rows.setdefault(op.work.path, []).append((cycles, op))
    return tuple(_pass(path, ops, found.cycles.interval, every) for path, ops in rows.items())


def _pass(path: str, ops: list[tuple[int, Op]], interval: int, multipliers: int) -> Pass:
    cycles, macs = sum(took for took, _ in ops), sum(op.work.macs for _, op in ops)
    return Pass(path, len(ops), cycles, cycles / interval, macs, macs / (cycles * multipliers))
