"""The one training loop: supervised, distilled, replayed and adapted training differ in the objective alone."""

import contextlib
import io
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from accelerate import Accelerator
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from limbeck.errors import InputError, first_line
from limbeck.images.loader import Batch
from limbeck.learn.objectives import Objective
from limbeck.runs import OPEN_SEAL, Tell, read_sealed, replacing, sealed, silent

Schedule = Literal["step", "cosine", "constant"]
STATE_FORMAT = 1
_HEAD = f"limbeck state, {OPEN_SEAL}\n".encode()  # before what torch saves, so that damage shows
_MARK = 14  # bytes of it that never change
TELL_SECONDS = 0.5  # between two "step" events
LARGE_LOSS = 100.0  # ten times what guessing among 10,000 classes costs: the rate is too high
SAVE_SECONDS = 60.0  # between two saves within an epoch


class Sums(dict[str, float]):
    """Metrics, summed over an epoch's steps up to number `steps`."""

    def __init__(self, values: Mapping[str, float] = MappingProxyType({}), *, steps: int = 0) -> None:
        super().__init__(values)
        self.steps = steps


@dataclass
class Progress:
    """How far training has come: all that a resume needs beside weights and optimiser."""

    step: int = 0  # optimiser steps done
    sums: Sums = field(default_factory=Sums)  # of this epoch
    history: list[dict[str, float]] = field(default_factory=list)  # one row per epoch
    earlier: float = field(default=0.0, compare=False)  # seconds that interrupted calls of `fit` spent


def learning_rate_factor(
    epoch: float, *, schedule: Schedule, epochs: int, milestones: Iterable[float] = (), gamma: float = 0.1,
    warmup: float = 0.0,
) -> float:  # fmt: skip
    """Return what the base learning rate is multiplied with at `epoch` (fractional) of `epochs`.

    A linear warm-up over `warmup` epochs, then: constant; cosine to zero; or `gamma` per milestone passed.
    """
    if epoch < warmup:
        return epoch / warmup
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / max(epochs - warmup, 1e-9)))
    if schedule == "step":
        return float(gamma ** sum(epoch >= milestone for milestone in milestones))
    return 1.0


def make_optimizer(
    student: nn.Module, *, kind: Literal["sgd", "adamw"], lr: float, momentum: float, nesterov: bool,
    weight_decay: float, discriminator: nn.Module | None = None, discriminator_lr: float = 1e-4,
) -> Optimizer:  # fmt: skip
    """Return an optimiser with a group of decayed weights, one of biases and norms (not decayed, as timm does), and
    one for the discriminator, whose learning rate no schedule changes (MEAL V2's code lost it, its issue 9)."""
    trained = [p for p in student.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay, "scheduled": True},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "scheduled": True},
    ]
    if discriminator is not None:
        own = {"lr": discriminator_lr, "weight_decay": 0.0, "scheduled": False}
        groups.append({"params": list(discriminator.parameters()), **own})
    for group in groups:
        group["base_lr"] = group.get("lr", lr)
    groups = [group for group in groups if group["params"]]
    if kind == "adamw":
        return AdamW(groups, lr=lr)
    return SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)


@dataclass(frozen=True)
class Loop:
    """What a training is made of."""

    objective: Objective
    modules: Mapping[str, nn.Module]  # "student" and what else is trained, as `accelerator` prepared them
    optimizer: Optimizer
    batches: Callable[[int, int], Iterator[Batch]]  # (epoch, start): the epoch's batches from number `start` on
    steps: int  # optimiser steps per epoch
    epochs: int
    factor: Callable[[float], float]  # of the learning rate of scheduled groups, by fractional epoch
    accelerator: Accelerator
    seed: int = 0
    accumulate: int = 1  # batches an optimiser step
    ema: ModelEmaV3 | None = None  # of the student
    before_step: Callable[[int], None] | None = None  # called with the step's number, on every rank alike


