"""The label store: what the teachers say of V views of every image, in fixed-size records, to be replayed.

A store is a folder: labels.json, which says all about it and never changes, and shard-NNNNN.bin, each with the
records [views, images] of a range of images and, as its last 32 bytes, their SHA-256. The digest covers labels.json
and the shard's number too, so a shard is known to be whole and to belong to this very store. See docs/labels.md.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limbeck.data.loader import render_views
from limbeck.data.sources import Source
from limbeck.data.views import Augment, Views, draw, render_tensor, uniforms
from limbeck.errors import InputError
from limbeck.runs import read_json, replacing, write_json

Kind = Literal["top", "whole", "sampled"]
Tail = Literal["spread", "renormalise", "hard"]
Dtype = Literal["float16", "float32"]
Average = Literal["probabilities", "logits"]
Records = NDArray[np.void]  # of `Manifest.record`

FORMAT = 1
MANIFEST = "labels.json"
MAX_CLASSES = 2**16  # an id is a u16
MAX_SHARDS = 256  # each mapped file holds a descriptor
_STREAM_SAMPLE = 3  # of `uniforms`, beside those of views
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Teacher:
    """A teacher, as the store remembers it."""

    spec: str  # as the user named it
    top1: float | None  # on the held-out split; None where there is none
    lineage: dict[str, Any]  # tag, data, licence, sha256, teachers


@dataclass(frozen=True)
class Manifest:
    """All about a store. What a student gets is decided by these values and the shards alone."""

    data: str  # as the user named it
    fingerprint: str  # of the source
    images: int
    classes: tuple[str, ...]
    views: int  # of each image
    seed: int  # view v of image i is drawn from (seed, epoch v, index i)
    augment: Augment
    kind: Kind
    count: int  # ids a view; all classes where kind is "whole"
    dtype: Dtype  # of the values
    tail: Tail  # how the rest of a top-k is recovered
    average: Average  # of the teachers
    weights: tuple[float, ...]  # one a teacher, they sum to 1
    temperature: float  # of the softmax, applied before storing
    teacher_dtype: str  # what the teachers computed in
    teachers: tuple[Teacher, ...]
    shard_images: int  # images a shard; the last may have fewer
    merged: tuple[str, ...] = ()  # digests of the stores that this was made from, without the teachers

    @property
    def record(self) -> np.dtype[np.void]:
        """The record of a view: box (top, left, height, width), flip, then ids and values, packed, little-endian."""
        value = ("value", "<f2" if self.dtype == "float16" else "<f4", (self.count,))
        label: list[Any] = {
            "top": [("id", "<u2", (self.count,)), value],
            "whole": [value],
            "sampled": [("id", "<u2", (self.count,))],
        }[self.kind]
        return np.dtype([("box", "<i2", (4,)), ("flip", "u1"), *label])

    @property
    def bytes(self) -> int:
        """What the shards take."""
        return self.record.itemsize * self.views * self.images + _DIGEST_BYTES * self.shards

    @property
    def shards(self) -> int:
        """Their number."""
        return -(-self.images // self.shard_images)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the manifest."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **asdict(self)}))  # tuples become lists
        return plain

    def range(self, shard: int) -> range:
        """Return the images of a shard."""
        first = shard * self.shard_images
        return range(first, min(first + self.shard_images, self.images))


def record_kind(classes: int, top: int | None, sampled: int) -> tuple[Kind, int]:
    """Return kind and ids a view: `sampled` ids if any, else top-`top`; 0 or all classes: whole; None: whole up to 64
    classes (it is small), above that top-5 (FKD found k = 5 best)."""
    if classes > MAX_CLASSES:
        raise InputError(f"a label store knows up to {MAX_CLASSES} classes, not {classes}")
    if sampled < 0 or (top is not None and top < 0):
        raise InputError("--top and --sampled count classes; give 0 or more")
    if sampled and top is not None:
        raise InputError("--top and --sampled are two ways to store a label; give one")
    if sampled:
        return "sampled", sampled
    if top is None:
        top = 5 if classes > 64 else 0
    return ("whole", classes) if top == 0 or top >= classes else ("top", top)


def shard_images(images: int, views: int, rate: float, ranks: int = 1) -> int:
    """Return a number of images a shard: two minutes' work of a rank at `rate` views a second, at least 4 shards a
    rank and at most 256 shards."""
    wanted = min(round(rate * 120 / views), images // (4 * ranks))
    return max(wanted, 1, -(-images // MAX_SHARDS))


# ---- records ----------------------------------------------------------------------------------------------


def pack(manifest: Manifest, target: Tensor, indices: NDArray[np.int64], view: NDArray[np.int64]) -> Records:
    """Return the records [N] of distributions `target` [N, classes], any device; box and flip are left zero.

    `indices` and `view` [N] say whose they are; sampled ids are drawn from them and the store's seed.
    """
    records = np.zeros(len(target), manifest.record)
    match manifest.kind:
        case "whole":
            records["value"] = target.float().cpu().numpy()
        case "top":
            value, ids = target.topk(manifest.count, dim=1)
            records["id"], records["value"] = ids.cpu().numpy(), value.float().cpu().numpy()
        case "sampled":
            records["id"] = _sample(target.double().cpu(), manifest, indices, view)
    return records


def _sample(
    target: Tensor, manifest: Manifest, indices: NDArray[np.int64], view: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Draw `count` ids a row from the row itself, with replacement: the mean of their one-hots is unbiased, where a
    top-k is not (random sampling KD with temperature 1, arXiv 2503.16870)."""
    u = np.empty((len(target), manifest.count))
    for v in np.unique(view):
        chosen = view == v
        u[chosen] = uniforms(
            _STREAM_SAMPLE, seed=manifest.seed, epoch=int(v), indices=indices[chosen], draws=manifest.count
        )
    cumulated = target.cumsum(dim=1)
    found = torch.searchsorted(cumulated, torch.from_numpy(u) * cumulated[:, -1:], right=True)
    return found.clamp_max(target.shape[1] - 1).numpy()


