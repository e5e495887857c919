"""limbeck quantize: a trained classifier as a Program, 8 or 16 bits, measured beside the float net."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limbeck import runs
from limbeck.errors import InputError, VerificationError
from limbeck.runs import Tell
from limbeck.verbs.sets import centre, workers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from limbeck.data.loader import Batch
    from limbeck.data.sources import Source
    from limbeck.integer.noise import LayerNoise
    from limbeck.integer.program import Program
    from limbeck.nets.zoo import Classifier

Bits = Literal["8", "16", "8/16"]
_BITS: dict[Bits, tuple[int, int]] = {"8": (8, 8), "16": (16, 16), "8/16": (8, 16)}
_NOISE_IMAGES = 64


@dataclass(frozen=True)
class Quantised:
    """A Program beside the float net that it was made from. Shares are in [0, 1]."""

    model: str
    out: str
    bits: Bits
    state_bits: int
    images: int  # measured on
    float_top1: float | None  # None where the held-out images have no labels
    top1: float | None
    agreement: float  # share of images that both call the same
    accumulator_bits: int  # the widest layer's
    size: int  # bytes of the file
    layers: "tuple[LayerNoise, ...]"

    @property
    def drop(self) -> float | None:
        """Points of top-1 that the float net is ahead."""
        if self.float_top1 is None or self.top1 is None:
            return None
        return 100 * (self.float_top1 - self.top1)

    def rows(self) -> list[tuple[str, str]]:
        """Return what a person wants to know, as (name, value)."""
        noisiest = min(self.layers, key=lambda layer: layer.own_snr)
        rows = [("program", f"{self.out}, {self.size:,} bytes"), ("images", f"{self.images:,}")]
        if self.drop is not None:
            rows += [
                ("float top-1", f"{self.float_top1:.2%}"),
                ("integer top-1", f"{self.top1:.2%}, {self.drop:+.2f} points lost"),
            ]
        return [
            *rows,
            ("same answer", f"{self.agreement:.2%}"),
            ("accumulators", f"{self.accumulator_bits} bits at most, proved from the weights"),
            ("noisiest layer", f"{noisiest.path}, {noisiest.own_snr:.1f} dB; --wide makes it 16 bits"),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        return {**asdict(self), "drop": self.drop, "layers": [_json(layer) for layer in self.layers]}


def _json(layer: "LayerNoise") -> dict[str, Any]:
    """Return the layer's figures; JSON has no infinity, so a layer without noise has None."""
    return {name: None if value in (float("inf"), float("-inf")) else value for name, value in asdict(layer).items()}


