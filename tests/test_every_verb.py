"""What holds of every verb: folders without labels, paths and streams of real machines."""

import html
import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kinds_of_things import everything
from PIL import Image, ImageCms
from tools import need

from limbeck import runs
from limbeck.artefacts.predictions import _view
from limbeck.cli import main
from limbeck.deploy.comparison import sample
from limbeck.deploy.simulate import _images
from limbeck.images.images import headers
from limbeck.nets import zoo
from limbeck.training.sets import centre, judged, to_compare
from limbeck.training.settings import Loading
from limbeck.ui import picture
from limbeck.ui.opened import opened

pytestmark = pytest.mark.slow

ODD = "my photos – ä ' \" $HOME {x} %s"


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """Return the paths of one of everything, in a folder of an odd name."""
    return everything(tmp_path_factory.mktemp("everything") / ODD)


# ---- folders of days or cameras ---------------------------------------------------------------------------

UNLABELLED = {  # the command, and a word of its refusal; empty where it needs no labels
    "data": ("data {days}", ""),
    "teach": ("teach --data {days} --model resnet8 --dry-run --out {out}", "--unlabelled leaves the labels"),
    "distill": (
        "distill --data {days} --student resnet8 --teachers {run} --weak-teachers --dry-run --batch 4 --out {out}", ""
    ),
    "adapt": ("adapt {run} --source-free --target {days} --dry-run --batch 4 --out {out}", ""),
    "label": ("label --data {days} --teachers {run} --weak-teachers --views 1 --out {out}", ""),
    "verify": ("verify-labels {labels} --data {days} --teachers {run}", "has other images"),
    "evaluate": ("evaluate {run} --data {days}", "--unlabelled leaves the labels"),
    "bench": ("bench {run} --data {days} --formats pytorch --rounds 1 --batch 1 2", ""),
    "steps": ("steps {run} --data {days} --out {out}", "no ODE block"),
    "quantize": ("quantize {run} --data {days} --calibration 4 --out {out}.program", ""),
    "export": ("export {run} --data {days} --format onnx-int8 --calibration 4 --out {out}.onnx", ""),
}  # fmt: skip


@pytest.mark.parametrize("verb", UNLABELLED)
def test_unlabelled_reads_no_labels_into_folders_of_days_or_is_refused(there, tmp_path, capsys, verb):
    generator = np.random.default_rng(0)
    for day in ("monday", "tuesday"):
        (tmp_path / "days" / day).mkdir(parents=True)
        for i in range(6):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "days" / day / f"{i}.png")
    command, refusal = UNLABELLED[verb]
    named = {**there, "days": tmp_path / "days", "out": tmp_path / "out"}
    code = main([*(word.format_map(named) for word in command.split()), "--unlabelled", "--json"])
    said = capsys.readouterr()
    assert code == (2 if refusal else 0), said.err
    assert refusal in said.err
    assert "monday" not in said.out.partition("--result")[2]


def test_the_page_reads_no_labels_into_folders_of_days(there):
    with opened((str(there["run"]),), data=str(there["data"] / "val"), split="train", unlabelled=True) as page:
        assert page.source.labels is None


# ---- the same pixels --------------------------------------------------------------------------------------


