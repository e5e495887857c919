"""Adaptation: a classifier that looks at two domains in one call, and the objective that fits it to the target."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from limbeck.errors import InputError
from limbeck.images.loader import Batch
from limbeck.learn import domain
from limbeck.learn.losses import hard_cross_entropy, soft_cross_entropy
from limbeck.learn.objectives import Answer, Objective
from limbeck.nets.classifier import Classifier
from limbeck.nets.norm import StepBatchNorm


@dataclass(frozen=True)
class Weights:
    """How much each term of the loss counts; 0 leaves it out. Those of two domains need a source."""

    source: float = 0.0  # cross-entropy with the source's labels
    coral: float = 0.0  # of the logits
    mmd: float = 0.0  # of the features
    critic: float = 0.0  # DANN or CDAN, as the critic given judges
    mcc: float = 0.0
    entropy: float = 0.0
    diversity: float = 0.0  # counts against the loss
    pseudo: float = 0.0  # cross-entropy with the net's own confident predictions
    distil: float = 0.0  # soft cross-entropy with the teachers' predictions, times T²


class TwoDomains(nn.Module):
    """A classifier and its view of a target and a source batch: features and logits of each, by one call, as
    distributed training needs it.

    While training, each domain is normalised by the statistics of its own batch (Li et al. 2016, "AdaBN"). What
    BatchNorm's running statistics end as is of no use: they are to be re-estimated on the target.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, target: Tensor, source: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return target features [N, F] and logits [N, classes], and the same of the source where it is given."""
        with _inputs_of(head_of(self.classifier)) as seen:
            logits = [self.classifier(images) for images in (target, source) if images is not None]
        return tuple(part for pair in zip(seen, logits, strict=True) for part in pair)


def head_of(classifier: Classifier) -> nn.Linear:
    """Return the last linear layer with as many outputs as there are classes, whose inputs [N, F] are called features;
    InputError where there is none."""
    heads = [m for m in classifier.net.modules() if isinstance(m, nn.Linear)]
    fitting = [head for head in heads if head.out_features == len(classifier.classes)]
    if not fitting:
        raise InputError(f"{classifier.name} does not end in a linear layer, so it can't be adapted")
    return fitting[-1]


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list that gets what the module is called with."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(1).float()))
    try:
        yield seen
    finally:
        handle.remove()


def adapt(
    net: nn.Module,
    weights: Weights,
    *,
    critic: nn.Module | None = None,
    answer: Callable[[Batch], Answer] | None = None,
    temperature: float = 1.0,
    confidence: float = 0.9,
    label_smoothing: float = 0.0,
) -> Objective:
    """Return the objective of adaptation: the weighted sum of its terms, on batches of unlabelled target images that
    bring a labelled source batch in `source` (none: source-free). `net` is a `TwoDomains`. Labels of the target are
    refused. MobileDA (Yang et al. 2021) is source = coral = distil = 1."""

    def objective(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        assert batch.labels is None, "a target's labels must never reach its training"
        source = batch.source
        found = net(batch.images, None if source is None else source.images)
        terms = _target_terms(found[0], found[1], weights, confidence)
        if answer is not None and weights.distil:
            terms["distil"] = weights.distil * soft_cross_entropy(found[1], answer(batch).target, temperature)
        metrics = {}
        if source is not None:
            assert source.labels is not None, "verbs check that the source has labels"
            if weights.source:
                hard = hard_cross_entropy(found[3], source.labels, label_smoothing=label_smoothing)
                terms["source"] = weights.source * hard
            terms |= _alignment_terms(found[2:4], found[:2], weights, critic)
            metrics["source_accuracy"] = (found[3].argmax(1) == source.labels).float().mean()
        loss = torch.stack(list(terms.values())).sum()
        return loss, {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}, **metrics}

    return objective


def _target_terms(features: Tensor, logits: Tensor, weights: Weights, confidence: float) -> dict[str, Tensor]:
    terms = {}
    if weights.mcc:
        terms["mcc"] = weights.mcc * domain.mcc(logits)
    if weights.entropy:
        terms["entropy"] = weights.entropy * domain.entropy(logits)
    if weights.diversity:
        terms["diversity"] = -weights.diversity * domain.diversity(logits)
    if weights.pseudo:
        terms["pseudo"] = weights.pseudo * domain.pseudo_cross_entropy(logits, logits, confidence)
    return terms


def _alignment_terms(
    source: tuple[Tensor, ...], target: tuple[Tensor, ...], weights: Weights, critic: nn.Module | None
) -> dict[str, Tensor]:
    """Return the weighted terms that compare (features, logits) of the domains."""
    terms = {}
    if weights.coral:
        terms["coral"] = weights.coral * domain.coral(source[1], target[1])
    if weights.mmd:
        terms["mmd"] = weights.mmd * domain.mmd(source[0], target[0])
    if weights.critic and critic is not None:
        terms["critic"] = weights.critic * domain.domain_loss(critic, (source[0], source[1]), (target[0], target[1]))
    return terms


def train_norms_only(classifier: Classifier) -> None:
    """Let weights and biases of BatchNorm alone be trained (TENT, Wang et al. 2021); InputError where it has none."""
    classifier.requires_grad_(False)
    norms = [m for m in classifier.modules() if isinstance(m, _BatchNorm | StepBatchNorm)]
    if not norms:
        raise InputError(f"{classifier.name} has no BatchNorm, which is what this method trains; choose --method mcc")
    for norm in norms:
        norm.requires_grad_(True)


def freeze_head(classifier: Classifier) -> None:
    """Keep the last layer as the source taught it (SHOT, Liang et al. 2020)."""
    head_of(classifier).requires_grad_(False)


def has_norms(classifier: Classifier) -> bool:
    """Whether there are BatchNorm statistics to re-estimate."""
    return any(isinstance(m, _BatchNorm | StepBatchNorm) for m in classifier.modules())


def bytes_changed(before: Mapping[str, Tensor], net: Classifier) -> tuple[int, int, int]:
    """Return the bytes of `net` that differ from its state `before`, of weights and of folded BatchNorm, and those of
    the whole net. A weight takes 4, in float32; a BatchNorm folds into a scale and a shift per channel and evaluation,
    which take 8."""
    weights = folded = whole = 0
    for name, module in net.named_modules():
        own = {key: value for key, value in module.state_dict().items() if "." not in key}
        own.pop("num_batches_tracked", None)
        moved = {key for key, value in own.items() if not torch.equal(value.cpu(), before[f"{name}.{key}"].cpu())}
        if isinstance(module, _BatchNorm | StepBatchNorm):
            size = 8 * own["running_mean"].numel()
            folded, whole = folded + size * bool(moved), whole + size
        else:
            weights += sum(4 * own[key].numel() for key in moved)
            whole += sum(4 * value.numel() for value in own.values())
    return weights, folded, whole
