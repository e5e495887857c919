"""The loop: its schedules, its sums, and that an interruption leaves no trace."""

import copy
import math
import pickle
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from limbeck import runs
from limbeck.errors import InputError
from limbeck.images.loader import Batch
from limbeck.learn import fit as loop_module
from limbeck.learn.discriminator import Discriminator
from limbeck.learn.fit import Loop, fit, learning_rate_factor, load_state, make_optimizer, read_state, step_seed
from limbeck.learn.objectives import ask, distill, supervised

STEPS, EPOCHS = 3, 2


class Net(nn.Module):
    """A net with dropout and, if wanted, BatchNorm."""

    def __init__(self, *, norm: bool = True, dropout: float = 0.3) -> None:
        super().__init__()
        middle = [nn.BatchNorm1d(8)] if norm else []
        self.layers = nn.Sequential(nn.Linear(16, 8), *middle, nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.flatten(1).to(self.layers[0].weight.dtype) / 255)


@pytest.fixture
def make_loop(make_batch):
    """Return a function that builds a distillation with all parts that a state must hold."""

    def made(*, seed: int = 0, kind: str = "sgd", epochs: int = EPOCHS, lr: float = 0.05, mode="adversarial") -> Loop:
        torch.manual_seed(seed)
        student, critic = Net(), Discriminator(3, rectified=False)
        torch.manual_seed(100)
        teacher = Net().eval()
        optimizer = make_optimizer(
            student, kind=kind, lr=lr, momentum=0.9, nesterov=False, weight_decay=0.01, discriminator=critic
        )
        return Loop(
            objective=distill(student, ask([teacher]), discriminator=critic, mode=mode, hard_weight=0.5),
            modules={"student": student, "discriminator": critic},
            optimizer=optimizer,
            batches=lambda epoch, start: (make_batch(1000 * epoch + i) for i in range(start, STEPS)),
            steps=STEPS,
            epochs=epochs,
            factor=partial(learning_rate_factor, schedule="cosine", epochs=epochs, warmup=0.5),
            accelerator=Accelerator(cpu=True),
            ema=ModelEmaV3(student, decay=0.9, use_warmup=True),
        )

    return made


def contents(loop: Loop) -> list[Tensor]:
    """Return all that training changed."""
    found = [t for module in (*loop.modules.values(), loop.ema.module) for t in module.state_dict().values()]
    for state in loop.optimizer.state_dict()["state"].values():
        found += [value for value in state.values() if isinstance(value, Tensor)]
    return [tensor.clone() for tensor in found]


def same(one: Loop, other: Loop) -> bool:
    return all(torch.equal(a, b) for a, b in zip(contents(one), contents(other), strict=True))


def validation(loop: Loop):
    """Return a validation that looks at the average's weights."""
    return lambda epoch: {"val": float(loop.ema.module.layers[0].weight.detach().sum())}


# ---- schedules --------------------------------------------------------------------------------------------