def odd_images(folder):
    """Write images of every mode, orientation and odd size, as cameras, scanners and tools do."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    smooth = Image.fromarray(generator.integers(0, 256, (7, 9, 4), dtype=np.uint8)).resize((180, 130))
    colour = Image.merge("RGB", smooth.split()[:3])
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[274] = turn
        colour.save(folder / f"turned{turn}.jpg", exif=exif)
        colour.save(folder / f"turned{turn}.tif", exif=exif)
    for mode in ("1", "L", "P", "CMYK", "LAB", "RGBA", "LA"):
        made = smooth if mode == "RGBA" else smooth.convert("L") if mode == "1" else colour
        ending = "tif" if mode in ("CMYK", "LAB") else "png"
        (ImageCms.applyTransform(colour, TO_LAB) if mode == "LAB" else made.convert(mode)).save(
            folder / f"{mode}.{ending}"
        )
    # without compression, Pillow before 12.3 can't read it
    colour.convert("YCbCr").save(folder / "YCbCr.tif", compression="tiff_lzw")
    deep = np.asarray(colour.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(deep).save(folder / "deep.tif")
    smooth.quantize(16).save(folder / "clear.png", transparency=3)
    colour.quantize(16).save(folder / "moves.gif", save_all=True, append_images=[colour.rotate(90).quantize(16)])
    colour.save(folder / "two.mpo", save_all=True, append_images=[colour.rotate(90)])
    colour.save(folder / "late.jpg", progressive=True)
    for width, height in ((1, 1), (1, 200), (500, 3), (96, 96), (97, 97), (40, 60), (8, 8)):
        colour.resize((width, height)).save(folder / f"{width}x{height}.webp", lossless=True)


TO_LAB = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")


def test_every_verb_sees_the_same_pixels_of_every_image(there, tmp_path):
    """Training's evaluation, evaluate and export; calibration; simulate; predict; the page, of a file and of a set."""
    odd_images(tmp_path / "odd")
    net = zoo.load(str(there["run"]))
    net.input = replace(net.input, size=24, crop_pct=0.8, interpolation="bicubic")
    source = to_compare(str(tmp_path), Loading(unlabelled=True), channels=3)
    assert len(source) > 30
    evaluated = torch.cat([batch.images for batch in judged(net, source, 16, workers=0)]).numpy()
    calibrated = sample(net, source, len(source), 0).numpy()
    simulated, _ = _images(source, SimpleNamespace(input=SimpleNamespace(**vars(net.input), height=24, width=24)))
    assert sorted(map(bytes, calibrated)) == sorted(map(bytes, evaluated))  # drawn in another order
    for place, key in enumerate(source.keys):
        path = tmp_path / key
        (header,) = headers([path])
        seen = {
            "simulate": simulated[place],
            "predict": _view(path, header, net.input),
            "page, a file": picture.view_of(picture.uploaded(path.read_bytes()), centre(net.input)),
            "page, a set": picture.view_of(picture.of_source(source, place), centre(net.input)),
        }
        for verb, pixels in seen.items():
            assert np.array_equal(pixels, evaluated[place]), (verb, key)


@pytest.mark.slow
def test_exported_files_say_of_every_odd_image_what_their_net_says(there, tmp_path, capsys):
    """A float ONNX file to float32's rounding; C its Program, integer for integer."""
    odd_images(tmp_path / "odd")
    run, out = str(there["run"]), tmp_path / "out"
    calibrated = ["--data", str(there["data"]), "--calibration", "24", "--workers", "0"]
    made = {
        "s.onnx": ["export", run, *calibrated],
        "s8.onnx": ["export", run, "--format", "onnx-int8", *calibrated],
        "s.program": ["quantize", run, *calibrated],
        "s.c": ["export", str(out / "s.program"), "--format", "c", "--data", str(there["data"]), "--workers", "0"],
    }
    said = {}
    for name, command in {"run": [], **made}.items():
        if command:
            assert main([*command, "--out", str(out / name)]) == 0, capsys.readouterr().err
        model = str(out / name) if command else run
        assert main(["predict", model, str(tmp_path / "odd"), "--top", "4", "--out", str(out / f"{name}.json")]) == 0
        named = runs.read_json(out / f"{name}.json")["images"]
        said[name] = [{la["class"]: la["probability"] for la in one["labels"]} for one in named]
    assert len(said["run"]) > 30
    assert said["s.c"] == said["s.program"]
    for name, most in {"s.onnx": 1e-5, "s8.onnx": 0.1, "s.program": 0.1}.items():  # 8 bits of a net of random weights
        apart = [abs(one[c] - other[c]) for one, other in zip(said["run"], said[name], strict=True) for c in one]
        assert max(apart) <= most, (name, max(apart))


# ---- two at once ------------------------------------------------------------------------------------------


def test_a_second_process_does_not_label_what_another_is_labelling(there, tmp_path, capsys):
    out = tmp_path / "labels"
    named = {**there, "out": out}
    command = [word.format_map(named) for word in UNLABELLED["label"][0].replace("{days}", "{data}").split()]
    assert main(command) == 0
    asks, tells = os.pipe()
    ready, claimed = os.pipe()
    if not (child := os.fork()):
        runs.claim(out)
        os.write(claimed, b"x")
        os.close(tells)
        os.read(asks, 1)
        os._exit(0)
    os.close(asks)
    os.read(ready, 1)
    assert main(command) == 2
    assert f"another process is writing to {out}; wait until it ends" in capsys.readouterr().err
    os.close(tells)
    os.waitpid(child, 0)
    assert main(command) == 0


WRITING = {
    "label": UNLABELLED["label"][0].replace("{days}", "{data}").replace("--views 1", "--views 40"),
    "quantize": "quantize {run} --data {data} --calibration 4 --out {out}.program",
    "compile": "compile {program} --max-dsp 60 --out {out}",
    "report": "report {run} --no-latency --out {out}.html",
}


