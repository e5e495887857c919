"""Objectives: (batch) -> (loss, metrics). Supervised, distilled and replayed training differ in this alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.images.loader import Batch
from limbeck.learn.discriminator import Mode, discriminator_loss
from limbeck.learn.losses import Average, ensemble_target, hard_cross_entropy, soft_cross_entropy

Objective = Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]
"""A scalar loss, and the means over the batch that are worth showing (detached scalars)."""


@dataclass(frozen=True)
class Answer:
    """What the teachers predict for a batch."""

    target: Tensor  # float32 [N, classes], sums to 1: what the student should predict
    scores: Tensor  # float32 [N, classes]: logits over T, up to a constant an image, for the discriminator


def supervised(student: nn.Module, *, label_smoothing: float = 0.0) -> Objective:
    """Return the objective of one-hot labels; mixed batches get their labels' mix."""

    def objective(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logits = student(batch.images)
        loss = _hard(logits, batch, label_smoothing)
        return loss, {"loss": loss.detach(), **_accuracy(logits, batch)}

    return objective


def ask(
    teachers: Sequence[nn.Module],
    *,
    average: Average = "probabilities",
    weights: Sequence[float] | None = None,
    temperature: float = 1.0,
) -> Callable[[Batch], Answer]:
    """Return the live ensemble: frozen teachers see the very pixels of the batch, mixed or not."""
    answer = ensemble(teachers, average=average, weights=weights, temperature=temperature)
    return lambda batch: answer(batch.images)


def ensemble(
    teachers: Sequence[nn.Module],
    *,
    average: Average = "probabilities",
    weights: Sequence[float] | None = None,
    temperature: float = 1.0,
) -> Callable[[Tensor], Answer]:
    """Return what frozen teachers predict together for uint8 images [N, C, H, W].

    As in MEAL V2 the discriminator compares with the mean of the teachers' logits, whatever `average` is.
    """

    def answer(images: Tensor) -> Answer:
        with torch.no_grad():
            logits = [teacher(images).float() for teacher in teachers]
            target = ensemble_target(logits, average=average, weights=weights, temperature=temperature)
            return Answer(target, torch.stack(logits).mean(dim=0) / temperature)

    return answer


def recall(batch: Batch) -> Answer:
    """Return the stored soft labels of the batch's views. Mixed images get the mix of their labels, which is not what
    the teachers would predict for the mixed image (FKD does the same; live teachers do not)."""
    assert batch.targets is not None, "a batch without stored labels"
    target = batch.targets
    if batch.mix is not None:
        share = batch.mix.share[:, None]
        target = share * target + (1 - share) * target[batch.mix.partner]
    # Logits are known from probabilities up to a constant an image; half precision has zeros, hence the floor.
    return Answer(target, target.clamp_min(1e-6).log())


def distill(
    student: nn.Module,
    answer: Callable[[Batch], Answer],
    *,
    temperature: float = 1.0,
    hard_weight: float = 0.0,
    label_smoothing: float = 0.0,
    discriminator: nn.Module | None = None,
    mode: Mode = "off",
) -> Objective:
    """Return MEAL V2's objective: soft cross-entropy with the teachers' prediction, plus the discriminator's loss.

    `hard_weight` adds this much one-hot cross-entropy; 0, the default, needs no label at all.
    """

    def objective(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logits = student(batch.images)
        said = answer(batch)
        similarity = soft_cross_entropy(logits, said.target, temperature)
        loss, metrics = similarity, {"similarity": similarity.detach()}
        if discriminator is not None and mode != "off":
            told_apart = discriminator_loss(discriminator, _centred(logits / temperature), _centred(said.scores), mode)
            loss, metrics["discriminator"] = loss + told_apart, told_apart.detach()
        if hard_weight:
            hard = _hard(logits, batch, label_smoothing)
            loss, metrics["hard"] = loss + hard_weight * hard, hard.detach()
        agreement = (logits.argmax(1) == said.target.argmax(1)).float().mean()
        return loss, {"loss": loss.detach(), **metrics, "agreement": agreement, **_accuracy(logits, batch)}

    return objective


def _centred(scores: Tensor) -> Tensor:
    """Return scores of mean 0 per image. A constant says nothing of the classes, stored labels lack it, and
    log-probabilities, which are all negative, would leave the discriminator's ReLUs dead five times as often."""
    return scores - scores.mean(dim=1, keepdim=True)


def _hard(logits: Tensor, batch: Batch, label_smoothing: float) -> Tensor:
    assert batch.labels is not None, "verbs check that labels exist where one-hot labels are used"
    partner, share = (batch.mix.partner, batch.mix.share) if batch.mix else (None, None)
    return hard_cross_entropy(logits, batch.labels, partner=partner, share=share, label_smoothing=label_smoothing)


def _accuracy(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Training accuracy, where labels exist and the images are whole."""
    if batch.labels is None or batch.mix is not None:
        return {}
    return {"accuracy": (logits.argmax(1) == batch.labels).float().mean()}
