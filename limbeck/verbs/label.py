"""limbeck label: what teachers say of many views of every image, stored once, to train students from."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck import runs
from limbeck.errors import InputError, VerificationError
from limbeck.runs import Tell
from limbeck.training.results import measured
from limbeck.training.run import accelerator_for
from limbeck.training.sets import augment_of, check_apart, open_sets, workers_of
from limbeck.training.settings import Training
from limbeck.verbs.distill import check_ensemble, judge, load_teacher

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from limbeck.images.labels import LabelStore
    from limbeck.images.manifest import Manifest
    from limbeck.nets.zoo import Classifier

VERIFIED_VIEWS = 1024
# How far a second answer may be. Batches of another size, threads or another machine change sums in the last bits:
# of bfloat16's 8 in a logit, and float16's 11 are stored. Of sampled ids those change that lie at a border.
LIMITS = {"float32": 0.002, "bfloat16": 0.05}
LIMIT_SAMPLED = 0.02


@dataclass(frozen=True)
class Labels:
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
            ("views", f"{m.views} an image, {view.kind} ({shown[view.kind]}), flip {view.flip}, seed {m.seed}"),
            ("record", f"{m.record.itemsize} bytes: {m.kind} {m.count}{rest}"),
            ("answer", f"mean of {m.average} at temperature {m.temperature:g}, computed in {m.teacher_dtype}"),
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
class Verified:
    """What a second answer of the teachers says of a store."""

    store: str
    views: int  # that were asked again
    difference: float  # largest, of a stored probability; of sampled ids: the share that changed
    limit: float

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        return [
            ("store", self.store),
            ("views asked again", f"{self.views:,}"),
            ("largest difference", f"{self.difference:.6f} (limit {self.limit:g})"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)


def label(
    *,
    data: str = "",
    teachers: tuple[str, ...] = (),
    out: str = "",
    views: int | None = None,
    top: int | None = None,
    sampled: int = 0,
    tail: Literal["spread", "renormalise", "hard"] | None = None,
    dtype: Literal["float16", "float32"] | None = None,
    average: Literal["probabilities", "logits"] = "probabilities",
    weights: tuple[float, ...] = (),
    temperature: float = 1.0,
    teacher_dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile_teachers: bool = False,
    size: int | None = None,
    augment: Literal["auto", "crop", "shift", "none"] = "auto",
    crop_scale: tuple[float, float] = (0.08, 1.0),
    shift: int = 2,
    flip: Literal["auto", "yes", "no"] = "auto",
    seed: int = 0,
    limit: int | None = None,
    batch: int = 128,
    workers: int | None = None,
    on_broken: Literal["fatal", "skip"] = "fatal",
    download: bool = False,
    merge: tuple[str, ...] = (),
    verify: str | None = None,
    info: str | None = None,
    tell: Tell = runs.silent,
) -> Labels | Verified:
    """Store what teachers say of many views of every image, to train students from with distill --labels.

    The same command again goes on where it was killed; finished shards are not computed again. torchrun shares the
    shards among ranks.

    Examples:
        limbeck label --data photos/ --teachers runs/t1 runs/t2 --views 50 --out labels
        limbeck label --info labels
        limbeck label --verify labels
        limbeck label --merge labels1 labels2 --out both

    Args:
        data: As for teach; labels are not read. With --verify: where the images are now.
        teachers: As for distill. With --verify: where the teachers are now.
        out: The store to write.
        views: Views of each image; epoch e of a training replays view e mod VIEWS. 50 by default.
        top: Classes whose probability is stored; 0: all. By default 5, or all where there are up to 64.
        sampled: Store so many class numbers drawn from the teachers' answer instead, which is unbiased.
        tail: Of a top-k: spread the rest over the other classes, scale to sum to 1, or take the first one-hot.
        dtype: Of the stored probabilities; float16 by default.
        average: What of the teachers is averaged.
        weights: One a teacher; by default all count the same.
        temperature: Of the softmax.
        teacher_dtype: Of the teachers' arithmetic; auto is bfloat16 where the machine has it in hardware.
        compile_teachers: Compile the teachers (torch.compile): minutes to begin with, then faster.
        size: Side of the view that teachers get, in pixels; by default that of the largest teacher.
        augment: crop: random resized crops; shift: small shifts; auto: shift for small images of one size, else crop.
        crop_scale: Area of a crop, as a share of the image's.
        shift: Pixels, each way.
        flip: Mirror half of the views left-right; auto: yes, but not for the built-in digits.
        seed: Of the views. A training with this seed and live teachers sees the same ones.
        limit: Label so many images only; as for teach.
        batch: Views that the teachers get at once.
        workers: Processes that decode images; by default one a core, none for small images held in memory.
        on_broken: What to do about images that can't be read.
        download: Let torchvision and timm fetch a named data set.
        merge: Make one store of several with the same views, without the teachers; one alone can be cut to fewer
            views or classes. Whole distributions merge exactly; of a top-k what is known is averaged and cut anew.
        verify: Ask the teachers again about a random sample of this store.
        info: Print what this store is.
    """
    begun = time.monotonic()
    training = Training(
        batch=batch, size=size, augment=augment, crop_scale=crop_scale, shift=shift, flip=flip, limit=limit, seed=seed,
        workers=workers, on_broken=on_broken, download=download,
    )  # fmt: skip
    match _mode(merge, verify, info, out):
        case "info":
            return Labels(str(info), _open(str(info)).manifest)
        case "verify":
            return _verify(str(verify), data, teachers, training, compile_teachers)
        case "merge":
            made = _merge(
                merge, out, average=average, views=views, top=top, sampled=sampled, tail=tail, dtype=dtype, tell=tell
            )
        case "label":
            made = _label(
                data, teachers, out, training, views=50 if views is None else views, top=top, sampled=sampled,
                tail=tail or "spread", dtype=dtype or "float16", average=average, weights=weights,
                temperature=temperature, teacher_dtype=teacher_dtype, compiled=compile_teachers, tell=tell,
            )  # fmt: skip
    return Labels(out, made, time.monotonic() - begun)


def _mode(
    merge: tuple[str, ...], verify: str | None, info: str | None, out: str
) -> Literal["merge", "verify", "info", "label"]:
    """Return what is to be done; InputError where that is not clear."""
    given: dict[Literal["merge", "verify", "info"], bool] = {
        "merge": bool(merge), "verify": bool(verify), "info": bool(info)
    }  # fmt: skip
    modes = [mode for mode, is_given in given.items() if is_given]
    if len(modes) > 1:
        raise InputError(f"--{modes[0]} and --{modes[1]} are different things to do; give one")
    if bool(out) == (modes in (["verify"], ["info"])):
        raise InputError("--out names the store to write; give it, but not with --verify or --info")
    return modes[0] if modes else "label"


def _label(
    data: str,
    teachers: tuple[str, ...],
    out: str,
    training: Training,
    *,
    views: int,
    top: int | None,
    sampled: int,
    tail: Literal["spread", "renormalise", "hard"],
    dtype: Literal["float16", "float32"],
    average: Literal["probabilities", "logits"],
    weights: tuple[float, ...],
    temperature: float,
    teacher_dtype: Literal["auto", "float32", "bfloat16"],
    compiled: bool,
    tell: Tell,
) -> "Manifest":
    """Write the store, this rank's share of the shards; go on where it was killed."""
    from limbeck.images import labelling, manifest
    from limbeck.images.labels import unfinished

    if not data or not teachers:
        raise InputError("--data and --teachers say what to label and by whom; give both")
    if views < 1:
        raise InputError(f"--views is {views}; give 1 or more")
    check_ensemble(teachers, weights, temperature)
    accelerator, folder = accelerator_for(training, out), Path(out)
    ranks, batch = accelerator.num_processes, training.batch
    frozen = [load_teacher(spec, teacher_dtype, compiled, accelerator) for spec in teachers]
    sets = open_sets(data, training, classes=frozen[0].classes, labelled=False)
    check_apart(out, sets.train)
    kind, count = manifest.record_kind(len(sets.classes), top, sampled)
    largest = max((teacher.input for teacher in frozen), key=lambda sight: sight.size)
    drawn = augment_of(sets.train, training, training.size or largest.size, largest.interpolation)
    begun_before = (folder / manifest.MANIFEST).exists()
    top1 = judge(teachers, frozen, sets, training, accelerator, measure=not begun_before, tell=tell)
    answer = _ensemble(frozen, average, weights, temperature)
    rate = _rate(sets.train.channels, drawn.size, answer, batch, accelerator)
    share = weights or (1.0,) * len(teachers)
    wanted = manifest.Manifest(
        data=data, fingerprint=sets.train.fingerprint, images=len(sets.train), classes=sets.classes, views=views,
        seed=training.seed, augment=drawn, kind=kind, count=count, dtype=dtype, tail=tail, average=average,
        weights=tuple(w / sum(share) for w in share), temperature=temperature, teacher_dtype=_dtype_of(frozen),
        teachers=tuple(
            manifest.Teacher(spec, found, asdict(teacher.lineage))
            for spec, teacher, found in zip(teachers, frozen, top1, strict=True)
        ),
        shard_images=manifest.images_a_shard(len(sets.train), views, rate, ranks),
    )  # fmt: skip
    if accelerator.is_main_process:
        with contextlib.suppress(InputError):  # every rank raises it below
            manifest.begin(folder, wanted)
    accelerator.wait_for_everyone()
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
    return _open(out).manifest


