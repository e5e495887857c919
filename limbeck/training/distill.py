"""A student learns the averaged prediction of its teachers (MEAL V2)."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from limbeck import runs
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.results import Estimate, Trained, measured
from limbeck.training.run import accelerator_for, begin_run, new_net, train
from limbeck.training.sets import as_seen, fitting, open_sets
from limbeck.training.settings import LARGE, Ensemble, Training, flat
from limbeck.training.teachers import Stored, live, record_labels

if TYPE_CHECKING:
    from torch import nn

    from limbeck.learn.objectives import Objective

Mode = Literal["off", "cooperative", "adversarial"]


def distill(
    data: str,
    student: str,
    out: str,
    training: Training,
    *,
    teachers: tuple[str, ...] = (),
    labels: str | None = None,
    pretrained: bool = False,
    arguments: tuple[str, ...] = (),
    ensemble: Ensemble = Ensemble(),  # noqa: B008 - frozen
    hard_weight: float = 0.0,
    discriminator: Mode = "off",
    discriminator_lr: float = 1e-4,
    dry_run: bool = False,
    tell: Tell = runs.silent,
) -> Trained | Estimate:
    """Train `student` by the averaged predictions of its teachers, live or stored, in the run folder `out`; a dry run
    makes a few steps and writes nothing."""
    settings = flat(
        data=data, student=student, teachers=teachers, labels=labels, out=out, pretrained=pretrained,
        arguments=arguments, ensemble=ensemble, hard_weight=hard_weight, discriminator=discriminator,
        discriminator_lr=discriminator_lr, training=training,
    )  # fmt: skip
    import torch

    from limbeck.images.labels import LabelStore
    from limbeck.learn import objectives

    if bool(teachers) == bool(labels):
        raise InputError("a student learns from --teachers or from --labels; give one of the two")
    if not 0 <= hard_weight <= LARGE:
        raise InputError(f"--hard-weight is {hard_weight}; give one from 0 to {LARGE:g}")
    if not 0 < discriminator_lr <= LARGE:
        raise InputError(f"--discriminator-lr is {discriminator_lr}; give more than 0 and at most {LARGE:g}")
    stored = Stored(LabelStore.open(Path(labels))) if labels else None
    ensemble.check(len(stored.store.manifest.teachers if stored else teachers))
    accelerator = accelerator_for(training, out)
    taught = stored or live(teachers, ensemble, data, training, accelerator, dry_run=dry_run, tell=tell)
    training = replace(training, white=taught.white(training))
    sets = open_sets(data, taught.seeds(training), classes=taught.classes, labelled=hard_weight > 0, tell=tell)
    training = fitting(training, len(sets.train), accelerator.num_processes, tell)
    torch.manual_seed(training.seed)  # a student begins alike, whatever its teachers drew when they were built
    net = new_net(student, sets, training, pretrained=pretrained and not dry_run, arguments=arguments)
    sets = as_seen(sets, net, tell)
    teaching = taught.of(net, sets, ensemble, training, accelerator, measure=not dry_run, tell=tell)
    for name, top1 in teaching.teachers:
        tell("note", {"text": f"teacher {name}: {measured(top1)}"})
    net.lineage = replace(net.lineage, teachers=teaching.lineages)
    if not dry_run:
        begin_run(out, "distill", settings, sets, training, accelerator, tell=tell)
        if stored is not None and accelerator.is_main_process:
            record_labels(Path(out), stored.store)

    def objective(prepared: "nn.Module", critic: "nn.Module | None") -> "Objective":
        return objectives.distill(
            prepared, teaching.answer, temperature=teaching.temperature, hard_weight=hard_weight,
            label_smoothing=training.label_smoothing, discriminator=critic, mode=discriminator,
        )  # fmt: skip

    return train(
        net, objective, sets, training, out=out, view=teaching.view, accelerator=accelerator,
        discriminator=new_discriminator(discriminator, len(sets.classes)), discriminator_lr=discriminator_lr,
        teachers=teaching.teachers, labels=teaching.labels, dry_run=dry_run, tell=tell,
    )  # fmt: skip


def new_discriminator(mode: Mode, classes: int) -> "nn.Module | None":
    """Return MEAL V2's discriminator, or None. The cooperative one ends in a ReLU, as MEAL V2's code does."""
    from limbeck.learn.discriminator import Discriminator

    return None if mode == "off" else Discriminator(classes, rectified=mode == "cooperative")
