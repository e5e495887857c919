"""The accelerator is the program: every map, every score, in exactly the planned cycles, whatever stalls."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from fpga_programs import Maker, random_program
from tools import need

from limbeck.cli import main
from limbeck.errors import VerificationError
from limbeck.fpga import simulate
from limbeck.fpga.driver import Accelerator, DriverError, Register, pixels
from limbeck.fpga.emit import emit, parameters, seal
from limbeck.fpga.op import Lanes, with_gap
from limbeck.fpga.plan import cycles, plan
from limbeck.fpga.schedule import shape3
from limbeck.integer.file import save
from limbeck.integer.lower import lower
from limbeck.integer.program import Input, Program, run, trace
from limbeck.nets import zoo
from limbeck.runs import read_json

need("verilator", "g++", "make")

pytestmark = pytest.mark.slow

IMAGE, CLASSES = (3, 9, 9), 5
LANES = Lanes(2, 4, 8)
SOLVERS = {0: "euler", 90: "midpoint"}  # seeds of dsODENet-20, among those of random programs
SEEDS = (0, 1, 2, 3, 4, 5, 6, 90)
STEM_IMAGE, STEM_LANES, STEM_SEEDS = (2, 24, 16), Lanes(2, 4, 4), (7, 10, 19)  # 7x7 stems, with pools but for one
ASIDE_SHORTEST = (1, 5, 12)  # of these, a wait too short changes a value
ASIDE_IMAGE, ASIDE_LANES, ASIDE_SEEDS = (3, 2, 3), Lanes(1, 4, 4), (1, 5, 6, 12)  # layers as shortcuts
WIDE_IMAGE, WIDE_LANES, WIDE_SEEDS = (2, 9, 7), Lanes(2, 2, 4), (1, 2, 5)  # 16 bits


def pixels_of(seed, count, shape=IMAGE):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def program_of(seed):
    """Return a random program or, lowered, a small dsODENet-20 whose BatchNorm has seen images."""
    if seed not in SOLVERS:
        return random_program(seed, IMAGE, CLASSES)
    arguments = {"width": 4, "dsc": "all", "solver": SOLVERS[seed]}
    names = tuple(map(str, range(CLASSES)))
    net = zoo.create("dsodenet20", classes=names, channels=IMAGE[0], size=IMAGE[1], arguments=arguments)
    images = torch.from_numpy(pixels_of(0, 16))
    net.train()
    with torch.no_grad():
        for _ in range(10):
            net(images)
    return lower(net.eval(), images)


def engine_for(programs, lanes):
    """Return plans, and the parameters of an engine for all: each memory as deep as the deepest."""
    plans = [plan(program, "xczu7ev", lanes=lanes) for program in programs]
    every = [parameters(p, program) for p, program in zip(plans, programs, strict=True)]
    return plans, {name: max(sizes[name] for sizes in every) for name in every[0]}


def built(programs, lanes, folder):
    """Return programs by seed with their plans, the folder with their designs for one engine, and its simulator."""
    plans, engine = engine_for(programs.values(), lanes)
    for (seed, program), p in zip(programs.items(), plans, strict=True):
        emit(p, program, folder / str(seed), engine=engine)
    made = {seed: (program, p) for (seed, program), p in zip(programs.items(), plans, strict=True)}
    return made, folder, simulate.build(folder / str(next(iter(programs))))


@pytest.fixture(scope="module")
def designs(tmp_path_factory):
    torch.manual_seed(0)
    return built({seed: program_of(seed) for seed in SEEDS}, LANES, tmp_path_factory.mktemp("designs"))


MANY = 600  # channels: more words of a pixel than 8 bits count
MANY_SEED = -1  # among the programs of 16 bits


def many_channels():
    """Return a program whose map has many channels."""
    maker = Maker(0, state_bits=24, bits=16)
    first, shape = maker.conv(WIDE_IMAGE, MANY, 24, 1, relu=True)
    head, _ = maker.pointwise((MANY, 1, 1), CLASSES, 24)
    maker.place(first, maker.mean(shape, 2.0**22 * shape[1] * shape[2]), head)
    return Program(Input(*WIDE_IMAGE), maker.tensors, tuple(maker.nodes), tuple(map(str, range(CLASSES))))


@pytest.fixture(scope="module")
def wides(tmp_path_factory):
    programs = {seed: random_program(seed, WIDE_IMAGE, CLASSES, state_bits=24, bits=16) for seed in WIDE_SEEDS}
    programs[MANY_SEED] = many_channels()
    return built(programs, WIDE_LANES, tmp_path_factory.mktemp("wides"))


@pytest.fixture(scope="module")
def stems(tmp_path_factory):
    programs = {seed: random_program(seed, STEM_IMAGE, CLASSES, stem=True) for seed in STEM_SEEDS}
    return built(programs, STEM_LANES, tmp_path_factory.mktemp("stems"))


@pytest.fixture(scope="module")
def asides(tmp_path_factory):
    programs = {seed: random_program(seed, ASIDE_IMAGE, CLASSES, blocks=3, projected=True) for seed in ASIDE_SEEDS}
    return built(programs, ASIDE_LANES, tmp_path_factory.mktemp("asides"))


def maps_told(lines, kind, sizes, lanes, bits):
    """Yield maps [C, H, W] that the simulator told of, in order, cut to their sizes; VerificationError if not all."""
    words = [line[2:].strip() for line in lines if line.startswith(kind)]
    shapes = [shape3(size, lanes) for size in sizes]
    if len(words) != sum(shape.total for shape in shapes):
        raise VerificationError(f"{len(words)} words were told of instead of {sum(shape.total for shape in shapes)}")
    left = iter(words)
    mask, sign = (1 << bits) - 1, 1 << (bits - 1)
    for (channels, height, width), shape in zip(sizes, shapes, strict=True):
        groups, slots = shape.words, shape.slots
        table = np.zeros((groups * lanes.inputs, height, slots * lanes.pixels), np.int64)
        for row in range(height):
            for slot in range(slots):
                for group in range(groups):
                    word = int(next(left), 16)
                    for place in range(lanes.pixels * lanes.inputs):
                        value = word >> (bits * place) & mask
                        px, lane = divmod(place, lanes.inputs)
                        column = slot * lanes.pixels + px
                        table[group * lanes.inputs + lane, row, column] = (value ^ sign) - sign
        yield table[:channels, :, :width]


def maps_of(simulator, design, p, images):
    """Return scores, all results, all maxima and all written maps of images that are run one after the other."""
    told = design / "told.txt"
    with simulate.running(simulator, told) as port:
        port.limit(50_000)
        accelerator = Accelerator(port, design)
        scores = np.concatenate([accelerator.run(images[i : i + 1])[0] for i in range(len(images))])
    lines, works = told.read_text().splitlines(), [op.work for op in p.schedule.ops] * len(images)
    results = list(maps_told(lines, "V", [w.out for w in works], p.lanes, p.state_bits))
    pooled = list(maps_told(lines, "P", [w.kept for w in works if w.pool], p.lanes, p.state_bits))
    return (
        scores,
        results,
        pooled,
        list(maps_told(lines, "M", [w.kept for w in works if w.drop is not None], p.lanes, p.value_bits)),
    )


def check_maps(program, p, simulator, design, image):
    """Assert that every word that the engine makes of an image is the program's."""
    scores, results, pooled, maps = maps_of(simulator, design, p, image)
    assert (scores == run(program, image)).all()

    wanted = {name: values[0] for name, values in trace(program, image)}
    works = [op.work for op in p.schedule.ops]
    for work, found in zip(works, results, strict=True):
        assert (found == wanted[work.value]).all(), work.value
    for work, found in zip([w for w in works if w.pool], pooled, strict=True):
        assert (found == wanted[work.pool]).all(), work.pool
    for work, found in zip([w for w in works if w.drop is not None], maps, strict=True):
        assert (found == wanted[work.map]).all(), work.map