def recover(manifest: Manifest, records: Records) -> Tensor:
    """Return the distributions float32 [N, classes] that records [N] stand for; each sums to 1 but for rounding.

    top: as stored and the rest spread evenly over the other classes (FKD's marginal smoothing), or scaled to sum to
    1, or one-hot of the first. sampled: each id counts 1 / count. InputError for ids that are no class.
    """
    classes = len(manifest.classes)
    if manifest.kind == "whole":
        values = torch.from_numpy(records["value"].astype(np.float32))
        if manifest.tail == "hard":
            return torch.nn.functional.one_hot(values.argmax(dim=1), classes).float()
        return values if manifest.dtype == "float32" else values / values.sum(dim=1, keepdim=True)
    ids = torch.from_numpy(records["id"].astype(np.int64))
    if len(ids) and int(ids.max()) >= classes:
        raise InputError(f"the label store names class {int(ids.max())} of {classes}; write it anew")
    if manifest.kind == "sampled":
        return torch.zeros(len(ids), classes).scatter_add_(1, ids, torch.full(ids.shape, 1 / manifest.count))
    if manifest.tail == "hard":
        return torch.zeros(len(ids), classes).scatter_(1, ids[:, :1], 1.0)
    value = torch.from_numpy(records["value"].astype(np.float32))
    total = value.sum(dim=1, keepdim=True)
    if manifest.tail == "renormalise":
        return torch.zeros(len(ids), classes).scatter_(1, ids, value / total)
    rest = (1 - total).clamp_min(0) / (classes - manifest.count)
    return rest.repeat(1, classes).scatter_(1, ids, value / total.clamp_min(1))  # rounding may sum to over 1


