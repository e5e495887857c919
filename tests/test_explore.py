"""The picture of the choices shows every engine where it is, and which one was taken."""

import numpy as np
import pytest

from limbeck.page import plots
from limbeck.page.explore import Point, trade_off

POINTS = [
    Point("1 x 4 x 4", 60, 650.0, {"DSP": 0.03, "BRAM": 0.1}),
    Point("2 x 4 x 4", 68, 1301.0, {"DSP": 0.04, "BRAM": 0.1}),
    Point("8 x 8 x 16", 928, 40323.0, {"DSP": 0.54, "BRAM": 0.29}),
]


def test_every_engine_is_where_its_figures_are():
    upper, lower = trade_off(POINTS, 1, "title").axes
    rates, chosen = upper.lines
    np.testing.assert_array_equal(rates.get_xydata(), [[60, 650], [68, 1301], [928, 40323]])
    np.testing.assert_array_equal(chosen.get_xydata(), [[68, 1301]])
    assert {(text.get_text(), *text.xy) for text in upper.texts} == {(p.name, p.dsps, p.rate) for p in POINTS}
    shares = {line.get_label(): line.get_ydata().tolist() for line in lower.lines}
    assert shares == {"DSP": [0.03, 0.04, 0.54], "BRAM": [0.1, 0.1, 0.29]}
    assert upper.get_title() == "title"


def test_what_lies_close_is_named_once_on_the_axis():
    _, lower = trade_off(POINTS, 0, "").axes
    assert lower.get_xticks().tolist() == [60, 928]


def test_resources_differ_without_colour():
    names = ("DSP", "BRAM", "URAM", "LUT", "FF")
    points = [Point(str(i), 10 + i, 1.0 + i, dict.fromkeys(names, 0.1)) for i in range(2)]
    _, lower = trade_off(points, 0, "").axes
    assert len({repr(line._dash_pattern) for line in lower.lines}) == len(names)


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_one_engine_alone_is_drawn(tmp_path, kind):
    plots.save(trade_off(POINTS[:1], 0, "alone"), tmp_path / f"one.{kind}")
    assert (tmp_path / f"one.{kind}").stat().st_size > 1000
