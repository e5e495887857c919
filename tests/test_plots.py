"""Plots: they show the values that they are given, in greyscale, and the same figure gives the same file."""

import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from limbeck.errors import InputError
from limbeck.learn.evaluate import Bin
from limbeck.page import plots

NAN = float("nan")
BINS = (Bin(0.0, 0.5, 1, 0.4, 0.0), Bin(0.5, 0.75, 0, NAN, NAN), Bin(0.75, 1.0, 3, 0.9, 2 / 3))
HISTORY = [
    {"epoch": 1, "lr": 0.1, "loss": 2.0, "accuracy": 0.25, "val_nll": 2.1, "val_top1": 0.2},
    {"epoch": 2, "lr": 0.0, "loss": 1.0, "accuracy": 0.5},
    {"epoch": 3, "lr": 0.0, "loss": 0.5, "accuracy": 0.75, "val_nll": 0.7, "val_top1": 0.6},
]


def test_confusion_shows_shares_of_the_true_class_and_its_counts():
    matrix = np.array([[8, 2, 0], [0, 0, 5], [0, 0, 0]])
    (axes,) = plots.confusion(matrix, ("cat", "dog", "owl")).axes
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array(), [[0.8, 0.2, 0], [0, 0, 1], [0, 0, 0]])
    counts = {(*text.get_position(), text.get_text()) for text in axes.texts}
    assert counts == {(0, 0, "8"), (1, 0, "2"), (2, 1, "5")}  # (said, true)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("said", "true")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "owl"]


def test_counts_can_be_read_on_their_cells():
    counts = np.array([[k, 100 - k] for k in range(0, 101, 4)])
    for row in counts:
        (axes,) = plots.confusion(np.array([row, row]), ("a", "b")).axes
        (image,) = axes.images
        for text in axes.texts:
            cell = image.cmap(image.norm(row[text.get_position()[0]] / 100))
            assert abs(cell[0] - to_rgb(text.get_color())[0]) > 0.4


@pytest.mark.parametrize("count", [21, 60, 61, 150])
def test_many_classes_get_a_scale_instead_of_counts(count):
    axes, bar = plots.confusion(np.eye(count, dtype=int), [f"class {i}" for i in range(count)]).axes
    assert not axes.texts
    assert bar.get_ylabel() == "share of the true class's images"
    named = axes.get_xticklabels()[1].get_text() == "class 1"
    assert named == (count <= 60)


def test_names_are_shortened_and_never_read_as_formulas():
    (axes,) = plots.confusion(np.eye(2, dtype=int), ("$5 bill$", "a name of more than twenty-four letters")).axes
    dollars, long = axes.get_xticklabels()
    assert dollars.get_text() == "$5 bill$"
    assert not dollars.get_parse_math()
    assert long.get_text() == "a name of more than twe…"


def test_reliability_shows_filled_bins_and_the_error():
    figure = plots.reliability(BINS)
    upper, lower = figure.axes
    _, measured = upper.lines
    np.testing.assert_allclose(measured.get_xydata(), [[0.4, 0.0], [0.9, 2 / 3]])
    assert [bar.get_height() for bar in lower.patches] == [0.25, 0, 0.75]
    assert [(bar.get_x(), bar.get_width()) for bar in lower.patches] == [(0, 0.5), (0.5, 0.25), (0.75, 0.25)]
    assert (lower.get_xlabel(), upper.get_ylabel()) == ("confidence", "accuracy")
    error = 0.25 * 0.4 + 0.75 * (0.9 - 2 / 3)
    assert upper.get_title() == f"expected calibration error {error:.1%}"


def test_curves_show_losses_and_shares_over_the_epochs_that_have_them():
    losses, shares = plots.curves(HISTORY).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for axes in (losses, shares) for line in axes.lines}
    assert drawn == {
        "training loss": [[1, 2], [2, 1], [3, 0.5]],
        "held-out nll": [[1, 2.1], [3, 0.7]],
        "training accuracy": [[1, 0.25], [2, 0.5], [3, 0.75]],
        "held-out top1": [[1, 0.2], [3, 0.6]],
    }
    assert (losses.get_ylabel(), shares.get_ylabel()) == ("loss", "share of images")
    assert losses.get_xlabel() == "epoch"


def test_curves_differ_without_colour():
    rows = [{"epoch": i, "loss": 1.0, "similarity": 1.0, "discriminator": 1.0, "val_nll": 1.0} for i in (1, 2)]
    for history in (rows, rows[:1]):
        (axes,) = plots.curves(history).axes
        looks = {(line.get_color(), str(line._dash_pattern), line.get_marker()) for line in axes.lines}
        assert len(looks) == 4
        assert all(len(set(to_rgb(line.get_color()))) == 1 for line in axes.lines)


def test_no_epochs_give_no_curves():
    assert not plots.curves([]).axes


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_files_are_whole_and_repeatable(tmp_path, suffix):
    one, two = ((tmp_path / folder / "curves").with_suffix(suffix) for folder in "ab")
    for path in (one, two):
        plots.save(plots.curves(HISTORY), path)
    assert one.read_bytes() == two.read_bytes()
    if suffix == ".png":
        with Image.open(one) as image:
            assert image.size == (1320, 510)
    else:
        assert ET.parse(one).getroot().tag.endswith("svg")


def test_names_that_no_font_has_are_no_error(tmp_path):
    plots.save(plots.confusion(np.eye(2, dtype=int), ("鳥", "犬")), tmp_path / "birds.png")
    assert (tmp_path / "birds.png").stat().st_size > 0


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    plots.save(plots.curves(HISTORY), path)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(InputError, match="No space left on device"):
        plots.save(plots.curves(HISTORY), path)
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
    assert path.read_bytes() == before


def test_saving_leaves_matplotlibs_settings_alone(tmp_path):
    before = dict(mpl.rcParams)
    plots.save(plots.curves(HISTORY), tmp_path / "curves.svg")
    assert dict(mpl.rcParams) == before
