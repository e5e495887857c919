"""Charts: they show the values that they are given, nothing by colour alone, and stand alone as files."""

import math
import re
from importlib.resources import files
from itertools import pairwise
from xml.etree import ElementTree

import pytest
import torch
from report_runs import SCRIPT

from limbeck.learn.evaluate import Answers, Bin, Evaluation, figures
from limbeck.page import charts, svg
from limbeck.page.values import Change, Cloud

NAN = float("nan")
BINS = (Bin(0.0, 0.5, 1, 0.4, 0.0), Bin(0.5, 0.75, 0, NAN, NAN), Bin(0.75, 1.0, 3, 0.9, 2 / 3))
HISTORY = [
    {"epoch": 1, "lr": 0.1, "loss": 2.0, "accuracy": 0.25, "val_nll": 2.1, "val_top1": 0.2},
    {"epoch": 2, "lr": 0.0, "loss": 1.0, "accuracy": 0.5},
    {"epoch": 3, "lr": 0.0, "loss": 0.5, "accuracy": 0.75, "val_nll": 0.7, "val_top1": 0.6},
]
ENGINES = [
    charts.Engine("1 x 4 x 4", 60, 650.0, {"DSP": 0.03, "BRAM": 0.1}),
    charts.Engine("2 x 4 x 4", 120, 1300.0, {"DSP": 0.06, "BRAM": 0.1}),
    charts.Engine("8 x 8 x 16", 960, 41600.0, {"DSP": 0.54, "BRAM": 0.29}),
]


def judged(rows: list[list[int]]) -> Evaluation:
    """An evaluation with this confusion matrix."""
    pairs = [(i, j) for i, row in enumerate(rows) for j, images in enumerate(row) for _ in range(images)]
    true, predicted = torch.tensor(pairs).T
    logits = torch.nn.functional.one_hot(predicted, len(rows)).float()
    return figures(Answers(logits, true), [f"class {i}" for i in range(len(rows))])


def tree(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)


def points(root: ElementTree.Element, class_: str) -> list[list[tuple[float, float]]]:
    """The corners of each path of a class."""
    drawn = [path.get("d") for path in root.iter("path") if path.get("class") == class_]
    return [[tuple(map(float, pair.split())) for pair in d[1:].split("L")] for d in drawn]


def gaps(values: list[float]) -> list[float]:
    """The distances between neighbours as shares of the whole."""
    return [(b - a) / (values[-1] - values[0]) for a, b in pairwise(values)]


def test_a_trade_off_is_logarithmic_across_and_linear_up():
    nets = [charts.Point(name, None, x, share, None) for name, x, share in
            (("a", 1.0, 0.2), ("b", 10.0, 0.4), ("c", 1000.0, 1.0))]  # fmt: skip
    marks = [mark for mark in tree(charts.trade_off(nets, "t", "time", "s")).iter("circle")]
    assert gaps([float(mark.get("cx")) for mark in marks]) == pytest.approx([1 / 3, 2 / 3], abs=1e-3)
    assert gaps([float(mark.get("cy")) for mark in marks]) == pytest.approx([0.25, 0.75], abs=1e-3)


def test_every_role_has_its_own_mark():
    roles = (None, "teacher", "labels", "distilled", "adapted", "program", "onnx")
    marks = [charts.mark(role, 0.0, 0.0) for role in roles]
    shapes = {re.sub(r'class="[^"]*"', "", mark) for mark in marks}
    assert len(shapes) == len(roles) - 1, "labels and program are the same square, the latter filled"


def test_engines_are_where_their_figures_are_and_the_chosen_one_looks_otherwise():
    root = tree(charts.engines(ENGINES, 1, "t"))
    (line,) = points(root, "curve")
    assert gaps([x for x, _ in line]) == pytest.approx([0.25, 0.75], abs=0.01)  # 2 and 8 times the DSPs, logarithmic
    assert gaps([y for _, y in line]) == pytest.approx([1 / 6, 5 / 6], abs=0.01)  # 2 and 32 times the images/s
    chosen = [mark for mark in root.iter("polygon")]
    centre = [float(v) for v in chosen[0].get("points").split()[0].split(",")]
    assert len(chosen) == 1
    assert centre[0] == pytest.approx(line[1][0], abs=0.1)
    ((_, *dsp),) = points(root, "curve solid-1")
    assert gaps([y for _, y in points(root, "curve solid-1")[0]]) == pytest.approx([3 / 51, 48 / 51], abs=0.01)
    assert len(dsp) == 2
    words = {text.text for text in root.iter("text")}
    assert {"2 x 4 x 4", "DSP", "BRAM", "DSPs"} <= words


