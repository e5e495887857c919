"""The accelerator's figures: exact cycles, busy multipliers, resources; random programs against the RTL.

python benchmarks/fpga.py                 the plans of the ODE nets at three DSP budgets: seconds
python benchmarks/fpga.py --simulate 3    and so many images through each design in Verilator: minutes each
python benchmarks/fpga.py --synth         and Yosys' count of each: ten minutes each
python benchmarks/fpga.py --programs 200  that many random programs on twelve engines, every score compared
python benchmarks/fpga.py --layers "4@16 c8 d p16" --multipliers 576   a chain of layers, as peers_fpga.py has them
python benchmarks/fpga.py --deployed      nets that people deploy: the plan of each, or why there is none
python benchmarks/fpga.py --software      the same nets in PyTorch and onnxruntime on one thread, in CPU time
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import torch

from limbeck.errors import InputError
from limbeck.fpga import simulate
from limbeck.fpga.driver import Accelerator
from limbeck.fpga.emit import emit, parameters
from limbeck.fpga.op import Lanes
from limbeck.fpga.parts import CLOCK
from limbeck.fpga.plan import cycles, macs, multipliers, plan, resources
from limbeck.fpga.synth import synthesise
from limbeck.fpga.works import works_of
from limbeck.integer.lower import lower
from limbeck.nets import onnx, zoo

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fpga_programs import Maker, random_program

BUDGETS = (1300, 640, 220)
NETS = {
    "dsodenet20 16/32/64, 32 px": ("dsodenet20", 32, {}),
    "the same without time": ("dsodenet20", 32, {"time": "none"}),
    "dsodenet20 64/128/256, 96 px, stem 3x3/2": ("dsodenet20", 96, {"width": 64, "stem": "3x3/2"}),
    "dsodenet20 64/128/256, 96 px, stem 7x7": ("dsodenet20", 96, {"width": 64, "stem": "7x7"}),
    "dsodenet_l 64/128/256, 96 px, stem 7x7": ("dsodenet_l", 96, {}),
}
DEPLOYED = (  # net, pixels, classes
    ("mlperf_resnet8", 32, 10),
    ("mlperf_mobilenetv1_025", 96, 2),
    ("mobilenetv1_100", 224, 1000),
    ("mobilenetv2_100", 224, 1000),
    ("efficientnet_lite0", 224, 1000),
    ("resnet18", 224, 1000),
)
PARTS = ("xczu7ev", "xczu3eg", "xc7z020", "lfe5u-85f")
ENGINES = (  # lanes; image; classes; state bits; whether the first layer is a 7x7; bits of maps, 8 if not said
    ((1, 4, 4), (1, 5, 4), 3, 16, False),
    ((4, 4, 12), (3, 9, 13), 4, 16, False),
    ((8, 8, 8), (4, 8, 20), 10, 16, False),
    ((2, 8, 24), (2, 1, 3), 2, 24, False),
    ((16, 4, 8), (3, 6, 16), 9, 16, False),
    ((4, 2, 4), (2, 12, 10), 7, 16, False),
    ((2, 16, 16), (3, 7, 9), 5, 16, False),
    ((1, 4, 8), (1, 10, 6), 3, 16, True),
    ((4, 8, 8), (4, 14, 22), 4, 16, True),
    ((2, 2, 4), (3, 16, 12), 6, 16, True),
    ((2, 4, 8), (3, 9, 9), 5, 16, False, 16),
    ((1, 2, 4), (2, 14, 12), 5, 24, True, 16),
)


def trained(name, size, arguments, classes=10, images=16, passes=20):
    """Return a net of random weights whose BatchNorm has seen smooth noise, and the noise."""
    torch.manual_seed(0)
    net = zoo.create(name, classes=tuple(map(str, range(classes))), channels=3, size=size, arguments=arguments)
    noise = torch.nn.functional.interpolate(torch.rand(images, 3, 8, 8) * 255, size=(size, size), mode="bilinear")
    images = noise.to(torch.uint8)
    net.train()
    with torch.no_grad():
        for _ in range(passes):
            net(images)
    return net.eval(), images


def lowered(name, size, arguments, bits=8):
    """Return such a net as a Program with weights and maps of so many bits."""
    return lower(*trained(name, size, arguments), weight_bits=bits, activation_bits=bits)


def inside(work):
    """Return the multiplications of a pass whose pixel lies on the map."""
    height, width = work.shape[1:]

    reach = 3 if work.stem else 1

    def taps(side, out, stride):
        return sum(0 <= stride * o + k < side for o in range(out) for k in range(-reach, reach + 1))

    places = taps(height, work.out[1], work.stride) * taps(width, work.out[2], work.stride)
    if work.dense or work.stem:
        return places * work.out[0] * work.shape[0]
    depthwise = places * work.shape[0] if work.depthwise else 0
    return depthwise + (0 if work.from_sum else work.out[1] * work.out[2] * work.tensors[work.layer.weight].size)


def row(name, program, budget, options):
    """Return the figures of one net at one budget."""
    found = plan(program, "xczu7ev", max_dsp=budget)
    time_, need = cycles(found, program), resources(found)
    slots = time_.interval * sum(multipliers(found.lanes))
    figures = {
        "net": name,
        "budget": budget,
        "lanes": [found.lanes.pixels, found.lanes.inputs, found.lanes.outputs],
        "multipliers": sum(multipliers(found.lanes)),
        **asdict(time_),
        "busy": macs(program) / slots,
        "busy_inside": sum(inside(work) for work in works_of(program)) / slots,
        "macs_per_dsp": macs(program) / time_.interval / need.dsps,
        "planned": asdict(need),
    }
    if options.simulate or options.synth:
        with tempfile.TemporaryDirectory() as folder:
            design = Path(folder) / "design"
            emit(found, program, design)
            if options.simulate:
                size = program.input
                shape = (options.simulate, size.channels, size.height, size.width)
                images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
                report = simulate.simulate(design, images)
                figures["simulated"] = {"scores": report.scores.size, "latency": report.latency}
            if options.synth:
                figures["synthesised"] = asdict(synthesise(design))
    return figures


def deployed():
    """Print each net that people deploy on each part: its plan, or the sentence that refuses it."""
    for name, size, classes in DEPLOYED:
        program = lower(*trained(name, size, {}, classes, images=4, passes=4))
        for part in PARTS:
            try:
                found = plan(program, part, max_dsp=BUDGETS[0])
            except InputError as error:
                print(f"{name}, {size} px, {part}: {error}", flush=True)
                continue
            time_, need = cycles(found, program), resources(found)
            slots = time_.interval * sum(multipliers(found.lanes))
            lanes = " x ".join(str(each) for each in asdict(found.lanes).values())
            print(
                f"{name}, {size} px, {part}: {lanes} lanes, {need.dsps} DSPs, {need.brams} BRAMs, {need.urams} URAMs, "
                f"{time_.interval:,} cycles, {macs(program) / slots:.1%} busy, "
                f"{macs(program) / time_.interval / need.dsps:.2f} MACs per DSP and cycle",
                flush=True,
            )


def chain(spec):
    """Return a Program of layers as peers_fpga.py names them, with a mean and a dense layer of 10 classes behind."""
    first, *names = spec.split()
    channels, side = map(int, first.split("@"))
    maker, shape = Maker(0), (channels, side, side)
    for name in names:
        wide = int(name[1:] or shape[0])
        if name[0] == "c":
            layer, shape = maker.conv(shape, wide, 8, 1, relu=True)
        elif name[0] == "d":
            layer, shape = maker.depthwise(shape, 1)
        else:
            layer, shape = maker.pointwise(shape, wide, 8, relu=True)
        maker.place(layer)
    head, _ = maker.pointwise((shape[0], 1, 1), 10, 16)
    maker.place(maker.mean(shape, 64.0 * side * side), head)
    return maker.program((channels, side, side), 10)


def within(program, limit):
    """Return the plan with the fewest cycles among those of at most so many multipliers."""
    found = []
    for lanes in product((1, 2, 4, 8, 16), (4, 8, 16), (4, 8, 16, 24, 32, 64)):
        if lanes[2] % lanes[1] == 0 and sum(multipliers(Lanes(*lanes))) <= limit:
            with suppress(InputError):
                found.append(plan(program, "xczu7ev", lanes=Lanes(*lanes)))
    return min(found, key=lambda each: cycles(each, program).interval)


def chained(spec, lanes, limit):
    """Simulate a chain of layers; return its cycles alone, in a stream, and with pixels and scores carried."""
    program = chain(spec)
    found = plan(program, "xczu7ev", lanes=Lanes(*lanes)) if lanes else within(program, limit)
    images = np.random.default_rng(0).integers(0, 256, (4, *works_of(program)[0].shape), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        design = Path(folder) / "design"
        emit(found, program, design)
        simulator = simulate.build(design)
        report = simulate.simulate(design, images, simulator=simulator)
        with simulate.running(simulator) as port:
            Accelerator(port, design).run(images[:1])
            carried = port.cycles
    return {
        "layers": spec,
        "lanes": list(asdict(found.lanes).values()),
        "multipliers": sum(multipliers(found.lanes)),
        "macs": macs(program),
        "latency": report.latency,
        "interval": cycles(found, program).interval,
        "carried": carried,
    }


def cpu_ms(call, seconds=3.0):
    """Return the CPU milliseconds of a call, the median of as many as fit."""
    call()
    took = []
    began = time.process_time()
    while time.process_time() - began < seconds or len(took) < 5:
        start = time.process_time()
        call()
        took.append(time.process_time() - start)
    return 1000 * float(np.median(took))


def software(name, spec, budget):
    """Return CPU milliseconds an image in software, one thread and batch 1, and the accelerator's times at CLOCK."""
    torch.set_num_threads(1)
    net, images = trained(*spec)
    one = images[:1]
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        whole, eight = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        onnx.export(net, whole)
        onnx.quantise(whole, eight, images)
        times = {"pytorch float32": cpu_ms(lambda: net(one))}
        runtime = onnx.needed("onnx")
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        for kind, path in (("onnxruntime float32", whole), ("onnxruntime int8", eight)):
            session = runtime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
            fed = {session.get_inputs()[0].name: one.numpy()}
            times[kind] = cpu_ms(lambda session=session, fed=fed: session.run(None, fed))
    program = lower(net, images)
    found = plan(program, "xczu7ev", max_dsp=budget)
    time_, size = cycles(found, program), program.input
    alone = 1000 * time_.latency / CLOCK
    carried = alone + 1000 * (size.height * size.width + len(program.classes) + 1) / CLOCK
    return {
        "net": name, "software": times, "alone ms": alone, "with pixels and scores ms": carried,
        "stream ms": 1000 * time_.interval / CLOCK, "alone faster": {k: t / alone for k, t in times.items()},
        "end to end faster": {k: t / carried for k, t in times.items()},
    }  # fmt: skip


