"""Evaluation: what a classifier predicts for a whole split, and the figures that follow from it."""

import csv
import io
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather, pad_across_processes
from torch import Tensor, nn

from limbeck.images.loader import Batch
from limbeck.runs import Tell, silent

MOST_COLUMNS = 1000  # of a confusion matrix in a table
CALIBRATION_BINS = 15  # as Guo et al. 2017


@dataclass(frozen=True)
class Answers:
    """Logits of a split, in the source's order."""

    logits: Tensor  # float32 [N, classes], on the CPU
    labels: Tensor | None  # int64 [N]


@dataclass(frozen=True)
class Bin:
    """The images whose top probability lies in (low, high]; confidence and accuracy are means, nan without images."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """Figures of a classifier on a labelled split. Shares are in [0, 1]."""

    classes: tuple[str, ...]
    images: int
    top1: float
    top5: float | None  # None where there are fewer than 6 classes
    nll: float  # mean negative log-likelihood, nats
    bins: tuple[Bin, ...]  # the reliability curve
    pairs: Tensor  # int64 [M, 3]: true class, predicted class, images of which that holds; only pairs that occur

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over images of |accuracy - confidence| in their bin."""
        gaps = (b.images * abs(b.accuracy - b.confidence) for b in self.bins if b.images)
        return sum(gaps) / self.images

    @property
    def confusion(self) -> Tensor:
        """Return the matrix int64 [classes, classes]: rows true, columns predicted. It takes classes^2 numbers."""
        true, said, images = self.pairs.unbind(1)
        count = len(self.classes)
        return torch.zeros(count, count, dtype=torch.int64).index_put((true, said), images)

    @property
    def recall(self) -> list[float]:
        """Share of each class's images that were classified correctly; nan where a class has no image."""
        return _shares(self._right(), self.counts())

    @property
    def is_chance(self) -> bool:
        """Whether the mean recall of the classes that have images is within a standard deviation of guessing; never
        where one class alone has images."""
        recall = [share for share in self.recall if math.isfinite(share)]
        guess = 1 / len(recall)
        return len(recall) > 1 and sum(recall) * guess <= guess + math.sqrt(guess * (1 - guess) / self.images)

    @property
    def precision(self) -> list[float]:
        """Share of the images predicted as a class that are of it; nan where there are none."""
        return _shares(self._right(), self._counted(self.pairs, 1))

    def mistakes(self, count: int) -> list[tuple[str, str, int]]:
        """Return the `count` most frequent mistakes, as (true class, predicted class, images)."""
        wrong = self._wrong()
        worst = wrong[wrong[:, 2].argsort(descending=True, stable=True)[:count]].tolist()
        return [(self.classes[true], self.classes[said], images) for true, said, images in worst]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values; what is not a number is null."""
        count = self.counts().tolist()
        rows = zip(count, self.recall, self.precision, strict=True)
        per_class = [{"images": n, "recall": number(r), "precision": number(p)} for n, r, p in rows]
        return {
            "images": self.images,
            "top1": self.top1,
            "top5": self.top5,
            "nll": number(self.nll),
            "ece": number(self.ece),
            "per_class": dict(zip(self.classes, per_class, strict=True)),
        }

    def to_csv(self) -> str:
        """Return one line per class: name, images, recall, precision, and the class it is most often mistaken for."""
        most: dict[int, tuple[str, int]] = {}
        for true, said, images in self._wrong().tolist():
            if images > most.get(true, ("", 0))[1]:
                most[true] = (self.classes[said], images)
        mistaken = [most.get(place, ("", 0)) for place in range(len(self.classes))]
        rows = zip(
            self.classes, self.counts().tolist(), self.recall, self.precision,
            [name for name, _ in mistaken], [images for _, images in mistaken], strict=True,
        )  # fmt: skip
        return csv_text([["class", "images", "recall", "precision", "most_often_mistaken_for", "mistaken"], *rows])

    def confusion_csv(self) -> str:
        """Return the confusion matrix: a line per true class, a column per predicted one. Of more than MOST_COLUMNS
        classes return a line per pair that occurs."""
        if len(self.classes) > MOST_COLUMNS:
            named = ((self.classes[true], self.classes[said], images) for true, said, images in self.pairs.tolist())
            return csv_text([["true", "predicted", "images"], *named])
        rows = zip(self.classes, self.confusion.tolist(), strict=True)
        return csv_text([["true \\ predicted", *self.classes], *([name, *counts] for name, counts in rows)])

    def counts(self) -> Tensor:
        """Return int64 [classes]: the images of each class."""
        return self._counted(self.pairs, 0)

    def _right(self) -> Tensor:
        return self._counted(self.pairs[self.pairs[:, 0] == self.pairs[:, 1]], 0)

    def _wrong(self) -> Tensor:
        return self.pairs[self.pairs[:, 0] != self.pairs[:, 1]]

    def _counted(self, pairs: Tensor, column: int) -> Tensor:
        counts = torch.zeros(len(self.classes), dtype=torch.int64)
        return counts.index_add(0, pairs[:, column], pairs[:, 2])


def _shares(part: Tensor, whole: Tensor) -> list[float]:
    return [float(share) for share in part.double() / whole]


def number(value: float) -> float | None:
    """Return the value, or None where JSON can't say it."""
    return value if math.isfinite(value) else None


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return the rows as CSV; floats have six digits, what is not a number is left empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, float):
        return value
    return f"{value:.6g}" if math.isfinite(value) else ""


