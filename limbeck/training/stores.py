"""Label stores: what teachers predict for many views of every image, written, merged, verified."""

import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck import runs
from limbeck.errors import InputError, VerificationError
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.results import measured
from limbeck.training.run import accelerator_for, by_first
from limbeck.training.sets import augment_of, open_sets, workers_of
from limbeck.training.settings import Ensemble, Training
from limbeck.training.teachers import judge, load_teacher, show_white

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from limbeck.images.labels import LabelStore
    from limbeck.images.manifest import Manifest
    from limbeck.nets.zoo import Classifier

VERIFIED_VIEWS = 1024
# How far a second evaluation may be. Batches of another size, threads or another machine change sums in the last bits:
# of bfloat16's 8 in a logit, and float16's 11 are stored. Of sampled ids those change that lie at a border.
LIMITS = {"float32": 0.002, "bfloat16": 0.05}
LIMIT_SAMPLED = 0.02


@dataclass(frozen=True)
class Records:
    """What is stored of each view."""

    views: int | None = None
    """Views of each image; epoch e of a training replays view e mod VIEWS. By default 50; when stores are merged, as
    many as they have."""
    top: int | None = None
    """Classes whose probability is stored, the likeliest; 0: all. By default 5, or all where there are up to 64; when
    stores are merged, as the first has it."""
    sampled: int = 0
    """Store this many class numbers drawn from the teachers' distribution instead, which is unbiased."""
    tail: Literal["spread", "renormalise", "hard"] | None = None
    """What becomes of the probability outside a top-k: spread over the other classes, the default; renormalise scales
    the top-k to sum to 1; hard keeps the likeliest class alone, one-hot."""
    dtype: Literal["float16", "float32"] | None = None
    """Precision of the stored probabilities; float16 by default."""

    def __post_init__(self) -> None:
        if self.views is not None and self.views < 1:
            raise InputError(f"--views is {self.views}; give 1 or more")


@dataclass(frozen=True)
class Labels(Result):
    """A finished store."""

    out: str
    manifest: "Manifest"
    seconds: float = 0.0  # of this call

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        m = self.manifest
        rest = "" if m.kind == "sampled" else f" of {m.dtype}, tail {m.tail}"
        view = m.augment
        shown = {"crop": f"area {view.scale[0]:g} to {view.scale[1]:g}", "shift": f"{view.shift} px", "none": "centre"}
        rows = [
            ("store", f"{self.out}, {m.bytes:,} bytes in {m.shards} files"),
            ("data", f"{m.data}, {m.images:,} images, {len(m.classes)} classes, fingerprint {m.fingerprint[:12]}"),
            ("views", f"{m.views} per image, {view.kind} ({shown[view.kind]}), flip {view.flip}, seed {m.seed}"),
            ("record", f"{m.record.itemsize} bytes: {m.kind} {m.count}{rest}"),
            ("label", f"mean of {m.average} at temperature {m.temperature:g}, computed in {m.teacher_dtype}"),
        ]
        for teacher, weight in zip(m.teachers, m.weights, strict=True):
            rows += [(f"teacher {teacher.spec}", _teacher_row(teacher.top1, teacher.lineage, weight))]
        if m.merged:
            rows += [("merged from", ", ".join(digest[:12] for digest in m.merged))]
        return [*rows, ("digest", m.digest)]

    def to_json(self) -> dict[str, Any]:
        """Return the manifest and the sizes as JSON values; classes by their number."""
        m = self.manifest
        sizes = {"bytes": m.bytes, "shards": m.shards, "record_bytes": m.record.itemsize}
        about = {**m.to_json(), "classes": len(m.classes), "digest": m.digest}
        return {"out": self.out, "seconds": self.seconds, **sizes, **about}


@dataclass(frozen=True)
class Verified(Result):
    """How far a second evaluation of the teachers is from a store."""

    store: str
    views: int  # that were evaluated again
    difference: float  # largest, of a stored probability; of sampled ids: the share that changed
    limit: float

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        return [
            ("store", self.store),
            ("views evaluated again", f"{self.views:,}"),
            ("largest difference", f"{self.difference:.6f} (limit {self.limit:g})"),
        ]


