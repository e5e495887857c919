"""The data of a run: its training and held-out images, and the views and batches that a net gets of them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from limbeck.errors import InputError
from limbeck.runs import Tell, silent
from limbeck.training.settings import Loading, Training

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator, PartialState

    from limbeck.images.labels import LabelStore
    from limbeck.images.loader import Batch
    from limbeck.images.source import Source, Split
    from limbeck.images.views import Augment
    from limbeck.nets.zoo import Classifier, Input


@dataclass(frozen=True)
class Sets:
    """The data of a run."""

    train: "Source"
    held_out: "Source | None"
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def open_sets(
    data: str,
    training: Training,
    *,
    classes: tuple[str, ...] = (),
    labelled: bool = True,
    tell: Tell = silent,
) -> Sets:
    """Open the training and the held-out split; `classes` names them where the images have no labels.

    InputError where labels are needed and there are none, or where the splits number their classes otherwise.
    """
    from limbeck.images.folder import MissingSplitError
    from limbeck.images.source import moments
    from limbeck.images.sources import open_source
    from limbeck.images.views import WHITE

    if labelled and training.unlabelled:
        raise InputError(f"--unlabelled leaves the labels of {data} out, which this training needs; leave one out")
    opened = partial(open_source, data, on_broken=training.on_broken, download=training.download)
    if training.unlabelled:
        opened = partial(opened, labelled=False)
    train = opened("train") if labelled else _any_images(opened)
    if labelled and train.labels is None:
        raise InputError(
            f"{data} has training images without labels; put them into class folders, one per class, or name their "
            "classes in a table (FILE.csv)"
        )
    try:
        held_out = None if training.unlabelled else opened("val")
    except MissingSplitError:
        if labelled:
            raise
        held_out = None  # a flat folder of unlabelled images has no split to measure on
    if training.limit is not None:
        train = balanced(train, training.limit, training.seed)
    if not labelled:  # labels may have decided which images are held out, and how a limit is balanced, but nothing else
        train = replace(train, labels=None, classes=())
    if held_out is not None and train.classes and held_out.classes != train.classes[: len(held_out.classes)]:
        raise InputError(
            f"{data} has other classes held out ({', '.join(held_out.classes[:5])}, ...) than to train on "
            f"({', '.join(train.classes[:5])}, ...); make them the same"
        )
    _tell_notes((train, held_out), tell)
    train = in_white(train, training.white or WHITE, tell)
    held_out = held_out and in_white(held_out, train.white, tell)
    mean, std = moments(train)
    named = train.classes or (held_out.classes if held_out else ()) or classes
    least = 1 / 255  # a channel that never varies, as in fluorescence images, is divided by a grey level, not by 0
    return Sets(train, held_out, named, mean, tuple(max(value, least) for value in std))


def in_white(source: "Source", white: int, tell: Tell = silent) -> "Source":
    """Return the source with `white` for white in its 16-bit images; tell where these are brighter."""
    from limbeck.images.source import whitened

    if source.brightest > white:
        text = (
            f"16-bit images of {source.spec} hold values up to {source.brightest:,}; those over {white:,} become white"
        )
        tell("note", {"text": text})
    return whitened(source, white)


def as_seen(sets: Sets, net: "Classifier", tell: Tell) -> Sets:
    """Return the sets with what is white for the net."""
    train = in_white(sets.train, net.input.white, tell)
    return replace(sets, train=train, held_out=sets.held_out and in_white(sets.held_out, net.input.white, tell))


def to_compare(data: str, loading: Loading, split: "Split" = "val", *, channels: int | None = None) -> "Source":
    """Open the images to compare nets on: a split with its labels, or without where it has none or they are not to be
    read; of a folder of unlabelled images, all of them."""
    from limbeck.images.folder import MissingSplitError
    from limbeck.images.sources import open_source

    opened = partial(open_source, data, channels=channels, on_broken=loading.on_broken, download=loading.download)
    try:
        return opened(split, labelled=not loading.unlabelled)
    except MissingSplitError:
        found = opened("train")
        if found.labels is not None:
            raise
        return found


def _tell_notes(sources: "tuple[Source | None, ...]", tell: Tell) -> None:
    """Report each note of the sources once."""
    for note in dict.fromkeys(note for source in sources if source for note in source.note.split("; ") if note):
        tell("note", {"text": note})


def _any_images(opened: "Callable[..., Source]") -> "Source":
    """Open the training split, with its labels if it has any."""
    try:
        return opened("train")
    except InputError:  # a flat folder of images
        return opened("train", labelled=False)


def fitting(training: Training, images: int, ranks: int, tell: Tell) -> Training:
    """Return the training with a batch that `images` can fill; InputError where there are too few for one."""
    least = 2 * training.repeats if training.repeats > 1 else 2 if training.mixup or training.cutmix else 1
    most = images // (ranks * training.accumulate) // least * least
    if training.batch <= most:
        return training
    if most == 0:
        raise InputError(
            f"a step takes {least} images or more from each of {ranks} processes, {training.accumulate} times, and "
            f"there are {images} training images; lower --accumulate or --repeats, or add images"
        )
    tell("note", {"text": f"a step takes {most} images, as there are {images}: fewer than --batch {training.batch}"})
    return replace(training, batch=most)


def balanced(source: "Source", count: int, seed: int) -> "Source":
    """Return `count` images of `source`, equally many of each class, drawn by `seed`."""
    import torch

    from limbeck.images.loader import order
    from limbeck.images.source import subset

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
    """Return the side in pixels that a new net gets: as given, else that of small images; None: the net's own."""
    if training.size is not None:
        return training.size
    return None if source.pixels is None else int(source.pixels.shape[-1])


