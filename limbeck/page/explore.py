"""The engines that a compiler could choose, drawn: how fast each is, and how much of the part it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

_STYLES = {"DSP": "-", "BRAM": "--", "URAM": ":", "LUT": "-.", "FF": (0, (5, 1, 1, 1, 1, 1))}


@dataclass(frozen=True)
class Point:
    """An engine: its name, DSPs, images/s, and its share of each of the part's resources, 1 being all."""

    name: str
    dsps: int
    rate: float
    shares: Mapping[str, float]


def trade_off(points: Sequence[Point], chosen: int, title: str) -> Figure:
    """Return images/s over DSPs above the shares of the part's resources over DSPs; `chosen` is marked."""
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    dsps = [point.dsps for point in points]
    upper.plot(dsps, [point.rate for point in points], color="black", marker="o", markersize=4)
    here = points[chosen]
    upper.plot([here.dsps], [here.rate], "s", color="black", markerfacecolor="white", markersize=9, label="this design")
    for point in points:
        upper.annotate(point.name, (point.dsps, point.rate), (6, -10), textcoords="offset points", fontsize=7)
    upper.margins(x=0.1)
    upper.set(ylabel="images/s", title=title, xscale="log", yscale="log")
    upper.legend(frameon=False, loc="upper left")
    for name in here.shares:
        shares = [point.shares[name] for point in points]
        lower.plot(dsps, shares, color="black", linestyle=_STYLES[name], label=name)
    lower.set(xlabel="DSPs", ylabel="share of the part", ylim=(0, 1.02))
    lower.legend(frameon=False, ncols=len(here.shares), fontsize=8)
    lower.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    plain = FuncFormatter(lambda value, _: f"{value:,.0f}")
    for axes in (upper, lower):
        axes.xaxis.set_major_formatter(plain)
        axes.spines[["top", "right"]].set_visible(False)
    upper.yaxis.set_major_formatter(plain)
    lower.set_xticks(_apart(dsps))
    lower.minorticks_off()
    return figure


def _apart(values: Sequence[int]) -> list[int]:
    """Return those of the rising values that are a fifth above the one before, so that they can be read."""
    kept: list[int] = []
    for value in values:
        if not kept or value > 1.2 * kept[-1]:
            kept.append(value)
    return kept
