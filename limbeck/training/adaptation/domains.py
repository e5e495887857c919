"""The data of an adaptation: a target without labels, a source with, and the batches that pair them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.sets import Sets, augment_of, balanced, in_white, judged, open_sets, training_batches
from limbeck.training.settings import Training

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from limbeck.images.domains import Randomise
    from limbeck.images.loader import Batch
    from limbeck.images.source import Source
    from limbeck.nets.zoo import Classifier

ENOUGH = 2048  # target images that statistics are re-estimated from ...
STATISTICS_BATCH = 128  # ... in batches of so many, however many a training's batch and ranks take
SOURCE_SEED = 0x5EED  # added, so that equally large domains are not drawn in the same order


@dataclass(frozen=True)
class Domains:
    """What an adaptation may see: no label of the target is in here."""

    target: "Source"  # training images, labels None
    held_out: "Source"  # target images to judge by, labels None; the training images where there are no others
    source: Sets | None

    @property
    def images(self) -> int:
        """Training images of the smaller domain."""
        return min(len(self.target), len(self.source.train) if self.source else len(self.target))

    def steps(self, training: Training, ranks: int) -> int:
        """Return the optimiser steps per epoch: a pass over the larger domain. InputError where one is too small."""
        from limbeck.training.run import steps_of

        both = [self.target] if self.source is None else [self.target, self.source.train]
        return max(steps_of(domain, training, ranks) for domain in both)


def open_domains(
    net: "Classifier", model: str, target: str, source: str | None, training: Training, tell: Tell
) -> Domains:
    """Open both domains, and put the outputs of the net, which the user calls `model`, into the order of the source's
    classes; InputError where the classes of net, source and target differ, or the target is too small."""
    from limbeck.images.folder import MissingSplitError
    from limbeck.nets import zoo

    sets = None
    if source is not None:
        sets = open_sets(source, replace(training, unlabelled=False), tell=tell)
        note = zoo.check_classes(net, sets.classes, model, order=training.class_order)
        if note:
            tell("note", {"text": note})
    train = in_white(_opened(target, "train", training), net.input.white, tell)
    if note := check_target(target, net.classes, training):
        tell("note", {"text": note})
    if len(train) < 2:
        raise InputError(f"{target} has {len(train)} image to adapt to; give more of them, at least a batch")
    if training.limit is not None:
        train = balanced(train, training.limit, training.seed)
    try:
        held_out = in_white(_opened(target, "val", training), net.input.white)
    except MissingSplitError:
        held_out = train
    return Domains(train, held_out, sets)


def _opened(target: str, split: Literal["train", "val"], training: Training) -> "Source":
    """Open the target without its labels: nothing behind here can see them."""
    from limbeck.images.sources import open_source

    return open_source(target, split, labelled=False, on_broken=training.on_broken, download=training.download)


def labels_of(target: str, training: Training) -> "Source | None":
    """Open the target's held-out split with its labels, for a report; None where it has none."""
    from limbeck.images.folder import MissingSplitError
    from limbeck.images.sources import open_source

    if training.unlabelled:
        return None
    try:
        found = open_source(target, "val", on_broken=training.on_broken, download=training.download)
    except MissingSplitError:
        return None
    return None if found.labels is None else found


def check_target(target: str, classes: tuple[str, ...], training: Training) -> str:
    """Return a note where the target's own class names can only be counted, else nothing; InputError where they are
    other classes."""
    try:
        found = labels_of(target, training)
    except InputError as error:  # its images were opened before, so it is the labels
        raise InputError(f"{error}; to adapt without labels pass --unlabelled") from error
    if found is None:
        return ""
    places = class_places(found.classes, classes, target)
    if set(found.classes) == set(classes):
        return ""
    first = ", ".join(f"{found.classes[i]} is {classes[places[i]]}" for i in range(2))
    return f"the classes of {target} can't be compared by name; the report takes them in order: {first}, ..."