def difference(manifest: Manifest, records: Records, again: Records, target: Tensor) -> float:
    """Return how far records [N] are from a second answer: the largest difference of a stored probability to that of
    the same class in `target` [N, classes]; or the share of sampled ids that `again`, packed of it, has otherwise."""
    if manifest.kind == "sampled":
        return float((records["id"] != again["id"]).mean())
    stored = torch.from_numpy(records["value"].astype(np.float32))
    now = target if manifest.kind == "whole" else target.gather(1, torch.from_numpy(records["id"].astype(np.int64)))
    return float((stored - now).abs().max())


# ---- the store --------------------------------------------------------------------------------------------


def shard_path(folder: Path, shard: int) -> Path:
    """Return the file of a shard."""
    return folder / f"shard-{shard:05d}.bin"


def _hash(manifest: Manifest, shard: int) -> "hashlib._Hash":
    return hashlib.sha256(f"{manifest.digest} {shard}\n".encode())


def is_finished(folder: Path, manifest: Manifest, shard: int) -> bool:
    """Whether the shard is there and whole: its length and its digest are right."""
    path = shard_path(folder, shard)
    length = manifest.record.itemsize * manifest.views * len(manifest.range(shard))
    if not path.is_file() or path.stat().st_size != length + _DIGEST_BYTES:
        return False
    content = np.memmap(path, np.uint8, mode="r")
    digest = _hash(manifest, shard)
    digest.update(content[:length])
    return digest.digest() == content[length:].tobytes()


def unfinished(folder: Path, manifest: Manifest) -> list[int]:
    """Return the shards that are still to be written; those that are there are read once, as fast as hashing goes."""
    with ThreadPoolExecutor() as pool:  # hashlib lets other threads run
        whole = list(pool.map(lambda shard: is_finished(folder, manifest, shard), range(manifest.shards)))
    return [shard for shard, there in enumerate(whole) if not there]