def _spent(cost: Path) -> float:
    """Return the seconds of earlier calls."""
    found = runs.read_json(cost) if cost.exists() else None
    seconds = found.get("seconds") if isinstance(found, dict) else None
    return float(seconds) if isinstance(seconds, int | float) else 0.0


class _Progress:
    """Tells of views done, at most twice a second."""

    def __init__(self, total: int, tell: Tell) -> None:
        self.total, self.tell = total, tell
        self.done, self.begun = 0, time.monotonic()
        self.told = self.begun

    def __call__(self, views: int) -> None:
        self.done += views
        now = time.monotonic()
        if now - self.told > 0.5:
            self.told = now
            rate = self.done / (now - self.begun)
            left = (self.total - self.done) / rate / 60
            done = {"step": self.done, "steps": self.total, "images_per_second": rate}
            self.tell("step", {**done, "minutes_left": left})


def _ensemble(
    teachers: "list[Classifier]", average: Literal["probabilities", "logits"], weights: tuple[float, ...],
    temperature: float,
) -> "Callable[[Tensor], Tensor]":  # fmt: skip
    """Return what gives the teachers' common answer [N, classes] to images."""
    from limbeck.learn.objectives import ensemble

    answer = ensemble(teachers, average=average, weights=weights, temperature=temperature)
    return lambda images: answer(images).target


