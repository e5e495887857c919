"""What teach and distill share: settings, data, the run folder, the loop, the closing evaluation."""

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck import runs
from limbeck.errors import InputError
from limbeck.runs import Tell

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from limbeck.data.loader import Batch
    from limbeck.data.sources import Source
    from limbeck.data.views import Augment
    from limbeck.learn.evaluate import Evaluation
    from limbeck.learn.objectives import Objective
    from limbeck.nets.zoo import Classifier


@dataclass(frozen=True)
class Training:
    """How to train. Every field is a flag and a recipe key."""

    epochs: int = 20
    """Passes over the training images."""
    batch: int = 128
    """Images a step and process."""
    accumulate: int = 1
    """Batches whose gradients make one optimiser step."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    """Learning rate; a tenth of it suits a net that is already trained."""
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    """Of weights; biases and norms are never decayed."""
    schedule: Literal["step", "cosine", "constant"] = "cosine"
    milestones: tuple[float, ...] = ()
    """Step schedule: epochs at which the rate is multiplied by gamma."""
    gamma: float = 0.1
    warmup: float = 0.0
    """Epochs of linear warm-up."""
    label_smoothing: float = 0.0
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, which is then what is evaluated and saved; 0: none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the trained net's arithmetic; bfloat16 helps dense nets on CPUs and GPUs that have it."""
    size: int | None = None
    """Side of the square that the net sees, in pixels; by default the images' own when they are small, else the net's."""
    augment: Literal["auto", "crop", "shift", "none"] = "auto"
    """crop: random resized crops; shift: small shifts; auto: shift for small images of one size, else crop."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Area of a crop, as a share of the image's."""
    shift: int = 2
    """Pixels, each way."""
    flip: Literal["auto", "yes", "no"] = "auto"
    """Mirror half of the views left-right; auto: yes, but not for the built-in digits."""
    mixup: float = 0.0
    """Alpha of mixup's Beta distribution; 0: off."""
    cutmix: float = 0.0
    """Alpha of CutMix's Beta distribution; 0: off."""
    limit: int | None = None
    """Train on so many images only, as many of each class, drawn by the seed."""
    workers: int | None = None
    """Processes that decode images; by default one a core, none for small images held in memory."""
    on_broken: Literal["fatal", "skip"] = "fatal"
    """What to do about images that can't be read."""
    download: bool = False
    """Let torchvision and timm fetch a named data set."""
    seed: int = 0
    resume: bool = False
    """Go on with the run in --out."""
    track: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Also report to these services, which must be installed."""


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    out: str
    model: str
    parameters: int
    images: int  # that it was trained on
    epochs: int
    seconds: float  # of this call
    evaluation: "Evaluation | None"  # None where there is no labelled held-out split
    teachers: tuple[tuple[str, float | None], ...] = ()  # name, top-1

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        rows = [
            ("model", f"{self.model}, {self.parameters:,} parameters"),
            ("trained on", f"{self.images:,} images"),
        ]
        rows += [(f"teacher {name}", "" if top1 is None else f"{top1:.2%}") for name, top1 in self.teachers]
        if self.evaluation is not None:
            rows += [("top-1", f"{self.evaluation.top1:.2%} of {self.evaluation.images:,} held-out images")]
        return [*rows, ("seconds", f"{self.seconds:.1f}"), ("run", self.out)]

    def to_json(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "evaluation"}
        return {**plain, **(self.evaluation.to_json() if self.evaluation else {})}


@dataclass(frozen=True)
class Estimate:
    """What a dry run found: everything was built and two real steps were made."""

    model: str
    parameters: int
    steps: int  # of the whole run
    seconds: float  # that the whole run will take, from the second step
    gibibytes: float  # largest resident memory so far
    disk: int  # bytes that the run folder will take
    loss: float  # after two steps

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        return [
            ("model", f"{self.model}, {self.parameters:,} parameters"),
            ("steps", f"{self.steps:,}"),
            ("estimated time", f"{self.seconds / 60:,.1f} minutes, evaluation left out"),
            ("memory", f"{self.gibibytes:.2f} GiB"),
            ("disk", f"{self.disk / 1e6:,.1f} MB"),
            ("loss after two steps", f"{self.loss:.4f}"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Sets:
    """The data of a run."""

    train: "Source"
    held_out: "Source | None"
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def open_sets(data: str, training: Training, *, classes: tuple[str, ...] = (), labelled: bool = True) -> Sets:
    """Open the training and the held-out split; `classes` names them where the images have no labels."""
    from limbeck.data.sources import moments, open_source

    said = {"on_broken": training.on_broken, "download": training.download}
    train = open_source(data, "train", labelled=labelled, **said)
    try:
        held_out = open_source(data, "val", **said)
    except InputError:
        if labelled:
            raise
        held_out = None  # a heap of unlabelled images has no split to measure on
    if training.limit is not None:
        train = _balanced(train, training.limit, training.seed)
    mean, std = moments(train)
    named = train.classes or (held_out.classes if held_out else ()) or classes
    return Sets(train, held_out, named, tuple(mean), tuple(std))


def _balanced(source: "Source", count: int, seed: int) -> "Source":
    """Return `count` images of `source`, equally many of each class, drawn by `seed`."""
    import torch

    from limbeck.data.loader import order
    from limbeck.data.sources import subset

    if not 0 < count <= len(source):
        raise InputError(f"--limit is {count}, but {source.spec} has {len(source)} training images")
    drawn = order(len(source), seed=seed, epoch=0)
    if source.labels is None:
        return subset(source, drawn[:count].sort().values)
    # Rank within its class: the first image of every class comes before the second of any.
    labels = source.labels[drawn]
    rank = torch.zeros(len(source), dtype=torch.int64)
    for c in range(len(source.classes)):
        rank[labels == c] = torch.arange(int((labels == c).sum()))
    return subset(source, drawn[rank.argsort(stable=True)[:count]].sort().values)


def net_size(source: "Source", training: Training) -> int | None:
    """Return the side in pixels that a new net gets: as told, else that of small images; None: the net's own."""
    if training.size is not None:
        return training.size
    return None if source.pixels is None else int(source.pixels.shape[-1])