def test_resources_differ_without_colour():
    names = ("DSP", "BRAM", "URAM", "LUT", "FF")
    engines = [charts.Engine(str(i), 10 + i, 1.0 + i, dict.fromkeys(names, 0.1)) for i in range(2)]
    root = tree(charts.engines(engines, 0, "t"))
    style = (files("limbeck.page") / "templates" / "charts.css").read_text()
    classes = [line.get("class").split()[1] for line in root.iter("line") if "curve" in line.get("class")]
    dashes = [re.search(rf"\.{name} {{.*?stroke-dasharray: ([^;]*);", style) for name in classes]
    assert len({found and found[1] for found in dashes}) == len(names)


def test_confusion_has_counts_in_rows_of_the_true_class():
    root = tree(charts.confusion(judged([[8, 2, 0], [0, 0, 5], [0, 0, 1]]), "t"))
    texts = [text for text in root.iter("text") if "count" in text.get("class")]
    counts = {text.text: (float(text.get("x")), float(text.get("y"))) for text in texts}
    assert set(counts) == {"8", "2", "5", "1"}
    assert counts["8"][1] == counts["2"][1] < counts["5"][1] < counts["1"][1]
    assert counts["8"][0] < counts["2"][0] < counts["5"][0] == counts["1"][0]
    kinds = [rect.get("class") for rect in root.iter("rect")]
    assert kinds == ["right", "wrong", "none", "none", "none", "wrong", "none", "none", "right"]


@pytest.mark.parametrize("count", [31, 60, 61, 700])
def test_many_classes_have_shades_instead_of_counts(count):
    rows = torch.eye(count, dtype=torch.int64) * 3
    rows[2, 5] = 1
    root = tree(charts.confusion(judged(rows.tolist()), "t"))
    assert not [text for text in root.iter("text") if "count" in text.get("class")]
    squares = {
        path.get("class"): path.get("d").count("z") for path in root.iter("path") if path.get("class") == "wrong"
    }
    right = sum(path.get("d").count("z") for path in root.iter("path") if path.get("class") == "right")
    assert (squares, right) == ({"wrong": 1}, count)
    named = [text.text for text in root.iter("text")]
    assert ("class 1" in named) == (count <= 60)
    (wrong,) = (path for path in root.iter("path") if path.get("class") == "wrong")
    assert float(wrong.get("fill-opacity")) == math.ceil(8 * math.sqrt(1 / 4)) / 8


def test_counts_can_be_read_on_their_cells():
    for colours in (svg.LIGHT, svg.DARK):
        for correct in (8, 92):
            rows = [[correct, 100 - correct], [0, 1]]
            root = tree(charts.confusion(judged(rows), "t"))
            cells, texts = list(root.iter("rect")), [t for t in root.iter("text") if "count" in t.get("class")]
            for cell, text in ((cells[0], texts[0]), (cells[1], texts[1])):
                ground = mixed(colours["accent" if cell.get("class") == "right" else "warm"], colours["paper"],
                               float(cell.get("fill-opacity")))  # fmt: skip
                ink = colours["paper" if "strong" in text.get("class") else "ink"]
                assert contrast(ink, ground) >= 3


def test_reliability_has_a_dot_for_every_bin_that_holds_images():
    drawn = charts.reliability(BINS, "t")
    dots = [(float(c.get("cx")), float(c.get("cy")), float(c.get("r"))) for c in tree(drawn).iter("circle")]
    (left, low, small), (right, high, large) = dots
    side = (right - left) / 0.5  # of the whole axis, confidence 0.4 to 0.9
    assert (low - high) / side == pytest.approx(2 / 3, abs=0.01)
    assert large > small


def test_curves_lie_over_the_epochs_that_have_them_and_held_out_ones_are_solid():
    root = tree(charts.curves(HISTORY, "t"))
    held_out, training = points(root, "curve solid-1"), points(root, "curve dash-1")
    assert [len(line) for line in held_out] == [2, 2]  # shares, then losses
    assert [len(line) for line in training] == [3, 3]
    accuracy, loss = training
    assert gaps([y for _, y in accuracy]) == pytest.approx([0.5, 0.5], abs=0.01)
    assert gaps([y for _, y in loss]) == pytest.approx([2 / 3, 1 / 3], abs=0.01)
    assert [held_out[0][0][0], held_out[0][1][0]] == [accuracy[0][0], accuracy[2][0]]
    assert {"held-out top-1", "accuracy", "held-out NLL", "loss"} <= {text.text for text in root.iter("text")}


