"""Batches in an order that (seed, epoch) decides alone, on any number of ranks and workers."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from limbeck.errors import InputError, first_line
from limbeck.images.images import decoding
from limbeck.images.source import Source, whitened
from limbeck.images.views import (
    STREAM_ORDER,
    Augment,
    Mix,
    Views,
    counters,
    draw,
    mix,
    render_image,
    render_tensor,
)


@dataclass(frozen=True)
class Batch:
    """What a step gets: images, labels, mix and targets on the device, indices and views on the CPU."""

    images: Tensor  # uint8 [N, channels, height, width], mixed if `mix` says so
    labels: Tensor | None  # int64 [N]; None where the source has none
    indices: Tensor  # int64 [N], the images' places in the source
    views: Views
    mix: Mix | None = None
    targets: Tensor | None = None  # float32 [N, classes]: stored soft labels, where a label store serves them
    source: "Batch | None" = None  # adaptation: these are target images, and this is the labelled batch beside them


class Stored(Protocol):
    """A label store: it says which views an epoch shows, and what the teachers predicted for them."""

    def views(self, epochs: Tensor, indices: Tensor) -> Views:
        """Return the views that epochs `epochs` [N] show of images `indices` [N]."""

    def targets(self, epochs: Tensor, indices: Tensor) -> Tensor:
        """Return the distributions float32 [N, classes] of these views."""


def order(n: int, *, seed: int, epoch: int) -> Tensor:
    """Return int64 [n], the epoch's permutation of range(n): its places sorted by their 64-bit hashes."""
    return torch.from_numpy(np.argsort(counters(STREAM_ORDER, seed=seed, epoch=epoch, indices=np.arange(n))))


