"""Images per CPU-second of distilling ResNet-50 into MobileNetV3-Small at 224 px, beside timm's own task and loader.

Each system is a process of its own that trains epoch after epoch over the same JPEGs on one thread; the processes
take turns, so that what else the machine does falls on all alike. CPU time is user and system time of the process and
of its loader's worker. `limbeck distill` runs as its user runs it. What timm's train.py does is composed from the
wheel, which does not bring that script: create_loader, LogitDistillationTask, create_optimizer_v2.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SIZE, BATCH, CLASSES = 224, 32, 10
TEACHER, STUDENT = "resnet50", "mobilenetv3_small_100"
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}  # glibc's, as limbeck sets them
BEST = {"best": True}
SYSTEMS = {
    "limbeck distill": {},
    "timm, defaults": {"best": False},
    "timm, channels_last, bfloat16 amp": BEST,
    "the same, teacher compiled": {**BEST, "compiled": "teacher"},
    "the same, glibc told to keep memory": {**BEST, "environment": KEPT},
    "the same, teacher compiled, memory kept": {**BEST, "compiled": "teacher", "environment": KEPT},
    "the same, all compiled (--torchcompile)": {**BEST, "compiled": "all"},
}
USUAL = [0, 1, 2, 3, 4, 5]  # compiling the student takes minutes and makes it slower


def make_photos(folder: Path, count: int) -> None:
    """Write `count` 500x375 JPEGs of quality 90 to train on, and one a class to keep: noise with a photo's 1/f
    spectrum, and discs with edges."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.rfftfreq(500), np.fft.fftfreq(375)))
    amplitude = 1 / np.maximum(frequency, 1 / 500) ** 1.1
    y, x = np.mgrid[:375, :500]
    for number in range(count + CLASSES):
        planes = np.fft.irfft2(np.fft.rfft2(random.normal(size=(3, 375, 500))) * amplitude, (375, 500))
        planes /= planes.std()
        grey, *colours = planes
        for _ in range(6):  # objects, each of a brightness of its own
            a, b, r = random.uniform(0, 375), random.uniform(0, 500), random.uniform(20, 150)
            grey = grey + random.normal() * (np.hypot(y - a, x - b) < r)
        image = np.stack([grey, grey + 0.4 * colours[0], grey + 0.4 * colours[1]], axis=2)
        pixels = np.clip(120 + 45 * image, 0, 255).astype(np.uint8)
        split = "train" if number < count else "val"
        place = folder / split / f"{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:04d}.jpg", quality=90)


def make_teacher(folder: Path) -> None:
    import timm
    import torch
    from timm.models import save_for_hf

    torch.manual_seed(0)
    save_for_hf(timm.create_model(TEACHER, num_classes=CLASSES), folder, model_config={"num_classes": CLASSES})


# ---- one system, in a process of its own ------------------------------------------------------------------