def answers(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    accelerator: Accelerator | PartialState | None = None,
    total: int | None = None,
    tell: Tell = silent,
) -> Answers:
    """Return what `model` says of every image once, over all ranks, in the source's order. The model is put into
    evaluation mode and back. `total` images of this rank are only for progress."""
    was_training = model.training
    model.eval()
    logits, labels, indices, done = [], [], [], 0
    with torch.inference_mode():
        for batch in batches:
            logits.append(model(batch.images).float().cpu())
            indices.append(batch.indices.cpu())
            if batch.labels is not None:
                labels.append(batch.labels.cpu())
            done += len(batch.images)
            tell("evaluated", {"image": done, "images": total})
    model.train(was_training)
    joined = [torch.cat(parts) if parts else None for parts in (logits, indices, labels)]
    if accelerator is not None and accelerator.num_processes > 1:
        types = (torch.float32, torch.int64, torch.int64)
        joined = [_gather(part, kind, accelerator.device) for part, kind in zip(joined, types, strict=True)]
    logit, index, label = joined
    assert logit is not None, "no batches"
    assert index is not None
    place = index.argsort()
    return Answers(logit[place], label[place] if label is not None else None)


def _gather(part: Tensor | None, kind: torch.dtype, device: torch.device) -> Tensor | None:
    """Concatenate the ranks' parts, whose lengths may differ, on the CPU. A rank may have none, as it got no batch;
    None where no rank has one."""
    width = 0 if part is None or part.ndim == 1 else part.shape[1]
    own = torch.tensor([[0 if part is None else len(part), width]], device=device)
    lengths, widths = gather(own).cpu().unbind(1)
    if not lengths.any():
        return None
    if part is None:
        part = torch.zeros((0, int(widths.max())) if widths.any() else (0,), dtype=kind)
    padded = pad_across_processes(part.to(device), dim=0)
    every = gather(padded).cpu().split(int(lengths.max()))
    return torch.cat([rows[:count] for rows, count in zip(every, lengths.tolist(), strict=True)])


def figures(said: Answers, classes: Sequence[str]) -> Evaluation:
    """Return the figures of `said`, which must have labels."""
    assert said.labels is not None, "verbs check that a labelled split is labelled"
    logits, labels, count = said.logits.double(), said.labels, len(classes)
    said_class = logits.argmax(1)  # of equal logits the first (numerics.md), which topk does not promise
    right = said_class == labels
    among = (logits.topk(min(5, count), dim=1).indices == labels[:, None]).any(dim=1) | right
    return Evaluation(
        classes=tuple(classes),
        images=len(labels),
        top1=float(right.double().mean()),
        top5=float(among.double().mean()) if count > 5 else None,
        nll=float(torch.nn.functional.cross_entropy(logits, labels)),
        bins=_reliability(logits.softmax(1).amax(1), right),
        pairs=_pairs(labels, said_class, count),
    )


def _pairs(true: Tensor, said: Tensor, count: int) -> Tensor:
    """Return int64 [M, 3]: each pair of classes that occurs, in order, and how often."""
    places, images = torch.unique(true * count + said, return_counts=True)
    return torch.stack([places // count, places % count, images], dim=1)


def _reliability(confidence: Tensor, right: Tensor) -> tuple[Bin, ...]:
    """Return the bins of float64 confidences [N] and right answers bool [N].

    Bins are closed above, as Guo et al. have it, so that a confidence of 1 is in the last.
    """
    place = (torch.ceil(confidence * CALIBRATION_BINS).long() - 1).clamp(0, CALIBRATION_BINS - 1)
    values = torch.stack([torch.ones_like(confidence), confidence, right.double()])
    sums = torch.zeros(3, CALIBRATION_BINS, dtype=torch.float64).index_add(1, place, values)
    images = sums[0].tolist()
    means = zip((sums[1] / sums[0]).tolist(), (sums[2] / sums[0]).tolist(), strict=True)
    return tuple(
        Bin(i / CALIBRATION_BINS, (i + 1) / CALIBRATION_BINS, int(images[i]), sure, hit)
        for i, (sure, hit) in enumerate(means)
    )


def agreement(one: Answers, other: Answers) -> float:
    """Return the share of images for which both predict the same class."""
    return float((one.logits.argmax(1) == other.logits.argmax(1)).double().mean())


def predictions_csv(said: Answers, classes: Sequence[str], keys: Sequence[str]) -> str:
    """Return one line per image: its key, its true class, the predicted one, and its probability."""
    assert said.labels is not None
    sure, place = said.logits.double().softmax(1).max(dim=1)
    named = ([classes[i] for i in places.tolist()] for places in (said.labels, place))
    return csv_text([["key", "true", "predicted", "probability"], *zip(keys, *named, sure.tolist(), strict=True)])


def speed(model: nn.Module, images: Tensor, *, seconds: float = 0.5) -> float:
    """Return the images/s of `model` alone, the batch `images` [N, C, H, W] being ready on its device: of the fastest
    batch in `seconds`, as others on the machine only ever slow one down. A batch before these is not counted."""
    with torch.inference_mode():
        model(images).cpu()  # kernels are chosen and memory is taken here
        begun, fastest = time.perf_counter(), math.inf
        while (start := time.perf_counter()) < begun + seconds:
            model(images).cpu()  # waits for the device
            fastest = min(fastest, time.perf_counter() - start)
    return len(images) / fastest
