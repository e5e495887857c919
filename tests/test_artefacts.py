"""What lies at a path, and what may be written there: nothing of the user's is ever lost."""

import os
import shutil
from pathlib import Path

import pytest
from kinds_of_things import everything, snapshot

from limbeck.artefacts import readers
from limbeck.artefacts.kinds import kind_of, may_write
from limbeck.cli import VERBS, main
from limbeck.errors import InputError
from limbeck.fpga import simulate

pytestmark = pytest.mark.slow

KINDS = {
    "run": "run", "begun": "run", "labels": "label store", "design": "Design", "program": "Program",
    "onnx": "ONNX file", "report": "report", "evaluation": "evaluation", "data": "data folder",
    "old labels": "label store", "old design": "Design", "folder": "folder", "empty": "empty folder",
    "letter.txt": "file", "fake.program": "Program", "fake.onnx": "ONNX file", "fake.pte": "ExecuTorch file",
    "c": "C file", "c header": "C header", "fake.c": "file",
    "page.html": "file", "read-only": "empty folder", "link to a file": "file", "link to a folder": "folder",
    "link to nothing": "dead link", "loop": "dead link", "device": "special file", "pipe": "special file",
    "nothing": "nothing",
}  # fmt: skip


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """Return the paths of one of everything. Tests leave all of it as it is."""
    return everything(tmp_path_factory.mktemp("everything"))


def test_every_kind_is_told_from_the_others(there):
    assert {name: kind_of(path) for name, path in there.items()} == KINDS


def test_a_recipe_beside_the_users_files_makes_no_run(tmp_path):
    (tmp_path / "recipe.toml").write_text('verb = "teach"\n')
    assert kind_of(tmp_path) == "folder"
    (tmp_path / "state.pt").write_bytes(b"")
    assert kind_of(tmp_path) == "run"


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
def test_what_can_be_no_path_is_said_to_be_none(path):
    with pytest.raises(InputError, match="can't be opened"):
        kind_of(path)


# ---- writing ----------------------------------------------------------------------------------------------

WRITES = {
    "teach": "teach --data {data} --model resnet8 --epochs 1 --out",
    "distill": "distill --data {data} --student resnet8 --teachers {run} --weak-teachers --epochs 1 --out",
    "adapt": "adapt {run} --source-free --target {data} --epochs 1 --out",
    "label": "label --data {data} --teachers {run} --weak-teachers --views 1 --out",
    "zero-shot": "zero-shot RN50/openai --classes a b --out",
    "merge": "merge-labels {labels} --out",
    "quantize": "quantize {run} --data {data} --out",
    "export": "export {run} --data {data} --out",
    "c": "export {program} --format c --out",
    "executorch": "export {run} --format executorch --out",
    "compile": "compile {program} --out",
    "steps": "steps {run} --data {data} --out",
    "report": "report {run} --no-latency --out",
    "evaluate": "evaluate {run} --data {data} --out",
    "predict": "predict {run} {data} --out",
    "audit": "audit {run} --data {data} --images 4 --out",
    "bench": "bench {run} --out",
    "push": "push {run} --to local-dir:",
    "zoo": "zoo mnist --copy",
}
OF_ITS_OWN_KIND = {
    ("report", "report"), ("evaluate", "evaluation"), ("quantize", "program"), ("export", "onnx"),
    ("compile", "design"), ("c", "c"),
}  # fmt: skip
FOLDERS = {"teach", "zero-shot", "distill", "adapt", "label", "merge", "compile", "steps", "evaluate", "push"}
BLIND = {"compile", "merge", "push", "zoo", "bench", "executorch", "c", "report", "zero-shot"}  # they read no images
FREE = {"nothing", "empty"}


def words(verb, there):
    *start, last = WRITES[verb].split()
    recipe = next(path.stem for path in sorted((Path(readers.__file__).parents[1] / "recipes").glob("*.toml")))
    named = [word.format(**{key: str(path) for key, path in there.items()}) for word in start]
    return [recipe if word == "mnist" else word for word in named], last


def refused(capsys, arguments):
    """Run a command; return its one sentence, which it must end with."""
    code = main(arguments)
    err = capsys.readouterr().err.strip()
    assert code == 2, (arguments, code, err)
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith(f"limbeck {arguments[0]}: "), err
    return err