def _rate(
    channels: int, size: int, answer: "Callable[[Tensor], Tensor]", batch: int, accelerator: "Accelerator"
) -> float:
    """Return views a second that the ensemble answers, from a second batch; the first warms up."""
    import torch

    images = torch.zeros(batch, channels, size, size, dtype=torch.uint8, device=accelerator.device)
    float(answer(images).sum())  # a number waits for the device
    begun = time.perf_counter()
    float(answer(images).sum())
    return batch / (time.perf_counter() - begun)


def _say(manifest: "Manifest", todo: list[int], rate: float, tell: Tell) -> None:
    """Tell of the teachers, the store's size and the time to come."""
    for teacher in manifest.teachers:
        tell("note", {"text": f"teacher {teacher.spec}: {measured(teacher.top1)}"})
    views = sum(len(manifest.range(shard)) for shard in todo) * manifest.views
    done = manifest.shards - len(todo)
    left = f"{views:,} views to go" + (f", {done} of {manifest.shards} shards are there" if done else "")
    size = f"{manifest.bytes:,} bytes, {manifest.record.itemsize} a view"
    tell("note", {"text": f"{size}; {left}: about {views / rate / 60:,.1f} minutes at {rate:,.0f} views/s"})


def _dtype_of(frozen: "list[Classifier]") -> str:
    kinds = dict.fromkeys(str(next(t.net.parameters()).dtype).removeprefix("torch.") for t in frozen)
    return "/".join(kinds)


