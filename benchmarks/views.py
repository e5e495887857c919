"""How many views and which k? Live distillation against stores of V views and top-k, on a part of Fashion-MNIST.

    python benchmarks/views.py --out runs/views --seeds 0 1 2

Needs two teachers (`--teachers`, as docs/experiments.md makes them). 200 epochs over 3,000 images, so that 200 views
are all seen; sampled labels take the bytes of the top-k above them. Arms that are finished are not run again. Prints
one table and, last, one JSON line.
"""

import argparse
import gzip
import json
import shutil
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from limbeck.training.results import Trained
from limbeck.training.settings import Training
from limbeck.verbs.distill import distill
from limbeck.verbs.label import label
from limbeck.verbs.merge_labels import merge_labels
from limbeck.verbs.teach import teach

STUDENT = ("width=8", "stem=3x3/2")  # of resnet8: 19,074 parameters, 0.6 MMAC
IMAGES, VIEWS, TOP = 3000, (10, 50, 200), (1, 3, 5, 0)
SAMPLED = {1: 2, 3: 6, 5: 10}  # ids of two bytes each, in place of k ids and k values of two
LEARN = Training(
    epochs=max(VIEWS), batch=128, lr=0.1, nesterov=True, weight_decay=5e-4, validate_every=1000, resume=True
)


def main() -> None:
    """Run the arms named on the command line, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--teachers", nargs=2, default=["runs/fashion-t1", "runs/fashion-t2"])
    parser.add_argument("--out", default="runs/views")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+")
    parser.add_argument("--only-table", action="store_true", help="read what is there, run nothing")
    given = parser.parse_args()
    out = Path(given.out)
    names = list(arms("", (), out, 0))
    if not given.only_table:
        data = part(Path(given.data), out / "data")
        whole = out / "labels"
        label(data=data, teachers=tuple(given.teachers), out=str(whole), views=max(VIEWS), top=0, dtype="float32")
        for seed in given.seeds:
            for name, arm in arms(data, tuple(given.teachers), out, seed).items():
                place = out / f"{name}-{seed}"
                if (given.arms is None or name in given.arms) and not (place / "results.json").exists():
                    done = arm(str(place))
                    print(f"{place.name}: {done.evaluation.top1:.2%}, {done.seconds:.0f} s", flush=True)
    table(out, names)


def part(data: Path, out: Path) -> str:
    """Write an IDX folder of the first IMAGES training images, and the test set."""
    if not (out / "t10k-labels-idx1-ubyte.gz").exists():
        out.mkdir(parents=True, exist_ok=True)
        for kind, head, size in (("images-idx3", 16, 28 * 28), ("labels-idx1", 8, 1)):
            raw = gzip.decompress((data / f"train-{kind}-ubyte.gz").read_bytes())
            count = np.array(IMAGES, ">u4").tobytes()
            cut = raw[:4] + count + raw[8:head] + raw[head : head + IMAGES * size]
            (out / f"train-{kind}-ubyte.gz").write_bytes(gzip.compress(cut))
            shutil.copy(data / f"t10k-{kind}-ubyte.gz", out)
    return str(out)


def arms(data: str, teachers: tuple[str, ...], out: Path, seed: int) -> dict[str, Callable[[str], Trained]]:
    """Return the arms by name, each taking its run folder."""
    learning = replace(LEARN, seed=seed)

    def stored(place: str, *, views: int, top: int | None = None, sampled: int = 0) -> Trained:
        cut = f"{out / 'labels'}-{views}-{f'sampled-{sampled}' if sampled else top}"
        if not Path(cut, "labels.json").exists():
            merge_labels((str(out / "labels"),), views=views, top=top, sampled=sampled, dtype="float16", out=cut)
        return distill(data=data, student="resnet8", arguments=STUDENT, labels=cut, out=place, training=learning)

    def hard(place: str) -> Trained:
        return teach(data=data, model="resnet8", arguments=STUDENT, out=place, training=learning)

    def live(place: str) -> Trained:
        return distill(data=data, student="resnet8", arguments=STUDENT, teachers=teachers, out=place, training=learning)

    grid = {f"{v} views, {f'top-{k}' if k else 'all'}": partial(stored, views=v, top=k) for v in VIEWS for k in TOP}
    drawn = {f"{max(VIEWS)} views, {n} sampled": partial(stored, views=max(VIEWS), sampled=n) for n in SAMPLED.values()}
    return {"hard labels": hard, "live": live, **grid, **drawn}


def table(out: Path, names: list[str]) -> None:
    """Print mean and spread of what has been run."""
    found: dict[str, list[float]] = {}
    for name in names:
        results = [json.loads(p.read_text()) for p in sorted(out.glob(f"{name}-[0-9]/results.json"))]
        if results:
            found[name] = [100 * result["evaluation"]["top1"] for result in results]
    print("| labels | mean | lowest | highest | seeds |\n|---|---|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {statistics.mean(values):.2f} | {min(values):.2f} | {max(values):.2f} | {len(values)} |")
    print("--result " + json.dumps(found))


if __name__ == "__main__":
    main()
