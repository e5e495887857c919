"""Every command and snippet in README and docs runs, on small pictures and for a few steps, or at least parses."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limbeck
from limbeck import cli

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
# Pages of one story run in one folder, in this order: the later ones use the earlier ones' runs.
STORIES = [["README.md"], ["docs/tutorial.md", "docs/howto.md", "docs/devices.md"], ["docs/adaptation.md"]]
SHORTER = [
    (r"--views \d+", "--views 2"),
    (r"--size \d+", "--size 32"),
    (r" --(?:epochs|batch) \d+", ""),
    (r"^(limbeck (?:teach|distill|adapt) .*)", r"\1 --epochs 2 --batch 50"),
    (r"^(limbeck (?:teach|adapt) .*digits:.*)", r"\1 --limit 200"),
    (r"^(limbeck (?:distill|label) .*)", r"\1 --weak-teachers"),  # after so short a training they are
]


def blocks(page: str, language: str = r"\w*") -> list[str]:
    """Return the fenced blocks of a page in a language; all of them by default."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)


def commands(page: str, language: str) -> list[str]:
    """Return the `limbeck` lines of a page's blocks, comments left out, `torchrun ... -m` in front of it too."""
    lines = [line for block in blocks(page, language) for line in block.replace("\\\n", " ").splitlines()]
    found = [re.sub(r"^torchrun .*?-m limbeck ", "limbeck ", line) for line in lines]
    return [shlex.join(shlex.split(line, comments=True)) for line in found if line.startswith("limbeck ")]


def shortened(line: str) -> str:
    for pattern, replacement in SHORTER:
        line = re.sub(pattern, replacement, line)
    return line


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A working folder with photos/ in it: three classes told apart by colour, 150 to train on, 30 held out; and
    field/ with 60 of which nobody says what they are."""
    generator = np.random.default_rng(0)

    def write(path: Path, c: int, i: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 90, (40 + i % 7, 48, 3), dtype=np.uint8)
        pixels[..., c] += 120
        Image.fromarray(pixels).save(path, quality=90)

    for c, name in enumerate(("apple", "leaf", "sky")):
        for split, count in (("train", 50), ("val", 10)):
            for i in range(count):
                write(tmp_path / "photos" / split / name / f"{i}.jpg", c, i)
        for i in range(20):
            write(tmp_path / "field" / f"{name}{i}.jpg", c, i)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_page_with_commands_to_run_is_in_a_story():
    assert {page for page in PAGES if commands(page, "console")} == {page for story in STORIES for page in story}


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES, ids=lambda story: "+".join(Path(page).stem for page in story))
def test_every_command_and_snippet_of_the_story_runs(story, photos, capsys):
    for page in story:
        for line in map(shortened, commands(page, "console")):
            code = cli.main(shlex.split(line)[1:])
            out, err = capsys.readouterr()
            assert code == 0, f"{page}: {line}: {err}"
            if "--print-config" not in line:
                assert out.splitlines()[-1].startswith("--result {"), line
        for snippet in blocks(page, "python") if page != "README.md" else []:
            short = re.sub(r"epochs=\d+", "epochs=2", snippet).replace(".distill(", ".distill(weak_teachers=True, ")
            exec(compile(short, page, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_on_the_page_is_one_of_the_command_lines(page, capsys, monkeypatch):
    """What can't run here parses: with --print-config a command shows its settings and stops."""
    monkeypatch.chdir(ROOT)
    for line in commands(page, r"\w*"):
        verb, *arguments = shlex.split(line)[1:]
        code = cli.main([verb, *arguments, *([] if verb.startswith("-") else ["--print-config"])])
        assert code == 0, f"{page}: {line}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES)
def test_files_targets_and_links_on_the_page_exist(page):
    text = (ROOT / page).read_text()
    scripts = re.findall(r"python ((?:benchmarks|docs|tests)/\S+\.py)", text)
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    folder = (ROOT / page).parent
    missing = [name for name in scripts if not (ROOT / name).is_file()]
    assert missing + [name for name in links if not (folder / name).exists()] == []
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"^make (\w[\w-]*)|`make (\w[\w-]*)`", text, flags=re.MULTILINE)) - _pairs(targets) == set()


@pytest.mark.slow
def test_the_site_has_every_page_a_search_and_no_link_that_leads_nowhere(tmp_path):
    pytest.importorskip("furo")
    copy = tmp_path / "limbeck"  # Sphinx looks at all that lies in its folder
    for name in [*PAGES, "CHANGELOG.md", "SECURITY.md", "benchmarks/README.md", "docs/conf.py"]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)

    def build() -> subprocess.CompletedProcess:
        words = ["-W", "--keep-going", "-q", "-c", copy / "docs", "-b", "html", copy, tmp_path / "site"]
        return subprocess.run([sys.executable, "-m", "sphinx", *words], capture_output=True, text=True, check=False)

    first = build()
    assert (first.returncode, first.stderr) == (0, "")
    made = {path.relative_to(tmp_path / "site").with_suffix(".md").as_posix() for path in tmp_path.rglob("*.html")}
    assert {*PAGES, "index.md", "search.md"} <= made
    with (copy / "docs/labels.md").open("a") as page:
        page.write("\n[x](nowhere.md) [y](howto.md#nothing)\n")
    assert len(build().stderr.splitlines()) == 2


def _pairs(names: list[str]) -> set[tuple[str, str]]:
    return {(name, "") for name in names} | {("", name) for name in names}


@pytest.mark.slow
def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (snippet,) = blocks("README.md", "python")
    assert len(snippet.strip().splitlines()) == 6  # five lines and a blank one
    short = snippet.replace("epochs=5", "epochs=1, limit=256")
    short = short.replace('out="runs/s"', 'out="runs/s", training=learn, weak_teachers=True')
    exec(compile(short, "README.md", "exec"), {})
    assert 0 <= float(capsys.readouterr().out.split()[0]) <= 1
    assert {path.name for path in Path("runs").iterdir()} == {"resnet8", "resnet14", "s"}


def test_every_verb_is_a_function_of_the_package():
    assert {verb.replace("-", "_") for verb in cli.VERBS} <= set(limbeck.__all__)
    assert all(callable(getattr(limbeck, name)) for name in limbeck.__all__ if name != "__version__")


def script(name: str) -> types.ModuleType:
    """Return a script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.slow
def test_the_drawing_of_the_imports_is_up_to_date():
    made = script("make_imports")
    assert made.drawing() in made.PAGE.read_text(), "run make reference"
    head, *lines = made.drawing().splitlines()
    for place, line in enumerate(lines):  # no folder imports one to its right
        assert set(line.split()[1 + place :]) <= {".", "-"}, f"{head}\n{line}"


def test_the_reference_is_up_to_date():
    made = script("make_reference")
    folders = {path.parent.name for path in (ROOT / "limbeck").glob("*/__init__.py")}
    assert {*made.FLOORS, "verbs"} == folders
    assert made.PAGE.read_text() == made.page(), "run make reference"
