"""MEAL V2's discriminator on final outputs: which scores are a student's, which are the teachers'?"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mode = Literal["off", "cooperative", "adversarial"]


class _Reverse(torch.autograd.Function):
    """Identity forward, minus the gradient backward (Ganin & Lempitsky 2015, equation 5)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - torch's context has no public type
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        return -gradients[0]


def reverse_gradient(x: Tensor) -> Tensor:
    """Return x, of any shape; what flows back through it changes sign (Ganin & Lempitsky 2015)."""
    return _Reverse.apply(x)  # type: ignore[no-any-return]


class Discriminator(nn.Module):
    """Three linear layers, classes -> classes/8 -> classes/64 -> 2, as MEAL V2 has them (127,047 parameters for 1,000
    classes); hidden widths are at least 8, so that ten classes work.

    `rectified` puts a ReLU on the output too, as MEAL V2's code does: its loss then can't fall below ln(2) / 2.
    """

    def __init__(self, classes: int, *, rectified: bool) -> None:
        super().__init__()
        first, second = max(classes // 8, 8), max(classes // 64, 8)
        layers = [
            nn.Linear(classes, first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Linear(second, 2),
        ]
        self.layers = nn.Sequential(*layers, *([nn.ReLU()] if rectified else []))

    def forward(self, scores: Tensor) -> Tensor:
        """Return two logits [N, 2]: this is a student; this is a teacher."""
        return self.layers(scores)  # type: ignore[no-any-return]


def discriminator_loss(discriminator: nn.Module, student: Tensor, teacher: Tensor, mode: Mode) -> Tensor:
    """Return the mean binary cross-entropy of the discriminator over 2N score vectors x 2 outputs.

    cooperative: the gradient reaches the student as it is, so the student makes the two *easier* to tell apart; so
    does MEAL V2's code, whose author calls it a regulariser. adversarial: the gradient to the student is reversed.
    `teacher` never receives a gradient.
    """
    seen = reverse_gradient(student) if mode == "adversarial" else student
    logits = discriminator(torch.cat([seen, teacher.detach()]))
    truth = torch.zeros_like(logits)
    truth[: len(student), 0] = 1
    truth[len(student) :, 1] = 1
    return F.binary_cross_entropy_with_logits(logits, truth)