@pytest.mark.parametrize("seed", SEEDS)
def test_every_map_of_the_engine_is_the_programs(designs, tmp_path, seed):
    made, folder, simulator = designs
    program, p = made[seed]
    check_maps(program, p, simulator, folder / str(seed), pixels_of(seed, 1))


@pytest.mark.parametrize("seed", STEM_SEEDS)
def test_stems_and_pools_are_the_programs_in_the_planned_cycles(stems, seed):
    made, folder, simulator = stems
    program, p = made[seed]
    check_maps(program, p, simulator, folder / str(seed), pixels_of(seed, 1, STEM_IMAGE))
    for stalls in (simulate.Stalls(), simulate.Stalls(seed, pixels=50, scores=50, axi=30)):
        simulate.simulate(folder / str(seed), pixels_of(9, 5, STEM_IMAGE), stalls=stalls, simulator=simulator)


@pytest.mark.parametrize("seed", ASIDE_SEEDS)
def test_shortcuts_that_are_layers_are_the_programs_in_the_planned_cycles(asides, seed):
    made, folder, simulator = asides
    program, p = made[seed]
    assert any(op.work.aside for op in p.schedule.ops)
    check_maps(program, p, simulator, folder / str(seed), pixels_of(seed, 1, ASIDE_IMAGE))
    for stalls in (simulate.Stalls(), simulate.Stalls(seed, pixels=50, scores=50, axi=30)):
        simulate.simulate(folder / str(seed), pixels_of(9, 5, ASIDE_IMAGE), stalls=stalls, simulator=simulator)
    if seed in ASIDE_SHORTEST:
        check_gaps(program, p, simulator, folder / str(seed), pixels_of(seed, 3, ASIDE_IMAGE))


