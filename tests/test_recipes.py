"""Each recipe builds its nets and makes two real steps, on an ImageNet-shaped folder and with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck import cli
from limbeck.runs import read_toml

pytestmark = pytest.mark.slow

RECIPES = sorted((Path(cli.__file__).parent / "recipes").glob("mealv2_*.toml"))


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """Return train/ and val/ with a folder a synset, JPEGs of several sizes."""
    root = tmp_path_factory.mktemp("imagenet")
    generator = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for synset in ("n01440764", "n02102040", "n03394916"):
            folder = root / split / synset
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (70 + 9 * i, 90, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{synset}_{i}.JPEG")
    return root


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_makes_two_real_steps(path, imagenet, tmp_path, capsys):
    small = ["--batch", "2", "--size", "64", "--workers", "0"]
    code = cli.main(
        ["distill", "-c", str(path), "--data", str(imagenet), "--out", str(tmp_path / "r"), "--dry-run", *small]
    )
    out, err = capsys.readouterr()
    assert code == 0, err
    found = json.loads(out.splitlines()[-1].removeprefix("--result "))
    recipe = read_toml(path)
    assert found["model"] == recipe["student"].partition(".")[0]
    assert found["steps"] == 4 * recipe["epochs"]  # 9 images, 2 a step
    assert np.isfinite(found["loss"])
    assert found["loss"] > 0
    assert all(f"{teacher} has random weights" in err for teacher in recipe["teachers"])
    assert not (tmp_path / "r").exists()


def test_mealv2s_table_is_complete():
    assert len(RECIPES) == 8
