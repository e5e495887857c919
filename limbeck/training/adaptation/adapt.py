"""A classifier is adapted to unlabelled images from elsewhere."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck import runs
from limbeck.runs import Tell
from limbeck.training.adaptation.adapted import ADAPTED, Adapted, Changed
from limbeck.training.adaptation.candidates import Judge
from limbeck.training.adaptation.course import course
from limbeck.training.adaptation.domains import open_domains
from limbeck.training.adaptation.methods import Adapting, Method, Terms, check, terms_of, weights_of
from limbeck.training.results import Estimate
from limbeck.training.run import (
    accelerator_for,
    begin_run,
    check_random_steps,
    estimate,
    estimated,
    freed_if_refused,
    run,
    seconds_of,
)
from limbeck.training.sets import Sets, fitting
from limbeck.training.settings import Training, flat
from limbeck.training.teachers import load_teacher, show_white

if TYPE_CHECKING:
    from torch import nn

    from limbeck.learn.adapt import TwoDomains
    from limbeck.learn.fit import Loop
    from limbeck.nets.zoo import Classifier


def adapt(
    model: str,
    target: str,
    out: str,
    training: Training,
    *,
    source: str | None = None,
    source_free: bool = False,
    teachers: tuple[str, ...] = (),
    method: Method = "auto",
    terms: Terms = Terms(),  # noqa: B008 - frozen
    how: Adapting = Adapting(),  # noqa: B008 - frozen
    oracle: str | None = None,
    dry_run: bool = False,
    tell: Tell = runs.silent,
) -> Adapted | Estimate:
    """Adapt `model` to unlabelled images in the run folder `out`; a dry run makes a few steps and writes nothing."""
    begun = time.monotonic()
    if method == "auto":
        method = "shot" if source_free else "combined"
    chosen = terms_of(method, terms, bool(teachers))
    check(method, chosen, how, source, source_free, teachers, training)
    settings = flat(
        model=model, target=target, out=out, source=source, source_free=source_free, teachers=teachers, method=method,
        terms=terms, how=how, oracle=oracle, training=training,
    )  # fmt: skip
    import torch

    from limbeck.learn.adapt import bytes_changed
    from limbeck.nets import zoo

    accelerator = accelerator_for(training, out)
    net = zoo.load(model).to(accelerator.device).to(memory_format=torch.channels_last)
    check_random_steps(net, training)
    training = replace(training, white=training.white or net.input.white)
    show_white([net], training.white or net.input.white)
    domains = open_domains(net, model, target, source, training, tell)
    training = fitting(training, domains.images, accelerator.num_processes, tell)
    frozen = [load_teacher(spec, how.teacher_dtype, False, accelerator) for spec in teachers]
    _check_classes(teachers, frozen, oracle, net.classes, training)
    lineages = tuple(teacher.lineage for teacher in frozen)
    net.lineage = replace(net.lineage, tag=f"{net.lineage.tag}{ADAPTED}{target}", teachers=lineages)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    trains = any(asdict(weights_of(chosen)).values())
    if not dry_run:
        sets = Sets(domains.target, None, net.classes, (), ())
        begin_run(out, "adapt", settings, sets, training, accelerator, trains=trains, tell=tell)
    seconds = None if dry_run else seconds_of(Path(out))
    judge = Judge(domains, training, accelerator, Path(out), how.select)
    if seconds is None:
        planned = course(net, frozen, method, chosen, how, domains, training, accelerator) if trains else None
        if dry_run:
            settling = partial(_seconds_to_settle, judge, net)
            if planned is None:
                return estimated(net, steps=0, seconds=settling(), moments=0, loss=None)
            return estimate(planned[1](), net, training, settling)
        judge.begin(net)
        earlier = _train(*planned, judge, training, tell) if planned else 0.0
        judge.finish(net, before)
        if oracle is not None:
            judge.beside(oracle, net.classes)
        seconds = earlier + time.monotonic() - begun
    accelerator.wait_for_everyone()
    kept, collapse = judge.choose()
    chosen_net = zoo.load(out)
    done = Adapted(
        out=out, model=model, target=target, method=method, images=len(domains.target), epochs=training.epochs,
        seconds=seconds, criterion=how.select, chosen=kept, collapse=collapse,
        signs=judge.signs(), changed=Changed(*bytes_changed(before, chosen_net)),
        report=judge.report(kept, target, net.classes), teachers=teachers,
    )  # fmt: skip
    if accelerator.is_main_process:
        runs.write_sealed(Path(out) / runs.RESULTS, {**done.to_json(), "sha256": chosen_net.lineage.sha256})
        (Path(out) / runs.STATE).unlink(missing_ok=True)
    runs.give_up(Path(out))
    return done


def _seconds_to_settle(judge: Judge, net: "Classifier") -> float:
    """Return how long it takes to give the net the target's BatchNorm statistics, as after every epoch."""
    begun = time.monotonic()
    judge.settle(net)
    return time.monotonic() - begun


def _check_classes(
    specs: tuple[str, ...],
    teachers: "list[Classifier]",
    oracle: str | None,
    classes: tuple[str, ...],
    training: Training,
) -> None:
    """Refuse teachers and an oracle of other classes."""
    from limbeck.nets import zoo

    for spec, teacher in zip(specs, teachers, strict=True):
        zoo.check_classes(teacher, classes, spec, order=training.class_order)
    if oracle is not None:
        zoo.check_classes(zoo.load(oracle), classes, oracle, order=training.class_order)


def _train(student: "TwoDomains", make: "Callable[[], Loop]", judge: Judge, training: Training, tell: Tell) -> float:
    from limbeck.learn.adapt import TwoDomains

    def validate(final: "nn.Module", epoch: int) -> dict[str, float]:
        assert isinstance(final, TwoDomains)
        return judge.epoch(final.classifier, epoch)

    loop = make()
    with freed_if_refused(judge.out, loop.accelerator):
        return run(loop, student, judge.out, validate, training.validate_every, tell)
