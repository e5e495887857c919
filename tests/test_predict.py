"""Predict: files are read as those of a data set; all good ones are named, the others are listed."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck import cli
from limbeck.errors import InputError
from limbeck.nets import zoo
from limbeck.nets.classifier import imagenet_1k
from limbeck.verbs.evaluate import evaluate
from limbeck.verbs.predict import predict


def save_net(folder, classes, *, channels=3, size=32, crop_pct=0.8):
    torch.manual_seed(0)
    net = zoo.create("resnet8", classes=classes, channels=channels, size=size, arguments={"width": 4})
    with torch.no_grad():
        net.net.get_classifier().weight.mul_(20)  # untrained, but not undecided
    net.input = type(net.input)(**{**vars(net.input), "crop_pct": crop_pct, "interpolation": "bicubic"})
    zoo.save(net, folder)
    return str(folder)


def noise(*shape, seed=0):
    """Smooth random pixels, so that a crop of them differs from another."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, *shape[2:]), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize(shape[1::-1], Image.Resampling.BICUBIC))


@pytest.fixture
def net(tmp_path):
    return save_net(tmp_path / "net", ("cat", "dog", "owl"))


@pytest.mark.slow
def test_files_are_seen_as_evaluate_sees_them(net, tmp_path):
    folder = tmp_path / "data" / "val"
    for name in ("cat", "dog", "owl"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(noise(120, 150, 3)).save(folder / "cat" / "rgb.png")
    Image.fromarray(noise(120, 110)).save(folder / "cat" / "grey.png")
    Image.fromarray(noise(100, 130).astype(np.uint16) * 257).save(folder / "dog" / "deep.png")
    Image.fromarray(noise(140, 130, 4)).save(folder / "dog" / "alpha.webp", lossless=True)
    Image.fromarray(noise(140, 130, 4), "CMYK").save(folder / "owl" / "ink.jpg")
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(noise(300, 130, 3)).save(folder / "owl" / "turned.jpg", exif=turned)
    evaluate(net, data=str(tmp_path / "data"), workers=0, out=str(tmp_path / "out"))
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        expected = {row["key"]: (row["predicted"], float(row["probability"])) for row in csv.DictReader(file)}
    found = predict(net, (str(folder),), top=1)
    said = {image: labels[0] for image, labels in found.named}
    assert len(expected) == 6
    assert set(said) == {str(tmp_path / "data" / key) for key in expected}
    for key, (name, probability) in expected.items():
        label = said[str(tmp_path / "data" / key)]
        assert label.name == name
        assert label.probability == pytest.approx(probability, abs=1e-5)  # six digits in the file


def test_small_images_are_seen_whole(net, tmp_path):
    pixels = noise(32, 32, 3)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    with torch.no_grad():
        whole = zoo.load(net).eval()(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]).softmax(1)[0]
    found = dict(predict(net, (str(tmp_path / "small.png"),)).named)[str(tmp_path / "small.png")]
    assert {label.name: label.probability for label in found} == pytest.approx(
        dict(zip(("cat", "dog", "owl"), whole.tolist(), strict=True)), abs=1e-5
    )


def test_labels_come_likeliest_first_and_make_one(net, tmp_path):
    Image.fromarray(noise(40, 40, 3)).save(tmp_path / "a.png")
    ((_, labels),) = predict(net, (str(tmp_path / "a.png"),), top=9).named
    probabilities = [label.probability for label in labels]
    assert len(labels) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1)
    ((_, best),) = predict(net, (str(tmp_path / "a.png"),), top=1).named
    assert best == labels[:1]


def test_folders_are_searched_and_no_image_comes_twice(net, tmp_path):
    root = tmp_path / "photos"
    (root / "more" / ".hidden").mkdir(parents=True)
    image = Image.fromarray(noise(40, 40, 3))
    for name in ("b.PNG", "more/a.jpg", "more/.hidden/c.png", ".d.png"):
        image.save(root / name)
    (root / "notes.txt").write_text("not an image")
    found = predict(net, (str(root), str(root / "b.PNG")))
    assert [image for image, _ in found.named] == [str(root / "b.PNG"), str(root / "more/a.jpg")]
    assert not found.broken


def broken_folder(root):
    root.mkdir()
    Image.fromarray(noise(120, 120, 3)).save(root / "good.png")
    Image.fromarray(noise(120, 120, 3)).save(root / "cut.jpg")
    (root / "cut.jpg").write_bytes((root / "cut.jpg").read_bytes()[:900])
    whole = bytearray((root / "good.png").read_bytes())
    whole[200] ^= 255  # the end is as it should be, so decoding alone finds this
    (root / "flipped.png").write_bytes(whole)
    (root / "empty.png").write_bytes(b"")
    (root / "text.jpg").write_text("not an image")
    return str(root)


