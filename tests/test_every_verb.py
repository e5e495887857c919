"""What holds of every verb: folders without labels, paths and streams of real machines."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from kinds_of_things import everything
from PIL import Image

from limbeck import runs
from limbeck.cli import main
from limbeck.verbs.serve import opened

ODD = "my photos – ä ' \" $HOME {x} %s"


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """Return the paths of one of everything, in a folder of an odd name."""
    return everything(tmp_path_factory.mktemp("everything") / ODD)


# ---- folders of days or cameras ---------------------------------------------------------------------------

UNLABELLED = {  # the command, and a word of its refusal; empty where it needs no labels
    "data": ("data {days}", ""),
    "teach": ("teach --data {days} --model resnet8 --dry-run --out {out}", "--unlabelled leaves the labels"),
    "distill": (
        "distill --data {days} --student resnet8 --teachers {run} --weak-teachers --dry-run --batch 4 --out {out}", ""
    ),
    "adapt": ("adapt {run} --source-free --target {days} --dry-run --batch 4 --out {out}", ""),
    "label": ("label --data {days} --teachers {run} --weak-teachers --views 1 --out {out}", ""),
    "verify": ("verify-labels {labels} --data {days} --teachers {run}", "has other images"),
    "evaluate": ("evaluate {run} --data {days}", "--unlabelled leaves the labels"),
    "bench": ("bench {run} --data {days} --formats pytorch --rounds 1 --batch 1 2", ""),
    "steps": ("steps {run} --data {days} --out {out}", "no ODE block"),
    "quantize": ("quantize {run} --data {days} --calibration 4 --out {out}.program", ""),
    "export": ("export {run} --data {days} --format onnx-int8 --calibration 4 --out {out}.onnx", ""),
}  # fmt: skip


@pytest.mark.parametrize("verb", UNLABELLED)
def test_unlabelled_reads_no_labels_into_folders_of_days_or_is_refused(there, tmp_path, capsys, verb):
    generator = np.random.default_rng(0)
    for day in ("monday", "tuesday"):
        (tmp_path / "days" / day).mkdir(parents=True)
        for i in range(6):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "days" / day / f"{i}.png")
    command, refusal = UNLABELLED[verb]
    named = {**there, "days": tmp_path / "days", "out": tmp_path / "out"}
    code = main([*(word.format_map(named) for word in command.split()), "--unlabelled", "--json"])
    said = capsys.readouterr()
    assert code == (2 if refusal else 0), said.err
    assert refusal in said.err
    assert "monday" not in said.out.partition("--result")[2]


def test_the_page_reads_no_labels_into_folders_of_days(there):
    with opened((str(there["run"]),), data=str(there["data"] / "val"), split="train", unlabelled=True) as page:
        assert page.source.labels is None


# ---- two at once ------------------------------------------------------------------------------------------


def test_a_second_process_does_not_label_what_another_is_labelling(there, tmp_path, capsys):
    out = tmp_path / "labels"
    named = {**there, "out": out}
    command = [word.format_map(named) for word in UNLABELLED["label"][0].replace("{days}", "{data}").split()]
    assert main(command) == 0
    asks, tells = os.pipe()
    ready, claimed = os.pipe()
    if not (child := os.fork()):
        runs.claim(out)
        os.write(claimed, b"x")
        os.close(tells)
        os.read(asks, 1)
        os._exit(0)
    os.close(asks)
    os.read(ready, 1)
    assert main(command) == 2
    assert f"another process is writing to {out}; wait until it ends" in capsys.readouterr().err
    os.close(tells)
    os.waitpid(child, 0)
    assert main(command) == 0


# ---- paths and streams of real machines -------------------------------------------------------------------

PLAIN = [
    "data {data}",
    "teach --data {data} --model resnet8 --arguments width=4 --epochs 1 --batch 8 --track tensorboard --out {out}/run",
    "label --data {data} --teachers {run} --weak-teachers --views 1 --shift 1 --out {out}/labels",
    "merge-labels {labels} {out}/labels --out {out}/merged",
    "verify-labels {labels} --data {data} --teachers {run}",
    "info {labels}",
    "distill --data {data} --student resnet8 --labels {labels} --batch 8 --epochs 1 --out {out}/student",
    "distill --data {data} --student resnet8 --labels {labels} --batch 8 --epochs 2 --resume --out {out}/more",
    "adapt {run} --source-free --target {data} --method norm --batch 8 --out {out}/adapted",
    "evaluate {run} --data {data} --teachers {out}/run --out {out}/evaluation",
    "predict {run} {data}/val --out {out}/predictions.csv",
    "quantize {run} --data {data} --calibration 4 --out {out}/x.program",
    "export {run} --data {data} --out {out}/x.onnx",
    "evaluate {out}/x.onnx --data {data}",
    "compile {program} --max-dsp 60 --out {out}/design",
    "push {run} --to local-dir:{out}/published",
    "evaluate local-dir:{out}/published --data {data}",
    "report {run} {out}/run {labels} {out}/x.program {out}/design --trust --no-latency --out {out}/report.html",
    "bench {run} --rounds 1 --batch 1 2 --formats pytorch --out {out}/bench.md",
    "zoo",
    "zoo mealv2_resnet18 --copy {out}/recipe.toml",
    "doctor",
]  # fmt: skip
SCRIPT = """
import sys
from limbeck.cli import main
for line in open(sys.argv[1], encoding="utf-8").read().splitlines():
    code = main(line.split("\\t"))
    if code:
        sys.exit(f"{ascii(line)}: {code}")
"""


@pytest.mark.slow
def test_every_verb_works_under_an_odd_path_with_streams_that_know_ascii_alone(there, tmp_path):
    out = tmp_path / ODD / "out"
    out.mkdir(parents=True)
    named = {**there, "out": out}
    lines = ["\t".join(word.format_map(named) for word in line.split()) for line in PLAIN]
    (tmp_path / "commands").write_text("\n".join(lines), encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "commands")],
        env={**os.environ, **plain}, cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()
    shutil.rmtree(out)
