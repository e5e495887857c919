"""What a terminal shows: tables that fit, time left whatever the width, and what to type next."""

import io
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from limbeck import cli, flags, progress, recipe, runs
from limbeck.terminal import NEXT, after, folded, table

ROWS = [
    ("recipe", "verb", "what it is"),
    (
        "mealv2_efficientnet_b0",
        "distill",
        "a rather long text about a recipe that no narrow terminal could hold",
    ),
    (
        "漢字",
        "teach",
        "/a/very/long/path/without/a/blank/that/somebody/will/want/to/copy.safetensors",
    ),
]


@pytest.mark.parametrize("width", [None, 200, 80, 40, 10])
def test_a_table_has_every_word_and_no_blanks_at_its_ends(width):
    shown = table(ROWS, width)
    assert shown.split() != []
    assert sorted(shown.split()) == sorted(word for row in ROWS for cell in row for word in cell.split())
    assert not re.search(r" $", shown, re.MULTILINE)


def test_a_table_is_as_narrow_as_the_terminal_where_words_allow_it():
    assert max(map(len, table(ROWS[:2], 60).splitlines())) <= 60
    assert len(table(ROWS, None).splitlines()) == len(ROWS)


def test_the_last_column_goes_below_where_words_are_too_long_beside_it():
    rows = [("name", "MACs", "choose it if"), ("n" * 30, "6,525,184", "memory is scarce"), ("x", "1", "")]
    assert table(rows, 48).splitlines() == [
        " name                            MACs",
        "    choose it if",
        f" {'n' * 30}  6,525,184",
        "    memory is scarce",
        " x                               1",
    ]


def test_columns_stand_below_each_other():
    lines = table([("a", "b"), ("漢字", "x y"), ("", "z")]).splitlines()
    assert lines == [" a     b", " 漢字  x y", "       z"]


def test_a_folded_command_is_the_same_command_to_a_shell():
    words = ["limbeck", "distill", "--data", "my photos/a  b", "--teachers", "runs/auto/teacher1", "runs/auto/teacher2"]
    for width in (20, 40, 60, 200):
        lines = folded(shlex.join(words), width)
        assert shlex.split("\n".join(lines).replace("\\\n", "")) == words
        assert width < 40 or max(map(len, lines)) <= width
    assert folded("no command of ours but words", 20) == ["no command of ours", "but words"]


@pytest.mark.slow
def test_the_next_command_is_one_of_ours_with_flags_that_it_has():
    for verb, template in NEXT.items():
        assert verb in cli.VERBS
        _, following, *rest = shlex.split(re.sub(r"\{\w+\}", "x", template))
        known = {flag.name for flag in flags._flags(cli.function_of(following))}
        assert {word[2:] for word in rest if word.startswith("--")} <= known, template
        named = flags.kinds(cli.function_of(verb))
        assert set(re.findall(r"\{(\w+)\}", template)) <= set(named), template


def test_the_next_command_quotes_and_keeps_silent_where_it_knows_too_little():
    values = {"data": "my photos/", "out": "runs/t", "training": object()}
    assert after("teach", values) == "limbeck distill --data 'my photos/' --teachers runs/t --out runs/student"
    assert after("evaluate", {"model": "x"}) == "limbeck report x"
    assert after("teach", {"data": None, "out": "x"}) == after("report", values) == ""


@pytest.mark.slow
def test_other_tools_words_lead_to_ours():
    every = {flag.name for verb in cli.VERBS for flag in flags._flags(cli.function_of(verb))}
    for theirs, ours in recipe.THEIRS.items():
        known = cli.VERBS if ours in cli.VERBS else every
        assert theirs not in known, f"{theirs} is ours too"
        assert ours in known


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["train"], "there is no such verb; did you mean 'teach'?"),
        (["teach", "--batch-size", "3"], "there is no --batch-size; did you mean '--batch'?"),
        (["teach", "--imgsz=64"], "there is no --imgsz; did you mean '--size'?"),
        (["teach", "--epoch", "2"], "there is no --epoch; did you mean '--epochs'?"),
        (["evaluate", "x", "--frob"], "there is no --frob; limbeck evaluate --help lists its flags"),
    ],
)
def test_an_unknown_word_is_refused_with_the_nearest_known_one(argv, hint, capsys):
    assert cli.main(argv) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_bar_says_step_and_time_left_whatever_the_width(width):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    clock = iter(range(0, 10_000))
    with progress.Progress(progress._Line(), console=console, get_time=lambda: float(next(clock))) as shown:
        bars = progress._Bars(shown)
        for step in range(1, 40):
            bars("step", {"step": step, "steps": 50, "loss": 1.23456, "lr": 0.01, "images_per_second": 12_345.0})
        out.truncate(0)
        shown.refresh()
    line = out.getvalue()
    assert "step 39/50" in line
    assert re.search(r"\d+:\d\d left" if width > 20 else r"\d+:\d\d", line)


