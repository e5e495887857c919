"""A small story on disk, whose names are hostile: teachers, labels' student, an adapted net, a Program, a design."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from limbeck.fpga.emit import emit
from limbeck.fpga.op import Lanes
from limbeck.fpga.plan import plan
from limbeck.images.sources import open_source
from limbeck.integer import file
from limbeck.integer.lower import lower
from limbeck.nets import zoo
from limbeck.nets.classifier import Lineage
from limbeck.runs import to_toml, write_history

SCRIPT = "<script>alert(1)<"  # a folder's name has no slash
CLASSES = tuple(sorted((SCRIPT, "a&b\"c'", "plain")))
SIZE, IMAGES = 12, 20  # pixels, images a class


def photos(folder: Path, shift: int) -> Path:
    """Grey images of three kinds of stripes, as train and val."""
    generator = np.random.default_rng(shift)
    for split in ("train", "val"):
        for kind, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for i in range(IMAGES):
                image = generator.integers(0, 120, (SIZE, SIZE))
                image[:: 2 + kind] += 60 + shift
                Image.fromarray(image.astype(np.uint8)).save(folder / split / name / f"{i}.png")
    return folder


def run(folder: Path, verb: str, seed: int, *, data: str, taught_by: tuple[Lineage, ...] = (), **recipe) -> Lineage:
    """Write a run folder of a net that was never trained; return its lineage."""
    torch.manual_seed(seed)
    net = zoo.create("resnet8", classes=CLASSES, channels=1, size=SIZE, arguments={"width": 4})
    with torch.no_grad():
        net.net.get_classifier().weight.mul_(20)  # untrained, but not undecided
    net.lineage = replace(net.lineage, licence="<b>CC0</b>", teachers=taught_by)
    folder.mkdir(parents=True)
    lineage = zoo.save(net, folder)
    settings = {"verb": verb, "data": data, "out": str(folder), "epochs": 2, "seed": seed, **recipe}
    (folder / "recipe.toml").write_text(to_toml({key: value for key, value in settings.items() if value != ""}))
    results = {"images": 48, "epochs": 2, "seconds": 1.5 * seed, "evaluation": {"top1": 0.25}}
    (folder / "results.json").write_text(json.dumps(results))
    versions = {"limbeck": "0.1.0", "python": SCRIPT}
    environment = {"versions": versions, "machine": {"device": "cpu"}, "data": {"spec": data, "fingerprint": "f" * 64}}
    (folder / "environment.json").write_text(json.dumps(environment))
    rows = [{"epoch": e, "lr": 0.1, "loss": 1 / e, "val_top1": 0.2 * e, f"val_{SCRIPT}": 0.5} for e in (1, 2)]
    write_history(folder, rows)
    return lineage


def story(folder: Path) -> Path:
    """Write the whole story; return the folder of its runs."""
    here, there = photos(folder / "here", 0), photos(folder / "there", 70)
    runs = folder / "runs"
    teachers = tuple(run(runs / f"teacher{seed}", "teach", seed, data=str(here), model="resnet8") for seed in (1, 2))
    student = runs / f"student {SCRIPT}"
    named = [str(runs / "teacher1"), str(runs / "teacher2")]
    run(student, "distill", 3, data=str(here), taught_by=teachers, student="resnet8", teachers=named)
    run(runs / "hard", "teach", 4, data=str(here), model="resnet8")
    adapted = runs / "adapted"
    run(adapted, "adapt", 5, data="", model=str(student), target=str(there), source=str(here), method="combined")
    results = json.loads((adapted / "results.json").read_text())
    report = {"images": 60, "source_only": 0.4, "norm": 0.5, "adapted": 0.7, "oracle": None}
    report["recall"] = {CLASSES[0]: [0.5, 0.9], CLASSES[1]: [0.6, 0.4], CLASSES[2]: [0.1, 0.8]}
    (adapted / "results.json").write_text(json.dumps({**results, "chosen": "0002", "collapse": "", "report": report}))

    net = zoo.load(str(student)).eval()
    program = lower(net, open_source(str(here), "train").pixels)
    file.save(program, runs / "student.program")
    emit(plan(program, "xczu7ev", lanes=Lanes(2, 4, 8)), program, runs / "design")
    assert asdict(net.lineage)["sha256"] == program.lineage["sha256"]
    return runs
