"""Run folders: a file is the old one or the new one; a run goes on only as it was begun."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck import runs
from limbeck.errors import InputError
from limbeck.runs import (
    begin,
    give_up,
    read_json,
    read_toml,
    replacing,
    to_toml,
    write_bytes,
    write_history,
    write_json,
)

FULL = OSError(28, os.strerror(28))  # ENOSPC


class Unforeseen(Exception):
    pass


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# ---- atomic files -----------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_bytes(path, b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert temporary.parent == path.parent  # so that a rename is all it takes
        assert temporary.suffix == ".txt"
    assert listing(path.parent) == {"file.txt": b"new"}


@pytest.mark.parametrize("failure", [FULL, Unforeseen(), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")

    def write_and_fail() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half of the n")
            raise failure

    with pytest.raises(InputError if failure is FULL else type(failure)):
        write_and_fail()
    assert listing(tmp_path) == {"file.txt": b"old"}


def test_what_a_killed_process_left_of_a_file_is_gone_after_the_next(tmp_path):
    path = tmp_path / "net.onnx"
    code = "import os, sys; from limbeck import runs\nwith runs.replacing(sys.argv[1]) as part:\n"
    code += "    part.write_bytes(bytes(99)); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert [left.read_bytes() for left in tmp_path.iterdir()] == [bytes(99)]
    with replacing(path) as first, replacing(path) as second:  # what another is writing is left alone
        first.write_bytes(b"first")
        assert second.read_bytes() == b""
        second.write_bytes(b"second")
    assert listing(tmp_path) == {"net.onnx": b"first"}


def test_a_disk_that_fills_up_is_said_in_a_sentence(tmp_path):
    """A process may write 1000 bytes a file, which the system enforces as it does a full disk."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    code = "import sys; from limbeck import runs; runs.write_bytes(sys.argv[1], bytes(10**6))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert f"InputError: cannot write {path}: File too large; nothing was changed" in done.stderr
    assert listing(tmp_path) == {"file.bin": b"old"}


@pytest.mark.parametrize("place", ["file/deep.txt", "file/deeper/deep.txt"])
def test_a_place_that_cannot_be_written_is_said(tmp_path, place):
    (tmp_path / "file").write_bytes(b"a file, not a folder")
    with pytest.raises(InputError, match=r"cannot write .*choose another --out"):
        write_bytes(tmp_path / place, b"new")


def test_a_folder_in_a_files_place_is_said(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*taken"):
        write_bytes(tmp_path / "taken", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_json_comes_back_as_it_was_written(tmp_path):
    value = {"ü": [1, 2.5, None, True], "nested": {"text": 'a "quoted" line\n'}}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'a': 1}"])
@pytest.mark.parametrize(("read", "name"), [(read_json, "JSON"), (read_toml, "TOML")])
def test_what_cannot_be_read_is_named(tmp_path, read, name, content):
    path = tmp_path / "file"
    with pytest.raises(InputError, match="file is missing"):
        read(path)
    if (read, content) == (read_toml, b""):
        return  # an empty recipe is one
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"file is not readable {name}"):
        read(path)


# ---- TOML -------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(TEXT),
    st.lists(st.floats(0)),
)


@pytest.mark.slow
@given(settings=st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,9}", fullmatch=True), VALUES))
def test_settings_come_back_from_toml_as_they_were(tmp_path_factory, settings):
    path = tmp_path_factory.mktemp("toml") / "recipe.toml"
    path.write_bytes(to_toml(settings, "a comment\nof two lines").encode())
    found = read_toml(path)
    assert found == settings
    assert [type(value) for value in found.values()] == [type(value) for value in settings.values()]


@pytest.mark.parametrize(
    "text", ['a "quoted" one', "back\\slash", "two\nlines\r\n", "\x00\x1f\x7f", "naïve 😀", "'''", ""]
)
def test_awkward_strings_come_back_from_toml(tmp_path, text):
    (tmp_path / "recipe.toml").write_bytes(to_toml({"data": text, "teachers": [text, text]}).encode())
    assert read_toml(tmp_path / "recipe.toml") == {"data": text, "teachers": [text, text]}