def class_places(own: tuple[str, ...], classes: tuple[str, ...], target: str) -> list[int]:
    """Return which of `classes` each of the target's own classes is; InputError where they differ."""
    if set(own) == set(classes):
        return [classes.index(name) for name in own]
    if len(own) == len(classes) and tuple(map(str, range(len(own)))) in (own, classes):
        return list(range(len(own)))  # numbers name nothing: the order is taken
    missing, strange = sorted(set(classes) - set(own)), sorted(set(own) - set(classes))
    parts = [f"lacks {', '.join(missing[:5])}"] * bool(missing) + [f"adds {', '.join(strange[:5])}"] * bool(strange)
    raise InputError(
        f"{target} has {len(own)} classes and the model {len(classes)}: it {' and '.join(parts)}; "
        "a target must have the model's classes; where its folders are none, as of days, pass --unlabelled"
    )


Pairs = Callable[[int, int], "Iterator[Batch]"]


def pairs(
    domains: Domains,
    training: Training,
    accelerator: "Accelerator",
    *,
    steps: int,
    size: int,
    channels: int,
    kind: "Randomise",
    interpolation: str = "bilinear",
) -> Pairs:
    """Return what yields this rank's batches of an epoch of `steps` optimiser steps from a batch on: target images of
    `size` pixels, with a labelled source batch beside them where there is a source. The smaller domain comes again."""
    source = None if domains.source is None else domains.source.train
    apart = replace(training, seed=(training.seed + SOURCE_SEED) % 2**32)

    def drawn(epoch: int, start: int) -> "Iterator[Batch]":
        number = epoch * steps * training.accumulate + start
        targets = _endless(domains.target, training, accelerator, number, size, interpolation)
        if source is None:
            yield from (batch for _, batch in targets)
            return
        sources = _endless(source, apart, accelerator, number, size, interpolation)
        for (_, seen), (shown, labelled) in zip(targets, sources, strict=True):
            images = _randomised(labelled, seen.images, kind, channels, apart.seed, shown)
            yield replace(seen, source=replace(labelled, images=images))

    return drawn


def _endless(
    source: "Source", training: Training, accelerator: "Accelerator", number: int, size: int, interpolation: str
) -> "Iterator[tuple[int, Batch]]":
    """Yield (epoch, batch) from batch `number` of the source's own epochs on, without end."""
    from limbeck.images.loader import steps_per_epoch

    whole = steps_per_epoch(len(source), batch=training.batch, ranks=accelerator.num_processes)
    view = augment_of(source, training, size, interpolation)
    epoch, start = divmod(number, whole)
    while True:
        for batch in training_batches(source, training, view, accelerator, None, epoch, start):
            yield epoch, batch
        epoch, start = epoch + 1, 0


def _randomised(batch: "Batch", target: "Tensor", kind: "Randomise", channels: int, seed: int, epoch: int) -> "Tensor":
    from limbeck.images.domains import draw_randomisation, in_channels, randomise

    if kind == "none":
        return batch.images
    draws = draw_randomisation(seed=seed, epoch=epoch, indices=batch.indices.numpy())
    return randomise(batch.images, kind, draws, in_channels(target, channels))


def randomisation_of(asked: "Literal['auto'] | Randomise", domains: Domains) -> "Randomise":
    """Return what is randomised in the source: as given, else backgrounds where grey meets coloured."""
    if asked != "auto":
        return asked
    coloured = domains.source is not None and domains.source.train.channels < domains.target.channels
    return "backgrounds" if coloured else "none"


def still_batches(
    source: "Source", net: "Classifier", training: Training, accelerator: "Accelerator", *, whole: bool
) -> "Iterator[Batch]":
    """Yield the images as the net is judged by: this rank's part of them; or, of `whole`, all of an even choice of
    ENOUGH on every rank, in batches of one size, as statistics need it."""
    from limbeck.images.source import evenly

    if not whole:
        return judged(net, source, training.batch, workers=training.workers, ranks=accelerator)
    batch, device = min(STATISTICS_BATCH, len(source)), accelerator.device
    chosen = evenly(source, ENOUGH)
    return judged(net, chosen, batch, workers=training.workers, device=device, drop_last=True)
