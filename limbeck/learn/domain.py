"""Domain losses: what makes two domains alike, or predictions without labels confident. Tensors in, scalar out.

Features are [N, F], logits [N, classes]; the two domains may have different N. Every loss is a mean, so that its size
does not grow with the batch.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.learn.discriminator import reverse_gradient

MMD_KERNELS = 5  # bandwidths, powers of two around the mean distance (Long et al. 2015)
MCC_TEMPERATURE = 2.5  # Jin et al. 2020
OUTER_LIMIT = 4096  # values of an outer product; above it CDAN projects (Long et al. 2018, section 3.2)
PROJECTION = 1024


def covariance(x: Tensor) -> Tensor:
    """Return the unbiased covariance [F, F] of the rows of x [N, F], N >= 2."""
    centred = x - x.mean(dim=0)
    return centred.mT @ centred / (len(x) - 1)


def coral(source: Tensor, target: Tensor) -> Tensor:
    """Return ||C_s - C_t||² / (4 F²) of features [N_s, F] and [N_t, F], squared Frobenius norm of their covariances'
    difference (Sun & Saenko 2016, "Deep CORAL", equation 1)."""
    return (covariance(source) - covariance(target)).square().sum() / (4 * source.shape[1] ** 2)


def mmd(source: Tensor, target: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy, biased estimate (Gretton et al. 2012, equation 5), at least 0.

    Features are [N_s, F] and [N_t, F]. The kernel is the mean of five Gaussians exp(-d² / b), b = 2^k · the mean
    squared distance of different rows, k = -2 ... 2 (multi-kernel, Long et al. 2015, "DAN"). No gradient flows
    through the bandwidths.
    """
    rows = torch.cat([source, target])
    squared = (rows[:, None] - rows[None]).square().sum(dim=2)
    mean = squared.detach().sum() / (len(rows) * (len(rows) - 1))
    widths = [mean.clamp_min(1e-12) * 2.0**k for k in range(-(MMD_KERNELS // 2), MMD_KERNELS // 2 + 1)]
    kernel = torch.stack([torch.exp(-squared / width) for width in widths]).mean(dim=0)
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def entropies(logits: Tensor) -> Tensor:
    """Return [N], the entropy of each softmax in nats."""
    return -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)


def entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy of the predictions, nats (Grandvalet & Bengio 2004; TENT, Wang et al. 2021)."""
    return entropies(logits).mean()


def diversity(logits: Tensor) -> Tensor:
    """Return the entropy of the mean prediction, nats: log(classes) where all classes are predicted as often."""
    mean = logits.softmax(dim=1).mean(dim=0)
    return -(mean * mean.clamp_min(1e-12).log()).sum()


def information(logits: Tensor) -> Tensor:
    """Return the mutual information of image and prediction, diversity - entropy, to be maximised (Krause et al. 2010;
    SHOT, Liang et al. 2020, equation 3)."""
    return diversity(logits) - entropy(logits)


def mcc(logits: Tensor, temperature: float = MCC_TEMPERATURE) -> Tensor:
    """Return the minimum class confusion loss (Jin et al. 2020, equations 3 to 7): the off-diagonal part of the
    row-normalised class correlation of the predictions at `temperature`, images weighted by 1 + exp(-entropy)."""
    said = (logits / temperature).softmax(dim=1)
    sure = 1 + torch.exp(-entropies(logits / temperature)).detach()
    sure = sure / sure.mean()
    confusion = said.mT @ (said * sure[:, None])
    confusion = confusion / confusion.sum(dim=1, keepdim=True)
    return (confusion.sum() - confusion.trace()) / logits.shape[1]


def pseudo_cross_entropy(logits: Tensor, said: Tensor, confidence: float) -> Tensor:
    """Return the cross-entropy of `logits` with the top class of `said` (logits of the same images, no gradient), over
    images whose top probability is at least `confidence`, divided by all images (Lee 2013; FixMatch, Sohn et al.
    2020, equation 4)."""
    top, label = said.detach().softmax(dim=1).max(dim=1)
    return (F.cross_entropy(logits, label, reduction="none") * (top >= confidence)).mean()


class DomainCritic(nn.Module):
    """Which domain do features come from? One logit [N] by three linear layers (Ganin & Lempitsky 2015).

    The gradient to what it is given is reversed and multiplied with 2 / (1 + exp(-10 p)) - 1, where p goes from 0 to
    1 in `ramp` training calls (their section 4), which are counted in the state. With `classes` it judges
    features x softmax (CDAN, Long et al. 2018): their outer product, or above 4,096 values the elementwise product of
    two fixed random projections.
    """

    calls: Tensor
    of_features: Tensor | None
    of_answers: Tensor | None

    def __init__(self, features: int, *, ramp: int, classes: int = 0, hidden: int = 128) -> None:
        super().__init__()
        self.ramp = ramp
        self.classes = classes
        width = features * max(classes, 1)
        projected = classes > 0 and width > OUTER_LIMIT
        draw = torch.Generator().manual_seed(0)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        for name, size in (("of_features", features), ("of_answers", classes)):
            matrix = torch.randn(size, PROJECTION, generator=draw) if projected else None
            self.register_buffer(name, matrix, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(PROJECTION if projected else width, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return a logit [N] of features [N, F] and logits [N, classes]: above 0 for the source."""
        judged = self.judged(features, logits)
        held = judged.detach()
        seen = reverse_gradient(held + self.strength() * (judged - held))  # the value stays, the gradient shrinks
        if self.training:
            self.calls += 1
        return self.layers(seen).squeeze(1)  # type: ignore[no-any-return]

    def strength(self) -> float:
        """Return what the reversed gradient is multiplied with."""
        return 2 / (1 + math.exp(-10 * min(int(self.calls) / self.ramp, 1.0))) - 1

    def judged(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return what is judged [N, ...]: features, or features x predictions, through which no gradient flows to
        the predictions."""
        if not self.classes:
            return features
        said = logits.softmax(dim=1).detach()
        if self.of_features is None or self.of_answers is None:
            return (features[:, :, None] * said[:, None]).flatten(1)
        return (features @ self.of_features) * (said @ self.of_answers) / math.sqrt(PROJECTION)


def domain_loss(critic: nn.Module, source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean binary cross-entropy of the critic, both domains weighing the same whatever their number of
    images; each domain is (features [N, F], logits [N, classes]). Minimising it confuses the domains, as the critic
    reverses gradients."""
    n = len(source[0])
    logits = critic(torch.cat([source[0], target[0]]), torch.cat([source[1], target[1]]))
    return 0.5 * (F.softplus(-logits[:n]).mean() + F.softplus(logits[n:]).mean())
