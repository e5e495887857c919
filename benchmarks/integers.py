"""What integers cost: top-1 lost at 16 bits, 8 bits and 4-bit weights, by calibration and by training, and latencies.

    OMP_NUM_THREADS=1 python benchmarks/integers.py --runs runs/dsodenet20-0 runs/resnet20-0 --out runs/integers

Runs are folders that teach or distill wrote, named NET-SEED; the table has means over seeds. Ranges (least squared
error, all, 99.99 %) are chosen by agreement with the float net on training images that calibration hasn't seen. With
training, the integer net learns the float net's answers on --limit images, without labels. Latencies, and the 8-bit
ONNX file, are those of each net's first run: CPU time of one image at a time, one thread, formats taking turns. What
is measured is kept in --out and not measured again. Prints tables and, last, one JSON line.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from limbeck.artefacts.models import load_model
from limbeck.deploy.comparison import compare, sample
from limbeck.deploy.quantise import fit_to, widths
from limbeck.images.source import Source
from limbeck.images.sources import open_source
from limbeck.integer import file
from limbeck.integer.graph import pixels
from limbeck.integer.lower import lower
from limbeck.integer.program import Program, predict
from limbeck.integer.qat import prepare_qat
from limbeck.integer.survey import stored
from limbeck.nets import zoo
from limbeck.training.sets import balanced, judged
from limbeck.training.settings import Training
from limbeck.verbs.export import export

BITS = ("16", "8", "w4a8")
TRAINED = ("8", "w4a8")  # 16 bits lose nothing that training could bring back
RANGES = ("mse", "minmax", "percentile")  # of 8-bit maps; 16-bit maps take them all
CALIBRATION, JUDGED = 512, 1024  # images
LATENCIES = ("PyTorch", "float ONNX", "8-bit ONNX", "Program, 8 bits")
Cells = dict[str, Any]


class Case(NamedTuple):
    """A trained net and what it is measured with."""

    net: zoo.Classifier
    train: Source
    held_out: Source
    seen: Tensor  # uint8 images to calibrate with
    judged: Tensor  # uint8 images to choose ranges by


def main() -> None:
    """Measure what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", required=True)
    parser.add_argument("--out", default="runs/integers")
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--epochs", type=int, default=1, help="of training the integers")
    parser.add_argument("--limit", type=int, default=25_600, help="training images an epoch")
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--rounds", type=int, default=40, help="of the latencies")
    given = parser.parse_args()
    torch.set_num_threads(1)
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    learning = Training(epochs=given.epochs, limit=given.limit, lr=given.lr, weight_decay=0.0, nesterov=True, workers=0)
    first: dict[str, str] = {}
    for run in given.runs:
        first.setdefault(name_of(run), run)
    found = {}
    for run in given.runs:
        found[run] = measured(run, out / f"{Path(run).name}.json", given.data, learning)
        if first[name_of(run)] == run:
            found[run] |= clocked(run, out / f"{Path(run).name}-latency.json", out, given.data, given.rounds)
    print_drops(found)
    print_latencies([found[run] for run in first.values()], list(first))
    print("--result " + json.dumps(found))


def name_of(run: str) -> str:
    return Path(run).name.rpartition("-")[0]


def measured(run: str, place: Path, data: str, learning: Training) -> Cells:
    """Return the run's cells, measuring those that `place` does not have."""
    cells: Cells = json.loads(place.read_text()) if place.exists() else {}
    case: Case | None = None
    for bits in BITS:
        for trained in (False, True) if bits in TRAINED else (False,):
            key = f"{bits}, {'trained' if trained else 'calibrated'}"
            if key in cells:
                continue
            case = case or opened(run, data)
            begun = time.process_time()
            ranges, program = by_training(case, bits, learning) if trained else by_calibration(case, bits)
            file.save(program, place.with_name(f"{place.stem}-{bits}{'-trained' if trained else ''}.program"))
            cells |= {key: {"ranges": ranges, "stored": stored(program), **score(case, program)}}
            cells[key]["cpu_seconds"] = time.process_time() - begun
            place.write_text(json.dumps(cells, indent=1))
            print(f"{Path(run).name}, {key}: {cells[key]}", flush=True)
    return cells


def opened(run: str, data: str) -> Case:
    net = zoo.load(run).eval()
    train = open_source(data, "train")
    images = sample(net, train, CALIBRATION + JUDGED, 0)
    return Case(net, train, open_source(data, "val"), images[:CALIBRATION], images[CALIBRATION:])


def formats(bits: str) -> dict[str, int]:
    weights, activations = widths(bits)
    return {"weight_bits": weights, "activation_bits": activations}


