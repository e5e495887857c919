"""The data of a run: what its splits must agree on."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from limbeck.artefacts.predictions import _view
from limbeck.errors import InputError
from limbeck.images.folder import MissingSplitError
from limbeck.images.images import headers
from limbeck.images.loader import batches
from limbeck.images.source import evenly, in_memory
from limbeck.images.sources import open_source
from limbeck.nets.classifier import Input
from limbeck.training.run import begin_run
from limbeck.training.sets import centre, fitting, open_sets, to_compare
from limbeck.training.settings import Loading, Training, flat, parsed
from limbeck.ui.picture import uploaded, view_of
from limbeck.verbs.teach import teach


def save(path, red=100):
    """Make a noisy red image without green and blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[..., 0] = red + np.arange(64).reshape(8, 8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path):
    """train/ without classes, val/ with two."""
    for name in ("train/a", "train/b", "val/cat/c", "val/dog/d"):
        save(tmp_path / f"photos/{name}.png")
    return tmp_path / "photos"


def test_a_channel_that_never_varies_is_not_divided_by_nought(photos):
    assert open_sets(str(photos), Training(), labelled=False).std[1:] == (1 / 255, 1 / 255)


def test_an_unlabelled_heap_is_judged_by_labelled_images(photos):
    sets = open_sets(str(photos), Training(), classes=("other", "names"), labelled=False)
    assert sets.train.labels is None
    assert sets.held_out.labels.tolist() == [0, 1]
    assert sets.classes == ("cat", "dog")


def test_broken_images_are_told_of_in_every_split(photos):
    (photos / "val/cat/c.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"val/cat/c.png"):
        open_sets(str(photos), Training(), labelled=False)


def test_images_without_labels_teach_nothing(photos):
    with pytest.raises(InputError, match="has training images without labels; put them into class folders"):
        open_sets(str(photos), Training())


@pytest.mark.parametrize(("held_out", "right"), [((0, 1), True), ((0, 0), True), ((0, 2), False)])
def test_held_out_images_are_of_no_other_class(tmp_path, held_out, right):
    for prefix, labels in (("train", (0, 1)), ("t10k", held_out)):
        header = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 8])
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(header + bytes(range(128)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, *labels]))
    if right:
        assert open_sets(str(tmp_path), Training()).classes == ("0", "1")
    else:
        with pytest.raises(InputError, match=r"other classes held out \(0, 1, 2, ...\) than to train on \(0, 1, ...\)"):
            open_sets(str(tmp_path), Training())


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "said"), [(40, True), (20, False), (16, False)])
def test_few_steps_an_epoch_are_said(tmp_path, batch, said):
    told = []
    training = Training(limit=80, batch=batch)
    teach(
        data="digits:optdigits", model="resnet8", out=str(tmp_path / "run"), training=training, dry_run=True,
        tell=lambda event, values: told.append(str(values.get("text"))),
    )  # fmt: skip
    assert any("steps per epoch: 2;" in text for text in told) == said


def test_arguments_are_json_values_lists_of_them_or_words():
    given = ("width=8", "steps=3,2,2", "h=[0.5, 1]", "time=none", "keep=a,b", "act=", 'x={"a": 1, "b": 2}', "y=1,")
    assert parsed(given) == {
        "width": 8, "steps": [3, 2, 2], "h": [0.5, 1], "time": "none", "keep": "a,b", "act": "", "x": {"a": 1, "b": 2},
        "y": "1,",
    }  # fmt: skip


def test_a_batch_is_cut_to_the_images_that_there_are():
    told = []

    def fitted(images, ranks=1, **settings):
        return fitting(Training(**settings), images, ranks, lambda _, values: told.append(values["text"])).batch

    assert fitted(90) == 90
    assert told == ["a step takes 90 images, as there are 90: fewer than --batch 128"]
    assert fitted(128) == 128
    assert fitted(91, mixup=0.2) == 90
    assert fitted(91, batch=128, repeats=4) == 88
    assert fitted(90, ranks=4) == 22
    assert fitted(90, accumulate=3) == 30
    with pytest.raises(InputError, match="there are 2 training images; lower --accumulate or --repeats, or add images"):
        fitted(2, accumulate=3)