def fit(
    loop: Loop,
    *,
    state: Path | None = None,
    validate: Callable[[int], dict[str, float]] | None = None,
    validate_every: int = 1,
    record: Callable[[list[dict[str, float]]], None] | None = None,
    limit: int | None = None,
    tell: Tell = silent,
) -> Progress:
    """Train to the end of the last epoch, or for `limit` steps; return the progress, with a row of means per epoch.

    `state` is a file that is replaced atomically at every epoch's end, every minute, and when `tell` raises (that is
    how a caller interrupts: between two steps). Where it exists, training goes on from it and ends, on a CPU, in the
    same bits as without the interruption. `record` gets the rows at every epoch's end, on the
    main process; `validate(epoch)`, from 1, adds its figures to the row of every epoch that is validated, and to the
    last. Raises InputError when the loss is no longer finite.
    """
    whole = {name: loop.accelerator.unwrap_model(module) for name, module in loop.modules.items()}
    progress = Progress()
    if state is not None and state.exists():
        progress = load_state(state, whole, loop.optimizer, loop.ema)
        if progress.history and record is not None and loop.accelerator.is_main_process:
            record(progress.history)  # a kill may have come between the state and its record
    save = _Saver(state if loop.accelerator.is_main_process else None, whole, loop, progress)
    meter = _Meter(progress, tell, loop)
    last = min(loop.steps * loop.epochs, limit or sys.maxsize)
    while True:
        if progress.step // loop.steps > len(progress.history):  # so too after an interruption by an epoch's last step
            due = progress.step // loop.steps % validate_every == 0 or progress.step == loop.steps * loop.epochs
            progress.history.append(meter.end_epoch(validate if due else None))
            save()
            if record is not None and loop.accelerator.is_main_process:
                record(progress.history)
            meter.warn(progress.history[-1].get("loss", 0.0))
            tell("epoch", {**progress.history[-1], "epochs": loop.epochs})
        if progress.step >= last:
            break
        epoch, start = divmod(progress.step, loop.steps)
        stream = loop.batches(epoch, start * loop.accumulate)
        for _ in range(min(loop.steps - start, last - progress.step)):
            _advance(loop, stream, whole["student"], progress, meter)
            _report(meter, save)
    meter.settle()
    return progress


def _advance(loop: Loop, stream: Iterator[Batch], student: nn.Module, progress: Progress, meter: "_Meter") -> None:
    """Make one optimiser step, with all that belongs to it."""
    # The rate is the schedule's at the middle of the step: a warm-up does not begin with 0, nor the cosine end there.
    _set_learning_rates(loop.optimizer, loop.factor((progress.step + 0.5) / loop.steps))
    # Seeded by the step, so that dropout and the like repeat after a resume; ranks draw apart.
    _seed_generators(step_seed(loop.seed, progress.step, loop.accelerator.process_index), loop.accelerator.device)
    if loop.before_step is not None:
        loop.before_step(progress.step)
    metrics, images = _step(loop, stream)
    progress.step += 1
    if loop.ema is not None:
        loop.ema.update(student, step=progress.step)  # the step, as its decay warms up
    meter.add(metrics, images * loop.accelerator.num_processes)


def step_seed(*numbers: int) -> int:
    """Return the seed, 31 bits, that `numbers` from 0 to 2^61 - 2 make: xxHash's rounds over them, as CPython hashes a
    tuple of them."""
    mask, begin = 2**64 - 1, 0x27D4EB2F165667C5
    state = begin
    for number in numbers:
        state = (state + number * 0xC2B2AE3D27D4EB4F) & mask
        state = (state << 31 | state >> 33) & mask
        state = state * 0x9E3779B185EBCA87 & mask
    return (state + (len(numbers) ^ begin ^ 3527539)) & 0x7FFFFFFF


