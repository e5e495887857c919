"""What a report measures when it is made: predictions, latency, features, and images worth looking at."""

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.errors import InputError
from limbeck.training.sets import judged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from limbeck.images.source import Source
    from limbeck.learn.evaluate import Answers
    from limbeck.nets.zoo import Classifier
    from limbeck.page.values import Cloud, Difference, Mistake, Teachers

BATCH = 128
LARGEST = 112  # pixels: the side of a picture in the page
CLOUD_IMAGES = 400  # of a domain
TARGET = "target-data"  # the flag
_MOVES = 8
_FAR = ("hfds", "hfids", "tfds", "wds")  # what is behind may be far: opened only where the user asks for it


@dataclass(frozen=True)
class Seen:
    """Images that nets are evaluated on: an even choice of a split."""

    source: "Source"
    whole: int  # how many there are
    learned: bool = False  # whether nets learned from them, as there are no held-out ones


def held_out(spec: str, images: int, flag: str = "data", *, given: bool = False) -> Seen | str:
    """Return at most `images` held-out images of `spec`, or why they can't be had. What a run names is not fetched over
    a network; what the user has `given` by the `flag` may be. An adaptation's target may be without labels, and without
    held-out images: these are then those that it learned from."""
    from limbeck.images.folder import MissingSplitError
    from limbeck.images.source import evenly
    from limbeck.images.sources import open_source

    if not given and spec.partition("/")[0].lower() in _FAR and not Path(spec).exists():
        return f"{spec} was not opened; --{flag} {spec} does"
    learned = False
    try:
        source = open_source(spec, "val", on_broken="skip")
    except MissingSplitError as error:
        if flag != TARGET:
            return str(error)
        learned = True
    except InputError as error:
        return str(error)
    if learned:
        try:
            source = open_source(spec, "train", labelled=False, on_broken="skip")
        except InputError as error:
            return str(error)

    return Seen(evenly(source, images), len(source), learned)


def ask(net: "Classifier", source: "Source", spec: str) -> "Answers":
    """Return what the net predicts for all images; InputError where its classes are not theirs, or it outputs NaN."""
    from limbeck.learn.evaluate import answers
    from limbeck.nets import zoo
    from limbeck.nets.classifier import check_finite

    if source.classes:
        zoo.check_classes(net, source.classes)
    said = answers(net, judged(net, source, BATCH))
    check_finite(said.logits, spec)
    return said


def sound(net: "Classifier") -> bool:
    """Return whether the net's logits of a black image are finite."""
    import torch

    black = torch.zeros((1, *net.input.shape), dtype=torch.uint8)
    with torch.inference_mode():
        return bool(net(black.to(net.scale.device)).isfinite().all())


def latency(net: "Classifier") -> float:
    """Return the seconds of one image alone, of noise: the fastest of many, one thread of torch."""
    import torch

    from limbeck.learn.evaluate import speed

    shape = (1, *net.input.shape)
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with one_thread():
        return 1 / speed(net, noise, seconds=0.3)


@contextmanager
def one_thread() -> "Iterator[None]":
    """Have torch compute in one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def as_it_is() -> "Iterator[None]":
    """Change nothing."""
    yield


def pixels(net: "Classifier", source: "Source", count: int) -> "NDArray[np.uint8]":
    """Return uint8 [N, C, H, W], at most `count` images evenly chosen, as a net that runs outside torch gets them."""
    import torch

    from limbeck.images.source import evenly

    chosen = evenly(source, count)
    parts = [net.prepare(batch.images).round().clamp(0, 255).to(torch.uint8) for batch in judged(net, chosen, BATCH)]
    return torch.cat(parts).numpy()


# ---- pictures ---------------------------------------------------------------------------------------------


def picture(source: "Source", i: int) -> str:
    """Return image i as data:image/png;base64, at most LARGEST pixels per side."""
    image = source.read(i)
    image.thumbnail((LARGEST, LARGEST))
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def worst(said: "Answers", source: "Source", count: int) -> "tuple[Mistake, ...]":
    """Return the `count` images that are classified wrongly with the highest probability."""
    from limbeck.page.values import Mistake

    assert said.labels is not None
    sure, place = said.logits.double().softmax(1).max(1)
    wrong = (place != said.labels).nonzero().flatten()
    chosen = wrong[sure[wrong].argsort(descending=True, stable=True)][:count].tolist()
    return tuple(
        Mistake(
            picture(source, i), source.keys[i], source.classes[int(said.labels[i])], source.classes[int(place[i])],
            float(sure[i]),
        )
        for i in chosen
    )  # fmt: skip


def disagreement(names: Sequence[str], said: "Sequence[Answers]", seen: Seen, count: int) -> "Teachers":
    """Return how far these nets agree, and the `count` images that they disagree on with the highest probability."""
    import torch

    from limbeck.learn.evaluate import agreement
    from limbeck.page.values import Split, Teachers

    source = seen.source
    shares = torch.stack([answers.logits.double().softmax(1) for answers in said])  # [teachers, images, classes]
    sure, place = shares.max(2)
    differ = (place != place[:1]).any(0)
    chosen = differ.nonzero().flatten()
    chosen = chosen[sure[:, chosen].amin(0).argsort(descending=True, stable=True)][:count]

    def split(i: int) -> Split:
        true = "" if source.labels is None else source.classes[int(source.labels[i])]
        calls = zip(names, place[:, i].tolist(), sure[:, i].tolist(), strict=True)
        return Split(picture(source, i), source.keys[i], true, tuple((n, source.classes[c], p) for n, c, p in calls))

    return Teachers(
        names=tuple(names),
        data=source.spec,
        images=len(source),
        differ=int(differ.sum()),
        pairs=tuple(
            (names[a], names[b], agreement(said[a], said[b])) for b in range(len(names)) for a in range(b)
        ),
        right=_right(names, place, source.labels, differ, shares.mean(0).argmax(1)),
        splits=tuple(split(i) for i in chosen.tolist()),
    )  # fmt: skip


def _right(
    names: Sequence[str], place: "Tensor", labels: "Tensor | None", differ: "Tensor", together: "Tensor"
) -> tuple[tuple[str, float], ...]:
    """Return each one's accuracy on the images that they disagree on, and that of their average."""
    if labels is None or not bool(differ.any()):
        return ()
    hits = [*(place == labels), together == labels]
    return tuple(
        (name, float(hit[differ].double().mean())) for name, hit in zip((*names, "their average"), hits, strict=True)
    )