def random_programs(count):
    """Return how many random programs were equal to the RTL, without and with stalls."""
    done, began = 0, time.time()
    for number, (lanes, image, classes, state_bits, stem, *bits) in enumerate(ENGINES):
        seeds = range(1000 * number, 1000 * number + -(-count // len(ENGINES)))
        chosen = {"state_bits": state_bits, "bits": (bits or [8])[0], "blocks": 3, "stem": stem}
        programs = {seed: random_program(seed, image, classes, **chosen) for seed in seeds}
        plans = {seed: plan(program, "xczu7ev", lanes=Lanes(*lanes)) for seed, program in programs.items()}
        sizes = [parameters(plans[seed], programs[seed]) for seed in seeds]
        engine = {name: max(each[name] for each in sizes) for name in sizes[0]}
        with tempfile.TemporaryDirectory() as folder:
            for seed in seeds:
                emit(plans[seed], programs[seed], Path(folder) / str(seed), engine=engine)
            simulator = simulate.build(Path(folder) / str(seeds[0]))
            for seed in seeds:
                images = np.random.default_rng(seed).integers(0, 256, (5, *image), dtype=np.uint8)
                for stalls in (simulate.Stalls(), simulate.Stalls(seed, seed * 7 % 90, seed * 13 % 90, 20)):
                    simulate.simulate(Path(folder) / str(seed), images, stalls=stalls, simulator=simulator)
                done += 1
        print(f"{lanes}: {len(seeds)} programs equal", flush=True)
    return {"programs": done, "minutes": round((time.time() - began) / 60, 1)}


def main():
    """Print one table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulate", type=int, default=0, metavar="IMAGES")
    parser.add_argument("--synth", action="store_true")
    parser.add_argument("--programs", type=int, default=0)
    parser.add_argument("--bits", type=int, default=8, choices=(8, 16))
    parser.add_argument("--layers", help="a chain of layers, as 4@16 c8 d p16")
    parser.add_argument("--multipliers", type=int, default=576, help="at most, for --layers")
    parser.add_argument("--lanes", type=int, nargs=3, help="instead, for --layers")
    parser.add_argument("--deployed", action="store_true")
    parser.add_argument("--software", action="store_true")
    parser.add_argument("--nets", nargs="*", default=list(NETS), help="some of the nets, by name")
    parser.add_argument("--budgets", type=int, nargs="*", default=BUDGETS)
    options = parser.parse_args()
    if options.programs:
        print(json.dumps(random_programs(options.programs)))
        return
    if options.deployed:
        deployed()
        return
    if options.layers:
        print(json.dumps(chained(options.layers, options.lanes, options.multipliers)))
        return
    if options.software:
        for name in options.nets:
            print(json.dumps(software(name, NETS[name], options.budgets[0])), flush=True)
        return
    torch.set_num_threads(1)
    rows = []
    print(
        f"{'net':42} {'DSPs':>5} {'lanes':>12} {'interval':>9} {'latency':>9} {'busy':>6} {'inside':>6} {'MAC/DSP':>7}"
    )
    for name in options.nets:
        program = lowered(*NETS[name], options.bits)
        for budget in options.budgets:
            try:
                r = row(name, program, budget, options)
            except InputError as error:
                print(f"{name}, {budget} DSPs: {error}", flush=True)
                continue
            rows.append(r)
            lanes = "x".join(map(str, r["lanes"]))
            print(
                f"{name:42} {r['planned']['dsps']:5} {lanes:>12} {r['interval']:9,} {r['latency']:9,} {r['busy']:6.1%} "
                f"{r['busy_inside']:6.1%} {r['macs_per_dsp']:7.2f}",
                flush=True,
            )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