def test_the_step_schedule_multiplies_at_each_milestone():
    factor = partial(learning_rate_factor, schedule="step", epochs=10, milestones=(3, 6), gamma=0.1)
    assert [factor(epoch) for epoch in (0, 2.99, 3, 5.9, 6, 9)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_cosine_falls_from_one_to_nought():
    factor = partial(learning_rate_factor, schedule="cosine", epochs=10)
    assert [factor(epoch) for epoch in (0, 5, 10)] == pytest.approx([1, 0.5, 0])
    assert factor(2) + factor(8) == pytest.approx(1)


def test_the_constant_is_constant():
    assert {learning_rate_factor(epoch, schedule="constant", epochs=10) for epoch in range(10)} == {1.0}


@settings(deadline=None)
@given(
    schedule=st.sampled_from(["step", "cosine", "constant"]),
    warmup=st.floats(0, 9),
    one=st.floats(0, 10),
    other=st.floats(0, 10),
)
def test_the_rate_rises_in_the_warm_up_and_never_after(schedule, warmup, one, other):
    factor = partial(learning_rate_factor, schedule=schedule, epochs=10, milestones=(4.0,), warmup=warmup)
    low, high = sorted((one, other))
    assert 0 <= factor(low) <= 1
    if high < warmup:
        assert factor(low) <= factor(high)
    if low >= warmup:
        assert factor(low) >= factor(high)


def test_the_schedule_moves_the_students_rates_and_not_the_discriminators(make_loop):
    loop, seen = make_loop(lr=0.05), []
    batches = loop.batches

    def watched(epoch: int, start: int):
        for batch in batches(epoch, start):
            seen.append([group["lr"] for group in loop.optimizer.param_groups])
            yield batch

    fit(replace(loop, batches=watched))
    expected = [0.05 * loop.factor((step + 0.5) / STEPS) for step in range(STEPS * EPOCHS)]
    assert [rates[0] for rates in seen] == pytest.approx(expected)
    assert [rates[1] for rates in seen] == pytest.approx(expected)
    assert {rates[2] for rates in seen} == {1e-4}
    assert len(set(expected)) > 3


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_only_weights_decay(kind):
    student = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    optimizer = make_optimizer(
        student, kind=kind, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.5, discriminator=nn.Linear(2, 2)
    )
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in student.parameters()] == [0.5, 0, 0, 0]  # weight, bias, scale, shift
    assert len(decay) == 4 + 2
    assert optimizer.param_groups[2]["weight_decay"] == 0


def test_frozen_parameters_are_left_out():
    student = nn.Linear(2, 2)
    student.weight.requires_grad_(False)
    optimizer = make_optimizer(student, kind="sgd", lr=0.1, momentum=0, nesterov=False, weight_decay=0)
    assert [p is student.bias for group in optimizer.param_groups for p in group["params"]] == [True]


# ---- steps ------------------------------------------------------------------------------------------------


def plain_loop(make_batch, *, batch: int, accumulate: int) -> tuple[nn.Module, Loop]:
    """Return a loop over the same 8 images a step, in parts."""
    torch.manual_seed(0)
    net = Net(norm=False, dropout=0).double()
    parts = 8 // batch

    def batches(epoch: int, start: int):
        for i in range(start, STEPS * parts):
            whole = make_batch(100 * epoch + i // parts, 8)
            here = slice(batch * (i % parts), batch * (i % parts + 1))
            yield Batch(whole.images[here], whole.labels[here], whole.indices[here], whole.views)

    optimizer = make_optimizer(net, kind="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    return net, Loop(
        supervised(net), {"student": net}, optimizer, batches, STEPS, EPOCHS, lambda epoch: 1.0, Accelerator(cpu=True),
        accumulate=accumulate,
    )  # fmt: skip


@pytest.mark.parametrize("batch", [4, 2])
def test_accumulated_batches_are_one_large_batch(make_batch, batch):
    whole, loop = plain_loop(make_batch, batch=8, accumulate=1)
    expected = fit(loop).history
    parts, loop = plain_loop(make_batch, batch=batch, accumulate=8 // batch)
    history = fit(loop).history
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)  # float64: sums in another order
    assert [row["loss"] for row in history] == pytest.approx([row["loss"] for row in expected])


def test_a_step_is_torchs_own(make_batch):
    net, loop = plain_loop(make_batch, batch=8, accumulate=1)
    twin = copy.deepcopy(net)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for batch in loop.batches(0, 0):
        decay = [p for p in twin.parameters() if p.ndim > 1]
        loss = nn.functional.cross_entropy(twin(batch.images), batch.labels)
        optimizer.zero_grad()
        (loss + 0.01 / 2 * sum(p.square().sum() for p in decay)).backward()
        optimizer.step()
    fit(loop, limit=STEPS)
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)  # float64


class Late(float):
    """A metric during whose reading a second Ctrl-C comes, once."""

    came = False

    def __float__(self):
        if not self.came:
            self.came = True
            raise KeyboardInterrupt
        return float.__add__(self, 0.0)


