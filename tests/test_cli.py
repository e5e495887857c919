"""The command line: what it answers, what it refuses, and in which words."""

import ast
import hashlib
import inspect
import json
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import limbeck
from limbeck import cli, runs
from limbeck.errors import InputError, VerificationError
from limbeck.runs import tomllib

TINY = ["--model", "resnet8", "--arguments", "width=4"]
DIGITS = ["--data", "digits:optdigits", "--limit", "80", "--batch", "40", "--epochs", "1"]


def photos(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 4, splits=("train", "val")) -> Path:
    """Make a folder of 16x16 images of noise."""
    generator = np.random.default_rng(0)
    for split in splits:
        for name in classes:
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def answered(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str, str]:
    """Return the exit code and what was said on stdout and stderr."""
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def process(*arguments: str, **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "limbeck", *arguments], capture_output=True, text=True, check=False, **more
    )


# ---- help -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_help_names_every_verb(capsys, arguments):
    code, out, err = answered(capsys, *arguments)
    assert (code, err) == (0, "")
    assert all(f"  {verb} " in out for verb in cli.VERBS)
    assert out.startswith(f"Limbeck {limbeck.__version__}")


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(capsys, verb):
    code, out, err = answered(capsys, verb, "--help")
    assert (code, err) == (0, "")
    assert f"usage: limbeck {verb}" in out
    assert "tell" not in out.split()  # is not the user's to give
    assert out.index(f"limbeck {verb}") < out.index("Examples:") < out.index(" options ")


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_keyword_of_every_verb_is_described(verb):
    function = cli.function_of(verb)
    described = function.__doc__.partition("Args:")[2]
    names = [name for name in function.__annotations__ if name not in ("tell", "return", "training")]
    assert [name for name in names if f"\n        {name}: " not in described] == []


def test_help_and_version_load_no_net():
    """Answering at once means not importing torch and its like: counted, not timed."""
    code = (
        "import sys; from limbeck import cli; cli.main(['--help']); cli.main(['--version'])\n"
        "print(len(sys.modules), sorted({n.partition('.')[0] for n in sys.modules} & "
        "{'torch', 'numpy', 'tyro', 'rich', 'timm', 'torchvision', 'accelerate'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, loaded = done.stdout.splitlines()[-1].split(" ", 1)
    assert loaded == "[]"
    assert int(count) < 400  # a bare interpreter has about 60


@pytest.mark.slow
def test_help_of_a_verb_loads_no_torch():
    code = "import sys; from limbeck import cli; cli.main(['distill', '--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_python_m_limbeck_is_the_command():
    done = process("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{limbeck.__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["teach", "--help"]])
def test_a_reader_that_goes_away_is_no_error(arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "limbeck", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.wait() == 141  # as the shell reports of cat
    assert process.stderr.read() == b""
    process.stderr.close()


# ---- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "hint"), [("tech", "; did you mean 'teach'?"), ("zzz", ";"), ("../cli", ";")])
def test_an_unknown_verb_gets_a_guess(capsys, verb, hint):
    code, out, err = answered(capsys, verb)
    assert (code, out) == (2, "")
    assert err.startswith(f"limbeck {verb}: there is no such verb{hint}")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--data"],
        ["--data", "x", "--model", "y", "--out", "z", "--epoch", "3"],
        ["--data", "x", "--model", "y", "--out", "z", "--epochs", "ten"],
        ["--data", "x", "--model", "y", "--out", "z", "--schedule", "linear"],
        ["--data", "x", "--model", "y", "--out", "z", "stray"],
    ],
)
def test_flags_that_do_not_fit_end_with_2(capsys, arguments):
    code, out, err = answered(capsys, "teach", *arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("epochs", "0"), ("batch", "0"), ("batch", "-1"), ("accumulate", "0"), ("lr", "0"), ("lr", "nan"),
        ("lr", "inf"), ("momentum", "1"), ("weight-decay", "-1"), ("gamma", "0"), ("milestones", "-1"),
        ("warmup", "20"), ("label-smoothing", "1"), ("ema", "1"), ("size", "0"), ("crop-scale", "0.5 0.2"),
        ("shift", "-1"), ("mixup", "-1"), ("cutmix", "nan"), ("limit", "0"), ("workers", "-1"), ("seed", "-1"),
        ("lr", "1e308"), ("weight-decay", "1e308"), ("mixup", "1e308"), ("mixup", "1e-308"), ("cutmix", "1e308"),
        ("epochs", 20 * "9"), ("batch", 20 * "9"), ("workers", 9 * "9"), ("shift", 9 * "9"), ("seed", 20 * "9"),
    ],
)  # fmt: skip
def test_a_setting_out_of_its_limits_is_named(capsys, tmp_path, flag, value):
    out = tmp_path / "run"
    arguments = ["--data", "digits:optdigits", "--out", out, *TINY, f"--{flag}", *value.split()]
    code, said, err = answered(capsys, "teach", *arguments)
    assert (code, said) == (2, "")
    assert err.startswith(f"limbeck teach: --{flag} is ")
    assert "but must be" in err
    assert not out.exists()


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    """Make a folder of good and bad data."""
    root = tmp_path_factory.mktemp("places")
    photos(root / "good")
    photos(root / "one", ("cat",))
    photos(photos(root / "unlike", splits=("train",)), ("cat", "cow"), splits=("val",))
    broken = photos(root / "broken")
    (broken / "train" / "cat" / "1.png").write_bytes(b"\x89PNG")
    (root / "empty").mkdir()
    (root / "file.jpg").write_bytes(b"")
    return root


