"""What teach and distill share: the accelerator, the run folder, the loop, the closing evaluation."""

import contextlib
import math
import platform
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from limbeck import runs
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.memory import keep_freed_memory
from limbeck.training.results import Estimate, Trained
from limbeck.training.sets import Sets, judged, net_size, training_batches
from limbeck.training.settings import Training, parsed
from limbeck.version import __version__

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn

    from limbeck.images.labels import LabelStore
    from limbeck.images.loader import Batch
    from limbeck.images.source import Source
    from limbeck.images.views import Augment
    from limbeck.learn.evaluate import Evaluation
    from limbeck.learn.fit import Loop
    from limbeck.learn.objectives import Objective
    from limbeck.nets.zoo import Classifier

FEW_STEPS, SMALL_BATCH = 4, 16  # with fewer steps per epoch BatchNorm's statistics lag behind
FORECAST_SECONDS, MOST_STEPS = 3.0, 200  # of a dry run

MakeObjective: TypeAlias = "Callable[[nn.Module, nn.Module | None], Objective]"
"""Takes the student and the discriminator, or None, as the accelerator prepared them."""


def accelerator_for(training: Training, out: str) -> "Accelerator":
    """Return the Accelerator: device, ranks, precision, trackers (TensorBoard's files in `out`/tensorboard)."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import set_seed

    keep_freed_memory()
    set_seed(training.seed)
    AcceleratorState._reset_state()  # accelerate would hold on to the precision of the process's first training
    trackers = [_tracker(service, out) for service in training.track]
    return Accelerator(
        cpu=not torch.accelerator.is_available(),  # else torchrun's processes would not know of each other on CPUs
        mixed_precision="bf16" if training.precision == "bfloat16" else "no",
        log_with=trackers or None,
    )


def _tracker(service: str, out: str) -> Any:  # noqa: ANN401 - a name or an object, as accelerate takes them
    """Return what accelerate is to report to the service with; InputError where the service's package is missing."""
    import importlib.util

    package, brought = ("tensorboardX", "'limbeck[tensorboard]'") if service == "tensorboard" else (service, service)
    if importlib.util.find_spec(package) is None:
        raise InputError(f"--track {service} needs the package {package}: pip install {brought}")
    if service != "tensorboard":
        return service
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker("tensorboard", out)


def train(
    student: "Classifier",
    objective: "MakeObjective",
    sets: Sets,
    training: Training,
    *,
    out: str,
    view: "Augment",
    accelerator: "Accelerator",
    discriminator: "nn.Module | None" = None,
    discriminator_lr: float = 1e-4,
    teachers: tuple[tuple[str, float | None], ...] = (),
    labels: "LabelStore | None" = None,
    dry_run: bool = False,
    tell: Tell = runs.silent,
) -> Trained | Estimate:
    """Train `student` by `objective(student, discriminator)`, each as the accelerator prepared it, in the begun run
    folder `out`; evaluate it on the held-out split; save it. A dry run makes a few steps and writes nothing. Views are
    drawn as `view` says, or are those of `labels` where it is given, whose batches have targets."""
    from limbeck.nets import zoo

    begun, folder = time.monotonic(), Path(out)
    judge = partial(evaluate_on, sets, training=training, accelerator=accelerator)
    finished = None if dry_run else seconds_of(folder)
    earlier = 0.0
    if finished is not None:
        student.load_state_dict(zoo.load(out).state_dict())
        student.to(accelerator.device)
    else:
        batches = partial(training_batches, sets.train, training, view, accelerator, labels)
        steps = steps_of(sets.train, training, accelerator.num_processes)
        loop = prepared(student, objective, steps, training, batches, accelerator, discriminator, discriminator_lr)
        if steps < FEW_STEPS and training.batch > SMALL_BATCH:
            few = f"steps per epoch: {steps}; held-out figures will lag, --batch {SMALL_BATCH} makes more of them"
            tell("note", {"text": few})
        if dry_run:
            return estimate(loop, student, training, lambda: evaluation_seconds(sets, student, training, accelerator))

        def validate(final: "nn.Module", epoch: int) -> dict[str, float]:
            found = judge(cast("Classifier", final))
            if epoch == training.epochs:  # before its state is saved
                _refuse_diverged(found)
            return {"val_top1": found.top1, "val_nll": found.nll} if found else {}

        with freed_if_refused(folder, accelerator):
            earlier = run(loop, student, folder, validate, training.validate_every, tell)
    evaluation = judge(student)
    _refuse_diverged(evaluation)
    parameters = sum(p.numel() for p in student.parameters())
    seconds = earlier + time.monotonic() - begun if finished is None else finished
    done = Trained(out, student.name, parameters, len(sets.train), training.epochs, seconds, evaluation, teachers)
    if accelerator.is_main_process and finished is None:
        _save(student, done, folder)
    runs.give_up(folder)
    return done


