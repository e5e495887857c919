"""The teachers of a student: evaluated on every view, or as a label store recorded them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck import runs
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.run import brings_weights, evaluate_on
from limbeck.training.sets import Sets, augment_of, open_sets
from limbeck.training.settings import Ensemble, Training

if TYPE_CHECKING:
    from accelerate import Accelerator

    from limbeck.images.labels import LabelStore
    from limbeck.images.loader import Batch
    from limbeck.images.views import Augment
    from limbeck.learn.objectives import Answer
    from limbeck.nets.zoo import Classifier, Lineage


@dataclass(frozen=True)
class Teaching:
    """What a student learns from, and on which views."""

    answer: "Callable[[Batch], Answer]"
    temperature: float
    view: "Augment"
    teachers: tuple[tuple[str, float | None], ...]  # name, held-out top-1
    lineages: "tuple[Lineage, ...]"
    labels: "LabelStore | None" = None


@dataclass(frozen=True)
class Live:
    """Teachers that are evaluated on every view."""

    specs: tuple[str, ...]  # as the user calls them
    nets: "tuple[Classifier, ...]"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.nets[0].classes

    def seeds(self, training: Training) -> Training:
        """Return the settings by which --limit draws images."""
        return training

    def white(self, training: Training) -> int | None:
        """Return what is white in 16-bit images: as given, else as the teachers say; None where they say nothing."""
        from limbeck.nets.classifier import white_of

        return white_of(training.white, [teacher.input for teacher in self.nets])

    def of(
        self, net: "Classifier", sets: Sets, ensemble: Ensemble, training: Training, accelerator: "Accelerator",
        *, measure: bool, tell: Tell,
    ) -> Teaching:  # fmt: skip
        """Return what the student `net` learns from; `measure`: the teachers' top-1 too."""
        from limbeck.learn.objectives import ask

        temperature = ensemble.temperature
        answer = ask(list(self.nets), average=ensemble.average, weights=ensemble.weights, temperature=temperature)
        size = max(n.input.size for n in [net, *self.nets])  # a larger teacher sees real pixels, not enlarged ones
        view = augment_of(sets.train, training, size, net.input.interpolation)
        show_white(self.nets, sets.train.white)
        top1 = judge(
            self.specs, self.nets, sets, training, accelerator, measure=measure, weak=ensemble.weak_teachers, tell=tell
        )
        lineages = tuple(teacher.lineage for teacher in self.nets)
        return Teaching(answer, temperature, view, tuple(zip(self.specs, top1, strict=True)), lineages)


@dataclass(frozen=True)
class Stored:
    """Teachers whose predictions lie in a label store."""

    store: "LabelStore"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.store.manifest.classes

    def seeds(self, training: Training) -> Training:
        """Return the settings by which --limit draws images: those of the store."""
        return replace(training, seed=self.store.manifest.seed)

    def white(self, training: Training) -> int | None:
        """Return what is white in 16-bit images: as given, which must be the store's, else as there."""
        return training.white or self.store.manifest.augment.white

    def of(
        self, net: "Classifier", sets: Sets, ensemble: Ensemble, training: Training, accelerator: "Accelerator",
        *, measure: bool, tell: Tell,
    ) -> Teaching:  # fmt: skip
        """Return what the student `net` learns from; the store knows the teachers' top-1, so nothing is measured."""
        from limbeck.learn.objectives import recall

        _check_labels(self.store, sets, training, ensemble, tell)
        known = self.store.manifest
        seen = augment_of(sets.train, training, net.input.size, net.input.interpolation)
        # a stored box is drawn as the student expects to see it
        view = replace(known.augment, size=seen.size, interpolation=seen.interpolation)
        teachers = tuple((teacher.spec, teacher.top1) for teacher in known.teachers)
        lineages = tuple(lineage_of(teacher.lineage) for teacher in known.teachers)
        return Teaching(recall, known.temperature, view, teachers, lineages, self.store)


def show_white(nets: "Sequence[Classifier]", white: int) -> None:
    """Have nets that see the same images take the same value of 16 bits for white."""
    for net in nets:
        net.input = replace(net.input, white=white)


def live(
    specs: tuple[str, ...], ensemble: Ensemble, data: str, training: Training, accelerator: "Accelerator",
    *, dry_run: bool, tell: Tell,
) -> Live:  # fmt: skip
    """Load the teachers; in a dry run those that would have to be fetched have random weights."""
    from limbeck.nets import zoo

    return Live(
        specs,
        tuple(
            zoo.freeze(_stand_in(spec, data, training, tell), dtype=ensemble.teacher_dtype)
            if dry_run and not brings_weights(spec)
            else load_teacher(spec, ensemble.teacher_dtype, ensemble.compile_teachers, accelerator)
            for spec in specs
        ),
    )


