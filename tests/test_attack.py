"""A small, seeded attack on every artefact: flips are noticed, mutations end in a sentence, kills leave no mixture.

benchmarks/attack.py is the large one; docs/reliability.md says what is promised.
"""

import contextlib
import copy
import json
import os
import random
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kinds_of_things import everything

from limbeck import runs
from limbeck.artefacts import readers
from limbeck.errors import InputError
from limbeck.fpga import design
from limbeck.images.labels import LabelStore
from limbeck.images.source import sums_of
from limbeck.integer import file
from limbeck.integer.program import run
from limbeck.nets import onnx, zoo

NASTY = (None, True, -1, 0, 1 << 70, 1e308, float("nan"), "", "../../../etc/passwd", "/dev/zero", "\0", [], {}, [[]])


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    return everything(tmp_path_factory.mktemp("attacked"))


PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)


def logits(net):
    with torch.inference_mode():
        return net.eval()(torch.from_numpy(PIXELS)).tolist(), net.classes


READERS = {
    "run/model.json": lambda path: logits(zoo.load(str(path.parent))),
    "run/model.safetensors": lambda path: logits(zoo.load(str(path.parent))),
    "net.program": lambda path: (run(file.load(path), PIXELS).tolist(), file.load(path).classes),
    "net.onnx": lambda path: logits(onnx.load(path)),
    "design/design.json": lambda path: design.read(path.parent).manifest,
    "design/net.program": lambda path: design.read(path.parent).manifest,
    "design/memories/weight0.mem": lambda path: (design.read(path.parent.parent).manifest, path.read_text()),
    "labels/labels.json": lambda path: LabelStore.open(path.parent).manifest,
    "labels/shard-00000.bin": lambda path: (LabelStore.open(path.parent).manifest, path.read_bytes()),
}


def attacked(there, tmp_path, name):
    """Return a copy of an artefact's file, in a copy of its folder."""
    root = there["run"].parent
    top = name.split("/")[0]
    (shutil.copytree if (root / top).is_dir() else shutil.copy)(root / top, tmp_path / top)
    return tmp_path / name


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_is_noticed_or_changes_nothing(there, tmp_path, name):
    path = attacked(there, tmp_path, name)
    whole, chance = path.read_bytes(), random.Random(name)
    expected, noticed = READERS[name](path), 0
    for _ in range(25):
        place, bit = chance.randrange(len(whole)), chance.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        try:
            assert READERS[name](path) == expected, f"bit {bit} of byte {place}"
        except InputError:
            noticed += 1
    assert noticed >= 20  # the others lie in spaces or in the mark of the seal itself


def mutated(document, chance):
    """Return the document with one value, somewhere in it, that should not be there."""
    document = copy.deepcopy(document)
    at, key = document, None
    while isinstance(at, dict | list) and at:
        holder, key = at, chance.choice(list(at) if isinstance(at, dict) else range(len(at)))
        at = holder[key]
        if chance.random() < 0.4:
            break
    if key is not None:
        if chance.random() < 0.2:
            del holder[key]
        else:
            holder[key] = chance.choice(NASTY)
    return document


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run/model.json", "run/results.json", "design/design.json", "labels/labels.json"])
def test_a_mutated_document_ends_in_a_sentence(there, tmp_path, name):
    """The mutation is sealed again, as a stranger would; paths in it lead nowhere."""
    path = attacked(there, tmp_path, name)
    document, chance = runs.read_json(path), random.Random(name)
    for _ in range(60):
        changed = mutated(document, chance)
        runs.write_json(path, changed) if chance.random() < 0.5 else runs.write_sealed(path, changed)
        with contextlib.suppress(InputError):
            readers.read(path.parent)
            zoo.load(str(path.parent)) if name.startswith("run/") else None


@pytest.mark.parametrize("name", ["run/model.json", "design/design.json", "labels/labels.json", "run/recipe.toml"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"a = " + b"[" * 100_000, b"nul", b'"\\ud800"'])
def test_what_is_no_document_ends_in_a_sentence(there, tmp_path, name, content):
    path = attacked(there, tmp_path, name)
    path.write_bytes(content)
    for read in (readers.read, lambda folder: readers.find([str(folder)])):
        with contextlib.suppress(InputError):
            read(path.parent)


