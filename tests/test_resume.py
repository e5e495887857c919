"""Real processes, killed and interrupted: what goes on from them ends in the same bytes."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from limbeck import cli
from limbeck.learn import fit

pytestmark = pytest.mark.slow

SETTINGS = [
    "--data", "digits:optdigits", "--limit", "160", "--batch", "20", "--accumulate", "2", "--epochs", "3",
    "--arguments", "width=4", "drop_rate=0.2", "--lr", "0.05", "--warmup", "0.5", "--ema", "0.9", "--mixup", "0.2",
    "--hard-weight", "0.1", "--discriminator", "adversarial", "--discriminator-lr", "0.01",
    "--teacher-dtype", "float32",
]  # fmt: skip
STEPS = 160 // 40 * 3
SECONDS = 120  # after which a process is taken to hang


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
    """A distillation with all that a state must hold: two nets, an average, dropout, mixing, accumulation."""
    teacher = tmp_path_factory.mktemp("runs") / "teacher"
    taught = ["--data", "digits:optdigits", "--limit", "160", "--epochs", "1", "--batch", "40", "--out", str(teacher)]
    assert cli.main(["teach", *taught, "--model", "resnet8", "--arguments", "width=4"]) == 0
    return ["distill", "--weak-teachers", "--student", "resnet8", "--teachers", str(teacher), *SETTINGS]


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory) -> Path:
    """The run that nobody interrupts."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert cli.main([*command, "--out", str(out)]) == 0
    return out


def same(one: Path, other: Path) -> bool:
    files = ["model.safetensors", "metrics.csv", "metrics.jsonl", "per_class.csv"]
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


def forked(arguments: list[str]) -> int:
    """Start limbeck in a process of its own, which saves at every step and takes its time; return its id."""
    if pid := os.fork():
        return pid
    code = 99
    try:
        report = fit._report
        fit._report = lambda meter, save: (report(meter, save), time.sleep(0.05))
        fit.SAVE_SECONDS = -1
        code = cli.main(arguments)
    finally:
        os._exit(code)  # nothing of pytest's


def steps_saved(state: Path) -> int:
    return fit.read_state(state)["step"] if state.exists() else 0


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


@pytest.mark.parametrize("step", [1, STEPS // 2, STEPS - 1])
def test_a_killed_run_goes_on_to_the_same_bytes(command, whole, tmp_path, step):
    out = tmp_path / "run"
    pid = forked([*command, "--out", str(out)])
    wait_until(lambda: steps_saved(out / "state.pt") >= step)
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not (out / "results.json").exists()
    assert cli.main([*command, "--out", str(out), "--resume"]) == 0
    assert same(whole, out)
    assert not [path for path in out.iterdir() if path.name == "state.pt" or path.name.startswith(".partial")]


def test_a_run_killed_again_and_again_ends_in_the_same_bytes(command, whole, tmp_path):
    out = tmp_path / "run"
    reached = 0
    while reached < STEPS - 2:
        pid = forked([*command, "--out", str(out), "--resume"])
        wait_until(lambda seen=reached: steps_saved(out / "state.pt") > seen + 1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        reached = steps_saved(out / "state.pt")
    assert cli.main([*command, "--out", str(out), "--resume"]) == 0
    assert same(whole, out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_says_how_to_go_on_and_does(command, whole, tmp_path, capfd, number):
    out = tmp_path / "run"
    pid = forked([*command, "--out", str(out)])
    wait_until(lambda: steps_saved(out / "state.pt") >= 2)
    os.kill(pid, number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    said, err = capfd.readouterr()
    assert "--result" not in said
    assert err.endswith("limbeck distill: interrupted; the same command with --resume continues the training\n")
    assert "Traceback" not in err
    assert cli.main([*command, "--out", str(out), "--resume"]) == 0
    assert same(whole, out)


def test_the_command_itself_survives_a_kill_between_its_epochs(command, whole, tmp_path):
    """As users start it, with its own rhythm of saves."""
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "limbeck", *command, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until((out / "metrics.jsonl").exists)
    process.kill()
    process.wait()
    assert cli.main([*command, "--out", str(out), "--resume"]) == 0
    assert same(whole, out)


def test_a_run_does_not_go_on_with_other_settings(command, whole, capsys):
    code = cli.main([*command, "--out", str(whole), "--resume", "--lr", "0.2"])
    assert code == 2
    assert "was begun with lr = 0.05, now it is 0.2" in capsys.readouterr().err


def test_a_run_does_not_go_on_with_other_images(whole, tmp_path, capsys):
    from PIL import Image

    for split in ("train", "val"):
        for name, grey in (("dark", 10), ("light", 200)):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(4):
                Image.new("L", (8, 8), grey + i).save(tmp_path / "data" / split / name / f"{i}.png")
    taught = ["--data", str(tmp_path / "data"), "--epochs", "1", "--batch", "4", "--out", str(tmp_path / "run")]
    taught = ["teach", *taught, "--model", "resnet8", "--arguments", "width=4", "--resume"]
    assert cli.main(taught) == 0
    before = (tmp_path / "run" / "environment.json").read_bytes()
    Image.new("L", (8, 8), 77).save(tmp_path / "data" / "train" / "dark" / "1.png")
    capsys.readouterr()
    assert cli.main(taught) == 2
    err = capsys.readouterr().err
    assert "have changed since" in err
    assert err.count("\n") == 1
    assert (tmp_path / "run" / "environment.json").read_bytes() == before


def test_a_finished_run_is_not_trained_again(command, whole):
    files = {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    assert cli.main([*command, "--out", str(whole), "--resume"]) == 0
    assert {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()} == files


def test_a_clock_that_goes_back_a_day_at_every_look_changes_nothing(command, whole, tmp_path, monkeypatch):
    days = itertools.count(2_000_000_000, -86_400)
    monkeypatch.setattr(time, "time", lambda: float(next(days)))
    assert cli.main([*command, "--out", str(tmp_path / "back")]) == 0
    assert same(whole, tmp_path / "back")