@pytest.mark.parametrize("verb", WRITES)
def test_no_verb_writes_over_what_is_not_of_its_own_kind(there, capsys, monkeypatch, tmp_path, verb):
    """Every --out against every kind; also inside a label store and a Design, among images, and `.`."""
    root = there["run"].parent
    inside = {f"in {name}": there[name] / "new" for name in ("labels", "design", "old labels", "old design")}
    inside |= {"among images": there["data"] / "train" / "new", "below a file": there["letter.txt"] / "new"}
    inside |= {"below read-only": there["read-only"] / "new", "here": Path()}
    monkeypatch.chdir(there["folder"])
    before = snapshot(root)
    for name, path in {**there, **inside}.items():
        if (verb, name) in OF_ITS_OWN_KIND or name == "nothing" or (name == "empty" and verb in FOLDERS):
            continue
        if name == "among images" and verb in BLIND:
            continue
        start, last = words(verb, there)
        joined = [f"{last}{path}"] if last.endswith(":") else [last, str(path)]
        refused(capsys, [*start, *joined])
        assert snapshot(root) == before, (verb, name)


@pytest.mark.parametrize("kind", ["run", "label store", "Design", "evaluation", "repository"])
@pytest.mark.parametrize("ending", [".program", ".onnx", ".pte", ".html"])
def test_a_folder_is_not_called_as_a_file_is(tmp_path, kind, ending):
    with pytest.raises(InputError, match=f"is a folder; leave {ending} out"):
        may_write(str(tmp_path / f"x{ending}"), kind)


@pytest.mark.parametrize("verb", WRITES)
def test_no_verb_goes_back_out_of_a_folder_that_is_not_there_or_lies_behind_a_link(there, capsys, tmp_path, verb):
    """When it was made, `gone/../letter.txt` was the user's letter."""
    root = there["run"].parent
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    for name in ("letter.txt", "folder", "design", "run"):  # beside the link, and where it leads something else
        (shutil.copytree if there[name].is_dir() else shutil.copy)(there[name], tmp_path / name)
    before = snapshot(root), snapshot(tmp_path)
    start, last = words(verb, there)

    def tried(place: str) -> list[str]:
        return [*start, *([f"{last}{place}"] if last.endswith(":") else [last, place])]

    said = ""
    for name in ("letter.txt", "folder", "run", "fake.program", "fake.onnx", "fake.pte", "net.c", "page.html", "x.csv"):
        said += refused(capsys, tried(f"{root}/gone/../{name}"))
        assert (snapshot(root), snapshot(tmp_path)) == before
    assert f"leads through {root}/gone, which is not there; leave it out" in said
    if verb in ("compile", "push"):  # which build a folder and put it in the other's place
        assert main(tried(f"{tmp_path}/link/../folder")) == 0, capsys.readouterr().err
        found = snapshot(tmp_path)
        assert {path: kept for path, kept in found.items() if not path.startswith("far/folder")} == before[1]


def test_a_verb_that_reads_images_writes_nothing_among_them(there, capsys):
    sentence = refused(
        capsys,
        [
            "report",
            str(there["run"]),
            "--data",
            str(there["data"]),
            "--out",
            str(there["data"] / "train" / "new" / "r.html"),
        ],
    )
    assert "among the images; choose a place outside" in sentence


def test_what_is_read_is_not_written(there):
    for spec in (str(there["run"]), f"local-dir:{there['run']}", f"resnet8@{there['run']}"):
        with pytest.raises(InputError, match="is also an input"):
            may_write(str(there["run"]), "run", inputs=(spec,))
    with pytest.raises(InputError, match="is also an input"):
        may_write(str(there["design"]), "Design", inputs=(str(there["design"] / "net.program"),))


@pytest.mark.parametrize("kind", ["Program", "ONNX file", "ExecuTorch file", "C file", "report"])
def test_a_file_that_only_ends_alike_stays(there, kind):
    name = {"Program": "fake.program", "ONNX file": "fake.onnx", "ExecuTorch file": "fake.pte", "C file": "fake.c"}
    name["report"] = "page.html"
    with pytest.raises(InputError, match="stays as it is"):
        may_write(str(there[name[kind]]), kind)


def test_a_read_only_file_stays_though_it_is_of_the_kind(there, tmp_path):
    shutil.copy(there["program"], tmp_path / "net.program")
    may_write(str(tmp_path / "net.program"), "Program")
    (tmp_path / "net.program").chmod(0o444)
    with pytest.raises(InputError, match="is read-only"):
        may_write(str(tmp_path / "net.program"), "Program")


def test_a_run_may_lie_behind_a_link_and_a_file_may_not(there, tmp_path):
    (tmp_path / "link").symlink_to(there["run"])
    may_write(str(tmp_path / "link"), "run")
    (tmp_path / "net.program").symlink_to(there["program"])
    with pytest.raises(InputError, match="is a link, which would be replaced"):
        may_write(str(tmp_path / "net.program"), "Program")


