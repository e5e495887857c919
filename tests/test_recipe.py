"""Recipes: what a file may say, and how it is told what it may not."""

import pytest

from limbeck.errors import InputError
from limbeck.recipe import flags, nearest, read

KINDS = {"epochs": int, "data": str, "resume": bool, "milestones": tuple[float, ...], "weight_decay": float}


def recipe(folder, text: str):
    path = folder / "r.toml"
    path.write_text(text)
    return path


def test_a_recipe_becomes_flags(tmp_path):
    path = recipe(
        tmp_path, 'verb = "teach"\nepochs = 3\nweight_decay = 0.5\nresume = false\nmilestones = [1, 2.5]\ndata = "a b"'
    )
    expected = ["--epochs", "3", "--weight-decay", "0.5", "--no-resume", "--milestones", "1", "2.5", "--data", "a b"]
    assert flags(read(path, "teach", KINDS)) == expected


def test_what_is_not_said_is_not_set(tmp_path):
    assert read(recipe(tmp_path, "# nothing\n"), "teach", KINDS) == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epoch = 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("xyz = 3", "unknown key 'xyz'; limbeck teach --help lists them"),
        ('verb = "distill"', "a recipe for limbeck distill, not for limbeck teach"),
        ("[epochs]\nn = 3", "epochs is neither a string, a number, a boolean nor a list"),
        ("milestones = [[1]]", "milestones is neither"),
        ("epochs = 2001-01-01", "epochs is neither"),
        ("epochs = true", "epochs is True, but takes no boolean"),
        ('resume = "yes"', "resume is 'yes', but takes true or false"),
        ("epochs = ", "is not readable TOML"),
        ("epochs = 1\nepochs = 2", "is not readable TOML"),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path, text, sentence):
    path = recipe(tmp_path, text)
    with pytest.raises(InputError) as error:
        read(path, "teach", KINDS)
    assert sentence in str(error.value)
    assert str(path) in str(error.value)


def test_a_recipe_that_is_missing_is_said(tmp_path):
    with pytest.raises(InputError, match=r"r\.toml is missing"):
        read(tmp_path / "r.toml", "teach", KINDS)


def test_a_word_without_a_neighbour_gets_no_guess():
    assert nearest("teech", ["teach", "distill"]) == "; did you mean 'teach'?"
    assert nearest("zzz", ["teach", "distill"]) == ""
