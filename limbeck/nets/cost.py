"""What a net costs for one image, layer by layer, compared with the nets that it stands in for."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limbeck.errors import InputError
from limbeck.results import Result

if TYPE_CHECKING:
    from limbeck.nets.classifier import Classifier
    from limbeck.nets.count import Layer, Table

_PUBLISHED = (
    "Published: dsODENet has 54.2 to 79.8 % fewer parameters than its Neural ODE baseline, without pre- and "
    "post-processing layers (arXiv 2107.12824). Its layer table is not public: the figure here is this net's "
    "own and does not reproduce the published one."
)


@dataclass(frozen=True)
class Beside:
    """Another net's totals, and how much smaller the net in question is, in per cent of the other's."""

    model: str
    parameters: int
    macs: int
    fewer_parameters: float
    fewer_body_parameters: float  # without the stem and the head
    fewer_macs: float


@dataclass(frozen=True)
class Info(Result):
    """A net's cost for one image. Bytes are of the parameters alone."""

    model: str
    shape: tuple[int, int, int]  # channels, height, width
    layers: "tuple[Layer, ...]"
    parameters: int
    macs: int
    activations: int
    largest_map: int
    bytes: dict[str, int]
    beside: tuple[Beside, ...] = ()
    note: str = ""

    def rows(self) -> list[tuple[str, ...]]:
        """Return the layer table: a heading, one line per layer, the totals."""
        from limbeck.nets.count import bytes_of

        def line(name: str, output: str, runs: str, counts: tuple[int, int, int]) -> tuple[str, ...]:
            return (name, output, runs, *(f"{count:,}" for count in (*counts, *bytes_of(counts[0]).values())))

        heading = ("layer", "output", "runs", "parameters", "MACs", "activations", "B fp32", "B int16", "B int8")
        lines = [
            line(
                layer.name,
                "x".join(map(str, layer.output)) or "-",
                str(layer.executions),
                (layer.parameters, layer.macs, layer.activations),
            )
            for layer in self.layers
        ]
        return [heading, *lines, line("total", "", "", (self.parameters, self.macs, self.activations))]

    def notes(self) -> list[str]:
        """Return the comparisons, a sentence each."""
        beside = [
            f"compared with {other.model} ({other.parameters:,} parameters, {other.macs:,} MACs): "
            f"{other.fewer_parameters:.2f} % fewer parameters ({other.fewer_body_parameters:.2f} % without "
            f"stem and head), {other.fewer_macs:.2f} % fewer MACs"
            for other in self.beside
        ]
        return [*beside, self.note] if self.note else beside


def cost(made: "Classifier") -> Info:
    """Return what the net costs; one of the family, as its name has it, beside the ResNet and ODENet of its depth."""
    from limbeck.nets.count import bytes_of, count
    from limbeck.nets.tags import size_argument

    model, size, channels, classes = made.name, made.input.size, made.input.channels, len(made.classes)
    table = count(made.net, (channels, size, size))
    as_named = not made.arguments.keys() - {size_argument(model)}
    relatives = [
        (label, random_net(name, size, channels, classes, {"dsc": "none"} if dense else {}))
        for label, name, dense in (_relatives(model) if as_named else [])
    ]
    beside = tuple(_beside(label, table, count(net.net, (channels, size, size))) for label, net in relatives)
    return Info(
        model,
        (channels, size, size),
        table.layers,
        table.parameters,
        table.macs,
        table.activations,
        table.largest_map,
        bytes_of(table.parameters),
        beside,
        _PUBLISHED if model.startswith("dsodenet") and as_named else "",
    )


def random_net(name: str, size: int | None, channels: int, classes: int, arguments: dict[str, Any]) -> "Classifier":
    """Return the named net with random weights; InputError for a name, an argument or a size that it does not have."""
    from limbeck.nets import zoo
    from limbeck.nets.classifier import numbered

    if min(1 if size is None else size, channels, classes) < 1:
        raise InputError(f"size {size}, channels {channels}, classes {classes}: each must be at least 1")
    return zoo.create(name, classes=numbered(classes), channels=channels, size=size, arguments=arguments)


def _relatives(model: str) -> list[tuple[str, str, bool]]:
    """Return (label, name, with dense convolutions) of the nets that a net of the family stands in for."""
    if model == "dsodenet_l":
        return [("dsodenet_l with dense convolutions", model, True)]
    match = re.fullmatch(r"(?:ds)?odenet(\d+)(?:_ode)?|rodenet\d+_(\d+)", model)
    if match is None:
        return []
    depth = match[1] or match[2]
    names = [f"resnet{depth}", f"odenet{depth}"]
    return [(name, name, False) for name in names if name != model]


def _beside(label: str, ours: "Table", other: "Table") -> Beside:
    def fewer(mine: int, theirs: int) -> float:
        return 100 * (1 - mine / theirs)

    return Beside(
        label,
        other.parameters,
        other.macs,
        fewer(ours.parameters, other.parameters),
        fewer(ours.part("layer").parameters, other.part("layer").parameters),
        fewer(ours.macs, other.macs),
    )
