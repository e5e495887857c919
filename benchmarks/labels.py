"""Training from stored labels against its neighbours: plain training, live teachers, timm's distillation task.

    OMP_NUM_THREADS=1 python benchmarks/labels.py            # about 15 minutes on one core
    OMP_NUM_THREADS=1 python benchmarks/labels.py --quick    # a minute or two, to see that it runs

One process and one thread do everything, decoding included, and the figure is images per second of processor time,
so other work on the machine hardly counts; systems take turns. With --device cuda it is images per second of the clock.
Prints one table and, last, one JSON line.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from limbeck.images.labelling import write_shard, writing
from limbeck.images.labels import LabelStore, pack, recover
from limbeck.images.loader import Batch, batches
from limbeck.images.manifest import Manifest, Teacher, begin, record_kind
from limbeck.images.source import Source
from limbeck.images.sources import open_source
from limbeck.images.views import Augment
from limbeck.learn import objectives
from limbeck.nets import zoo

CLASSES = tuple(f"class{i}" for i in range(10))
SIZE, VIEWS = 224, 8
LINEAGE = {"tag": "resnet50, random weights", "data": "", "licence": "", "sha256": "", "teachers": []}


def photographs(folder: Path, number: int) -> Source:
    """Write JPEGs of 375 x 500 pixels that compress as photographs do: noise of low frequency."""
    generator = np.random.default_rng(0)
    for i in range(number):
        coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        path = folder / "train" / CLASSES[i % len(CLASSES)] / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
    return open_source(str(folder), "train")


def clock(device: torch.device) -> float:
    """Return seconds: of this process on a CPU, else of the clock once the device is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def manifest_of(source: Source, classes: tuple[str, ...], views: int, dtype: str, **changes) -> Manifest:
    """Return the manifest of a store of crops with what is default for so many classes."""
    kind, count = record_kind(len(classes), None, 0)
    values = {
        "data": source.spec, "fingerprint": source.fingerprint, "images": len(source), "classes": classes,
        "views": views, "seed": 0, "augment": Augment(SIZE), "kind": kind, "count": count, "dtype": "float16",
        "tail": "spread", "average": "probabilities", "weights": (1.0,), "temperature": 1.0, "teacher_dtype": dtype,
        "teachers": (Teacher("resnet50", None, LINEAGE),), "shard_images": len(source), **changes,
    }  # fmt: skip
    return Manifest(**values)


# ---- writing and reading ----------------------------------------------------------------------------------


