"""limbeck distill: a student learns the averaged answer of its teachers (MEAL V2)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck import runs
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.results import Estimate, Trained, measured
from limbeck.training.run import accelerator_for, begin_run, brings_weights, evaluate_on, new_net, train
from limbeck.training.sets import Sets, augment_of, open_sets
from limbeck.training.settings import Training, flat

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from limbeck.images.labels import LabelStore
    from limbeck.learn.objectives import Objective
    from limbeck.nets.zoo import Classifier, Lineage


def distill(
    *,
    data: str,
    student: str,
    out: str,
    teachers: tuple[str, ...] = (),
    labels: str | None = None,
    pretrained: bool = False,
    arguments: tuple[str, ...] = (),
    average: Literal["probabilities", "logits"] = "probabilities",
    weights: tuple[float, ...] = (),
    temperature: float = 1.0,
    hard_weight: float = 0.0,
    discriminator: Literal["off", "cooperative", "adversarial"] = "off",
    discriminator_lr: float = 1e-4,
    teacher_dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile_teachers: bool = False,
    training: Training = Training(weight_decay=0.0),  # noqa: B008 - frozen
    dry_run: bool = False,
    tell: Tell = runs.silent,
) -> Trained | Estimate:
    """Distil teachers into a small student, without labels (MEAL V2).

    The student learns the teachers' averaged softmax on the same views by soft cross-entropy. One-hot labels are
    not used unless --hard-weight says so, so unlabelled images do. With --labels no teacher runs: what `limbeck
    label` stored is replayed, views included, and averaging and temperature are the store's.

    Examples:
        limbeck distill --data photos/ --student dsodenet20 --teachers runs/t1 runs/t2 --out runs/s
        limbeck distill --data photos/ --student dsodenet20 --labels labels --out runs/s

    Args:
        data: As for teach; a folder of unlabelled images does too.
        student: A timm name (Limbeck's own nets are among them), tv/NAME, or a run folder to go on from.
        teachers: Run folders, pinned timm tags, tv/NAME.WEIGHTS, NAME@FILE, hf-hub:ID or local-dir:PATH.
        out: The run folder to write.
        labels: A store that limbeck label wrote of the same data, in place of teachers.
        pretrained: Begin with the weights of the tag that --student names.
        arguments: What else the student takes, as width=8 steps=3,2,2.
        average: What of the teachers is averaged.
        weights: One a teacher; by default all count the same.
        temperature: Of the softmax on both sides; MEAL V2 has 1.
        hard_weight: Weight of the one-hot cross-entropy beside the soft one.
        discriminator: MEAL V2's code has cooperative; adversarial reverses its gradient to the student.
        discriminator_lr: Its learning rate, which no schedule changes.
        teacher_dtype: Of the teachers' arithmetic; auto is bfloat16 where the machine has it in hardware.
        compile_teachers: Compile the teachers (torch.compile): minutes to begin with, then faster.
        training: How to train.
        dry_run: Build everything, make two steps, estimate time, memory and disk; write nothing.
    """
    settings = flat(
        data=data, student=student, teachers=teachers, labels=labels, out=out, pretrained=pretrained,
        arguments=arguments, average=average, weights=weights, temperature=temperature, hard_weight=hard_weight,
        discriminator=discriminator, discriminator_lr=discriminator_lr, teacher_dtype=teacher_dtype,
        compile_teachers=compile_teachers, training=training,
    )  # fmt: skip
    import torch

    from limbeck.images.labels import LabelStore
    from limbeck.learn import objectives
    from limbeck.nets import zoo

    if bool(teachers) == bool(labels):
        raise InputError("a student learns from --teachers or from --labels; give one of the two")
    if not 0 <= hard_weight < math.inf:
        raise InputError(f"--hard-weight is {hard_weight}; give 0 or more")
    if not 0 < discriminator_lr < math.inf:
        raise InputError(f"--discriminator-lr is {discriminator_lr}; give more than 0")
    store = LabelStore.open(Path(labels)) if labels else None
    check_ensemble(store.manifest.teachers if store else teachers, weights, temperature)
    accelerator = accelerator_for(training, out)
    frozen = [
        zoo.freeze(stand_in(spec, data, training, tell), dtype=teacher_dtype)
        if dry_run and not brings_weights(spec)
        else load_teacher(spec, teacher_dtype, compile_teachers, accelerator)
        for spec in teachers
    ]
    known = store.manifest.classes if store else frozen[0].classes
    drawn = replace(training, seed=store.manifest.seed) if store else training  # --limit takes the images of the store
    sets = open_sets(data, drawn, classes=known, labelled=hard_weight > 0)
    torch.manual_seed(training.seed)  # a student begins alike, whatever its teachers drew when they were built
    net = new_net(student, sets, training, pretrained=pretrained and not dry_run, arguments=arguments)
    if store is None:
        answer = objectives.ask(frozen, average=average, weights=weights, temperature=temperature)
        size = max(n.input.size for n in [net, *frozen])  # a larger teacher sees real pixels, not enlarged ones
        view = augment_of(sets.train, training, size, net.input.interpolation)
        top1 = judge(teachers, frozen, sets, training, accelerator, measure=not dry_run, tell=tell)
        judged = tuple(zip(teachers, top1, strict=True))
        lineages = tuple(teacher.lineage for teacher in frozen)
    else:
        check_labels(store, sets, training, average=average, weights=weights, temperature=temperature, tell=tell)
        answer, temperature = objectives.recall, store.manifest.temperature
        seen = augment_of(sets.train, training, net.input.size, net.input.interpolation)
        # a stored box is drawn as the student expects to see it
        view = replace(store.manifest.augment, size=seen.size, interpolation=seen.interpolation)
        judged = tuple((teacher.spec, teacher.top1) for teacher in store.manifest.teachers)
        lineages = tuple(lineage_of(teacher.lineage) for teacher in store.manifest.teachers)
    for name, top1_of in judged:
        tell("note", {"text": f"teacher {name}: {measured(top1_of)}"})
    net.lineage = replace(net.lineage, teachers=lineages)
    if not dry_run:
        begin_run(out, "distill", settings, sets, training, accelerator)
        if store is not None and accelerator.is_main_process:
            record_labels(Path(out), store)

    def objective(prepared: "nn.Module", critic: "nn.Module | None") -> "Objective":
        return objectives.distill(
            prepared, answer, temperature=temperature, hard_weight=hard_weight,
            label_smoothing=training.label_smoothing, discriminator=critic, mode=discriminator,
        )  # fmt: skip

    return train(
        net, objective, sets, training, out=out, view=view, accelerator=accelerator,
        discriminator=new_discriminator(discriminator, len(sets.classes)), discriminator_lr=discriminator_lr,
        teachers=judged, labels=store, dry_run=dry_run, tell=tell,
    )  # fmt: skip


def check_ensemble(teachers: Sequence[object], weights: tuple[float, ...], temperature: float) -> None:
    """Refuse weights and a temperature by which the answers of `teachers` can't be averaged."""
    if weights and not (len(weights) == len(teachers) and all(0 < weight < math.inf for weight in weights)):
        raise InputError(f"--weights are {weights} for {len(teachers)} teachers; give one above 0 a teacher")
    if not 0 < temperature < math.inf:
        raise InputError(f"--temperature is {temperature}; give more than 0")


def check_labels(
    store: "LabelStore",
    sets: Sets,
    training: Training,
    *,
    average: str,
    weights: tuple[float, ...],
    temperature: float,
    tell: Tell,
) -> None:
    """Refuse a store of other data, and flags that contradict it; a flag that is left at its default does not."""
    from limbeck.images.labels import check_source

    manifest, default = store.manifest, Training()
    check_source(store.folder, manifest, sets.train, sets.classes)
    augment = manifest.augment
    asked = {
        "average": (average, "probabilities", manifest.average),
        "temperature": (temperature, 1.0, manifest.temperature),
        "weights": (tuple(w / sum(weights) for w in weights), (), manifest.weights),
        "augment": (training.augment, default.augment, augment.kind),
        "flip": (training.flip, default.flip, "yes" if augment.flip else "no"),
        "crop-scale": (training.crop_scale, default.crop_scale, augment.scale),
        "shift": (training.shift, default.shift, augment.shift),
    }
    for flag, (given, usual, stored) in asked.items():
        if given not in (usual, stored):
            raise InputError(
                f"--{flag} is {given}, but the labels in {store.folder} were made with {stored}; leave the flag out or "
                "label anew"
            )
    if training.epochs > manifest.views:
        text = (
            f"{training.epochs} epochs replay {manifest.views} views an image: epoch {manifest.views + 1} shows those"
        )
        tell("note", {"text": f"{text} of epoch 1 again"})
    if training.mixup or training.cutmix:
        text = "mixed images get the mix of their stored labels; live teachers would see the mixed image"
        tell("note", {"text": text})


def record_labels(out: Path, store: "LabelStore") -> None:
    """Keep the store's manifest in the run; InputError where the run was begun with another store."""
    path, document = out / "labels.json", store.manifest.to_json()
    if path.exists() and runs.read_json(path) != document:
        raise InputError(f"{store.folder} is not the store that {out} was begun with; choose another --out")
    runs.write_json(path, document)


def lineage_of(document: dict[str, Any]) -> "Lineage":
    """Return the lineage that a label store remembers."""
    from limbeck.nets.zoo import Lineage

    return Lineage(**{**document, "teachers": tuple(lineage_of(teacher) for teacher in document["teachers"])})


def load_teacher(
    spec: str, dtype: Literal["auto", "float32", "bfloat16"], compiled: bool, accelerator: "Accelerator"
) -> "Classifier":
    """Return the teacher that `spec` names, frozen, on the accelerator's device."""
    from limbeck.nets import zoo

    return zoo.freeze(zoo.load(spec).to(accelerator.device), dtype=dtype, compile=compiled)


def stand_in(spec: str, data: str, training: Training, tell: Tell) -> "Classifier":
    """Return, for a dry run, the net that a tag names with random weights: gigabytes need not be fetched to time it."""
    from limbeck.nets import zoo
    from limbeck.nets.classifier import numbered

    try:
        classes = open_sets(data, training).classes
    except InputError:  # nothing to name them by
        classes = numbered(1000)
    tell("note", {"text": f"dry run: {spec} has random weights"})
    return zoo.create(spec, classes=classes, channels=3)


def judge(
    specs: Sequence[str],
    teachers: "Sequence[Classifier]",
    sets: Sets,
    training: Training,
    accelerator: "Accelerator",
    *,
    measure: bool = True,
    tell: Tell = runs.silent,
) -> list[float | None]:
    """Check that the teachers, which the user calls `specs`, name the data's classes, put their outputs in that order,
    and return their held-out top-1: None where it can't be measured, or is not to be."""
    from limbeck.nets import zoo

    found: list[float | None] = []
    for spec, teacher in zip(specs, teachers, strict=True):
        note = zoo.check_classes(teacher, sets.classes, spec)
        if note:
            tell("note", {"text": note})
        evaluation = evaluate_on(sets, teacher, training, accelerator) if measure else None
        found.append(evaluation.top1 if evaluation else None)
    return found


def new_discriminator(mode: Literal["off", "cooperative", "adversarial"], classes: int) -> "nn.Module | None":
    """Return MEAL V2's discriminator, or None. The cooperative one ends in a ReLU, as MEAL V2's code does."""
    from limbeck.learn.discriminator import Discriminator

    return None if mode == "off" else Discriminator(classes, rectified=mode == "cooperative")
