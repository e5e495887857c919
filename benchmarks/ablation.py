"""The ablation that MEAL V2's users asked for, on Fashion-MNIST: what of the method matters?

    python benchmarks/ablation.py --out runs/ablation --seeds 0 1 2

Needs two teachers (`--teachers`, as `limbeck teach` makes them: docs/experiments.md has the commands). Every arm trains
the same student on the same number of images; soft labels come from stores with one view an epoch, so that replaying
them is distilling live. Arms that are finished are not run again. Prints one table and, last, one JSON line.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from limbeck.training.results import Trained
from limbeck.training.settings import Training
from limbeck.verbs.distill import distill
from limbeck.verbs.label import label
from limbeck.verbs.merge_labels import merge_labels
from limbeck.verbs.teach import teach

STUDENT = {"arguments": ("width=8", "stem=3x3/2")}  # 19,074 parameters, 0.6 MMAC
HARD = Training(epochs=20, batch=128, lr=0.1, nesterov=True, weight_decay=5e-4, validate_every=1000, resume=True)
SOFT = replace(HARD, weight_decay=0.0)
FROM_HARD = {"lr": 0.03}  # a trained net begins with a smaller rate


def main() -> None:
    """Run the arms named on the command line, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--teachers", nargs=2, default=["runs/fashion-t1", "runs/fashion-t2"])
    parser.add_argument("--out", default="runs/ablation")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+")
    parser.add_argument("--only-table", action="store_true", help="read what is there, run nothing")
    given = parser.parse_args()
    out = Path(given.out)
    stores = {name: str(out / f"labels-{name}") for name in ("one", "other", "both", "logits")}
    if not given.only_table:
        if given.arms is None or any("soft" in arm for arm in given.arms):
            make_stores(given.data, given.teachers, stores)
        for seed in given.seeds:
            for name, arm in arms(given.data, out, stores, seed).items():
                place = out / f"{name}-{seed}"
                if (given.arms is None or name in given.arms) and not (place / "results.json").exists():
                    done = arm(str(place))
                    print(f"{place.name}: {done.evaluation.top1:.2%}, {done.seconds:.0f} s", flush=True)
    table(out, list(arms(given.data, out, stores, 0)))


def make_stores(data: str, teachers: list[str], stores: dict[str, str]) -> None:
    """Label one view an epoch by each teacher, and join the two."""
    for name, teacher in zip(("one", "other"), teachers, strict=True):
        if not Path(stores[name], "labels.json").exists():
            label(data=data, teachers=(teacher,), out=stores[name], views=SOFT.epochs, dtype="float32")
    pair = (stores["one"], stores["other"])
    for name, average in (("both", "probabilities"), ("logits", "logits")):
        if not Path(stores[name], "labels.json").exists():
            merge_labels(pair, average=average, out=stores[name])


def arms(data: str, out: Path, stores: dict[str, str], seed: int) -> dict[str, Callable[[str], Trained]]:
    """Return the arms by name, each taking its run folder."""

    def hard(place: str, student: str = "resnet8", **changes: object) -> Trained:
        net = STUDENT if student == "resnet8" else {}
        return teach(data=data, model=student, out=place, training=replace(HARD, seed=seed, **changes), **net)

    def soft(
        place: str, store: str = "both", student: str = "resnet8", changes: dict | None = None, **how: object
    ) -> Trained:
        net = STUDENT if student == "resnet8" else {}
        learning = replace(SOFT, seed=seed, **(changes or {}))
        return distill(data=data, student=student, labels=stores[store], out=place, training=learning, **net, **how)

    own = str(out / f"hard-{seed}")
    return {
        "hard": hard,
        "hard, no weight decay": lambda p: hard(p, weight_decay=0.0),
        "soft": soft,
        "soft, weight decay": lambda p: soft(p, changes={"weight_decay": 5e-4}),
        "soft + hard": lambda p: soft(p, hard_weight=1.0),
        "soft, teacher 1": lambda p: soft(p, "one"),
        "soft, teacher 2": lambda p: soft(p, "other"),
        "soft, mean of logits": lambda p: soft(p, "logits"),
        "soft, cooperative": lambda p: soft(p, discriminator="cooperative", discriminator_lr=0.01),
        "soft, adversarial": lambda p: soft(p, discriminator="adversarial", discriminator_lr=0.01),
        "hard, then soft": lambda p: soft(p, student=own, changes=FROM_HARD),
        "hard, then hard": lambda p: hard(p, student=own, **FROM_HARD),
        "hard, 6000 labels": lambda p: hard(p, limit=6000, epochs=200),
        "hard, 600 labels": lambda p: hard(p, limit=600, epochs=1000),
    }


def table(out: Path, names: list[str]) -> None:
    """Print mean and spread of what has been run."""
    found: dict[str, list[float]] = {}
    for name in names:
        results = [json.loads(p.read_text()) for p in sorted(out.glob(f"{name}-[0-9]*/results.json"))]
        if results:
            found[name] = [100 * result["evaluation"]["top1"] for result in results]
    print("| arm | mean | lowest | highest | seeds |\n|---|---|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {statistics.mean(values):.2f} | {min(values):.2f} | {max(values):.2f} | {len(values)} |")
    print("--result " + json.dumps(found))


if __name__ == "__main__":
    main()