def repeated(n: int, *, seed: int, epoch: int, repeats: int) -> tuple[Tensor, Tensor]:
    """Return int64 [n] twice: an epoch's images, and the epochs whose views they show, `repeats` views together.

    `repeats` epochs are walked as one: each image comes `repeats` times in a row, so that a batch decodes it once
    (FKD). After them every image was seen with every one of their views, as without repeats. Images take turns in
    pairs, so that neighbours, which mixup mixes, are different images.
    """
    group, part = divmod(epoch, repeats)
    block, within = np.divmod(np.arange(part * n, (part + 1) * n), 2 * repeats)
    alone = 2 * block + 1 == n  # an odd image at the end has no partner
    image = np.where(alone, n - 1, 2 * block + within % 2)
    view = np.where(alone, within, within // 2)
    places = order(n, seed=seed, epoch=group * repeats)
    return places[torch.from_numpy(image)], torch.from_numpy(group * repeats + view)


def steps_per_epoch(n: int, *, batch: int, ranks: int = 1, drop_last: bool = True) -> int:
    """Return the steps in an epoch of n images, `batch` per rank; the last may be short unless dropped."""
    together = batch * ranks
    return n // together if drop_last else -(-n // together)


def batches(
    source: Source,
    augment: Augment,
    *,
    batch: int,
    seed: int,
    epoch: int,
    start: int = 0,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
    device: torch.device | str = "cpu",
    shuffle: bool = True,
    drop_last: bool = True,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    stored: Stored | None = None,
    repeats: int = 1,
) -> Iterator[Batch]:
    """Return one rank's batches of an epoch from step `start`: what is skipped is never decoded.

    Step s takes places [(s ranks + rank) batch, + batch) of the order, so ranks together see what one rank
    with the whole batch would. With shuffle=False, drop_last=False each image comes exactly once over all
    ranks, and a rank may get fewer batches than another. A source in memory is rendered on `device`, without
    workers; keep its `pixels` there (dataclasses.replace) to save a copy per epoch. With `stored`, views are replayed
    from it instead of drawn, and batches have its targets. `repeats` views of an image come together (see `repeated`).
    """
    if batch < 1 or not 0 <= rank < ranks:
        raise InputError(f"a batch of {batch} for rank {rank} of {ranks} is impossible; give --batch 1 or more")
    steps = steps_per_epoch(len(source), batch=batch, ranks=ranks, drop_last=drop_last)
    if not steps:
        raise InputError(
            f"{source.spec} ({source.split}) has {len(source)} images, fewer than one step takes "
            f"({batch} x {ranks} ranks); lower --batch"
        )
    if (mixup > 0 or cutmix > 0) and batch % 2:
        raise InputError(f"mixup and cutmix mix pairs, and a batch of {batch} is odd; make --batch even")
    if batch % (2 * repeats) and repeats > 1:
        raise InputError(
            f"{repeats} views of an image come in pairs of images; make --batch a multiple of {2 * repeats}"
        )
    source = whitened(source, augment.white)
    places, epochs = torch.arange(len(source)), torch.full((len(source),), epoch)
    if shuffle:
        places, epochs = repeated(len(source), seed=seed, epoch=epoch, repeats=repeats)
    plan = _Steps(source, augment, places, epochs, batch, seed, epoch, rank, ranks, stored)
    own = [s for s in range(start, steps) if (s * ranks + rank) * batch < len(source)]
    rendered = _in_memory(plan, own, device) if source.pixels is not None else _decoded(plan, own, workers, device)
    return _finished(plan, own, rendered, device=device, mixup=mixup, cutmix=cutmix)


_Item = tuple[Tensor, Tensor, Tensor] | str
"""A step's images, boxes and flips, or the sentence that says why not."""


@dataclass(frozen=True)
class _Steps(Dataset[_Item]):
    """Step s as (images, boxes, flips), rendered image by image, or as the sentence that says why not."""

    source: Source
    augment: Augment
    places: Tensor  # int64 [n]: the epoch's images
    epochs: Tensor  # int64 [n]: the epochs whose views they show
    batch: int
    seed: int
    epoch: int
    rank: int
    ranks: int
    stored: Stored | None = None

    def position(self, step: int) -> int:
        return (step * self.ranks + self.rank) * self.batch

    def indices(self, step: int) -> Tensor:
        first = self.position(step)
        return self.places[first : first + self.batch]

    def shown(self, step: int) -> Tensor:
        first = self.position(step)
        return self.epochs[first : first + self.batch]

    def views(self, step: int) -> Views:
        indices, shown = self.indices(step), self.shown(step)
        if self.stored is not None:
            return self.stored.views(shown, indices)
        boxes = torch.empty(len(indices), 4, dtype=torch.int16)
        flips = torch.empty(len(indices), dtype=torch.bool)
        for epoch in set(shown.tolist()):
            own = shown == epoch
            chosen = indices[own]
            drawn = draw(self.augment, self.source.sizes[chosen], seed=self.seed, epoch=epoch, indices=chosen)
            boxes[own], flips[own] = drawn.boxes, drawn.flips
        return Views(boxes, flips)

    def __getitem__(self, step: int) -> _Item:
        views, indices, size = self.views(step), self.indices(step), self.augment.size
        images = torch.empty(len(indices), self.source.channels, size, size, dtype=torch.uint8)
        try:
            for i in dict.fromkeys(indices.tolist()):
                own = indices == i
                chosen = Views(views.boxes[own], views.flips[own])
                images[own] = torch.from_numpy(render_views(self.source, i, chosen, self.augment))
        except InputError as error:  # as a value: a worker's exception would arrive with its traceback as its text
            return str(error)
        return _shared((images, views.boxes, views.flips))


def _shared(item: tuple[Tensor, Tensor, Tensor]) -> _Item:
    """Return the item in memory that a worker shares with the main process, or that there is too little of it: left to
    the queue, which shares it in a thread of its own, the failure would never be noticed, and be waited for."""
    if get_worker_info() is not None:
        try:
            for part in item:
                part.share_memory_()  # type: ignore[no-untyped-call]
        except (RuntimeError, OSError) as error:
            return f"the workers' shared memory is full ({first_line(error)}); {_WITHOUT_SHARING}"
    return item


_WITHOUT_SHARING = "pass --workers 0, or give the container more of it (docker run --shm-size 2g)"


def render_views(source: Source, i: int, views: Views, augment: Augment) -> NDArray[np.uint8]:
    """Return uint8 [N, C, size, size], several views of image i, decoded once; InputError names it where it can't be.

    The pixels are those that `render_image` gives one view alone: a large JPEG's large boxes are decoded at a reduced
    scale, each for itself.
    """
    rendered = []
    whole: Image.Image | None = None
    with decoding(f"{source.spec}: {source.keys[i]}"):
        for box, flip in zip(views.boxes.numpy(), views.flips.tolist(), strict=True):
            if min(box[2:]) >= 4 * augment.size:
                image = source.read(i)
            else:
                if whole is None:
                    whole = source.read(i)
                    whole.load()
                image = whole
            rendered.append(render_image(image, box, flip, augment.size, augment.interpolation))
    return np.stack(rendered)


def _in_memory(plan: _Steps, steps: list[int], device: torch.device | str) -> Iterator[tuple[Tensor, Views]]:
    assert plan.source.pixels is not None
    pixels = plan.source.pixels.to(device)
    for step in steps:
        views = plan.views(step)
        chosen = pixels.index_select(0, plan.indices(step).to(device))
        yield render_tensor(chosen, views, plan.augment.size, plan.augment.interpolation), views


def _decoded(
    plan: _Steps, steps: list[int], workers: int, device: torch.device | str
) -> Iterator[tuple[Tensor, Views]]:
    loader: DataLoader[_Item] = DataLoader(
        plan,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        pin_memory=torch.device(device).type == "cuda",
        generator=torch.Generator(),  # its own: reading must not advance torch's global generator
    )
    for item in _received(loader):
        if isinstance(item, str):
            raise InputError(item)
        images, boxes, flips = item
        yield images.to(device, non_blocking=True), Views(boxes, flips)


def _received(loader: Iterable[_Item]) -> Iterator[_Item]:
    """Yield what workers send; InputError where one has died or can't send any more."""
    items = iter(loader)
    while True:
        try:
            item = next(items, None)
        except (RuntimeError, OSError) as error:
            if not re.search("DataLoader worker|ancdata|open files|shared memory", str(error)):
                raise
            raise InputError(
                f"a process that decodes images has failed ({first_line(error)}); lower --batch, or {_WITHOUT_SHARING}"
            ) from error
        if item is None:
            return
        yield item


def _finished(
    plan: _Steps,
    steps: list[int],
    rendered: Iterator[tuple[Tensor, Views]],
    *,
    device: torch.device | str,
    mixup: float,
    cutmix: float,
) -> Iterator[Batch]:
    """Yield the rendered images with their labels, mixed where `mix` is given."""
    labels = None if plan.source.labels is None else plan.source.labels.to(device)
    for step, (images, views) in zip(steps, rendered, strict=True):
        indices = plan.indices(step)
        how = None
        if mixup > 0 or cutmix > 0:
            positions = np.arange(len(indices)) + plan.position(step)
            images, how = mix(  # noqa: PLW2901 - the same images, mixed
                images, seed=plan.seed, epoch=plan.epoch, positions=positions, mixup=mixup, cutmix=cutmix
            )
        own = None if labels is None else labels[indices.to(labels.device)]
        targets = None if plan.stored is None else plan.stored.targets(plan.shown(step), indices).to(device)
        yield Batch(images, own, indices, views, how, targets)
