"""How much of the gap between source-only and oracle do methods close? All pairs of digit domains, or those named.

    python benchmarks/adaptation.py --out runs/adaptation --seeds 0 1 2

For each net and seed: a net is taught on each source, and one on each target (the oracle); each method adapts the
former. Accuracies are of the targets' test split, which nothing was chosen by. What is finished is not run again, so an
interrupted benchmark goes on with the same command. Prints the pairs, how each method's worst seed stands to
source-only, what each label-free criterion picks (top-1 on the held-out split), and, last, one JSON line.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Literal

import torch

from limbeck.nets.classifier import computes_bfloat16
from limbeck.training.adaptation.methods import Terms
from limbeck.training.settings import Training
from limbeck.verbs.adapt import adapt
from limbeck.verbs.evaluate import evaluate
from limbeck.verbs.teach import teach

DOMAINS = ("digits:mnist", "digits:mfeat", "digits:optdigits")
PHOTOS = ("digits:mnist", "digits:mnist-m-like")
METHODS: dict[str, dict] = {
    "statistics": {"method": "norm", "source_free": True},
    "randomised source": {"terms": Terms(source_weight=1.0), "method": "norm"},  # no term looks at the target
    "CORAL": {"method": "coral"},
    "MobileDA": {"method": "mobileda"},
    "DANN": {"method": "dann"},
    "CDAN+MCC": {"method": "cdan", "terms": Terms(mcc=1.0)},
    "MCC": {"method": "mcc"},
    "default": {},
    "default, taught": {},
    "default, ensemble": {},
    "default, second round": {},
    "TENT, source-free": {"method": "tent", "source_free": True},
    "SHOT, source-free": {"method": "shot", "source_free": True},
}
TEACHER = "resnet20"  # adapted by the default method
TAUGHT = ("MobileDA", "default, taught")  # by the teacher of the same seed
ENSEMBLE = "default, ensemble"  # taught by those of all seeds: figures then share their teachers
SECOND = "default, second round"  # taught by those that were so taught


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/adaptation")
    parser.add_argument("--nets", nargs="+", default=["dsodenet20", "resnet20"])
    parser.add_argument("--arguments", nargs="*", default=[], help="of the nets, as width=8")
    parser.add_argument("--pairs", nargs="+", help="as digits:mnist,digits:mfeat")
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--epochs", type=int, default=20, help="of an adaptation")
    parser.add_argument("--teach-epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.05, help="of an adaptation")
    parser.add_argument("--limit", type=int, help="images per domain")
    given = parser.parse_args()
    pairs = [tuple(pair.split(",")) for pair in given.pairs or ()] or [*orderings(), PHOTOS]
    methods = given.methods or list(METHODS)
    rows = []
    for net, (source, target) in product(given.nets, pairs):
        found = [measured(given, net, source, target, seed, methods) for seed in given.seeds]
        rows.append({"net": net, "source": source, "target": target, "seeds": given.seeds, **joined(found)})
        print(line(rows[-1], methods), flush=True)
    print()
    print(worst_table(rows, methods))
    print()
    print(picks_table(rows, methods))
    print(json.dumps({"benchmark": "adaptation", "rows": rows}))


def orderings() -> Iterator[tuple[str, str]]:
    """Yield every ordered pair of the built-in domains."""
    yield from ((source, target) for source, target in product(DOMAINS, DOMAINS) if source != target)


def measured(given: argparse.Namespace, net: str, source: str, target: str, seed: int, methods: list[str]) -> dict:
    """Return the test accuracies of one net, pair and seed, and what each criterion would have picked."""
    model, oracle = (taught(given, net, domain, seed) for domain in (source, target))
    found = {"source-only": tested(model, target), "oracle": tested(oracle, target)}
    picks = {}
    for method in methods:
        settings = dict(METHODS[method])
        if method in TAUGHT:
            settings["teachers"] = (adapted(given, TEACHER, source, target, seed, "default", {})[0],)
        elif method in (ENSEMBLE, SECOND):
            settings["teachers"] = first_round(given, source, target)
        if method == SECOND:
            settings["teachers"] = tuple(
                adapted(given, TEACHER, source, target, s, ENSEMBLE, settings)[0] for s in given.seeds
            )
        run, picks[method] = adapted(given, net, source, target, seed, method, settings)
        found[method] = tested(run, target)
    return {"top1": found, "picks": picks}


def first_round(given: argparse.Namespace, source: str, target: str) -> tuple[str, ...]:
    """Return the teachers of all seeds, adapted by the default method."""
    return tuple(adapted(given, TEACHER, source, target, seed, "default", {})[0] for seed in given.seeds)


def taught(given: argparse.Namespace, net: str, data: str, seed: int) -> str:
    """Return the run of a net taught on the domain's labels."""
    out = Path(given.out) / f"{net}-{short(data)}-{seed}"
    if not (out / "results.json").exists():
        training = Training(
            epochs=given.teach_epochs, seed=seed, size=given.size, limit=limit_of(given, data), batch=64, resume=True,
            precision=precision_of(net),
        )  # fmt: skip
        teach(data=data, model=net, arguments=tuple(given.arguments), out=str(out), training=training)
    return str(out)


