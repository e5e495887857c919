"""What happens to a picture before the nets see it, as it may on its way to another camera."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from limbeck.errors import InputError
from limbeck.images.domains import on_photos

PIECES = 16  # of the photos; one of them is the background
_LARGEST_PIECE = 384  # pixels: the photos are not much larger

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Slider:
    """The range of a part of a Shift, and where it does nothing."""

    low: float
    high: float
    neutral: float


SLIDERS = {
    "background": Slider(0, 1, 0),
    "blur": Slider(0, 0.1, 0),
    "contrast": Slider(0, 2, 1),
    "brightness": Slider(-0.5, 0.5, 0),
    "noise": Slider(0, 0.5, 0),
}


@dataclass(frozen=True)
class Shift:
    """How far a picture is from what it was, in the order in which it happens."""

    background: float = 0.0  # how much of a photo p lies behind: |image - background p|, in MNIST-M's way
    blur: float = 0.0  # radius of a Gaussian, as a share of the side
    contrast: float = 1.0  # factor around the middle grey
    brightness: float = 0.0  # added, as a share of the range
    noise: float = 0.0  # standard deviation, as a share of the range; the same in all channels
    draw: int = 0  # seeds the choice of the background and the noise

    @property
    def neutral(self) -> bool:
        return all(getattr(self, name) == slider.neutral for name, slider in SLIDERS.items())


def read_shift(said: Mapping[str, str]) -> Shift:
    """Return the shift that words such as {"noise": "0.2"} mean; InputError where a value is out of its range."""
    values = {name: _number(name, said[name], slider) for name, slider in SLIDERS.items() if name in said}
    draw = said.get("draw", "0")
    if not (draw.isascii() and draw.isdigit() and len(draw) < 10):
        raise InputError(f"draw is {draw[:20]!r}; it must be a number of up to 9 digits")
    return Shift(**values, draw=int(draw))


def _number(name: str, said: str, slider: Slider) -> float:
    try:
        value = float(said)
    except ValueError:
        value = math.nan
    if not slider.low <= value <= slider.high:
        raise InputError(f"{name} is {said[:20]!r}; it must lie from {slider.low:g} to {slider.high:g}")
    return value


class Backgrounds:
    """Pieces of photos, cut and kept for each size that is needed."""

    def __init__(self, photos: list[Pixels]) -> None:
        self._photos = photos
        self._pieces: dict[int, Pixels] = {}

    def piece(self, draw: int, size: int) -> Pixels:
        """Return uint8 [3, size, size]."""
        if size not in self._pieces:
            self._pieces[size] = _pieces(self._photos, size)
        piece: Pixels = self._pieces[size][draw % PIECES]
        return piece


def _pieces(photos: list[Pixels], size: int) -> Pixels:
    """Return uint8 [PIECES, 3, size, size]: what limbeck.images.domains lays behind nothing."""
    side = min(size, _LARGEST_PIECE)
    cut = on_photos(np.zeros((PIECES, side, side), np.uint8), photos, "test")
    if side == size:
        return cut
    enlarged = [Image.fromarray(piece.transpose(1, 2, 0)).resize((size, size)) for piece in cut]
    made: Pixels = np.stack([np.asarray(image) for image in enlarged]).transpose(0, 3, 1, 2)
    return made


def shifted(view: Pixels, shift: Shift, backgrounds: Backgrounds | None) -> Pixels:
    """Return uint8 [3, size, size] from the same; without backgrounds that part of the shift is left out."""
    if shift.neutral:
        return view
    size = view.shape[-1]
    if shift.background and backgrounds is not None:
        piece = backgrounds.piece(shift.draw, size).astype(np.float32)
        view = np.rint(np.abs(view - shift.background * piece)).astype(np.uint8)
    if shift.blur:
        image = Image.fromarray(np.ascontiguousarray(view.transpose(1, 2, 0)))
        view = np.asarray(image.filter(ImageFilter.GaussianBlur(shift.blur * size))).transpose(2, 0, 1)
    values = (view - np.float32(127.5)) * shift.contrast + 127.5 + 255 * shift.brightness
    if shift.noise:
        values = values + 255 * shift.noise * np.random.default_rng(shift.draw).standard_normal((size, size))
    made: Pixels = np.rint(values).clip(0, 255).astype(np.uint8)
    return made