ARGUMENT = "--data good --model resnet8 --arguments "
BAD = {
    "a missing folder": ("--data god", "did you mean good"),
    "a file as a folder": ("--data file.jpg", "is a file, not a folder"),
    "an empty folder": ("--data empty", "empty"),
    "one class": ("--data one", "one class"),
    "classes that differ": ("--data unlike", "cow"),
    "a broken image": ("--data broken", "1.png"),
    "an unknown set": ("--data digits:minst", "did you mean digits:mnist"),
    "an unknown model": ("--data good --model resnet9", "resnet9"),
    "a folder as a model": ("--data good --model empty", "empty"),
    "a width of nought": (ARGUMENT + "width=0", "width"),
    "a width of words": (ARGUMENT + "width=wide", "width"),
    "an unknown argument": (ARGUMENT + "wdith=4", "wdith"),
    "an argument without a value": (ARGUMENT + "width", "key=value"),
    "a step that is too large": ("--data good --batch 4 --accumulate 30", "lower --accumulate"),
    "a limit beyond the set": ("--data good --limit 9", "--limit is 9"),
    "an odd batch to mix": ("--data good --batch 3 --mixup 1", "even"),
    "a batch of whole pairs only": ("--data good --batch 4 --repeats 3", "a multiple of 6"),
    "a net of larger images": ("--data good --model tv/alexnet", "can't take 16 px"),
    "an output among the images": ("--data good --out good/train/run", "among the images"),
    "a tracker that is missing": ("--data good --track wandb", "pip install wandb"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_sentence_and_leaves_nothing(capsys, monkeypatch, tmp_path, places, name):
    monkeypatch.chdir(places)
    arguments, words = BAD[name]
    usual = ["--batch", "4", "--epochs", "1", "--out", tmp_path / "run", *([] if "--model" in arguments else TINY)]
    code, said, err = answered(capsys, "teach", *usual, *arguments.split())
    assert (code, said) == (2, ""), err
    assert words in err
    assert err.startswith("limbeck teach: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_written_is_said(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = answered(capsys, "teach", *DIGITS, *TINY, "--out", tmp_path / "file" / "run")
    assert code == 2
    assert err.startswith("limbeck teach: ")
    assert str(tmp_path / "file") in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_disk_that_fills_up_is_said_in_a_sentence(tmp_path):
    """No file may grow beyond 8 KiB, which a run's recipe fits in and its state does not."""
    done = process(
        "teach", *DIGITS, "--model", "resnet8", "--out", str(tmp_path / "run"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert f"limbeck teach: cannot write {tmp_path / 'run' / 'state.pt'}: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists(), "it is free again"


@pytest.mark.slow
def test_a_net_that_outputs_nan_in_the_end_is_not_saved_and_leaves_its_out_free(tmp_path, monkeypatch, capsys):
    found = SimpleNamespace(top1=0.1, nll=float("nan"))
    monkeypatch.setattr("limbeck.training.run.evaluate_on", lambda *_, **__: found)
    assert cli.main(["teach", *DIGITS, *TINY, "--out", str(tmp_path / "run")]) == 2
    assert "training diverged: the trained net outputs NaN" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "teacher"
    assert cli.main(["teach", *DIGITS, *TINY, "--out", str(out)]) == 0
    return out


def test_teachers_of_other_classes_are_refused(capsys, tmp_path, teacher):
    data = photos(tmp_path / "photos")
    arguments = ["--data", data, "--student", "resnet8", "--teachers", teacher, "--batch", "4"]
    code, _, err = answered(capsys, "distill", *arguments, "--out", tmp_path / "run")
    assert code == 2
    assert "10 classes and the data has 2" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("teachers", [[], ["--teachers"]])
def test_no_teacher_is_no_teacher(capsys, tmp_path, teachers):
    arguments = ["--data", "digits:optdigits", "--student", "resnet8", *teachers, "--out", tmp_path / "run"]
    code, _, err = answered(capsys, "distill", *arguments)
    assert code == 2
    assert err.startswith("limbeck distill: ")
    assert "--teachers" in err


def test_a_pickle_as_a_teacher_is_refused(capsys, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"cos\nsystem\n(S'touch exploded'\ntR.")
    arguments = [*DIGITS, "--student", "resnet8", "--teachers", f"resnet18@{tmp_path / 'weights.pth'}"]
    code, _, err = answered(capsys, "distill", *arguments, "--out", tmp_path / "run")
    assert code == 2
    assert "was not loaded" in err
    assert not Path("exploded").exists()


# ---- recipes ----------------------------------------------------------------------------------------------


def test_flags_override_a_recipe_wherever_it_stands(capsys, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'data = "photos"\nmodel = "resnet20"\nout = "runs/a"\nepochs = 7\nnesterov = true\nmilestones = [1]'
    )
    for order in (["-c", recipe, "--epochs", "3"], ["--epochs", "3", "--config", recipe]):
        code, out, _ = answered(capsys, "teach", *order, "--no-nesterov", "--milestones", "2", "4", "--print-config")
        found = tomllib.loads(out)
        assert code == 0
        assert (found["epochs"], found["model"], found["nesterov"]) == (3, "resnet20", False)
        assert found["milestones"] == [2.0, 4.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('stundent = "resnet8"', "unknown key 'stundent'; did you mean 'student'?"),
        ('epochs = "ten"', "--epochs"),
        ("epochs = 1.5", "--epochs"),
        ("epochs = [1, 2]", "2"),
        ("nesterov = 1", "nesterov is 1, but takes true or false"),
        ('schedule = "linear"', "--schedule"),
        ('verb = "teach"', "a recipe for limbeck teach"),
        ("epochs = 0", "--epochs is 0, but must be from 1 to 1e+06"),
        ("epochs", "is not readable TOML"),
    ],
)
def test_a_recipe_that_does_not_fit_is_said(capsys, tmp_path, text, words):
    (tmp_path / "r.toml").write_text(text)
    flags = ["--data", "x", "--student", "y", "--teachers", "z", "--out", tmp_path / "run"]
    code, out, err = answered(capsys, "distill", "-c", tmp_path / "r.toml", *flags)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_a_recipe_that_is_not_there_is_said(capsys, tmp_path):
    code, _, err = answered(capsys, "teach", "-c", tmp_path / "r.toml")
    assert code == 2
    assert err == f"limbeck teach: {tmp_path / 'r.toml'} is missing; limbeck zoo lists the recipes that have a name\n"
    code, _, err = answered(capsys, "distill", "-c", "mealv2_resnet81")
    assert (code, err) == (2, "limbeck distill: mealv2_resnet81 is missing; did you mean 'mealv2_resnet18'?\n")
    for flags in (["-c"], ["--config="]):
        code, _, err = answered(capsys, "teach", *flags)
        assert code == 2
        assert "needs a recipe file, or the name of a recipe in limbeck zoo" in err


SPELLINGS = [["-c", "r.toml"], ["--config", "r.toml"], ["--config=r.toml"], ["-c=r.toml"]]


@pytest.mark.slow
@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_takes_a_recipe_however_the_flag_is_written(capsys, tmp_path, monkeypatch, verb):
    function = cli.function_of(verb)
    kinds, words = cli.flags.kinds(function), [p.name for p in cli.flags.words(function)]
    texts = [key for key, kind in kinds.items() if kind in (str, str | None)]
    name = next((key for key in texts if key not in words), None) or (texts or [""])[0]
    if not name:
        return  # a verb without any text
    (tmp_path / "r.toml").write_text(f'\ufeff{name} = "~/ours"\n', encoding="utf-8")  # with a BOM, as Notepad has it
    monkeypatch.chdir(tmp_path)
    needed = [
        word
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.name not in (name, "tell")
        for word in ([f"--{p.name}"] if p.kind is p.KEYWORD_ONLY else []) + ["x"]
    ]
    for spelling in SPELLINGS:
        for shown in ("--print-config", "--print_config"):
            code, out, err = answered(capsys, verb, *needed, *spelling, shown)
            assert (code, err) == (0, "")
            assert tomllib.loads(out)[name] == str(Path.home() / "ours")


def test_a_recipe_that_would_be_ignored_is_refused(capsys, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.toml").write_text("epochs = 3\n")
    code, _, err = answered(capsys, "teach", "-c", tmp_path / "a.toml", f"--config={tmp_path / 'b.toml'}")
    assert code == 2
    assert "are 2 recipes; give one, and flags for what differs" in err
    code, _, err = answered(capsys, "teach", "--data", "x", "--model", "y", "--out", "z", f"-c{tmp_path / 'a.toml'}")
    assert code == 2


def test_a_recipe_of_the_zoo_is_taken_by_its_name(capsys):
    needed = ["--data", "x", "--out", "y", "--print-config"]
    code, out, _ = answered(capsys, "distill", "-c", "mealv2_resnet18", *needed)
    assert code == 0
    assert tomllib.loads(out)["student"] == "resnet18.tv_in1k"


def test_a_tilde_is_the_home_folder_wherever_a_path_begins(capsys):
    flags = ["--out=~/x", "--data", "torchvision:MNIST@~/sets", "--model", "resnet20@~/w.pt", "--arguments", "a=b~c"]
    found = tomllib.loads(answered(capsys, "teach", *flags, "--print-config")[1])
    home = str(Path.home())
    assert (found["out"], found["data"]) == (f"{home}/x", f"torchvision:MNIST@{home}/sets")
    assert (found["model"], found["arguments"]) == (f"resnet20@{home}/w.pt", ["a=b~c"])


# ---- streams ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_breaks_nothing_and_is_no_file_of_ours(tmp_path, closed):
    command = f'"{sys.executable}" -m limbeck zoo mealv2_resnet18 --copy "{tmp_path / "r.toml"}" {closed}'
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
    assert "--result" not in (tmp_path / "r.toml").read_text()


def test_a_full_disk_behind_stdout_is_said(tmp_path):
    done = subprocess.run(["sh", "-c", f'"{sys.executable}" -m limbeck zoo mealv2_resnet18 > /dev/full'],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "limbeck zoo: No space left on device\n"


COMMANDS = {
    "data": ["photos/", "--split", "val", "--unlabelled"],
    "teach": [
        "--data",
        'a "b"\\ü\n',
        "--model",
        "m",
        "--out",
        "o",
        "--milestones",
        "1",
        "2",
        "--size",
        "32",
        "--resume",
    ],
    "distill": ["--data", "d", "--student", "s", "--teachers", "a", "b", "--out", "o", "--weights", "1", "2.5"],
    "evaluate": ["runs/a", "--data", "d"],
    "predict": ["runs/a", "a.jpg", "b.jpg", "--top", "2"],
    "info": ["resnet20", "--size", "28"],
    "bench": ["runs/a", "x.onnx", "--batch", "1", "64", "--formats", "pytorch", "onnx"],
    "zoo": ["mealv2_resnet18", "--copy", "mine.toml"],
    "doctor": [],
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_printed_configuration_is_a_recipe_for_the_same(capsys, tmp_path, verb):
    code, printed, err = answered(capsys, verb, *COMMANDS[verb], "--print-config")
    assert (code, err) == (0, "")
    (tmp_path / "r.toml").write_bytes(printed.encode())
    assert answered(capsys, verb, "-c", tmp_path / "r.toml", "--print-config") == (0, printed, "")


def test_a_word_overrides_a_recipes(capsys, tmp_path):
    (tmp_path / "r.toml").write_text('model = "resnet20"\nsize = 28')
    code, out, _ = answered(capsys, "info", "resnet8", "-c", tmp_path / "r.toml", "--print-config")
    assert code == 0
    assert tomllib.loads(out)["model"] == "resnet8"


def test_a_run_folders_recipe_is_one(capsys, teacher):
    code, out, _ = answered(capsys, "teach", "-c", teacher / "recipe.toml", "--print-config")
    assert code == 0
    said, ran = tomllib.loads(out), tomllib.loads((teacher / "recipe.toml").read_text())
    assert {key: value for key, value in said.items() if key in ran} == {k: v for k, v in ran.items() if v != []}


@pytest.mark.parametrize(
    "recipe", sorted((Path(limbeck.__file__).parent / "recipes").glob("*.toml")), ids=lambda p: p.stem
)
def test_every_recipe_of_ours_is_understood(capsys, recipe):
    verb = tomllib.loads(recipe.read_text())["verb"]
    code, out, err = answered(capsys, verb, "-c", recipe, "--data", "d", "--out", "o", "--print-config")
    assert (code, err) == (0, "")
    assert tomllib.loads(out)["verb"] == verb


# ---- results and exit codes -------------------------------------------------------------------------------


def test_the_last_line_is_the_result_and_the_run_folder_has_it(capsys, tmp_path):
    out = tmp_path / "run"
    code, said, err = answered(capsys, "teach", *DIGITS, *TINY, "--out", out)
    assert code == 0
    assert "Warning" not in err
    start, _, document = said.splitlines()[-1].partition(" ")
    found = json.loads(document)
    assert start == "--result"
    recorded = runs.read_json(out / "results.json")
    assert recorded.pop("sha256") == hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    assert found == recorded
    assert (found["images"], found["evaluation"]["images"]) == (80, 300)
    assert {path.name for path in out.iterdir()} == {
        "recipe.toml", "environment.json", "model.json", "model.safetensors", "metrics.csv", "metrics.jsonl",
        "per_class.csv", "results.json", ".lock",
    }  # fmt: skip


def test_no_result_key_is_said_twice(capsys, tmp_path):
    def unique(pairs):
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    code, said, _ = answered(capsys, "teach", *DIGITS, *TINY, "--out", tmp_path / "run")
    assert code == 0
    json.loads(said.splitlines()[-1].partition(" ")[2], object_pairs_hook=unique)


def test_a_dry_run_writes_nothing(capsys, tmp_path):
    code, said, _ = answered(capsys, "teach", *DIGITS, *TINY, "--out", tmp_path / "run", "--dry-run")
    found = json.loads(said.splitlines()[-1].partition(" ")[2])
    assert code == 0
    assert found["steps"] == 2
    assert found["loss"] > 0
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("batch", ["80", "40", "10"])  # one, two and eight steps an epoch
def test_a_dry_run_takes_steps_of_any_epoch(capsys, tmp_path, batch):
    arguments = ["--data", "digits:optdigits", "--limit", "80", "--batch", batch, "--epochs", "1", *TINY]
    code, _, err = answered(capsys, "teach", *arguments, "--out", tmp_path / "run", "--dry-run")
    assert code == 0
    assert err.startswith("steps per epoch: ") if batch != "10" else err == ""


@pytest.mark.parametrize("hardware", [True, False])
def test_precisions_may_change_within_a_process_and_a_slow_one_is_told_of(monkeypatch, tmp_path, hardware):
    monkeypatch.setattr("limbeck.nets.classifier.computes_bfloat16", lambda device: hardware)
    told = {"float32": [], "bfloat16": []}
    for precision, notes in told.items():
        limbeck.teach(
            data="digits:optdigits",
            model="resnet8",
            arguments=("width=4",),
            out=str(tmp_path / precision),
            training=limbeck.Training(epochs=1, batch=40, limit=40, precision=precision),
            tell=lambda event, values, notes=notes: notes.append(values["text"]) if event == "note" else None,
        )
    slow = {precision: any("no bfloat16 in hardware" in note for note in notes) for precision, notes in told.items()}
    assert slow == {"float32": False, "bfloat16": not hardware}


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (InputError("no such image"), 2, "no such image"),
        (VerificationError("0.5 is less than 0.9"), 3, "0.5 is less than 0.9"),
        (FileNotFoundError(2, "No such file", "x.jpg"), 2, "No such file (x.jpg)"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError("Unable to allocate 8 TiB"), 2, "not enough memory (Unable to allocate 8 TiB); lower --batch"),
        (RuntimeError("[enforce] . DefaultCPUAllocator: can't allocate memory"), 2, "there is not enough memory"),
        (RuntimeError("[gloo/unbound_buffer.cc:78] Timed out waiting 1800000ms"), 2, "has ended or stopped"),
    ],
)
def test_each_failure_has_its_exit_code(capsys, monkeypatch, raised, code, words):
    def failing(*, tell: object = None) -> None:
        raise raised

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("limbeck.cli.parse", lambda *_: {})
    monkeypatch.setattr("limbeck.verbs.info.info", failing)
    found, out, err = answered(capsys, "info")
    assert (found, out) == (code, "")
    assert err.startswith("limbeck info: ")
    assert words in err


def test_a_defect_of_ours_is_not_hidden(monkeypatch):
    def failing(*, tell: object = None) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("limbeck.cli.parse", lambda *_: {})
    monkeypatch.setattr("limbeck.verbs.info.info", failing)
    with pytest.raises(ZeroDivisionError):
        cli.main(["info"])


def test_every_verb_is_listed():
    """A verb is a module of verbs/ with a function of its name that tells its progress."""
    folder = Path(limbeck.__file__).parent / "verbs"
    named = set()
    for path in folder.glob("*.py"):
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        named |= {path.stem} & {f.name for f in functions if "tell" in {one.arg for one in f.args.kwonlyargs}}
    assert named == {verb.replace("-", "_") for verb in cli.VERBS}


@pytest.mark.parametrize(
    ("flag", "command"), [("--merge", "merge-labels"), ("--verify", "verify-labels"), ("--info", "info")]
)
def test_an_old_flag_names_its_new_command(capsys, flag, command):
    code, out, err = answered(capsys, "label", flag, "labels")
    assert (code, out) == (2, "")
    assert err.startswith(f"limbeck label: {flag} is a command of its own now: limbeck {command} STORE")