def augment_of(source: "Source", training: Training, size: int, interpolation: str = "bilinear") -> "Augment":
    """Return how training views are drawn, `size` pixels per side."""
    from limbeck.images.views import Augment, Interpolation

    kind = training.augment
    if kind == "auto":
        kind = "crop" if source.pixels is None else "shift"
    flip = training.flip == "yes" or (training.flip == "auto" and not source.spec.startswith("digits:"))
    return Augment(
        size, kind=kind, scale=training.crop_scale, shift=training.shift, flip=flip,
        interpolation=cast(Interpolation, interpolation), white=source.white,
    )  # fmt: skip


def centre(sight: "Input") -> "Augment":
    """Return the view that a net is judged by: small images whole, others by their centre, resized as it expects."""
    from limbeck.images.views import Augment, Interpolation

    kind = cast(Interpolation, sight.interpolation)
    return Augment(sight.size, kind="none", flip=False, crop_pct=sight.crop_pct, interpolation=kind, white=sight.white)


def judged(
    net: "Classifier",
    source: "Source",
    batch: int,
    *,
    workers: int | None = None,
    ranks: "PartialState | Accelerator | None" = None,
    device: "torch.device | str" = "cpu",
    shuffle: bool = False,
    drop_last: bool = False,
) -> "Iterator[Batch]":
    """Yield all images of `source` as the net is judged by them: once each, in its view. With `ranks` this rank's part
    of them."""
    from limbeck.images.loader import batches

    rank, count = (0, 1) if ranks is None else (ranks.process_index, ranks.num_processes)
    return batches(
        source, centre(net.input), batch=batch, seed=0, epoch=0, rank=rank,
        ranks=count, workers=workers_of(source, workers), device=device if ranks is None else ranks.device,
        shuffle=shuffle, drop_last=drop_last,
    )  # fmt: skip


def training_batches(
    source: "Source",
    training: Training,
    view: "Augment",
    accelerator: "Accelerator",
    labels: "LabelStore | None",
    epoch: int,
    start: int,
) -> "Iterator[Batch]":
    """Yield this rank's training batches of `epoch` from batch `start` on, with the views of `labels` if given."""
    from limbeck.images.loader import batches

    return batches(
        source, view, batch=training.batch, seed=training.seed, epoch=epoch,
        start=start, rank=accelerator.process_index, ranks=accelerator.num_processes,
        workers=workers_of(source, training.workers), device=accelerator.device, mixup=training.mixup,
        cutmix=training.cutmix, stored=labels, repeats=training.repeats,
    )  # fmt: skip


def workers_of(source: "Source", workers: int | None) -> int:
    """Return the number of decoding processes: as given, else none for small images, else one per core, 8 at most."""
    if workers is not None:
        return workers
    return 0 if source.pixels is not None else min(os.cpu_count() or 1, 8)
