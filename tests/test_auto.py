"""limbeck auto: what it chooses, in which order, and that it goes on where it stopped."""

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import limbeck
from limbeck import cli, flags
from limbeck.deploy import auto as carrying_out
from limbeck.deploy import plan as planning
from limbeck.deploy.devices import DEVICES, device_of
from limbeck.errors import InputError
from limbeck.results import Result
from limbeck.runs import silent

pytestmark = pytest.mark.slow

EPOCH = {"resnet20": 4.0, "resnet8": 4.0, "dsodenet20": 2.0, "mlperf_mobilenetv1_025": 1.0, "resnet18.a1_in1k": 9.0}


def photos(folder: Path, side: int, each: int, classes: tuple[str, ...] = ("apple", "leaf")) -> str:
    generator = np.random.default_rng(0)
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = generator.integers(0, 90, (side, side + i % 3, 3), dtype=np.uint8)
            pixels[..., c] += 120
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return str(folder)


def field(folder: Path, images: int) -> None:
    folder.mkdir()
    for i in range(images):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(folder / f"{i}.png")


@dataclass(frozen=True)
class Said(Result):
    """What a verb would return."""

    seconds: float = 0.0
    evaluation: Any = None
    collapse: str = ""

    def rows(self) -> list[tuple[str, str]]:
        return []

    def to_json(self) -> dict[str, Any]:
        return {"splits": [], "groups": {"leaks": 0, "conflicts": 0}}


@dataclass(frozen=True)
class Share:
    top1: float
    is_chance: bool = False


class Performer:
    """Notes what it is asked to perform, which must parse, and answers at once."""

    def __init__(self, **tops: Share | str) -> None:
        self.tops, self.commands = tops, []

    def __call__(self, verb: str, words: list[str], tell: Any) -> Result:
        values = flags.parse(flags.function_of(verb), words)
        if values.get("dry_run"):
            per_epoch = EPOCH[values["model"]] * ((values["training"].size or 32) / 32) ** 2
            return Said(per_epoch * values["training"].epochs)
        self.commands.append(shlex.join([verb, *words]))
        name = Path(values.get("out", "")).name
        if "." in name:
            Path(values["out"]).write_text("<title>Limbeck report</title>")
        elif name:
            Path(values["out"]).mkdir(parents=True)
        found = self.tops.get(name)
        return Said(collapse=found) if isinstance(found, str) else Said(evaluation=found)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(planning, "FEWEST_STEPS", 1)
    data = photos(tmp_path / "photos", 40, 40)
    return planning.Asked(data, None, "pi", 20.0, (), None, None, "runs/auto")


def done(asked, performer=None, **options) -> tuple[carrying_out.Auto, list[str]]:
    performer = performer or Performer()
    return carrying_out.auto(asked, performer, silent, **options), performer.commands


def test_a_plan_is_ordinary_commands_that_fit_the_minutes(asked):
    found, commands = done(asked, dry_run=True)
    assert [step.name for step in found.steps] == [
        "teacher1", "teacher2", "student", "baseline", "net.onnx", "report.html",
    ]  # fmt: skip
    assert commands == [f"data {asked.data}"], "nothing but a look is done"
    assert not Path(asked.out).exists()
    assert sum(step.seconds for step in found.steps) <= 60 * asked.minutes
    assert "--size 32" in found.steps[0].command, "no larger than the photos"
    assert "--teachers runs/auto/teacher1 runs/auto/teacher2" in found.steps[2].command
    assert [shlex.join(step.words) for step in found.steps] == [row[1][8:] for row in found.rows()[1:-1]]


def test_after_a_plan_the_command_that_carries_it_out_is_next(asked):
    wish = replace(asked, target="my field", minutes=7.5, teachers=("a", "b"), size=32, device="fpga:lfe5u-85f")
    found, _ = done(asked, dry_run=True)
    assert found.following == asked.command
    given = flags.parse(limbeck.auto, shlex.split(wish.command)[2:])
    assert not given.pop("dry_run")
    given.pop("tell", None)
    assert planning.Asked(device=given.pop("for_"), **given) == wish


