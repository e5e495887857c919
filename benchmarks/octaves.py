"""What do power-of-two activation scales cost at 8 bits? Less than the range that they leave unused.

    OMP_NUM_THREADS=1 python benchmarks/octaves.py --run runs/dsodenet20-0 --images 2000

Weights of 8 bits, a scale a channel; activations of 8 bits; scales of maps from 512 training images. Each row changes
the scales of maps alone: powers of two above, nearest or below what calibration chose; the same with octaves to spare,
each of which is a bit less; one power of two for all 8-bit maps, the largest of them fitting. Prints one table and,
last, one JSON line.
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace

import torch

from limbeck.data.sources import open_source
from limbeck.integer.graph import FloatLayer, pixels
from limbeck.integer.lower import lower
from limbeck.integer.program import predict
from limbeck.integer.qat import QuantisedNet, prepare_qat
from limbeck.integer.scales import Plan, Scale, incoming
from limbeck.nets import zoo
from limbeck.verbs.comparison import sample
from limbeck.verbs.sets import balanced

Scales = dict[str, Scale]


def main() -> None:
    """Measure each choice of scales and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--images", type=int, default=2000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    net = zoo.load(given.run).eval()
    source = balanced(open_source(given.data, "val"), given.images, 0)
    labels = torch.as_tensor(source.labels)
    with torch.inference_mode():
        whole = top1(net(source.pixels).argmax(1), labels)
    ready = pixels(net, source.pixels).numpy()
    seen = sample(net, open_source(given.data, "train"), 512, 0)
    print(
        f"float: {whole:.2f}% of {len(labels)} images\n| activation scales | lost, 16-bit states | lost, 8-bit states |"
    )
    print("|---|---:|---:|")
    found: dict[str, list[float]] = {}
    students = [prepare_qat(net, seen, state_bits=bits, ranges="minmax") for bits in (16, 8)]
    for name, choose in choices().items():
        for student in students:
            quantised = student.net
            assert isinstance(quantised, QuantisedNet)
            before = quantised.plan
            quantised.plan = with_scales(before, quantised.layers(), choose(before))
            said = torch.from_numpy(predict(lower(student, seen), ready))
            quantised.plan = before
            found.setdefault(name, []).append(whole - top1(said, labels))
        print(f"| {name} | " + " | ".join(f"{lost:+.2f}" for lost in found[name]) + " |", flush=True)
    print("--result " + json.dumps(found))


def top1(said: torch.Tensor, labels: torch.Tensor) -> float:
    return 100 * float((said == labels).double().mean())


def with_scales(plan: Plan, layers: tuple[FloatLayer, ...], scales: Scales) -> Plan:
    return replace(plan, scales=scales, in_scales=incoming(layers, scales))


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
        "one power of two for all": one_grid,
    }


def powers(plan: Plan, whole: Callable[[float], int], spare: int = 0) -> Scales:
    """Return powers of two, one a map; only maps of 8 bits get octaves to spare, and not the states."""
    states = {scale for path, scale in plan.scales.items() if "." not in path}
    return {
        path: (2.0 ** (whole(math.log2(max(scale))) + (spare if is_inner(plan, path, scale, states) else 0)),)
        for path, scale in plan.scales.items()
    }


def is_inner(plan: Plan, path: str, scale: Scale, states: set[Scale]) -> bool:
    return plan.bits[path] == 8 and scale not in states and "narrow" not in path


def one_grid(plan: Plan) -> Scales:
    """Return one power of two for all maps of 8 bits, above the largest scale; of other maps, the power above."""
    top = max(max(scale) for path, scale in plan.scales.items() if plan.bits[path] == 8)
    return {
        path: (2.0 ** math.ceil(math.log2(top if plan.bits[path] == 8 else max(scale))),)
        for path, scale in plan.scales.items()
    }


if __name__ == "__main__":
    main()
