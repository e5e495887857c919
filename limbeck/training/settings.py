"""The settings that verbs share, with their limits. Each field is a flag, a recipe key and a keyword in Python."""

import contextlib
import functools
import inspect
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal, ParamSpec, TypeVar, get_type_hints

from limbeck.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
# Beyond these, sums of float32 overflow or do nothing.
LARGE = 1e6
ALPHAS = (0.001, 1000)
_ALPHA = f"0, or from {ALPHAS[0]} to {ALPHAS[1]}"
TEMPERATURES = (0.001, 1000)
MOST_WORKERS = 1024
MOST_SHIFT = 2**14  # pixels
_Limits = list[tuple[str, bool, str]]  # a setting's name, whether it is right, and what would be


def refuse(settings: Any, limits: _Limits) -> None:  # noqa: ANN401 - a settings dataclass
    """Raise InputError for the first setting that is not right."""
    for name, right, limit in limits:
        if not right:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(settings, name)}, but must be {limit}")


@dataclass(frozen=True)
class Loading:
    """How images are read."""

    workers: int | None = None
    """Workers that decode images; by default one per core, none for small images held in memory."""
    on_broken: Literal["fatal", "skip"] = "fatal"
    """What to do about images that can't be read: stop, or leave them out."""
    unlabelled: bool = False
    """Read no labels: take all images below the folder, whose subfolders may be days or cameras rather than classes."""
    class_order: Literal["ask", "lexical", "natural"] = "ask"
    """How a net whose file names no classes numbers them: 1, 10, 2 (torchvision) or 1, 2, 10 (timm)."""
    download: bool = False
    """Let torchvision and timm fetch a named data set."""

    def __post_init__(self) -> None:
        refuse(self, self._limits())

    def _limits(self) -> _Limits:
        return [("workers", self.workers is None or 0 <= self.workers <= MOST_WORKERS, f"from 0 to {MOST_WORKERS}")]


@dataclass(frozen=True)
class Viewing:
    """How views of images are drawn."""

    size: int | None = None
    """Side of the view, in pixels. By default that of small images, else the net's own; for label, that of the largest
    teacher."""
    augment: Literal["auto", "crop", "shift", "none"] = "auto"
    """crop: random resized crops; shift: small shifts; auto: shift for small images of one size, else crop."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Least and greatest area of a crop, as a share of the image's."""
    shift: int = 2
    """Largest shift in each direction, in pixels."""
    flip: Literal["auto", "yes", "no"] = "auto"
    """Mirror half of the views left-right; auto: yes, but not for the built-in digits."""
    white: int | None = None
    """Value that is white in grey images of 16 bits, 4095 for a camera of 12; what is trained keeps it. By default that
    of the nets that the training begins with, else 65535."""

    def __post_init__(self) -> None:
        refuse(self, self._limits())

    def _limits(self) -> _Limits:
        low, high = self.crop_scale
        return [
            ("size", self.size is None or self.size >= 1, "1 or more"),
            ("crop_scale", 0 < low <= high <= 1, "two shares of the image's area, the lower first"),
            ("shift", 0 <= self.shift <= MOST_SHIFT, f"from 0 to {MOST_SHIFT}"),
            ("white", self.white is None or 0 < self.white < 2**16, "from 1 to 65535"),
        ]


