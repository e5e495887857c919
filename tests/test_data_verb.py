"""limbeck data: the report."""

import json

import numpy as np
import pytest
from PIL import Image

from limbeck.errors import InputError
from limbeck.verbs.data import data


def save(path, height=100, width=120, seed=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    """train: cat 3, dog 2; val: 1 + 1. val/cat/x repeats train/cat/0; train/dog/1 repeats train/cat/1."""
    for i in range(3):
        save(tmp_path / f"train/cat/{i}.png", 100 + i, seed=i)
    save(tmp_path / "train/dog/0.png", 80, 300, seed=5, mode="L")
    save(tmp_path / "train/dog/1.png", 101, seed=1)
    save(tmp_path / "val/cat/x.png", 100, seed=0)
    save(tmp_path / "val/dog/y.png", seed=6)
    return tmp_path


def test_the_report_counts_images_classes_sizes_and_modes(photos):
    train, val = data(str(photos)).splits
    assert (train.split, train.images, train.classes) == ("train", 5, {"cat": 3, "dog": 2})
    assert (val.split, val.images, val.classes) == ("val", 2, {"cat": 1, "dog": 1})
    assert (train.smallest, train.largest) == ((80, 120), (102, 300))
    assert train.modes == {"L": 1, "RGB": 4}
    assert not train.in_memory


def test_equal_images_are_named_within_and_across_splits(photos):
    report = data(str(photos))
    assert report.duplicates == (
        ("train:train/cat/0.png", "val:val/cat/x.png"),
        ("train:train/cat/1.png", "train:train/dog/1.png"),
    )
    assert report.leaks == report.duplicates[:1]
    assert report.conflicts == report.duplicates[1:]


def test_mean_and_deviation_are_those_of_all_pixels(photos):
    split = data(str(photos), split="val").splits[0]
    values = [np.asarray(Image.open(path)).reshape(-1, 3) / 255 for path in photos.glob("val/*/*.png")]
    assert split.mean == pytest.approx(np.concatenate(values).mean(0))
    assert split.std == pytest.approx(np.concatenate(values).std(0))


def damage(path):
    content = bytearray(path.read_bytes())
    content[60:200] = bytes(140)
    path.write_bytes(content)


def test_broken_files_are_named_whether_the_header_or_the_pixels_are(photos):
    (photos / "train/dog/zero.png").write_bytes(b"")
    damage(photos / "train/cat/2.png")
    train = data(str(photos)).splits[0]
    assert train.images == 4
    assert train.classes == {"cat": 2, "dog": 2}
    assert train.broken[0] == "train/dog/zero.png (empty)"
    assert train.broken[1].startswith("train/cat/2.png (")


@pytest.mark.parametrize("bad", ["train/dog/zero.png", "train/cat/2.png"])
def test_fatal_stops_at_a_broken_file(photos, bad):
    if (photos / bad).exists():
        damage(photos / bad)
    else:
        (photos / bad).write_bytes(b"")
    with pytest.raises(InputError, match=bad):
        data(str(photos), on_broken="fatal")


def test_a_set_in_which_nothing_can_be_decoded_is_refused(tmp_path):
    damage(save(tmp_path / "only.png"))
    with pytest.raises(InputError, match="none of the 1 images of train can be decoded"):
        data(str(tmp_path))


def test_unlabelled_images_are_reported_without_classes(photos):
    (report,) = data(str(photos / "train/cat")).splits
    assert (report.images, report.classes) == (3, {})
    (report,) = data(str(photos / "train"), unlabelled=True).splits
    assert (report.images, report.classes) == (5, {})


def test_a_split_that_is_asked_for_must_be_there(photos):
    with pytest.raises(InputError, match="has no test/ folder"):
        data(str(photos), split="test")


def test_unlike_classes_are_an_error_not_a_missing_split(photos):
    (photos / "val/dog").rename(photos / "val/fox")
    with pytest.raises(InputError, match="it lacks dog and adds fox"):
        data(str(photos))


def test_progress_is_told_for_every_image(photos):
    told = []
    data(str(photos), tell=lambda event, values: told.append((event, values["image"], values["images"])))
    assert told == [("read", i, 7) for i in range(1, 8)]


def test_rows_and_json_say_what_the_report_says(photos):
    (photos / "train/dog/zero.png").write_bytes(b"")
    report = data(str(photos))
    rows = dict(report.rows())
    assert rows["train"] == "5 images, 2 classes"
    assert rows["train balance"] == "2 (dog) to 3 (cat) images per class"
    assert rows["val balance"] == "1 images per class"
    assert rows["train sizes"] == "80x120 to 102x300"
    assert rows["train modes"] == "1 L, 4 RGB"
    assert rows["train broken"] == "1: train/dog/zero.png (empty)"
    assert rows["in two splits"] == "1 images: train:train/cat/0.png = val:val/cat/x.png"
    assert rows["conflicting labels"] == "1 equal images: train:train/cat/1.png = train:train/dog/1.png"
    assert json.loads(json.dumps(report.to_json()))["splits"][0]["classes"] == {"cat": 3, "dog": 2}


def test_the_built_in_digits_have_no_leaks():
    report = data("digits:mfeat")
    assert [split.images for split in report.splits] == [1400, 300, 300]
    assert report.leaks == ()


@pytest.mark.parametrize("side", [20, 120])
def test_a_folder_of_floating_point_images_is_refused_in_a_sentence(tmp_path, side):
    for split in ("train", "val"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(np.ones((side, side), np.float32)).save(tmp_path / split / name / "0.tif")
    with pytest.raises(InputError, match="none of the 2 images of train can be decoded"):
        data(str(tmp_path))