@pytest.mark.parametrize(("minutes", "epochs"), [(1000, 30), (8, 23)])
def test_epochs_fit_the_minutes(asked, minutes, epochs):
    found, _ = done(replace(asked, minutes=float(minutes)), dry_run=True)
    words = found.steps[0].words
    assert abs(int(words[words.index("--epochs") + 1]) - epochs) <= 2


def test_fewer_minutes_mean_smaller_images(tmp_path, asked):
    data = photos(tmp_path / "large", 130, 4)
    large, _ = done(replace(asked, data=data, minutes=1000.0, out="a"), dry_run=True)
    small, _ = done(replace(asked, data=data, minutes=10.0, out="b"), dry_run=True)
    assert "--size 128" in large.steps[0].command
    assert "--size 64" in small.steps[0].command


def test_a_pretrained_teacher_is_taken_where_one_is_at_hand(tmp_path, asked, monkeypatch):
    data = photos(tmp_path / "large", 130, 4)
    monkeypatch.setattr("limbeck.nets.zoo.published", Path)
    found, _ = done(replace(asked, data=data, minutes=1000.0), dry_run=True)
    assert "resnet18.a1_in1k --pretrained --lr 0.01" in found.steps[0].command
    assert found.steps[1].name == "student"


def test_the_better_of_student_and_baseline_goes_on(asked):
    for out, student, best in (("a", 0.9, "student"), ("b", 0.7, "baseline"), ("c", 0.8, "student")):
        performer = Performer(student=Share(student), baseline=Share(0.8))
        found, commands = done(replace(asked, out=out), performer)
        assert found.kept == f"{out}/{best}"
        better = dict(row for row in found.rows() if len(row) == 2).get("better", "the student")
        assert better.startswith(f"the {best}")
        assert commands[-2].startswith(f"export {out}/{best} ")
        assert found.following.startswith(f"limbeck serve {out}/{best} {out}/net.onnx ")


def test_teachers_that_guess_are_left_out(asked):
    _, commands = done(replace(asked, out="a"), Performer(teacher1=Share(0.5, is_chance=True)))
    assert "--teachers a/teacher2 --" in next(one for one in commands if one.startswith("distill"))
    guess = Share(0.5, is_chance=True)
    found, commands = done(replace(asked, out="b"), Performer(teacher1=guess, teacher2=guess, baseline=Share(0.6)))
    assert not [one for one in commands if one.startswith("distill")]
    assert found.kept == "b/baseline"


@pytest.mark.parametrize(("collapse", "kept"), [("", "adapted"), ("it says fewer classes", "statistics")])
def test_a_target_is_adapted_to_and_what_collapsed_is_not_kept(tmp_path, asked, collapse, kept):
    field(tmp_path / "field", 2)
    performer = Performer(student=Share(0.9), baseline=Share(0.8), adapted=collapse)
    found, commands = done(replace(asked, target="field", device="microcontroller"), performer)
    assert [one.split()[0] for one in commands] == [
        "data", "teach", "teach", "distill", "teach", "adapt", "adapt", "quantize", "export", "report",
    ]  # fmt: skip
    assert commands[5].startswith("adapt runs/auto/student --target field --source-free --method norm ")
    assert commands[6].startswith(f"adapt runs/auto/student --target field --source {asked.data} ")
    assert commands[7].startswith(f"quantize runs/auto/{kept} --data field ")
    assert found.kept == f"runs/auto/{kept}"


def test_a_target_s_images_that_can_t_be_read_stop_no_step(asked):
    field(Path("field"), 2)
    Path("field/half.png").write_bytes(b"")
    heard = []
    found = carrying_out.auto(
        replace(asked, target="field"), Performer(), lambda event, values: heard.append(values.get("text", ""))
    )
    assert "1 images can't be read and are left out, half.png (" in "\n".join(heard)
    for step in found.steps:
        assert ("--on-broken skip" in step.command) == (step.words[0] != "report"), step.command