def test_good_images_are_named_though_others_are_broken(net, tmp_path):
    folder = broken_folder(tmp_path / "photos")
    found = predict(net, (folder,))
    assert [image for image, _ in found.named] == [f"{folder}/good.png"]
    reasons = dict(found.broken)
    assert list(reasons) == [f"{folder}/{name}" for name in ("cut.jpg", "empty.png", "flipped.png", "text.jpg")]
    assert reasons[f"{folder}/empty.png"] == "empty"
    assert reasons[f"{folder}/text.jpg"] == "not an image"
    assert all("object at" not in reason and "Traceback" not in reason for reason in reasons.values())
    assert found.problem.startswith(f"4 of 5 images can't be used: {folder}/cut.jpg (truncated), ")


def test_the_command_shows_the_good_and_ends_with_2_for_the_broken(net, tmp_path, capsys):
    folder = broken_folder(tmp_path / "photos")
    assert cli.main(["predict", net, folder]) == 2
    shown = capsys.readouterr()
    result = json.loads(shown.out.splitlines()[-1].removeprefix("--result "))
    assert [item["image"] for item in result["images"]] == [f"{folder}/good.png"]
    assert len(result["broken"]) == 4
    assert shown.err.splitlines()[-1].startswith("limbeck predict: 4 of 5 images can't be used")
    assert cli.main(["predict", net, f"{folder}/good.png"]) == 0


def test_a_single_broken_image_is_an_error(net, tmp_path):
    folder = broken_folder(tmp_path / "photos")
    with pytest.raises(InputError, match=r"text\.jpg can't be used: not an image$"):
        predict(net, (f"{folder}/text.jpg",), out=str(tmp_path / "out.csv"))
    assert not (tmp_path / "out.csv").exists()


def test_files_hold_what_was_returned(net, tmp_path):
    folder = broken_folder(tmp_path / "photos")
    found = predict(net, (folder,), top=2, out=str(tmp_path / "new" / "out.json"))
    assert json.loads((tmp_path / "new" / "out.json").read_text()) == found.to_json()
    predict(net, (folder,), top=2, out=str(tmp_path / "out.csv"))
    (_, (one, two)) = found.named[0]
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        "image,class_1,probability_1,class_2,probability_2",
        f"{folder}/good.png,{one.name},{one.probability:.6g},{two.name},{two.probability:.6g}",
    ]


def test_synsets_are_shown_in_english(tmp_path):
    net = save_net(tmp_path / "net", imagenet_1k())
    Image.fromarray(noise(40, 40, 3)).save(tmp_path / "a.png")
    found = predict(net, (str(tmp_path / "a.png"),), top=1000)
    ((_, labels),) = found.named
    assert {label.name: label.meaning for label in labels}["n01440764"] == "tench"
    assert labels[0].meaning in found.rows()[0][1]
    assert found.to_json()["images"][0]["labels"][0]["class"] == labels[0].name


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (("missing.jpg",), {}, r"missing\.jpg is not there"),
        ((), {}, "no image is given"),
        (("EMPTY",), {}, "holds no images"),
        (("GOOD",), {"top": 0}, "--top is 0"),
        (("GOOD",), {"out": "names.txt"}, r"neither \.csv nor \.json"),
        (("GOOD",), {"out": "FILE/names.csv"}, "FILE is no folder"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(net, tmp_path, images, options, message):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("")
    Image.fromarray(noise(40, 40, 3)).save(tmp_path / "good.png")
    places = {"EMPTY": str(tmp_path / "EMPTY"), "GOOD": str(tmp_path / "good.png")}
    if "FILE" in options.get("out", ""):
        options = {"out": str(tmp_path / options["out"])}
    with pytest.raises(InputError, match=message):
        predict(net, tuple(places.get(image, image) for image in images), **options)


@pytest.mark.slow
def test_a_program_and_an_onnx_file_name_what_their_net_does(net, tmp_path):
    from limbeck.integer.file import save
    from limbeck.integer.lower import lower
    from limbeck.nets import onnx

    float_net = zoo.load(net).eval()
    images = torch.from_numpy(np.stack([noise(32, 32, 3, seed=i) for i in range(8)])).permute(0, 3, 1, 2)
    save(lower(float_net, images.contiguous(), weight_bits=16, activation_bits=16), tmp_path / "x.program")
    onnx.export(float_net, tmp_path / "x.onnx")
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, shape in (("large", (120, 150, 3)), ("grey", (130, 110)), ("small", (32, 32, 3))):
        Image.fromarray(noise(*shape)).save(folder / f"{name}.png")
    expected = predict(net, (str(folder),)).named
    for path, tolerance in (("x.program", 0.01), ("x.onnx", 0.001)):
        found = predict(str(tmp_path / path), (str(folder),)).named
        for (image, labels), (same_image, same_labels) in zip(expected, found, strict=True):
            assert image == same_image
            assert [label.name for label in labels] == [label.name for label in same_labels]
            probabilities = [label.probability for label in labels]
            assert [label.probability for label in same_labels] == pytest.approx(probabilities, abs=tolerance)
