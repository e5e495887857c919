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
    """Return timm's tags that match; InputError where none does."""
    import timm

    tags = timm.list_pretrained(pattern)
    if not tags:
        near = timm.list_pretrained(f"*{pattern.strip('*')}*")[:3]
        hint = f"; did you mean {' or '.join(near)}?" if near else "; try resnet* or *in22k*"
        raise InputError(f"timm has no weights for {pattern!r}{hint}")
    found = [(tag, timm.get_pretrained_cfg(tag)) for tag in tags]
    return tuple(Teacher(tag, config.input_size[-1], config.license or "") for tag, config in found if config)
