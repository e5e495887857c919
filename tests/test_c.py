"""A Program in C: every score is the Program's, whatever compiles it."""

import io
import subprocess
from dataclasses import replace
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from interpreter import interpret
from PIL import Image
from programs import random_program
from tools import need

from limbeck.c import artefact, page, running
from limbeck.c.memory import bytes_of, plan, steps
from limbeck.c.write import Written, selftest_images, write
from limbeck.errors import InputError
from limbeck.integer.program import image_extent, run
from limbeck.integer.survey import survey

STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
SANE = ["-fsanitize=undefined,address", "-fno-sanitize-recover=all", "-g1", "-O1"]


def put(folder: Path, written: Written) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{written.name}.h").write_text(written.header)
    (folder / f"{written.name}.c").write_text(written.source)
    return folder / f"{written.name}.c"


def passes(source: Path, *command: str) -> None:
    """Compile with the self-test and run it."""
    program = source.with_suffix(".exe")
    arguments = [*command, "-DLIMBECK_SELFTEST", str(source), "-o", str(program)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["pass"]), done.stderr[:2000]


@pytest.mark.slow
@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_every_score_is_the_programs(tmp_path, monkeypatch, seed, extreme):
    """Compiled strictly and with sanitisers, as C and as C++; `interpret` shares nothing with either."""
    need("gcc", "g++")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    program, images = random_program(900 + seed, extreme)
    written = write(program, "net")
    scores = running.opened(program, written)(images)
    last = program.nodes[-1].name
    expected = [interpret(program, image)[last][:, 0, 0] for image in images]
    assert (scores == np.array(expected)).all()
    source = put(tmp_path, written)
    passes(source, "gcc", *STRICT, *SANE)
    passes(source, "g++", "-x", "c++", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O0")


def test_a_group_is_not_taken_for_the_whole_map(tmp_path):
    """Four groups of one channel, 1x1: as long as a window, but not one."""
    need("gcc")
    program, _ = random_program(1130, False)
    assert any(getattr(node.op, "groups", 1) == 4 for node in program.nodes)
    passes(put(tmp_path, write(program, "net")), "gcc")


def test_maps_that_live_at_once_lie_apart_or_follow_what_is_read():
    """Played through byte by byte."""
    for seed in range(40):
        program, _ = random_program(seed, False)
        order = tuple(steps(survey(program)))
        memory = plan(image_extent(program), order)
        extents = {"input": image_extent(program)}
        owner = np.full(memory.size, "", object)
        owner[memory.places["input"] :][: bytes_of(extents["input"])] = "input"
        for number, step in enumerate(order):
            later = {name for other in order[number + 1 :] for name, _ in other.reads}
            extents[step.name] = step.last.out
            owner[memory.places[step.name] :][: bytes_of(step.last.out)] = step.name
            for name in later & {*extents}:
                assert (owner[memory.places[name] :][: bytes_of(extents[name])] == name).all(), (seed, step.name, name)


def test_a_net_is_known_by_its_program_and_nothing_else_is_compiled(tmp_path):
    program, images = random_program(1, False)
    artefact.save(program, write(program, "net"), tmp_path / "other.c")
    found, written = artefact.load(tmp_path / "other.c")
    assert (run(found, images) == run(program, images)).all()
    assert written.name == "net"
    text = (tmp_path / "other.c").read_text()
    unsealed = text.replace("limbeck-sha256:", "sha256:").replace("int k;", "int k; system(0);", 1)
    for changed, said in ((text.replace("int k;", "int j;", 1), "damaged"), (unsealed, "not what this Limbeck writes")):
        (tmp_path / "other.c").write_text(changed)
        with pytest.raises(InputError, match=said):
            artefact.load(tmp_path / "other.c")
    (tmp_path / "other.c").write_text("int main(void) { return 0; }\n")
    with pytest.raises(InputError, match="only these are run"):
        artefact.load(tmp_path / "other.c")


def test_names_of_all_kinds_can_stand_in_c(tmp_path):
    need("gcc")
    program, _ = random_program(2, False)
    odd = ('a"b\\', "???/", "*/ int x;", "ü\n漢")
    names = {node.name: f"{node.name}*/ \\\n??/" for node in program.nodes}
    nodes = tuple(
        replace(node, name=names[node.name], inputs=tuple(names.get(name, name) for name in node.inputs))
        for node in program.nodes
    )
    program = replace(program, nodes=nodes, classes=odd[: len(program.classes)], lineage={"tag": "*/ \\\n #error"})
    passes(put(tmp_path, write(program, "4 nets")), "gcc", *STRICT)


def test_the_self_test_fails_where_a_table_differs(tmp_path):
    need("gcc")
    program, _ = random_program(3, False)
    written = write(program, "net")
    key = program.nodes[-1].op.requant.mult
    other = write(replace(program, tensors={**program.tensors, key: program.tensors[key] // 2}), "net")
    mixed = other.source.partition("#ifdef LIMBECK_SELFTEST")[0] + "#ifdef LIMBECK_SELFTEST"
    mixed += written.source.partition("#ifdef LIMBECK_SELFTEST")[2]
    with pytest.raises(AssertionError):
        passes(put(tmp_path, replace(written, source=mixed)), "gcc")


def test_a_compiler_that_fails_or_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    program, _ = random_program(4, False)
    with pytest.raises(InputError, match="can't compile the net"):
        running.build(replace(write(program, "net"), source="nonsense"))
    monkeypatch.setattr(running, "COMPILERS", ())
    with pytest.raises(InputError, match="no C compiler; apt-get install gcc"):
        running.build(write(program, "net"))


@pytest.mark.slow
def test_a_page_has_the_programs_scores_and_asks_nobody(tmp_path):
    need("clang", "wasm-ld", "chromium", "playwright")
    from playwright.sync_api import sync_playwright

    program = next(p for p, _ in (random_program(seed, False) for seed in range(9)) if p.input.channels in (1, 3))
    page.save(program, write(program, "net"), tmp_path / "net.html")
    images = selftest_images(program)
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        shown = browser.new_page()
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto((tmp_path / "net.html").as_uri())
        for image, expected in zip(images, run(program, images), strict=True):
            pixels = image.transpose(1, 2, 0).reshape(-1).tolist()
            assert shown.evaluate("pixels => scoresOf(Uint8Array.from(pixels))", pixels) == expected.tolist()
        shown.locator("#file").set_input_files(files=[{"name": "a.png", "mimeType": "image/png", "buffer": _png()}])
        shown.wait_for_selector("#answer li")
        assert shown.locator("#answer li").count() == min(5, len(program.classes))
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []


def _png() -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(written, "png")
    return written.getvalue()