@pytest.mark.parametrize("seed", [*WIDE_SEEDS, MANY_SEED])
def test_16_bit_engines_are_the_programs_in_the_planned_cycles(wides, seed):
    made, folder, simulator = wides
    program, p = made[seed]
    check_maps(program, p, simulator, folder / str(seed), pixels_of(abs(seed), 1, WIDE_IMAGE))
    for stalls in (simulate.Stalls(), simulate.Stalls(abs(seed), pixels=50, scores=50, axi=30)):
        simulate.simulate(folder / str(seed), pixels_of(9, 5, WIDE_IMAGE), stalls=stalls, simulator=simulator)


@pytest.mark.parametrize("seed", SEEDS)
def test_images_take_exactly_the_planned_cycles(designs, seed):
    made, folder, simulator = designs
    program, p = made[seed]
    report = simulate.simulate(folder / str(seed), pixels_of(seed, 5), simulator=simulator)
    assert report.latency == cycles(p, program).latency
    assert report.interval >= cycles(p, program).interval


@pytest.mark.parametrize("seed", SEEDS)
def test_random_stalls_never_change_a_score(designs, seed):
    _, folder, simulator = designs
    share = seed % 7 * 15
    stalls = simulate.Stalls(seed, pixels=share, scores=90 - share, axi=30)
    simulate.simulate(folder / str(seed), pixels_of(seed + 100, 6), stalls=stalls, simulator=simulator)