def test_what_is_not_finite_is_a_gap():
    drawn = charts.curves([{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": NAN}, {"epoch": 3, "loss": math.inf}], "t")
    assert "nan" not in drawn
    assert "inf" not in drawn


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("low", "high"), [(1, 2), (0.001, 900), (12, 13.5), (1e4, 5e7), (0.9, 0.97)])
def test_ticks_are_inside_and_not_too_many(low, high, log):
    ticks = svg.Scale(low, high, 0, 1, log).ticks(5)
    assert 1 <= len(ticks) <= 7
    assert all(low * (1 - 1e-9) <= tick <= high * (1 + 1e-9) for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_a_scale_maps_its_ends_to_its_ends():
    for log in (False, True):
        scale = svg.Scale(2, 32, 10, 90, log)
        assert (scale(2), scale(32)) == (10, 90)
    assert svg.Scale(2, 32, 10, 90, log=True)(8) == pytest.approx(50)
    assert svg.Scale(3, 3, 10, 90)(3) == 50


def test_text_in_pictures_is_escaped():
    written = svg.text(0, 0, SCRIPT, "x")
    assert "<script" not in written
    assert tree(written).text == SCRIPT


@pytest.mark.parametrize("count", [1, 2, 40])
def test_charts_take_few_and_many_and_stand_alone(count):
    nets = [charts.Point(f"net {i}", "teacher", 10.0 ** (i % 7), i / count, (0, 1)) for i in range(count)]
    rows = [{"epoch": e + 1, "loss": 1.0, "accuracy": 0.0, "x": -1.0} for e in range(count)]
    engines = [charts.Engine(f"{i}", 2**i, 3.0**i, {"DSP": i / 40}) for i in range(count)]
    bins = [Bin(0, 1, count, 0.5, 0.5), Bin(1, 1, 0, NAN, NAN)]
    cloud = Cloud(tuple((i, -i) for i in range(count)), ((0.0, 0.0),), 1.0)
    for drawn in (
        charts.trade_off(nets, "t", "size", "B"),
        charts.trade_off(nets, "t", "latency", "s"),
        charts.engines(engines, count // 2, "t"),
        charts.curves(rows, "t"),
        charts.confusion(judged(torch.eye(max(count, 2), dtype=torch.int64).tolist()), "t"),
        charts.reliability(bins, "t"),
        charts.changes([Change(f"c{i}", 0.5, i / count) for i in range(count)], "t", better=True),
        charts.changes([Change(f"c{i}", 0.0, i / 50) for i in range(count)], "t", better=False),
        charts.cloud(cloud, "t"),
    ):
        assert tree(drawn).find("title").text == "t"
        assert "nan" not in drawn
        alone = svg.standalone(drawn, f"a {SCRIPT} heading", "note")
        root = tree(alone)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(root.get("width")) >= float(tree(drawn).get("viewBox").split()[2])
        assert root.find("{*}title").text == "t"
        assert f"a {SCRIPT} heading" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
        assert "var(" not in alone
        assert not re.search(r"url\(|@import|<script|href", alone)


def test_a_file_has_the_colours_of_light_and_of_dark_once_each():
    style = tree(svg.standalone(charts.reliability(BINS, "t"), "h")).find("{*}style").text
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for words, own, other in ((light, svg.LIGHT, svg.DARK), (dark, svg.DARK, svg.LIGHT)):
        assert f".ground {{ fill: {own['paper']}; }}" in words
        assert not any(colour in words for colour in other.values())


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def mixed(colour: str, ground: str, opacity: float) -> str:
    pairs = [(int(colour[i : i + 2], 16), int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a * opacity + b * (1 - opacity)):02x}" for a, b in pairs)


@pytest.mark.parametrize("colours", [svg.LIGHT, svg.DARK])
def test_type_stands_out_from_its_ground_in_light_and_dark(colours):
    for ground in (colours["paper"], colours["raised"]):
        for ink, least in (("ink", 7), ("muted", 4.5), ("accent", 4.5), ("warm", 4.5), ("soft", 3)):
            assert contrast(colours[ink], ground) >= least, ink
