"""torchrun: two ranks with half the batch each see and learn what one rank with the whole batch does."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from safetensors.torch import load_file
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from limbeck import cli
from limbeck.images.loader import Batch
from limbeck.images.views import Views
from limbeck.learn.discriminator import Discriminator
from limbeck.learn.fit import Loop, fit, make_optimizer
from limbeck.learn.objectives import Answer, distill
from limbeck.nets import norm

pytestmark = pytest.mark.slow

# Two ranks add the same float32 numbers in another order: errors of 2^-24 relative to the largest term. Training then
# multiplies them (in float64, too, a change of 1e-7 in the weights grows a thousandfold in four steps at learning rate
# 0.05), so the law is looked at over four small steps. Other images, or BatchNorm of each rank's own, show in 1e-2.
TOLERANCE = 1e-4
DATA = ["--data", "digits:optdigits", "--epochs", "1", "--lr", "0.005"]


def torchrun(*arguments: str) -> subprocess.CompletedProcess:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run([*launcher, "-m", "limbeck", *arguments], capture_output=True, text=True, check=False)


def distance(one: Path, other: Path, *, leave_out: str = " ") -> float:
    """Return the largest difference of tensors, relative to the tensor's largest value, or to 0.1 where it is less."""
    states = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert states[0].keys() == states[1].keys()
    return max(
        float((a - states[1][name]).abs().max() / a.abs().max().clamp_min(0.1))
        for name, a in states[0].items()
        if a.is_floating_point() and leave_out not in name
    )


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "teacher"
    arguments = ["--model", "resnet8", "--limit", "80", "--batch", "40", "--out", str(out)]
    assert cli.main(["teach", *DATA, *arguments]) == 0
    return out


# ---- the loop, in float64 ---------------------------------------------------------------------------------

WHOLE, STEPS, EPOCHS, ACCUMULATE = 12, 3, 2, 2  # images a batch over all ranks, steps an epoch, epochs, batches a step


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=generator)
    return pixels, torch.randint(0, 3, (count,), generator=generator)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten(),
            nn.Linear(16, 3),
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels.double() / 255)