def test_defaults_that_are_none_are_left_out():
    assert to_toml({"size": None, "seed": 0}) == "seed = 0\n"


def test_a_name_that_is_no_unicode_is_refused():
    with pytest.raises(InputError, match="not Unicode text"):
        to_toml({"data": os.fsdecode(b"photos\xff")})


# ---- run folders ------------------------------------------------------------------------------------------

SETTINGS = {"data": "photos", "lr": 0.1, "milestones": (3, 6), "size": None, "out": "runs/a", "workers": 2}


@pytest.mark.parametrize("resume", [False, True])
def test_a_new_run_keeps_its_recipe(tmp_path, resume):
    assert begin(tmp_path / "run", "teach", SETTINGS, resume=resume) is False
    found = read_toml(tmp_path / "run" / "recipe.toml")
    assert found == {"verb": "teach", "data": "photos", "lr": 0.1, "milestones": [3, 6], "out": "runs/a", "workers": 2}


def test_a_run_goes_on_with_the_same_settings_only(tmp_path):
    run = tmp_path / "run"
    begin(run, "teach", SETTINGS, resume=False)
    assert begin(run, "teach", SETTINGS, resume=True) is True
    assert begin(run, "teach", {**SETTINGS, "workers": 0, "out": "elsewhere"}, resume=True) is True
    before = listing(run)
    for key, value in {"lr": 0.2, "milestones": (3,), "size": 32, "new": 1}.items():
        with pytest.raises(InputError, match=f"was begun with {key} = .*, now it is .*; resume with the same"):
            begin(run, "teach", {**SETTINGS, key: value}, resume=True)
    with pytest.raises(InputError, match="begun with verb = 'teach', now it is 'distill'"):
        begin(run, "distill", SETTINGS, resume=True)
    assert listing(run) == before


def test_a_run_is_not_overwritten(tmp_path):
    begin(tmp_path / "run", "teach", SETTINGS, resume=False)
    with pytest.raises(InputError, match="already holds a run; pass --resume"):
        begin(tmp_path / "run", "teach", SETTINGS, resume=False)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="is not a run folder; choose another --out"):
            begin(place, "teach", SETTINGS, resume=True)
    assert listing(tmp_path) == {"thesis.tex": b"precious", "file": b""}


def test_an_empty_folder_will_do(tmp_path):
    assert begin(tmp_path, "teach", SETTINGS, resume=False) is False


def killed_while_writing(path: Path) -> None:
    code = (
        "import os, sys; from limbeck import runs\n"
        "with runs.replacing(sys.argv[1]) as temporary: temporary.write_bytes(b'x'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)


def test_what_a_killed_process_left_is_no_hindrance_and_is_swept(tmp_path):
    killed_while_writing(tmp_path / "recipe.toml")
    assert len(list(tmp_path.iterdir())) == 1
    assert begin(tmp_path, "teach", SETTINGS, resume=False) is False
    killed_while_writing(tmp_path / "state.pt")
    assert begin(tmp_path, "teach", SETTINGS, resume=True) is True
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "recipe.toml"]


