"""The label store: what the teachers predict for V views of every image, in fixed-size records, to be replayed.

A store is a folder: labels.json and shard-NNNNN.bin, each with the records [views, images] of a range
of images and, as its last 32 bytes, a SHA-256 of the manifest's digest, the shard's number and the records. So a
shard is known to be whole and to belong to this very store. See docs/labels.md.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import InputError
from limbeck.images.manifest import DIGEST_BYTES, Manifest, read_manifest, same_images
from limbeck.images.source import Source
from limbeck.images.views import STREAM_SAMPLE, Views, uniforms

Records = NDArray[np.void]  # of Manifest.record


# ---- records ----------------------------------------------------------------------------------------------


def pack(manifest: Manifest, target: Tensor, indices: NDArray[np.int64], view: NDArray[np.int64]) -> Records:
    """Return the records [N] of distributions `target` [N, classes], any device; box and flip are left zero.

    `indices` and `view` [N] say whose they are: sampled ids are drawn from the store's seed and them.
    """
    if not bool(torch.isfinite(target).all()):
        raise InputError("the teachers output NaN or infinity for some view; label with --teacher-dtype float32")
    records = np.zeros(len(target), manifest.record)
    match manifest.kind:
        case "whole":
            records["value"] = target.float().cpu().numpy()
        case "top":
            value, ids = target.topk(manifest.count, dim=1)
            records["id"], records["value"] = ids.cpu().numpy(), value.float().cpu().numpy()
        case "sampled":
            records["id"] = _sample(manifest, target.double().cpu(), indices, view)
    return records


def _sample(
    manifest: Manifest, target: Tensor, indices: NDArray[np.int64], view: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Draw `count` ids per row from the row itself, with replacement. Their mean one-hot is unbiased, which a
    top-k is not (random sampling KD with temperature 1, arXiv 2503.16870)."""
    u = np.empty((len(target), manifest.count))
    for v in np.unique(view):
        own = view == v
        u[own] = uniforms(STREAM_SAMPLE, seed=manifest.seed, epoch=int(v), indices=indices[own], draws=manifest.count)
    cumulated = target.cumsum(dim=1)
    found = torch.searchsorted(cumulated, torch.from_numpy(u) * cumulated[:, -1:], right=True)
    ids: NDArray[np.int64] = found.clamp_max(target.shape[1] - 1).numpy()
    return ids


def recover(manifest: Manifest, records: Records) -> Tensor:
    """Return the distributions float32 [N, classes] that records [N] stand for; each sums to 1 up to rounding.

    top: as stored, and the rest spread evenly over the other classes (FKD's marginal smoothing); or scaled to sum to
    1; or one-hot of the first. sampled: each id counts 1 / count. whole: as stored, halves scaled to sum to 1, or
    one-hot. InputError for an id that is no class.
    """
    classes = len(manifest.classes)
    if manifest.kind == "whole":
        values = torch.from_numpy(records["value"].astype(np.float32))
        if manifest.tail == "hard":
            return torch.nn.functional.one_hot(values.argmax(dim=1), classes).float()
        return values if manifest.dtype == "float32" else values / values.sum(dim=1, keepdim=True)
    ids = torch.from_numpy(records["id"].astype(np.int64))
    if ids.numel() and int(ids.max()) >= classes:
        raise InputError(f"the label store names class {int(ids.max())} of {classes}; label anew")
    if manifest.kind == "sampled":
        return torch.zeros(len(ids), classes).scatter_add_(1, ids, torch.full(ids.shape, 1 / manifest.count))
    if manifest.tail == "hard":
        return torch.zeros(len(ids), classes).scatter_(1, ids[:, :1], 1.0)
    value = torch.from_numpy(records["value"].astype(np.float32))
    total = value.sum(dim=1, keepdim=True)
    if manifest.tail == "renormalise":
        return torch.zeros(len(ids), classes).scatter_(1, ids, value / total)
    rest = (1 - total).clamp_min(0) / (classes - manifest.count)
    return rest.repeat(1, classes).scatter_(1, ids, value / total.clamp_min(1))  # rounding may bring it over 1


def difference(manifest: Manifest, records: Records, again: Records, target: Tensor) -> float:
    """Return how far records [N] are from a second evaluation: the largest difference of a stored probability to that
    of the same class in `target` [N, classes]; or the share of sampled ids that `again`, packed of it, has
    otherwise."""
    if manifest.kind == "sampled":
        return float((records["id"] != again["id"]).mean())
    stored = torch.from_numpy(records["value"].astype(np.float32))
    now = target if manifest.kind == "whole" else target.gather(1, torch.from_numpy(records["id"].astype(np.int64)))
    return float((stored - now).abs().max())


def views_of(records: Records) -> Views:
    """Return the views of records [N]; InputError for a box that is empty."""
    boxes = records["box"].astype(np.int16)
    if len(boxes) and boxes[:, 2:].min() < 1:
        raise InputError("the label store has an empty box; label anew")
    return Views(torch.from_numpy(boxes), torch.from_numpy(records["flip"] != 0))


