"""What do power-of-two activation scales cost at 8 bits? By themselves nothing: where a flat background rounds does.

    OMP_NUM_THREADS=1 python benchmarks/octaves.py --run runs/dsodenet20-0 --images 2000

Weights of 8 bits, a scale a channel; activations of 8 bits; scales of maps from 512 training images. Each row changes
the scales of maps alone: powers of two above, nearest or below what calibration chose; the same with octaves to spare,
each of which is a bit less; one power of two for all 8-bit maps, the largest of them fitting; and all scales enlarged
by the same part of an octave. Beside top-1 stands the error of the first block's map on 64 training images: signal to
noise, and what share of the error is where all pixels around are black, and of that, what share is the same at all
these places. --noise adds up to so many levels to every pixel, calibration's too. Prints one table and, last, one JSON
line.
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from limbeck.deploy.comparison import sample
from limbeck.images.sources import open_source
from limbeck.integer.extract import extract
from limbeck.integer.graph import FloatAdd, centred, evaluate, path_of, pixels
from limbeck.integer.lower import lower
from limbeck.integer.program import IMAGE, Program, predict, trace
from limbeck.integer.qat import QuantisedNet, prepare_qat
from limbeck.integer.scales import Plan, Scale
from limbeck.nets import zoo
from limbeck.training.sets import balanced

Scales = dict[str, Scale]


def main() -> None:
    """Measure each choice of scales and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--noise", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    net = zoo.load(given.run).eval()
    source = balanced(open_source(given.data, "val"), given.images, 0)
    labels = torch.as_tensor(source.labels)
    images = noisy(source.pixels, given.noise)
    clean = sample(net, open_source(given.data, "train"), 512, 0)
    seen = noisy(clean, given.noise)
    with torch.inference_mode():
        whole = top1(net(images).argmax(1), labels)
    ready = pixels(net, images).numpy()
    first = First(net, seen[:64], clean[:64])
    print(f"float: {whole:.2f}% of {len(labels)} images; black around: {100 * first.black_share:.0f}% of places")
    print("| activation scales | lost, 16-bit states | lost, 8-bit states | error, dB | in black | of that the same |")
    print("|---|---:|---:|---:|---:|---:|")
    found: dict[str, list[float]] = {}
    students = [prepare_qat(net, seen, state_bits=bits, ranges="minmax") for bits in (16, 8)]
    for name, choose in choices().items():
        errors = []
        for student in students:
            quantised = student.net
            assert isinstance(quantised, QuantisedNet)
            before = quantised.plan
            quantised.plan = plan = replace(before, scales=choose(before) | {IMAGE: (1.0,)})
            program = lower(student, seen)
            quantised.plan = before
            found.setdefault(name, []).append(whole - top1(torch.from_numpy(predict(program, ready)), labels))
            errors.append(first.error(program, plan))
        ratio, black, same = errors[0]
        lost = " | ".join(f"{lost:+.2f}" for lost in found[name])
        print(f"| {name} | {lost} | {ratio:.1f} | {100 * black:.0f}% | {100 * same:.0f}% |", flush=True)
        found[name] += errors[0]
    print("--result " + json.dumps(found))


def noisy(images: Tensor, levels: int) -> Tensor:
    more = torch.randint(0, levels + 1, images.shape, generator=torch.Generator().manual_seed(0))
    return (images.int() + more).clamp(0, 255).to(torch.uint8)


class First:
    """The first block's map in the float net, on some images, and where all pixels around are black in clean ones."""

    def __init__(self, net: zoo.Classifier, images: Tensor, clean: Tensor) -> None:
        self.images = pixels(net, images)
        graph, floats = extract(net), dict[str, Tensor]()
        with torch.no_grad():
            evaluate(graph, centred(graph, self.images), floats.__setitem__)
        self.path = next(node.path for node in graph if isinstance(node.op, FloatAdd))
        self.name = [name for name in floats if path_of(name) == self.path][-1]  # after its last step
        self.whole = floats[self.name].double()
        black = pixels(net, clean).amax(1, keepdim=True) == 0
        near = torch.nn.functional.avg_pool2d(black.double(), 7, 1, 3, count_include_pad=False)
        self.black = (near == 1).expand_as(self.whole)
        self.black_share = float(self.black.double().mean())

    def error(self, program: Program, plan: Plan) -> list[float]:
        """Return the signal-to-noise ratio in dB, the share of the error in the black, and what of that is constant."""
        ints = next(ints for name, ints in trace(program, self.images.numpy()) if name == self.name)
        off = torch.from_numpy(ints).double() * plan.scales[self.path][0] - self.whole
        inside = (off.square() * self.black).sum()
        places = self.black.sum((0, 2, 3))
        constant = ((off * self.black).sum((0, 2, 3)).square() / places).sum()
        ratio = 10 * torch.log10(self.whole.square().sum() / off.square().sum())
        return [float(ratio), float(inside / off.square().sum()), float(constant / inside)]


def top1(said: torch.Tensor, labels: torch.Tensor) -> float:
    return 100 * float((said == labels).double().mean())


def choices() -> dict[str, Callable[[Plan], Scales]]:
    """Return, by name, what to make of the scales that calibration chose."""
    return {
        "as calibrated, a scale a channel": lambda plan: plan.scales,
        "a power of two above": lambda plan: powers(plan, math.ceil),
        "the nearest power of two": lambda plan: powers(plan, round),
        "a power of two below": lambda plan: powers(plan, math.floor),
        **{
            f"a power of two above, {spare} octave{'s' if spare > 1 else ''} to spare": (
                lambda plan, spare=spare: powers(plan, math.ceil, spare)
            )
            for spare in (1, 2, 3)
        },
        "a power of two above, but for the first depthwise map": but_for_first,
        "one power of two for all": one_grid,
        **{f"all larger by {i}/8 of an octave": (lambda plan, i=i: larger(plan, 2.0 ** (i / 8))) for i in range(8)},
    }


def powers(plan: Plan, whole: Callable[[float], int], spare: int = 0) -> Scales:
    """Return powers of two, one a map; only maps of 8 bits get octaves to spare, and not the states."""
    states = {scale for path, scale in plan.scales.items() if "." not in path}
    return {
        path: (2.0 ** (whole(math.log2(max(scale))) + (spare if is_inner(plan, path, scale, states) else 0)),)
        for path, scale in plan.scales.items()
    }


def but_for_first(plan: Plan) -> Scales:
    first = next(path for path in plan.scales if path.endswith("depthwise"))
    return powers(plan, math.ceil) | {first: plan.scales[first]}


def larger(plan: Plan, by: float) -> Scales:
    """Return one scale a map, all larger than need be."""
    return {path: (max(scale) * by,) for path, scale in plan.scales.items()}


def is_inner(plan: Plan, path: str, scale: Scale, states: set[Scale]) -> bool:
    return plan.bits.get(path) == 8 and scale not in states and "narrow" not in path


def one_grid(plan: Plan) -> Scales:
    """Return one power of two for all maps of 8 bits, above the largest scale; of other maps, the power above."""
    top = max(max(scale) for path, scale in plan.scales.items() if plan.bits.get(path) == 8)
    return {
        path: (2.0 ** math.ceil(math.log2(top if plan.bits.get(path) == 8 else max(scale))),)
        for path, scale in plan.scales.items()
    }


if __name__ == "__main__":
    main()