def test_two_processes_do_not_write_one_run(tmp_path):
    code = (
        "import json, os, sys; from pathlib import Path; from limbeck import runs\n"
        "runs.begin(Path(sys.argv[1]), 'teach', json.loads(sys.argv[2]), resume=True)\n"
        "if os.fork() == 0: os.dup2(os.open(os.devnull, os.O_WRONLY), 1)\n"  # as a loader's worker, which lives on
        "else: print('begun', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run"), json.dumps(SETTINGS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "begun\n"
        begin(tmp_path / "mine", "teach", SETTINGS, resume=False)
        with pytest.raises(InputError, match=r"another process is writing to .*/run; wait until it ends, stop it"):
            begin(tmp_path / "run", "teach", SETTINGS, resume=True)
        other.kill()
        other.wait()
        assert begin(tmp_path / "run", "teach", SETTINGS, resume=True) is True
        assert begin(tmp_path / "run", "teach", SETTINGS, resume=True) is True, "one process may come again"


def refused(run: Path) -> bool:
    """Return whether another process may not go on with the run."""
    code = (
        "import json, sys; from pathlib import Path; from limbeck import errors, runs\n"
        "try: runs.begin(Path(sys.argv[1]), 'teach', json.loads(sys.argv[2]), resume=True)\n"
        "except errors.InputError as error: sys.exit(2 if 'another process' in str(error) else 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run), json.dumps(SETTINGS)], check=False)
    assert done.returncode in (0, 2)
    return done.returncode == 2


@pytest.mark.slow
def test_a_second_run_of_a_process_does_not_unlock_its_first(tmp_path):
    for name in "ab":
        begin(tmp_path / name, "teach", SETTINGS, resume=False)
    assert [refused(tmp_path / name) for name in "ab"] == [True, True]
    give_up(tmp_path / "a")
    assert [refused(tmp_path / name) for name in "ab"] == [False, True]
    shutil.rmtree(tmp_path / "b")
    begin(tmp_path / "b", "teach", SETTINGS, resume=False)
    assert refused(tmp_path / "b"), "a folder made anew has a lock of its own"
    give_up(tmp_path / "b")


def test_history_is_the_same_in_both_tables(tmp_path):
    history = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 1e-07, "val_top1": 0.25}]
    write_history(tmp_path, history)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == history
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss,val_top1\n1,0.5,\n2,1e-07,0.25\n"


def test_the_same_data_may_be_spelt_otherwise_and_epochs_may_be_added(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "t1").mkdir()
    settings = {"data": "base/", "teachers": ["t1/", "resnet18.a1_in1k"], "epochs": 3, "out": "run"}
    begin(tmp_path / "run", "distill", settings, resume=False)
    again = {**settings, "data": str(tmp_path / "elsewhere"), "teachers": ["./t1", "resnet18.a1_in1k"]}
    assert begin(tmp_path / "run", "distill", again, resume=True)
    assert begin(tmp_path / "run", "distill", {**settings, "epochs": 5}, resume=True)
    assert runs.read_toml(tmp_path / "run/recipe.toml") == {"verb": "distill", **settings, "epochs": 5}
    for changed in ({"epochs": 4}, {"teachers": ["t1/"]}, {"teachers": ["base", "resnet18.a1_in1k"]}):
        with pytest.raises(InputError, match="resume with the same settings"):
            begin(tmp_path / "run", "distill", {**settings, "epochs": 5, **changed}, resume=True)
    (tmp_path / "run/results.json").write_text("{}")
    with pytest.raises(InputError, match="is finished: it has had its 5 epochs; to train on, give it as the net"):
        begin(tmp_path / "run", "distill", {**settings, "epochs": 6}, resume=True)


def test_a_run_that_saved_nothing_is_released_and_any_other_stays(tmp_path):
    begin(tmp_path / "run", "teach", {"epochs": 3}, resume=False)
    (tmp_path / "run/tensorboard").mkdir()
    (tmp_path / "run/tensorboard/events.out.tfevents.1.host").write_text("")
    runs.release(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    begin(tmp_path / "run", "teach", {"epochs": 3}, resume=False)
    for own in ("tensorboard/notes", "candidates/deep/0.json"):
        (tmp_path / "run" / own).parent.mkdir(parents=True)
        (tmp_path / "run" / own).write_text("mine")
    runs.release(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()} == {"notes", "0.json"}
    for kept in ("state.pt", "results.json", "model.json"):
        begin(tmp_path / kept, "teach", {"epochs": 3}, resume=False)
        (tmp_path / kept / kept).write_text("")
        runs.release(tmp_path / kept)
        assert (tmp_path / kept / "recipe.toml").is_file()
    begin(tmp_path / "mine", "teach", {"epochs": 3}, resume=False)
    (tmp_path / "mine/notes.txt").write_text("")
    runs.release(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