def test_it_goes_on_where_it_stopped_and_refuses_other_wishes(asked):
    class Stops(Performer):
        at = "teach"

        def __call__(self, verb, words, tell):
            if verb == self.at and "--dry-run" not in words:
                raise KeyboardInterrupt
            return super().__call__(verb, words, tell)

    stops = Stops()
    with pytest.raises(KeyboardInterrupt):
        done(asked, stops)
    stops.at = "distill"
    with pytest.raises(KeyboardInterrupt):
        done(asked, stops)
    assert [one.split()[0] for one in stops.commands] == ["data", "teach", "teach"], "the plan is made once"
    _, commands = done(asked)
    assert [one.split()[0] for one in commands] == ["distill", "teach", "export", "report"], "no look, no plan anew"
    _, commands = done(asked)
    assert commands == []
    with pytest.raises(InputError, match=r"begun with for = 'pi', now it is 'phone'; go on with the same"):
        done(replace(asked, device="phone"))
    Path("runs/auto/auto.json").write_text("{}")
    with pytest.raises(InputError, match="is not what limbeck auto writes"):
        done(asked)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"device": "toaster"}, "--for is 'toaster'; give microcontroller, pi, phone, browser or fpga:PART"),
        ({"device": "fpga:xc7"}, "--for fpga:xc7: there is no such part; choose fpga: and one of xczu7ev"),
        ({"minutes": 0.0}, "--minutes is 0; it must be more than 0"),
        ({"size": 0}, "--size is 0; it must be at least 1 pixel"),
        ({"data": "nowhere"}, "nowhere is not there"),
        ({"target": "nowhere"}, "nowhere is not there"),
        ({"target": "empty"}, "empty holds no images"),
        ({"target": "single"}, "single has 1 image to adapt to"),
        ({"target": "photos/../photos"}, "--target photos/../photos is what the nets learn from"),
    ],
)
def test_what_can_t_be_done_is_refused_before_anything_is_written(asked, wrong, sentence):
    Path("empty").mkdir()
    field(Path("single"), 1)
    with pytest.raises(InputError, match=sentence):
        done(replace(asked, **wrong))
    assert not Path(asked.out).exists()


@pytest.mark.parametrize("name", [*DEVICES, "fpga", "fpga:lfe5u-85f"])
def test_every_device_s_commands_parse(name):
    for command in device_of(name).exports("runs/s", "photos", "net"):
        verb, *words = command.words
        assert flags.parse(flags.function_of(verb), words)["out"] == command.name


def test_from_photos_to_a_device(tmp_path, monkeypatch, capsys):
    """The whole, for some steps; the settings of each run are those of the command that was shown."""
    monkeypatch.setattr(planning, "FEWEST_STEPS", 1)
    monkeypatch.setattr("limbeck.training.run.FORECAST_SECONDS", 0.01)
    monkeypatch.chdir(tmp_path)
    data, field = photos(tmp_path / "photos", 12, 20), photos(tmp_path / "field", 12, 10)
    words = ["auto", data, "--target", field, "--for", "fpga:lfe5u-85f", "--minutes", "0.01", "--out", "a"]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    found = json.loads(out.splitlines()[-1].partition(" ")[2])
    shown = {line.split(" --out ")[1]: line for line in err.splitlines() if line.startswith("limbeck ")
             and " --out " in line}  # fmt: skip
    assert {step["command"] for step in found["steps"]} == set(shown.values())
    for step in found["steps"]:
        assert Path("a", step["name"]).exists()
        if (recipe := Path("a", step["name"], "recipe.toml")).exists():
            assert cli.main([*shlex.split(step["command"])[1:], "--print-config"]) == 0
            printed = limbeck.runs.tomllib.loads(capsys.readouterr().out)
            kept = limbeck.runs.read_toml(recipe)
            left = {"dry_run", "method"}  # of a command alone; auto, of which the run says what it was
            assert {k: kept.get(k) for k in printed if k not in left} == {
                k: v for k, v in printed.items() if k not in left
            }
    assert cli.main([*words, "--quiet"]) == 0, "all is done"
