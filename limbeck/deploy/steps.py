"""An ODE net with fewer or more steps: what each number costs, and what accuracy it has."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from limbeck.results import Result
from limbeck.training.sets import judged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from limbeck.images.source import Source
    from limbeck.nets.zoo import Classifier

PLOT = "steps.svg"
_BATCH = 64  # images whose latency is shared: a block's cost, not an operator's overhead


@dataclass(frozen=True)
class Speed:
    """The net with these numbers of steps. Shares are in [0, 1]."""

    steps: tuple[int, ...]  # of each ODE block
    out: str  # its run folder
    top1: float | None  # None where the held-out images have no labels
    macs: int
    seconds: float  # per image, PyTorch, in batches of 64


@dataclass(frozen=True)
class Speeds(Result):
    """One net at several speeds."""

    model: str
    images: int  # measured on
    speeds: tuple[Speed, ...]
    plot: str  # the file; empty where the images have no labels

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table: a heading, then one line per number of steps."""
        table: list[tuple[str, ...]] = [("steps", "top-1", "MACs", "ms per image", "run")]
        for speed in self.speeds:
            top1 = "-" if speed.top1 is None else f"{speed.top1:.2%}"
            steps = ", ".join(map(str, speed.steps))
            table.append((steps, top1, f"{speed.macs:,}", f"{1000 * speed.seconds:.3f}", speed.out))
        return table


def picture(found: "list[Speed]", model: str) -> str:
    """Return a picture of top-1 against time as SVG; empty where the images have no labels."""
    from limbeck.page import charts
    from limbeck.page.svg import standalone

    points = [
        charts.Point(", ".join(map(str, speed.steps)), None, speed.seconds, speed.top1, None)
        for speed in found
        if speed.top1 is not None
    ]
    if not points:
        return ""
    drawn = charts.trade_off(points, f"Top-1 of {model} against its time", "time per image, in batches", "s")
    return standalone(drawn, f"{Path(model).name} in fewer or more steps", "named by the steps of each ODE block")


def of_steps(net: "Classifier", count: int) -> "Classifier":
    """Return a copy of `net` whose blocks take this many steps, and whose arguments say so."""
    from limbeck.nets.odenet import ode_blocks, with_steps

    other = cast("Classifier", with_steps(net, count))
    blocks = ode_blocks(other).values()
    other.arguments.update(steps=[block.steps for block in blocks], h=[block.h for block in blocks])
    return other


def drawn_once(net: "Classifier", source: "Source", count: int, batch: int, workers: int | None) -> "Iterator[Tensor]":
    """Yield `count` images or all, in batches, drawn once and for all."""
    for part in judged(net, source, batch, workers=workers, shuffle=True):
        yield part.images[:count]
        count -= len(part.images)
        if count <= 0:
            break


def measure(net: "Classifier", out: str, held_out: "Source", batch: int, workers: int | None) -> Speed:
    """Measure the net on all held-out images, and its time on some."""
    from limbeck.learn.evaluate import answers, figures, speed
    from limbeck.nets.count import count
    from limbeck.nets.odenet import ode_blocks

    top1 = None
    if held_out.labels is not None:
        top1 = figures(answers(net, judged(net, held_out, batch, workers=workers)), net.classes).top1
    seconds = 1 / speed(net, next(drawn_once(net, held_out, _BATCH, _BATCH, workers)))
    macs = count(net.net, net.input.shape).macs
    return Speed(tuple(block.steps for block in ode_blocks(net).values()), out, top1, macs, seconds)
