"""limbeck steps."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from limbeck import runs
from limbeck.artefacts.kinds import may_write
from limbeck.errors import InputError
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.sets import judged, to_compare
from limbeck.training.settings import Loading, keywords

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


@keywords
def steps(
    model: str,
    *,
    data: str,
    out: str,
    steps: tuple[int, ...] = (1, 2, 3),
    images: int = 2048,
    batch: int = 128,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> Speeds:
    """Run an ODE net with fewer or more steps: several speeds of one net, with accuracy and time of each.

    The blocks' span stays. Each number of steps gets a run folder in --out, which every verb takes. Weights are the
    model's; BatchNorm's statistics, which belong to a step, are estimated anew from training images, without labels. A
    net trained with --random-steps is meant for this.

    Examples:
        limbeck steps runs/s --data photos/ --steps 1 2 3 --out runs/speeds
        limbeck quantize runs/speeds/2 --data photos/ --out fast.program

    Args:
        model: A run folder, or what else names a trained net with ODE blocks.
        data: As for teach; labels are used only to measure.
        out: The folder to write: a run folder for each number of steps, and a plot.
        steps: Numbers of steps to try, the same for every ODE block.
        images: Training images that the statistics are estimated from.
        batch: Images per batch.
        loading: How images are read.
    """
    from limbeck.images.sources import open_source
    from limbeck.nets import zoo
    from limbeck.nets.norm import reestimate

    if not steps or len(set(steps)) != len(steps) or min(steps) < 1 or images < 1:
        raise InputError(
            f"--steps is {steps} and --images {images}; give different steps, each 1 or more, and 1 image or more"
        )
    may_write(out, "speeds", inputs=(model,), data=(data,))
    net = zoo.load(model).eval()
    train = open_source(data, "train", labelled=False, on_broken=loading.on_broken, download=loading.download)
    held_out = to_compare(data, loading)
    if held_out.labels is not None and (note := zoo.check_classes(net, held_out.classes, order=loading.class_order)):
        tell("note", {"text": note})
    found = [_speed(net, model, held_out, batch, loading.workers)]
    nets = {count: _with_steps(net, count) for count in steps}  # refuse before anything is written
    with runs.building(Path(out)) as made:
        for count, other in nets.items():
            tell("note", {"text": f"{count} steps: statistics from {min(images, len(train))} training images"})
            reestimate(other, _images(net, train, images, batch, loading.workers))
            zoo.save(other, made / str(count))
            found.append(_speed(other, str(Path(out) / str(count)), held_out, batch, loading.workers))
        if drawn := _drawn(found, model):
            runs.write_text(made / PLOT, drawn)
    return Speeds(model, len(held_out), tuple(found), str(Path(out) / PLOT) if drawn else "")


def _drawn(found: "list[Speed]", model: str) -> str:
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


def _with_steps(net: "Classifier", count: int) -> "Classifier":
    """Return a copy of `net` whose blocks take so many steps, and whose arguments say so."""
    from limbeck.nets.odenet import ode_blocks, with_steps

    other = cast("Classifier", with_steps(net, count))
    blocks = ode_blocks(other).values()
    other.arguments.update(steps=[block.steps for block in blocks], h=[block.h for block in blocks])
    return other


def _images(net: "Classifier", source: "Source", count: int, batch: int, workers: int | None) -> "Iterator[Tensor]":
    """Yield `count` images or all, in batches, drawn once and for all."""
    for part in judged(net, source, batch, workers=workers, shuffle=True):
        yield part.images[:count]
        count -= len(part.images)
        if count <= 0:
            break


def _speed(net: "Classifier", out: str, held_out: "Source", batch: int, workers: int | None) -> Speed:
    """Measure the net on all held-out images, and its time on some."""
    from limbeck.learn.evaluate import answers, figures, speed
    from limbeck.nets.count import count
    from limbeck.nets.odenet import ode_blocks

    top1 = None
    if held_out.labels is not None:
        top1 = figures(answers(net, judged(net, held_out, batch, workers=workers)), net.classes).top1
    seconds = 1 / speed(net, next(_images(net, held_out, _BATCH, _BATCH, workers)))
    macs = count(net.net, (net.input.channels, net.input.size, net.input.size)).macs
    return Speed(tuple(block.steps for block in ode_blocks(net).values()), out, top1, macs, seconds)
