"""A signature's flags: grouped in --help, completed by real shells."""

import dataclasses
import inspect
import re
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest
from tools import need

from limbeck import cli, flags
from limbeck.errors import InputError
from limbeck.nets import catalogue
from limbeck.results import Result
from limbeck.training.settings import Training, keywords
from limbeck.verbs.adapt import adapt
from limbeck.verbs.teach import teach

SHOWN = {
    "bash": (
        "source /dev/stdin; COMP_WORDS=(limbeck {words}); COMP_CWORD={at}; _limbeck; "
        "printf '%s\\n' \"${{COMPREPLY[@]}}\""
    ),
    # _describe and _arguments belong to zsh's line editor: these show what they are given
    "zsh": (
        'compdef() {{ }}; _describe() {{ print -rl -- ${{(P)2%%:*}} }}; _arguments() {{ print -rl -- "$@" }}; '
        "source /dev/stdin; words=(limbeck {words}); CURRENT=$(({at} + 1)); _limbeck"
    ),
    "fish": "source; complete -C 'limbeck {line}'",
}


def script(shell: str, capsys: pytest.CaptureFixture) -> str:
    assert cli.main(["--completion", shell]) == 0
    return capsys.readouterr().out


def completed(shell: str, capsys: pytest.CaptureFixture, *words: str) -> list[str]:
    """Return what the shell offers for the last of the words; zsh's before it picks those that fit."""
    need(shell)
    quoted = " ".join(f"'{word}'" for word in words)
    asked = SHOWN[shell].format(words=quoted, at=len(words), line=" ".join(words))
    bare = ["--norc"] if shell == "bash" else ["-f"] if shell == "zsh" else ["--no-config"]
    done = subprocess.run(
        [shell, *bare, "-c", asked], input=script(shell, capsys), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return [line.partition("\t")[0].partition("[")[0].strip() for line in done.stdout.splitlines()]


def test_every_setting_of_training_is_in_one_group_and_described():
    grouped = [name for names in Training.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(field.name for field in dataclasses.fields(Training))
    assert all(flags.described(Training)[name] for name in grouped)


def test_help_shows_examples_first_then_the_groups(capsys):
    assert cli.main(["teach", "--help-all"]) == 0
    out = capsys.readouterr().out
    begins = ["Examples:", "--data STR", "learning options", "--epochs INT", "view options", "--size INT"]
    places = [out.index(word) for word in [*begins, "run options", "--resume, ", "recipe options", "--config STR"]]
    assert places == sorted(places)
    assert "None" not in out


@pytest.mark.parametrize("verb", flags.MAIN)
def test_help_shows_the_main_flags_and_help_all_every_one(capsys, verb):
    function = cli.function_of(verb)
    every = {flags.word(name) for name in flags.kinds(function)} - {p.name for p in flags.words(function)} - {"return"}
    shown = {}
    for flag in ("--help", "-h", "--help-all"):
        assert cli.main([verb, flag]) == 0
        text = capsys.readouterr().out
        options = text[text.index("-h, --help") :]
        shown[flag] = {name for name in every if re.search(rf"--{name}(?:, --| [A-Z{{\[])", options)}
        assert ("--help-all shows all" in text) == (flag != "--help-all")
    assert shown["--help"] == shown["-h"] == {flags.word(name) for name in flags.MAIN[verb]}
    assert shown["--help-all"] == every


def test_words_are_named_in_the_usage(capsys):
    assert cli.main(["predict", "--help"]) == 0
    assert re.search(r"MODEL\b.*\[IMAGES \.\.\.\]", capsys.readouterr().out, re.DOTALL)


@pytest.mark.parametrize("function", [teach, adapt])
def test_parsed_settings_are_a_training_with_the_verbs_defaults(function):
    usual = get_type_hints(function)["training"]
    default = inspect.signature(function).parameters["training"].default
    words = ["--out", "o", *(["m", "--target", "t"] if function is adapt else ["--data", "d", "--model", "m"])]
    found = flags.parse(function, [*words, "--size", "32", "--seed", "3"])["training"]
    assert isinstance(found, usual)
    assert found == dataclasses.replace(default, size=32, seed=3)


def test_the_flags_of_every_verb_are_no_keywords():
    assert "recipe" not in flags.parse(teach, ["--data", "d", "--model", "m", "--out", "o"])


@pytest.mark.slow
@pytest.mark.parametrize("shell", flags.SHELLS)
def test_a_shell_completes_verbs(capsys, shell):
    found = completed(shell, capsys, "te" if shell != "zsh" else "")
    if shell == "zsh":
        assert found == list(cli.VERBS)
    else:
        assert found == [verb for verb in cli.VERBS if verb.startswith("te")]


@pytest.mark.slow
@pytest.mark.parametrize("shell", flags.SHELLS)
@pytest.mark.parametrize("verb", ["teach", "predict"])
def test_a_shell_completes_the_flags_of_a_verb(capsys, shell, verb):
    found = completed(shell, capsys, verb, "--")
    function = cli.function_of(verb)
    named = {f"--{name.replace('_', '-')}" for name in flags.kinds(function)}
    named -= {f"--{p.name}" for p in flags.words(function)} | {"--return"}
    assert named | {"--config", "--print-config", "--help"} <= set(found)
    assert ("--no-resume" in found) == (verb == "teach")
    assert "--student" not in found


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes_the_choices_of_a_flag(capsys, shell):
    assert sorted(completed(shell, capsys, "teach", "--optimizer", "")) == ["adamw", "sgd"]


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes_names_of_nets_beside_files(capsys, shell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet of mine").mkdir()
    found = completed(shell, capsys, "distill", "--student", "resn")
    assert "resnet20" in found
    assert any(name.replace("\\", "").startswith("resnet of mine") for name in found)
    assert "mealv2_resnet18" in completed(shell, capsys, "distill", "--config", "mealv2_r")


def test_nets_that_shells_offer_are_the_students_and_ours():
    assert {one.name for one in catalogue.STUDENTS} < set(flags.NETS) <= set(catalogue.own_names())


@pytest.mark.slow
def test_zsh_completes_names_of_nets_beside_files(capsys):
    (line,) = [one for one in script("zsh", capsys).splitlines() if one.lstrip().startswith("distill) _arguments")]
    assert re.search(r"'--student\[[^]]*\]:value: _limbeck_names dsodenet20 ", line)


@pytest.mark.slow
def test_bash_offers_nothing_of_ours_for_a_value_so_that_it_offers_files(capsys):
    assert completed("bash", capsys, "teach", "--data", "ph") == [""]
    assert "complete -o bashdefault -o default -F _limbeck limbeck" in script("bash", capsys)


@pytest.mark.slow
@pytest.mark.parametrize("shell", [[], ["tcsh"], ["bash", "zsh"]])
def test_another_shell_is_refused(capsys, shell):
    assert cli.main(["--completion", *shell]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("is none of bash, zsh, fish; give one of these\n")


@pytest.mark.slow
def test_completion_loads_no_torch():
    code = "import sys; from limbeck import cli; cli.main(['--completion', 'bash']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_settings_are_keywords_too_and_nothing_else_is():
    """limbeck.teach(epochs=5) means --epochs 5; what is given beside a whole dataclass is put into it."""
    given = Training(lr=0.5)

    @keywords
    def verb(*, training: Training = Training(batch=7)) -> Training:  # noqa: B008 - frozen
        return training

    assert verb(epochs=5, flip="no") == Training(batch=7, epochs=5, flip="no")
    assert verb(training=given, workers=0) == dataclasses.replace(given, workers=0)
    assert verb(training=given) is given
    with pytest.raises(InputError, match="--epochs is 0"):
        verb(epochs=0)
    with pytest.raises(TypeError, match="epoch"):
        verb(epoch=5)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_no_keyword_of_a_verb_is_there_twice(verb):
    function = cli.function_of(verb)
    hints = get_type_hints(function)
    names = []
    for name in inspect.signature(function).parameters:
        kind = hints[name]
        names += [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else [name]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_returns_results(verb):
    returned = get_type_hints(cli.function_of(verb))["return"]
    kinds = get_args(returned) or (returned,)
    assert all(Result in kind.__mro__ for kind in kinds), kinds