@pytest.mark.parametrize("width", [30, 80, 200])
def test_an_epoch_is_one_line_with_the_held_out_share_first(width):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    bars = progress._Bars(progress.Progress(progress._Line(), console=console))
    losses = {name: 0.5 for name in ("loss", "mcc", "entropy", "diversity", "pseudo", "source", "val_top1", "val_nll")}
    bars("epoch", {"epoch": 3, "epochs": 19, **losses, "lr": 0.1})
    (line,) = out.getvalue().splitlines()
    assert line.startswith("epoch 3/19  loss 0.5000")
    assert len(line) <= width
    assert ("  val_top1 0.5000" in line) == (width > 30)
    assert ("lr 0.1" in line) == (width == 200)


def test_a_bar_that_is_finished_goes_and_one_that_begins_anew_is_a_new_one():
    console = Console(file=io.StringIO(), force_terminal=True)
    with progress.Progress(progress._Line(), console=console) as shown:
        bars = progress._Bars(shown)
        for step in (1, 2):
            bars("step", {"step": step, "steps": 2})
        bars("read", {"image": 1, "images": 9})
        assert [task.description for task in shown.tasks] == ["read"]
        bars("read", {"image": 5, "images": 9})
        (first,) = shown.task_ids
        bars("read", {"image": 1, "images": 9})
        assert shown.task_ids != [first]


def test_where_there_is_no_terminal_lines_say_the_time_left(monkeypatch):
    out = io.StringIO()
    seconds = iter([0.0, 0.0, 100.0, 200.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    lines = progress._Lines(Console(file=out, width=40))
    for step in (10, 20, 30):
        lines("step", {"step": step, "steps": 50, "loss": 0.5})
    assert out.getvalue().splitlines() == ["step 20/50  loss 0.5000  5:00 left", "step 30/50  loss 0.5000  3:20 left"]


def on_a_terminal(*words: str, columns: int = 80) -> str:
    """Return what a command shows on a terminal."""
    here, there = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns)}
    command = [sys.executable, "-m", "limbeck", *words]
    with subprocess.Popen(
        command, stdout=there, stderr=subprocess.DEVNULL, env=environment, cwd=Path(__file__).parents[1]
    ) as process:
        os.close(there)
        shown = b""
        while True:
            try:
                part = os.read(here, 65536)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not part:
                break
            shown += part
        process.wait()
    os.close(here)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_heard_between_two_steps_and_else_soon(monkeypatch, number):
    monkeypatch.setattr(cli, "PATIENCE", 0.2)

    def work(seconds: float) -> None:
        with cli._interruptible(runs.silent) as tell:
            os.kill(os.getpid(), number)
            time.sleep(seconds)
            tell("step", {})

    for seconds in (0, 60):
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            work(seconds)
        assert time.monotonic() - begun < 30
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with cli._interruptible(runs.silent):
        os.kill(os.getpid(), signal.SIGHUP)  # of a command under nohup
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_or_after_the_verb_ends_the_command_in_a_sentence(monkeypatch, capsys, number):
    def answer(arguments: list[str]) -> int:
        os.kill(os.getpid(), number)
        time.sleep(60)
        return 0

    before = signal.getsignal(number)
    monkeypatch.setattr(cli, "_answer", answer)
    assert cli.main(["data", "photos"]) == 130
    assert capsys.readouterr().err == "limbeck data: interrupted\n"
    monkeypatch.setattr(cli, "_answer", lambda arguments: cli._guarded(arguments[0], []))
    monkeypatch.setattr(cli, "_run", lambda verb, arguments: answer(arguments))
    assert cli.main(["teach"]) == 130
    assert capsys.readouterr().err.startswith("limbeck teach: interrupted; ")
    assert signal.getsignal(number) == before


@pytest.mark.slow
def test_people_get_a_table_and_what_to_type_next_and_programs_get_json(capsys):
    shown = on_a_terminal("data", "digits:optdigits")
    assert "--result" not in shown
    assert shown.endswith("\nnext: limbeck teach --data digits:optdigits --out runs/teacher\n")
    assert max(map(len, shown.splitlines())) <= 80
    assert on_a_terminal("data", "digits:optdigits", "--quiet") == ""
    assert on_a_terminal("data", "digits:optdigits", "--quiet", "--json").startswith("--result {")
    assert cli.main(["data", "digits:optdigits"]) == 0
    out, _ = capsys.readouterr()
    assert "next:" not in out
    assert out.splitlines()[-1].startswith("--result {")