def trained(synchronised: bool = True) -> dict[str, Tensor]:
    """Distil with all parts on the ranks that the environment names; return the weights and the rows."""
    PartialState._reset_state()
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    torch.manual_seed(0)
    teacher, student, critic = Net().double().eval(), Net().double(), Discriminator(3, rectified=False).double()
    if ranks > 1 and synchronised:
        norm.synchronise(student)
    optimizer = make_optimizer(
        student, kind="sgd", lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.01, discriminator=critic,
        discriminator_lr=0.1,
    )  # fmt: skip
    modules = {"student": accelerator.prepare(student), "discriminator": accelerator.prepare(critic)}

    def answer(batch: Batch) -> Answer:
        with torch.no_grad():
            logits = teacher(batch.images)
        return Answer(logits.softmax(1), logits)

    def batches(epoch: int, start: int) -> Iterator[Batch]:
        for i in range(start, STEPS * ACCUMULATE):
            own = slice(rank * WHOLE // ranks, (rank + 1) * WHOLE // ranks)
            pixels, labels = (part[own] for part in images(WHOLE, 100 * epoch + i))
            yield Batch(pixels, labels, torch.arange(WHOLE)[own], Views(torch.zeros(len(pixels), 4), labels > 9))

    objective = distill(
        modules["student"], answer, hard_weight=0.5, discriminator=modules["discriminator"], mode="adversarial"
    )
    ema = ModelEmaV3(student, decay=0.9, use_warmup=True)
    loop = Loop(
        objective, modules, accelerator.prepare(optimizer), batches, STEPS, EPOCHS, lambda epoch: 1.0, accelerator,
        accumulate=ACCUMULATE, ema=ema,
    )  # fmt: skip
    rows = fit(loop).history
    parts = {"student": student, "critic": critic, "average": ema.module}
    state = {f"{part}.{name}": value for part, net in parts.items() for name, value in net.state_dict().items()}
    return state | {f"row.{name}": torch.tensor([row[name] for row in rows]).double() for name in rows[0]}


def on_two_ranks(folder: Path, **how: bool) -> list[dict[str, Tensor]]:
    """Return what `trained` returns on each of two ranks, which are processes of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(2):
        if not (pid := os.fork()):
            code = 1
            try:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                torch.save(trained(**how), folder / f"{rank}.pt")
                code = 0
            finally:
                os._exit(code)  # nothing of pytest's
        started.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in started] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((value.double() - other[name].double()).abs().max()) for name, value in one.items())


def test_in_float64_two_ranks_are_one(tmp_path):
    alone, (first, second) = trained(), on_two_ranks(tmp_path)
    assert furthest(alone, first) < 1e-10  # sums in another order, 2^-53 relative, over six steps
    assert furthest(first, second) == 0


def test_without_synchronised_norms_they_are_not(tmp_path):
    assert furthest(trained(), on_two_ranks(tmp_path, synchronised=False)[0]) > 1e-3


# ---- the command, in float32 ------------------------------------------------------------------------------


def test_two_ranks_learn_what_one_does(teacher, tmp_path):
    one, two, half = (tmp_path / name for name in ("one", "two", "half"))
    command = [
        "distill",
        *DATA,
        "--limit",
        "160",
        "--student",
        "resnet8",
        "--weak-teachers",
        "--teachers",
        str(teacher),
    ]
    command += ["--teacher-dtype", "float32", "--discriminator", "adversarial", "--accumulate", "2", "--ema", "0.9"]
    assert cli.main([*command, "--batch", "20", "--out", str(one)]) == 0
    assert cli.main([*command, "--batch", "10", "--out", str(half)]) == 0
    done = torchrun(*command, "--batch", "10", "--out", str(two))
    assert done.returncode == 0, done.stderr
    assert distance(one, two) < TOLERANCE
    assert distance(one, half) > 100 * TOLERANCE  # so that agreement means something
    for own, other in zip(rows(one), rows(two), strict=True):
        assert own == pytest.approx(other, rel=TOLERANCE)
    assert done.stdout.count("--result ") == 1  # one rank speaks
    assert done.stderr.count("epoch 1/1  loss") == 1
    assert "Warning" not in done.stderr
    assert json.loads((two / "environment.json").read_text())["machine"]["ranks"] == 2
    assert not [path for path in two.iterdir() if path.name.startswith(".partial") or path.name == "state.pt"]


def test_two_ranks_adapt_as_one_does(teacher, tmp_path):
    one, two, half = (tmp_path / name for name in ("one", "two", "half"))
    command = ["adapt", str(teacher), "--source", "digits:optdigits", "--target", "digits:mfeat", "--lr", "0.005"]
    command += ["--epochs", "1", "--limit", "80"]
    command += ["--method", "mcc", "--mcc", "0", "--entropy", "0.1"]  # terms that are means over images
    assert cli.main([*command, "--batch", "20", "--out", str(one)]) == 0
    assert cli.main([*command, "--batch", "10", "--out", str(half)]) == 0
    done = torchrun(*command, "--batch", "10", "--out", str(two))
    assert done.returncode == 0, done.stderr
    # statistics are re-estimated batch by batch, and batches of 10 have other variances than batches of 20
    assert distance(one, two, leave_out="running") < TOLERANCE
    assert distance(one, half, leave_out="running") > 10 * TOLERANCE
    assert done.stdout.count("--result ") == 1


def test_all_ranks_hear_of_what_the_first_refuses(teacher):
    before = (teacher / "recipe.toml").read_bytes()
    done = torchrun("teach", *DATA, "--model", "resnet8", "--limit", "80", "--batch", "20", "--out", str(teacher))
    assert done.returncode == 1  # torchrun's own
    assert f"limbeck teach: {teacher} already holds a run" in done.stderr
    assert "[rank" not in done.stderr  # where torch puts a rank's traceback
    assert (teacher / "recipe.toml").read_bytes() == before