@pytest.mark.parametrize("verb", WRITING)
def test_a_disk_that_fills_up_ends_in_a_sentence_and_leaves_no_part(there, tmp_path, verb):
    """A process may write 1000 bytes a file, which the system enforces as it does a full disk."""
    named = {**there, "out": tmp_path / "out"}
    asks, tells = os.pipe()
    if not (child := os.fork()):
        code = 99
        try:
            sys.stdout = sys.stderr = open(tells, "w", buffering=1)  # noqa: SIM115 - until the process ends
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            code = main([word.format_map(named) for word in WRITING[verb].split()])
        finally:
            os._exit(code)
    os.close(tells)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = os.read(asks, 1 << 16).decode()
    assert code == 2, said
    assert f"limbeck {verb}: cannot write " in said
    assert "Traceback" not in said
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".partial")]


# ---- paths and streams of real machines -------------------------------------------------------------------

PLAIN = [
    "data {data}",
    "teach --data {data} --model resnet8 --arguments width=4 --epochs 1 --batch 8 --track tensorboard --out {out}/run",
    "label --data {data} --teachers {run} --weak-teachers --views 1 --shift 1 --out {out}/labels",
    "merge-labels {labels} {out}/labels --out {out}/merged",
    "verify-labels {labels} --data {data} --teachers {run}",
    "info {labels}",
    "distill --data {data} --student resnet8 --labels {labels} --batch 8 --epochs 1 --out {out}/student",
    "distill --data {data} --student resnet8 --labels {labels} --batch 8 --epochs 2 --resume --out {out}/more",
    "adapt {run} --source-free --target {data} --method norm --batch 8 --out {out}/adapted",
    "evaluate {run} --data {data} --teachers {out}/run --out {out}/evaluation",
    "predict {run} {data}/val --out {out}/predictions.csv",
    "quantize {run} --data {data} --calibration 4 --out {out}/x.program",
    "export {run} --data {data} --out {out}/x.onnx",
    "evaluate {out}/x.onnx --data {data}",
    "compile {program} --max-dsp 60 --out {out}/design",
    "push {run} --to local-dir:{out}/published",
    "evaluate local-dir:{out}/published --data {data}",
    "report {run} {out}/run {labels} {out}/x.program {out}/design --trust --no-latency --out {out}/report.html",
    "bench {run} --rounds 1 --batch 1 2 --formats pytorch --out {out}/bench.md",
    "zoo",
    "zoo mealv2_resnet18 --copy {out}/recipe.toml",
    "doctor",
]  # fmt: skip
SCRIPT = """
import sys
from limbeck.cli import main
for line in open(sys.argv[1], encoding="utf-8").read().splitlines():
    code = main(line.split("\\t"))
    if code:
        sys.exit(f"{ascii(line)}: {code}")
"""


def test_every_verb_works_under_an_odd_path_with_streams_that_know_ascii_alone(there, tmp_path):
    out = tmp_path / ODD / "out"
    out.mkdir(parents=True)
    named = {**there, "out": out}
    lines = ["\t".join(word.format_map(named) for word in line.split()) for line in PLAIN]
    (tmp_path / "commands").write_text("\n".join(lines), encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "commands")],
        env={**os.environ, **plain}, cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()
    shutil.rmtree(out)


# ---- C ----------------------------------------------------------------------------------------------------


def test_verbs_answer_of_a_c_file_as_of_its_program(there, tmp_path, monkeypatch, capsys):
    """Compiled once, in the user's cache; bench has a row of its own for it, and the report says that it compared."""
    need("gcc")
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)

    def said(command):
        assert main([*command, "--json"]) == 0
        return json.loads(capsys.readouterr().out.rpartition("--result ")[2])

    data, models = ["--data", str(there["data"])], (str(there["c"]), str(there["program"]))
    photos = [str(path) for path in sorted((there["data"] / "val").rglob("*.png"))]
    predicted, program = (said(["predict", model, *photos])["images"] for model in models)
    assert predicted == program
    evaluated, program = (said(["evaluate", model, *data]) for model in models)
    for key in ("top1", "nll", "per_class"):
        assert evaluated[key] == program[key]
    rows = said(["bench", *models, *data, "--formats", "c", "program", "--rounds", "1", "--batch", "1", "2"])["rows"]
    assert [row["format"] for row in rows] == ["c", "program", "c"]
    assert {row["top1"] for row in rows} == {evaluated["top1"]}
    said(["report", models[0], *data, "--out", str(tmp_path / "r.html")])
    assert "every score the Program's, on 24 images" in html.unescape((tmp_path / "r.html").read_text())
    assert len(list((tmp_path / ".cache" / "limbeck" / "libraries").glob("*.so"))) == 2  # bench's has another name
