"""A board behind a serial line as a driver's Port; board/bridge.sv has the commands. Copied into Designs for boards.

Numpy and the standard library only; but opening a real line takes pyserial."""

from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BAUD = 3_000_000
TIMEOUT = 5.0  # seconds without a byte after which a board is given up
_WRITE, _READ, _BURST, _SEND = 1, 2, 3, 4
_UNDER_WAY = 2  # images that the board holds; a third would be lost, as the line has no flow control
_MOST = 0xFFFF  # words of a burst


class Line(Protocol):
    """A serial line, as pyserial's Serial is one."""

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, fewer where no more came in time."""

    def write(self, data: bytes) -> object:
        """Send bytes."""


class SerialError(Exception):
    """The board does not respond, or there is no such line."""


class SerialPort:
    """The accelerator behind a line. `channels` are the bytes of a pixel."""

    def __init__(self, line: Line, channels: int) -> None:
        self._line, self._channels = line, channels

    def write(self, writes: list[tuple[int, int]]) -> None:
        for address, group in groupby(writes, key=lambda pair: pair[0]):
            values = np.array([value for _, value in group], "<u4")
            for start in range(0, len(values), _MOST):
                part = values[start : start + _MOST]
                if len(part) == 1:
                    self._line.write(bytes([_WRITE, address]) + part.tobytes())
                else:
                    self._line.write(bytes([_BURST, address]) + len(part).to_bytes(2, "little") + part.tobytes())

    def read(self, address: int) -> int:
        self._line.write(bytes([_READ, address]))
        return int.from_bytes(self._take(4), "little")

    def transfer(self, beats: NDArray[np.uint32], frame: int, answers: int) -> NDArray[np.uint32]:
        images = beats.view(np.uint8).reshape(-1, frame, 4)[:, :, : self._channels]
        per_image, taken = 4 * answers // max(1, len(images)), b""
        for number, image in enumerate(images):
            if number >= _UNDER_WAY:
                taken += self._take(per_image)
            self._line.write(bytes([_SEND]) + frame.to_bytes(4, "little") + image.tobytes())
        taken += self._take(4 * answers - len(taken))
        return np.frombuffer(taken, "<u4")

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._line.read(size - len(data))
            if not more:
                raise SerialError(
                    f"the board sent {len(data)} of {size} bytes and fell silent; is its bitstream loaded?"
                )
            data += more
        return data


def open_line(device: str) -> Line:
    """Return the line at a device's path, such as /dev/ttyUSB0; SerialError where it can't be opened."""
    try:
        import serial  # pyserial
    except ImportError as error:
        raise SerialError("serial lines take pyserial: pip install pyserial") from error
    try:
        line: Line = serial.Serial(device, BAUD, timeout=TIMEOUT)
    except (OSError, ValueError) as error:  # SerialException is an OSError
        raise SerialError(f"{device} can't be opened: {error}") from error
    return line