def _refuse_diverged(found: "Evaluation | None") -> None:
    if found is not None and not math.isfinite(found.nll):
        raise InputError("training diverged: the trained net outputs NaN or infinity; lower --lr and start anew")


@contextlib.contextmanager
def freed_if_refused(folder: Path, accelerator: "Accelerator") -> "Iterator[None]":
    """Leave the run folder free for another try where training is refused before it has saved anything."""
    try:
        yield
    except InputError:
        if accelerator.is_main_process:
            runs.release(folder)
        raise


def prepared(
    student: "nn.Module",
    objective: "MakeObjective",
    steps: int,
    training: Training,
    batches: "Callable[[int, int], Iterator[Batch]]",
    accelerator: "Accelerator",
    discriminator: "nn.Module | None",
    discriminator_lr: float,
) -> "Loop":
    """Return what a training of `steps` steps per epoch is made of: nets, optimiser and average, as the accelerator
    prepared them."""
    import torch
    from timm.utils.model_ema import ModelEmaV3

    from limbeck.learn.fit import Loop, learning_rate_factor, make_optimizer
    from limbeck.nets import norm

    if accelerator.num_processes > 1:
        norm.synchronise(student)
    student.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(
        student, kind=training.optimizer, lr=training.lr, momentum=training.momentum, nesterov=training.nesterov,
        weight_decay=training.weight_decay, discriminator=discriminator, discriminator_lr=discriminator_lr,
    )  # fmt: skip
    modules = {"student": accelerator.prepare(student)}
    if discriminator is not None:
        modules["discriminator"] = accelerator.prepare(discriminator)
    factor = partial(
        learning_rate_factor, schedule=training.schedule, epochs=training.epochs, milestones=training.milestones,
        gamma=training.gamma, warmup=training.warmup,
    )  # fmt: skip
    return Loop(
        objective=objective(modules["student"], modules.get("discriminator")), modules=modules,
        optimizer=accelerator.prepare(optimizer), batches=batches, steps=steps, epochs=training.epochs, factor=factor,
        accelerator=accelerator, seed=training.seed, accumulate=training.accumulate,
        ema=ModelEmaV3(student, decay=training.ema, use_warmup=True) if training.ema else None,
        before_step=partial(_draw_steps, student, training.seed) if training.random_steps else None,
    )  # fmt: skip


def _draw_steps(student: "nn.Module", seed: int, step: int) -> None:
    """Have the student's ODE blocks take a number of steps that depends on `seed` and `step` alone."""
    from limbeck.learn.fit import step_seed
    from limbeck.nets.odenet import draw_steps

    draw_steps(student, step_seed(seed, step))


def steps_of(train: "Source", training: Training, ranks: int) -> int:
    """Return the optimiser steps per epoch; InputError where the images don't make one."""
    from limbeck.images.loader import steps_per_epoch

    steps = steps_per_epoch(len(train), batch=training.batch, ranks=ranks) // training.accumulate
    if steps == 0:
        raise InputError(
            f"a step takes {training.batch * training.accumulate * ranks} images, but {train.spec} has "
            f"{len(train)} training images; lower --batch"
        )
    return steps


