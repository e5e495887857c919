"""Plots: values in, a matplotlib Figure out. No pyplot and none of its state; nothing is told by colour alone."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from limbeck.learn.evaluate import Bin
from limbeck.runs import replacing

MOST_COUNTS, MOST_NAMES, LONGEST_NAME = 20, 60, 24  # classes with counts in the cells, with names; characters
_SHARES = ("accuracy", "top1", "top5", "agreement")  # what the names of shares end in


def confusion(matrix: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Return the confusion matrix [true, said] as shares of the true class's images, the counts in the cells where
    there are few classes."""
    count = len(classes)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(max(0.5 * count, 3.2), 12.0)
    figure = Figure(figsize=(side + (0.8 if count <= MOST_COUNTS else 1.8), side + 0.8), layout="constrained")
    axes = figure.add_subplot(xlabel="said", ylabel="true")
    norm = PowerNorm(0.5, 0, 1)  # a root, so that a mistake of 1% can be seen
    image = axes.imshow(share, cmap="Greys", norm=norm, interpolation="nearest")
    if count <= MOST_COUNTS:
        for true, said in np.argwhere(matrix).tolist():
            colour = "white" if norm(share[true, said]) > 0.5 else "black"
            axes.text(said, true, f"{matrix[true, said]}", ha="center", va="center", color=colour, fontsize=8)
    else:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, format=PercentFormatter(1, decimals=0))
        bar.set_label("share of the true class's images")
    if count <= MOST_NAMES:
        names = [_short(name) for name in classes]
        size = 9 if count <= MOST_COUNTS else 6
        slanted = max(map(len, names)) > 3
        axes.set_xticks(range(count), names, rotation=90 if slanted else 0, fontsize=size, parse_math=False)
        axes.set_yticks(range(count), names, fontsize=size, parse_math=False)
    axes.tick_params(length=0 if count <= MOST_NAMES else 3)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def reliability(bins: Sequence[Bin]) -> Figure:
    """Return the reliability curve, accuracy against confidence, above the share of images in each bin."""
    filled = [b for b in bins if b.images]
    images = sum(b.images for b in filled)
    error = sum(b.images * abs(b.accuracy - b.confidence) for b in filled) / images
    figure = Figure(figsize=(4.4, 4.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="calibrated")
    points = [b.confidence for b in filled], [b.accuracy for b in filled]
    upper.plot(*points, color="black", marker="o", markersize=4, label="measured")
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(-0.02, 1.02), title=f"expected calibration error {error:.1%}")
    upper.legend(frameon=False)
    low, high = np.array([b.low for b in bins]), np.array([b.high for b in bins])
    lower.bar(low, [b.images / images for b in bins], high - low, align="edge", color="0.6", edgecolor="white")
    lower.set(xlabel="confidence", ylabel="images")
    for axis in (upper.xaxis, upper.yaxis, lower.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    _bare(upper, lower)
    return figure


def curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Return the training curves of rows that hold "epoch" and figures: losses, and shares where there are any.

    Held-out figures (val_...) are drawn solid, those of training dashed. The learning rate is left out.
    """
    names = [name for name in dict.fromkeys(n for row in history for n in row) if name not in ("epoch", "lr")]
    shares = [name for name in names if name.endswith(_SHARES)]
    panels = [panel for panel in ([name for name in names if name not in shares], shares) if panel]
    figure = Figure(figsize=(4.4 * max(len(panels), 1), 3.4), layout="constrained")
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1, xlabel="epoch", ylabel="loss")
        if panel is shares:
            axes.set_ylabel("share of images")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
        _draw(axes, history, panel)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(frameon=False)
        _bare(axes)
    return figure


def _draw(axes: Axes, history: Sequence[Mapping[str, float]], names: Sequence[str]) -> None:
    """Draw each figure's line over the epochs that have it."""
    held_out = iter(((0, ()), (0, (8, 2)), (0, (8, 2, 2, 2))))
    training = iter(((0, (4, 2)), (0, (1, 1)), (0, (4, 2, 1, 2))))
    for name, marker in zip(names, cycle("os^Dv"), strict=False):
        rows = [row for row in history if name in row]
        held = name.startswith("val_")
        axes.plot(
            [row["epoch"] for row in rows], [row[name] for row in rows],
            label=f"held-out {name[4:]}" if held else f"training {name}", color="black" if held else "0.4",
            linestyle=next(held_out if held else training, (0, (1, 4))), marker=marker if len(rows) == 1 else "",
        )  # fmt: skip


def speeds(found: Sequence[tuple[Sequence[int], float, float]]) -> Figure:
    """Return top-1 against the time of an image for (steps of each block, seconds, share named right) of one net."""
    figure = Figure(figsize=(4.4, 3.4), layout="constrained")
    axes = figure.add_subplot(xlabel="ms an image", ylabel="top-1")
    points = sorted((1000 * seconds, top1, ", ".join(map(str, steps))) for steps, seconds, top1 in found)
    axes.plot([x for x, _, _ in points], [y for _, y, _ in points], color="0.4", marker="o", markersize=4)
    for x, y, name in points:
        axes.annotate(name, (x, y), xytext=(4, -11), textcoords="offset points", fontsize=8)
    axes.set_title("steps of each ODE block", fontsize=9)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
    axes.margins(0.12)
    _bare(axes)
    return figure


def _bare(*panels: Axes) -> None:
    """Take away the frame's upper and right sides."""
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write the figure to `path` atomically, in the format that its suffix names (.png, .svg, .pdf)."""
    # SVG has a date and random names, unless told otherwise: the same figure gives the same file
    undated = {"Date": None} if path.suffix == ".svg" else None
    with replacing(path) as temporary, rc_context({"svg.hashsalt": path.name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a box stands for what no font here has
        figure.savefig(temporary, format=path.suffix[1:], dpi=150, metadata=undated)