def augment_of(source: "Source", training: Training, size: int) -> "Augment":
    """Return how training views are drawn, `size` pixels a side."""
    from limbeck.data.views import Augment

    kind = training.augment
    if kind == "auto":
        kind = "crop" if source.pixels is None else "shift"
    flip = training.flip == "yes" or (training.flip == "auto" and not source.spec.startswith("digits:"))
    return Augment(size, kind=kind, scale=training.crop_scale, shift=training.shift, flip=flip)


def still(source: "Source", size: int, crop_pct: float) -> "Augment":
    """Return the view of evaluation: small images whole, others by their centre."""
    from limbeck.data.views import Augment

    return Augment(size, kind="none", flip=False, crop_pct=1.0 if source.pixels is not None else crop_pct)


def accelerator_for(training: Training, out: Path) -> "Accelerator":
    """Return the Accelerator: device, ranks, precision, trackers (TensorBoard files always)."""
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    set_seed(training.seed)
    for service in training.track:
        _need(service)
    return Accelerator(
        mixed_precision="bf16" if training.precision == "bfloat16" else "no",
        log_with=["tensorboard", *training.track],
        project_dir=str(out),
    )


def _need(package: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise InputError(f"--track {package} needs the package {package}: pip install {package}")


def train(
    student: "Classifier",
    objective: Callable[["nn.Module", "nn.Module | None"], "Objective"],
    sets: Sets,
    training: Training,
    *,
    out: str,
    view_size: int,
    accelerator: "Accelerator",
    discriminator: "nn.Module | None" = None,
    discriminator_lr: float = 1e-4,
    teachers: tuple[tuple[str, float | None], ...] = (),
    dry_run: bool = False,
    tell: Tell = runs.silent,
) -> Trained | Estimate:
    """Train `student` by `objective(student, discriminator)`, each as the accelerator prepared it, in the begun run
    folder `out`; evaluate it on the held-out split; save it. A dry run makes two steps and writes nothing."""
    import torch
    from timm.utils import ModelEmaV3

    from limbeck.data.loader import steps_per_epoch
    from limbeck.learn.fit import Loop, fit, learning_rate_factor, make_optimizer
    from limbeck.nets import norm, zoo

    begun, ranks, folder = time.monotonic(), accelerator.num_processes, Path(out)
    steps = steps_per_epoch(len(sets.train), batch=training.batch, ranks=ranks) // training.accumulate
    if steps == 0:
        raise InputError(
            f"a step takes {training.batch * training.accumulate * ranks} images, but {sets.train.spec} has "
            f"{len(sets.train)} training images; lower --batch"
        )
    if ranks > 1:
        norm.synchronise(student)
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(
        student, kind=training.optimizer, lr=training.lr, momentum=training.momentum, nesterov=training.nesterov,
        weight_decay=training.weight_decay, discriminator=discriminator, discriminator_lr=discriminator_lr,
    )  # fmt: skip
    modules = {"student": accelerator.prepare(student)}
    if discriminator is not None:
        modules["discriminator"] = accelerator.prepare(discriminator)
    ema = ModelEmaV3(student, decay=training.ema, use_warmup=True) if training.ema else None
    final: nn.Module = ema.module if ema is not None else student

    def judge() -> "Evaluation | None":
        return evaluate_on(sets, final, student.input.crop_pct, view_size, training, accelerator)

    def validate() -> dict[str, float]:
        found = judge()
        return {"val_top1": found.top1, "val_nll": found.nll} if found else {}

    def record(history: list[dict[str, float]]) -> None:
        accelerator.log(history[-1], step=int(history[-1]["epoch"]))
        runs.write_history(folder, history)

    loop = Loop(
        objective=objective(modules["student"], modules.get("discriminator")), modules=modules,
        optimizer=accelerator.prepare(optimizer), ema=ema, accelerator=accelerator, seed=training.seed,
        steps=steps, epochs=training.epochs, accumulate=training.accumulate,
        batches=partial(training_batches, sets.train, training, view_size, accelerator),
        factor=partial(
            learning_rate_factor, schedule=training.schedule, epochs=training.epochs,
            milestones=training.milestones, gamma=training.gamma, warmup=training.warmup,
        ),
    )  # fmt: skip
    parameters = sum(p.numel() for p in student.parameters())
    if dry_run:
        fit(loop, limit=1)  # the first step also allocates
        second = time.monotonic()
        progress = fit(loop, limit=2)
        seconds = (time.monotonic() - second) / 2 * steps * training.epochs
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        disk = 4 * parameters * (4 if training.optimizer == "adamw" else 3)  # weights, state: weights and moments
        return Estimate(
            student.name,
            parameters,
            steps * training.epochs,
            seconds,
            memory,
            disk,
            progress.sums["loss"] / 2,
        )

    finished = (folder / runs.RESULTS).exists()
    if finished:
        student.load_state_dict(zoo.load(str(folder)).state_dict())
        evaluation = evaluate_on(sets, student, student.input.crop_pct, view_size, training, accelerator)
    else:
        accelerator.init_trackers("limbeck")
        fit(loop, state=folder / runs.STATE, validate=validate, record=record, tell=tell)
        accelerator.end_training()
        evaluation = judge()
    done = Trained(
        out,
        student.name,
        parameters,
        len(sets.train),
        training.epochs,
        time.monotonic() - begun,
        evaluation,
        teachers,
    )
    if accelerator.is_main_process and not finished:
        student.load_state_dict(final.state_dict())
        zoo.save(student, folder)
        if evaluation is not None:
            runs.write_text(folder / "per_class.csv", evaluation.to_csv())
        runs.write_json(folder / runs.RESULTS, done.to_json())
        (folder / runs.STATE).unlink(missing_ok=True)  # results.json says that the run is over
    return done


def flat(*, training: Training, **settings: Any) -> dict[str, Any]:  # noqa: ANN401 - a verb's values
    """Return a verb's settings and those of its training in one dictionary: the keys of its recipe."""
    return {**settings, **asdict(training)}


def new_net(spec: str, sets: Sets, training: Training, *, pretrained: bool, arguments: tuple[str, ...]) -> "Classifier":
    """Return the net to train: of random weights, or of the weights that a pinned tag, a run or a file brings."""
    from limbeck.nets import zoo

    brings_weights = (Path(spec) / "model.json").is_file() or "@" in spec or spec.startswith(("hf-hub:", "local-dir:"))
    own = {"mean": sets.mean, "std": sets.std} if not (pretrained or brings_weights) else {}
    return zoo.create(
        spec, classes=sets.classes, channels=sets.train.channels, size=net_size(sets.train, training),
        pretrained=pretrained or brings_weights, arguments=parsed(arguments), **own,
    )  # fmt: skip


def parsed(arguments: tuple[str, ...]) -> dict[str, Any]:
    """Return width=8 and the like as a dictionary; what is not a JSON value is a string."""
    found: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not key or not equals:
            raise InputError(f"--arguments takes key=value, not {argument!r}")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def training_batches(
    source: "Source", training: Training, size: int, accelerator: "Accelerator", epoch: int, start: int
) -> "Iterator[Batch]":
    """Yield this rank's training batches of `epoch` from batch `start` on."""
    from limbeck.data.loader import batches

    return batches(
        source, augment_of(source, training, size), batch=training.batch, seed=training.seed, epoch=epoch,
        start=start, rank=accelerator.process_index, ranks=accelerator.num_processes,
        workers=workers_of(source, training.workers), device=accelerator.device, mixup=training.mixup,
        cutmix=training.cutmix,
    )  # fmt: skip


def evaluate_on(
    sets: Sets, model: "nn.Module", crop_pct: float, size: int, training: Training, accelerator: "Accelerator"
) -> "Evaluation | None":
    """Evaluate on the held-out split, over all ranks; None where there is no labelled one."""
    from limbeck.data.loader import batches
    from limbeck.learn.evaluate import answers, figures

    source = sets.held_out
    if source is None or source.labels is None:
        return None
    stream = batches(
        source, still(source, size, crop_pct), batch=training.batch, seed=0, epoch=0,
        rank=accelerator.process_index, ranks=accelerator.num_processes,
        workers=workers_of(source, training.workers), device=accelerator.device, shuffle=False, drop_last=False,
    )  # fmt: skip
    return figures(answers(model, stream, accelerator=accelerator), sets.classes)


def workers_of(source: "Source", workers: int | None) -> int:
    """Return the number of decoding processes: as told, else none for small images, else one a core, 8 at most."""
    if workers is not None:
        return workers
    return 0 if source.pixels is not None else min(os.cpu_count() or 1, 8)


def environment(source: "Source", accelerator: "Accelerator") -> dict[str, Any]:
    """Return what a repetition must know beside the recipe: versions, machine, data."""
    import timm
    import torch

    import limbeck

    versions = {
        "limbeck": limbeck.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    return {
        "versions": {**versions, "timm": timm.__version__},
        "machine": {
            "processor": platform.machine(),
            "device": str(accelerator.device),
            "ranks": accelerator.num_processes,
        },
        "data": {"spec": source.spec, "images": len(source), "fingerprint": source.fingerprint},
    }


def begin_run(
    out: str, verb: str, settings: dict[str, Any], sets: Sets, training: Training, accelerator: "Accelerator"
) -> None:
    """Begin the run folder `out`, or check that the run in it is this one."""
    folder = Path(out)
    if accelerator.is_main_process:
        runs.begin(folder, verb, settings, resume=training.resume)
        found = environment(sets.train, accelerator)
        known = runs.read_json(folder / runs.ENVIRONMENT) if (folder / runs.ENVIRONMENT).exists() else found
        if known["data"]["fingerprint"] != found["data"]["fingerprint"]:
            raise InputError(
                f"the images of {sets.train.spec} have changed since {out} was begun; choose another --out"
            )
        runs.write_json(folder / runs.ENVIRONMENT, found)
    accelerator.wait_for_everyone()
