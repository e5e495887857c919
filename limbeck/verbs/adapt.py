"""limbeck adapt."""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.adaptation.adapted import ADAPTED, Adapted, Changed
from limbeck.training.adaptation.candidates import NORM, SOURCE, Judge
from limbeck.training.adaptation.domains import open_domains, pairs, randomisation_of
from limbeck.training.results import Estimate
from limbeck.training.run import (
    accelerator_for,
    begin_run,
    check_random_steps,
    estimate,
    estimated,
    freed_if_refused,
    prepared,
    run,
    seconds_of,
)
from limbeck.training.sets import Sets, fitting
from limbeck.training.settings import Training, flat, keywords
from limbeck.training.teachers import load_teacher

if TYPE_CHECKING:
    from torch import Tensor, nn

    from limbeck.learn.adapt import Weights
    from limbeck.learn.fit import Loop
    from limbeck.learn.objectives import Objective
    from limbeck.nets.zoo import Classifier

Method = Literal["auto", "norm", "tent", "shot", "combined", "mcc", "coral", "mmd", "dann", "cdan", "mobileda"]


@dataclass(frozen=True)
class Terms:
    """Weights of the loss's terms; what is not given is as the method has it."""

    source_weight: float | None = None
    """Of the cross-entropy with the source's labels."""
    coral: float | None = None
    """Of the distance of the logits' covariances."""
    mmd: float | None = None
    """Of the maximum mean discrepancy of the features."""
    dann: float | None = None
    """Of the critic that tells the domains apart by features, its gradient reversed."""
    cdan: float | None = None
    """The same by features and answers together."""
    mcc: float | None = None
    """Of minimum class confusion."""
    entropy: float | None = None
    """Of the target answers' mean entropy."""
    diversity: float | None = None
    """Of the entropy of the mean target answer, which is to be high."""
    pseudo: float | None = None
    """Of the cross-entropy with the net's own sure answers."""
    kd: float | None = None
    """Of the teachers' answers on the target."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not 0 <= value < float("inf"):
                raise InputError(f"--{name.replace('_', '-')} is {value}, but must be 0 or more")
        if self.dann and self.cdan:
            raise InputError("--dann and --cdan are two critics; give one of them")


_METHODS: dict[Method, Terms] = {
    "norm": Terms(),
    "tent": Terms(entropy=1.0),
    "shot": Terms(entropy=1.0, diversity=1.0, pseudo=0.3),
    "combined": Terms(source_weight=1.0, mcc=1.0, entropy=0.3, diversity=0.3, pseudo=0.3),
    "mcc": Terms(source_weight=1.0, mcc=1.0),
    "coral": Terms(source_weight=1.0, coral=1.0),
    "mmd": Terms(source_weight=1.0, mmd=1.0),
    "dann": Terms(source_weight=1.0, dann=1.0),
    "cdan": Terms(source_weight=1.0, cdan=1.0),
    "mobileda": Terms(source_weight=1.0, coral=1.0, kd=1.0),
}
_NEED_SOURCE = ("source_weight", "coral", "mmd", "dann", "cdan")


@keywords
def adapt(
    model: str,
    *,
    target: str,
    out: str,
    source: str | None = None,
    source_free: bool = False,
    teachers: tuple[str, ...] = (),
    method: Method = "auto",
    terms: Terms = Terms(),
    confidence: float = 0.8,
    temperature: float = 4.0,
    randomise: Literal["auto", "none", "strokes", "colours", "backgrounds"] = "auto",
    critic_lr: float = 0.01,
    select: Literal["last", "infomax", "snd", "entropy", "source"] = "last",
    oracle: str | None = None,
    teacher_dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    training: Training = Training(epochs=10, batch=64, lr=0.05),  # noqa: B008 - frozen
    dry_run: bool = False,
    tell: Tell = runs.silent,
) -> Adapted | Estimate:
    """Adapt a classifier to unlabelled images from elsewhere, with its labelled source or without.

    Labels of the target are never used but for the report; which epoch is kept is chosen without them, and a net that
    collapsed is given up for the model as it came. auto is combined (minimum class confusion, information maximisation,
    own sure answers) with a source, and shot without.

    Examples:
        limbeck adapt runs/s --source digits:mnist --target digits:mfeat --out runs/a
        limbeck adapt runs/s --source-free --target photos/ --out runs/a
        limbeck adapt runs/s --source A --target B --method mobileda --teachers runs/t --out runs/a

    Args:
        model: A run folder, or what else names a trained classifier.
        target: Where it is to be good: a folder, digits:mfeat, torchvision:NAME, ...; labels are not needed.
        out: The run folder to write.
        source: Labelled images of the same classes, as it was trained on.
        source_free: Adapt without a source.
        teachers: Classifiers whose answers on the target are learned too (see --kd).
        method: What the loss is made of; the terms' own flags override it.
        terms: Weights of the loss's terms.
        confidence: Probability from which an own answer is sure, for --pseudo.
        temperature: Of the teachers' answers.
        randomise: Draw anew what does not make the source's classes; auto: backgrounds, where a grey source meets a
            coloured target.
        critic_lr: Learning rate of DANN's and CDAN's critic.
        select: By which figure the epoch to keep is chosen, without labels.
        oracle: A classifier trained on the target's labels, to show beside.
        teacher_dtype: Of the teachers' arithmetic; auto is bfloat16 where the machine has it in hardware.
        training: How to train. An epoch is one pass over the larger of source and target.
        dry_run: Build everything, make two steps, estimate time, memory and disk; write nothing.
    """
    begun = time.monotonic()
    may_write(None if dry_run else out, "run", inputs=(model, *teachers, oracle), data=(target, source))
    method = ("shot" if source_free else "combined") if method == "auto" else method
    chosen = _terms(method, terms, bool(teachers))
    _check(method, chosen, source, source_free, teachers, training)
    _check_values(confidence, temperature, critic_lr, randomise, select, source_free)
    settings = flat(
        model=model, target=target, out=out, source=source, source_free=source_free, teachers=teachers, method=method,
        terms=terms, confidence=confidence, temperature=temperature, randomise=randomise, critic_lr=critic_lr,
        select=select, oracle=oracle, teacher_dtype=teacher_dtype, training=training,
    )  # fmt: skip
    import torch

    from limbeck.learn import adapt as learn
    from limbeck.learn.objectives import ask
    from limbeck.nets import zoo

    accelerator = accelerator_for(training, out)
    net = zoo.load(model).to(accelerator.device).to(memory_format=torch.channels_last)
    check_random_steps(net, training)
    domains = open_domains(net, model, target, source, training, tell)
    training = fitting(training, domains.images, accelerator.num_processes, tell)
    frozen = [load_teacher(spec, teacher_dtype, False, accelerator) for spec in teachers]
    _check_classes(teachers, frozen, oracle, net.classes, training)
    lineages = tuple(teacher.lineage for teacher in frozen)
    net.lineage = replace(net.lineage, tag=f"{net.lineage.tag}{ADAPTED}{target}", teachers=lineages)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    weights = _weights(chosen)
    trains = any(asdict(weights).values())
    steps = domains.steps(training, accelerator.num_processes) if trains else 0
    if not dry_run:
        begin_run(
            out,
            "adapt",
            settings,
            Sets(domains.target, None, net.classes, (), ()),
            training,
            accelerator,
            trains=trains,
        )
    finished, earlier = None if dry_run else seconds_of(Path(out)), 0.0
    judge = Judge(domains, training, accelerator, Path(out), select)
    answer = ask(frozen, temperature=temperature) if frozen else None

    def objective(student: "nn.Module", critic: "nn.Module | None") -> "Objective":
        return learn.adapt(
            student, weights, critic=critic, answer=answer, temperature=temperature, confidence=confidence,
            label_smoothing=training.label_smoothing,
        )  # fmt: skip

    if finished is None:
        batches = pairs(
            domains, training, accelerator, steps=steps, size=max(n.input.size for n in [net, *frozen]),
            channels=net.input.channels, kind=randomisation_of(randomise, domains),
            interpolation=net.input.interpolation,
        )  # fmt: skip
        _freeze(net, method)
        student = learn.TwoDomains(net)
        critic = _critic(net, chosen, steps * training.epochs * training.accumulate)
        make = partial(prepared, student, objective, steps, training, batches, accelerator, critic, critic_lr)
        if dry_run:
            return estimate(make(), net, training) if trains else _estimate_untrained(judge, net)
        judge.begin(net)
        if trains:
            earlier = _train(make(), student, judge, training, tell)
        _keep(judge, net, before)
        if oracle is not None:
            judge.beside(oracle, net.classes)
    accelerator.wait_for_everyone()
    kept, collapse = judge.choose()
    done = Adapted(
        out=out, model=model, target=target, method=method, images=len(domains.target), epochs=training.epochs,
        seconds=finished or earlier + time.monotonic() - begun, criterion=select, chosen=kept, collapse=collapse,
        signs=judge.signs(), changed=Changed(*learn.bytes_changed(before, zoo.load(out))),
        report=judge.report(kept, target, net.classes), teachers=teachers,
    )  # fmt: skip
    if accelerator.is_main_process:
        runs.write_sealed(Path(out) / runs.RESULTS, done.to_json())
        (Path(out) / runs.STATE).unlink(missing_ok=True)
    return done


def _estimate_untrained(judge: Judge, net: "Classifier") -> Estimate:
    """Return what it takes to give the net the target's BatchNorm statistics, which is all that is to be done."""
    begun = time.monotonic()
    judge.settle(net)
    return estimated(net, steps=0, seconds=time.monotonic() - begun, moments=0, loss=None)


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