def _teacher_row(top1: float | None, lineage: dict[str, Any], weight: float) -> str:
    data = f", saw {lineage['data']}" if lineage["data"] else ""
    return f"{measured(top1)}, weight {weight:.3g}, {lineage['tag']}{data}, sha256 {lineage['sha256'][:12]}"


def _open(folder: str) -> "LabelStore":
    from limbeck.images.labels import LabelStore

    return LabelStore.open(Path(folder))


def _merge(
    folders: tuple[str, ...],
    out: str,
    *,
    average: Literal["probabilities", "logits"],
    views: int | None,
    top: int | None,
    sampled: int,
    tail: Literal["spread", "renormalise", "hard"] | None,
    dtype: Literal["float16", "float32"] | None,
    tell: Tell,
) -> "Manifest":
    """Write the merged store, shard by shard; go on where it was killed."""
    from limbeck.images import labelling, manifest
    from limbeck.images.labels import unfinished

    stores = [_open(folder) for folder in folders]
    kind, count = stores[0].manifest.kind, stores[0].manifest.count
    if sampled or top is not None:
        kind, count = manifest.record_kind(len(stores[0].manifest.classes), top, sampled)
    wanted = labelling.merged_manifest(
        stores, average=average, views=views, kind=kind, count=count, dtype=dtype, tail=tail
    )
    begun = manifest.begin(Path(out), wanted)
    todo = unfinished(Path(out), begun)
    for done, shard in enumerate(todo):
        labelling.merge_shard(Path(out), begun, shard, stores)
        tell("step", {"step": done + 1, "steps": len(todo)})
    return _open(out).manifest


def _verify(folder: str, data: str, teachers: tuple[str, ...], training: Training, compiled: bool) -> Verified:
    """Ask the teachers again about a random sample of a store's views; VerificationError where they differ."""
    import numpy as np

    from limbeck.images.labelling import samples
    from limbeck.images.labels import check_source, difference, pack

    store = _open(folder)
    known = store.manifest
    accelerator = accelerator_for(training, folder)
    frozen = _same_teachers(store, teachers, compiled, accelerator)
    as_stored = replace(training, seed=known.seed)  # --limit takes the images of the store
    sets = open_sets(data or known.data, as_stored, classes=known.classes, labelled=False)
    check_source(store.folder, known, sets.train, sets.classes)
    named = [teacher.spec for teacher in known.teachers]
    judge(named, frozen, sets, training, accelerator, measure=False)  # puts their classes in order
    answer = _ensemble(frozen, known.average, known.weights, known.temperature)
    worst = 0.0
    number = min(VERIFIED_VIEWS, known.images * known.views)
    drawn = np.random.default_rng().choice(known.images * known.views, number, replace=False)
    for images, indices, view, records in samples(store, sets.train, drawn, batch=training.batch):
        target = answer(images.to(accelerator.device)).cpu()
        worst = max(worst, difference(known, records, pack(known, target, indices, view), target))
    limit = LIMIT_SAMPLED if known.kind == "sampled" else max(LIMITS[name] for name in known.teacher_dtype.split("/"))
    if not worst <= limit:
        raise VerificationError(
            f"the teachers say otherwise than {folder}: a difference of {worst:.4f} in {number} views, limit {limit:g}"
        )
    return Verified(folder, number, worst, limit)


def _same_teachers(
    store: "LabelStore", teachers: tuple[str, ...], compiled: bool, accelerator: "Accelerator"
) -> "list[Classifier]":
    """Load a store's teachers, from `teachers` where they have moved; VerificationError where weights differ."""
    known = store.manifest.teachers
    specs = teachers or tuple(teacher.spec for teacher in known)
    if len(specs) != len(known):
        raise InputError(f"{store.folder} has {len(known)} teachers; name all of them in their order, or none")
    dtypes = store.manifest.teacher_dtype.split("/")
    dtype: Any = dtypes[0] if len(dtypes) == 1 else "auto"
    frozen = [load_teacher(spec, dtype, compiled, accelerator) for spec in specs]
    for spec, teacher, remembered in zip(specs, frozen, known, strict=True):
        if teacher.lineage.sha256 != remembered.lineage["sha256"]:
            raise VerificationError(f"{spec} has other weights than {remembered.spec}, which {store.folder} is of")
    return frozen