def by_calibration(case: Case, bits: str) -> tuple[str, Program]:
    """Return the best ranges and their Program."""
    tried = ("mse",) if bits == "16" else RANGES
    made = {ranges: lower(case.net, case.seen, ranges=ranges, **formats(bits)) for ranges in tried}
    with torch.no_grad():
        said = case.net(case.judged).argmax(1).numpy()
    ready = pixels(case.net, case.judged).numpy()
    agreement = {ranges: float((predict(program, ready) == said).mean()) for ranges, program in made.items()}
    best = max(tried, key=lambda ranges: agreement[ranges])
    return best, made[best]


def by_training(case: Case, bits: str, learning: Training) -> tuple[str, Program]:
    """Return the Program of a net that was trained in its integers, from the ranges of least squared error."""
    student = prepare_qat(case.net, case.seen, **formats(bits))
    source = case.train if learning.limit is None else balanced(case.train, learning.limit, learning.seed)
    fit_to(case.net, student, source, learning, lambda _event, _values: None)
    return "mse", lower(student, case.seen)


def score(case: Case, program: Program) -> Cells:
    """Return top-1 in per cent of the float net and of the Program, and how often they agree."""
    net = case.net.eval()

    def call(images: Tensor) -> Tensor:
        return torch.from_numpy(predict(program, pixels(net, images).numpy()))

    done = compare(net, call, judged(net, case.held_out, 250, workers=0), len(case.held_out))
    assert done.top1 is not None
    assert done.float_top1 is not None
    return {"float": 100 * done.float_top1, "top1": 100 * done.top1, "same": 100 * done.agreement}


def clocked(run: str, place: Path, out: Path, data: str, rounds: int) -> Cells:
    """Return the 8-bit ONNX file's top-1, and CPU milliseconds of one image in each format."""
    if place.exists():
        return json.loads(place.read_text())
    paths = {name: str(out / f"{Path(run).name}-{name}.onnx") for name in ("onnx", "onnx-int8")}
    export(run, out=paths["onnx"], data=data, workers=0)
    eight = export(run, out=paths["onnx-int8"], format="onnx-int8", data=data, workers=0).compared
    assert eight is not None
    net = zoo.freeze(zoo.load(run), dtype="float32")
    program = load_model(str(out / f"{Path(run).name}-8.program"))
    nets = dict(zip(LATENCIES, (net, load_model(paths["onnx"]), load_model(paths["onnx-int8"]), program), strict=True))
    image = torch.randint(0, 256, (1, net.input.channels, net.input.size, net.input.size), dtype=torch.uint8)
    times = turns({name: (lambda asked=asked: asked(image)) for name, asked in nets.items()}, rounds)
    cells = {"int8_onnx": {"float": 100 * (eight.float_top1 or 0), "top1": 100 * (eight.top1 or 0)}, "cpu_ms": times}
    place.write_text(json.dumps(cells, indent=1))
    return cells


def turns(calls: dict[str, Callable[[], object]], rounds: int, times: int = 10) -> dict[str, float]:
    """Return the median CPU milliseconds of a call; calls take turns, and the first round is not counted."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, call in calls.items():
                begun = time.process_time()
                for _ in range(times):
                    call()
                if number:
                    found[name].append(1000 * (time.process_time() - begun) / times)
    return {name: statistics.median(values) for name, values in found.items()}


def print_drops(found: dict[str, Cells]) -> None:
    """Print a row for each net and format: points lost, mean (least to most) over its runs."""
    print("| net | runs | float top-1 | bits | stored, bytes | lost, calibrated | lost, trained |")
    print("|---|---:|---:|---|---:|---:|---:|")
    for net in dict.fromkeys(map(name_of, found)):
        runs = [cells for run, cells in found.items() if name_of(run) == net]
        whole = statistics.mean(cells["8, calibrated"]["float"] for cells in runs)
        for bits in BITS:
            lost = [drops(runs, f"{bits}, {how}") for how in ("calibrated", "trained")]
            size = runs[0][f"{bits}, calibrated"]["stored"]
            print(f"| {net} | {len(runs)} | {whole:.2f} | {bits} | {size:,} | {lost[0]} | {lost[1]} |")


def drops(runs: list[Cells], key: str) -> str:
    values = [cells[key]["float"] - cells[key]["top1"] for cells in runs if key in cells]
    if not values:
        return "-"
    spread = f" ({min(values):+.2f} to {max(values):+.2f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.2f}{spread}"


def print_latencies(cells: list[Cells], runs: list[str]) -> None:
    """Print CPU milliseconds of one image, and what onnxruntime's own 8 bits lose."""
    print("| net | " + ", CPU-ms | ".join(LATENCIES) + ", CPU-ms | 8-bit ONNX lost |")
    print("|---|" + "---:|" * (len(LATENCIES) + 1))
    for net, each in zip(runs, cells, strict=True):
        shown = " | ".join(f"{each['cpu_ms'][name]:.2f}" for name in LATENCIES)
        print(f"| {net} | {shown} | {each['int8_onnx']['float'] - each['int8_onnx']['top1']:+.2f} |")


if __name__ == "__main__":
    main()
