"""Model selection without target labels: figures of a classifier's predictions on unlabelled target images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor

from limbeck.images.source import spaced
from limbeck.learn.domain import entropy, information

Criterion = Literal["infomax", "snd", "entropy", "source", "last"]
CRITERIA: tuple[Criterion, ...] = ("infomax", "snd", "entropy", "source", "last")
SND_TEMPERATURE = 0.05  # Saito et al. 2021
SND_IMAGES = 2048  # neighbourhoods are looked for among so many images, spaced evenly
LEAST_SAID = 0.6  # a net that predicts less than this share of the classes that it predicted before has collapsed
LEAST_INFORMATION = 0.8  # ... and so has one whose InfoMax is less than this share of that before
LEAST_KAPPA = 0.2  # up to which agreement is "slight" (Landis and Koch 1977)


@dataclass(frozen=True)
class Signs:
    """What can be seen of predictions without labels. Entropies are in nats."""

    infomax: float  # entropy of the mean prediction less the mean entropy; higher is better
    snd: float  # soft neighbourhood density; higher is better
    entropy: float  # mean entropy; lower is better
    said: float  # classes predicted: exp(entropy of how often each class is), 1 to the number of classes
    source: float | None = None  # accuracy on held-out source images, where there is a source

    def to_json(self) -> dict[str, float]:
        """Return the figures by name, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def signs(logits: Tensor, source: float | None = None) -> Signs:
    """Return what the logits [N, classes] of unlabelled images show."""
    logits = logits.double()
    counts = torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1]).double()
    share = counts / counts.sum()
    return Signs(
        infomax=float(information(logits)),
        snd=soft_neighbourhood_density(logits),
        entropy=float(entropy(logits)),
        said=math.exp(float(-(share * share.clamp_min(1e-300).log()).sum())),
        source=source,
    )


def soft_neighbourhood_density(logits: Tensor) -> float:
    """Return the mean entropy, in nats, of softmax(cosine / 0.05) over the other images, the cosines being those of the
    softmax outputs (Saito et al. 2021, "Tune it the right way", equations 1 to 3). 0 for a single image."""
    if len(logits) < 2:
        return 0.0
    said = torch.nn.functional.normalize(logits[spaced(len(logits), SND_IMAGES)].softmax(dim=1))
    alike = said @ said.mT / SND_TEMPERATURE
    alike.fill_diagonal_(-math.inf)
    near = alike.softmax(dim=1)
    return float(-(near * near.clamp_min(1e-300).log()).sum(dim=1).mean())


def better(criterion: Criterion, one: Signs, other: Signs) -> bool:
    """Whether `one`, which came later, is to be taken rather than `other`. `source` without a source is `last`."""
    match criterion:
        case "infomax" | "snd":
            return bool(getattr(one, criterion) > getattr(other, criterion))
        case "entropy":
            return one.entropy < other.entropy
        case "source":
            return one.source is None or other.source is None or one.source > other.source
        case "last":
            return True


def best(criterion: Criterion, candidates: Sequence[Signs]) -> int:
    """Return the place of the candidate that the criterion takes; of equals the first (`last`: the last)."""
    chosen = 0
    for place in range(1, len(candidates)):
        if better(criterion, candidates[place], candidates[chosen]):
            chosen = place
    return chosen


def says_fewer(after: Signs, before: Signs) -> str:
    """Return a sentence where under 60% of the classes predicted before are still predicted; empty otherwise."""
    if after.said < LEAST_SAID * before.said:
        return f"it predicts {after.said:.1f} classes where it predicted {before.said:.1f} before"
    return ""


def collapsed(after: Signs, before: Signs) -> str:
    """Return why a trained net is worse than the net before, by what can be seen without labels; empty if it is not.

    It predicts fewer classes, or its predictions have under 80% of the information. Of nets with other BatchNorm
    statistics the second says nothing: with the source's, a net is often wrong and confident.
    """
    if fewer := says_fewer(after, before):
        return fewer
    if after.infomax < LEAST_INFORMATION * before.infomax:
        return f"its predictions carry less information (InfoMax {after.infomax:.3f}, was {before.infomax:.3f})"
    return ""


def strayed(after: Tensor, before: Tensor) -> str:
    """Return why the classes predicted for the same images [N], after and before, hardly agree; empty where they agree
    beyond chance. It is for a net that only its own predictions taught."""
    agreement = kappa(after, before)
    if agreement < LEAST_KAPPA:
        return f"its predictions hardly agree with those before (Cohen's kappa {agreement:.2f})"
    return ""


def kappa(one: Tensor, other: Tensor) -> float:
    """Return how far two lists of classes [N] agree beyond chance, 1 at most (Cohen 1960); 1 where both say one and
    the same class throughout."""
    size = int(torch.cat([one, other]).max()) + 1
    shares = [torch.bincount(said, minlength=size).double() / len(said) for said in (one, other)]
    chance = float(shares[0] @ shares[1])
    agreed = float((one == other).double().mean())
    return 1.0 if chance == 1 else (agreed - chance) / (1 - chance)


def from_json(found: Mapping[str, float]) -> Signs:
    """Return what `to_json` gave."""
    return Signs(**found)
