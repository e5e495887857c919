"""Devices: how large an image and which student suit each, and the commands that bring a trained net there."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from limbeck.errors import InputError
from limbeck.fpga.parts import PartName

SMALL, LARGE = "dsodenet20", "mlperf_mobilenetv1_025"  # students for images of up to SMALL_SIDE pixels, and above
SMALL_SIDE = 64
PART: PartName = "xczu7ev"  # of `fpga` alone


@dataclass(frozen=True)
class Command:
    """A command of limbeck: its verb and words, the name of what it writes, and what it is for."""

    name: str
    about: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Device:
    """A kind of device. `exports` gives the commands for a net, data to choose scales from, and the file to write
    without its ending."""

    name: str
    largest: int  # side of an image, pixels
    small_nets: bool  # the student for small images whatever their size: for what the accelerator computes
    exports: Callable[[str, str, str], tuple[Command, ...]]

    def student(self, side: int) -> str:
        """Return the student for images of this side."""
        return SMALL if self.small_nets or side <= SMALL_SIDE else LARGE


def device_of(name: str) -> Device:
    """Return the device that --for names; InputError where there is none."""
    kind, colon, part = name.partition(":")
    if kind == "fpga":
        parts = get_args(PartName)
        if colon and part not in parts:
            raise InputError(f"--for {name}: there is no such part; choose fpga: and one of {', '.join(parts)}")
        return Device(name, SMALL_SIDE, True, lambda net, data, out: _fpga(net, data, out, part or PART))
    if name not in DEVICES:
        raise InputError(f"--for is {name!r}; give {', '.join(DEVICES)} or fpga:PART")
    return DEVICES[name]


def _onnx8(net: str, data: str, out: str) -> tuple[Command, ...]:
    words = ("export", net, "--data", data, "--format", "onnx-int8", "--out", f"{out}.onnx")
    return (Command(f"{out}.onnx", "8 bits for onnxruntime", words),)


def _program(net: str, data: str, out: str) -> tuple[Command, ...]:
    words = ("quantize", net, "--data", data, "--out", f"{out}.program")
    return (Command(f"{out}.program", "8-bit integers", words),)


def _c(net: str, data: str, out: str) -> tuple[Command, ...]:
    words = ("export", f"{out}.program", "--data", data, "--format", "c", "--out", f"{out}.c")
    return (*_program(net, data, out), Command(f"{out}.c", "the same as one C file", words))


def _page(net: str, data: str, out: str) -> tuple[Command, ...]:
    from limbeck.c.page import missing

    if missing():
        return _onnx8(net, data, out)
    words = ("export", f"{out}.program", "--data", data, "--format", "page", "--out", f"{out}.html")
    return (*_program(net, data, out), Command(f"{out}.html", "the same as a page that classifies by itself", words))


def _phone(net: str, data: str, out: str) -> tuple[Command, ...]:
    if importlib.util.find_spec("executorch") is None:
        return _onnx8(net, data, out)
    words = ("export", net, "--data", data, "--format", "executorch", "--out", f"{out}.pte")
    return (Command(f"{out}.pte", "a file for ExecuTorch", words),)


def _fpga(net: str, data: str, out: str, part: str) -> tuple[Command, ...]:
    words = ("compile", f"{out}.program", "--part", part, "--out", f"{out}.design")
    return (*_program(net, data, out), Command(f"{out}.design", f"an accelerator for {part}", words))


DEVICES = {
    device.name: device
    for device in (
        Device("microcontroller", 96, False, _c),
        Device("pi", 128, False, _onnx8),
        Device("phone", 128, False, _phone),
        Device("browser", 128, False, _page),
    )
}
"""Those that --for names alone; an FPGA goes by its part."""