def test_a_document_that_is_a_device_is_not_read(there, tmp_path):
    path = attacked(there, tmp_path, "design/design.json")
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(InputError):
        readers.read(path.parent)
    with pytest.raises(InputError, match="is no file"):
        runs.read_json(Path("/dev/zero"))


def test_a_memory_outside_the_design_is_not_read(there, tmp_path):
    path = attacked(there, tmp_path, "design/design.json")
    document = runs.read_json(path)
    for place in ("../outside.mem", "/dev/zero", "memories/../../outside.mem"):
        document["memories"][0]["file"] = place
        runs.write_sealed(path, document)
        with pytest.raises(InputError, match="no memory"):
            design.read(path.parent)


def test_a_program_that_was_put_in_a_designs_place_is_noticed(there, tmp_path):
    path = attacked(there, tmp_path, "design/net.program")
    other = file.load(path)
    file.save(replace(other, classes=other.classes[::-1]), path)
    with pytest.raises(InputError, match="is not the Program that"):
        design.read(path.parent)


@pytest.mark.parametrize("before", [False, True])
def test_what_a_kill_leaves_is_swept_and_nothing_is_mixed(tmp_path, before):
    out = tmp_path / "design"
    if before:
        out.mkdir()
        (out / "old").write_text("old")
    code = (
        "import os, sys, pathlib; from limbeck.runs import building\n"
        "with building(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('half'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(out)], check=False).returncode == -9
    assert [path.name for path in out.iterdir()] == ["old"] if before else not out.exists()
    assert len(list(tmp_path.iterdir())) == 1 + before
    with runs.building(out) as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["design"]
    assert [path.name for path in out.iterdir()] == ["new"]


def test_what_another_process_builds_is_not_swept(tmp_path):
    with runs.building(tmp_path / "design") as first:
        (first / "first").write_text("")
        with runs.building(tmp_path / "design") as second:
            assert (first / "first").exists()
            (second / "second").write_text("")


def test_a_seal_covers_every_byte_and_files_without_one_are_read():
    data = runs.sealed(b"a" + runs.OPEN_SEAL.encode() + b"b", b"more")
    runs.check_seal(data + b"more", "x")
    runs.check_seal(b"of 0.1.0", "x")
    for place in (0, len(data) - 1, len(data)):
        whole = bytearray(data + b"more")
        whole[place] ^= 1
        with pytest.raises(InputError, match="is damaged"):
            runs.check_seal(bytes(whole), "x")


def test_new_files_have_the_rights_of_the_umask_and_old_ones_keep_theirs(tmp_path):
    before = os.umask(0o077)
    try:
        runs.write_text(tmp_path / "private", "a")
    finally:
        os.umask(before)
    runs.write_text(tmp_path / "private", "b")
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


def test_sums_of_a_large_image_take_little_memory():
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    tracemalloc.start()
    number, total, squares = sums_of(pixels, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6  # a float64 copy would be 96 MB, and its square as much again
    flat = pixels.reshape(-1, 3).astype(np.int64)
    assert number.tolist() == [4e6] * 3
    np.testing.assert_allclose(255 * total, flat.sum(0), rtol=1e-12)
    np.testing.assert_allclose(255**2 * squares, (flat**2).sum(0), rtol=1e-12)


def test_json_of_results_ends_with_its_own_sum(tmp_path):
    runs.write_sealed(tmp_path / "r.json", {"top1": 0.5})
    assert runs.read_json(tmp_path / "r.json") == {"top1": 0.5}
    text = (tmp_path / "r.json").read_text()
    assert json.loads(text)["seal"].startswith("limbeck-sha256:")
    (tmp_path / "r.json").write_text(text.replace("0.5", "0.6"))
    with pytest.raises(InputError, match="is damaged"):
        runs.read_json(tmp_path / "r.json")