def cpu_seconds() -> float:
    """Return user and system seconds of this process, its threads and its children, the living ones too."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            with contextlib.suppress(OSError):  # it has just ended, and is counted next time
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class Turns:
    """Trains an epoch when told so on standard input, and answers with its CPU-seconds."""

    def __init__(self) -> None:
        self.since = 0.0

    def begin(self) -> None:
        if not sys.stdin.readline():
            raise SystemExit
        self.since = cpu_seconds()

    def end(self) -> None:
        print("TURN", cpu_seconds() - self.since, flush=True)


def limbeck_epochs(folder: Path, turns: Turns) -> None:
    import limbeck
    from limbeck.training.settings import Training

    def tell(event: str, about: dict[str, object]) -> None:
        if event == "epoch":
            turns.end()
            turns.begin()

    turns.begin()  # the first epoch includes the setting up
    training = Training(epochs=10**6, batch=BATCH, lr=0.05, weight_decay=2e-5, nesterov=True, workers=1, augment="crop",
                        validate_every=10**6, schedule="constant")  # fmt: skip
    limbeck.distill(
        data=str(folder / "photos"), student=STUDENT, teachers=(f"local-dir:{folder / 'teacher'}",),
        out=str(folder / "run"), training=training, tell=tell,
    )  # fmt: skip


def timm_epochs(folder: Path, turns: Turns, *, best: bool, compiled: str) -> None:
    import torch
    from timm.data import create_dataset, create_loader, resolve_data_config
    from timm.models import create_model
    from timm.optim import create_optimizer_v2
    from timm.task import DistillationTeacher, LogitDistillationTask
    from timm.utils import AverageMeter

    device = torch.device("cpu")
    student = create_model(STUDENT, num_classes=CLASSES)
    config = resolve_data_config({}, model=student)
    teacher = DistillationTeacher(f"local-dir:{folder / 'teacher'}", num_classes=CLASSES, device=device)
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    if best:
        student.to(memory_format=torch.channels_last)
        teacher.to(memory_format=torch.channels_last)
    task = LogitDistillationTask(student, teacher, task_loss_weight=0.0, distill_loss_weight=1.0, temperature=1.0)
    optimizer = create_optimizer_v2(student, opt="sgd", lr=0.05, momentum=0.9, weight_decay=2e-5)
    if compiled == "all":
        task.compile()
    elif compiled == "teacher":
        teacher.compile()
    loader = create_loader(
        create_dataset("", root=str(folder / "photos"), split="train", is_training=True),
        input_size=config["input_size"], batch_size=BATCH, is_training=True, mean=config["mean"], std=config["std"],
        color_jitter=0.0 if best else 0.4, interpolation="bilinear" if best else "random", num_workers=1,
        device=device,
    )  # fmt: skip
    losses = AverageMeter()
    while True:
        turns.begin()
        task.train()
        optimizer.zero_grad()
        for images, target in loader:
            given = images.contiguous(memory_format=torch.channels_last) if best else images
            with torch.autocast("cpu", torch.bfloat16, enabled=best):
                loss = task(given, target)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.update(loss.item(), len(given))
        turns.end()


def serve(folder: Path, name: str) -> None:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = SYSTEMS[name]
    if settings:
        timm_epochs(folder, Turns(), best=settings["best"], compiled=settings.get("compiled", ""))
    else:
        limbeck_epochs(folder, Turns())


# ---- all systems, in turns --------------------------------------------------------------------------------


def measure(folder: Path, names: list[str], rounds: int, images: int) -> dict[str, list[float]]:
    """Return each system's images per CPU-second, epoch by epoch, after one that is not counted."""
    processes = {}
    for number, name in enumerate(names):
        own = folder / f"system{number}"
        own.mkdir()
        for shared in ("photos", "teacher"):
            (own / shared).symlink_to(folder / shared)
        command = [sys.executable, __file__, "--system", name, "--folder", str(own)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **SYSTEMS[name].get("environment", {})}
        processes[name] = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name, process in processes.items():
            process.stdin.write("\n")
            process.stdin.flush()
            seconds = next((float(line.split()[1]) for line in process.stdout if line.startswith("TURN")), None)
            if seconds is None:
                raise SystemExit(f"{name} ended with code {process.wait()}")
            print(f"turn {turn}: {name}: {seconds:.1f} CPU-seconds", file=sys.stderr, flush=True)
            if turn:
                rates[name].append(images / seconds)
            else:
                rates[name + " first"] = [seconds]
    for process in processes.values():
        process.kill()
        process.wait()
    return rates


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="epochs that count, for each system")
    parser.add_argument("--images", type=int, default=512)
    numbers = parser.add_argument("--systems", type=int, nargs="+", default=USUAL, choices=range(len(SYSTEMS)))
    numbers.help = "; ".join(f"{number}: {name}" for number, name in enumerate(SYSTEMS))
    parser.add_argument("--system", choices=list(SYSTEMS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.system:
        return serve(told.folder, told.system)

    import timm
    import torch
    from PIL import Image

    import limbeck

    names = [list(SYSTEMS)[number] for number in told.systems]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(folder / "photos", told.images)
        make_teacher(folder / "teacher")
        bytes_ = statistics.mean(path.stat().st_size for path in (folder / "photos" / "train").rglob("*.jpg"))
        rates = measure(folder, names, told.rounds, told.images // BATCH * BATCH)
    versions = {"limbeck": limbeck.__version__, "torch": torch.__version__, "timm": timm.__version__}
    versions |= {"pillow": Image.__version__, "python": platform.python_version()}
    medians = {name: statistics.median(rates[name]) for name in names}
    ours = medians["limbeck distill"]
    print(f"{cpu_model()}; " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    print(f"{told.images} JPEGs of 500x375, {bytes_ / 1e3:.0f} kB each; one thread, batch {BATCH}, {SIZE} px")
    print(f"\n| {'system':39} | images / CPU-s | range | limbeck is |\n|{'-' * 41}|---:|---:|---:|")
    for name, rate in medians.items():
        print(f"| {name:39} | {rate:.1f} | {min(rates[name]):.1f}-{max(rates[name]):.1f} | {ours / rate:.2f}x |")
    result = {
        "benchmark": "distill", "cpu": cpu_model(), "versions": versions, "images": told.images, "batch": BATCH,
        "images_per_cpu_second": {name: round(rate, 2) for name, rate in medians.items()},
        "first_epoch_cpu_seconds": {name: round(rates[name + " first"][0], 1) for name in names},
        "limbeck_is": {name: round(ours / rate, 3) for name, rate in medians.items()},
    }  # fmt: skip
    print("--result " + json.dumps(result))
    return None


if __name__ == "__main__":
    main()
