"""Sources: what they read, how they split, and that every bad input is named."""

import gzip
import io
import os
import pickle
import struct
import sys
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tools import need

from limbeck.errors import InputError
from limbeck.images import sources
from limbeck.images.folder import MissingSplitError
from limbeck.images.foreign import from_reader
from limbeck.images.images import FORMATS, extensions, formats, open_image
from limbeck.images.manifest import same_images
from limbeck.images.source import Source, hold_out, moments, pixels_of, spaced, subset
from limbeck.images.sources import open_source


def noise(height=20, width=30, channels=3, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return values[..., 0] if channels == 1 else values


def save(path, values=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (values if isinstance(values, Image.Image) else Image.fromarray(noise() if values is None else values)).save(
        path, **options
    )
    return path


@pytest.fixture
def photos(tmp_path):
    """2 classes; 3 + 2 images in train, 1 + 1 in val."""
    for i, name in enumerate(["train/cat/a", "train/cat/b", "train/cat/deep/er/c", "train/dog/a", "train/dog/b"]):
        save(tmp_path / f"photos/{name}.png", noise(20 + i, 120, seed=i))
    save(tmp_path / "photos/val/cat/d.jpg", noise(120, 99, seed=8))
    save(tmp_path / "photos/val/dog/e.jpg", noise(120, 99, seed=9))
    return tmp_path / "photos"


def refusal(*args, **options):
    with pytest.raises(InputError) as caught:
        open_source(*args, **options)
    return str(caught.value)


# ---- folders


def test_a_folder_gives_its_images_with_sorted_names_and_classes(photos):
    source = open_source(str(photos))
    assert source.keys == tuple(f"train/{k}.png" for k in ("cat/a", "cat/b", "cat/deep/er/c", "dog/a", "dog/b"))
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [0, 0, 0, 1, 1]
    assert source.sizes.tolist() == [[20 + i, 120] for i in range(5)]
    assert (source.channels, source.pixels, source.note, len(source)) == (3, None, "", 5)
    for i in range(5):
        assert np.array_equal(pixels_of(source, i), noise(20 + i, 120, seed=i))


def test_val_has_its_own_images(photos):
    assert open_source(str(photos), "val").keys == ("val/cat/d.jpg", "val/dog/e.jpg")


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_val_are_known(photos, name):
    (photos / "val").rename(photos / name)
    assert len(open_source(str(photos), "val")) == 2


def test_a_source_can_be_sent_to_a_worker(photos):
    for source in (open_source(str(photos)), subset(open_source("digits:"), [3, 1])):
        copy = pickle.loads(pickle.dumps(source))
        assert np.array_equal(pixels_of(copy, 1), pixels_of(source, 1))


def test_hidden_files_and_other_files_are_left_out(photos):
    save(photos / "train/cat/._a.png")
    save(photos / "train/.thumbs/cat/x.png")
    (photos / "train/cat/notes.txt").write_text("not an image")
    assert len(open_source(str(photos))) == 5


def test_files_that_are_left_out_are_counted_and_the_first_is_named(photos):
    for name in ("cat/x.psd", "cat/y.psd", "dog/z.txt"):
        (photos / f"train/{name}").write_bytes(b"not read")
    source = open_source(str(photos))
    assert len(source) == 5
    said = "files left out, as their format is not read: 2 .psd, 1 .txt (first: train/cat/x.psd)"
    assert source.note == said
    for name in ("cat", "dog"):
        for path in (photos / f"train/{name}").rglob("*.png"):
            path.unlink()
    assert refusal(str(photos)).endswith("; " + said)


def test_what_nas_boxes_macos_windows_and_editors_leave_is_no_image(photos):
    junk = ["@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "#recycle/a.png", "__MACOSX/._a.png", ".thumbnails/a.png", "a.png~"]
    for name in ("train/", "train/cat/", ""):
        for file in (*junk, "Thumbs.db", "desktop.ini", ".DS_Store"):
            path = photos / f"{name}{file}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"junk")
    source = open_source(str(photos))
    assert (len(source), source.note, source.classes) == (5, "", ("cat", "dog"))


def test_postscript_is_never_run_whatever_it_is_called(photos):
    (photos / "train/cat/x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    assert "x.png (not an image)" in refusal(str(photos))


def test_a_pipe_is_left_out_and_a_link_to_nothing_is_broken(photos):
    os.mkfifo(photos / "train/cat/pipe.png")  # opening it would wait for ever
    assert "1 .png (first: train/cat/pipe.png)" in open_source(str(photos)).note
    (photos / "train/cat/gone.png").symlink_to("nowhere.png")
    assert "train/cat/gone.png (no such file or directory)" in refusal(str(photos))


def test_links_are_followed_everywhere(photos):
    (photos.parent / "elsewhere").mkdir()
    for part in ("train/cat", "val"):
        (photos / part).rename(photos.parent / "elsewhere" / part.replace("/", "_"))
        (photos / part).symlink_to(photos.parent / "elsewhere" / part.replace("/", "_"))
    (photos / "train/dog/a.png").rename(photos.parent / "elsewhere/a.png")
    (photos / "train/dog/a.png").symlink_to(photos.parent / "elsewhere/a.png")
    (photos / "train/bird").symlink_to(photos / "train/dog")  # the same images twice, as the user has it
    assert torch.bincount(open_source(str(photos)).labels).tolist() == [2, 3, 2]
    assert len(open_source(str(photos), "val")) == 2


@pytest.mark.parametrize("names", [("Training", "Test"), ("TRAIN", "Validation"), ("train", "VAL"), ("Train", "dev")])
def test_split_folders_are_known_in_any_case(photos, names):
    for old, new in zip(("train", "val"), names, strict=True):
        (photos / old).rename(photos / new)
    train, val = (open_source(str(photos), split) for split in ("train", "val"))
    assert (len(train), len(val), train.classes) == (5, 2, ("cat", "dog"))


def folders(root, *names):
    for i, name in enumerate(names):
        for kind in ("a", "b"):
            save(root / f"{name}/{kind}/{i}.png", noise(20, 24, seed=i))
    return root


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("bus", "car", "train", "plane"), "holds train/ beside bus/, car/, plane/; if all are classes, put them into"),
        (("train", "Training"), "holds Training/ and train/, which both are train images"),
        (("val", "valid", "train"), "holds val/ and valid/, which both are val images"),
        (("train2017", "val2017"), "holds train2017/, val2017/, which look like splits; call them train/"),
        (("seg_train", "seg_test", "seg_pred"), "holds seg_test/, seg_train/, which look like splits"),
        (("Trian", "Tset"), "holds Trian/, Tset/, which look like splits"),
        (("train_images", "test_images", "masks"), "which look like splits"),
        (("train", "test", "tests"), "holds train/, test/ and also tests/, which may be a split"),
    ],
)
@pytest.mark.parametrize("labelled", [True, False])
def test_what_may_be_splits_or_classes_is_refused(tmp_path, names, said, labelled):
    assert said in refusal(str(folders(tmp_path, *names)), labelled=labelled)


@pytest.mark.parametrize("names", [("rain", "snow", "sun"), ("valley", "mountain"), ("test_tube", "flask", "trains")])
def test_classes_that_only_begin_like_splits_are_classes(tmp_path, names):
    assert open_source(str(folders(tmp_path, *names))).classes == tuple(sorted(names))


def test_folders_beside_two_splits_are_left_out_and_named(tmp_path):
    source = open_source(str(folders(tmp_path, "train", "test", "unlabelled")))
    assert (len(source), source.note) == (2, "folders left out, as they are not splits: unlabelled")


def test_the_data_set_is_found_a_folder_further_down(tmp_path):
    root = folders(tmp_path / "archive", "train", "test").parent
    assert refusal(str(root)).endswith(f"; is the data set {root}/archive?")


def test_a_held_out_split_may_lack_a_class_and_says_so(photos):
    save(photos / "train/fox/a.png", noise(20, 120))
    val = open_source(str(photos), "val")
    assert (val.classes, val.labels.tolist()) == (("cat", "dog", "fox"), [0, 1])
    assert val.note == "val/ has no images of 1 classes: fox"
    (photos / "val/fox").mkdir()
    assert open_source(str(photos), "val").note == val.note


def test_classes_that_differ_by_case_alone_are_noted(photos):
    save(photos / "train/Cat/a.png")
    assert "classes differ by case alone (Cat, cat); if they are one" in open_source(str(photos)).note


def test_a_link_to_a_parent_does_not_loop(photos):
    (photos / "train/cat/loop").symlink_to(photos / "train/cat")
    assert len(open_source(str(photos))) == 5


KIND_OF = {ending: kind for kind, endings in FORMATS.items() for ending in endings}


@pytest.mark.parametrize("extension", [*sorted(extensions() - {".mpo"}), ".JPG", ".Jfif"])
def test_every_extension_is_read(tmp_path, extension):
    for name in "ab":
        for number in (1, 2):
            save(tmp_path / name / f"{number}{extension}", noise(100, 110), format=KIND_OF[extension.lower()])
    assert [pixels_of(open_source(str(tmp_path), channels=3), i).shape for i in (0, 1)] == [(100, 110, 3)] * 2


@pytest.fixture
def without_heif(monkeypatch):
    """Have no pillow-heif."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    for cached in (formats, extensions):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (formats, extensions):
        cached.cache_clear()


@pytest.mark.usefixtures("without_heif")
def test_phones_photos_are_named_with_the_package_that_reads_them(photos):
    (photos / "train/cat/x.heic").write_bytes(b"\0\0\0\x18ftypheic")
    source = open_source(str(photos))
    assert source.note.endswith(
        "1 .heic (first: train/cat/x.heic), .heic needs pillow-heif: pip install 'limbeck[heic]'"
    )


def test_phones_photos_are_read_upright(tmp_path):
    need("pillow_heif")
    import pillow_heif

    pixels = np.zeros((100, 140, 3), np.uint8)
    pixels[:, :70] = 255
    exif = Image.Exif()
    exif[274] = 6  # turn it by a quarter, clockwise: the left side is now above
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pillow_heif.from_pillow(Image.fromarray(pixels)).save(
            tmp_path / name / "0.heic", exif=exif.tobytes(), quality=95
        )
        save(tmp_path / name / "1.png")
    source = open_source(str(tmp_path), labelled=False)
    seen = pixels_of(source, source.keys.index("a/0.heic"))
    assert seen.shape == (140, 100, 3) == (*source.sizes[0].tolist(), 3)
    assert seen[:60].mean() > 250
    assert seen[80:].mean() < 5


def test_files_that_were_swapped_make_another_set_though_their_lengths_are_equal(tmp_path):
    for name in "ab":
        for number in range(2):
            save(tmp_path / name / f"{number}.bmp", noise(100, 100 + number, seed=number))
    before = open_source(str(tmp_path)).fingerprint
    one, other = (tmp_path / name / "0.bmp" for name in "ab")
    save(other, noise(100, 100, seed=7))
    after = open_source(str(tmp_path)).fingerprint
    assert one.stat().st_size == other.stat().st_size
    assert not same_images(before, after)
    assert before.partition("-")[0] == after.partition("-")[0]  # all that 0.1.0 knew
    assert same_images(before.partition("-")[0], after)


def test_class_folders_alone_are_split_by_name_the_same_each_time(tmp_path):
    for i in range(20):
        save(tmp_path / f"{'ab'[i % 2]}/{i}.png", noise(seed=i))
    train, val = (open_source(str(tmp_path), split) for split in ("train", "val"))
    assert sorted(train.keys + val.keys) == sorted(f"{'ab'[i % 2]}/{i}.png" for i in range(20))
    assert torch.bincount(train.labels).tolist() == [8, 8]
    assert torch.bincount(val.labels).tolist() == [2, 2]
    assert train.note == val.note == "train and val are 80% and 20% of each class, by a hash of the file names"
    assert open_source(str(tmp_path), "val").keys == val.keys
    with pytest.raises(MissingSplitError, match="has no test/ folder"):
        open_source(str(tmp_path), "test")


def test_test_is_val_too_where_there_is_no_val(photos):
    (photos / "val").rename(photos / "test")
    train, val, test = (open_source(str(photos), split) for split in ("train", "val", "test"))
    assert len(train) == 5
    assert val.keys == test.keys == ("test/cat/d.jpg", "test/dog/e.jpg")
    assert (val.note, test.note) == ("val is the test set: choose no settings by it", "")


def test_val_is_made_from_train_where_only_train_is_there(photos):
    (photos / "val").rename(photos.parent / "away")
    train, val = (open_source(str(photos), split) for split in ("train", "val"))
    assert len(train) + len(val) == 5
    assert not set(train.keys) & set(val.keys)


def test_holding_out_never_takes_a_class_whole():
    labels = np.array([0, 0, 1] + [2] * 10)
    held = hold_out(labels, [str(i) for i in range(13)], 0.2)
    assert [int(held[labels == c].sum()) for c in range(3)] == [1, 0, 2]


def test_images_alone_have_no_labels(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.png", noise(100, 100 + i))
    source = open_source(str(tmp_path))
    assert (len(source), source.labels, source.classes) == (3, None, ())
    with pytest.raises(MissingSplitError, match="without class folders, so it has no labelled val split"):
        open_source(str(tmp_path), "val")


def test_unlabelled_takes_all_images_below_and_shows_no_labels(photos):
    (photos / "val").rename(photos.parent / "heap")
    save(photos.parent / "heap/top.jpg")
    source = open_source(str(photos.parent / "heap"), labelled=False)
    assert len(source) == 3
    for spec in (str(photos), "digits:mfeat"):
        source = open_source(spec, labelled=False)
        assert (source.labels, source.classes) == (None, ())


def test_small_images_of_one_size_are_kept_in_memory(tmp_path):
    for i in range(6):
        save(tmp_path / f"train/{'ab'[i % 2]}/{i}.png", noise(24, 32, seed=i))
    source = open_source(str(tmp_path / "train"), labelled=False)
    assert source.pixels.shape == (6, 3, 24, 32)
    assert np.array_equal(pixels_of(source, 2), noise(24, 32, seed=4))  # a/0 a/2 a/4 b/1 ...
    save(tmp_path / "train/a/8.png", noise(24, 33))
    assert open_source(str(tmp_path / "train"), labelled=False).pixels is None


# ---- modes


MODES = {
    "1": Image.fromarray(noise(channels=1)).convert("1"),
    "L": Image.fromarray(noise(channels=1)),
    "LA": Image.fromarray(noise(channels=2)),
    "RGB": Image.fromarray(noise()),
    "RGBA": Image.fromarray(noise(channels=4)),
    "P": Image.fromarray(noise()).quantize(16),
    "CMYK": Image.fromarray(noise()).convert("CMYK"),
    "I;16": Image.fromarray(noise(channels=1).astype(np.uint16) * 257),
}


def stored(image, kind="TIFF", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_grey_or_colour(mode, channels):
    image = open_image(stored(MODES[mode]), channels)
    assert image.mode == ("L" if channels == 1 else "RGB")
    assert np.asarray(image).std() > 40


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_to_8_with_rounding(kind):
    values = np.array([[0, 128, 129, 257, 32768, 65535 - 129, 65535 - 128, 65535]], dtype=np.uint16)
    image = open_image(stored(Image.fromarray(values), kind), 1)
    assert np.asarray(image).tolist() == np.round(values / 257).astype(int).tolist()


@pytest.mark.parametrize(("peak", "noted"), [(4095, True), (1023, True), (65535, False), (40000, False)])
def test_16_bits_that_hold_fewer_are_noted(tmp_path, peak, noted):
    for i in range(4):
        values = np.random.default_rng(i).integers(0, peak + 1, (100, 110), dtype=np.uint16)
        values[0, 0] = peak
        save(tmp_path / f"{i}.png", Image.fromarray(values))
    note = open_source(str(tmp_path)).note
    white, left = {4095: (4095, 17)}.get(peak, (1023, 5))
    said = (
        f"4 images of 16 bits hold values up to {peak:,} of 65,535: of a net made with --white {white} that is white, "
        f"for others {left} grey levels are left"
    )
    assert (said in note) == noted


def test_alpha_is_dropped_and_a_palette_with_transparency_keeps_its_colours():
    values = noise(channels=4)
    assert np.array_equal(np.asarray(open_image(stored(Image.fromarray(values), "PNG"), 3)), values[..., :3])
    palette = MODES["P"].copy()
    data = stored(palette, "PNG", transparency=bytes(range(16)))
    assert np.array_equal(np.asarray(open_image(data, 3)), np.asarray(palette.convert("RGB")))


def test_the_first_frame_of_a_gif_counts():
    frames = [Image.fromarray(np.full((8, 8), v, dtype=np.uint8)) for v in (40, 200)]
    data = stored(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (np.asarray(open_image(data, 1)) == 40).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_exif_orientation_is_applied_to_pixels_and_sizes(tmp_path, kind, orientation):
    upright = np.zeros((100, 160, 3), dtype=np.uint8)
    upright[:30, :30] = 255  # top left
    turns = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the Transpose that stores it so
    image = Image.fromarray(upright)
    turn = turns[orientation]
    kept = image if turn is None else image.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[274] = orientation
    for name in "ab":
        save(tmp_path / f"train/{name}/x.{kind}", kept, exif=exif)
    source = open_source(str(tmp_path / "train"), labelled=False)
    pixels = pixels_of(source, 0)
    assert source.sizes[0].tolist() == list(pixels.shape[:2]) == [100, 160]
    assert pixels[5:25, 5:25].min() > 200
    assert pixels[40:, 40:].max() < 50


@pytest.mark.parametrize("orientation", [0, 9, 2**16 - 1])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    save(tmp_path / "x.jpg", noise(100, 160), exif=exif)
    source = open_source(str(tmp_path))
    assert source.sizes[0].tolist() == list(pixels_of(source, 0).shape[:2]) == [100, 160]


def test_channels_follow_the_images_unless_given(tmp_path):
    for name in "ab":
        save(tmp_path / f"{name}/1.png", noise(100, 100, 1))
        save(tmp_path / f"{name}/2.png", MODES["I;16"])
    assert open_source(str(tmp_path), labelled=False).channels == 1
    assert open_source(str(tmp_path), labelled=False, channels=3).channels == 3
    save(tmp_path / "a/3.png", noise(100, 100))
    colour = open_source(str(tmp_path), labelled=False)
    assert colour.channels == 3
    assert dict(colour.modes) == {"I;16": 2, "L": 2, "RGB": 1}
    assert refusal(str(tmp_path), channels=2) == "--channels 2 is neither 1 nor 3"


# ---- broken files


def bomb():
    """A PNG of 10^10 pixels in under 100 bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 10**5, 10**5, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def large_jpeg():
    return stored(Image.fromarray(noise(200, 300)), "JPEG")


def large(kind):
    return stored(Image.fromarray(noise(200, 300)), kind)


BROKEN = {
    "empty.jpg": (b"", "empty"),
    "words.jpg": (b"these are words", "not an image"),
    "cut.jpg": (large("JPEG")[:9000], "truncated"),
    "cut.png": (large("PNG")[:9000], "truncated"),
    "cut.webp": (large("WEBP")[:9000], ""),
    "cut.bmp": (large("BMP")[:9000], "truncated"),
    "cut.tif": (large("TIFF")[:9000], ""),
    "bomb.png": (bomb(), "over the limit of 89478485 pixels"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_the_reason_and_the_remedy(photos, name):
    data, reason = BROKEN[name]
    (photos / "train/dog" / name).write_bytes(data)
    said = refusal(str(photos))
    assert said.startswith(f"1 of 6 images in {photos} can't be used: train/dog/{name} ({reason}")
    assert said.endswith("; remove them or pass --on-broken skip")


@pytest.mark.parametrize("name", BROKEN)
def test_skipping_leaves_broken_files_out_and_says_so(photos, name):
    data, reason = BROKEN[name]
    (photos / "train/dog" / name).write_bytes(data)
    source = open_source(str(photos), on_broken="skip")
    assert len(source) == 5
    assert len(source.broken) == 1
    assert source.broken[0].startswith(f"train/dog/{name} ({reason}")


def test_of_many_broken_files_the_first_few_are_named(photos):
    for i in range(7):
        (photos / f"train/dog/x{i}.png").write_bytes(b"")
    said = refusal(str(photos))
    assert said.startswith("7 of 12 images")
    assert "x4.png (empty), ...; remove" in said
    assert "x5" not in said


def test_nothing_left_after_skipping_is_an_error(tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    assert refusal(str(tmp_path), on_broken="skip").startswith("none of the 1 images in")


def test_a_whole_file_with_damaged_pixels_is_named_when_read(photos):
    path = photos / "train/cat/a.png"
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)
    path.write_bytes(data)
    source = open_source(str(photos))
    with pytest.raises(InputError, match=r"train/cat/a\.png can't be decoded: .+; list all broken files with"):
        pixels_of(source, 0)


def test_damaged_small_images_are_found_when_they_are_taken_into_memory(tmp_path):
    for i in range(4):
        save(tmp_path / f"{i}.png", noise(40, 40, seed=i))
    data = bytearray((tmp_path / "2.png").read_bytes())
    data[60:200] = bytes(140)
    (tmp_path / "2.png").write_bytes(data)
    assert "2.png can't be decoded" in refusal(str(tmp_path))
    source = open_source(str(tmp_path), on_broken="skip")
    assert source.keys == ("0.png", "1.png", "3.png")
    assert source.pixels.shape[0] == len(source.sizes) == 3
    assert source.broken[0].startswith("2.png (")


def test_a_file_that_went_away_is_named(photos):
    source = open_source(str(photos))
    (photos / "train/cat/b.png").unlink()
    with pytest.raises(InputError, match=r"train/cat/b\.png can't be decoded: no such file"):
        pixels_of(source, 1)


LAYOUTS = {  # of the sets that adaptation's papers use: files, and what is to be opened
    "Office-31": (["amazon/images/back_pack/frame_0001.jpg", "amazon/images/bike/frame_0001.jpg"] * 2, "amazon/images"),
    "Office-Home": (["Real World/Alarm_Clock/00001.jpg", "Real World/Backpack/00001.jpg"], "Real World"),
    "VisDA": ([f"{split}/{name}/1.png" for split in ("train", "validation") for name in ("bus", "car")], "."),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_sets_of_adaptation_open_in_their_usual_layouts(tmp_path, name):
    files, place = LAYOUTS[name]
    for number in range(3):
        for i, file in enumerate(files):
            save(tmp_path / file.replace("1.", f"{number}."), noise(20, 24, seed=3 * i + number))
    (tmp_path / "image_list.txt").write_text("train/bus/1.png 0\n")  # VisDA has such lists
    classes = tuple(sorted({file.split("/")[-2] for file in files}))
    for split in ("train", "val"):
        found = open_source(str(tmp_path / place), split)
        assert found.classes == classes
        assert set(found.labels.tolist()) == {0, 1}


@pytest.fixture
def mnist_m(tmp_path):
    """MNIST-M as it is packed: heaps of PNG files, and lists of their labels."""
    for split, labels in {"train": [3, 10, 2, 2], "test": [10, 3, 2]}.items():
        for i in range(len(labels)):
            save(tmp_path / f"mnist_m/mnist_m_{split}/{i:08d}.png", noise(32, 32, seed=i))
        lines = [f"{i:08d}.png {label}\n" for i, label in enumerate(labels)]
        (tmp_path / f"mnist_m/mnist_m_{split}_labels.txt").write_text("".join(lines))
    return tmp_path / "mnist_m"


def test_lists_of_labels_beside_heaps_of_images_are_read(mnist_m):
    train, val = (open_source(str(mnist_m), split) for split in ("train", "val"))
    assert train.classes == val.classes == ("2", "3", "10")
    assert train.labels.tolist() == [1, 2, 0, 0]
    assert val.labels.tolist() == [2, 1, 0]
    assert val.note == "val is the test set: choose no settings by it"
    assert train.keys[0] == "mnist_m_train/00000000.png"
    assert open_source(str(mnist_m / "mnist_m_train")).classes == train.classes
    heap = open_source(str(mnist_m), labelled=False)
    assert (heap.labels, len(heap), heap.fingerprint) == (None, 4, train.fingerprint)


@pytest.mark.parametrize(
    ("split", "text", "said"),
    [
        (
            "train",
            "00000000.png 3\n00000002.png 2\n",
            "names no class for 00000001.png; add a line for it or remove it",
        ),
        ("train", "00000000.png\n", "line 1: '00000000.png' is not a file's name and its class"),
        ("train", "".join(f"{i:08d}.png 3\n" for i in range(4)), "names one class only (3)"),
        ("test", "00000000.png 7\n00000001.png 3", "names classes that train does not have: 7"),
        ("test", "\udcff", "can't be read"),
    ],
)
def test_broken_lists_of_labels_are_named(mnist_m, split, text, said):
    path = mnist_m / f"mnist_m_{split}_labels.txt"
    path.write_bytes(text.encode(errors="surrogateescape"))
    found = refusal(str(mnist_m), split)
    assert said in found
    assert str(path) in found


# ---- what can't be a data set


def test_a_file_is_no_suggestion(photos):
    (photos.parent / "phot").write_text("")
    assert f"is a file, not a folder; did you mean {photos}?" in refusal(str(photos.parent / "phot"))
    (photos.parent / "cat.png").write_text("")
    assert "is a file, not a folder; give a folder" in refusal(str(photos.parent / "cat.png"))


def test_a_folder_that_is_not_there_gets_a_suggestion(photos):
    assert refusal(str(photos.parent / "photso")) == f"{photos.parent / 'photso'} is not there; did you mean {photos}?"
    assert refusal("digit:mnist") == "digit:mnist is not there; did you mean digits:mnist?"
    assert "give a folder, a table FILE.csv, torchvision:NAME" in refusal("nothing/like/that")


def test_a_file_is_not_a_data_set(photos):
    assert "is a file, not a folder" in refusal(str(photos / "train/cat/a.png"))


def test_no_name_is_not_the_working_folder():
    assert refusal("").startswith("--data is empty; give a folder")


def test_names_that_are_no_text_are_refused(tmp_path):
    save(tmp_path / "café.png", noise(40, 40))
    assert open_source(str(tmp_path)).keys == ("café.png",)
    os.rename(tmp_path / "café.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    assert "1 names in" in refusal(str(tmp_path))
    assert r"'caf\udce9.png'" in refusal(str(tmp_path))


def test_an_empty_folder_is_refused(tmp_path):
    assert "holds no images (apng avif avifs bmp gif" in refusal(str(tmp_path))


def test_one_class_is_refused(tmp_path):
    save(tmp_path / "only/a.png")
    assert "has one class only (only)" in refusal(str(tmp_path))


def test_unlike_classes_of_train_and_val_are_refused(photos):
    (photos / "val/dog").rename(photos / "val/dgo")
    assert refusal(str(photos), "val").endswith("differ from those of train: it lacks dog and adds dgo")


def test_a_class_without_images_is_refused(photos):
    (photos / "train/fox").mkdir()
    assert "classes without images: fox" in refusal(str(photos))


def test_images_beside_class_folders_are_refused(photos):
    save(photos / "train/stray.png")
    assert "images beside them (train/stray.png)" in refusal(str(photos))


def test_a_split_that_is_not_there_is_refused_with_those_that_are(photos):
    assert refusal(str(photos), "test").endswith("has no test/ folder, only train/, val/")


def test_a_class_of_one_image_leaves_none_for_val(tmp_path):
    for name in "ab":
        save(tmp_path / f"{name}/1.png")
    assert len(open_source(str(tmp_path))) == 2
    assert "leaves no images for val" in refusal(str(tmp_path), "val")


# ---- fingerprints and subsets


def test_a_fingerprint_changes_with_names_lengths_and_labels_alone(photos):
    before = open_source(str(photos)).fingerprint
    assert open_source(str(photos)).fingerprint == before
    save(photos / "train/cat/a.png", np.zeros((20, 120, 3), dtype=np.uint8))
    longer = open_source(str(photos)).fingerprint
    (photos / "train/cat/b.png").rename(photos / "train/cat/z.png")
    renamed = open_source(str(photos)).fingerprint
    (photos / "train/cat/z.png").rename(photos / "train/dog/z.png")
    assert len({before, longer, renamed, open_source(str(photos)).fingerprint}) == 4


@pytest.mark.parametrize("spec", ["photos", "digits:"])
def test_a_fingerprint_is_the_same_with_and_without_labels(photos, spec):
    spec = str(photos) if spec == "photos" else spec
    assert open_source(spec).fingerprint == open_source(spec, labelled=False).fingerprint


def test_a_fingerprint_in_memory_sees_a_single_pixel(tmp_path):
    write_idx(tmp_path, images=noise(12, 8, 6).transpose(2, 0, 1).copy())
    before = open_source(str(tmp_path), "test").fingerprint
    changed = noise(12, 8, 6).transpose(2, 0, 1).copy()
    changed[3, 4, 5] ^= 1
    write_idx(tmp_path, images=changed)
    assert open_source(str(tmp_path), "test").fingerprint != before


@pytest.mark.parametrize("spec", ["digits:", "photos"])
def test_a_subset_has_the_chosen_images(photos, spec):
    source = open_source(str(photos) if spec == "photos" else spec)
    chosen = subset(source, [4, 0, 2])
    assert chosen.keys == tuple(source.keys[i] for i in (4, 0, 2))
    assert torch.equal(chosen.labels, source.labels[[4, 0, 2]])
    assert torch.equal(chosen.sizes, source.sizes[[4, 0, 2]])
    assert np.array_equal(pixels_of(chosen, 0), pixels_of(source, 4))
    assert chosen.pixels is None or torch.equal(chosen.pixels, source.pixels[[4, 0, 2]])
    assert chosen.fingerprint == subset(source, torch.tensor([4, 0, 2])).fingerprint
    assert chosen.fingerprint != subset(source, [0, 4, 2]).fingerprint


def test_moments_are_those_of_the_pixels():
    source = open_source("digits:mfeat", "val")
    values = source.pixels.double() / 255
    mean, deviation = moments(source)
    assert mean == pytest.approx((values.mean().item(),))
    assert deviation == pytest.approx((values.std(correction=0).item(),))
    assert len(moments(open_source("digits:mfeat", "val", channels=3), 10)[0]) == 3


# ---- IDX files


def idx(values):
    values = np.asarray(values, dtype=np.uint8)
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx(folder, images=None, labels=None, prefix="t10k", end=""):
    images = noise(12, 8, 6).transpose(2, 0, 1) if images is None else images
    labels = np.arange(len(images)) % 3 if labels is None else labels
    pack = gzip.compress if end else bytes
    (folder / f"{prefix}-images-idx3-ubyte{end}").write_bytes(pack(idx(images)))
    (folder / f"{prefix}-labels-idx1-ubyte{end}").write_bytes(pack(idx(labels)))


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_files_give_their_images_and_labels(tmp_path, end):
    images = noise(12, 8, 30).transpose(2, 0, 1)
    write_idx(tmp_path, images, end=end)
    write_idx(tmp_path, images, prefix="train", end=end)
    test, train, val = (open_source(str(tmp_path), split) for split in ("test", "train", "val"))
    assert np.array_equal(test.pixels[:, 0].numpy(), images)
    assert test.labels.tolist() == [i % 3 for i in range(30)]
    assert test.classes == ("0", "1", "2")
    assert len(train) == 30
    assert val.keys == test.keys
    assert val.note == "val is the test set: choose no settings by it"
    write_idx(tmp_path, images[:12], prefix="val", end=end)
    assert len(open_source(str(tmp_path), "val")) == 12
    assert open_source(str(tmp_path), "test", channels=3).pixels.shape == (30, 3, 12, 8)


def test_fashion_mnist_cut_short_keeps_its_names(tmp_path, monkeypatch):
    images, labels = noise(12, 8, 20).transpose(2, 0, 1), np.arange(20) % 10
    write_idx(tmp_path, images, labels)
    write_idx(tmp_path, images[:8], labels[:8], prefix="train")
    assert open_source(str(tmp_path), "train").classes == tuple("01234567")
    monkeypatch.setattr(sources, "_FASHION_LABELS", (zlib.crc32(labels.astype(np.uint8).tobytes()),))
    for split in ("train", "val", "test"):
        assert open_source(str(tmp_path), split).classes[:2] == ("T-shirt/top", "Trouser")


HOSTILE = {
    "no IDX file": (b"\x00\x00\x08\x01" + bytes(12), "is not an IDX file of unsigned bytes with 3 axes"),
    "floats": (b"\x00\x00\x0d\x03" + bytes(12), "is not an IDX file of unsigned bytes with 3 axes"),
    "no header": (b"\x00\x00\x08", "is not an IDX file"),
    "huge": (b"\x00\x00\x08\x03" + b"\xff" * 12, "claims to hold 79228162458924105385300197375 bytes; the limit"),
    "too short": (idx(np.zeros((6, 12, 8)))[:-1], "should hold 576 values and holds 575; fetch it again"),
    "too long": (idx(np.zeros((6, 12, 8))) + b"\0", "should hold 576 values and holds more"),
    "five images": (idx(np.zeros((5, 12, 8))), "holds 5 images and"),
    "no images": (idx(np.zeros((0, 12, 8))), "holds 0 images and"),
}


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_wrong_idx_file_is_refused(tmp_path, case, end):
    write_idx(tmp_path, end=end)
    data, words = HOSTILE[case]
    path = tmp_path / f"t10k-images-idx3-ubyte{end}"
    path.write_bytes(gzip.compress(data) if end else data)
    said = refusal(str(tmp_path), "test")
    assert said.startswith(str(path))
    assert words in said


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"no gzip", lambda data: data[:30] + data])
def test_a_damaged_gzip_file_is_refused(tmp_path, damage):
    write_idx(tmp_path, end=".gz")
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    assert "can't be read: " in refusal(str(tmp_path), "test")


def test_a_missing_idx_file_is_named(tmp_path):
    write_idx(tmp_path)
    assert "holds no train-images-idx3-ubyte[.gz]" in refusal(str(tmp_path))
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert "holds no t10k-labels-idx1-ubyte[.gz]" in refusal(str(tmp_path), "test")


def test_idx_files_of_one_class_are_refused(tmp_path):
    write_idx(tmp_path, labels=[0] * 6)
    assert "has one class only" in refusal(str(tmp_path), "test")


# ---- built-in digits


@pytest.mark.parametrize(
    ("name", "counts"), [("mnist", (4000, 500, 500)), ("mfeat", (1400, 300, 300)), ("optdigits", (1197, 300, 300))]
)
def test_built_in_digits_are_balanced_and_no_image_is_in_two_splits(name, counts):
    sources = [open_source(f"digits:{name}", split) for split in ("train", "val", "test")]
    assert tuple(map(len, sources)) == counts
    for source in sources:
        assert source.pixels.shape[1:] == (1, 28, 28)
        per_class = torch.bincount(source.labels)
        assert per_class.max() - per_class.min() <= 9
    images = [[image.numpy().tobytes() for image in source.pixels] for source in sources]
    assert sum(len(set(part)) for part in images) == len(set().union(*images))


@pytest.mark.parametrize("name", ["mnist", "mfeat", "optdigits"])
def test_built_in_digits_are_framed_as_mnist_frames_them(name):
    pixels = open_source(f"digits:{name}").pixels[:, 0].double()
    ink = pixels > 0
    extent = torch.maximum(ink.any(2).sum(1), ink.any(1).sum(1))
    assert extent.max() == 20
    assert (extent == 20).double().mean() > 0.99  # the faintest edges of a few of MNIST's own fell away
    for axis in (1, 2):
        place = torch.arange(28.0, dtype=torch.float64)
        centre = (pixels.sum(axis) * place).sum(1) / pixels.sum((1, 2))
        assert (centre - 14).abs().max() < 1
    assert (pixels.amax((1, 2)) >= 250).double().mean() > 0.99


def test_the_empty_name_is_mnist_and_others_get_a_suggestion():
    assert open_source("digits:").fingerprint == open_source("digits:mnist").fingerprint
    assert "did you mean digits:optdigits?" in refusal("digits:optdigit")


# ---- torchvision and timm


def test_a_torchvision_set_is_read_where_it_lies(tmp_path):
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    images = noise(28, 28, 40).transpose(2, 0, 1)
    for prefix in ("train", "t10k"):
        write_idx(raw, images, np.arange(40) % 10, prefix)
    train, val, test = (open_source(f"torchvision:MNIST@{tmp_path}", s) for s in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (40, 40, 40)
    assert test.classes[3] == "3 - three"
    assert np.array_equal(test.pixels[:, 0].numpy(), images)
    assert val.note == "val is the test set: choose no settings by it"


@pytest.mark.parametrize("name", ["DatasetFolder", "LSUNClass", "LSUN", "FakeData", "datasets"])
def test_a_torchvision_set_that_is_not_known_to_be_safe_is_refused(tmp_path, monkeypatch, name):
    """LSUN's unpickles any file of the current folder that is named after where its data would be."""
    monkeypatch.chdir(tmp_path)
    place = Path("db")
    place.mkdir()
    (tmp_path / "_cache_db").write_bytes(b"cos\nsystem\n(S'touch exploded'\ntR.")
    said = refusal(f"torchvision:{name}@db")
    assert "none of the sets that are known to read images and labels alone" in said or "has no image set" in said
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("place", ["pipe:touch exploded", "http://x/'; touch exploded; '"])
def test_webdataset_runs_no_shell(place):
    assert "no local path" in refusal(f"wds/{place}")


def test_a_torchvision_set_without_splits_is_split(tmp_path):
    for name in "ab":
        for i in range(10):
            save(tmp_path / f"eurosat/2750/{name}/{i}.jpg", noise(64, 64, seed=i))
    train, val = (open_source(f"torchvision:EuroSAT@{tmp_path}", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (18, 2)
    assert not set(train.keys) & set(val.keys)
    assert train.note == "train and val are 90% and 10% of each class, by a hash of their positions"
    assert "has no test split" in refusal(f"torchvision:EuroSAT@{tmp_path}", "test")


def test_a_torchvision_set_that_is_not_there_names_the_remedy(tmp_path):
    said = refusal(f"torchvision:CIFAR10@{tmp_path}")
    assert (
        said == f"torchvision:CIFAR10@{tmp_path} is not under {tmp_path}; pass --download, or SET@ROOT for where it is"
    )
    assert "did you mean torchvision:CIFAR10?" in refusal("torchvision:CIFAR11")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_torchvision_set_with_named_splits_is_read(tmp_path, split):
    # Imagenette has train and val folders, named splits, and no check of the files beyond their being there
    for name in ("train", "val"):
        for wnid in ("n01440764", "n02102040", "n02979186"):
            save(tmp_path / f"imagenette2/{name}/{wnid}/1.JPEG", noise(30, 40))
    if split == "test":
        assert "has no test split" in refusal(f"torchvision:Imagenette@{tmp_path}", split)
    else:
        assert len(open_source(f"torchvision:Imagenette@{tmp_path}", split)) == 3


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("hfds/x", "pip install datasets"),
        ("hfids/x", "pip install datasets"),
        ("wds/x", "pip install webdataset"),
        ("tfds/x", "pip install tensorflow tensorflow-datasets"),
    ],
)
def test_a_missing_package_is_one_sentence_with_the_command(spec, remedy, capsys, monkeypatch):
    package = {"hfds": "datasets", "hfids": "datasets", "wds": "webdataset", "tfds": "tensorflow"}[spec.split("/")[0]]
    monkeypatch.setitem(sys.modules, package, None)
    assert refusal(spec) == f"{spec} needs a package that is missing; {remedy}"
    assert capsys.readouterr().out == ""


class MapReader:
    """As timm's hfds reader: files by index."""

    def __init__(self, mode="RGB", label=lambda i: i % 2):
        self.class_to_idx = {"zebra": 0, "ape": 1}
        self.mode, self.label = mode, label

    def __len__(self):
        return 4

    def __getitem__(self, i):
        image = Image.fromarray(noise(100, 110 + i, seed=i)).convert(self.mode)
        return io.BytesIO(stored(image, "PNG")), self.label(i)


class IterableReader:
    """As timm's wds reader: Pillow images in a stream."""

    def __iter__(self):
        for i in range(4):
            yield Image.fromarray(noise(100, 110 + i, seed=i)), i % 2


@pytest.mark.parametrize("reader", [MapReader, IterableReader])
def test_a_timm_reader_gives_its_images_in_order(reader):
    source = from_reader(reader(), spec="hfds/x", split="train")
    assert source.labels.tolist() == [0, 1, 0, 1]
    assert source.sizes.tolist() == [[100, 110 + i] for i in range(4)]
    assert source.classes == (("zebra", "ape") if reader is MapReader else ("0", "1"))
    for i in (3, 0):
        assert np.array_equal(pixels_of(source, i), noise(100, 110 + i, seed=i))
    assert source.note == (
        "" if reader is MapReader else "read once into memory (4 images), as an exact order needs random access"
    )


def test_a_timm_reader_of_grey_images_has_one_channel():
    assert from_reader(MapReader("L"), spec="hfds/x", split="train").channels == 1


def test_a_reader_whose_labels_are_no_classes_is_refused():
    with pytest.raises(InputError, match="it is not a classification set"):
        from_reader(MapReader(label=lambda i: [1.5]), spec="hfds/x", split="train")


def test_a_broken_image_of_a_reader_is_named():
    class Broken(MapReader):
        def __getitem__(self, i):
            return io.BytesIO(b"" if i == 2 else stored(Image.fromarray(noise()))), i % 2

    with pytest.raises(InputError, match="hfds/x: image 2 can't be decoded: empty"):
        from_reader(Broken(), spec="hfds/x", split="train")


def test_len_is_the_number_of_images():
    source = Source("x", "train", (), None, ("a", "b"), 1, torch.zeros(2, 2), lambda i: None, None, "")
    assert len(source) == 2


@settings(max_examples=200)
@given(total=st.integers(1, 10**6), count=st.integers(1, 3000))
def test_spaced_places_are_the_ends_and_evenly_between(total, count):
    places = spaced(total, count).tolist()
    count = min(total, count)
    assert len(set(places)) == len(places) == count
    assert places[0] == 0
    assert places[-1] == (total - 1 if count > 1 else 0)
    gaps = {later - earlier for earlier, later in pairwise(places)}
    assert not gaps or max(gaps) - min(gaps) <= 1