def estimate(loop: "Loop", student: "Classifier", training: Training, after_epoch: Callable[[], float]) -> Estimate:
    """Make a few seconds of steps and return what the whole would take; `after_epoch` says for how many seconds a net
    is evaluated."""
    from limbeck.learn.fit import fit

    losses: list[Tensor] = []
    first = 0.0  # when the first batch had come

    def watched(batch: "Batch") -> "tuple[Tensor, dict[str, Tensor]]":
        nonlocal first
        first = first or time.monotonic()
        loss, metrics = loop.objective(batch)
        losses.append(loss.detach())
        return loss, metrics

    def timed(steps: int) -> tuple[float, float]:
        """Make so many steps; return the seconds until the first began, and those of a step."""
        nonlocal first
        begun, first = time.monotonic(), 0.0
        done = fit(replace(loop, objective=watched), limit=steps).step
        float(losses[-1])  # a GPU has done it by now
        return first - begun, (time.monotonic() - first) / done

    _, rough = timed(2)  # the first step also allocates
    wait, step = timed(min(max(math.ceil(FORECAST_SECONDS / rough), 3), MOST_STEPS))
    evaluations = math.ceil(training.epochs / training.validate_every) + 1  # the trained net's is the last
    steps = loop.steps * loop.epochs
    seconds = loop.epochs * wait + steps * step + evaluations * after_epoch()
    moments = 2 if training.optimizer == "adamw" else 1
    return estimated(student, steps=steps, seconds=seconds, moments=moments, loss=float(losses[-1]))


def evaluation_seconds(sets: Sets, model: "Classifier", training: Training, accelerator: "Accelerator") -> float:
    """Return how long an evaluation on the held-out split takes, from some batches of it."""
    from limbeck.images.source import subset

    source = sets.held_out
    if source is None or source.labels is None:
        return 0.0
    few = min(4 * training.batch, len(source))
    begun = time.monotonic()
    evaluate_on(replace(sets, held_out=subset(source, range(few))), model, training, accelerator)
    return (time.monotonic() - begun) * len(source) / few


def estimated(net: "Classifier", *, steps: int, seconds: float, moments: int, loss: float | None) -> Estimate:
    """Return the estimate of a run; `moments` are those that the optimiser keeps of each weight."""
    parameters = sum(p.numel() for p in net.parameters())
    return Estimate(
        model=net.name,
        parameters=parameters,
        steps=steps,
        seconds=seconds,
        gibibytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        disk=4 * parameters * (2 + moments if steps else 1),  # weights; the state's weights and moments
        loss=loss,
    )


def run(
    loop: "Loop",
    student: "nn.Module",
    folder: Path,
    validate: "Callable[[nn.Module, int], dict[str, float]]",
    validate_every: int,
    tell: Tell,
) -> float:
    """Train to the end, from where the run folder's state is; leave the weights that count in `student`. Those are
    what `validate` gets, with the epoch, from 1. Return the seconds that earlier, interrupted calls trained for."""
    from limbeck.learn.fit import fit
    from limbeck.nets.classifier import computes_bfloat16

    device = loop.accelerator.device
    emulated = device.type in ("cpu", "cuda") and not computes_bfloat16(device)
    if loop.accelerator.mixed_precision == "bf16" and emulated:
        tell("note", {"text": "this machine has no bfloat16 in hardware; --precision float32 will be faster"})
    final: nn.Module = loop.ema.module if loop.ema is not None else student

    def record(history: list[dict[str, float]]) -> None:
        loop.accelerator.log(history[-1], step=int(history[-1]["epoch"]))
        runs.write_history(folder, history)

    loop.accelerator.init_trackers("limbeck")
    try:
        progress = fit(
            loop, state=folder / runs.STATE, validate=partial(validate, final), validate_every=validate_every,
            record=record, tell=tell,
        )  # fmt: skip
    finally:
        for tracker in loop.accelerator.trackers:
            tracker.finish()
        loop.accelerator.trackers.clear()
    student.load_state_dict(final.state_dict())
    return progress.earlier


def seconds_of(folder: Path) -> float | None:
    """Return the seconds that the finished run in the folder took; None where there is none."""
    results = folder / runs.RESULTS
    return float(runs.read_json(results).get("seconds", 0.0)) if results.exists() else None


def _save(student: "Classifier", done: Trained, folder: Path) -> None:
    from limbeck.nets import zoo

    lineage = zoo.save(student, folder)
    if done.evaluation is not None:
        runs.write_text(folder / "per_class.csv", done.evaluation.to_csv())
    runs.write_sealed(folder / runs.RESULTS, {**done.to_json(), "sha256": lineage.sha256})
    (folder / runs.STATE).unlink(missing_ok=True)  # results.json marks the run as finished