def adapted(
    given: argparse.Namespace, net: str, source: str, target: str, seed: int, method: str, settings: dict
) -> tuple[str, dict]:
    """Return the run of an adaptation, and what each criterion picks of its epochs."""
    model = taught(given, net, source, seed)
    name = method.lower().replace(", ", "-").replace(" ", "-")
    out = Path(given.out) / f"{net}-{short(source)}-{short(target)}-{name}-{seed}"
    if not (out / "results.json").exists():
        training = Training(
            epochs=given.epochs, batch=64, lr=given.lr, seed=seed, resume=True, precision=precision_of(net),
            limit=min((n for n in (limit_of(given, d) for d in (source, target)) if n), default=None),
        )  # fmt: skip
        own = settings if settings.get("source_free") else {"source": source, **settings}
        done = adapt(model, target=target, out=str(out), training=training, **own)
        print(
            f"  {out.name}: {done.report.source_only:.1%} -> {done.report.adapted:.1%}, {done.seconds:.0f} s",
            flush=True,
        )
    report = json.loads((out / "results.json").read_text())["report"]
    return str(out), {criterion: top1 for criterion, (_, top1) in report["picks"].items()}


def precision_of(net: str) -> Literal["float32", "bfloat16"]:
    """Dense nets train 1.8 times as fast in bfloat16 where hardware has it, separable ones no faster."""
    return "bfloat16" if computes_bfloat16(torch.device("cpu")) and not net.startswith("ds") else "float32"


def limit_of(given: argparse.Namespace, data: str) -> int | None:
    """Return how many images of a domain are used: all, where it has fewer than --limit."""
    counts = {"digits:mfeat": 1400, "digits:optdigits": 1197}
    return given.limit and min(given.limit, counts.get(data, 4000))


def short(data: str) -> str:
    return data.rpartition(":")[2].replace("/", "-")


def tested(run: str, data: str) -> float:
    """Return the run's accuracy on the test split, measured once."""
    path = Path(run) / f"test-{short(data)}.json"
    if not path.exists():
        path.write_text(json.dumps({"top1": evaluate(run, data=data, split="test").evaluation.top1}))
    return json.loads(path.read_text())["top1"]


def joined(seeds: list[dict]) -> dict:
    """Return mean, spread and share of the gap closed of each method, and the seeds' own figures."""
    names = seeds[0]["top1"]
    every = {name: [seed["top1"][name] for seed in seeds] for name in names}
    mean = {name: statistics.mean(values) for name, values in every.items()}
    gap = mean["oracle"] - mean["source-only"]
    closed = {name: (value - mean["source-only"]) / gap if gap > 0 else None for name, value in mean.items()}
    picks = {
        method: {c: statistics.mean(seed["picks"][method][c] for seed in seeds) for c in criteria}
        for method, criteria in seeds[0]["picks"].items()
    }
    spread = {name: statistics.stdev(values) if len(values) > 1 else 0.0 for name, values in every.items()}
    return {"mean": mean, "spread": spread, "closed": closed, "every": every, "picks": picks}


def line(row: dict, methods: list[str]) -> str:
    """Return one pair's figures as lines of text."""
    head = f"{row['net']}, {short(row['source'])} -> {short(row['target'])}"
    shown = [f"{name} {cell(row, name)}" for name in ("source-only", *methods, "oracle")]
    return head + "".join(f"\n    {text}" for text in shown)


def cell(row: dict, name: str) -> str:
    closed = row["closed"][name]
    share = f" ({closed:.0%} of the gap)" if closed is not None and name not in ("source-only", "oracle") else ""
    return f"{row['mean'][name]:.1%} ± {row['spread'][name]:.1%}{share}"


def worst_table(rows: list[dict], methods: list[str]) -> str:
    """Return, of each method, the pair and seed whose gain over source-only is least, in points of top-1."""
    lines = ["| method | least gain over source-only | where |", "|---|---:|---|"]
    for method in methods:
        gains = [
            (100 * (after - before), f"{row['net']}, {short(row['source'])} to {short(row['target'])}, seed {seed}")
            for row in rows
            for before, after, seed in zip(row["every"]["source-only"], row["every"][method], row["seeds"], strict=True)
        ]
        least, where = min(gains)
        lines.append(f"| {method} | {least:+.1f} | {where} |")
    return "\n".join(lines)


def picks_table(rows: list[dict], methods: list[str]) -> str:
    """Return the mean accuracy of each criterion's picks, by method, on the held-out split."""
    criteria = list(dict.fromkeys(name for row in rows for picks in row["picks"].values() for name in picks))
    lines = [f"| method | {' | '.join(criteria)} |", "|---" * (1 + len(criteria)) + "|"]
    for method in methods:
        found = {name: [row["picks"][method].get(name) for row in rows] for name in criteria}
        cells = ["-" if None in values else f"{100 * statistics.mean(values):.1f}" for values in found.values()]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