@pytest.mark.parametrize("assigned", [False, True])
def test_an_interrupted_interruption_counts_no_metric_twice_and_none_never(make_loop, assigned):
    progress = loop_module.Progress(step=3, sums=loop_module.Sums({"loss": 1.0}, steps=1))
    meter = loop_module._Meter(progress, runs.silent, make_loop())
    meter.pending = [{"loss": 2.0}, {"loss": 4.0 if assigned else Late(4.0)}]
    if assigned:  # it comes between the two assignments
        pending = meter.pending
        meter.settle()
        meter.pending = pending
    else:
        with pytest.raises(KeyboardInterrupt):
            meter.settle()
    meter.settle()
    assert progress.sums == {"loss": 7.0}


def test_rows_are_means_over_the_epoch(make_loop):
    loop, said = make_loop(), []
    objective = loop.objective

    def watched(batch):
        loss, metrics = objective(batch)
        said.append(float(metrics["loss"]))
        return loss, metrics

    recorded = []
    progress = fit(replace(loop, objective=watched), record=lambda rows: recorded.append(len(rows)))
    assert [row["loss"] for row in progress.history] == pytest.approx(
        [sum(said[:STEPS]) / STEPS, sum(said[STEPS:]) / STEPS]
    )
    assert [row["epoch"] for row in progress.history] == [1, 2]
    assert recorded == [1, 2]


def test_a_limit_ends_training_in_the_middle(make_loop):
    progress = fit(make_loop(), limit=STEPS + 1)
    assert (progress.step, len(progress.history)) == (STEPS + 1, 1)


def test_the_average_follows_its_recurrence(make_loop, monkeypatch):
    monkeypatch.setattr(loop_module, "TELL_SECONDS", 0)
    loop = make_loop(epochs=4)
    weight, weights = loop.modules["student"].layers[0].weight, []
    fit(loop, tell=lambda event, values: event == "step" and weights.append(weight.detach().double().clone()))
    average = torch.zeros_like(weights[0])
    for step, value in enumerate(weights, 1):
        decay = min(0.9, 1 - step ** (-2 / 3))  # timm's warm-up: the first step's weights are taken whole
        average = decay * average + (1 - decay) * value
    assert len(weights) == 4 * STEPS
    found = loop.ema.module.layers[0].weight.detach().double()
    torch.testing.assert_close(found, average, rtol=0, atol=1e-6)  # float32


def test_the_average_answers_with_its_own_weights_in_bfloat16():
    AcceleratorState._reset_state()
    try:
        accelerator = Accelerator(cpu=True, mixed_precision="bf16")
        student = Net(norm=False, dropout=0)
        prepared = accelerator.prepare(student)  # which replaces forward
        average = ModelEmaV3(student, decay=0.5).module
        with torch.no_grad():
            for p in student.parameters():
                p.zero_()
        images = torch.full((1, 1, 4, 4), 255, dtype=torch.uint8)
        assert not prepared(images).any()
        assert average(images).any()
    finally:
        AcceleratorState._reset_state()


def test_a_validation_leaves_training_in_training_mode(make_loop):
    one, other = make_loop(), make_loop()

    def validate(epoch: int) -> dict[str, float]:
        other.modules["student"].eval()
        return {}

    fit(one)
    fit(other, validate=validate)
    assert same(one, other)


def test_one_value_a_channel_is_too_little_for_batchnorm_and_is_said(make_loop, make_batch):
    single = replace(make_loop(), batches=lambda epoch, start: iter([make_batch(count=1)] * STEPS))
    with pytest.raises(InputError, match="can't learn from a single value per channel; raise --batch or --size"):
        fit(single)


def test_a_diverging_loss_is_said_and_not_saved(make_loop, tmp_path):
    with pytest.raises(InputError, match=r"diverged: the loss is (nan|inf) at step .* lower --lr"):
        fit(make_loop(lr=1e30), state=tmp_path / "state.pt")
    assert not any(tmp_path.iterdir())


