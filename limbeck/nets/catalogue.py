"""Nets to start from: Limbeck's own, counted, and those that timm has weights for."""

from dataclasses import dataclass

from limbeck.errors import InputError

CHANNELS, CLASSES = 3, 10  # that the nets are counted with


@dataclass(frozen=True)
class Net:
    """A net of Limbeck's own, for colour images of its size and ten classes."""

    name: str
    size: int  # pixels per side
    parameters: int
    macs: int


@dataclass(frozen=True)
class Teacher:
    """A net with weights that timm can fetch, by its pinned tag."""

    tag: str
    size: int  # pixels per side
    licence: str  # of the weights; empty where timm does not state it


@dataclass(frozen=True)
class Student:
    """A net for a device. docs/experiments.md, docs/fpga-figures.md and benchmarks/README.md give the figures with
    their commands; None: not measured."""

    name: str
    choose: str  # it if ...
    top1: float | None = None  # per cent; distilled for four epochs on Fashion-MNIST, mean of three seeds
    onnx: float | None = None  # CPU milliseconds per image, float32, one thread
    c: float | None = None  # the same in 8 bits, with AVX-512 VNNI
    chip: float | None = None  # milliseconds per image on a ZCU104, the clock of 200 MHz assumed


STUDENTS = (
    Student("dsodenet20", "memory is scarce: microcontrollers, FPGAs", 90.05, 0.238, 0.135, 0.0249),
    Student("odenet20", "one more point is worth seven times the weights", 91.09, 0.50),
    Student("resnet20", "accuracy matters most and 270 kB fit", 91.44, 0.43),
    Student("dsodenet_l", "images have 96 pixels, on an FPGA"),
    Student("mlperf_resnet8", "you compare with MLPerf Tiny at 32 pixels", None, 0.256, 0.135),
    Student("mlperf_mobilenetv1_025", "images have 96 pixels and time is short", None, 0.275, 0.142),
)


def own_names() -> list[str]:
    """Return the names of the nets that Limbeck defines."""
    from limbeck.nets import odenet, tiny

    return [*odenet.default_cfgs, *tiny.default_cfgs]


def own_nets() -> tuple[Net, ...]:
    """Return Limbeck's own nets, counted at the size that they are made for, on shapes without values."""
    import timm
    import torch

    from limbeck.nets.count import count

    found = []
    for name in own_names():
        with torch.device("meta"):
            net = timm.create_model(name, num_classes=CLASSES, in_chans=CHANNELS)
            config = timm.get_pretrained_cfg(name)
            assert config is not None, "every net of ours is registered with one"
            size = config.input_size[-1]
            table = count(net, (CHANNELS, size, size))
        found.append(Net(name, size, table.parameters, table.macs))
    return tuple(found)


def teachers_like(pattern: str) -> tuple[Teacher, ...]:
    """Return timm's tags that match and have classes; InputError where none does."""
    import timm

    tags = timm.list_pretrained(pattern)
    if not tags:
        near = timm.list_pretrained(f"*{pattern.strip('*')}*")[:3]
        hint = f"; did you mean {' or '.join(near)}?" if near else "; try resnet* or *in22k*"
        raise InputError(f"timm has no weights for {pattern!r}{hint}")
    found = [(tag, timm.get_pretrained_cfg(tag)) for tag in tags]
    # CLIP's towers that nobody fine-tuned have as many outputs as their embedding, and no classes
    towers = {tag for tag in tags if "clip" in tag and "_ft_" not in tag}
    named = [(tag, config) for tag, config in found if config and config.num_classes and tag not in towers]
    if not named:
        raise InputError(f"timm's weights for {pattern!r} name no classes, so they can't teach; try resnet* or *in1k*")
    return tuple(Teacher(tag, config.input_size[-1], config.license or "") for tag, config in named)