def test_unlabelled_reads_no_labels_into_folders_of_days(tmp_path):
    for i in range(6):
        path = tmp_path / f"field/{('monday', 'tuesday', 'camera 3')[i % 3]}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((100, 110 + i, 3), 9 * i, np.uint8)).save(path)
    sets = open_sets(str(tmp_path / "field"), Training(unlabelled=True), classes=("ant", "bee"), labelled=False)
    assert (len(sets.train), sets.train.labels, sets.held_out, sets.classes) == (6, None, None, ("ant", "bee"))
    with pytest.raises(InputError, match="--unlabelled leaves the labels of"):
        open_sets(str(tmp_path / "field"), Training(unlabelled=True))


def test_notes_of_the_data_are_told_once(photos):
    (photos / "train/x.psd").write_bytes(b"")
    told = []
    open_sets(str(photos), Training(), labelled=False, tell=lambda event, values: told.append((event, values["text"])))
    said = "files left out, as their format is not read: 1 .psd (first: train/x.psd)"
    assert told.count(("note", said)) == 1


SIZES = [
    [(40, 60)] * 4,
    [(40, 60), (60, 96), (30, 30), (96, 50)],
    [(40, 60), (97, 30), (200, 300), (96, 96)],
]


@pytest.mark.parametrize("sizes", SIZES)
def test_every_verb_sees_the_same_pixels_whatever_the_sizes_beside(tmp_path, sizes):
    seen = Input(24, 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.8)
    generator = np.random.default_rng(0)
    for i, (height, width) in enumerate(sizes):
        Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8)).save(tmp_path / f"{i}.png")
    source = open_source(str(tmp_path))
    stream = batches(source, centre(seen), batch=3, seed=0, epoch=0, shuffle=False, drop_last=False)
    # as evaluate has it
    shown = torch.cat([batch.images for batch in stream]).numpy().astype(int)
    for i, (height, width) in enumerate(sizes):
        path = tmp_path / f"{i}.png"
        alone = _view(path, next(iter(headers([path]))), seen).astype(int)  # as predict has it
        served = view_of(uploaded(path.read_bytes()), centre(seen)).astype(int)  # as serve has it
        assert (alone == served).all()
        assert abs(alone - shown[i]).max() <= 1  # Pillow rounds between its two passes, torch once
        share = 1.0 if max(height, width) <= 96 else 0.8
        side = round(min(height, width) * share)
        top, left = (height - side) // 2, (width - side) // 2
        box = (left, top, left + side, top + side)
        expected = np.asarray(Image.open(path).resize((24, 24), Image.Resampling.BILINEAR, box=box)).transpose(2, 0, 1)
        assert (alone == expected).all()


def test_images_to_compare_on_need_no_labels(tmp_path, photos):
    assert to_compare("digits:mfeat", Loading()).labels is not None
    assert to_compare("digits:mfeat", Loading(unlabelled=True)).labels is None
    flat = tmp_path / "flat"
    flat.mkdir()
    for i in range(5):
        Image.fromarray(np.full((100, 110 + i, 3), 9 * i, np.uint8)).save(flat / f"{i}.png")
    assert (len(to_compare(str(flat), Loading())), to_compare(str(flat), Loading()).labels) == (5, None)
    two = tmp_path / "two"
    for name in ("train/a", "train/b", "val/a", "val/b"):
        (two / name).mkdir(parents=True)
        Image.fromarray(np.zeros((100, 110, 3), np.uint8)).save(two / name / "0.png")
    with pytest.raises(MissingSplitError):  # labelled images have no such split, so it is not made up
        to_compare(str(two), Loading(), "test")


@pytest.mark.parametrize(("images", "count"), [(100, 7), (100, 100), (5, 9), (3823, 100)])
def test_evenly_spaced_images_are_of_all_parts_of_a_sorted_set(images, count):
    source = in_memory(
        np.zeros((images, 1, 2, 2), np.uint8), np.arange(images), tuple(map(str, range(images))), spec="x", split="val"
    )
    chosen = evenly(source, count).labels
    assert len(chosen) == min(images, count)
    steps = chosen.diff()
    assert steps.max() - steps.min() <= 1
    assert chosen[0] == 0
    assert chosen[-1] >= images - images / count - 1


def test_more_epochs_say_what_the_schedule_does(tmp_path):
    told = []
    for epochs in (2, 2, 4):
        training = Training(epochs=epochs, resume=True)
        sets = open_sets("digits:optdigits", training)
        settings = flat(data="digits:optdigits", training=training)
        out, accelerator = str(tmp_path / "run"), Accelerator(cpu=True)
        begin_run(out, "teach", settings, sets, training, accelerator, tell=lambda _, values: told.append(values))
    (note,) = told
    assert note["text"].startswith("2 epochs became 4: the cosine now ends with the last of these")
