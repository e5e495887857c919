"""A Design's RTL runs real images in Verilator, and every score is compared with the Program's."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck import runs
from limbeck.errors import InputError
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.adaptation.adapted import left
from limbeck.training.sets import to_compare
from limbeck.training.settings import Loading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limbeck.images.source import Source, Split
    from limbeck.integer.program import Program


@dataclass(frozen=True)
class Simulated(Result):
    """What the simulated hardware did. Every score was compared; had one differed, there would be no result."""

    design: str
    images: int
    scores: int  # compared
    top1: float | None  # share of images that it calls as their labels do; None without labels of its classes
    latency: int  # cycles of an image alone
    interval: int  # cycles from image to image in a stream
    wait_pixels: int  # cycles in which the engine waited for images
    wait_scores: int  # cycles in which it waited for its scores to be taken
    utilisation: float  # useful multiplications over what all multipliers could do, in a stream

    @property
    def interval95(self) -> str:
        """Wilson's interval of top-1, in which that of all such images lies with 95%."""
        assert self.top1 is not None
        n, z = self.images, 1.96
        middle = (self.top1 + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(self.top1 * (1 - self.top1) / n + z * z / (4 * n * n))
        return f"{max(middle - half, 0):.1%} to {min(middle + half, 1):.1%}"

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        rows = [
            ("design", self.design),
            ("compared", f"{self.scores:,} scores of {self.images:,} images: all equal"),
            ("top-1", "" if self.top1 is None else f"{self.top1:.2%}, 95 % interval {self.interval95}"),
            ("cycles", f"{self.latency:,} for one image, {self.interval:,} per image in a stream, as planned"),
            ("waited", f"{self.wait_pixels:,} cycles for pixels, {self.wait_scores:,} for room for scores"),
            ("multipliers busy", f"{self.utilisation:.1%}"),
        ]
        return [(name, value) for name, value in rows if value]


def simulate(
    design: str,
    data: str,
    images: int,
    split: "Split" = "val",
    *,
    stalls: int = 0,
    trust: bool = False,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> Simulated:
    """Run `images` evenly spaced images of a split through the Design in Verilator, each port stalled at random in
    `stalls` percent of the cycles; `trust` as `fpga.simulate.build` has it. VerificationError where a score, a class
    or the number of cycles is not the Program's."""
    from limbeck.fpga.design import read
    from limbeck.fpga.simulate import Stalls
    from limbeck.fpga.simulate import simulate as run
    from limbeck.images.source import evenly

    known = read(Path(design))
    net = known.program
    source = evenly(to_compare(data, loading, split, channels=net.input.channels), images)
    if note := left(str(net.lineage.get("tag", "")), data):
        tell("note", {"text": note})
    pixels, labels = _images(source, net)
    report = run(Path(design), pixels, stalls=Stalls(0, stalls, stalls, stalls), trust=trust, tell=tell)
    interval = report.interval if len(pixels) > 2 else known.cycles.interval
    return Simulated(
        design=design,
        images=len(pixels),
        scores=report.scores.size,
        top1=None if labels is None else float((report.classes == labels).mean()),
        latency=report.latency,
        interval=interval,
        wait_pixels=report.counters.wait_pixels,
        wait_scores=report.counters.wait_scores,
        utilisation=known.macs / (interval * sum(known.multipliers)),
    )


def _images(source: "Source", net: "Program") -> "tuple[NDArray[np.uint8], NDArray[np.int64] | None]":
    """Return all images as the Program takes them, uint8 [N, channels, H, W], and their labels.

    None for labels where there are none, or of other classes.
    """
    import torch

    from limbeck.images.loader import batches
    from limbeck.images.views import Augment

    size = net.input
    if size.height != size.width:
        raise InputError(f"the program takes images of {size.height} x {size.width}; data are rendered as squares")
    view = Augment(
        size.height, kind="none", flip=False, crop_pct=size.crop_pct, interpolation=size.interpolation, white=size.white
    )
    stream = batches(source, view, batch=min(len(source), 64), seed=0, epoch=0, shuffle=False, drop_last=False)
    pixels = torch.cat([batch.images for batch in stream]).numpy()
    comparable = source.labels is not None and source.classes == net.classes
    return pixels, source.labels.numpy() if source.labels is not None and comparable else None