def test_weights_that_the_last_step_broke_are_not_saved(make_loop, tmp_path):
    loop = make_loop(lr=1e30)

    def huge(batch):
        loss, metrics = loop.objective(batch)
        return loss * 1e20, metrics  # the loss is finite yet, and its gradient breaks the weights

    with pytest.raises(InputError, match=r"diverged: .* of the student holds NaN or infinity at step 1; lower"):
        fit(replace(loop, objective=huge, steps=1, epochs=1), state=tmp_path / "state.pt")
    assert not any(tmp_path.iterdir())


def test_a_loss_of_hundreds_is_told_once(make_loop):
    loop, told = make_loop(lr=0.05), []

    def large(batch):
        loss, _ = loop.objective(batch)
        return loss, {"loss": loss.detach() * 0 + 312.0}

    fit(replace(loop, objective=large), tell=lambda event, values: told.append(values.get("text")))
    assert [text for text in told if text] == [f"the loss is 312 at step {STEPS}: a tenth of --lr 0.05 may do better"]


# ---- interruptions ----------------------------------------------------------------------------------------


class Stop(Exception):
    pass


def stopping_at(event: str, step: int):
    def tell(told: str, values: dict) -> None:
        if told == event and values["step" if event == "step" else "epoch"] == step:
            raise Stop

    return tell


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize(
    ("event", "place"), [*(("step", i + 1) for i in range(STEPS * EPOCHS)), *(("epoch", i + 1) for i in range(EPOCHS))]
)
def test_an_interrupted_training_ends_in_the_same_bits(make_loop, tmp_path, monkeypatch, kind, event, place):
    whole = make_loop(kind=kind)
    expected = fit(whole, validate=validation(whole))
    monkeypatch.setattr(loop_module, "TELL_SECONDS", 0)
    state = tmp_path / "state.pt"
    first = make_loop(kind=kind)
    with pytest.raises(Stop):
        fit(first, state=state, validate=validation(first), tell=stopping_at(event, place))
    again = make_loop(kind=kind, seed=1)  # the state brings the weights
    torch.manual_seed(7)
    recorded = []
    progress = fit(again, state=state, validate=validation(again), record=lambda rows: recorded.append(list(rows)))
    assert same(whole, again)
    assert progress == expected
    if (event, place) != ("epoch", EPOCHS):
        assert recorded[-1] == expected.history


def test_training_goes_on_from_whichever_save_is_the_last(make_loop, tmp_path, monkeypatch):
    whole = make_loop()
    expected = fit(whole, validate=validation(whole))
    monkeypatch.setattr(loop_module, "TELL_SECONDS", 0)
    monkeypatch.setattr(loop_module, "SAVE_SECONDS", -1)
    state, first = tmp_path / "state.pt", make_loop()

    def keep(event: str, values: dict) -> None:  # what a kill at this moment would leave
        if state.exists():
            shutil.copy(state, tmp_path / f"{len(list(tmp_path.iterdir()))}.kept")

    fit(first, state=state, validate=validation(first), tell=keep)
    kept = sorted(tmp_path.glob("*.kept"))
    assert len(kept) == STEPS * EPOCHS + EPOCHS - 1
    for file in kept:
        again = make_loop(seed=1)
        assert fit(again, state=file, validate=validation(again)) == expected
        assert same(whole, again)


def test_a_finished_training_has_nothing_to_do(make_loop, tmp_path):
    first, again = make_loop(), make_loop(seed=1)
    expected = fit(first, state=tmp_path / "state.pt")
    assert fit(again, state=tmp_path / "state.pt", tell=stopping_at("step", 1)) == expected
    assert same(first, again)


# ---- state files that are none ----------------------------------------------------------------------------


