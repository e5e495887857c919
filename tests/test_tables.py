"""Tables of images: what is read of them, what is refused, and that they are as good as a folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.cli import main
from limbeck.errors import InputError
from limbeck.images.folder import MissingSplitError
from limbeck.images.sources import open_source
from limbeck.images.table import cells_of

NAMES = ["a/one.png", "a/two.png", "three.png", "b/four.png", "b/five.png", "six.png"]
ANIMALS = ["cat", "dog", "cat", "dog", "cat", "dog"]


@pytest.fixture
def images(tmp_path):
    for shade, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 40 * shade, np.uint8)).save(tmp_path / name)
    return tmp_path


def csv_of(folder, *lines, name="labels.csv"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def labelled(source):
    return {key: source.classes[label] for key, label in zip(source.keys, source.labels.tolist(), strict=True)}


def rows(names=NAMES, animals=ANIMALS):
    return [f"{name},{animal}" for name, animal in zip(names, animals, strict=True)]


def test_a_table_without_splits_is_held_out_as_class_folders_are(images):
    spec = csv_of(images, "file,label", *rows())
    train, val = open_source(spec, "train"), open_source(spec, "val")
    assert labelled(train) | labelled(val) == dict(zip(NAMES, ANIMALS, strict=True))
    assert not set(train.keys) & set(val.keys)
    assert train.classes == val.classes == ("cat", "dog")
    shades = {
        key: int(shown[0, 0, 0])
        for source in (train, val)
        for key, shown in zip(source.keys, source.pixels, strict=True)
    }
    assert shades == {name: 40 * place for place, name in enumerate(NAMES)}
    with pytest.raises(MissingSplitError):
        open_source(spec, "test")


def written(form):
    """Return the file's name and text of the same table: four images of train, two of val."""
    cells = list(zip(NAMES, ANIMALS, ["train"] * 4 + ["val"] * 2, strict=True))
    match form:
        case "csv":
            return "t.csv", "\ufeffImage_Path,Category,Subset\r\n" + "\r\n".join(
                f"{f},{c},{s.upper()}" for f, c, s in cells
            )
        case "semicolons":
            return "t.csv", "\n".join(["path;class;split", *(";".join(row) for row in cells)])
        case "tsv":
            return "t.tsv", "\n".join(["split\tlabel\tid\tfile", *(f"{s}\t{c}\t7\t{f}" for f, c, s in cells)])
        case "json":
            return "t.json", json.dumps(
                [{"file": f, "label": c, "split": s.replace("val", "dev")} for f, c, s in cells]
            )
        case _:
            lines = [json.dumps({"file_name": f"./{f}", "label": c, "set": s}) for f, c, s in cells]
            return "t.jsonl", "\n".join(lines)


@pytest.mark.parametrize("form", ["csv", "semicolons", "tsv", "json", "jsonl"])
def test_every_form_says_the_same(images, form):
    name, text = written(form)
    (images / name).write_text(text, encoding="utf-8")
    train, val = open_source(str(images / name), "train"), open_source(str(images / name), "val")
    assert labelled(train) == dict(zip(NAMES[:4], ANIMALS[:4], strict=True))
    assert labelled(val) == dict(zip(NAMES[4:], ANIMALS[4:], strict=True))
    assert [int(pixel) for pixel in val.pixels[:, 0, 0, 0]] == [40 * NAMES.index(key) for key in val.keys]


def test_an_object_of_file_and_class_is_a_table_and_numbers_are_names(images):
    path = images / "t.json"
    path.write_text(json.dumps({name: number for name, number in zip(NAMES, [0, 10, 2, 0, 10, 2], strict=True)}))
    source = open_source(str(path), "train")
    assert source.classes == ("0", "10", "2")  # sorted as folders of these names are


def test_absolute_names_within_the_folder_are_taken(images):
    spec = csv_of(images, "file,label", *rows([str(images / name) for name in NAMES]))
    assert set(open_source(spec, "train").keys) <= set(NAMES)


