"""The Neural-ODE family on Fashion-MNIST: hard labels against distillation, and what the ODE block is worth.

    python benchmarks/odenets.py --out runs/odenets --seeds 0 1 2

The teachers are the ResNet-20s that were taught on hard labels, one a seed; their averaged answers are stored, one view
an epoch. Every arm trains on the same images for as many epochs, distilled unless its name or --hard says otherwise.
Arms that are finished are not run again. `gap` is what running statistics lose against a batch's own (250 test
images), in points.
Prints one table and, last, one JSON line.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from limbeck.images.sources import open_source
from limbeck.nets import zoo
from limbeck.nets.classifier import computes_bfloat16
from limbeck.training.sets import judged
from limbeck.training.settings import Training
from limbeck.verbs.distill import distill
from limbeck.verbs.info import info
from limbeck.verbs.label import label
from limbeck.verbs.teach import teach


class Arm(NamedTuple):
    """A net and how it learns."""

    net: str
    arguments: tuple[str, ...] = ()
    hard: bool = False
    random_steps: bool = False


NETS = ("resnet20", "odenet20", "dsodenet20_ode", "dsodenet20")
TEACHER = "resnet20, hard labels"
ARMS = {
    **{f"{net}, hard labels": Arm(net, hard=True) for net in NETS},  # the teachers first
    **{net: Arm(net) for net in NETS},
    "dsodenet20, one step a block": Arm("dsodenet20", ("steps=1",)),
    "dsodenet20, unshared": Arm("resnet20", ("dsc=all",)),
    "dsodenet20, unshared, width 12": Arm("resnet20", ("dsc=all", "width=12")),
    "dsodenet20, no time": Arm("dsodenet20", ("time=none",)),
    "dsodenet20, h = 0.5": Arm("dsodenet20", ("h=0.5",)),
    "dsodenet20, 6 steps of 0.5": Arm("dsodenet20", ("steps=6", "h=0.5")),
    "dsodenet20, midpoint": Arm("dsodenet20", ("solver=midpoint",)),
    "dsodenet20, rk4, one step": Arm("dsodenet20", ("solver=rk4", "steps=1")),
    "dsodenet20, random steps": Arm("dsodenet20", random_steps=True),
}
LEARN = Training(nesterov=True, weight_decay=5e-4, validate_every=1000, resume=True)


def main() -> None:
    """Run the arms named on the command line, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--out", default="runs/odenets")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--hard", action="store_true", help="every arm learns from hard labels")
    parser.add_argument("--limit", type=int, help="train on so many images only; teachers see all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--only-table", action="store_true", help="read what is there, run nothing")
    given = parser.parse_args()
    out = Path(given.out)
    for name in [] if given.only_table else given.arms:
        for seed in given.seeds:
            place = out / f"{name}-{seed}"
            if not (place / "results.json").exists():
                limit = None if name == TEACHER else given.limit
                learning = replace(LEARN, epochs=given.epochs, batch=given.batch, lr=given.lr, seed=seed, limit=limit)
                arm = ARMS[name]._replace(hard=True) if given.hard else ARMS[name]
                run(arm, place, given.data, learning, [str(out / f"{TEACHER}-{s}") for s in given.seeds])
    table(out, given.data)


def run(arm: Arm, place: Path, data: str, learning: Training, teachers: Sequence[str]) -> None:
    """Train one arm. Dense nets train 1.8 times as fast in bfloat16 where hardware has it, separable ones no faster."""
    separable = arm.net.startswith("ds") or "dsc=all" in arm.arguments
    dense = not separable and computes_bfloat16(torch.device("cpu"))
    learning = replace(learning, precision="bfloat16" if dense else "float32", random_steps=arm.random_steps)
    if arm.hard:
        done = teach(data=data, model=arm.net, arguments=arm.arguments, out=str(place), training=learning)
    else:
        drawn = {} if learning.limit is None else {"limit": learning.limit, "seed": learning.seed}
        store = str(place.parent / "-".join(["labels", *map(str, drawn.values())]))
        if not Path(store, "labels.json").exists():
            label(data=data, teachers=tuple(teachers), out=store, views=learning.epochs, dtype="float32", **drawn)
        done = distill(
            data=data, student=arm.net, arguments=arm.arguments, labels=store, out=str(place), training=learning
        )
    print(f"{place.name}: {done.evaluation.top1:.2%}, {done.seconds:.0f} s", flush=True)


def by_batch(place: Path, data: str) -> float:
    """Return top-1 in per cent where BatchNorm takes each batch's own statistics, as in training; measured once."""
    path = place / "by-batch.json"
    if not path.exists():
        net, source = zoo.load(str(place)), open_source(data, "val")
        net.net.train()
        right = 0
        with torch.inference_mode():
            for batch in judged(net, source, 250, workers=0):
                assert batch.labels is not None
                right += int((net(batch.images).argmax(1) == batch.labels).sum())
        path.write_text(json.dumps(100 * right / len(source)))
    return json.loads(path.read_text())


def table(out: Path, data: str) -> None:
    """Print mean and spread of what has been run, and what the nets cost."""
    found: dict[str, list[float]] = {}
    print(
        "| arm | parameters | MMAC | mean | lowest | highest | seeds | gap |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    for name in ARMS:
        places = [path.parent for path in sorted(out.glob(f"{name}-[0-9]/results.json"))]
        if places:
            results = [json.loads((place / "results.json").read_text()) for place in places]
            found[name] = values = [100 * result["evaluation"]["top1"] for result in results]
            gap = statistics.mean(by_batch(place, data) - top1 for place, top1 in zip(places, values, strict=True))
            cost = info(str(places[0]))
            print(
                f"| {name} | {cost.parameters:,} | {cost.macs / 1e6:.2f} | {statistics.mean(values):.2f} "
                f"| {min(values):.2f} | {max(values):.2f} | {len(values)} | {gap:.2f} |"
            )
    print("--result " + json.dumps(found))


if __name__ == "__main__":
    main()