def refused(path: Path, loop: Loop) -> str:
    with pytest.raises(InputError) as error:
        load_state(path, loop.modules, loop.optimizer, loop.ema)
    sentence = str(error.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


def test_the_state_of_another_net_is_refused(make_loop, tmp_path, make_batch):
    _, other = plain_loop(make_batch, batch=8, accumulate=1)
    fit(other, state=tmp_path / "state.pt")
    assert "is not the state of this run" in refused(tmp_path / "state.pt", make_loop())


def test_the_state_of_another_format_is_refused(make_loop, tmp_path):
    torch.save({"format": 99}, tmp_path / "state.pt")
    assert "format 99" in refused(tmp_path / "state.pt", make_loop())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", b"\x80\x04N.", b"[1, 2]"])
def test_what_is_no_state_is_refused(make_loop, tmp_path, content):
    (tmp_path / "state.pt").write_bytes(content)
    refused(tmp_path / "state.pt", make_loop())


def test_a_cut_off_state_is_refused(make_loop, tmp_path):
    fit(make_loop(), state=tmp_path / "state.pt", limit=STEPS)
    data = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(data[: len(data) // 2])
    refused(tmp_path / "state.pt", make_loop())


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_and_nothing_in_it_runs(make_loop, tmp_path, zipped):
    state, mark = tmp_path / "state.pt", tmp_path / "exploded"
    if zipped:
        torch.save({"format": 1, "modules": Bomb(mark)}, state)
    else:
        state.write_bytes(pickle.dumps({"format": 1, "modules": Bomb(mark)}))
    refused(state, make_loop())
    assert not mark.exists()


def test_every_step_is_told_once_with_its_epoch(make_loop, monkeypatch):
    monkeypatch.setattr(loop_module, "TELL_SECONDS", 0)
    told = []
    fit(make_loop(), tell=lambda event, values: told.append((event, values)))
    steps = [values for event, values in told if event == "step"]
    assert [values["step"] for values in steps] == list(range(1, STEPS * EPOCHS + 1))
    assert [values["epoch"] for values in steps] == [1] * STEPS + [2] * STEPS
    assert all(math.isfinite(values["loss"]) for values in steps)


def test_the_last_step_is_told_however_fast_it_was_so_that_no_progress_stays_on_screen(make_loop, monkeypatch):
    monkeypatch.setattr(loop_module, "TELL_SECONDS", 1e9)
    told = []
    fit(make_loop(), tell=lambda event, values: told.append(values) if event == "step" else None)
    (only,) = told
    assert only["step"] == only["steps"]


def test_a_resumed_training_knows_the_seconds_of_all_earlier_calls(make_loop, tmp_path, monkeypatch):
    state, clock = tmp_path / "state.pt", iter(range(10**6))
    monkeypatch.setattr("limbeck.learn.fit.time.monotonic", lambda: float(next(clock)))
    before = 0.0
    for place in (2, 4):
        with pytest.raises(Stop):
            fit(make_loop(), state=state, tell=stopping_at("step", place))
        saved = read_state(state)["seconds"]
        assert saved > before
        before = saved
    assert fit(make_loop(), state=state).earlier == before


def test_what_comes_before_a_step_is_told_its_number_after_a_resume_too(make_loop, tmp_path):
    numbers = []
    for limit in (2, None):
        fit(replace(make_loop(), before_step=numbers.append), state=tmp_path / "state.pt", limit=limit)
    assert numbers[:2] == [0, 1]
    assert numbers[-1] == STEPS * EPOCHS - 1
    assert set(numbers) == set(range(STEPS * EPOCHS))


def test_seeds_of_steps_are_those_that_runs_were_made_with():
    """CPython's hash of the numbers, which seeded steps before; pinned, as another interpreter may hash otherwise."""
    assert [step_seed(0, 0, 0), step_seed(1, 2), step_seed(2**32 - 1, 100, 3)] == [360982090, 543137603, 1980123494]
    if sys.implementation.name == "cpython" and sys.maxsize == 2**63 - 1:
        draws = np.random.default_rng(0).integers(0, 2**61 - 1, (500, 3)).tolist()
        for one in draws:
            assert [step_seed(*one), step_seed(*one[:2])] == [hash(tuple(v)) & 0x7FFFFFFF for v in (one, one[:2])]
