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
MOST_STEPS = 1000  # of evening out; some ten suffice


@dataclass(frozen=True)
class Named(Result):
    """A zero-shot classifier, and what it predicts of the photos that it was shown."""

    out: str
    model: str
    classes: tuple[str, ...]
    prompts: int  # of all classes
    temperature: float
    shares: tuple[float, ...]  # mean probability of each class; empty without photos
    images: int
    confidence: float | None  # mean of the largest probability

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        rows = [
            ("model", self.model),
            ("classes", f"{len(self.classes)}, by {self.prompts:,} prompts, at temperature {self.temperature:g}"),
        ]
        if self.confidence is not None:
            ranked = sorted(zip(self.shares, self.classes, strict=True), reverse=True)
            most, least = (
                ", ".join(f"{name} ({share:.1%})" for share, name in part) for part in (ranked[:5], ranked[:-6:-1])
            )
            rows += [
                ("looked at", f"{self.images:,} photos, mean confidence {self.confidence:.1%}"),
                ("most frequent", most),
                ("rarest", least),
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
    shares: tuple[float, ...] = ()
    confidence = None
    if source is not None:
        from limbeck.learn.evaluate import answers

        logits = answers(net, judged(net, source, batch, workers=loading.workers)).logits
        if prior == "equal":
            bias = even(logits)
            cast("ZeroShot", net.net).head.bias.data.copy_(bias)
            logits = logits + bias
        said = logits.softmax(1)
        shares, confidence = tuple(said.mean(0).tolist()), float(said.max(1).values.mean())
    with runs.building(Path(out)) as made:
        runs.write_text(made / runs.RECIPE, runs.to_toml({**settings, "out": out}))
        zoo.save(net, made)
    return Named(
        out, model, names, sum(map(len, phrases)) * len(templates), temperature, shares,
        0 if source is None else len(source), confidence,
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
