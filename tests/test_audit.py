"""Audits: the interval covers the truth, the sheet asks and is read, answers that can't be used are said."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.cli import main
from limbeck.deploy.audit import HEAD, Group, draw, estimate, read
from limbeck.errors import InputError
from limbeck.images.sources import open_source
from limbeck.nets import zoo


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """Return a folder of images in classes, and a net of random weights."""
    root, generator = tmp_path_factory.mktemp("there"), np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / "data" / name).mkdir(parents=True)
        for i in range(8):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "data" / name / f"{i}.png")
    zoo.save(zoo.create("resnet8", classes=("cat", "dog"), channels=3, size=8), root / "net")
    return {"data": root / "data", "run": root / "net"}


def audited(confidence, right, images, seed):
    """Return the estimate of an audit whose answers are the truth."""
    drawn = draw(confidence, images, np.random.default_rng(seed))
    return estimate([Group(size, len(places), int(right[places].sum())) for size, places in drawn])


# Beta parameters of the confidence, and how much too sure the classifier is
KINDS = {
    "good": (9, 1, 0),
    "middling": (3, 1.5, 0),
    "too sure": (9, 1, 0.25),
    "modest": (2, 2, -0.2),
    "best": (60, 1, 0),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("images", [20, 50])
def test_the_interval_covers_the_truth_in_nine_of_ten_audits(kind, images):
    generator = np.random.default_rng(1)
    alpha, beta, over = KINDS[kind]
    confidence = generator.beta(alpha, beta, 3000).clip(0.1, 1)
    right = generator.random(3000) < (confidence - over).clip(0, 1)
    made = [audited(confidence, right, images, seed) for seed in range(100)]
    assert sum(low <= right.mean() <= high for _, (low, high) in made) >= 90
    assert abs(np.mean([accuracy for accuracy, _ in made]) - right.mean()) < 0.03  # no bias: each group counts for all
    simple = 2 * 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / images)
    assert np.mean([high - low for _, (low, high) in made]) < max(1.3 * simple, 0.25)  # and the interval says something


def test_images_are_drawn_once_and_more_of_the_unsure():
    confidence = np.concatenate([np.full(900, 0.99), np.full(100, 0.5)])
    drawn = draw(confidence, 40, np.random.default_rng(0))
    places = np.concatenate([chosen for _, chosen in drawn])
    assert len(set(places.tolist())) == 40
    assert sum(size for size, _ in drawn) == 1000
    assert (places >= 900).sum() >= 8  # 4 in proportion


def test_few_images_are_all_asked_about():
    ((size, places),) = draw(np.linspace(0, 1, 7), 50, np.random.default_rng(0))
    assert size == 7
    assert sorted(places) == list(range(7))
    assert estimate([Group(7, 7, 4)]) == (4 / 7, (4 / 7, 4 / 7))


def answered(path, answer):
    """Fill a sheet in: `answer` gives the label of an image and its prediction."""
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    assert rows[0] == HEAD
    for row in rows[1:]:
        row[5] = answer(row[0], row[1])
    path.write_text("\n".join(",".join(row) for row in rows), encoding="utf-8")


def test_a_sheet_is_asked_answered_and_read(there, tmp_path, capsys):
    data, sheet = str(there["data"]), tmp_path / "audit.csv"
    source = open_source(data, "train", labelled=False)
    truth = {key: "cat" if "cat" in key else "dog" for key in source.keys}
    assert len(truth) == 16  # nothing is held out, as it is where labels are read
    words = ["audit", str(there["run"]), "--data", data, "--images", "6", "--out", str(sheet)]
    assert main(words) == 0
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert page.count('<img src="data:image/png;base64,') == min(6, len(source))
    assert "http" not in page.replace("http-equiv", "")
    assert main(["audit", str(sheet)]) == 0
    assert "0 of" in capsys.readouterr().out
    answered(sheet, lambda image, _: truth[image])
    found = read(sheet)
    assert found.answered == found.asked
    assert found.interval[0] <= found.accuracy <= found.interval[1]
    answered(sheet, lambda _, predicted: predicted.upper())
    assert read(sheet).accuracy == 1
    answered(sheet, lambda *_: "none")
    assert read(sheet).accuracy == 0
    assert main(words) == 2  # answers are never replaced
    assert "audit.csv" in capsys.readouterr().err


def test_the_photos_may_lie_in_folders_that_are_no_classes(there, tmp_path, capsys):
    days = tmp_path / "days"
    for name in ("monday", "tuesday/front", "tuesday/back"):
        (days / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (8, 8), (i, i, i)).save(days / name / f"{i}.png")
    assert main(["audit", str(there["run"]), "--data", str(days), "--out", str(tmp_path / "s.csv")]) == 0
    images = [line.split(",")[0] for line in (tmp_path / "s.csv").read_text().splitlines()[1:]]
    assert sorted(images) == sorted(str(path.relative_to(days)) for path in days.rglob("*.png"))


@pytest.mark.parametrize("failing", ["image,predicted", "<!doctype html"])
def test_the_sheet_and_its_page_are_both_written_or_neither(there, tmp_path, monkeypatch, capsys, failing):
    write = Path.write_text

    def full(path, text, **named):
        if text.startswith(failing):
            raise OSError(28, "No space left on device")
        return write(path, text, **named)

    monkeypatch.setattr(Path, "write_text", full)
    words = ["audit", str(there["run"]), "--data", str(there["data"]), "--out", str(tmp_path / "s.csv")]
    assert main(words) == 2
    assert "No space left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


ROWS = ["image,predicted,confidence,group,group_size,label", "a.png,cat,0.5,1,9,dog", "b.png,dog,0.9,2,90,dog"]


def test_what_a_sheet_says_is_counted_by_group(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("\n".join([*ROWS, "c.png,horse,0.9,2,90,hosre"]).replace(",", ";"))
    found = read(path)
    assert found.groups == (Group(9, 1, 0), Group(90, 2, 1))
    assert found.accuracy == pytest.approx(45 / 99)
    assert found.images == 99
    assert found.confused == (("cat", "dog", 1), ("horse", "hosre", 1))
    assert found.strange == ("hosre",)
    assert "misspelt" in str(found.rows())


def test_a_group_without_answers_leaves_the_accuracy_open(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("\n".join([*ROWS[:2], "b.png,dog,0.9,2,90,"]))
    assert read(path).accuracy is None
    assert ("accuracy", "unknown: each group needs an answer") in read(path).rows()


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (["x,y"], "is no sheet of limbeck audit"),
        (ROWS[:1], "names no images"),
        ([*ROWS, "c.png,cat,0.5"], "line 4: 3 cells, but the first line has 6"),
        ([*ROWS, "c.png,cat,much,1,9,"], "line 4: could not convert"),
        ([*ROWS, "c.png,cat,0.5,1,8,"], "line 4: leave all columns"),
        ([*ROWS, "c.png,cat,nan,1,9,"], "line 4: leave all columns"),
        ([ROWS[0], "a.png,cat,0.5,1,1,cat", "b.png,cat,0.5,1,1,cat"], "2 images of group 1, which has 1"),
    ],
)
def test_a_sheet_that_can_not_be_read_is_said(tmp_path, rows, fault):
    path = tmp_path / "s.csv"
    path.write_text("\n".join(rows))
    with pytest.raises(InputError, match=fault):
        read(path)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["a.csv", "--data", "x"], "needs? neither"),
        (["runs/a"], "give --data and --out"),
        (["runs/a", "--data", "x", "--out", "sheet"], "does not end in .csv"),
        (["{run}", "--data", "{data}", "--out", "s.csv", "--images", "1"], "at least 4 are needed"),
        (["gone.csv"], "can't be read as text"),
    ],
)
def test_what_can_not_be_audited_is_said(there, tmp_path, monkeypatch, capsys, words, fault):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", *(word.format_map(there) for word in words)]) == 2
    assert re.search(fault, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
