"""What data and bookkeeping cost a training step, where small images are held in memory: their share of the CPU time.

Two measures, one thread, batch 128, 28 px grey images as Fashion-MNIST has. `share`: fit's CPU time outside forward,
backward and the optimiser's arithmetic, timed inside a run of fit. `bare`: a loop of that arithmetic alone over one
batch, no accuracy counted, nothing fetched; it takes turns with fit.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

BATCH, SIZE, CLASSES = 128, 28, 10
NETS = ("resnet8", "resnet20", "dsodenet20")


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


class Clock:
    """CPU-seconds of the process, within what it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function):
        def timed(*args, **kwargs):
            begun = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - begun

        return timed


def measure(name: str, steps: int, rounds: int) -> dict[str, list[float]]:
    """Return the CPU-seconds of `steps` steps, round by round: all of fit, its arithmetic, the bare loop."""
    import torch
    from accelerate import Accelerator
    from PIL import Image
    from torch.nn.functional import cross_entropy

    from limbeck.images.loader import batches
    from limbeck.images.source import Source
    from limbeck.images.views import Augment
    from limbeck.learn import objectives
    from limbeck.learn.fit import Loop, fit, make_optimizer
    from limbeck.nets import zoo

    torch.manual_seed(0)
    count = steps * BATCH
    source = Source(
        spec="random", split="train", classes=tuple("0123456789"), labels=torch.randint(CLASSES, (count,)),
        keys=tuple(map(str, range(count))), channels=1, sizes=torch.full((count, 2), SIZE, dtype=torch.int32),
        read=lambda index: Image.new("L", (SIZE, SIZE)), fingerprint="",
        pixels=torch.randint(256, (count, 1, SIZE, SIZE), dtype=torch.uint8),
    )  # fmt: skip
    accelerator = Accelerator(cpu=True)

    def student():
        net = zoo.create(name, classes=source.classes, channels=1, size=SIZE, mean=(0.29,), std=(0.35,))
        net.to(memory_format=torch.channels_last)
        return net, make_optimizer(net, kind="sgd", lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)

    net, optimizer = student()
    clock = Clock()
    optimizer.step = clock.around(optimizer.step)
    augment = Augment(SIZE, kind="shift")
    module = accelerator.prepare(net)
    loop = Loop(
        objective=clock.around(objectives.supervised(module)), modules={"student": module},
        optimizer=accelerator.prepare(optimizer), batches=lambda epoch, start: batches(
            source, augment, batch=BATCH, seed=0, epoch=epoch, start=start
        ), steps=steps, epochs=1, factor=lambda epoch: 1.0, accelerator=accelerator,
    )  # fmt: skip
    bare, bare_optimizer = student()
    images, labels = source.pixels[:BATCH], source.labels[:BATCH]
    backward = torch.Tensor.backward

    def fitted() -> None:
        torch.Tensor.backward = clock.around(backward)
        fit(loop)
        torch.Tensor.backward = backward

    def bare_loop() -> None:
        bare.train()
        for _ in range(steps):
            bare_optimizer.zero_grad()
            cross_entropy(bare(images), labels).backward()
            bare_optimizer.step()

    found: dict[str, list[float]] = {"fit": [], "arithmetic": [], "bare": []}
    for turn in range(rounds + 1):
        clock.seconds = 0.0
        begun = time.process_time()
        fitted()
        middle = time.process_time()
        bare_loop()
        if turn:
            found["fit"].append(middle - begun)
            found["arithmetic"].append(clock.seconds)
            found["bare"].append(time.process_time() - middle)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=50, help="steps a round")
    told = parser.parse_args()

    import torch

    import limbeck
    from limbeck.training.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()  # as every training verb does
    print(f"{cpu_model()}; limbeck {limbeck.__version__}, torch {torch.__version__}; one thread, batch {BATCH}")
    print(
        "\n| net | CPU-ms per step | data, bookkeeping | bare loop, CPU-ms | fit over bare |\n|---|---:|---:|---:|---:|"
    )
    nets = {}
    for name in NETS:
        found = measure(name, told.steps, told.rounds)
        step, bare = (1e3 * statistics.median(found[key]) / told.steps for key in ("fit", "bare"))
        share = statistics.median(1 - a / f for a, f in zip(found["arithmetic"], found["fit"], strict=True))
        over = statistics.median(f / b - 1 for f, b in zip(found["fit"], found["bare"], strict=True))
        nets[name] = {"step_ms": round(step, 2), "share": round(share, 4), "bare_ms": round(bare, 2)}
        nets[name]["over_bare"] = round(over, 4)
        print(f"| {name} | {step:.2f} | {share:.1%} | {bare:.2f} | {over:+.1%} |", flush=True)
    versions = {"limbeck": limbeck.__version__, "torch": torch.__version__, "python": platform.python_version()}
    result = {"benchmark": "step_overhead", "cpu": cpu_model(), "versions": versions, "batch": BATCH, "nets": nets}
    print("--result " + json.dumps(result))


if __name__ == "__main__":
    main()
