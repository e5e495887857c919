"""A trained classifier becomes a Program, 4 to 16 bits, measured beside the float net."""

import re
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck import runs
from limbeck.deploy.comparison import Compared, check_drop, compare, drop, rows, sample
from limbeck.errors import InputError
from limbeck.results import Result
from limbeck.runs import Tell
from limbeck.training.adaptation.adapted import left
from limbeck.training.sets import judged, to_compare
from limbeck.training.settings import Training

if TYPE_CHECKING:
    from torch import Tensor, nn

    from limbeck.images.source import Source
    from limbeck.integer.noise import LayerNoise
    from limbeck.learn.objectives import Objective
    from limbeck.nets.zoo import Classifier

Bits = Literal["8", "16", "8/16", "4/8", "4/16", "w8a8", "w16a16", "w8a16", "w4a8", "w4a16"]
_NOISE_IMAGES = 64
_REMEDY = "try --train, --bits 16, --bits 8/16, --wide or --eight"


@dataclass(frozen=True)
class Quantising:
    """How a net becomes integers."""

    bits: Bits = "8"
    """Bits of weights and activations; 4/8, or w4a8, means 4-bit weights with 8-bit activations."""
    state_bits: Literal[8, 16, 24] = 16
    """Bits of the states that ODE and residual blocks add to."""
    wide: tuple[str, ...] = ()
    """Layers or blocks to compute in 16 bits, whatever --bits is."""
    eight: tuple[str, ...] | None = None
    """With 4-bit weights, layers or blocks whose weights keep 8 bits; by default the first and the last. None at all:
    --eight without a name."""
    ranges: Literal["mse", "minmax", "percentile"] = "mse"
    """How a map's range is chosen from the calibration images: least squared error, all values, or 99.99 % of them."""
    calibration: int = 512
    """Training images to choose scales from."""

    def __post_init__(self) -> None:
        check_calibration(self.calibration)


def check_calibration(images: int) -> None:
    """Refuse to choose scales from no image."""
    if images < 1:
        raise InputError(f"--calibration is {images}; it must be at least 1")


@dataclass(frozen=True)
class Quantised(Result):
    """A Program beside the float net that it was made from. Shares are in [0, 1]."""

    model: str
    out: str
    bits: Bits
    state_bits: int
    epochs: int  # trained in these integers; 0: only calibrated
    images: int  # measured on
    float_top1: float | None  # None where the held-out images have no labels
    top1: float | None
    agreement: float  # share of images that both call the same
    accumulator_bits: int  # the widest layer's
    size: int  # bytes of the file
    stored: int  # bytes of weights and tables, as a device keeps them
    layers: "tuple[LayerNoise, ...]"

    @property
    def drop(self) -> float | None:
        """Points of top-1 that the float net is ahead."""
        return drop(self.float_top1, self.top1)

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value): layer by layer, then the whole."""
        noisiest = min(self.layers, key=lambda layer: layer.own_snr)
        narrow = any(int(bits) < 16 for bits in re.findall(r"\d+", noisiest.formats))
        remedy = "; --wide makes it 16 bits" if narrow else ""
        return [
            *((layer.path, _shown(layer)) for layer in self.layers),
            ("program", f"{self.out}, {self.size:,} bytes"),
            ("weights and tables", f"{self.stored:,} bytes on a device, each weight in its bits"),
            *rows(Compared(self.images, self.float_top1, self.top1, self.agreement), "integer"),
            ("accumulators", f"{self.accumulator_bits} bits at most, proved from the weights"),
            ("noisiest layer", f"{noisiest.path}, {noisiest.own_snr:.1f} dB{remedy}"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        return {**asdict(self), "drop": self.drop, "layers": [_json(layer) for layer in self.layers]}


def _shown(layer: "LayerNoise") -> str:
    return (
        f"{layer.formats}, {layer.snr:.1f} dB signal to noise ({layer.own_snr:.1f} its own), "
        f"{layer.saturated:.3%} saturated"
    )


def _json(layer: "LayerNoise") -> dict[str, Any]:
    """Return the layer's figures; JSON has no infinity, so a layer without noise has None."""
    return {name: None if value in (float("inf"), float("-inf")) else value for name, value in asdict(layer).items()}


