"""The manifest of a label store: labels.json says all about it, is checked when read and never changes."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from limbeck.errors import InputError
from limbeck.images.views import WHITE, Augment
from limbeck.runs import LABELS, OLD_MANIFEST, read_json, write_json

Kind = Literal["top", "whole", "sampled"]
Tail = Literal["spread", "renormalise", "hard"]
Dtype = Literal["float16", "float32"]
Average = Literal["probabilities", "logits"]

FORMAT = 1
COST = "cost.json"  # {"seconds": that the calls which wrote the store took together}
DIGEST_BYTES = 32  # of a shard, at its end
MAX_CLASSES = 2**16  # an id is a u16
MAX_SHARDS = 1024
SHARD_SECONDS = 300.0  # what a kill may lose


@dataclass(frozen=True)
class Teacher:
    """A teacher, as the store remembers it."""

    spec: str  # as the user named it
    top1: float | None  # on the held-out split; None where there is none
    lineage: dict[str, Any]  # tag, data, licence, sha256, teachers


@dataclass(frozen=True)
class Manifest:
    """All about a store. These values and the shards alone decide what a student gets."""

    data: str  # as the user named it
    fingerprint: str  # of the source
    images: int
    classes: tuple[str, ...]
    views: int  # of each image
    seed: int  # view v of image i is drawn from (seed, epoch v, index i)
    augment: Augment
    kind: Kind
    count: int  # ids per view; all classes where kind is "whole"
    dtype: Dtype  # of the values
    tail: Tail  # how the rest of a top-k is recovered
    average: Average  # of the teachers
    weights: tuple[float, ...]  # one per teacher, they sum to 1
    temperature: float  # of the softmax, applied before storing
    teacher_dtype: str  # what the teachers computed in
    teachers: tuple[Teacher, ...]
    shard_images: int  # images per shard; the last may have fewer
    merged: tuple[str, ...] = ()  # digests of the stores that this was made from, without the teachers

    @cached_property
    def record(self) -> np.dtype[np.void]:
        """A view's record: box (top, left, height, width), flip, then ids and values; packed, little-endian."""
        identity = ("id", "<u2", (self.count,))
        value = ("value", "<f2" if self.dtype == "float16" else "<f4", (self.count,))
        label: dict[Kind, list[Any]] = {"top": [identity, value], "whole": [value], "sampled": [identity]}
        return np.dtype([("box", "<i2", (4,)), ("flip", "u1"), *label[self.kind]])

    @property
    def shards(self) -> int:
        """Their number."""
        return -(-self.images // self.shard_images)

    @property
    def bytes(self) -> int:
        """What the shards take together."""
        return self.record.itemsize * self.views * self.images + DIGEST_BYTES * self.shards

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the manifest; every shard is bound to it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def range(self, shard: int) -> range:
        """Return the images of a shard."""
        first = shard * self.shard_images
        return range(first, min(first + self.shard_images, self.images))

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **asdict(self)}))  # tuples become lists
        if self.augment.white == WHITE:  # as it was before there was another
            del plain["augment"]["white"]
        return plain


def record_kind(classes: int, top: int | None, sampled: int) -> tuple[Kind, int]:
    """Return kind and ids per view: `sampled` ids if any, else top-`top`; 0 or all classes: whole; None: whole up to 64
    classes (it is small), above that top-5 (FKD found k = 5 best)."""
    if classes > MAX_CLASSES:
        raise InputError(f"a label store has up to {MAX_CLASSES} classes, not {classes}")
    if not 0 <= sampled <= MAX_CLASSES or (top is not None and top < 0):
        raise InputError(f"--top and --sampled count classes; give 0 or more, and at most {MAX_CLASSES}")
    if sampled and top is not None:
        raise InputError("--top and --sampled are two ways to store a label; give one")
    if sampled:
        return "sampled", sampled
    if top is None:
        top = 5 if classes > 64 else 0
    return ("whole", classes) if top == 0 or top >= classes else ("top", top)


