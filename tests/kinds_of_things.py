"""One of everything that can lie at a path, made small: artefacts of Limbeck, of 0.1.0, and the user's own things."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from fpga_programs import random_program
from PIL import Image

from limbeck import runs
from limbeck.c import artefact
from limbeck.c.write import write
from limbeck.fpga.emit import emit
from limbeck.fpga.op import Lanes
from limbeck.fpga.plan import plan
from limbeck.images.labelling import write_shard
from limbeck.images.manifest import Manifest, Teacher, begin
from limbeck.images.sources import open_source
from limbeck.images.views import Augment
from limbeck.integer import file
from limbeck.nets import onnx, zoo

CLASSES, SIZE = ("a", "b", "c", "d"), 8


def photos(folder: Path) -> Path:
    """Six noisy images of each class, in memory, train and val."""
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for i in range(6):
                pixels = generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


def everything(folder: Path) -> dict[str, Path]:
    """Write one of each kind into `folder`; return their paths by what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    there = {name: folder / name for name in ("run", "begun", "labels", "design")}
    there["data"] = photos(folder / "photos")
    torch.manual_seed(0)
    net = zoo.create("resnet8", classes=CLASSES, channels=3, size=SIZE, arguments={"width": 4})
    source = open_source(str(there["data"]), "train")
    settings = {"data": str(there["data"]), "model": "resnet8", "epochs": 1, "seed": 0}
    for name in ("run", "begun"):
        runs.begin(there[name], "teach", settings, resume=False)
        data = {"spec": "photos", "images": len(source), "fingerprint": source.fingerprint}
        runs.write_json(there[name] / runs.ENVIRONMENT, {"versions": {}, "machine": {}, "data": data})
    lineage = zoo.save(net, there["run"])
    runs.write_json(there["run"] / runs.RESULTS, {"images": 24, "evaluation": {"top1": 0.25, "images": 24}})
    runs.write_history(there["run"], [{"epoch": 1.0, "lr": 0.1, "loss": 1.0}])

    manifest = Manifest(
        data=str(there["data"]), fingerprint=source.fingerprint, images=len(source), classes=CLASSES, views=1, seed=0,
        augment=Augment(SIZE, kind="shift", shift=1, flip=True), kind="whole", count=len(CLASSES), dtype="float16",
        tail="spread", average="probabilities", weights=(1.0,), temperature=1.0, teacher_dtype="float32",
        teachers=(Teacher(str(there["run"]), 0.5, asdict(lineage)),), shard_images=12,
    )  # fmt: skip
    begin(there["labels"], manifest)
    for shard in range(manifest.shards):
        write_shard(there["labels"], manifest, shard, source, lambda x: net.eval()(x).softmax(1).detach(), batch=12)
    runs.write_json(there["labels"] / "cost.json", {"seconds": 1.0})

    program = random_program(4, (3, SIZE, SIZE), len(CLASSES))
    there["program"] = folder / "net.program"
    file.save(program, there["program"])
    emit(plan(program, "xczu7ev", lanes=Lanes(2, 4, 8)), program, there["design"])
    there["onnx"] = folder / "net.onnx"
    onnx.export(net.eval(), there["onnx"])
    there["c"], there["c header"] = folder / "net.c", folder / "net.h"
    artefact.save(program, write(program, "net"), there["c"])
    there["report"] = folder / "report.html"
    there["report"].write_text("<!doctype html>\n<title>runs – Limbeck report</title>\n")
    there["evaluation"] = folder / "evaluation"
    runs.write_json(
        there["evaluation"] / runs.EVALUATION, {"model": "run", "net": "resnet8", "data": "p", "split": "val"}
    )

    there["old labels"] = folder / "labels-0.1.0"
    shutil.copytree(there["labels"], there["old labels"])
    (there["old labels"] / runs.LABELS).rename(there["old labels"] / runs.OLD_MANIFEST)
    there["old design"] = folder / "design-0.1.0"
    shutil.copytree(there["design"], there["old design"])
    known = json.loads((there["old design"] / runs.DESIGN).read_text())
    (there["old design"] / runs.DESIGN).unlink()
    told = {key: value for key, value in known.items() if key not in ("files", runs.SEAL)}
    (there["old design"] / runs.OLD_MANIFEST).write_text(json.dumps(told, indent=2))
    return there | users_own(folder)


def users_own(folder: Path) -> dict[str, Path]:
    """Write what Limbeck did not make; return it by what it is."""
    names = (
        "folder",
        "empty",
        "letter.txt",
        "fake.program",
        "fake.onnx",
        "fake.pte",
        "fake.c",
        "page.html",
        "read-only",
    )
    there = {name: folder / name for name in names}
    (there["folder"] / "deep").mkdir(parents=True)
    (there["folder"] / "deep" / "letter").write_text("dear")
    for name in ("recipe.toml", "model.json", "manifest.json", "labels.json", "design.json"):
        (there["folder"] / name).write_text('verb = "teach"\n' if name == "recipe.toml" else '{"mine": true}\n')
    there["empty"].mkdir()
    for name in names[2:8]:
        there[name].write_text("dear reader")
    there["read-only"].mkdir()
    there["read-only"].chmod(0o555)
    for name, to in (("link to a file", "letter.txt"), ("link to a folder", "folder"), ("link to nothing", "gone")):
        there[name] = folder / name.replace(" ", "-")
        there[name].symlink_to(folder / to)
    there["loop"] = folder / "loop"
    there["loop"].symlink_to(there["loop"])
    there["device"] = Path(os.devnull)
    there["pipe"] = folder / "pipe"
    os.mkfifo(there["pipe"])
    there["nothing"] = folder / "nothing"
    return there


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return every path below the folder with its kind, rights and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (mode, content)
    return found