def _freeze(net: "Classifier", method: Method) -> None:
    """Leave to be trained what the method trains."""
    from limbeck.learn import adapt as learn

    if method == "tent":
        learn.train_norms_only(net)
    elif method == "shot":
        learn.freeze_head(net)


def _terms(method: Method, given: Terms, taught: bool) -> Terms:
    """Return the method's terms, replaced by those given; teachers count 1 unless told otherwise."""
    _check_one_of("method", method, _METHODS)
    own = {name: value for name, value in asdict(given).items() if value is not None}
    listening = {"kd": 1.0} if taught else {}
    return replace(_METHODS[method], **{**listening, **own})


def _check_one_of(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise InputError(f"--{name} is {value!r}; it must be one of {', '.join(choices)}")


def _check_values(
    confidence: float, temperature: float, critic_lr: float, randomise: str, select: str, source_free: bool
) -> None:
    """Refuse what has no meaning, before anything is written."""
    from limbeck.images.domains import Randomise
    from limbeck.learn.select import CRITERIA

    if not 0 < confidence <= 1:
        raise InputError(f"--confidence is {confidence}, but must be more than 0 and at most 1")
    for name, value in {"temperature": temperature, "critic-lr": critic_lr}.items():
        if not 0 < value < float("inf"):
            raise InputError(f"--{name} is {value}, but must be more than 0")
    _check_one_of("randomise", randomise, ("auto", *get_args(Randomise)))
    _check_one_of("select", select, CRITERIA)
    if select == "source" and source_free:
        raise InputError("--select source needs labelled source images; give --source, or --select infomax or last")


def _check(
    method: Method, terms: Terms, source: str | None, source_free: bool, teachers: tuple[str, ...], training: Training
) -> None:
    """Refuse what does not fit together."""
    asking = [name for name in _NEED_SOURCE if getattr(terms, name)]
    if source is not None and source_free:
        raise InputError("--source-free goes without --source; leave one of the two out")
    if source is None and not source_free:
        raise InputError("give --source, the labelled images that the model was trained on, or --source-free")
    if source is None and asking:
        own = [name for name in asking if getattr(_METHODS[method], name)]
        flag = f"method {method}" if own else asking[0].replace("_", "-")
        raise InputError(f"--{flag} needs labelled source images; give --source, or --method shot, tent or norm")
    if terms.kd and not teachers:
        raise InputError("mobileda and --kd learn from teachers; give --teachers")
    if training.size is not None:
        raise InputError("a trained net keeps the size that it sees; leave --size out")
    if training.mixup or training.cutmix:
        raise InputError("--mixup and --cutmix mix labels, which a target has not; leave them out")


def _weights(terms: Terms) -> "Weights":
    from limbeck.learn.adapt import Weights

    value = {name: weight or 0.0 for name, weight in asdict(terms).items()}
    critic, source, distil = value.pop("dann") + value.pop("cdan"), value.pop("source_weight"), value.pop("kd")
    return Weights(source=source, critic=critic, distil=distil, **value)


def _critic(net: "Classifier", terms: Terms, calls: int) -> "nn.Module | None":
    """Return DANN's or CDAN's critic, whose strength grows over so many calls."""
    if not (terms.dann or terms.cdan):
        return None
    from limbeck.learn.adapt import head_of
    from limbeck.learn.domain import DomainCritic

    classes = len(net.classes) if terms.cdan else 0
    return DomainCritic(head_of(net).in_features, ramp=calls, classes=classes).to(net.scale.device)


def _train(loop: "Loop", student: "nn.Module", judge: Judge, training: Training, tell: Tell) -> float:
    from limbeck.learn.adapt import TwoDomains

    def validate(final: "nn.Module", epoch: int) -> dict[str, float]:
        assert isinstance(final, TwoDomains)
        return judge.epoch(final.classifier, epoch)

    with freed_if_refused(judge.out, loop.accelerator):
        return run(loop, student, judge.out, validate, training.validate_every, tell)


def _keep(judge: Judge, net: "Classifier", before: "dict[str, Tensor]") -> None:
    """Leave the chosen net in the run folder; that of the chosen epoch is there already."""
    judge.accelerator.wait_for_everyone()
    chosen, _ = judge.choose()
    if chosen in (SOURCE, NORM):
        net.load_state_dict(before)
        if chosen == NORM:
            judge.settle(net)
        judge.keep(net)
