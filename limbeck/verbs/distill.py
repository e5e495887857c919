"""limbeck distill: a student learns the averaged answer of its teachers (MEAL V2)."""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from limbeck import runs
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.verbs.training import (
    Estimate,
    Sets,
    Trained,
    Training,
    accelerator_for,
    begin_run,
    evaluate_on,
    flat,
    new_net,
    open_sets,
    train,
)

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from limbeck.learn.objectives import Objective
    from limbeck.nets.zoo import Classifier


def distill(
    *,
    data: str,
    student: str,
    teachers: tuple[str, ...],
    out: str,
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
    not used unless --hard-weight says so, so unlabelled images do.

    Examples:
        limbeck distill --data photos/ --student dsodenet20 --teachers runs/t1 runs/t2 --out runs/s

    Args:
        data: As for teach; a folder of unlabelled images does too.
        student: A timm name (Limbeck's own nets are among them), tv/NAME, or a run folder to go on from.
        teachers: Run folders, pinned timm tags, tv/NAME.WEIGHTS, NAME@FILE, hf-hub:ID or local-dir:PATH.
        out: The run folder to write.
        pretrained: Begin with the weights of the tag that --student names.
        arguments: What else the student takes, as width=8 steps=4.
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
        data=data, student=student, teachers=teachers, out=out, pretrained=pretrained, arguments=arguments,
        average=average, weights=weights, temperature=temperature, hard_weight=hard_weight,
        discriminator=discriminator, discriminator_lr=discriminator_lr, teacher_dtype=teacher_dtype,
        compile_teachers=compile_teachers, training=training,
    )  # fmt: skip
    if weights and len(weights) != len(teachers):
        raise InputError(f"{len(weights)} weights for {len(teachers)} teachers; give one a teacher")
    accelerator = accelerator_for(training, out)
    frozen = [load_teacher(spec, teacher_dtype, compile_teachers, accelerator) for spec in teachers]
    sets = open_sets(data, training, classes=frozen[0].classes, labelled=hard_weight > 0)
    net = new_net(student, sets, training, pretrained=pretrained, arguments=arguments)
    view_size = max(n.input.size for n in [net, *frozen])  # a larger teacher sees real pixels, not enlarged ones
    judged = tuple(zip(teachers, judge(frozen, sets, view_size, training, accelerator, dry_run=dry_run), strict=True))
    for name, top1 in judged:
        tell("note", {"text": f"teacher {name}: " + ("not measured" if top1 is None else f"top-1 {top1:.2%}")})
    net.lineage = replace(net.lineage, teachers=tuple(teacher.lineage for teacher in frozen))
    if not dry_run:
        begin_run(out, "distill", settings, sets, training, accelerator)

    def objective(prepared: "nn.Module", critic: "nn.Module | None") -> "Objective":
        from limbeck.learn import objectives

        answer = objectives.ask(frozen, average=average, weights=weights, temperature=temperature)
        return objectives.distill(
            prepared, answer, temperature=temperature, hard_weight=hard_weight,
            label_smoothing=training.label_smoothing, discriminator=critic, mode=discriminator,
        )  # fmt: skip

    return train(
        net, objective, sets, training, out=out, view_size=view_size, accelerator=accelerator,
        discriminator=new_discriminator(discriminator, len(sets.classes)), discriminator_lr=discriminator_lr,
        teachers=judged, dry_run=dry_run, tell=tell,
    )  # fmt: skip


def load_teacher(
    spec: str, dtype: Literal["auto", "float32", "bfloat16"], compiled: bool, accelerator: "Accelerator"
) -> "Classifier":
    """Return the teacher that `spec` names, frozen, on the accelerator's device."""
    from limbeck.nets import zoo

    return zoo.freeze(zoo.load(spec).to(accelerator.device), dtype=dtype, compile=compiled)


def judge(
    teachers: "list[Classifier]",
    sets: Sets,
    view_size: int,
    training: Training,
    accelerator: "Accelerator",
    *,
    dry_run: bool,
) -> list[float | None]:
    """Check that the teachers name the data's classes, and return their held-out top-1 (None where it can't be
    measured, or in a dry run)."""
    from limbeck.nets import zoo

    found: list[float | None] = []
    for teacher in teachers:
        zoo.check_classes(teacher, sets.classes)
        evaluation = (
            None if dry_run else evaluate_on(sets, teacher, teacher.input.crop_pct, view_size, training, accelerator)
        )
        found.append(evaluation.top1 if evaluation else None)
    return found


def new_discriminator(mode: Literal["off", "cooperative", "adversarial"], classes: int) -> "nn.Module | None":
    """Return MEAL V2's discriminator, or None. The cooperative one ends in a ReLU, as MEAL V2's code does."""
    from limbeck.learn.discriminator import Discriminator

    return None if mode == "off" else Discriminator(classes, rectified=mode == "cooperative")