def new_net(spec: str, sets: Sets, training: Training, *, pretrained: bool, arguments: tuple[str, ...]) -> "Classifier":
    """Return the net to train: of random weights, or of the weights that a pinned tag, a run or a file brings."""
    from limbeck.nets import zoo

    fetched = pretrained or brings_weights(spec)
    mean, std = (None, None) if fetched else (sets.mean, sets.std)
    net = zoo.create(
        spec, classes=sets.classes, channels=sets.train.channels, size=net_size(sets.train, training),
        pretrained=fetched, arguments=parsed(arguments), mean=mean, std=std, class_order=training.class_order,
    )  # fmt: skip
    check_random_steps(net, training)
    if training.white is not None:
        net.input = replace(net.input, white=training.white)
    return net


def check_random_steps(net: "nn.Module", training: Training) -> None:
    """Refuse --random-steps for a net without ODE blocks."""
    from limbeck.nets.odenet import ode_blocks

    if training.random_steps and not ode_blocks(net):
        raise InputError("--random-steps is for nets with ODE blocks, such as dsodenet20; leave it out")


def brings_weights(spec: str) -> bool:
    """Whether `spec` names weights at hand, or a hub's, and not only a net."""
    at_hand = (Path(spec) / "model.json").is_file() or "@" in spec or spec.endswith(".onnx")
    return at_hand or spec.startswith(("hf-hub:", "local-dir:"))


def evaluate_on(sets: Sets, model: "Classifier", training: Training, accelerator: "Accelerator") -> "Evaluation | None":
    """Evaluate on the held-out split as the net expects to see it, over all ranks; None where it has no labels."""
    from limbeck.learn.evaluate import answers, figures

    source = sets.held_out
    if source is None or source.labels is None:
        return None
    stream = judged(model, source, training.batch, workers=training.workers, ranks=accelerator)
    return figures(answers(model, stream, accelerator=accelerator), sets.classes)


def environment(source: "Source", accelerator: "Accelerator") -> dict[str, Any]:
    """Return what a repetition must know beside the recipe: versions, machine, data."""
    import timm
    import torch

    device, ranks = str(accelerator.device), accelerator.num_processes
    return {
        "versions": {
            "limbeck": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
        },
        "machine": {"processor": platform.machine(), "device": device, "ranks": ranks},
        "data": {"spec": source.spec, "images": len(source), "fingerprint": source.fingerprint},
    }


def begin_run(
    out: str,
    verb: str,
    settings: dict[str, Any],
    sets: Sets,
    training: Training,
    accelerator: "Accelerator",
    *,
    trains: bool = True,
    tell: Tell = runs.silent,
) -> None:
    """Begin the run folder `out`, or check that the run in it is this one; every rank raises what the first finds.
    A run that trains nothing may have fewer images than a step takes."""
    if trains:
        steps_of(sets.train, training, accelerator.num_processes)  # refuse before anything is written

    def begin() -> None:
        recipe = Path(out) / runs.RECIPE
        before = runs.read_toml(recipe).get("epochs") if training.resume and recipe.is_file() else None
        runs.begin(Path(out), verb, settings, resume=training.resume)
        _note_environment(Path(out) / runs.ENVIRONMENT, environment(sets.train, accelerator))
        if before not in (None, training.epochs):
            text = f"{before} epochs became {training.epochs}: {_STRETCHED[training.schedule]}"
            tell("note", {"text": text})

    by_first(accelerator, begin)


_STRETCHED = {
    "cosine": "the cosine now ends with the last of these, so the learning rate jumps to where it is by then",
    "step": "the learning rate falls at the same --milestones",
    "constant": "the learning rate stays",
}


def by_first(accelerator: "Accelerator", act: "Callable[[], None]") -> None:
    """Have the first rank act; every rank raises the InputError that it meets, else they would wait for it for ever."""
    from accelerate.utils import broadcast_object_list

    problem: list[str | None] = [None]
    if accelerator.is_main_process:
        try:
            act()
        except InputError as error:
            problem = [str(error)]
    broadcast_object_list(problem)
    if problem[0] is not None:
        raise InputError(problem[0])


def _note_environment(path: Path, found: dict[str, Any]) -> None:
    from limbeck.images.manifest import same_images

    known = runs.read_json(path) if path.exists() else found
    data = known.get("data")
    if not isinstance(data, dict) or not same_images(str(data.get("fingerprint")), found["data"]["fingerprint"]):
        raise InputError(
            f"the images of {found['data']['spec']} have changed since {path.parent} was begun; choose another --out"
        )
    runs.write_json(path, found)