class LabelStore:
    """A finished store, mapped into memory; small to send to another process."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._maps: dict[int, Records] = {}

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a store and check every byte of it; InputError where it is broken or not finished."""
        folder = Path(folder)
        manifest = read_manifest(folder)
        missing = unfinished(folder, manifest)
        for shard in missing:
            if (path := shard_path(folder, shard)).exists():
                raise InputError(f"{path} is corrupted or of another store; delete it and run limbeck label again")
        if missing:
            raise InputError(
                f"{folder} is not finished: {len(missing)} of {manifest.shards} shards are missing; "
                "run the same limbeck label again to go on"
            )
        return cls(folder, manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        return LabelStore, (self.folder, self.manifest)  # another process maps the shards itself

    def shard(self, number: int) -> Records:
        """Return a shard's records [views, images]."""
        if number not in self._maps:
            manifest = self.manifest
            shape = (manifest.views, len(manifest.range(number)))
            self._maps[number] = np.memmap(shard_path(self.folder, number), manifest.record, "r", shape=shape)
        return self._maps[number]

    def records(self, epoch: int, indices: Tensor) -> Records:
        """Return the records [N] of view `epoch` mod views of images `indices` [N]."""
        place = indices.numpy()
        if len(place) and not 0 <= place.min() <= place.max() < self.manifest.images:
            raise InputError(f"{self.folder} knows {self.manifest.images} images, not number {int(place.max())}")
        view = epoch % self.manifest.views
        shards, within = np.divmod(place, self.manifest.shard_images)
        found = np.empty(len(place), self.manifest.record)
        for number in np.unique(shards).tolist():
            chosen = np.flatnonzero(shards == number)
            found[chosen] = self.shard(number)[view][within[chosen]]
        return found

    def views(self, epoch: int, indices: Tensor) -> Views:
        """Return the views that epoch `epoch` shows of images `indices` [N]."""
        return views_of(self.records(epoch, indices))

    def targets(self, epoch: int, indices: Tensor) -> Tensor:
        """Return what the teachers said of these views, float32 [N, classes]."""
        return recover(self.manifest, self.records(epoch, indices))


def views_of(records: Records) -> Views:
    """Return the views of records [N]."""
    return Views(torch.from_numpy(records["box"].astype(np.int16)), torch.from_numpy(records["flip"] != 0))


def check_source(folder: Path, manifest: Manifest, source: Source, classes: tuple[str, ...]) -> None:
    """Refuse a store of other images or other classes."""
    if manifest.fingerprint != source.fingerprint:
        raise InputError(
            f"{folder} holds labels of {manifest.data} ({manifest.images} images), and {source.spec} has other images "
            f"({len(source)}) or they have changed since; label them anew"
        )
    if manifest.classes != classes:
        raise InputError(
            f"{folder} holds labels of {len(manifest.classes)} classes ({', '.join(manifest.classes[:3])}, ...), the "
            f"data has {len(classes)} ({', '.join(classes[:3])}, ...); label it anew"
        )


def views_shard(manifest: Manifest, source: Source, shard: int) -> Records:
    """Return the shard's records [views, images] with their boxes and flips, drawn from the view seed."""
    images = manifest.range(shard)
    indices = np.arange(images.start, images.stop)
    records = np.zeros((manifest.views, len(indices)), [("box", "<i2", (4,)), ("flip", "u1")])
    for view in range(manifest.views):
        drawn = draw(manifest.augment, source.sizes[indices], seed=manifest.seed, epoch=view, indices=indices)
        records["box"][view], records["flip"][view] = drawn.boxes.numpy(), drawn.flips.numpy()
    return records


# ---- writing ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def writing(folder: Path, manifest: Manifest, shard: int) -> Iterator[Records]:
    """Yield the shard's records [views, images] to be filled; the file then appears whole, with its digest."""
    shape = (manifest.views, len(manifest.range(shard)))
    with replacing(shard_path(folder, shard)) as temporary:
        records = np.memmap(temporary, manifest.record, "w+", shape=shape)
        yield records
        records.flush()
        digest = _hash(manifest, shard)
        digest.update(records.view(np.uint8).reshape(-1))
        del records
        with temporary.open("ab") as file:
            file.write(digest.digest())


def write_shard(
    folder: Path,
    manifest: Manifest,
    shard: int,
    source: Source,
    answer: Callable[[Tensor], Tensor],
    *,
    batch: int,
    workers: int = 0,
    device: torch.device | str = "cpu",
    heard: Callable[[int], None] = lambda views: None,
) -> None:
    """Ask for the labels of a shard's views and write them. `answer` takes uint8 [N, C, size, size] on `device` and
    returns distributions [N, classes]; `heard` is told of the views after each batch."""
    drawn = views_shard(manifest, source, shard)
    first = manifest.range(shard).start
    with writing(folder, manifest, shard) as records:
        records["box"], records["flip"] = drawn["box"], drawn["flip"]
        # Image by image, so that each is decoded once; the file is view by view, as an epoch reads it.
        place = 0
        for images in _rendered(manifest, source, first, drawn, batch=batch, workers=workers, device=device):
            image, view = np.divmod(np.arange(place, place + len(images)), manifest.views)
            packed = pack(manifest, answer(images), first + image, view)
            for name in packed.dtype.names[2:]:  # type: ignore[index]
                records[name][view, image] = packed[name]
            place += len(images)
            heard(len(images))


@dataclass(frozen=True)
class _Decoded(Dataset["Tensor | str"]):
    """Item j as the views uint8 [images views, C, size, size] of `group` images, or the sentence that says why not."""

    source: Source
    augment: Augment
    first: int
    drawn: Records  # [views, images]
    group: int

    def __getitem__(self, item: int) -> Tensor | str:
        number = self.drawn.shape[1]
        rendered = []
        try:
            for image in range(item * self.group, min((item + 1) * self.group, number)):
                views = views_of(self.drawn[:, image])
                rendered.append(render_views(self.source, self.first + image, views, self.augment))
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
    group = max(1, 16 // manifest.views)
    items = _Decoded(source, manifest.augment, first, drawn, group)
    loader: DataLoader[Tensor | str] = DataLoader(
        items,
        batch_size=None,
        sampler=range(-(-drawn.shape[1] // group)),
        num_workers=workers,
        generator=torch.Generator(),  # its own: reading must not advance torch's global generator
    )
    waiting = torch.empty(0, dtype=torch.uint8)
    for item in loader:
        if isinstance(item, str):
            raise InputError(item)
        waiting = torch.cat([waiting, item]) if len(waiting) else item
        while len(waiting) >= batch:
            yield waiting[:batch].to(device)
            waiting = waiting[batch:]
    if len(waiting):
        yield waiting.to(device)


def _in_memory(manifest: Manifest, pixels: Tensor, first: int, drawn: Records, batch: int) -> Iterator[Tensor]:
    pairs = drawn.size
    for start in range(0, pairs, batch):
        image, view = np.divmod(np.arange(start, min(start + batch, pairs)), manifest.views)
        chosen = pixels[torch.from_numpy(first + image).to(pixels.device)]
        augment = manifest.augment
        yield render_tensor(chosen, views_of(drawn[view, image]), augment.size, augment.interpolation)


def samples(
    store: LabelStore, source: Source, drawn: NDArray[np.int64], *, batch: int
) -> Iterator[tuple[Tensor, NDArray[np.int64], NDArray[np.int64], Records]]:
    """Yield pixels, images, views and records of the pairs `drawn` (image x views + view), from the stored boxes."""
    manifest = store.manifest
    for first in range(0, len(drawn), batch):
        indices, view = np.divmod(drawn[first : first + batch], manifest.views)
        records = np.concatenate([store.records(int(v), torch.tensor([i])) for i, v in zip(indices, view, strict=True)])
        boxes = [views_of(records[n : n + 1]) for n in range(len(records))]
        pixels = [render_views(source, int(i), box, manifest.augment) for i, box in zip(indices, boxes, strict=True)]
        yield torch.from_numpy(np.concatenate(pixels)), indices, view, records


# ---- merging ----------------------------------------------------------------------------------------------


def merged_manifest(
    stores: Sequence[LabelStore],
    *,
    views: int | None = None,
    kind: Kind | None = None,
    count: int | None = None,
    dtype: Dtype | None = None,
    tail: Tail | None = None,
) -> Manifest:
    """Return the manifest of the ensemble of `stores`, each teacher of which counts as it would have in one store.

    What is given replaces what the first store has, so that one store alone can be cut down to fewer views or
    classes. InputError where the stores don't fit together.
    """
    one = stores[0].manifest
    for store in stores[1:]:
        other = store.manifest
        for name in ("fingerprint", "classes", "seed", "augment", "temperature"):
            if getattr(other, name) != getattr(one, name):
                raise InputError(
                    f"{store.folder} and {stores[0].folder} differ in {name} ({getattr(other, name)}, "
                    f"{getattr(one, name)}), so their labels can't be averaged"
                )
    if len(stores) > 1:
        for store in stores:
            if store.manifest.average == "logits" and len(store.manifest.teachers) > 1:
                raise InputError(f"{store.folder} averages logits; stores are merged by their probabilities")
    least = min(store.manifest.views for store in stores)
    if views is not None and not 0 < views <= least:
        raise InputError(f"--views is {views}, but a store has {least} views an image")
    teachers = [teacher for store in stores for teacher in store.manifest.teachers]
    shares = [w * s for store, s in zip(stores, store_shares(stores), strict=True) for w in store.manifest.weights]
    return replace(
        one,
        views=views or least,
        kind=kind or one.kind,
        count=count or one.count,
        dtype=dtype or one.dtype,
        tail=tail or one.tail,
        teachers=tuple(teachers),
        weights=tuple(shares),
        teacher_dtype="/".join(dict.fromkeys(store.manifest.teacher_dtype for store in stores)),
        merged=tuple(store.manifest.digest for store in stores),
    )


def store_shares(stores: Sequence[LabelStore]) -> list[float]:
    """Return what share of an ensemble each store has: that of its teachers' number."""
    numbers = [len(store.manifest.teachers) for store in stores]
    return [number / sum(numbers) for number in numbers]


def merge_shard(folder: Path, manifest: Manifest, shard: int, stores: Sequence[LabelStore]) -> None:
    """Write a shard of merged labels: the mean of what the stores' records stand for, packed anew. This is what one
    run of all teachers had written where all distributions are whole; of a top-k it is the mean of what is known."""
    images = manifest.range(shard)
    step = max(1, 2**22 // len(manifest.classes))
    with writing(folder, manifest, shard) as records:
        for view in range(manifest.views):
            for first in range(0, len(images), step):
                local = slice(first, min(first + step, len(images)))
                indices = torch.arange(images.start + local.start, images.start + local.stop)
                records[view, local] = _merged(manifest, view, indices, stores)


def _merged(manifest: Manifest, view: int, indices: Tensor, stores: Sequence[LabelStore]) -> Records:
    parts = [store.records(view, indices) for store in stores]
    for store, part in zip(stores[1:], parts[1:], strict=True):
        if (part["box"] != parts[0]["box"]).any() or (part["flip"] != parts[0]["flip"]).any():
            raise InputError(
                f"{store.folder} and {stores[0].folder} hold labels of other views; label one of them anew"
            )
    target = torch.zeros(len(indices), len(manifest.classes))
    for store, part, share in zip(stores, parts, store_shares(stores), strict=True):
        target += share * recover(store.manifest, part)
    packed = pack(manifest, target, indices.numpy(), np.full(len(indices), view))
    packed["box"], packed["flip"] = parts[0]["box"], parts[0]["flip"]
    return packed


# ---- the manifest on disk ---------------------------------------------------------------------------------


def begin(folder: Path, manifest: Manifest) -> Manifest:
    """Begin the store `folder`, or return the manifest of the one that was begun there with the same settings.

    How teachers did on held-out images and the size of shards may differ; anything else is an InputError.
    """
    path = folder / MANIFEST
    if path.exists():
        found = read_manifest(folder)
        _same_settings(folder, found, manifest)
        for stale in folder.glob(".shard-*"):  # what a killed run left behind
            stale.unlink(missing_ok=True)
        return found
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not a label store; choose another --out")
    write_json(path, manifest.to_json())
    return manifest


def _same_settings(folder: Path, found: Manifest, wanted: Manifest) -> None:
    for field in fields(Manifest):
        before, now = getattr(found, field.name), getattr(wanted, field.name)
        if field.name == "teachers":
            before, now = ([t.lineage["sha256"] for t in teachers] for teachers in (before, now))
        if field.name not in {"shard_images", "data"} and before != now:
            raise InputError(
                f"{folder} was begun with {field.name} = {_short(before)}, now it is {_short(now)}; "
                "go on with the same settings or choose another --out"
            )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def read_manifest(folder: Path) -> Manifest:
    """Return what labels.json says; InputError where it says nothing sensible. Nothing in it names a file."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder} is not a label store: it has no {MANIFEST}; write one with limbeck label")
    try:
        document = read_json(path)
    except RecursionError as error:
        raise InputError(f"{path} is not readable JSON: it is nested too deep") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise InputError(f"{path} has format {found!r}; this version reads {FORMAT}")
    try:
        manifest = _from_json(document)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is not the manifest of a label store ({error}); label anew") from error
    if manifest.to_json() != document:
        raise InputError(f"{path} has unknown or malformed fields; label anew")
    return manifest


def _from_json(document: dict[str, Any]) -> Manifest:
    known = {field.name for field in fields(Manifest)} | {"format"}
    if document.keys() != known:
        raise ValueError(f"its fields are not {', '.join(sorted(document.keys() ^ known)[:5])}")
    view = document["augment"]
    augment = Augment(**{**view, "scale": tuple(view["scale"]), "ratio": tuple(view["ratio"])})
    teachers = tuple(_teacher(teacher) for teacher in document["teachers"])
    made = {key: document[key] for key in known - {"format"}}
    tuples = {key: tuple(document[key]) for key in ("classes", "weights", "merged")}
    manifest = Manifest(**{**made, **tuples, "augment": augment, "teachers": teachers})
    _check(manifest)
    return manifest


def _teacher(document: dict[str, Any]) -> Teacher:
    teacher = Teacher(**document)
    _check_lineage(teacher.lineage)
    if not isinstance(teacher.spec, str) or not isinstance(teacher.top1, float | None):
        raise ValueError("a teacher is a spec, a top-1 and a lineage")
    return teacher


def _check_lineage(lineage: dict[str, Any]) -> None:
    texts = {"tag", "data", "licence", "sha256"}
    if lineage.keys() != texts | {"teachers"} or not all(isinstance(lineage[key], str) for key in texts):
        raise ValueError("a lineage is a tag, data, licence, sha256 and teachers")
    for teacher in lineage["teachers"]:
        _check_lineage(teacher)


def _check(manifest: Manifest) -> None:
    """Raise ValueError for values that no store has."""
    kinds = {"kind": Kind, "dtype": Dtype, "tail": Tail, "average": Average}
    for name, kind in kinds.items():
        if getattr(manifest, name) not in get_args(kind):
            raise ValueError(f"{name} is {_short(getattr(manifest, name))}")
    for name in ("images", "views", "count", "shard_images"):
        value = getattr(manifest, name)
        if type(value) is not int or not 0 < value < 2**40:
            raise ValueError(f"{name} is {_short(value)}")
    if type(manifest.seed) is not int:
        raise ValueError(f"seed is {_short(manifest.seed)}")
    classes = manifest.classes
    if not all(isinstance(name, str) for name in classes) or not 0 < len(set(classes)) == len(classes) <= MAX_CLASSES:
        raise ValueError(f"classes are up to {MAX_CLASSES} different names")
    if manifest.kind != "sampled" and manifest.count > len(classes):
        raise ValueError(f"count is {manifest.count} of {len(classes)} classes")
    if (manifest.kind == "whole") != (manifest.kind != "sampled" and manifest.count == len(classes)):
        raise ValueError(f"count is {manifest.count}, and kind is {manifest.kind}")
    numbers = (*manifest.weights, manifest.temperature, *manifest.augment.scale, *manifest.augment.ratio)
    if not all(type(value) in (int, float) and math.isfinite(value) and value > 0 for value in numbers):
        raise ValueError("weights, temperature, scale and ratio are positive numbers")
    if len(manifest.weights) != len(manifest.teachers) or manifest.shards > MAX_SHARDS:
        raise ValueError("weights or shard_images don't fit the rest")
    _check_augment(manifest.augment)


def _check_augment(augment: Augment) -> None:
    right = (
        augment.kind in ("crop", "shift", "none")
        and augment.interpolation in ("bilinear", "bicubic")
        and type(augment.flip) is bool
        and type(augment.size) is type(augment.shift) is int
        and 0 < augment.size < 2**15
        and 0 <= augment.shift < 2**15
        and type(augment.crop_pct) in (int, float)
        and 0 < augment.crop_pct <= 2
        and len(augment.scale) == len(augment.ratio) == 2
    )
    if not right:
        raise ValueError(f"augment is {_short(augment)}")
