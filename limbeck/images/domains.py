"""Domains made from others: digits on photos, and a source whose strokes, colours and backgrounds vary."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from limbeck.errors import InputError
from limbeck.images.views import STREAM_PATCH, STREAM_RANDOMISE, Views, render_tensor, uniforms

PHOTOS = {  # of the package scikit-image: photos of held-out images are never seen in training
    "train": ("astronaut.png", "chelsea.png", "coffee.png"),
    "val": ("motorcycle_left.png", "rocket.jpg"),
    "test": ("motorcycle_left.png", "rocket.jpg"),
}
_DRAWN = {"train": 0, "val": 1, "test": 2}

Randomise = Literal["none", "strokes", "colours", "backgrounds"]


def packaged_photos(split: Literal["train", "val", "test"]) -> list[NDArray[np.uint8]]:
    """Return the photos of a split, uint8 [H, W, 3]; InputError where the package that holds them is missing."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise InputError(
            "digits:mnist-m-like takes its backgrounds from photos in scikit-image: pip install scikit-image"
        )
    folder = Path(found.origin).parent / "data"
    try:
        return [np.asarray(Image.open(folder / name).convert("RGB")) for name in PHOTOS[split]]
    except OSError as error:
        raise InputError(
            f"{folder} lacks a photo that digits:mnist-m-like needs ({error}); pip install --upgrade scikit-image"
        ) from error


def on_photos(
    digits: NDArray[np.uint8], photos: list[NDArray[np.uint8]], split: Literal["train", "val", "test"]
) -> NDArray[np.uint8]:
    """Return uint8 [N, 3, H, W]: |digit - patch|, each patch drawn evenly from the photos, as MNIST-M is made (Ganin &
    Lempitsky 2015, section 5.2) from other photos. `digits` is uint8 [N, H, W]; image i always gets the same patch."""
    count, height, width = digits.shape
    u = uniforms(STREAM_PATCH, seed=0, epoch=_DRAWN[split], indices=np.arange(count), draws=3)
    made = np.empty((count, 3, height, width), dtype=np.uint8)
    for i, (which, y, x) in enumerate(u):
        photo = photos[int(which * len(photos))]
        top, left = int(y * (photo.shape[0] - height + 1)), int(x * (photo.shape[1] - width + 1))
        patch = photo[top : top + height, left : left + width].transpose(2, 0, 1)
        made[i] = np.abs(digits[i].astype(np.int16) - patch)
    return made


@dataclass(frozen=True)
class Draws:
    """What is drawn for N images: uniforms in [0, 1)."""

    stroke: Tensor  # float32 [N]
    place: Tensor  # float32 [N, 5]: whose pixels, top, left, side, flip
    colour: Tensor  # float32 [N, 7]: how the ink is coloured, ink [3], paper [3]


def draw_randomisation(*, seed: int, epoch: int, indices: ArrayLike) -> Draws:
    """Return what (seed, epoch, index) decides alone."""
    u = uniforms(STREAM_RANDOMISE, seed=seed, epoch=epoch, indices=indices, draws=13).astype(np.float32)
    drawn = torch.from_numpy(np.minimum(u, np.float32(1 - 2**-24)))  # rounding may have made a 1
    return Draws(drawn[:, 0], drawn[:, 1:6], drawn[:, 6:])


def randomise(images: Tensor, kind: Randomise, drawn: Draws, palette: Tensor) -> Tensor:
    """Return uint8 [N, C, H, W] in which what does not make the class is drawn anew, with the target's channels.

    images    uint8 [N, 1 or 3, H, W]; bright is ink, dark is paper
    palette   uint8 [M, C, H', W']: unlabelled target images
    strokes       a quarter of the images gets thicker, a quarter thinner strokes
    colours       and paper and ink of even random colours
    backgrounds   and paper from random pieces of target images, with ink that is their negative or of a colour that
                  differs from them by 25% to 75% of the range in each channel

    Nothing here sees a label.
    """
    if kind == "none":
        return images
    ink = _restroked(images, drawn.stroke)
    if kind == "strokes":
        return ink
    channels = palette.shape[1]
    grey = ink.float().mean(dim=1, keepdim=True) / 255
    colour = drawn.colour.to(images.device)
    if kind == "colours":
        paper = (255 * colour[:, 4 : 4 + channels])[:, :, None, None]
    else:
        paper = _pieces(palette, drawn.place, images.shape[-1]).float()
    fresh = (paper.mean(dim=(2, 3)) + 64 + 128 * colour[:, 1 : 1 + channels]) % 256
    negative = (colour[:, 0] < 0.5)[:, None, None, None]
    drawn_in = torch.where(negative, 255 - paper, fresh[:, :, None, None])
    return torch.lerp(paper, drawn_in.expand_as(grey.expand(-1, channels, -1, -1)), grey).round_().to(torch.uint8)


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Return uint8 [N, channels, H, W]: colours as grey (ITU-R BT.601), or grey three times, where they differ."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    luma = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images.float() * luma).sum(dim=1, keepdim=True).round_().to(torch.uint8)


def _restroked(images: Tensor, stroke: Tensor) -> Tensor:
    """Return images with each bright stroke grown or shrunk by half a pixel on each side."""
    side = images.float()
    padded = F.pad(side, (0, 1, 0, 1), mode="replicate")
    thick, thin = F.max_pool2d(padded, 2, 1), -F.max_pool2d(-padded, 2, 1)
    u = stroke.to(images.device)[:, None, None, None]
    return torch.where(u < 0.25, thick, torch.where(u < 0.5, thin, side)).to(torch.uint8)


def _pieces(palette: Tensor, place: Tensor, size: int) -> Tensor:
    """Return uint8 [N, C, size, size]: squares of a quarter to a half of a target image's side, enlarged."""
    whose = (place[:, 0] * len(palette)).long()
    sides = torch.tensor(palette.shape[-2:])
    length = ((0.25 + 0.25 * place[:, 3]) * int(sides.min())).ceil()[:, None]
    corner = (place[:, 1:3] * (sides - length + 1)).floor()
    boxes = torch.cat([corner, length, length], dim=1).to(torch.int16)
    return render_tensor(palette[whose.to(palette.device)], Views(boxes, place[:, 4] < 0.5), size)