def images_a_shard(images: int, views: int, rate: float, ranks: int = 1) -> int:
    """Return a number of images: five minutes' work of a rank at `rate` views per second, for at least 4 shards per
    rank and at most 1,024 shards."""
    wanted = min(round(rate * SHARD_SECONDS / views), images // (4 * ranks))
    return max(wanted, 1, -(-images // MAX_SHARDS))


# ---- on disk ----------------------------------------------------------------------------------------------


def begin(folder: Path, manifest: Manifest) -> Manifest:
    """Begin the store `folder`, or return the manifest of the one that was begun there with the same settings.

    How teachers did on held-out images and the size of shards may differ; anything else is an InputError.
    """
    if manifest_of(folder).exists():
        found = read_manifest(folder)
        _check_same(folder, found, manifest)
        return found
    if folder.exists() and not (folder.is_dir() and all(p.name.startswith(".") for p in folder.iterdir())):
        raise InputError(f"{folder} exists and is not a label store; choose another --out")
    write_json(folder / LABELS, manifest.to_json())
    return manifest


def manifest_of(folder: Path) -> Path:
    """Return the store's manifest: labels.json, or manifest.json where Limbeck 0.1.0 wrote it."""
    old = Path(folder) / OLD_MANIFEST
    return old if old.is_file() and not (Path(folder) / LABELS).is_file() else Path(folder) / LABELS


def _check_same(folder: Path, found: Manifest, wanted: Manifest) -> None:
    for field in fields(Manifest):
        before, now = getattr(found, field.name), getattr(wanted, field.name)
        if field.name == "teachers":
            before, now = ([t.lineage["sha256"] for t in teachers] for teachers in (before, now))
        same = same_images(before, now) if field.name == "fingerprint" else before == now
        if field.name not in {"shard_images", "data"} and not same:
            raise InputError(
                f"{folder} was begun with {field.name} = {_short(before)}, now it is {_short(now)}; "
                "go on with the same settings or choose another --out"
            )


def same_images(one: str, other: str) -> bool:
    """Return whether two fingerprints are of the same images, as far as both know."""
    return all(own == its for own, its in zip(one.split("-"), other.split("-"), strict=False))


def read_manifest(folder: Path) -> Manifest:
    """Return what the manifest says; InputError where it says nothing sensible. Nothing is read from a path in it, but
    by `limbeck verify-labels`, which looks for data and teachers where they were."""
    path = manifest_of(folder)
    if not path.is_file():
        raise InputError(f"{folder} is not a label store: it has no {LABELS}; write one with limbeck label")
    try:
        document = read_json(path)
        if document.get("format") != FORMAT:
            raise InputError(f"{path} is not of format {FORMAT}, which this version reads; label anew")
        manifest = _from_json(document)
        if manifest.to_json() != document:
            raise ValueError("its values are of other types")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is not the manifest of a label store ({_short(error)}); label anew") from error
    return manifest


def _from_json(document: dict[str, Any]) -> Manifest:
    known = {field.name for field in fields(Manifest)}
    if strange := sorted(document.keys() ^ (known | {"format"})):
        raise ValueError(f"unknown or missing: {', '.join(strange[:5])}")
    view = document["augment"]
    made: dict[str, Any] = {key: document[key] for key in known}
    made |= {key: tuple(document[key]) for key in ("classes", "weights", "merged")}
    made["augment"] = Augment(**{**view, "scale": tuple(view["scale"]), "ratio": tuple(view["ratio"])})
    made["teachers"] = tuple(Teacher(**teacher) for teacher in document["teachers"])
    manifest = Manifest(**made)
    for name, right in (*_checks(manifest), *_augment_checks(manifest.augment)):
        if not right:
            raise ValueError(f"{name} can't be {_short(getattr(manifest, name, manifest.augment))}")
    return manifest


def _checks(m: Manifest) -> list[tuple[str, bool]]:
    """Return names of fields and whether they hold what a store can have, in an order in which each may rely on those
    before it."""
    texts = (m.data, m.fingerprint, m.teacher_dtype, *m.merged)
    if not all(isinstance(text, str) for text in (*texts, *m.classes)):
        return [("data", False)]
    whole = m.kind == "whole"
    named = 0 < len(set(m.classes)) == len(m.classes) <= MAX_CLASSES
    return [
        ("classes", named),
        ("kind", m.kind in get_args(Kind)),
        ("dtype", m.dtype in get_args(Dtype)),
        ("tail", m.tail in get_args(Tail)),
        ("average", m.average in get_args(Average)),
        ("teacher_dtype", set(m.teacher_dtype.split("/")) <= {"float32", "bfloat16"}),
        ("seed", type(m.seed) is int),
        ("images", _is_count(m.images)),
        ("views", _is_count(m.views)),
        ("shard_images", _is_count(m.shard_images) and -(-m.images // m.shard_images) <= MAX_SHARDS),
        ("count", _is_count(m.count) and (m.kind == "sampled" or whole == (m.count >= len(m.classes)))),
        ("count", not whole or m.count == len(m.classes)),
        ("temperature", _are_positive((m.temperature,))),
        ("teachers", len(m.teachers) > 0 and all(map(_is_teacher, m.teachers))),
        ("weights", _are_positive(m.weights) and len(m.weights) == len(m.teachers)),
    ]


def _augment_checks(view: Augment) -> list[tuple[str, bool]]:
    ranges = len(view.scale) == len(view.ratio) == 2 and _are_positive((*view.scale, *view.ratio, view.crop_pct))
    pixels = type(view.size) is type(view.shift) is int and 0 < view.size < 2**15 and 0 <= view.shift < 2**15
    pixels = pixels and type(view.white) is int and 0 < view.white <= WHITE
    named = view.kind in ("crop", "shift", "none") and view.interpolation in ("bilinear", "bicubic")
    return [("augment", ranges and pixels and named and type(view.flip) is bool)]


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value < 2**40


def _are_positive(values: tuple[object, ...]) -> bool:
    return all(type(value) in (int, float) and 0 < value < math.inf for value in values)  # type: ignore[operator]


def _is_teacher(teacher: Teacher) -> bool:
    measured = teacher.top1 is None or (type(teacher.top1) is float and 0 <= teacher.top1 <= 1)
    return isinstance(teacher.spec, str) and measured and _is_lineage(teacher.lineage)


def _is_lineage(lineage: object) -> bool:
    texts = {"tag", "data", "licence", "sha256"}
    if not isinstance(lineage, dict) or lineage.keys() != texts | {"teachers"}:
        return False
    return all(isinstance(lineage[key], str) for key in texts) and all(map(_is_lineage, lineage["teachers"]))


def _short(value: object) -> str:
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
