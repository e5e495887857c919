"""The methods of an adaptation: the terms of each one's loss, what it trains, what fits together."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from limbeck.errors import InputError
from limbeck.training.settings import LARGE, Training

if TYPE_CHECKING:
    from torch import nn

    from limbeck.learn.adapt import Weights
    from limbeck.nets.zoo import Classifier

Method = Literal["auto", "norm", "tent", "shot", "combined", "mcc", "coral", "mmd", "dann", "cdan", "mobileda"]


Randomising = Literal["auto", "none", "strokes", "colours", "backgrounds"]
Select = Literal["last", "infomax", "snd", "entropy", "source"]


@dataclass(frozen=True)
class Terms:
    """Weights of the loss's terms; the method has defaults for those that are not given."""

    source_weight: float | None = None
    """Weight of the cross-entropy with the source's labels."""
    coral: float | None = None
    """Weight of the distance between the covariances of source and target logits."""
    mmd: float | None = None
    """Weight of the maximum mean discrepancy of the features."""
    dann: float | None = None
    """Weight of the critic that tells the domains apart by features, its gradient reversed."""
    cdan: float | None = None
    """Weight of the critic that tells them apart by features and predictions together."""
    mcc: float | None = None
    """Weight of minimum class confusion."""
    entropy: float | None = None
    """Weight of the mean entropy of the predictions on the target."""
    diversity: float | None = None
    """Weight of the entropy of the mean prediction on the target, which is maximised."""
    pseudo: float | None = None
    """Weight of the cross-entropy with the net's own confident predictions."""
    kd: float | None = None
    """Weight of the distillation loss with the teachers' predictions on the target."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not 0 <= value <= LARGE:
                raise InputError(f"--{name.replace('_', '-')} is {value}, but must be from 0 to {LARGE:g}")
        if self.dann and self.cdan:
            raise InputError("--dann and --cdan are two critics; give one of them")


_METHODS: dict[Method, Terms] = {
    "norm": Terms(),
    "tent": Terms(entropy=1.0),
    "shot": Terms(entropy=1.0, diversity=1.0, pseudo=0.3),
    "combined": Terms(source_weight=1.0, mcc=1.0, entropy=0.3, diversity=0.3, pseudo=0.3),
    "mcc": Terms(source_weight=1.0, mcc=1.0),
    "coral": Terms(source_weight=1.0, coral=1.0),
    "mmd": Terms(source_weight=1.0, mmd=1.0),
    "dann": Terms(source_weight=1.0, dann=1.0),
    "cdan": Terms(source_weight=1.0, cdan=1.0),
    "mobileda": Terms(source_weight=1.0, coral=1.0, kd=1.0),
}
_NEED_SOURCE = ("source_weight", "coral", "mmd", "dann", "cdan")


@dataclass(frozen=True)
class Adapting:
    """The settings of an adaptation, except for its terms."""

    confidence: float = 0.8
    """Probability from which one of the net's own predictions is confident, for --pseudo."""
    temperature: float = 4.0
    """Temperature of the softmax that teachers and net are compared by, for --kd."""
    randomise: Randomising = "auto"
    """What is randomised in the source's images, as it does not make the class; auto: backgrounds, where the source is
    grey and the target coloured."""
    critic_lr: float = 0.01
    """Learning rate of DANN's and CDAN's critic."""
    select: Select = "last"
    """Criterion by which the epoch to keep is chosen, without labels."""
    teacher_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the teachers' arithmetic; auto is bfloat16 where the machine has it in hardware."""

    def __post_init__(self) -> None:
        if not 0 < self.confidence <= 1:
            raise InputError(f"--confidence is {self.confidence}, but must be more than 0 and at most 1")
        for name, value in {"temperature": self.temperature, "critic-lr": self.critic_lr}.items():
            if not 1 / LARGE <= value <= LARGE:
                raise InputError(f"--{name} is {value}, but must be from {1 / LARGE:g} to {LARGE:g}")
        _check_one_of("randomise", self.randomise, get_args(Randomising))
        _check_one_of("select", self.select, get_args(Select))


def terms_of(method: Method, given: Terms, taught: bool) -> Terms:
    """Return the method's terms, replaced by those given; teachers have weight 1 unless it is given."""
    _check_one_of("method", method, _METHODS)
    own = {name: value for name, value in asdict(given).items() if value is not None}
    listening = {"kd": 1.0} if taught else {}
    return replace(_METHODS[method], **{**listening, **own})


def _check_one_of(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise InputError(f"--{name} is {value!r}; it must be one of {', '.join(choices)}")


def check(
    method: Method, terms: Terms, how: Adapting, source: str | None, source_free: bool, teachers: tuple[str, ...],
    training: Training,
) -> None:  # fmt: skip
    """Refuse what does not fit together."""
    asking = [name for name in _NEED_SOURCE if getattr(terms, name)]
    if how.select == "source" and source_free:
        raise InputError("--select source needs labelled source images; give --source, or --select infomax or last")
    if source is not None and source_free:
        raise InputError("--source-free goes without --source; leave one of the two out")
    if source is None and not source_free:
        raise InputError("give --source, the labelled images that the model was trained on, or --source-free")
    if source is None and asking:
        own = [name for name in asking if getattr(_METHODS[method], name)]
        flag = f"method {method}" if own else asking[0].replace("_", "-")
        raise InputError(f"--{flag} needs labelled source images; give --source, or --method shot, tent or norm")
    if terms.kd and not teachers:
        raise InputError("mobileda and --kd learn from teachers; give --teachers")
    if training.size is not None:
        raise InputError("a trained net keeps its input size; leave --size out")
    if training.mixup or training.cutmix:
        raise InputError("--mixup and --cutmix mix labels, which a target does not have; leave them out")


def weights_of(terms: Terms) -> "Weights":
    from limbeck.learn.adapt import Weights

    value = {name: weight or 0.0 for name, weight in asdict(terms).items()}
    critic, source, distil = value.pop("dann") + value.pop("cdan"), value.pop("source_weight"), value.pop("kd")
    return Weights(source=source, critic=critic, distil=distil, **value)


def critic_of(net: "Classifier", terms: Terms, calls: int) -> "nn.Module | None":
    """Return DANN's or CDAN's critic, whose strength grows over this many calls."""
    if not (terms.dann or terms.cdan):
        return None
    from limbeck.learn.adapt import head_of
    from limbeck.learn.domain import DomainCritic

    classes = len(net.classes) if terms.cdan else 0
    return DomainCritic(head_of(net).in_features, ramp=calls, classes=classes).to(net.scale.device)


def freeze(net: "Classifier", method: Method) -> None:
    """Leave to be trained what the method trains."""
    from limbeck.learn import adapt as learn

    if method == "tent":
        learn.train_norms_only(net)
    elif method == "shot":
        learn.freeze_head(net)
