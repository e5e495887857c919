"""The host's side: loads a design's memories, streams images, reads counters. Numpy and the standard library only.

The same class drives a board and the simulator, through a Port. Copied into every Design folder.
"""

import json
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]


class Register(IntEnum):
    """Addresses of the registers; docs/hardware.md has what they hold."""

    RUN = 0x00
    STATUS = 0x04
    ERRORS = 0x08
    IMAGES = 0x0C
    INTERVAL = 0x10
    LATENCY = 0x14
    WAIT_PIXELS = 0x18
    WAIT_SCORES = 0x1C
    IDENTITY = 0x20
    LAST_OP = 0x24
    MEMORY = 0x28
    ADDRESS = 0x2C
    DATA = 0x30


class Error(IntEnum):
    """Bits of the ERRORS register."""

    SHORT_FRAME = 0
    LONG_FRAME = 1
    REGISTER = 2
    LOAD = 3

    @property
    def text(self) -> str:
        """What went wrong."""
        return {
            Error.SHORT_FRAME: "a frame ended early",
            Error.LONG_FRAME: "a frame did not end with its last pixel",
            Error.REGISTER: "a wrong register write (unknown address, partial strobes, DATA or LAST_OP while running)",
            Error.LOAD: "DATA for a memory, an address or a number of pieces that the engine does not have",
        }[self]


class Port(Protocol):
    """How a host reaches the accelerator: registers, and a DMA for pixels and scores."""

    def write(self, writes: list[tuple[int, int]]) -> None:
        """Write (address, value) pairs, in order."""

    def read(self, address: int) -> int:
        """Return the register at `address`."""

    def transfer(self, beats: Words, frame: int, answers: int) -> Words:
        """Send beats, TLAST with every `frame`-th, and return this many beats of output."""


class Counters(NamedTuple):
    """Since the run began: images, cycles from image to image and from first read to scores, cycles waited."""

    images: int
    interval: int
    latency: int
    wait_pixels: int
    wait_scores: int


class DriverError(Exception):
    """The accelerator is not what the design says, or reports an error."""


class Accelerator:
    """A design on a board or in the simulator: its memories loaded, ready for images."""

    def __init__(self, port: Port, design: str | Path) -> None:
        self.port = port
        self.manifest = manifest_of(design)
        if (found := port.read(Register.IDENTITY)) != self.manifest["identity"]:
            raise DriverError(f"the accelerator is {found:#010x}, the design {self.manifest['identity']:#010x}")
        self.load(design)

    def load(self, design: str | Path) -> None:
        """Load the memories of this design, or of one for the same engine: another net on the same bitstream."""
        manifest = manifest_of(design)
        if manifest["identity"] != self.manifest["identity"]:
            raise DriverError(f"{design} is made for another engine")
        self.manifest = manifest
        errors = (1 << len(Error)) - 1
        self.port.write([(Register.RUN, 0), (Register.ERRORS, errors), (Register.LAST_OP, manifest["ops"] - 1)])
        for memory in manifest["memories"]:
            words = read_memory(Path(design) / memory["file"], memory["width"])
            select = memory["select"] | words.shape[1] << 8
            self.port.write([(Register.MEMORY, select), (Register.ADDRESS, 0)])
            self.port.write([(Register.DATA, int(piece)) for piece in words.ravel()])
        self.port.write([(Register.RUN, 1)])

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return scores [N, classes] and classes [N] of uint8 images [N, channels, height, width]."""
        beats, classes = pixels(images), len(self.manifest["classes"])
        answers = self.port.transfer(beats, images.shape[2] * images.shape[3], len(images) * (classes + 1))
        self.check()
        table = answers.view(np.int32).astype(np.int64).reshape(-1, classes + 1)
        return table[:, :-1], table[:, -1]

    def check(self) -> None:
        """Raise DriverError where the error register is set, and clear it."""
        if errors := self.port.read(Register.ERRORS):
            self.port.write([(Register.ERRORS, errors)])
            raise DriverError("the accelerator reports: " + ", ".join(e.text for e in Error if errors >> e & 1))

    def counters(self) -> Counters:
        """Return the counters since the run began."""
        r = Register
        counters = (r.IMAGES, r.INTERVAL, r.LATENCY, r.WAIT_PIXELS, r.WAIT_SCORES)
        return Counters(*(self.port.read(counter) for counter in counters))


def manifest_of(design: str | Path) -> dict[str, Any]:
    """Return what the design's design.json says; manifest.json where Limbeck 0.1.0 made it."""
    path = Path(design) / "design.json"
    text = (path if path.is_file() else path.with_name("manifest.json")).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def pixels(images: NDArray[np.uint8]) -> Words:
    """Return images [N, channels, height, width] as beats: a pixel each, channel 0 in the low byte."""
    count, channels, height, width = images.shape
    beats = np.zeros((count, height, width, 4), np.uint8)
    beats[..., :channels] = images.transpose(0, 2, 3, 1)
    return beats.reshape(-1, 4).view("<u4").ravel()


def read_memory(path: Path, width: int) -> Words:
    """Return the words [words, pieces] of a .mem file: a hexadecimal word a line, pieces of 32 bits, low ones first."""
    pieces = -(-width // 32)
    words = [int(line, 16).to_bytes(4 * pieces, "little") for line in path.read_text(encoding="ascii").split()]
    return np.frombuffer(b"".join(words), "<u4").reshape(-1, pieces)