def write(
    data: str,
    teachers: tuple[str, ...],
    out: str,
    ensemble: Ensemble,
    records: Records,
    training: Training,
    tell: Tell,
) -> "Manifest":
    """Write the store, this rank's share of the shards; continue where it was interrupted."""
    from limbeck.images import labelling, manifest
    from limbeck.images.labels import unfinished
    from limbeck.nets.classifier import white_of

    if not teachers:
        raise InputError("no teacher is given; name them after --teachers")
    ensemble.check(len(teachers))
    accelerator, folder = accelerator_for(training, out), Path(out)
    ranks, batch = accelerator.num_processes, training.batch
    dtype, compiled = ensemble.teacher_dtype, ensemble.compile_teachers
    frozen = [load_teacher(spec, dtype, compiled, accelerator) for spec in teachers]
    training = replace(training, white=white_of(training.white, [teacher.input for teacher in frozen]))
    sets = open_sets(data, training, classes=frozen[0].classes, labelled=False, tell=tell)
    show_white(frozen, sets.train.white)
    kind, count = manifest.record_kind(len(sets.classes), records.top, records.sampled)
    largest = max((teacher.input for teacher in frozen), key=lambda sight: sight.size)
    drawn = augment_of(sets.train, training, training.size or largest.size, largest.interpolation)
    begun_before = manifest.manifest_of(folder).exists()
    top1 = judge(
        teachers, frozen, sets, training, accelerator, measure=not begun_before, weak=ensemble.weak_teachers, tell=tell
    )
    answer = _ensemble(frozen, ensemble)
    rate = _rate(sets.train.channels, drawn.size, answer, batch, accelerator)
    views = 50 if records.views is None else records.views
    share = ensemble.weights or (1.0,) * len(teachers)
    wanted = manifest.Manifest(
        data=data, fingerprint=sets.train.fingerprint, images=len(sets.train), classes=sets.classes, views=views,
        seed=training.seed, augment=drawn, kind=kind, count=count,
        dtype=records.dtype or "float16", tail=records.tail or "spread", average=ensemble.average,
        weights=tuple(w / sum(share) for w in share), temperature=ensemble.temperature,
        teacher_dtype=_dtype_of(frozen),
        teachers=tuple(
            manifest.Teacher(spec, found, asdict(teacher.lineage))
            for spec, teacher, found in zip(teachers, frozen, top1, strict=True)
        ),
        shard_images=manifest.images_a_shard(len(sets.train), views, rate, ranks),
    )  # fmt: skip
    by_first(accelerator, lambda: _begin(folder, wanted))
    begun = manifest.begin(folder, wanted)  # as it is, perhaps from an earlier call
    todo = unfinished(folder, begun)
    _say(begun, todo, rate * ranks, tell)
    accelerator.wait_for_everyone()  # before the first new shard appears
    own = todo[accelerator.process_index :: ranks]
    progress = _Progress(sum(len(begun.range(shard)) for shard in own) * views, tell)
    before = _spent(folder / manifest.COST)
    for shard in own:
        labelling.write_shard(
            folder, begun, shard, sets.train, answer, batch=batch, workers=workers_of(sets.train, training.workers),
            device=accelerator.device, heard=progress,
        )  # fmt: skip
        if accelerator.is_main_process:
            seconds = before + time.monotonic() - progress.begun
            runs.write_json(folder / manifest.COST, {"seconds": seconds})
    accelerator.wait_for_everyone()
    runs.give_up(folder)
    return open_store(out).manifest


def _begin(folder: Path, wanted: "Manifest") -> None:
    """Begin the store, or find that it is this one, and keep other processes away: they would do all the work again."""
    from limbeck.images import manifest

    manifest.begin(folder, wanted)
    runs.claim(folder)


def _spent(cost: Path) -> float:
    """Return the seconds of earlier calls."""
    seconds = runs.read_json(cost).get("seconds") if cost.exists() else None
    return float(seconds) if isinstance(seconds, int | float) else 0.0


class _Progress:
    """Reports views done, at most twice per second."""

    def __init__(self, total: int, tell: Tell) -> None:
        self.total, self.tell = total, tell
        self.done, self.begun = 0, time.monotonic()
        self.shown = self.begun

    def __call__(self, views: int) -> None:
        self.done += views
        now = time.monotonic()
        if now - self.shown > 0.5:
            self.shown = now
            rate = self.done / (now - self.begun)
            left = (self.total - self.done) / rate / 60
            done = {"step": self.done, "steps": self.total, "images_per_second": rate}
            self.tell("step", {**done, "minutes_left": left})


def _ensemble(teachers: "list[Classifier]", how: Ensemble) -> "Callable[[Tensor], Tensor]":
    """Return what gives the teachers' joint prediction [N, classes] for images."""
    from limbeck.learn.objectives import ensemble

    answer = ensemble(teachers, average=how.average, weights=how.weights, temperature=how.temperature)
    return lambda images: answer(images).target


def _rate(
    channels: int, size: int, answer: "Callable[[Tensor], Tensor]", batch: int, accelerator: "Accelerator"
) -> float:
    """Return the views per second that the ensemble evaluates, from a second batch; the first warms up."""
    import torch

    images = torch.zeros(batch, channels, size, size, dtype=torch.uint8, device=accelerator.device)
    float(answer(images).sum())  # a number waits for the device
    begun = time.perf_counter()
    float(answer(images).sum())
    return batch / (time.perf_counter() - begun)


def _say(manifest: "Manifest", todo: list[int], rate: float, tell: Tell) -> None:
    """Report the teachers, the store's size and the time to come."""
    for teacher in manifest.teachers:
        tell("note", {"text": f"teacher {teacher.spec}: {measured(teacher.top1)}"})
    views = sum(len(manifest.range(shard)) for shard in todo) * manifest.views
    done = manifest.shards - len(todo)
    left = f"{views:,} views left" + (f", {done} of {manifest.shards} shards are finished" if done else "")
    size = f"{manifest.bytes:,} bytes, {manifest.record.itemsize} per view"
    tell("note", {"text": f"{size}; {left}: about {views / rate / 60:,.1f} minutes at {rate:,.0f} views/s"})


