"""Cameras of 12 bits in files of 16: --white, which what is trained keeps, so that every later verb sees the same."""

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck import runs
from limbeck.artefacts.models import load_model
from limbeck.cli import main
from limbeck.errors import InputError
from limbeck.images.images import to_channels
from limbeck.images.loader import batches
from limbeck.images.source import whitened
from limbeck.images.sources import open_source
from limbeck.images.views import Augment
from limbeck.integer import file
from limbeck.nets import zoo
from limbeck.nets.classifier import Input, white_of

WHITE = 4095


def folders(root: Path, height: int, width: int) -> None:
    """Write the same pictures with 8 bits, and as a camera of 12 bits has them."""
    generator = np.random.default_rng(0)
    for split, each in (("train", 8), ("val", 3)):
        for c, name in enumerate("ab"):
            for i in range(each):
                pixels = generator.integers(0, 256, (height, width + (i % 2) * (width > 96)), dtype=np.uint8)
                pixels[: height // 2] = pixels[: height // 2] // 4 + 150 * c
                for bits, values in (("8", pixels), ("12", np.rint(pixels.astype(np.float64) * WHITE / 255))):
                    folder = root / bits / split / name
                    folder.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(values.astype(np.uint8 if bits == "8" else np.uint16)).save(folder / f"{i}.png")


@pytest.mark.parametrize("white", [1, 255, 1023, 4095, 65535])
def test_white_and_all_above_is_255_and_the_rest_is_rounded_in_proportion(white):
    values = np.unique(np.r_[np.arange(0, 5000), np.arange(0, 65536, 97), white, 65535])
    made = np.asarray(to_channels(Image.fromarray(values[None].astype(np.uint16)), 1, white))[0]
    expected = [min(255, int(Fraction(255 * int(v), white) + Fraction(1, 2))) for v in values]
    assert made.tolist() == expected


@pytest.mark.parametrize("kind", ["crop", "none"])
def test_views_of_large_images_are_those_of_8_bits(tmp_path, kind):
    folders(tmp_path, 100, 110)
    plain, deep = (open_source(str(tmp_path / bits), "train") for bits in ("8", "12"))
    assert plain.pixels is deep.pixels is None
    seen = [
        torch.cat([batch.images for batch in batches(source, view, batch=16, seed=0, epoch=0)])
        for source, view in (
            (plain, Augment(12, kind)),
            (deep, Augment(12, kind, white=WHITE)),
            (deep, Augment(12, kind)),
        )
    ]
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.slow
def test_every_verb_sees_of_12_bits_what_it_sees_of_8(tmp_path, capsys):
    folders(tmp_path, 12, 12)
    said = {}
    for bits in ("8", "12"):
        out, data = tmp_path / f"out{bits}", tmp_path / bits
        white = ["--white", str(WHITE)] if bits == "12" else []
        quick = ["--epochs", "1", "--batch", "8", "--workers", "0", "--size", "12"]

        def done(*words: object, bits: str = bits) -> None:
            assert main([str(word) for word in words]) == 0, (bits, words, capsys.readouterr().err)

        net = ["--model", "resnet8", "--arguments", "width=4"]
        done("teach", "--data", data, *net, *quick, *white, "--out", out / "t")
        done("label", "--data", data, "--teachers", out / "t", "--weak-teachers", "--views", 2, "--workers", 0,
             "--out", out / "labels")  # fmt: skip
        student = ["--student", "resnet8", "--arguments", "width=4"]
        done("distill", "--data", data, *student, "--labels", out / "labels", *quick, "--out", out / "s")
        done(
            "distill", "--data", data, *student, "--teachers", out / "t", "--weak-teachers", *quick, "--out", out / "l"
        )
        done("teach", "--data", data, "--model", out / "s", *quick[:-2], "--out", out / "more")
        done("adapt", out / "s", "--source-free", "--target", data, *quick[:-2], "--out", out / "a")
        done("quantize", out / "s", "--data", data, "--calibration", 16, "--workers", 0, "--out", out / "s.program")
        done("export", out / "s", "--data", data, "--workers", 0, "--out", out / "s.onnx")
        done("export", out / "s.program", "--data", data, "--workers", 0, "--format", "c", "--out", out / "s.c")
        for model in ("s", "s.program", "s.onnx", "s.c"):
            done("evaluate", out / model, "--data", data, "--workers", 0, "--out", out / f"{model}-seen")
        done("predict", out / "s", data / "val", "--out", out / "p.csv")
        weights = [(out / run / "model.safetensors").read_bytes() for run in ("t", "s", "l", "more", "a")]
        tables = [
            (out / f"{model}-seen" / "predictions.csv").read_text() for model in ("s", "s.program", "s.onnx", "s.c")
        ]
        with (out / "p.csv").open() as table:
            predicted = [row[1:] for row in csv.reader(table)]
        said[bits] = weights, tables, predicted
        for run in ("t", "s", "l", "more", "a"):
            assert runs.read_json(out / run / "model.json")["input"].get("white") == (WHITE if white else None), run
        for model in ("s.program", "s.onnx", "s.c"):
            assert load_model(str(out / model)).input.white == (WHITE if white else 65535)
    assert said["8"] == said["12"]
    assert f"(255 v + {WHITE // 2}) / {WHITE}" in (tmp_path / "out12" / "s.h").read_text()
    assert "16 bits" not in (tmp_path / "out8" / "s.h").read_text()
    capsys.readouterr()
    assert main(["export", str(tmp_path / "out12" / "s.program"), "--format", "page", "--out", "x.html"]) == 2
    assert "in images of 16 bits" in capsys.readouterr().err
    labelled = ["--labels", str(tmp_path / "out12" / "labels"), "--white", "1023", "--out", str(tmp_path / "x")]
    assert main(["distill", "--data", str(tmp_path / "12"), "--student", "resnet8", *labelled]) == 2
    assert "--white is 1023, but the labels in" in capsys.readouterr().err


def test_what_is_brighter_than_white_is_told_and_what_is_darker_names_the_flag(tmp_path, capsys):
    folders(tmp_path, 12, 12)
    command = ["teach", "--data", str(tmp_path / "12"), "--model", "resnet8", "--dry-run", "--batch", "8", "--out"]
    assert main([*command, str(tmp_path / "x"), "--white", "1023"]) == 0
    err = " ".join(capsys.readouterr().err.split())
    assert "hold values up to 4,095; those over 1,023 become white" in err
    assert "--white 4095" in err
    assert main([*command, str(tmp_path / "x"), "--white", "65536"]) == 2
    assert "from 1 to 65535" in capsys.readouterr().err


def test_a_source_in_memory_is_read_anew_and_keeps_its_fingerprint(tmp_path):
    folders(tmp_path, 12, 12)
    deep, plain = (open_source(str(tmp_path / bits), "train") for bits in ("12", "8"))
    seen = whitened(deep, WHITE)
    assert (seen.pixels == plain.pixels).all()
    assert (deep.pixels != plain.pixels).any()
    assert seen.fingerprint == deep.fingerprint
    assert (whitened(seen, 65535).pixels == deep.pixels).all()


def test_nets_that_differ_in_white_are_asked_about():
    seen = [Input(8, 1, (0.5,), (0.5,), white=white) for white in (65535, 4095, 1023)]
    assert white_of(None, seen[:1]) is None
    assert white_of(None, seen[:2]) == 4095
    assert white_of(7, seen) == 7
    with pytest.raises(InputError, match=r"\[1023, 4095\]; say which is here with --white"):
        white_of(None, seen)


def test_programs_and_runs_from_before_there_was_a_white_are_read(tmp_path, monkeypatch):
    folders(tmp_path, 12, 12)
    words = ["--data", str(tmp_path / "8"), "--workers", "0"]
    assert main(["teach", *words, "--model", "resnet8", "--arguments", "width=4", "--epochs", "1", "--batch", "8",
                 "--out", str(tmp_path / "t")]) == 0  # fmt: skip
    assert "white" not in (tmp_path / "t" / "model.json").read_text()
    assert zoo.load(str(tmp_path / "t")).input.white == 65535
    assert main(["quantize", str(tmp_path / "t"), *words, "--out", str(tmp_path / "t.program")]) == 0
    monkeypatch.setattr(file, "_encode", without_white(file._encode))
    program = file.load(tmp_path / "t.program")
    file.save(program, tmp_path / "old.program")
    assert b"white" not in (tmp_path / "old.program").read_bytes()
    assert file.load(tmp_path / "old.program").input == program.input


def without_white(encode):
    def encoded(value):
        made = encode(value)
        return {k: v for k, v in made.items() if k != "white"} if isinstance(made, dict) else made

    return encoded