@dataclass(frozen=True)
class Training(Viewing, Loading):
    """How to train."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "learning": (
            "epochs", "batch", "lr", "schedule", "warmup", "milestones", "gamma", "optimizer", "momentum", "nesterov",
            "weight_decay", "label_smoothing", "ema", "accumulate", "precision", "random_steps",
        ),
        "view": ("size", "augment", "crop_scale", "shift", "flip", "white", "mixup", "cutmix"),
        "run": (
            "resume", "seed", "limit", "validate_every", "repeats", "workers", "on_broken", "unlabelled", "class_order",
            "download", "track",
        ),
    }  # fmt: skip
    """How --help groups the flags, those first that are needed most."""

    epochs: int = 20
    """Passes over the training images."""
    batch: int = 128
    """Images per step and per process, or all where there are fewer."""
    repeats: int = 1
    """Views of an image per batch, so that it is decoded once; REPEATS epochs show the same views as without."""
    accumulate: int = 1
    """Batches whose gradients make one optimiser step."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """adamw suits transformers, with a learning rate of 0.001 or less."""
    lr: float = 0.1
    """Learning rate; a tenth of it suits a net that is already trained."""
    momentum: float = 0.9
    """Momentum of SGD."""
    nesterov: bool = False
    """SGD with Nesterov's momentum."""
    weight_decay: float = 5e-4
    """Weight decay of weights; biases and norms are never decayed."""
    schedule: Literal["step", "cosine", "constant"] = "cosine"
    """How the learning rate falls."""
    milestones: tuple[float, ...] = ()
    """Step schedule: epochs at which the rate is multiplied by gamma."""
    gamma: float = 0.1
    """Step schedule: what the rate is multiplied by at a milestone."""
    warmup: float = 0.0
    """Epochs of linear warm-up."""
    label_smoothing: float = 0.0
    """Share of a label that is spread over all classes."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, which is then evaluated and saved; 0: none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the trained net's arithmetic; bfloat16 helps dense nets on CPUs and GPUs that have it."""
    random_steps: bool = False
    """Every ODE block takes between 1 and its number of steps, drawn for each batch, so that the net still works with
    fewer steps (limbeck steps)."""
    mixup: float = 0.0
    """Alpha of mixup's Beta distribution; 0: off."""
    cutmix: float = 0.0
    """Alpha of CutMix's Beta distribution; 0: off."""
    limit: int | None = None
    """Train on this many images only, equally many per class, drawn by the seed."""
    validate_every: int = 1
    """Epochs between two evaluations on the held-out split; the last is always evaluated."""
    seed: int = 0
    """Seed of the initial weights, the order and the views of images."""
    resume: bool = False
    """Continue the run in --out."""
    track: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Also report to these, which must be installed; TensorBoard's files are in OUT/tensorboard."""

    def _limits(self) -> _Limits:
        return [
            *Viewing._limits(self),
            *Loading._limits(self),
            ("epochs", 1 <= self.epochs <= LARGE, f"from 1 to {LARGE:g}"),
            ("batch", 1 <= self.batch <= LARGE, f"from 1 to {LARGE:g}"),
            ("repeats", self.repeats >= 1, "1 or more"),
            ("batch", self.batch % 2 == 0 or not (self.mixup or self.cutmix), "even, as mixup and CutMix mix pairs"),
            (
                "batch",
                self.repeats < 2 or self.batch % (2 * self.repeats) == 0,
                f"a multiple of {2 * self.repeats}, as {self.repeats} views of an image come in pairs of images",
            ),
            ("accumulate", self.accumulate >= 1, "1 or more"),
            ("lr", 0 < self.lr <= LARGE, f"more than 0 and at most {LARGE:g}"),
            ("momentum", 0 <= self.momentum < 1, "0 or more and less than 1"),
            ("nesterov", not self.nesterov or self.momentum > 0, "off where --momentum is 0"),
            ("weight_decay", 0 <= self.weight_decay <= LARGE, f"from 0 to {LARGE:g}"),
            ("milestones", all(0 < epoch < math.inf for epoch in self.milestones), "epochs after the first step"),
            ("gamma", 0 < self.gamma <= 1, "more than 0 and at most 1"),
            ("warmup", 0 <= self.warmup < self.epochs, "0 or more and less than --epochs"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "0 or more and less than 1"),
            ("ema", 0 <= self.ema < 1, "0 or more and less than 1"),
            ("mixup", self.mixup == 0 or ALPHAS[0] <= self.mixup <= ALPHAS[1], _ALPHA),
            (
                "cutmix",
                self.cutmix == 0 or ALPHAS[0] <= self.cutmix <= ALPHAS[1],
                _ALPHA,
            ),
            ("limit", self.limit is None or self.limit >= 1, "1 or more"),
            ("validate_every", self.validate_every >= 1, "1 or more"),
            ("seed", 0 <= self.seed < 2**32, "0 or more and less than 2^32"),
        ]


@dataclass(frozen=True)
class Ensemble:
    """How the teachers' outputs are combined."""

    average: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged: the teachers' probabilities or their logits."""
    weights: tuple[float, ...] = ()
    """Weight of each teacher; by default all are equal."""
    temperature: float = 1.0
    """Temperature of the softmax, the student's too; MEAL V2 uses 1."""
    teacher_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the teachers' arithmetic; auto is bfloat16 where the machine has it in hardware."""
    compile_teachers: bool = False
    """Compile the teachers (torch.compile): it takes minutes to start and then runs faster."""
    weak_teachers: bool = False
    """Accept teachers whose accuracy on the held-out images is no better than chance."""

    def check(self, teachers: int) -> None:
        """Refuse weights and a temperature by which the outputs of this many teachers can't be averaged."""
        weights = self.weights
        if weights and not (len(weights) == teachers and all(1 / LARGE <= weight <= LARGE for weight in weights)):
            raise InputError(
                f"--weights are {weights} for {teachers} teachers; give one from {1 / LARGE:g} to {LARGE:g} per teacher"
            )
        low, high = TEMPERATURES
        if not low <= self.temperature <= high:
            raise InputError(f"--temperature is {self.temperature}; give one from {low} to {high}")


def keywords(verb: Callable[P, R]) -> Callable[..., R]:
    """Let a verb take the fields of its settings as keywords too, as its command line does: teach(..., epochs=5)."""

    @functools.wraps(verb)
    def called(*words: P.args, **named: P.kwargs) -> R:
        hints = get_type_hints(verb)
        for name, parameter in inspect.signature(verb).parameters.items():
            if is_dataclass(hints[name]):
                own = {field.name: named.pop(field.name) for field in fields(hints[name]) if field.name in named}
                if own:
                    named[name] = replace(named.get(name, parameter.default), **own)  # type: ignore[type-var]
        return verb(*words, **named)

    return called


def flat(**settings: Any) -> dict[str, Any]:  # noqa: ANN401 - a verb's values
    """Return a verb's settings, the fields of those that are dataclasses in their place: the keys of its recipe."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= asdict(value) if is_dataclass(value) and not isinstance(value, type) else {name: value}
    return found


def parsed(arguments: tuple[str, ...]) -> dict[str, Any]:
    """Return width=8, steps=3,2,2 and the like as a dictionary; what is neither a JSON value nor several of them with
    commas between is a string."""
    found: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not key or not equals:
            raise InputError(f"--arguments takes key=value, not {argument!r}")
        found[key] = value
        for text in (value, f"[{value}]") if "," in value else (value,):
            with contextlib.suppress(ValueError):
                found[key] = json.loads(text)
                break
    return found