def differs(simulator, design, p, images, wanted):
    """Return whether a result is not the program's, or answers are missing."""
    try:
        _, results, *_ = maps_of(simulator, design, p, images)
    except VerificationError:
        return True
    names = [op.work.value for op in p.schedule.ops]
    return any((m != wanted[names[i % len(names)]][i // len(names)]).any() for i, m in enumerate(results))


def hastier(p, number):
    """Return the plan with the gap of a micro-op one cycle shorter."""
    ops = list(p.schedule.ops)
    ops[number] = with_gap(ops[number], ops[number].gap - 1)
    return replace(p, schedule=replace(p.schedule, ops=tuple(ops)))


def check_gaps(program, p, simulator, folder, images):
    """Assert that a result differs whichever gap is one cycle shorter; there are gaps."""
    engine = read_json(folder / "design.json")["parameters"]
    wanted = dict(trace(program, images))
    waiting = [number for number, op in enumerate(p.schedule.ops) if op.gap]
    assert waiting
    for number in waiting:
        design = folder / f"hastier{number}"
        emit(hastier(p, number), program, design, engine=engine)
        assert differs(simulator, design, p, images, wanted), p.schedule.ops[number].work.value
    return waiting


@pytest.mark.parametrize("seed", [2, 3, 5, 6])
def test_every_gap_is_the_shortest(designs, seed):
    made, folder, simulator = designs
    check_gaps(*made[seed], simulator, folder / str(seed), pixels_of(seed, 3))


@pytest.mark.parametrize("seed", STEM_SEEDS)
def test_every_gap_after_a_pool_is_the_shortest(stems, seed):
    made, folder, simulator = stems
    waiting = check_gaps(*made[seed], simulator, folder / str(seed), pixels_of(seed, 3, STEM_IMAGE))
    assert 1 in waiting or not made[seed][1].schedule.ops[0].work.pool


def test_the_next_image_waits_for_the_last_scores(designs, tmp_path):
    made, folder, simulator = designs
    program, p = made[1]
    assert p.schedule.ops[0].gap > 0
    engine = read_json(folder / "1" / "design.json")["parameters"]
    emit(hastier(p, 0), program, tmp_path / "design", engine=engine)
    with simulate.running(simulator) as port:
        accelerator = Accelerator(port, tmp_path / "design")
        port.limit(20_000)
        with pytest.raises(VerificationError, match=r"ended early: .*result_words: a group begins before"):
            accelerator.run(pixels_of(0, 6))


def test_a_wrong_weight_is_seen(designs, tmp_path):
    _, folder, simulator = designs
    design = tmp_path / "design"
    shutil.copytree(folder / "1", design)
    path = design / "memories" / "mult.mem"
    path.write_text(path.read_text().replace("1", "2"))
    seal(design)
    with pytest.raises(VerificationError, match=r"of 10 scores differ; first image \d, class \d: "):
        simulate.simulate(design, pixels_of(1, 2), simulator=simulator)


def test_one_engine_takes_another_nets_memories(designs):
    made, folder, simulator = designs
    image = pixels_of(0, 3)
    with simulate.running(simulator) as port:
        accelerator = Accelerator(port, folder / "1")
        for seed in (2, 1, 3):
            accelerator.load(folder / str(seed))
            assert (accelerator.run(image)[0] == run(made[seed][0], image)).all()


def test_broken_frames_are_told_and_dropped(designs):
    made, folder, simulator = designs
    program, size = made[1][0], IMAGE[1] * IMAGE[2]
    image = pixels_of(0, 1)
    beats = pixels(image)
    with simulate.running(simulator) as port:
        accelerator = Accelerator(port, folder / "1")
        port.limit(20_000)
        for frame, error in ((beats[:-5], 1), (np.concatenate([beats, beats[:7]]), 2)):
            last = np.arange(1, len(frame) + 1) == len(frame)
            data, _ = port.exchange(frame, last, 1)
            assert len(data) == 0
            assert port.read(Register.ERRORS) == error
            port.write([(Register.ERRORS, error)])
            assert (accelerator.run(image)[0] == run(program, image)).all()
        last = np.arange(1, 2 * size + 1) % size == 3  # TLAST in the middle of two frames
        port.exchange(np.tile(beats, 2), last, 1)
        with pytest.raises(DriverError, match="a frame ended early"):
            accelerator.check()


def test_an_answer_that_a_stopped_run_is_sending_is_sent_to_its_end(designs):
    made, folder, simulator = designs
    program, image = made[2][0], pixels_of(0, 2)
    with simulate.running(simulator) as port:
        accelerator = Accelerator(port, folder / "2")
        last = np.arange(1, 2 * IMAGE[1] * IMAGE[2] + 1) % (IMAGE[1] * IMAGE[2]) == 0
        first, _ = port.exchange(pixels(image), last, 3)
        accelerator.load(folder / "2")  # which stops the run
        rest, ends = port.exchange(pixels(image[:0]), last[:0], CLASSES - 2)
        answer = np.concatenate([first, rest]).view(np.int32)
        assert answer[:-1].tolist() == run(program, image[:1])[0].tolist()
        assert ends.tolist() == [False] * (CLASSES - 3) + [True]
        assert (accelerator.run(image)[0] == run(program, image)).all()
        assert port.broken == 0


def test_a_reset_in_mid_stream_leaves_nothing(designs):
    made, folder, simulator = designs
    program, image = made[2][0], pixels_of(0, 2)
    beats = pixels(image)[:90]
    with simulate.running(simulator) as port:
        accelerator = Accelerator(port, folder / "2")
        port.limit(300)
        port.exchange(beats, np.arange(1, 91) % 63 == 0, 4)
        port.reset()
        port.limit(100_000)
        accelerator.load(folder / "2")
        assert (accelerator.run(image)[0] == run(program, image)).all()


def test_the_verbs_compile_and_simulate(designs, tmp_path, capsys):
    made, folder, _ = designs
    program, design = tmp_path / "net.program", tmp_path / "design"
    save(made[3][0], program)
    assert main(["compile", str(program), "--engine", str(folder / "1"), "--out", str(design)]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("--result "))
    assert told["cycles"]["interval"] == cycles(made[3][1], made[3][0]).interval
    shutil.copytree(folder / str(SEEDS[0]) / "sim", design / "sim", dirs_exist_ok=True)
    assert main(["simulate", str(design), "--data", "digits:optdigits", "--images", "5", "--stalls", "20"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("--result "))
    assert told["scores"] == 25
    assert told["top1"] is None  # other classes
    (design / "memories" / "weight0.mem").write_text((design / "memories" / "weight1.mem").read_text())
    seal(design)
    assert main(["simulate", str(design), "--data", "digits:optdigits", "--images", "5"]) == 3
    assert "scores differ" in capsys.readouterr().err