def test_a_design_is_replaced_only_as_it_was_written(there, capsys, tmp_path):
    design = tmp_path / "design"
    arguments = ["compile", str(there["program"]), "--max-dsp", "60", "--out", str(design)]
    assert main(arguments) == 0
    assert main(arguments) == 0  # as it was written
    assert [path.name for path in tmp_path.iterdir()] == ["design"]
    for change, said in (("memories/photo.jpg", "is new"), ("README.md", "is changed"), ("driver.py", "is missing")):
        shutil.copytree(design, tmp_path / "copy")
        own = tmp_path / "copy" / change
        own.unlink() if said == "is missing" else own.write_bytes(b"mine")
        before = snapshot(tmp_path)
        assert f"{change} {said}" in refused(capsys, [*arguments[:-1], str(tmp_path / "copy")])
        assert snapshot(tmp_path) == before
        shutil.rmtree(tmp_path / "copy")


def test_an_evaluation_is_replaced_unless_it_holds_more(there, tmp_path):
    shutil.copytree(there["evaluation"], tmp_path / "e")
    may_write(str(tmp_path / "e"), "evaluation")
    (tmp_path / "e" / "letter").write_text("dear")
    with pytest.raises(InputError, match="holds letter, which no evaluation writes"):
        may_write(str(tmp_path / "e"), "evaluation")


# ---- reading ----------------------------------------------------------------------------------------------

READS = {
    "data": "data {}",
    "teach": "teach --data {} --model resnet8 --batch 4 --dry-run --out gone",
    "distill": "distill --data {data} --student resnet8 --teachers {} --batch 4 --dry-run --out gone",
    "replay": "distill --data {data} --student resnet8 --labels {} --batch 4 --dry-run --out gone",
    "adapt": "adapt {} --source-free --target {data} --batch 4 --dry-run --out gone",
    "store": "info {}",
    "verify": "verify-labels {} --data {data} --teachers {run}",
    "evaluate": "evaluate {} --data {data}",
    "steps": "steps {} --data {data} --out {out}/speeds",
    "audit": "audit {} --data {data} --images 4 --out {out}/a.csv",
    "predict": "predict {} {data}/val/a/0.png",
    "seen": "predict {run} {}",
    "quantize": "quantize {} --data {data} --calibration 4 --out {out}/s.program",
    "export": "export {} --format qonnx --data {data} --calibration 4 --out {out}/s.onnx",
    "push": "push {} --to local-dir:{out}/pushed",
    "compile": "compile {} --max-dsp 60 --out {out}/design",
    "engine": "compile {program} --engine {} --out {out}/design",
    "simulate": "simulate {} --data {data}",
    "report": "report {} --no-latency --out {out}/r.html",
    "bench": "bench {} --rounds 1 --batch 1 2 --formats pytorch program",
    "serve": "serve {} --port 99999",
    "merge": "merge-labels {} --out {out}/merged",
    "label": "label --data {data} --teachers {} --weak-teachers --views 1 --out {out}/labels",
    "auto": "auto {} --dry-run --out {out}/auto",
    "zero-shot": "zero-shot local-dir:{} --classes a b --out {out}/clip",
    "names": "zero-shot RN50@gone.safetensors --classes {} --out {out}/clip",
    "zoo": "zoo {}",
    "recipe": "teach -c {} --dry-run",
}  # fmt: skip
SAID = ("doctor", "demo")  # read nothing


def test_the_table_has_every_verb():
    assert {line.split()[0] for line in READS.values()} | set(SAID) == set(VERBS)


@pytest.mark.parametrize("verb", READS)
def test_every_verb_takes_every_kind_or_says_why_not(there, capsys, monkeypatch, tmp_path, verb):
    monkeypatch.setattr(simulate, "available", lambda: "verilator not found")  # else designs take a minute to build
    monkeypatch.chdir(tmp_path)
    before = snapshot(there["run"].parent)
    for name, path in there.items():
        out = tmp_path / name.replace(" ", "-")
        out.mkdir()
        named = {key: str(value) for key, value in there.items()} | {"out": str(out)}
        arguments = [word.replace("{}", str(path)).format(**named) for word in READS[verb].split()]
        code = main(arguments)
        err = capsys.readouterr().err
        assert "Traceback" not in err, (verb, name, err)
        if code:
            assert code == 2, (verb, name, code, err)
            assert f"limbeck {arguments[0]}: " in err, (verb, name, err)
    assert snapshot(there["run"].parent) == before


def test_artefacts_of_0_1_0_are_read(there):
    for old, new in (("old labels", "labels"), ("old design", "design")):
        assert type(readers.read(there[old])) is type(readers.read(there[new]))
    assert readers.read(there["old labels"]).manifest == readers.read(there["labels"]).manifest
    assert readers.read(there["old design"]).cycles == readers.read(there["design"]).cycles


def test_everything_is_where_it_was(there):
    assert all(os.path.lexists(path) for name, path in there.items() if name != "nothing")
