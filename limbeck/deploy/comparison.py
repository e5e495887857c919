"""A net beside the float net that it was made from: calibration images, both nets' predictions on the same images, the
limit."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limbeck import runs
from limbeck.errors import VerificationError
from limbeck.runs import Tell
from limbeck.training.sets import judged

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.images.loader import Batch
    from limbeck.images.source import Source
    from limbeck.nets.zoo import Classifier

Call = Callable[["Tensor"], "Tensor"]
"""Takes uint8 images as the net does, gives the class of each, int64 [N]."""


@dataclass(frozen=True)
class Compared:
    """Two nets on the same images. Shares are in [0, 1]."""

    images: int
    float_top1: float | None  # None where the images have no labels
    top1: float | None
    agreement: float  # share of images that both call the same


def drop(float_top1: float | None, top1: float | None) -> float | None:
    """Return the points of top-1 that the float net is ahead."""
    return None if float_top1 is None or top1 is None else 100 * (float_top1 - top1)


def rows(found: Compared, what: str) -> list[tuple[str, str]]:
    """Return what a person wants to know, as (name, value)."""
    labelled = []
    if (lost := drop(found.float_top1, found.top1)) is not None:
        labelled = [
            ("float top-1", f"{found.float_top1:.2%}"),
            (f"{what} top-1", f"{found.top1:.2%}, {lost:+.2f} points lost"),
        ]
    return [("images", f"{found.images:,}"), *labelled, ("same answer", f"{found.agreement:.2%}")]


def sample(net: "Classifier", source: "Source", count: int, workers: int | None) -> "Tensor":
    """Return `count` images or all, drawn once and for all: uint8, of the net's size, of the source's channels."""
    import torch

    parts: list[Tensor] = []
    for batch in judged(net, source, min(count, 64), workers=workers, shuffle=True):
        parts.append(batch.images)
        if sum(map(len, parts)) >= count:
            break
    return torch.cat(parts)[:count]


def compare(
    net: "Classifier", call: Call, stream: "Iterator[Batch]", images: int, tell: Tell = runs.silent
) -> Compared:
    """Return how `call` and the float net do on all of the stream's images."""
    import torch

    right = others_right = same = done = 0
    labelled = True
    for batch in stream:
        with torch.inference_mode():
            said = net(batch.images).argmax(1)
            other = call(batch.images)
        same += int((said == other).sum())
        labelled = batch.labels is not None
        if batch.labels is not None:
            right += int((said == batch.labels).sum())
            others_right += int((other == batch.labels).sum())
        done += len(said)
        tell("evaluated", {"image": done, "images": images})
    return Compared(
        images=done,
        float_top1=right / done if labelled else None,
        top1=others_right / done if labelled else None,
        agreement=same / done,
    )


def check_drop(found: Compared, limit: float | None, remedy: str) -> None:
    """Raise VerificationError where more than `limit` points of top-1 are lost; None: whatever is lost."""
    lost = drop(found.float_top1, found.top1)
    if limit is not None and lost is not None and lost > limit:
        raise VerificationError(
            f"the integer net's top-1 is {found.top1:.2%}, {lost:.2f} points below the float net's; --max-drop is "
            f"{limit:g}, so nothing was written; {remedy}"
        )