def _dtype_of(frozen: "list[Classifier]") -> str:
    kinds = dict.fromkeys(str(next(t.net.parameters()).dtype).removeprefix("torch.") for t in frozen)
    return "/".join(kinds)


def _teacher_row(top1: float | None, lineage: dict[str, Any], weight: float) -> str:
    data = f", trained on {lineage['data']}" if lineage["data"] else ""
    return f"{measured(top1)}, weight {weight:.3g}, {lineage['tag']}{data}, sha256 {lineage['sha256'][:12]}"


def open_store(folder: str) -> "LabelStore":
    """Open the store in a folder; InputError where there is none."""
    from limbeck.images.labels import LabelStore

    return LabelStore.open(Path(folder))


def merge(
    folders: tuple[str, ...], out: str, average: Literal["probabilities", "logits"], records: Records, tell: Tell
) -> "Manifest":
    """Write the merged store, shard by shard; continue where it was interrupted."""
    from limbeck.images import labelling, manifest
    from limbeck.images.labels import unfinished

    stores = [open_store(folder) for folder in folders]
    kind, count = stores[0].manifest.kind, stores[0].manifest.count
    if records.sampled or records.top is not None:
        kind, count = manifest.record_kind(len(stores[0].manifest.classes), records.top, records.sampled)
    wanted = labelling.merged_manifest(
        stores, average=average, views=records.views, kind=kind, count=count, dtype=records.dtype, tail=records.tail
    )
    begun = manifest.begin(Path(out), wanted)
    todo = unfinished(Path(out), begun)
    for done, shard in enumerate(todo):
        labelling.merge_shard(Path(out), begun, shard, stores)
        tell("step", {"step": done + 1, "steps": len(todo)})
    return open_store(out).manifest


def verify(folder: str, data: str, teachers: tuple[str, ...], training: Training, *, compiled: bool) -> Verified:
    """Evaluate the teachers again on a random sample of a store's views; VerificationError where they differ."""
    import numpy as np

    from limbeck.images.labelling import samples
    from limbeck.images.labels import check_source, difference, pack

    store = open_store(folder)
    known = store.manifest
    if not teachers or not (data or known.data.startswith("digits:")):
        names = " ".join(shlex.quote(teacher.spec) for teacher in known.teachers)
        raise InputError(
            f"what {folder} names is not opened automatically; if it is right, give --data {shlex.quote(known.data)} "
            f"--teachers {names}"
        )
    accelerator = accelerator_for(training, folder)
    frozen = _same_teachers(store, teachers, compiled, accelerator)
    as_stored = replace(training, seed=known.seed, white=known.augment.white)  # --limit takes the images of the store
    sets = open_sets(data or known.data, as_stored, classes=known.classes, labelled=False)
    check_source(store.folder, known, sets.train, sets.classes)
    named = [teacher.spec for teacher in known.teachers]
    judge(named, frozen, sets, training, accelerator, measure=False)  # puts their classes in order
    answer = _ensemble(frozen, Ensemble(known.average, known.weights, known.temperature))
    worst = 0.0
    number = min(VERIFIED_VIEWS, known.images * known.views)
    drawn = np.random.default_rng().choice(known.images * known.views, number, replace=False)
    for images, indices, view, records in samples(store, sets.train, drawn, batch=training.batch):
        target = answer(images.to(accelerator.device)).cpu()
        worst = max(worst, difference(known, records, pack(known, target, indices, view), target))
    limit = LIMIT_SAMPLED if known.kind == "sampled" else max(LIMITS[name] for name in known.teacher_dtype.split("/"))
    if not worst <= limit:
        raise VerificationError(
            f"the teachers' outputs differ from {folder} by up to {worst:.4f} in {number} views; the limit is {limit:g}"
        )
    return Verified(folder, number, worst, limit)


def _same_teachers(
    store: "LabelStore", teachers: tuple[str, ...], compiled: bool, accelerator: "Accelerator"
) -> "list[Classifier]":
    """Load a store's teachers, from `teachers` where they have moved; VerificationError where weights differ."""
    known = store.manifest.teachers
    specs = teachers or tuple(teacher.spec for teacher in known)
    if len(specs) != len(known):
        raise InputError(f"{store.folder} has {len(known)} teachers; name all of them in its order, or none")
    dtypes = store.manifest.teacher_dtype.split("/")
    dtype: Any = dtypes[0] if len(dtypes) == 1 else "auto"
    frozen = [load_teacher(spec, dtype, compiled, accelerator) for spec in specs]
    for spec, teacher, remembered in zip(specs, frozen, known, strict=True):
        if teacher.lineage.sha256 != remembered.lineage["sha256"]:
            raise VerificationError(
                f"{spec} has other weights than {remembered.spec}, which {store.folder} was made with"
            )
    return frozen