# ---- the store --------------------------------------------------------------------------------------------


def shard_path(folder: Path, shard: int) -> Path:
    """Return the file of a shard."""
    return folder / f"shard-{shard:05d}.bin"


def shard_digest(manifest: Manifest, shard: int, records: NDArray[np.uint8]) -> bytes:
    """Return the last 32 bytes of a shard whose bytes before them are `records` [bytes]."""
    digest = hashlib.sha256(f"{manifest.digest} {shard}\n".encode())
    digest.update(records.data)
    return digest.digest()


def unfinished(folder: Path, manifest: Manifest) -> list[int]:
    """Return the shards that are still to be written; those that are there are read once, as fast as hashing goes."""
    with ThreadPoolExecutor() as pool:  # hashing and reading let other threads run
        whole = list(pool.map(lambda shard: _is_finished(folder, manifest, shard), range(manifest.shards)))
    return [shard for shard, there in enumerate(whole) if not there]


def _is_finished(folder: Path, manifest: Manifest, shard: int) -> bool:
    path = shard_path(folder, shard)
    length = manifest.record.itemsize * manifest.views * len(manifest.range(shard))
    if not path.is_file() or path.stat().st_size != length + DIGEST_BYTES:
        return False
    content = np.memmap(path, np.uint8, mode="r")
    return shard_digest(manifest, shard, content[:length]) == content[length:].tobytes()


class LabelStore:
    """A finished store, mapped into memory; small to send to another process."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self._maps: dict[int, Records] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return LabelStore, (self.folder, self.manifest)  # the other process maps the shards itself

    @classmethod
    def open(cls, folder: Path) -> "LabelStore":
        """Open a store and check every byte of it; InputError where it is broken or not finished."""
        manifest = read_manifest(folder)
        missing = unfinished(folder, manifest)
        for shard in missing:
            if (path := shard_path(folder, shard)).exists():
                raise InputError(
                    f"{path} is damaged or belongs to another store; run limbeck label again to rewrite it"
                )
        if missing:
            raise InputError(
                f"{folder} is not finished: {len(missing)} of {manifest.shards} shards are missing; "
                "run the same limbeck label again to go on"
            )
        return cls(folder, manifest)

    def _shard(self, number: int) -> Records:
        """Return a shard's records [views x images], as opaque bytes: numpy copies these several times faster."""
        if number not in self._maps:
            manifest = self.manifest
            each = manifest.record.itemsize
            size = each * manifest.views * len(manifest.range(number))
            # Unlike numpy's, torch's maps hold no file open, and a process may open some hundred files only.
            path = str(shard_path(self.folder, number))
            content = torch.from_file(path, shared=False, size=size, dtype=torch.uint8)
            self._maps[number] = content.numpy().view(f"V{each}")
        return self._maps[number]

    def records(self, epochs: Tensor, indices: Tensor) -> Records:
        """Return the records [N] of views `epochs` [N] mod views of images `indices` [N]."""
        manifest = self.manifest
        shards, within = np.divmod(indices.numpy(), manifest.shard_images)
        width = np.minimum(manifest.shard_images, manifest.images - shards * manifest.shard_images)
        place = epochs.numpy() % manifest.views * width + within
        order = np.argsort(shards, kind="stable")
        numbers, starts = np.unique(shards[order], return_index=True)
        place, ends = place[order], [*starts[1:].tolist(), len(place)]
        found = np.empty(len(place), f"V{manifest.record.itemsize}")
        for number, start, end in zip(numbers.tolist(), starts.tolist(), ends, strict=True):
            found[order[start:end]] = self._shard(number).take(place[start:end])
        return found.view(manifest.record)

    def views(self, epochs: Tensor, indices: Tensor) -> Views:
        """Return the views that epochs `epochs` [N] show of images `indices` [N]."""
        return views_of(self.records(epochs, indices))

    def targets(self, epochs: Tensor, indices: Tensor) -> Tensor:
        """Return what the teachers predicted for these views, float32 [N, classes]."""
        return recover(self.manifest, self.records(epochs, indices))


def check_source(folder: Path, manifest: Manifest, source: Source, classes: tuple[str, ...]) -> None:
    """Refuse a store of other images or other classes."""
    if not same_images(manifest.fingerprint, source.fingerprint):
        raise InputError(
            f"{folder} holds labels of {manifest.data} ({manifest.images} images), and {source.spec} has other images "
            f"({len(source)}), or they have changed, or --limit draws others; label these"
        )
    if manifest.classes != classes:
        raise InputError(
            f"{folder} holds labels of {len(manifest.classes)} classes ({', '.join(manifest.classes[:3])}, ...), and "
            f"the data has {len(classes)} ({', '.join(classes[:3])}, ...); label it anew"
        )
