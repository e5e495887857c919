"""The accelerator is the program: every map, every score, in exactly the planned cycles, whatever stalls."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from fpga_programs import random_program

from limbeck.errors import VerificationError
from limbeck.fpga import simulate
from limbeck.fpga.driver import ERRORS, Accelerator, DriverError, pixels
from limbeck.fpga.emit import emit, parameters
from limbeck.fpga.memories import memories
from limbeck.fpga.plan import Lanes, cycles, plan
from limbeck.integer.program import run, trace
from limbeck.integer.survey import survey

if reason := simulate.available():
    pytest.skip(f"designs cannot be simulated: {reason}", allow_module_level=True)

IMAGE, CLASSES = (3, 7, 9), 5
LANES = Lanes(2, 4, 8)
SEEDS = (1, 2, 3, 4, 5, 6)


def pixels_of(seed, count, shape=IMAGE):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def engine_for(programs, lanes):
    """Return plans, and the parameters of an engine for all: each memory as deep as the deepest."""
    plans = [plan(program, "xczu7ev", lanes=lanes) for program in programs]
    every = [parameters(p, program) for p, program in zip(plans, programs, strict=True)]
    return plans, {name: max(sizes[name] for sizes in every) for name in every[0]}


@pytest.fixture(scope="module")
def designs(tmp_path_factory):
    """Return programs, their plans and designs, all for one engine, and its simulator."""
    programs = [random_program(seed, IMAGE, CLASSES) for seed in SEEDS]
    plans, engine = engine_for(programs, LANES)
    folder = tmp_path_factory.mktemp("designs")
    for seed, p, program in zip(SEEDS, plans, programs, strict=True):
        emit(p, program, folder / str(seed), engine=engine)
    simulator = simulate.build(folder / str(SEEDS[0]), defines=("LIMBECK_TRACE",))
    return dict(zip(SEEDS, zip(programs, plans, strict=True), strict=True)), folder, simulator


def maps_told(lines, kind, sizes, lanes, bits):
    """Yield maps [C, H, W] that the simulator told of, in order, cut to their sizes."""
    words = (line[2:].strip() for line in lines if line.startswith(kind))
    mask, sign = (1 << bits) - 1, 1 << (bits - 1)
    for channels, height, width in sizes:
        groups, slots = -(-channels // lanes.inputs), -(-width // lanes.pixels)
        table = np.zeros((groups * lanes.inputs, height, slots * lanes.pixels), np.int64)
        for row in range(height):
            for slot in range(slots):
                for group in range(groups):
                    word = int(next(words), 16)
                    for place in range(lanes.pixels * lanes.inputs):
                        value = word >> (bits * place) & mask
                        px, lane = divmod(place, lanes.inputs)
                        column = slot * lanes.pixels + px
                        table[group * lanes.inputs + lane, row, column] = (value ^ sign) - sign
        yield table[:channels, :, :width]
    assert next(words, None) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_every_map_of_the_engine_is_the_programs(designs, tmp_path, seed):
    made, folder, simulator = designs
    program, p = made[seed]
    image = pixels_of(seed, 1)
    told = tmp_path / "told.txt"
    with simulate.running(simulator, told) as port:
        scores, _ = Accelerator(port, folder / str(seed)).run(image)
    assert (scores == run(program, image)).all()

    wanted = {name: values[0] for name, values in trace(program, image)}
    lines = told.read_text().splitlines()
    works = [op.work for op in p.schedule.ops]
    results = maps_told(lines, "V", [w.out for w in works], p.lanes, p.state_bits)
    for work, found in zip(works, results, strict=True):
        assert (found == wanted[work.value]).all(), work.value
    written = [w for w in works if w.drop is not None]
    for work, found in zip(written, maps_told(lines, "M", [w.out for w in written], p.lanes, 8), strict=True):
        assert (found == wanted[work.map]).all(), work.map