def load_teacher(
    spec: str, dtype: Literal["auto", "float32", "bfloat16"], compiled: bool, accelerator: "Accelerator"
) -> "Classifier":
    """Return the teacher that `spec` names, frozen, on the accelerator's device; an ONNX file runs on the CPU, as it
    was exported."""
    from limbeck.nets import onnx, weights, zoo

    if spec.endswith(".onnx"):
        net = onnx.load(spec)
        # its own digest: a file of 8 bits names the weights that it was made of
        net.lineage = replace(net.lineage, sha256=weights.digest(Path(spec).read_bytes()))
        return zoo.freeze(net.to(accelerator.device), dtype="float32")
    return zoo.freeze(zoo.load(spec).to(accelerator.device), dtype=dtype, compile=compiled)


def _stand_in(spec: str, data: str, training: Training, tell: Tell) -> "Classifier":
    """Return, for a dry run, the net that a tag names with random weights: gigabytes need not be fetched to time it."""
    from limbeck.nets import zoo
    from limbeck.nets.classifier import numbered

    try:
        classes = open_sets(data, training).classes
    except InputError:  # nothing to name them by
        classes = numbered(1000)
    tell("note", {"text": f"dry run: {spec} has random weights"})
    return zoo.create(spec, classes=classes, channels=3)


def judge(
    specs: Sequence[str],
    teachers: "Sequence[Classifier]",
    sets: Sets,
    training: Training,
    accelerator: "Accelerator",
    *,
    measure: bool = True,
    weak: bool = False,
    tell: Tell = runs.silent,
) -> list[float | None]:
    """Check that the teachers, which the user calls `specs`, name the data's classes, put their outputs in that order,
    and return their held-out top-1: None where it can't be measured, or is not to be. InputError for one that is no
    better than chance, unless `weak` ones are wanted: mostly its classes are in another order."""
    from limbeck.nets import zoo

    found: list[float | None] = []
    for spec, teacher in zip(specs, teachers, strict=True):
        note = zoo.check_classes(teacher, sets.classes, spec, order=training.class_order)
        if note:
            tell("note", {"text": note})
        evaluation = evaluate_on(sets, teacher, training, accelerator) if measure else None
        if evaluation is not None and evaluation.is_chance and not weak:
            raise InputError(
                f"teacher {spec} classifies {evaluation.top1:.1%} of {evaluation.images:,} held-out images correctly, "
                "no better than chance: its classes may be in another order (--class-order), or it expects other "
                "images; pass --weak-teachers to use it nevertheless"
            )
        found.append(evaluation.top1 if evaluation else None)
    return found


def _check_labels(
    store: "LabelStore",
    sets: Sets,
    training: Training,
    ensemble: Ensemble,
    tell: Tell,
) -> None:
    """Refuse a store of other data, and flags that contradict it; a flag that is left at its default does not."""
    from limbeck.images.labels import check_source

    manifest, default, weights = store.manifest, Training(), ensemble.weights
    check_source(store.folder, manifest, sets.train, sets.classes)
    augment = manifest.augment
    asked = {
        "average": (ensemble.average, "probabilities", manifest.average),
        "temperature": (ensemble.temperature, 1.0, manifest.temperature),
        "weights": (tuple(w / sum(weights) for w in weights), (), manifest.weights),
        "augment": (training.augment, default.augment, augment.kind),
        "flip": (training.flip, default.flip, "yes" if augment.flip else "no"),
        "crop-scale": (training.crop_scale, default.crop_scale, augment.scale),
        "shift": (training.shift, default.shift, augment.shift),
        "white": (training.white, augment.white, augment.white),
    }
    for flag, (given, usual, stored) in asked.items():
        if given not in (usual, stored):
            raise InputError(
                f"--{flag} is {given}, but the labels in {store.folder} were made with {stored}; leave the flag out or "
                "label anew"
            )
    if training.epochs > manifest.views:
        text = (
            f"{training.epochs} epochs replay {manifest.views} views per image: epoch {manifest.views + 1} shows those"
        )
        tell("note", {"text": f"{text} of epoch 1 again"})
    if training.mixup or training.cutmix:
        text = "mixed images get the mix of their stored labels; live teachers would see the mixed image"
        tell("note", {"text": text})


def record_labels(out: Path, store: "LabelStore") -> None:
    """Keep the store's manifest in the run; InputError where the run was begun with another store."""
    path, document = out / "labels.json", store.manifest.to_json()
    if path.exists() and runs.read_json(path) != document:
        raise InputError(f"{store.folder} is not the store that {out} was begun with; choose another --out")
    runs.write_json(path, document)


def lineage_of(document: dict[str, Any]) -> "Lineage":
    """Return the lineage that a label store remembers."""
    from limbeck.nets.zoo import Lineage

    return Lineage(**{**document, "teachers": tuple(lineage_of(teacher) for teacher in document["teachers"])})
