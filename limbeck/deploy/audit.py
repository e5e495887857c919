"""An audit: how often a classifier is right on photos that nobody has labelled, from the answers for a few of them.

Photos are drawn in groups of like confidence, more densely where the classifier is less sure; each group counts for all
of its photos.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck import runs
from limbeck.artefacts.models import load_model
from limbeck.errors import InputError
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.settings import Loading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limbeck.images.source import Source

HEAD = ["image", "predicted", "confidence", "group", "group_size", "label"]
NONE = "none"  # the answer for a photo of none of the classes: the classifier is wrong, whatever it says
_GROUPS = 5
_LEAST = 4  # photos a group
_FLOOR = 0.1  # of a photo's expected spread: photos of which the classifier is sure are drawn too
_DRAWS = 20_000  # of a Beta distribution, whose quantiles numpy does not know
_NOTHING = 1e-9
_SHOWN = 5  # kinds of wrong answers


@dataclass(frozen=True)
class Group:
    """Photos of like confidence: how many there are, how many were answered, how many the classifier got right."""

    size: int
    answered: int
    right: int


@dataclass(frozen=True)
class Audit(Result):
    """What is known of a classifier's accuracy. Shares are in [0, 1]; None until each group has an answer."""

    sheet: str
    page: str  # where answers can be given beside the pictures; empty when answers are read
    images: int
    asked: int
    groups: tuple[Group, ...]
    confidence: float  # the classifier's own, mean over all images
    accuracy: float | None = None
    interval: tuple[float, float] | None = None  # 95 %
    confused: tuple[tuple[str, str, int], ...] = ()  # predicted, answered, how often; the most frequent first
    strange: tuple[str, ...] = ()  # answers that are nearly what was predicted, and may be misspelt

    @property
    def answered(self) -> int:
        return sum(group.answered for group in self.groups)

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        rows = [
            ("images", f"{self.images:,}, mean confidence {self.confidence:.1%}"),
            ("answered", f"{self.answered} of {self.asked}"),
        ]
        if self.accuracy is not None and self.interval is not None:
            low, high = self.interval
            rows.append(("accuracy", f"{self.accuracy:.1%}, 95% interval {low:.1%} to {high:.1%}"))
        elif self.answered:
            rows.append(("accuracy", "unknown: each group needs an answer"))
        if self.confused:
            wrong = ", ".join(f"{one}, really {other} ({count})" for one, other, count in self.confused)
            rows.append(("wrong", wrong))
        if self.strange:
            named = ", ".join(self.strange[:_SHOWN])
            rows.append(("misspelt?", f"{named}: counted as wrong"))
        return [*rows, ("sheet", self.sheet), *([("page", self.page)] if self.page else [])]

    @property
    def following(self) -> str:
        return f"limbeck audit {self.sheet}" if self.answered < self.asked else ""


def ask(
    models: Sequence[str],
    data: str,
    images: int,
    out: Path,
    *,
    seed: int,
    batch: int,
    loading: Loading,
    tell: Tell = runs.silent,
) -> Audit:
    """Write the sheet of the photos to be answered, OUT, and beside it a page that shows them."""
    import numpy as np

    from limbeck.learn.evaluate import csv_text
    from limbeck.page import audit
    from limbeck.page.measured import picture
    from limbeck.training.sets import to_compare

    if images < _LEAST:
        raise InputError(f"--images is {images}; at least {_LEAST} are needed for an accuracy")
    source = to_compare(data, replace(loading, unlabelled=True), "train")
    classes, shares = _predicted(models, source, batch, loading, tell)
    confidence, which = shares.max(1), shares.argmax(1)
    generator = np.random.default_rng(seed)
    drawn = draw(confidence, images, generator)
    lines = [
        (i, [source.keys[i], classes[which[i]], float(confidence[i]), number, size, ""])
        for number, (size, places) in enumerate(drawn, 1)
        for i in places.tolist()
    ]
    lines = [lines[i] for i in generator.permutation(len(lines))]  # the order is no hint
    page = out.with_suffix(".html")
    shown = audit.text(out.name, classes, HEAD, lines, [picture(source, i) for i, _ in lines])
    with runs.replacing(out) as sheet, runs.replacing(page) as beside:  # both are written before either has its name
        sheet.write_text(csv_text([HEAD, *(line for _, line in lines)]), encoding="utf-8", newline="")
        beside.write_text(shown, encoding="utf-8", newline="")
    groups = tuple(Group(size, 0, 0) for size, _ in drawn)
    return Audit(str(out), str(page), len(source), len(lines), groups, float(confidence.mean()))


