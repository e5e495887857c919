"""Writing a label store: shard by shard, from the teachers' outputs or from other stores."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limbeck.errors import InputError
from limbeck.images.labels import LabelStore, Records, pack, recover, shard_digest, shard_path, views_of
from limbeck.images.loader import render_views
from limbeck.images.manifest import Average, Dtype, Kind, Manifest, Tail
from limbeck.images.source import Source
from limbeck.images.views import Augment, draw, render_tensor
from limbeck.runs import replacing

_PIECE = 2**24  # bytes written at once
_LEAST = 2.0**-25  # a half below rounds to 0

Answer = Callable[[Tensor], Tensor]
"""Takes uint8 [N, C, size, size] on the device, returns distributions [N, classes]."""


@contextlib.contextmanager
def writing(folder: Path, manifest: Manifest, shard: int) -> Iterator[Records]:
    """Yield the shard's records [views, images] to be filled; then the file appears, whole and with its digest."""
    shape = (manifest.views, len(manifest.range(shard)))
    with replacing(shard_path(folder, shard)) as temporary:
        _reserve(temporary, math.prod(shape) * manifest.record.itemsize)
        records = np.memmap(temporary, manifest.record, "r+", shape=shape)
        yield records
        records.flush()
        digest = shard_digest(manifest, shard, records.view(np.uint8).reshape(-1))
        with temporary.open("ab") as file:
            file.write(digest)


def _reserve(path: Path, size: int) -> None:
    """Give the file its blocks now: a disk that fills up later would end the process without a word (SIGBUS)."""
    with path.open("rb+") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:  # on macOS
            for first in range(0, size, _PIECE):
                file.write(bytes(min(_PIECE, size - first)))


# ---- asking the teachers ----------------------------------------------------------------------------------


def write_shard(
    folder: Path,
    manifest: Manifest,
    shard: int,
    source: Source,
    answer: Answer,
    *,
    batch: int,
    workers: int = 0,
    device: torch.device | str = "cpu",
    heard: Callable[[int], None] = lambda views: None,
) -> None:
    """Label all views of a shard's images and write it. `heard` gets the number of views after each batch."""
    first = manifest.range(shard).start
    drawn = draw_shard(manifest, source, shard)
    with writing(folder, manifest, shard) as records:
        records["box"], records["flip"] = drawn["box"], drawn["flip"]
        place = 0
        # Image by image, so that each is decoded once; the file is view by view, as an epoch reads it.
        for images in _rendered(manifest, source, first, drawn, batch=batch, workers=workers, device=device):
            image, view = np.divmod(np.arange(place, place + len(images)), manifest.views)
            packed = pack(manifest, _full(answer, images, batch), first + image, view)
            for name in manifest.record.names[2:]:  # type: ignore[index]
                records[name][view, image] = packed[name]
            place += len(images)
            heard(len(images))


def _full(answer: Answer, images: Tensor, batch: int) -> Tensor:
    """Evaluate a whole batch always: compiled teachers would be compiled again for another size."""
    missing = batch - len(images)
    padded = images if missing <= 0 else torch.cat([images, images[:1].expand(missing, -1, -1, -1)])
    return answer(padded)[: len(images)]


def draw_shard(manifest: Manifest, source: Source, shard: int) -> Records:
    """Return boxes and flips [views, images] of a shard, drawn from the view seed."""
    images = manifest.range(shard)
    indices = np.arange(images.start, images.stop)
    records = np.zeros((manifest.views, len(indices)), [("box", "<i2", (4,)), ("flip", "u1")])
    for view in range(manifest.views):
        drawn = draw(manifest.augment, source.sizes[indices], seed=manifest.seed, epoch=view, indices=indices)
        records["box"][view], records["flip"][view] = drawn.boxes.numpy(), drawn.flips.numpy()
    return records


@dataclass(frozen=True)
class _Decoded(Dataset["Tensor | str"]):
    """Item j as the views uint8 [images views, C, size, size] of `group` images, or the sentence that says why not."""

    source: Source
    augment: Augment
    first: int
    drawn: Records  # [views, images]
    group: int

    def __getitem__(self, item: int) -> Tensor | str:
        places = range(self.drawn.shape[1])[item * self.group : (item + 1) * self.group]
        try:
            rendered = [
                render_views(self.source, self.first + image, views_of(self.drawn[:, image]), self.augment)
                for image in places
            ]
        except InputError as error:  # as a value: a worker's exception would arrive with its traceback as its text
            return str(error)
        return torch.from_numpy(np.concatenate(rendered))


