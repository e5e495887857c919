"""limbeck zoo: what it lists is what there is; a recipe is copied whole and never over another file."""

import re
from pathlib import Path

import pytest

from limbeck import cli
from limbeck.errors import InputError
from limbeck.nets import odenet, tiny
from limbeck.runs import RECIPES
from limbeck.verbs.info import info
from limbeck.verbs.zoo import zoo

PAGES = ("docs/experiments.md", "docs/fpga-figures.md", "benchmarks/README.md")
NAME = "mealv2_resnet18"


@pytest.fixture(scope="module")
def listed():
    return zoo()


@pytest.mark.slow
def test_every_recipe_is_listed_with_the_first_line_of_its_head(listed):
    assert [one.name for one in listed.recipes] == sorted(path.stem for path in RECIPES.glob("*.toml"))
    for one in listed.recipes:
        assert f"# {one.about}\n" == (RECIPES / f"{one.name}.toml").read_text().splitlines(keepends=True)[0]


@pytest.mark.slow
def test_every_net_of_ours_is_listed(listed):
    assert [one.name for one in listed.nets] == [*odenet.default_cfgs, *tiny.default_cfgs]


@pytest.mark.parametrize("name", ["resnet8", "dsodenet20", "mlperf_resnet8"])
def test_nets_cost_what_info_counts(listed, name):
    (net,) = (one for one in listed.nets if one.name == name)
    counted = info(name, size=net.size)
    assert (net.parameters, net.macs) == (counted.parameters, counted.macs)


def test_a_recipe_is_shown_as_it_is():
    shown = zoo(NAME)
    assert [row[0] for row in shown.rows()] == (RECIPES / f"{NAME}.toml").read_text().splitlines()
    assert zoo(f"{NAME}.toml") == shown


def test_a_copied_recipe_is_the_recipe_and_no_file_is_written_over(tmp_path):
    path = tmp_path / "mine.toml"
    assert zoo(NAME, copy=str(path)).copied == str(path)
    assert path.read_bytes() == (RECIPES / f"{NAME}.toml").read_bytes()
    path.write_text("mine")
    with pytest.raises(InputError, match="is there already and stays as it is"):
        zoo(NAME, copy=str(path))
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mealv2_resnet81", "did you mean mealv2_resnet18"),
        ("cutmix", "did you mean mealv2_resnet50_cutmix?"),
        ("dsodenet20", "limbeck info dsodenet20 shows it"),
        ("../recipes/mealv2_resnet18", "there is no recipe"),
        ("zzz", "limbeck zoo lists them"),
    ],
)
def test_a_wrong_name_gets_a_hint(name, words):
    with pytest.raises(InputError) as refused:
        zoo(name)
    assert words in str(refused.value)


def test_teachers_are_tags_that_match():
    found = zoo(teachers="resnet152*").teachers
    assert "resnet152s.gluon_in1k" in [one.tag for one in found]
    assert all(one.tag.startswith("resnet152") and "." in one.tag and one.size >= 64 for one in found)


def test_what_names_no_classes_is_no_teacher():
    assert not [one.tag for one in zoo(teachers="vit_base_patch16*").teachers if ".dino" in one.tag]
    with pytest.raises(InputError, match="name no classes, so they can't teach"):
        zoo(teachers="vit_base_patch16_clip_224.openai")


def test_students_are_ours_with_the_figures_of_the_docs():
    found = zoo(students=True)
    text = "".join((Path(__file__).parents[1] / page).read_text() for page in PAGES)
    assert {row[0] for row in found.rows()[1:]} == {one.name for one in found.nets}
    for one in found.students:
        lines = [line for line in text.splitlines() if re.match(rf"\| {one.name}\b", line)]
        shown = ((one.top1, "{:.2f} ("), (one.onnx, "| {:g}"), (one.c, "| {:g} |"))
        for figure, as_written in shown:
            assert figure is None or any(as_written.format(figure) in line for line in lines), (one.name, figure)
        cycles = f"{(one.chip or 0) * 200_000:,.0f}"[:-2]  # at 200 MHz; the page has the last digits
        assert one.chip is None or any(f"| {cycles}" in line for line in lines), (one.name, cycles)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--students", "--teachers", "*"], "not both"),
        (["--teachers", "resnet9999*"], "timm has no weights for 'resnet9999*'"),
        (["--copy", "x.toml"], "needs the name of a recipe"),
        ([NAME, "--teachers", "resnet*"], "not both"),
    ],
)
def test_what_does_not_go_together_is_said(capsys, arguments, words):
    assert cli.main(["zoo", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