def difference(names: Sequence[str], before: "Answers", after: "Answers", seen: Seen, count: int) -> "Difference":
    """Return what changed from one net's predictions to the other's, and `count` images that are classified
    differently; the classes are called `names`."""
    import torch

    from limbeck.page.values import SURE, Change, Difference, Turn

    both = torch.stack([before.logits, after.logits]).double().softmax(2)  # [2, images, classes]
    sure, place = both.max(2)
    turned = (place[0] != place[1]).nonzero().flatten()
    shares = torch.nn.functional.one_hot(place, len(names)).double().mean(1)
    moves, counts = torch.unique(place[:, turned].T, dim=0, return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:_MOVES].tolist()
    chosen = turned[torch.linspace(0, len(turned) - 1, min(count, len(turned)), dtype=torch.float64).round().long()]
    source = seen.source

    def turn(i: int) -> Turn:
        true = "" if source.labels is None else source.classes[int(source.labels[i])]
        calls = [(names[int(place[k, i])], float(sure[k, i])) for k in (0, 1)]
        return Turn(picture(source, i), source.keys[i], true, calls[0], calls[1])

    def pair(values: "Tensor") -> tuple[float, float]:
        return float(values[0]), float(values[1])

    return Difference(
        images=len(source), learned=seen.learned, turned=len(turned), confidence=pair(sure.mean(1)),
        sure=pair((sure >= SURE).double().mean(1)),
        classes=tuple(Change(name, *pair(shares[:, i])) for i, name in enumerate(names)),
        moves=tuple((names[int(moves[k, 0])], names[int(moves[k, 1])], int(counts[k])) for k in order),
        turns=tuple(turn(i) for i in chosen.tolist()),
    )  # fmt: skip


# ---- features ---------------------------------------------------------------------------------------------


def cloud(net: "Classifier", source: "Source", target: "Source") -> "Cloud":
    """Return where the net's features of both domains lie in the two directions in which they vary most (PCA)."""
    import torch

    from limbeck.images.source import evenly
    from limbeck.page.values import Cloud

    both = [_features(net, evenly(domain, CLOUD_IMAGES)) for domain in (source, target)]
    every = torch.cat(both).double()
    every -= every.mean(0)
    _, sizes, axes = torch.linalg.svd(every, full_matrices=False)
    axes = axes[:2] * axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)).sign()  # svd leaves the sign open
    flat = (every @ axes.T).tolist()
    points = [(row[0], row[1] if len(row) > 1 else 0.0) for row in flat]
    kept = float(sizes[:2].square().sum() / sizes.square().sum().clamp_min(1e-300))
    return Cloud(tuple(points[: len(both[0])]), tuple(points[len(both[0]) :]), kept)


def _features(net: "Classifier", source: "Source") -> "Tensor":
    import torch

    from limbeck.learn.adapt import TwoDomains

    looking = TwoDomains(net)
    with torch.inference_mode():
        return torch.cat([looking(batch.images)[0] for batch in judged(net, source, BATCH)])