def _seed_generators(seed: int, device: torch.device) -> None:
    """Seed the CPU's generator and the device's. torch.manual_seed also notes the seed, with the call's traceback, for
    every kind of device that is absent, which at every step costs time."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def _report(meter: "_Meter", save: "_Saver") -> None:
    """Reports now and then, saves now and then, and saves when it is to stop."""
    try:
        meter.maybe_tell()
    except InputError:  # diverged: the last state saved is better
        raise
    except BaseException:
        meter.settle()
        save()
        raise
    if time.monotonic() - save.last > SAVE_SECONDS:
        meter.settle()
        save()


def _set_learning_rates(optimizer: Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * (factor if group["scheduled"] else 1.0)


def _step(loop: Loop, stream: Iterator[Batch]) -> tuple[dict[str, Tensor], int]:
    """One optimiser step; return the mean metrics of its batches and the images seen."""
    means: dict[str, Tensor] = {}
    images = 0
    for module in loop.modules.values():
        if not module.training:  # after an evaluation
            module.train()
    loop.optimizer.zero_grad()
    for micro in range(loop.accumulate):
        batch = next(stream)
        with contextlib.ExitStack() as stack:
            if micro < loop.accumulate - 1:
                for module in loop.modules.values():
                    stack.enter_context(loop.accelerator.no_sync(module))
            try:
                loss, metrics = loop.objective(batch)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise InputError(
                    "BatchNorm can't learn from a single value per channel; raise --batch or --size"
                ) from error
            # accelerate's own looks for packages first, at every call
            (loss / loop.accumulate).backward()  # type: ignore[no-untyped-call]
        images += len(batch.images)
        for name, value in metrics.items():
            means[name] = means.get(name, torch.zeros_like(value)) + value / loop.accumulate
    loop.optimizer.step()
    return means, images


class _Meter:
    """Sums metrics without waiting for the device at every step, and reports them twice per second."""

    def __init__(self, progress: Progress, tell: Tell, loop: Loop) -> None:
        self.progress, self.tell, self.loop = progress, tell, loop
        self.pending: list[dict[str, Tensor]] = []
        self.images = 0
        self.warned = False
        self.since = time.monotonic()

    @property
    def lr(self) -> float:
        """The student's learning rate at the last step, which a resumed optimiser still has."""
        return float(self.loop.optimizer.param_groups[0]["lr"])

    @property
    def rate(self) -> float:
        """The learning rate that the schedule starts from."""
        return float(self.loop.optimizer.param_groups[0]["base_lr"])

    def add(self, metrics: dict[str, Tensor], images: int) -> None:
        self.pending.append(metrics)
        self.images += images

    def settle(self) -> dict[str, float]:
        """Move what is pending into the epoch's sums; return its means. The sums say of how many steps they are, so
        that an interruption at any place counts nothing twice."""
        means, sums = {}, Sums(self.progress.sums, steps=self.progress.step)
        fresh = self.progress.step - self.progress.sums.steps
        pending = self.pending[len(self.pending) - fresh :]
        for name in pending[0] if pending else ():
            values = [float(metrics[name]) for metrics in pending]
            for value in values:  # one by one, so that the sum does not depend on when it was settled
                sums[name] = sums.get(name, 0.0) + value
            means[name] = sum(values) / len(values)
        self.progress.sums = sums
        self.pending = []
        if not math.isfinite(means.get("loss", 0.0)):
            raise InputError(
                f"training diverged: the loss is {means['loss']} at step {self.progress.step} with learning rate "
                f"{self.lr:g}; lower --lr or add --warmup, and start anew"
            )
        return means

    def warn(self, loss: float) -> None:
        """Warn once of a loss that no suitable learning rate gives."""
        if loss > LARGE_LOSS and not self.warned:
            self.warned = True
            text = f"the loss is {loss:.0f} at step {self.progress.step}: a tenth of --lr {self.rate:g} may do better"
            self.tell("note", {"text": text})

    def maybe_tell(self) -> None:
        now, last = time.monotonic(), self.loop.steps * self.loop.epochs
        if now - self.since < TELL_SECONDS and self.progress.step < last:  # the last ends a progress line
            return
        means = self.settle()
        self.warn(means.get("loss", 0.0))
        done = {"step": self.progress.step, "steps": last, "lr": self.lr}
        rate = self.images / max(now - self.since, 1e-9)
        self.images, self.since = 0, now
        epoch = {"epoch": (self.progress.step - 1) // self.loop.steps + 1, "epochs": self.loop.epochs}
        self.tell("step", {**done, **epoch, "images_per_second": rate, **means})

    def end_epoch(self, validate: Callable[[int], dict[str, float]] | None) -> dict[str, float]:
        """Return the epoch's row, the mean over ranks, and begin the next."""
        self.settle()
        means = {name: value / self.loop.steps for name, value in self.progress.sums.items()}
        means = _over_ranks(means, self.loop.accelerator)
        self.progress.sums = Sums(steps=self.progress.step)
        epoch = self.progress.step // self.loop.steps
        checked = validate(epoch) if validate else {}
        self.images, self.since = 0, time.monotonic()
        return {"epoch": epoch, "lr": self.lr, **means, **checked}


def _over_ranks(means: dict[str, float], accelerator: Accelerator) -> dict[str, float]:
    if accelerator.num_processes == 1:
        return means
    own = torch.tensor(list(means.values()), dtype=torch.float64, device=accelerator.device)
    return dict(zip(means, accelerator.reduce(own, reduction="mean").tolist(), strict=True))


def check_finite(name: str, module: nn.Module, step: int) -> None:
    """Raise InputError where a weight or a statistic is NaN or infinite."""
    for key, value in module.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise InputError(
                f"training diverged: {key} of the {name} holds NaN or infinity at step {step}; lower --lr or add "
                "--warmup, and start anew"
            )


class _Saver:
    """Writes the state when called, if there is a path; remembers when."""

    def __init__(self, path: Path | None, modules: Mapping[str, nn.Module], loop: Loop, progress: Progress) -> None:
        self.path, self.modules, self.loop, self.progress = path, modules, loop, progress
        self.begun = self.last = time.monotonic()

    def __call__(self) -> None:
        """Write the state; InputError, and the last one stays, where weights are no longer finite: the loss that shows
        it may be yet to come, or never, after the last step."""
        for name, module in self.modules.items():
            check_finite(name, module, self.progress.step)
        if self.path is not None:
            state = io.BytesIO()  # in memory first: torch reports a full disk in its own, wordy way
            torch.save(self._state(), state)
            with replacing(self.path) as temporary, temporary.open("wb") as file:
                file.write(sealed(_HEAD, state.getbuffer()))
                file.write(state.getbuffer())
        self.last = time.monotonic()

    def _state(self) -> dict[str, Any]:
        return {
            "format": STATE_FORMAT,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizer": self.loop.optimizer.state_dict(),
            "ema": self.loop.ema.state_dict() if self.loop.ema else None,
            "step": self.progress.step,
            "sums": dict(self.progress.sums),
            "history": self.progress.history,
            "seconds": self.progress.earlier + time.monotonic() - self.begun,
        }


def read_state(path: Path) -> Any:  # noqa: ANN401 - what torch.save wrote
    """Return what a state file holds, unpickling nothing; InputError where it is damaged."""
    data = read_sealed(path)
    start = len(_HEAD) if data.startswith(_HEAD[:_MARK]) else 0  # 0.1.0 sealed nothing
    return torch.load(io.BytesIO(memoryview(data)[start:]), map_location="cpu", weights_only=True)


def load_state(path: Path, modules: Mapping[str, nn.Module], optimizer: Optimizer, ema: ModelEmaV3 | None) -> Progress:
    """Put the state file's weights, optimiser and EMA into place and return the progress; InputError if it is not
    such a file or belongs to other nets. Nothing is unpickled."""
    try:
        saved = read_state(path)
        if saved["format"] != STATE_FORMAT:
            raise InputError(
                f"{path} has state format {saved['format']}, this version reads {STATE_FORMAT}; start anew"
            )
        for name, module in modules.items():
            module.load_state_dict(saved["modules"][name])
        optimizer.load_state_dict(saved["optimizer"])
        if ema is not None:
            ema.load_state_dict(saved["ema"])
        earlier = float(saved.get("seconds", 0.0))  # 0.1.0 did not save it
        step = int(saved["step"])
        return Progress(step, Sums(saved["sums"], steps=step), list(saved["history"]), earlier)
    except InputError:
        raise
    except Exception as error:  # a hostile file may fail anywhere in the reader
        raise InputError(
            f"{path} is not the state of this run ({first_line(error)}); start anew in another --out"
        ) from error
