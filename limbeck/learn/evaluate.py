"""Evaluation: what a classifier says of a whole split, and the figures that follow from it."""

import csv
import io
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from limbeck.data.loader import Batch
from limbeck.runs import Tell, silent

CALIBRATION_BINS = 15  # as Guo et al. 2017


@dataclass(frozen=True)
class Answers:
    """Logits of a split, in the source's order."""

    logits: Tensor  # float32 [N, classes], on the CPU
    labels: Tensor | None  # int64 [N]
    images_per_second: float  # of the net alone, decoding left out


@dataclass(frozen=True)
class Evaluation:
    """Figures of a classifier on a labelled split. Shares are in [0, 1]."""

    classes: tuple[str, ...]
    images: int
    top1: float
    top5: float | None  # None where there are fewer than 6 classes
    nll: float  # mean negative log-likelihood, nats
    ece: float  # expected calibration error of the top class, 15 bins
    confusion: Tensor  # int64 [classes, classes]: rows true, columns said

    @property
    def per_class(self) -> list[float]:
        """Share of each class's images that were named right (recall); nan where a class has no image."""
        right, count = self.confusion.diag().double(), self.confusion.sum(dim=1).double()
        return [float(share) for share in right / count]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        figures = {
            "images": self.images,
            "top1": self.top1,
            "top5": self.top5,
            "nll": self.nll,
            "ece": self.ece,
        }
        return {**figures, "per_class": dict(zip(self.classes, self.per_class, strict=True))}

    def to_csv(self) -> str:
        """Return one line a class: name, images, recall, precision, and the class it is most often mistaken for."""
        text = io.StringIO()
        write = csv.writer(text, lineterminator="\n").writerow
        write(["class", "images", "recall", "precision", "most_often_mistaken_for", "mistaken"])
        wrong = self.confusion - torch.diag(self.confusion.diag())
        said = self.confusion.sum(dim=0)
        for i, name in enumerate(self.classes):
            worst = int(wrong[i].argmax())
            precision = float(self.confusion[i, i] / said[i]) if said[i] else float("nan")
            mistaken = int(wrong[i, worst])
            other = self.classes[worst] if mistaken else ""
            write([name, int(self.confusion[i].sum()), self.per_class[i], precision, other, mistaken])
        return text.getvalue()


def answers(
    model: nn.Module, batches: Iterable[Batch], *, accelerator: Accelerator | None = None, tell: Tell = silent
) -> Answers:
    """Return what `model` says of every image once, over all ranks, in the source's order. The model is put into
    evaluation mode and back."""
    was_training = model.training
    model.eval()
    logits, labels, indices = [], [], []
    seconds, images = 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            start = time.perf_counter()
            logits.append(model(batch.images).float().cpu())
            seconds += time.perf_counter() - start
            images += len(batch.images)
            indices.append(batch.indices.cpu())
            if batch.labels is not None:
                labels.append(batch.labels.cpu())
            tell("evaluated", {"images": images})
    model.train(was_training)
    joined = [torch.cat(parts) if parts else None for parts in (logits, indices, labels)]
    if accelerator is not None and accelerator.num_processes > 1:
        joined = [_gather(part, accelerator) for part in joined]
    logit, index, label = joined
    assert logit is not None and index is not None
    place = index.argsort()
    ordered = label[place] if label is not None else None
    return Answers(logit[place], ordered, images / max(seconds, 1e-9))


def _gather(part: Tensor | None, accelerator: Accelerator) -> Tensor | None:
    """Concatenate the ranks' parts, whose lengths may differ, on the CPU."""
    if part is None:
        return None
    length = torch.tensor([len(part)], device=accelerator.device)
    lengths = accelerator.gather(length).tolist()
    padded = accelerator.pad_across_processes(part.to(accelerator.device), dim=0)
    every = accelerator.gather(padded).cpu().split(max(lengths))
    return torch.cat([rows[:count] for rows, count in zip(every, lengths, strict=True)])


def figures(said: Answers, classes: Sequence[str]) -> Evaluation:
    """Return the figures of `said`, which must have labels."""
    assert said.labels is not None, "verbs check that a labelled split is labelled"
    logits, labels, count = said.logits, said.labels, len(classes)
    top = logits.topk(min(5, count), dim=1).indices == labels[:, None]
    return Evaluation(
        classes=tuple(classes),
        images=len(labels),
        top1=float(top[:, 0].double().mean()),
        top5=float(top.any(dim=1).double().mean()) if count > 5 else None,
        nll=float(torch.nn.functional.cross_entropy(logits.double(), labels)),
        ece=float(multiclass_calibration_error(logits.softmax(1), labels, count, n_bins=CALIBRATION_BINS)),
        confusion=multiclass_confusion_matrix(logits.argmax(1), labels, count),
    )


def agreement(one: Answers, other: Answers) -> float:
    """Return the share of images that both call the same."""
    return float((one.logits.argmax(1) == other.logits.argmax(1)).double().mean())
