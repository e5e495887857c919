"""Losses: tensors in, scalar out. Logits are [N, classes]; distributions sum to 1 over the last axis."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Average = Literal["probabilities", "logits"]


def soft_cross_entropy(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T² · mean over images of -Σ_c target_c · log softmax(logits / T)_c.

    The similarity loss of MEAL V2 (its code's `KLLoss` is this cross-entropy; the gradient is that of
    KL(target || student)). T² keeps the gradient's size when T changes (Hinton et al. 2015, section 2).
    """
    return -(target * F.log_softmax(logits / temperature, dim=1)).sum(dim=1).mean() * temperature**2


def ensemble_target(
    logits: Sequence[Tensor],
    *,
    average: Average,
    weights: Sequence[float] | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Return the teachers' joint prediction [N, classes]: the weighted mean of softmax(z_k / T) (MEAL V2), or the
    softmax of the weighted mean of z_k / T (FunMatch). Weights default to 1 / K; they are normalised to sum to 1."""
    stacked = torch.stack(list(logits)) / temperature
    share = torch.tensor(weights or [1.0] * len(logits), dtype=stacked.dtype, device=stacked.device)
    share = (share / share.sum()).view(-1, 1, 1)
    if average == "logits":
        return (share * stacked).sum(dim=0).softmax(dim=1)
    return (share * stacked.softmax(dim=2)).sum(dim=0)


def hard_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    partner: Tensor | None = None,
    share: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the mean cross-entropy with one-hot labels; for mixed images (mixup, CutMix) `share` [N] of an image's
    own label and 1 - share of the label of image `partner` [N] of the same batch."""
    if partner is None or share is None:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    own = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    other = F.cross_entropy(logits, labels[partner], reduction="none", label_smoothing=label_smoothing)
    return (share * own + (1 - share) * other).mean()
