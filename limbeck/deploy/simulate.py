"""A Design's RTL runs real images in Verilator, and every score is compared with the Program's."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck import runs
from limbeck.errors import InputError
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.adaptation.adapted import left
from limbeck.training.settings import Loading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limbeck.images.source import Split
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

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        rows = [
            ("design", self.design),
            ("compared", f"{self.scores:,} scores of {self.images:,} images: all equal"),
            ("top-1", f"{self.top1:.2%}" if self.top1 is not None else ""),
            ("cycles", f"{self.latency:,} an image alone, {self.interval:,} in a stream, as planned"),
            ("waited", f"{self.wait_pixels:,} cycles for pixels, {self.wait_scores:,} for scores to be taken"),
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
    """Run the first `images` images of a split through the Design in Verilator, each port stalled at random in `stalls`
    percent of the cycles; `trust` as `fpga.simulate.build` has it. VerificationError where a score, a class or the
    number of cycles is not the Program's."""
    from limbeck.fpga.design import read
    from limbeck.fpga.simulate import Stalls
    from limbeck.fpga.simulate import simulate as run

    known = read(Path(design))
    if note := left(str(known.program.lineage.get("tag", "")), data):
        tell("note", {"text": note})
    pixels, labels = _images(data, known.program, images, split, loading)
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


def _images(
    data: str,
    net: "Program",
    count: int,
    split: "Split",
    loading: Loading,
) -> "tuple[NDArray[np.uint8], NDArray[np.int64] | None]":
    """Return the first `count` images as the Program takes them, uint8 [N, channels, H, W], and their labels.

    None for labels where there are none, or of other classes.
    """
    import torch

    from limbeck.images.loader import batches
    from limbeck.images.sources import open_source
    from limbeck.images.views import Augment

    size = net.input
    if size.height != size.width:
        raise InputError(f"the program takes images of {size.height} x {size.width}; data are rendered as squares")
    source = open_source(data, split, channels=size.channels, on_broken=loading.on_broken, download=loading.download)
    crop = 1.0 if source.pixels is not None else size.crop_pct
    view = Augment(size.height, kind="none", flip=False, crop_pct=crop, interpolation=size.interpolation)
    stream = batches(source, view, batch=min(count, 64), seed=0, epoch=0, shuffle=False, drop_last=False)
    parts, labels, done = [], [], 0
    for batch in stream:
        parts.append(batch.images)
        labels.append(batch.labels)
        done += len(batch.images)
        if done >= count:
            break
    pixels = torch.cat(parts)[:count].numpy()
    known = [label for label in labels if label is not None]
    comparable = known and source.classes == net.classes
    return pixels, torch.cat(known)[:count].numpy() if comparable else None