def _rendered(
    manifest: Manifest,
    source: Source,
    first: int,
    drawn: Records,
    *,
    batch: int,
    workers: int,
    device: torch.device | str,
) -> Iterator[Tensor]:
    """Yield the pixels of `drawn` [views, images], image by image, in batches of `batch`; the last may be short."""
    if source.pixels is not None:
        yield from _in_memory(manifest, source.pixels.to(device), first, drawn, batch)
        return
    group = max(1, 16 // manifest.views)  # images an item: sending an item costs as much as some views
    loader: DataLoader[Tensor | str] = DataLoader(
        _Decoded(source, manifest.augment, first, drawn, group),
        batch_size=None,
        sampler=range(-(-drawn.shape[1] // group)),
        num_workers=workers,
        generator=torch.Generator(),  # its own: reading must not advance torch's global generator
    )
    waiting = torch.empty(0, source.channels, manifest.augment.size, manifest.augment.size, dtype=torch.uint8)
    for item in loader:
        if isinstance(item, str):
            raise InputError(item)
        waiting = torch.cat([waiting, item])
        while len(waiting) >= batch:
            yield waiting[:batch].to(device)
            waiting = waiting[batch:]
    if len(waiting):
        yield waiting.to(device)


def _in_memory(manifest: Manifest, pixels: Tensor, first: int, drawn: Records, batch: int) -> Iterator[Tensor]:
    augment, number = manifest.augment, drawn.size
    for start in range(0, number, batch):
        image, view = np.divmod(np.arange(start, min(start + batch, number)), manifest.views)
        chosen = pixels[torch.from_numpy(first + image).to(pixels.device)]
        yield render_tensor(chosen, views_of(drawn[view, image]), augment.size, augment.interpolation)


def samples(
    store: LabelStore, source: Source, drawn: NDArray[np.int64], *, batch: int
) -> Iterator[tuple[Tensor, NDArray[np.int64], NDArray[np.int64], Records]]:
    """Yield pixels, images, views and records, `batch` at a time, of the pairs `drawn` (image x views + view): the
    stored boxes, rendered again."""
    augment = store.manifest.augment
    for first in range(0, len(drawn), batch):
        indices, view = np.divmod(drawn[first : first + batch], store.manifest.views)
        records = store.records(torch.from_numpy(view), torch.from_numpy(indices))
        places = enumerate(indices.tolist())
        pixels = [render_views(source, i, views_of(records[n : n + 1]), augment) for n, i in places]
        yield torch.from_numpy(np.concatenate(pixels)), indices, view, records


# ---- merging ----------------------------------------------------------------------------------------------


def merged_manifest(
    stores: Sequence[LabelStore],
    *,
    average: Average = "probabilities",
    views: int | None = None,
    kind: Kind | None = None,
    count: int | None = None,
    dtype: Dtype | None = None,
    tail: Tail | None = None,
) -> Manifest:
    """Return the manifest of the ensemble of `stores`, in which each teacher counts as it would in one store of all.

    `average` is of the stores: one alone keeps its own. What is given replaces what the first store has, so that one
    store alone can be cut to fewer views or classes. InputError where the stores don't fit together.
    """
    one = stores[0].manifest
    alone = len(stores) == 1
    average = one.average if alone else average
    for store in stores:
        _check_fits(store, stores[0], average, alone=alone)
    least = min(store.manifest.views for store in stores)
    if views is not None and not 0 < views <= least:
        raise InputError(f"--views is {views}, but the stores have {least} views per image")
    return replace(
        one,
        views=views or least,
        kind=kind or one.kind,
        count=count or one.count,
        dtype=dtype or one.dtype,
        tail=tail or one.tail,
        average=average,
        teachers=tuple(teacher for store in stores for teacher in store.manifest.teachers),
        weights=tuple(w * s for store, s in zip(stores, _shares(stores), strict=True) for w in store.manifest.weights),
        teacher_dtype="/".join(dict.fromkeys(store.manifest.teacher_dtype for store in stores)),
        merged=tuple(store.manifest.digest for store in stores),
    )


def _check_fits(store: LabelStore, first: LabelStore, average: Average, *, alone: bool) -> None:
    if store.manifest.kind == "sampled":
        raise InputError(f"{store.folder} holds sampled labels, which can't be merged or cut; label anew")
    if len(store.manifest.teachers) > 1 and store.manifest.average != average:
        raise InputError(
            f"{store.folder} is a mean of {store.manifest.average}, which can't be part of a mean of {average}; merge "
            "stores of one teacher each"
        )
    if not alone and average == "logits" and store.manifest.kind != "whole":
        raise InputError(f"{store.folder} holds no whole distributions, which a mean of logits needs; label anew")
    for name in ("fingerprint", "classes", "seed", "augment", "temperature"):
        own, other = getattr(store.manifest, name), getattr(first.manifest, name)
        if own != other:
            shown = "" if name in {"fingerprint", "classes"} else f" ({own} and {other})"
            raise InputError(f"{store.folder} and {first.folder} differ in {name}{shown}; label one of them anew")


def _shares(stores: Sequence[LabelStore]) -> list[float]:
    numbers = [len(store.manifest.teachers) for store in stores]
    return [number / sum(numbers) for number in numbers]


def merge_shard(folder: Path, manifest: Manifest, shard: int, stores: Sequence[LabelStore]) -> None:
    """Write a shard of merged labels: the mean of what the stores' records stand for, packed anew. A mean of logits is
    that of log-probabilities, as these differ by a constant.

    Where all distributions are whole, this is what one run of all teachers had written; of a top-k it is the mean of
    what is known.
    """
    images = manifest.range(shard)
    step = max(1, 2**22 // len(manifest.classes))  # 16 MB of distributions
    with writing(folder, manifest, shard) as records:
        for view in range(manifest.views):
            for first in range(0, len(images), step):
                indices = torch.arange(images.start + first, min(images.start + first + step, images.stop))
                records[view, first : first + step] = _merged(manifest, view, indices, stores)


def _merged(manifest: Manifest, view: int, indices: Tensor, stores: Sequence[LabelStore]) -> Records:
    views = torch.full_like(indices, view)
    parts = [store.records(views, indices) for store in stores]
    target = torch.zeros(len(indices), len(manifest.classes))
    logits = manifest.average == "logits" and len(stores) > 1
    for store, part, share in zip(stores, parts, _shares(stores), strict=True):
        if (part["box"] != parts[0]["box"]).any() or (part["flip"] != parts[0]["flip"]).any():
            raise InputError(f"{store.folder} and {stores[0].folder} hold labels of other views; label one anew")
        own = store.manifest
        said = recover(replace(own, tail="spread") if own.tail == "hard" else own, part)
        target += share * (said.clamp_min(_LEAST).log() if logits else said)
    packed = pack(manifest, target.softmax(dim=1) if logits else target, indices.numpy(), views.numpy())
    packed["box"], packed["flip"] = parts[0]["box"], parts[0]["flip"]
    return packed