def test_without_classes_it_is_an_unlabelled_set(images):
    spec = csv_of(images, "file", *NAMES)
    source = open_source(spec, "train")
    assert source.labels is None
    assert sorted(source.keys) == sorted(NAMES)
    labelled_one = csv_of(images, "file,label", *rows(), name="labelled.csv")
    assert open_source(labelled_one, "train", labelled=False).fingerprint == source.fingerprint
    with pytest.raises(MissingSplitError, match="no column of classes"):
        open_source(spec, "val")


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([], "names no images"),
        (["file,label"], "names no images"),
        (["a/one.png,cat", "a/two.png,dog"], r"no column of image files in its first line \('a/one.png', 'cat'\)"),
        (["file,path,label", "a/one.png,a/one.png,cat"], "columns file and path, which both may be the file"),
        (["file,label", "a/one.png,cat", "a/two.png"], "line 3: 1 cells, but the first line has 2"),
        (["file,label", "../x.png,cat", "a/two.png,dog"], "line 2: '../x.png' does not lie in the table's folder"),
        (["file,label", "/etc/x.png,cat", "a/two.png,dog"], "line 2: '/etc/x.png' does not lie"),
        (["file,label", ".,cat", "a/two.png,dog"], "line 2: '.' does not lie"),
        (["file,label", "a\0b.png,cat", "a/two.png,dog"], "line 2: .* does not lie"),
        (["file,label", "a/one.png,cat", "a/../a/one.png,dog"], "line 3: a/one.png is there twice"),
        (["file,label", "a/one.png,cat", "a/two.png,"], "line 3: a/two.png has no class"),
        (["file,label", "a/one.png,cat", "a/two.png,cat"], "names one class only"),
        (["file,label,split", "a/one.png,cat,train", "a/two.png,dog,tset"], "line 3: 'tset' is no split"),
        (["file,label,split", "a/one.png,cat,train", "a/two.png,dog,"], "line 3: there is no split"),
        (["file,label,split", "a/one.png,cat,val", "a/two.png,dog,val"], "no images of train, only of val"),
        (["file,label", "a/one.png,cat", "gone.png,dog"], "1 of 2 images in .* can't be used: gone.png"),
    ],
)  # fmt: skip
def test_what_can_not_be_used_is_said(images, lines, fault):
    with pytest.raises(InputError, match=fault):
        open_source(csv_of(images, *lines), "train")


def test_a_class_of_val_that_train_lacks_is_refused(images):
    lines = ["file,label,split", "a/one.png,cat,train", "a/two.png,dog,train", "three.png,cow,val"]
    with pytest.raises(InputError, match="line 4: the class 'cow' has no training images"):
        open_source(csv_of(images, *lines), "val")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "neither a list"),
        ("3", "neither a list"),
        ('[{"label": "cat"}]', "entry 1 has no image file"),
        ('[{"file": ["x"], "label": "cat"}]', r"entry 1: its file is .*, not a name"),
        ('{"a/one.png": null}', "entry 1: its class is 'None', not a name"),
    ],
)
def test_json_that_can_not_be_used_is_said(images, text, fault):
    (images / "t.json").write_text(text)
    with pytest.raises(InputError, match=fault):
        open_source(str(images / "t.json"), "train")


def test_verbs_take_a_table_as_they_take_a_folder(images, tmp_path, capsys):
    for number in range(12):
        Image.fromarray(np.full((8, 8), 255 * (number % 2), np.uint8)).save(images / f"{number:02}.png")
    spec = csv_of(images, "file,label", *(f"{n:02}.png,{'white' if n % 2 else 'black'}" for n in range(12)))
    run = str(tmp_path / "run")
    assert main(["data", spec]) == 0
    assert "white" in capsys.readouterr().out
    words = ["--model", "resnet8", "--epochs", "1", "--batch", "4", "--out", run]
    assert main(["teach", "--data", spec, *words]) == 0
    assert main(["evaluate", run, "--data", spec, "--split", "val"]) == 0
    capsys.readouterr()
    assert main(["predict", run, spec]) == 2


def test_cells_are_read_alike_whatever_stands_between_them():
    lines = [["a", "b"], ["x, y", "2"], ["", "3"]]
    expected = [(1, lines[0]), (2, lines[1]), (4, lines[2])]
    assert cells_of(Path("t.csv"), 'a,b\n"x, y",2\n\n,3\n') == expected
    assert cells_of(Path("t.csv"), "a;b\nx, y; 2\n ; \n;3\n") == expected
    assert cells_of(Path("t.tsv"), "a\tb\nx, y\t2\n\n\t3") == expected
    assert cells_of(Path("t.csv"), "") == []
    with pytest.raises(InputError, match="line 2: 1 cells, but the first line has 2"):
        cells_of(Path("t.csv"), "a,b\nx\n")
