"""A text–image model and class names become a classifier: what the classes are called, how often each is predicted."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from limbeck import runs
from limbeck.errors import InputError
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.sets import judged, to_compare
from limbeck.training.settings import Loading

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.nets.zeroshot import ZeroShot

Prior = Literal["model", "equal"]
SHOWN = 5  # classes, photos, pairs
MOST_STEPS = 1000  # of evening out; some ten suffice


@dataclass(frozen=True)
class Look:
    """What a classifier predicts of photos that nobody has labelled."""

    images: int
    confidence: float  # mean of the largest probability
    shares: tuple[float, ...]  # mean probability of each class
    predicted: tuple[int, ...]  # photos of which each class is the likeliest
    least_sure: tuple[tuple[str, float], ...]  # photos, with the probability of their likeliest class
    mixed_up: tuple[tuple[str, str, float], ...]  # the two likeliest classes, with the second's mean probability


@dataclass(frozen=True)
class Named(Result):
    """A zero-shot classifier, and what it predicts of the photos that it was shown."""

    out: str
    model: str
    classes: tuple[str, ...]
    prompts: int  # of all classes
    temperature: float
    look: Look | None  # None without photos

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        rows = [
            ("model", self.model),
            ("classes", f"{len(self.classes)}, by {self.prompts:,} prompts, at temperature {self.temperature:g}"),
        ]
        if (look := self.look) is not None:
            ranked = sorted(zip(look.predicted, self.classes, strict=True), key=lambda pair: -pair[0])
            never = [name for count, name in ranked if not count]
            rows += [
                ("looked at", f"{look.images:,} photos, mean confidence {look.confidence:.1%}"),
                ("predicted", ", ".join(f"{name} ({count:,})" for count, name in ranked[:SHOWN] if count)),
                ("never predicted", f"{len(never)}: {', '.join(never[:SHOWN])}" if never else "none"),
                ("least sure", ", ".join(f"{name} ({share:.1%})" for name, share in look.least_sure)),
                ("mixed up", ", ".join(f"{one} and {other} ({share:.1%})" for one, other, share in look.mixed_up)),
            ]
        return [*rows, ("run", self.out)]

    @property
    def following(self) -> str:
        return f"limbeck label --data photos/ --teachers {self.out} --out labels"


def zero_shot(
    model: str,
    classes: tuple[str, ...],
    out: str,
    *,
    templates: tuple[str, ...],
    temperature: float,
    data: str | None,
    prior: Prior,
    images: int,
    batch: int,
    loading: Loading,
    tell: Tell = runs.silent,
) -> Named:
    """Write, as a run folder, the classifier that a text–image model is of `classes`."""
    from limbeck.images.source import evenly
    from limbeck.nets import zeroshot, zoo

    settings = {
        "verb": "zero-shot",
        "model": model,
        "classes": classes,
        "templates": templates,
        "temperature": temperature,
        "data": data,
        "prior": prior,
        "images": images,
    }
    if not 0 < temperature < math.inf:
        raise InputError(f"--temperature is {temperature}; give more than 0")
    if prior != "model" and data is None:
        raise InputError(f"--prior {prior} needs --data, photos to count classes on; give it, or leave --prior out")
    if strange := next((text for text in templates if "{}" not in text), None):
        raise InputError(f"the template {strange!r} has no {{}}, where the class goes; put it in")
    names, phrases = read_classes(classes)
    source = None if data is None else evenly(to_compare(data, replace(loading, unlabelled=True)), images)
    found = zeroshot.load(model)
    templates = templates or found.templates
    tell("note", {"text": f"{sum(map(len, phrases)) * len(templates):,} prompts are read by {model}"})
    net = zeroshot.zero_shot(found, names, phrases, templates, temperature=temperature).eval()
    looked = None
    if source is not None:
        from limbeck.learn.evaluate import answers

        logits = answers(net, judged(net, source, batch, workers=loading.workers)).logits
        if prior == "equal":
            bias = even(logits)
            cast("ZeroShot", net.net).head.bias.data.copy_(bias)
            logits = logits + bias
        looked = look(logits, names, source.keys)
    with runs.building(Path(out)) as made:
        runs.write_text(made / runs.RECIPE, runs.to_toml({**settings, "out": out}))
        zoo.save(net, made)
    return Named(out, model, names, sum(map(len, phrases)) * len(templates), temperature, looked)


def look(logits: "Tensor", classes: tuple[str, ...], keys: Sequence[str]) -> Look:
    """Return what logits [N, classes] of the photos `keys` come to."""
    import torch

    predicted = logits.softmax(1)
    best, which = predicted.topk(2)
    pairs: dict[tuple[int, ...], float] = {}
    for pair, share in zip(which.sort(1).values.tolist(), best[:, 1].tolist(), strict=True):
        pairs[tuple(pair)] = pairs.get(tuple(pair), 0.0) + share / len(predicted)
    mixed = sorted(pairs.items(), key=lambda item: -item[1])[:SHOWN]
    unsure = best[:, 0].argsort()[:SHOWN].tolist()
    return Look(
        len(predicted), float(best[:, 0].mean()), tuple(predicted.mean(0).tolist()),
        tuple(torch.bincount(which[:, 0], minlength=len(classes)).tolist()),
        tuple((keys[i], float(best[i, 0])) for i in unsure),
        tuple((classes[one], classes[other], share) for (one, other), share in mixed),
    )  # fmt: skip


def even(logits: "Tensor") -> "Tensor":
    """Return float32 [classes], what to add to the logits [N, classes] so that all classes are equally frequent: their
    mean probabilities are equal. Where some class is never likely, as near as 1,000 steps come."""
    import torch

    exact = logits.double()
    bias = torch.zeros(exact.shape[1], dtype=torch.float64)
    for _ in range(MOST_STEPS):
        shares = (exact + bias).softmax(1).mean(0).clamp_min(1e-30)
        step = -(shares * len(bias)).log()
        bias += step
        if float(step.abs().max()) < 1e-6:
            break
    return (bias - bias.mean()).float()


def read_classes(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the classes' names and the phrases that describe each: by default the name, with spaces for underscores.

    `words` are the names; or one file, a line per class: its name, then any phrases, with commas between; or one
    folder, whose folders are the classes.
    """
    rows = [[word] for word in words]
    if len(words) == 1 and Path(words[0]).is_dir():
        from limbeck.images.sources import open_source

        rows = [[name] for name in open_source(words[0], "train").classes]
    elif len(words) == 1 and (path := Path(words[0])).is_file():
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise InputError(f"{path} can't be read as text: {error}; save it as UTF-8") from error
        rows = [
            row for row in csv.reader(io.StringIO(text), skipinitialspace=True) if any(cell.strip() for cell in row)
        ]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    names = [own[0] if own else "" for own in cells]
    if twice := next((name for name in names if names.count(name) > 1 or not name), None):
        raise InputError(f"--classes has {twice!r} more than once; give each class once")
    if len(names) < 2:
        raise InputError(
            f"--classes names {len(names)} class; give two or more names, a file of them or a folder of folders"
        )
    return tuple(names), tuple(tuple(own[1:]) or (own[0].replace("_", " "),) for own in cells)