def quantise(
    model: str,
    data: str,
    out: str,
    how: Quantising,
    training: Training,
    *,
    train: bool = False,
    max_drop: float | None = None,
    tell: Tell = runs.silent,
) -> Quantised:
    """Write the Program of `model` to `out`, beside which the float net is measured on the held-out images of `data`.

    Scales are chosen from training images, without labels. With `train` the integer net learns, as `training` says, to
    reproduce the float net's outputs. VerificationError where more than `max_drop` points of top-1 are lost: then
    nothing is written.
    """
    import torch

    from limbeck.images.sources import open_source
    from limbeck.integer.file import save
    from limbeck.integer.graph import pixels
    from limbeck.integer.lower import lower
    from limbeck.integer.noise import noise
    from limbeck.integer.program import predict
    from limbeck.integer.qat import prepare_qat
    from limbeck.integer.survey import stored
    from limbeck.nets import zoo

    opened = partial(open_source, data, on_broken=training.on_broken, download=training.download)
    held_out = to_compare(data, training)
    if held_out.labels is None and max_drop is not None:
        raise InputError(f"{data} has no labels to measure a drop by; leave --max-drop out")
    source = opened("train", labelled=False)
    net = zoo.load(model).eval()
    if note := left(net.lineage.tag, data):
        tell("note", {"text": note})
    if held_out.labels is not None and (note := zoo.check_classes(net, held_out.classes, order=training.class_order)):
        tell("note", {"text": note})

    weight_bits, activation_bits = widths(how.bits)
    formats: dict[str, Any] = {"weight_bits": weight_bits, "activation_bits": activation_bits}
    formats |= {"state_bits": how.state_bits, "wide": how.wide, "eight": how.eight, "ranges": how.ranges}
    seen = sample(net, source, min(how.calibration, len(source)), training.workers)
    lowered = net
    if train:
        lowered = prepare_qat(net, seen, **formats)
        fit_to(net, lowered, source, training, tell)
    program = lower(lowered, seen, **formats)
    made: dict[str, Any] = {"data": data, **asdict(how), "wide": list(how.wide) or None}
    made["eight"] = None if how.eight is None else list(how.eight)
    if train:
        made |= {"train": True, "epochs": training.epochs, "lr": training.lr}
        made |= {"batch": training.batch, "seed": training.seed}
    program = replace(program, lineage={**program.lineage, "quantize": made})  # so that a report can state it
    tell("note", {"text": f"lowered to {len(program.nodes)} nodes, from {len(seen)} images"})

    def call(images: "Tensor") -> "Tensor":
        return torch.from_numpy(predict(program, pixels(net, images).numpy()))

    found = compare(net, call, judged(net, held_out, training.batch, workers=training.workers), len(held_out), tell)
    check_drop(found, max_drop, _REMEDY)
    layers = noise(lowered, program, seen[:_NOISE_IMAGES])
    save(program, out)
    return Quantised(
        model=model,
        out=out,
        bits=how.bits,
        state_bits=how.state_bits,
        epochs=training.epochs if train else 0,
        images=found.images,
        float_top1=found.float_top1,
        top1=found.top1,
        agreement=found.agreement,
        accumulator_bits=max(layer.accumulator_bits for layer in layers),
        size=Path(out).stat().st_size,
        stored=stored(program),
        layers=layers,
    )


def widths(bits: str) -> tuple[int, int]:
    """Return the bits of weights and of activations that 8, 4/8 or w4a8 stands for."""
    weights, _, activations = bits.removeprefix("w").replace("a", "/").partition("/")
    return int(weights), int(activations or weights)


def fit_to(net: "Classifier", student: "Classifier", source: "Source", training: Training, tell: Tell) -> None:
    """Train `student`, made of `net` by prepare_qat, to reproduce `net`'s outputs on training views; write nothing."""
    from limbeck.learn import objectives
    from limbeck.learn.fit import fit
    from limbeck.training.run import accelerator_for, prepared, steps_of
    from limbeck.training.sets import augment_of, training_batches

    accelerator = accelerator_for(training, ".")  # whose trackers are never begun
    training = replace(training, batch=min(training.batch, len(source)))
    teacher = net.eval().requires_grad_(False).to(accelerator.device)

    def objective(prepared: "nn.Module", _critic: "nn.Module | None") -> "Objective":
        return objectives.distill(prepared, objectives.ask([teacher]))

    view = augment_of(source, training, net.input.size, net.input.interpolation)
    batches = partial(training_batches, source, training, view, accelerator, None)
    steps = steps_of(source, training, accelerator.num_processes)
    fit(prepared(student, objective, steps, training, batches, accelerator, None, 0.0), tell=tell)
    net.cpu()
    student.cpu().eval()
