"""What tests need that pip or apt-get brings: without it they are skipped, and under CI a skip is a failure."""

from importlib.util import find_spec
from shutil import which

import pytest

COMMANDS = (
    "verilator",
    "gcc",
    "g++",
    "make",
    "iverilog",
    "yosys",
    "chromium",
    "clang",
    "wasm-ld",
    "arm-none-eabi-gcc",
    "qemu-system-arm",
    "aarch64-linux-gnu-gcc",
    "qemu-aarch64",
    "bash",
    "zsh",
    "fish",
)


def need(*names: str) -> None:
    """Skip the test, or the module that is being imported, unless each command and Python package is there."""
    missing = [name for name in names if not (which(name) if name in COMMANDS else _found(name))]
    commands = [name for name in missing if name in COMMANDS]
    packages = [name for name in missing if name not in COMMANDS]
    ways = [("apt-get install", commands), ("pip install", packages)]
    if missing:
        remedy = " and ".join(" ".join([way, *names]) for way, names in ways if names)
        pytest.skip(f"{', '.join(missing)} not found; {remedy}", allow_module_level=True)


def _found(package: str) -> bool:
    """Return whether a package can be imported, without importing more than the packages around it."""
    return find_spec(package.partition(".")[0]) is not None and find_spec(package) is not None