def quantize(
    model: str,
    *,
    data: str,
    out: str,
    bits: Bits = "8",
    state_bits: Literal[8, 16, 24] = 16,
    wide: tuple[str, ...] = (),
    ranges: Literal["mse", "minmax", "percentile"] = "mse",
    calibration: int = 512,
    max_drop: float | None = None,
    batch: int = 256,
    workers: int | None = None,
    on_broken: Literal["fatal", "skip"] = "fatal",
    download: bool = False,
    tell: Tell = runs.silent,
) -> Quantised:
    """Turn a trained classifier into integers, for hardware, and measure what that costs.

    Scales are chosen from training images, without labels; the float net and the Program are then compared on the
    held-out images. Every number is proved to fit its width from the weights themselves.

    Examples:
        limbeck quantize runs/s --data photos/ --out s.program
        limbeck quantize runs/s --data photos/ --bits 16 --max-drop 0.1 --out s.program

    Args:
        model: A run folder, or whatever else limbeck evaluate takes, of the ODE family or plain layers in a row.
        data: As for teach.
        out: The file to write.
        bits: Of weights and activations; 8/16 is 8-bit weights with 16-bit activations.
        state_bits: Of the states that ODE and residual blocks add to.
        wide: Layers or blocks to compute in 16 bits whatever --bits says.
        ranges: How a map's range is chosen from what was seen: least squared error, all of it, or 99.99 % of it.
        calibration: Training images to choose scales from.
        max_drop: Points of top-1 that may be lost; with more, nothing is written and the exit code is 3.
        batch: Images at once.
        workers: Processes that decode images; by default one a core, none for small images held in memory.
        on_broken: What to do about images that can't be read.
        download: Let torchvision and timm fetch a named data set.
    """
    from limbeck.data.sources import open_source
    from limbeck.integer.file import save
    from limbeck.integer.lower import lower
    from limbeck.integer.noise import noise
    from limbeck.nets import zoo

    if calibration < 1:
        raise InputError(f"--calibration is {calibration}; it must be at least 1")
    held_out = open_source(data, "val", on_broken=on_broken, download=download)
    if held_out.labels is None and max_drop is not None:
        raise InputError(f"{data} has no labels to measure a drop by; leave --max-drop out")
    train = open_source(data, "train", labelled=False, on_broken=on_broken, download=download)
    net = zoo.load(model).eval()
    if held_out.labels is not None and (note := zoo.check_classes(net, held_out.classes)):
        tell("note", {"text": note})

    weight_bits, activation_bits = _BITS[bits]
    seen = _calibration(net, train, min(calibration, len(train)), workers_of(train, workers))
    program = lower(
        net,
        seen,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        state_bits=state_bits,
        wide=wide,
        ranges=ranges,
    )
    tell("note", {"text": f"lowered to {len(program.layers)} layers, from {len(seen)} images"})
    stream = _batches(net, held_out, batch, workers_of(held_out, workers), shuffle=False)
    float_top1, top1, agreement = _compared(net, program, stream, len(held_out), tell)
    _check_drop(float_top1, top1, max_drop)
    layers = noise(net, program, seen[:_NOISE_IMAGES])
    save(program, out)
    return Quantised(
        model=model,
        out=out,
        bits=bits,
        state_bits=state_bits,
        images=len(held_out),
        float_top1=float_top1,
        top1=top1,
        agreement=agreement,
        accumulator_bits=max(layer.accumulator_bits for layer in layers),
        size=Path(out).stat().st_size,
        layers=layers,
    )


def _batches(net: "Classifier", source: "Source", batch: int, workers: int, *, shuffle: bool) -> "Iterator[Batch]":
    from limbeck.data.loader import batches

    view = centre(net.input, whole=source.pixels is not None)
    return batches(
        source, view, batch=batch, seed=0, epoch=0, shuffle=shuffle, drop_last=False, workers=workers
    )  # fmt: skip


def _calibration(net: "Classifier", source: "Source", count: int, workers: int) -> "Tensor":
    """Return `count` training images, drawn once and for all, as the net gets them."""
    import torch

    parts: list[Tensor] = []
    for batch in _batches(net, source, min(count, 64), workers, shuffle=True):
        parts.append(batch.images)
        if sum(map(len, parts)) >= count:
            break
    return torch.cat(parts)[:count]


def _compared(
    net: "Classifier", program: "Program", stream: "Iterator[Batch]", images: int, tell: Tell
) -> tuple[float | None, float | None, float]:
    """Return the float net's top-1, the Program's, and the share of images on which they agree."""
    import torch

    from limbeck.integer.graph import pixels
    from limbeck.integer.program import predict

    right = integers_right = same = done = 0
    labelled = True
    for batch in stream:
        with torch.inference_mode():
            said = net(batch.images).argmax(1)
            integers = torch.from_numpy(predict(program, pixels(net, batch.images).numpy()))
        same += int((said == integers).sum())
        labelled = batch.labels is not None
        if batch.labels is not None:
            right += int((said == batch.labels).sum())
            integers_right += int((integers == batch.labels).sum())
        done += len(said)
        tell("evaluated", {"image": done, "images": images})
    return (right / done, integers_right / done, same / done) if labelled else (None, None, same / done)


def _check_drop(float_top1: float | None, top1: float | None, max_drop: float | None) -> None:
    if max_drop is None or float_top1 is None or top1 is None:
        return
    drop = 100 * (float_top1 - top1)
    if drop > max_drop:
        raise VerificationError(
            f"the integer net's top-1 is {top1:.2%}, {drop:.2f} points below the float net's; --max-drop is "
            f"{max_drop:g}, so nothing was written; try --bits 16, --bits 8/16 or --wide"
        )
