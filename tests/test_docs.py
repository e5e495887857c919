"""Every command and snippet in README and the tutorial runs, on small pictures and for a few steps."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck import cli

ROOT = Path(__file__).parents[1]
SHORTER = [(r"--views \d+", "--views 2"), (r"--size \d+", "--size 32")]


def commands(page: str) -> list[str]:
    """Return the `limbeck` lines of a page's console blocks, shortened, comments left out."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("limbeck ")]
    for pattern, replacement in SHORTER:
        lines = [re.sub(pattern, replacement, line) for line in lines]
    return [f"{line} --epochs 2 --batch 50" if re.match("limbeck (teach|distill) --", line) else line for line in lines]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A working folder with photos/ in it: three classes told apart by colour, 150 to train on, 30 held out."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 50), ("val", 10)):
        for c, name in enumerate(("apple", "leaf", "sky")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 90, (40 + i % 7, 48, 3), dtype=np.uint8)
                pixels[..., c] += 120
                Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=90)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_every_command_of_the_page_runs(page, photos, capsys):
    found = commands(page)
    assert len(found) >= 7
    for line in found:
        code = cli.main(shlex.split(line, comments=True)[1:])
        out, err = capsys.readouterr()
        assert code == 0, f"{line}: {err}"
        if "--print-config" not in line:
            assert out.splitlines()[-1].startswith("--result {"), line


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(snippet.strip().splitlines()) == 6  # five lines and a blank one
    short = snippet.replace("epochs=5", "epochs=1, limit=256").replace('out="runs/s"', 'out="runs/s", training=learn')
    exec(compile(short, "README.md", "exec"), {})
    assert 0 <= float(capsys.readouterr().out.split()[0]) <= 1
    assert {path.name for path in Path("runs").iterdir()} == {"resnet8", "resnet14", "s"}