def writing_rates(
    folder: Path, source: Source, teacher: nn.Module, batch: int, device: torch.device
) -> dict[str, float]:
    """Write a store; return views a second of writing, and of the teacher alone just before and after."""
    ask = objectives.ask([teacher])

    def answer(images: Tensor) -> Tensor:
        return ask(Batch(images, None, None, None)).target

    def bare(rounds: int) -> float:
        images = torch.randint(0, 256, (batch, 3, SIZE, SIZE), dtype=torch.uint8, device=device)
        answer(images)
        begun = clock(device)
        for _ in range(rounds):
            answer(images)
        return rounds * batch / (clock(device) - begun)

    made = begin(folder, manifest_of(source, CLASSES, VIEWS, "bfloat16"))
    rounds = max(2, len(source) * VIEWS // batch // 2)
    before = bare(rounds)
    begun = clock(device)
    write_shard(folder, made, 0, source, answer, batch=batch, workers=8 if device.type == "cuda" else 0, device=device)
    wrote = len(source) * VIEWS / (clock(device) - begun)
    alone = (before + bare(rounds)) / 2
    return {"teacher alone, views/s": alone, "writing, views/s": wrote, "share": wrote / alone}


def reading_rate(folder: Path, source: Source, images: int, views: int = 16) -> float:
    """Return records a second of a store of 1,000 classes, read in random batches to distributions."""
    classes = tuple(str(i) for i in range(1000))
    made = begin(folder, manifest_of(source, classes, views, "bfloat16", images=images, shard_images=images // 16))
    generator = np.random.default_rng(0)
    for shard in range(made.shards):
        with writing(folder, made, shard) as records:
            records["box"], records["id"] = 1, generator.integers(0, 1000, records["id"].shape)
            records["value"] = 0.1
    store = LabelStore.open(folder)
    order = torch.from_numpy(generator.permutation(images))
    begun = time.process_time()
    for epoch in range(4):
        for indices in order.split(256):
            store.targets(torch.full_like(indices, epoch), indices)
    return 4 * images / (time.process_time() - begun)


# ---- training ---------------------------------------------------------------------------------------------


def student() -> nn.Module:
    torch.manual_seed(0)
    made = zoo.create("mobilenetv3_small_100", classes=CLASSES, channels=3, size=SIZE)
    return made.to(memory_format=torch.channels_last)


def ours(make: Callable[[nn.Module], objectives.Objective], stream: Iterator[Batch], device: torch.device):
    """Return a training step; the student is float32, channels last."""
    net = student().to(device)
    objective, optimizer = make(net), torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        objective(next(stream))[0].backward()
        optimizer.step()

    return step


def timms(stream: Iterator[Batch], device: torch.device, *, best: bool):
    """Return a step of timm's LogitDistillationTask: as it comes, or with channels last and bfloat16 autocast."""
    from timm import create_model
    from timm.task import LogitDistillationTask

    torch.manual_seed(0)
    teacher, net = (create_model(name, num_classes=10).to(device) for name in ("resnet50", "mobilenetv3_small_100"))
    layout = torch.channels_last if best else torch.contiguous_format
    teacher, net = teacher.to(memory_format=layout), net.to(memory_format=layout)
    task = LogitDistillationTask(
        net, teacher.requires_grad_(False), distill_loss_weight=1.0, task_loss_weight=0.0, device=device, verbose=False
    ).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    mean, std = (torch.tensor(net.pretrained_cfg[key], device=device).view(1, 3, 1, 1) for key in ("mean", "std"))

    def step() -> None:
        batch = next(stream)
        images = ((batch.images.float() / 255 - mean) / std).to(memory_format=layout)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=best):
            loss = task(images, batch.labels)["loss"]
        loss.backward()
        optimizer.step()

    return step


def training_rates(
    source: Source, store: LabelStore, teacher: nn.Module, *, batch: int, steps: int, rounds: int, device: torch.device
) -> dict[str, float]:
    """Return images a second of every system: the median of `rounds`, in which they take turns of `steps` steps."""

    def stream(**more) -> Iterator[Batch]:
        workers = 8 if device.type == "cuda" else 0
        epochs = (
            batches(source, Augment(SIZE), batch=batch, seed=0, epoch=e, device=device, workers=workers, **more)
            for e in itertools.count()
        )
        return itertools.chain.from_iterable(epochs)

    def replay(net: nn.Module) -> objectives.Objective:
        return objectives.distill(net, objectives.recall)

    def live(net: nn.Module) -> objectives.Objective:
        return objectives.distill(net, objectives.ask([teacher]))

    systems = {
        "plain supervised, same views": ours(objectives.supervised, stream(stored=store), device),
        "from the store": ours(replay, stream(stored=store), device),
        "from the store, 4 views an image": ours(replay, stream(stored=store, repeats=4), device),
        "live teacher": ours(live, stream(), device),
        "timm's task, channels last, bfloat16": timms(stream(), device, best=True),
        "timm's task": timms(stream(), device, best=False),
    }
    found: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(rounds + 1):
        for name, step in systems.items():
            begun = clock(device)
            for _ in range(steps):
                step()
            if turn:  # the first turn allocates
                found[name].append(steps * batch / (clock(device) - begun))
    return {name: statistics.median(rates) for name, rates in found.items()}


# ---- what is lost -----------------------------------------------------------------------------------------


def bias(source: Source, views: int = 200, images: int = 40) -> dict[str, dict[str, float]]:
    """Return, for labels of 1,000 classes, bytes a view and two total variations: of a view's label to the teachers'
    answer, and of the mean label over an image's views to the mean answer, which is what bias leaves."""
    classes = tuple(str(i) for i in range(1000))
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(images, 1, 1000, generator=generator)
    target = (logits + torch.randn(images, views, 1000, generator=generator)).softmax(dim=2)
    ways = {
        "hard": {"kind": "top", "count": 1, "tail": "hard"},
        "top-5, renormalised": {"tail": "renormalise"},
        "top-5, spread": {},
        "10 sampled ids": {"kind": "sampled", "count": 10},
        "whole": {"kind": "whole", "count": 1000},
    }
    found = {}
    for name, changes in ways.items():
        made = manifest_of(source, classes, views, "float32", **changes)
        said = []
        for i in range(images):
            records = pack(made, target[i], np.full(views, i), np.arange(views))
            said.append(recover(made, records))
        label = torch.stack(said)
        found[name] = {
            "bytes": made.record.itemsize,
            "a view": float((label - target).abs().sum(2).mean() / 2),
            "mean of views": float((label.mean(1) - target.mean(1)).abs().sum(1).mean() / 2),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    device, quick = torch.device(arguments.device), arguments.quick
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    teacher = zoo.create("resnet50", classes=CLASSES, channels=3, size=SIZE).to(device)
    teacher = zoo.freeze(teacher, dtype="bfloat16")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = photographs(folder / "photographs", 48 if quick else 160)
        result: dict[str, object] = {"device": str(device), "batch": arguments.batch}
        result["writing"] = writing_rates(folder / "labels", source, teacher, arguments.batch, device)
        store = LabelStore.open(folder / "labels")
        result["reading, records/s"] = reading_rate(folder / "many", source, 2**14 if quick else 2**18)
        result["bias"] = bias(source, images=4 if quick else 40)
        result["training, images/s"] = rates = training_rates(
            source, store, teacher, batch=arguments.batch, steps=1 if quick else 4, rounds=1 if quick else 7,
            device=device,
        )  # fmt: skip
    show(result, rates)
    print(json.dumps(result))


def show(result: dict[str, object], rates: dict[str, float]) -> None:
    """Print the table."""
    base = rates["from the store"]
    print(f"{'training (224 px, ResNet-50 -> MobileNetV3-small)':52}{'images/s':>10}{'store is':>10}")
    for name, rate in rates.items():
        print(f"  {name:50}{rate:10.2f}{base / rate:9.2f}x")
    for name, value in result["writing"].items():
        print(f"{name:52}{value:10.3f}")
    print(f"{'reading, records/s':52}{result['reading, records/s']:10,.0f}")
    print(f"{'labels of 1,000 classes':30}{'bytes':>8}{'TV a view':>12}{'TV of mean':>12}")
    for name, row in result["bias"].items():
        print(f"  {name:28}{row['bytes']:8}{row['a view']:12.4f}{row['mean of views']:12.4f}")


if __name__ == "__main__":
    main()