def read(sheet: Path) -> Audit:
    """Return what the answers in a sheet come to; InputError where it is none, or an answer is no class."""
    lines = _lines(sheet)
    sizes: dict[int, int] = {}
    answers: dict[int, list[bool]] = {}
    confidence: dict[int, list[float]] = {}
    wrong: dict[tuple[str, str], int] = {}
    known = {predicted.casefold() for _, (_, predicted, *_) in lines} | {NONE}
    strange: set[str] = set()
    for number, (_, predicted, sure, group, size, label) in lines:
        try:
            place, many, share = int(group), int(size), float(sure)
        except ValueError as error:
            raise InputError(f"{sheet}, line {number}: {error}; leave all columns but label as they were") from error
        if sizes.setdefault(place, many) != many or not 0 <= share <= 1 or many < 1:
            raise InputError(f"{sheet}, line {number}: leave all columns but label as they were")
        confidence.setdefault(place, []).append(share)
        own = answers.setdefault(place, [])
        if not label:
            continue
        own.append(label.casefold() == predicted.casefold())
        if label.casefold() not in known and difflib.get_close_matches(label.casefold(), [predicted.casefold()]):
            strange.add(label)
        if not own[-1]:
            wrong[predicted, label] = wrong.get((predicted, label), 0) + 1
    for place, shares in confidence.items():
        if len(shares) > sizes[place]:
            raise InputError(f"{sheet} has {len(shares)} images of group {place}, which has {sizes[place]}")
    groups = tuple(Group(sizes[place], len(own), sum(own)) for place, own in sorted(answers.items()))
    total = sum(sizes.values())
    mean = sum(sizes[place] * sum(shares) / len(shares) for place, shares in confidence.items()) / total
    accuracy, interval = (None, None) if any(not group.answered for group in groups) else estimate(groups)
    confused = sorted(((*pair, count) for pair, count in wrong.items()), key=lambda each: -each[2])
    shown = tuple(confused[:_SHOWN])
    return Audit(str(sheet), "", total, len(lines), groups, mean, accuracy, interval, shown, tuple(sorted(strange)))


def draw(
    confidence: "NDArray[np.floating]", images: int, generator: "np.random.Generator"
) -> "list[tuple[int, NDArray[np.int64]]]":
    """Return, by group from the least to the most confident, (how many images it has, places of those drawn [M]).

    A group's images share the spread that their confidence lets one expect, sqrt(c (1 - c)), equally with the others',
    and as many are drawn of each: nearly Neyman's allocation (1934).
    """
    import numpy as np

    if len(confidence) <= images:
        return [(len(confidence), np.arange(len(confidence)))]
    groups = max(1, min(_GROUPS, images // _LEAST))
    order = np.argsort(confidence, kind="stable")
    spread = np.cumsum(_FLOOR + np.sqrt(confidence * (1 - confidence))[order])
    members = np.split(order, np.searchsorted(spread, spread[-1] * np.arange(1, groups) / groups))
    counts: dict[int, int] = {}
    for done, place in enumerate(sorted(range(groups), key=lambda place: len(members[place]))):
        counts[place] = min(len(members[place]), (images - sum(counts.values())) // (groups - done))
    return [
        (len(own), generator.choice(own, counts[place], replace=False))
        for place, own in enumerate(members)
        if counts[place]
    ]


def estimate(groups: Sequence[Group]) -> tuple[float, tuple[float, float]]:
    """Return the accuracy on all images, and its 95% interval, of groups that all have answers.

    Clopper and Pearson's interval for as many answers as would tell as much in a simple sample (Korn and Graubard
    1998), at most twice those that there are: spreads of a few answers are themselves uncertain.
    """
    import numpy as np

    total = sum(group.size for group in groups)
    accuracy = sum(group.size * group.right / group.answered for group in groups) / total
    answered = sum(group.answered for group in groups)
    shares = [(group.right + 0.5) / (group.answered + 1) for group in groups]  # never 0 or 1, which a few answers say
    variance = sum(
        (group.size / total) ** 2 * (1 - group.answered / group.size) * share * (1 - share) / group.answered
        for group, share in zip(groups, shares, strict=True)
    )
    if variance == 0:  # every image was answered
        return accuracy, (accuracy, accuracy)
    share = sum(group.size * share for group, share in zip(groups, shares, strict=True)) / total
    worth = min(share * (1 - share) / variance, 2 * answered)
    right, wrong = accuracy * worth, (1 - accuracy) * worth
    generator = np.random.default_rng(0)
    low = 0.0 if right < _NOTHING else float(np.quantile(generator.beta(right, wrong + 1, _DRAWS), 0.025))
    high = 1.0 if wrong < _NOTHING else float(np.quantile(generator.beta(right + 1, wrong, _DRAWS), 0.975))
    return accuracy, (low, high)


def _predicted(
    models: Sequence[str], source: "Source", batch: int, loading: Loading, tell: Tell
) -> "tuple[tuple[str, ...], NDArray[np.float64]]":
    """Return the classes, and float64 [images, classes]: the mean of the models' probabilities."""
    import torch

    from limbeck.learn.evaluate import answers
    from limbeck.nets import zoo
    from limbeck.training.sets import judged

    nets = [zoo.freeze(load_model(spec), dtype="float32") for spec in models]
    classes = nets[0].classes
    parts = []
    for spec, net in zip(models, nets, strict=True):
        zoo.check_classes(net, classes, spec, order=loading.class_order)
        found = answers(net, judged(net, source, batch, workers=loading.workers), total=len(source), tell=tell)
        parts.append(found.logits.double().softmax(1))
    return classes, torch.stack(parts).mean(0).numpy()


def _lines(sheet: Path) -> list[tuple[int, list[str]]]:
    """Return (line, cells in the order of HEAD) of each image in a sheet."""
    from limbeck.images.table import cells_of, text_of

    rows = cells_of(sheet, text_of(sheet))
    head = rows[0][1] if rows else []
    if sorted(head) != sorted(HEAD):
        raise InputError(f"{sheet} is no sheet of limbeck audit, whose columns are {', '.join(HEAD)}")
    if len(rows) == 1:
        raise InputError(f"{sheet} names no images")
    return [(number, [row[head.index(name)] for name in HEAD]) for number, row in rows[1:]]
