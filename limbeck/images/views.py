"""Views: augmentation as data. A view is drawn from (seed, epoch, index) and replayed from these values.

Randomness is counter-based: `uniforms` hashes (stream, seed, epoch, index, draw number), so that a view never
depends on the batch, the rank, the worker or what was drawn before.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from limbeck.errors import InputError

Interpolation = Literal["bilinear", "bicubic"]
MAX_SIDE = 2**15 - 1  # pixels: a box is stored as int16
WHITE = 65535  # of grey images of 16 bits: what is white, unless a camera of fewer bits took them
WHOLE_SIDE = 96  # pixels: of an image whose sides are no longer, nets are judged by all of it, not by its centre


@dataclass(frozen=True)
class Augment:
    """How views are drawn. `size` is the side of the square that a net gets, in pixels."""

    size: int
    kind: Literal["crop", "shift", "none"] = "crop"
    scale: tuple[float, float] = (0.08, 1.0)  # crop: area, as a share of the image's
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # crop: width over height
    shift: int = 2  # shift: pixels, each way, zeros come in
    flip: bool = True  # left-right, half of the views
    interpolation: Interpolation = "bilinear"
    crop_pct: float = 0.875  # none: the centre share of the shorter side, as evaluation takes it
    white: int = WHITE  # the value of 16-bit images that becomes 255, as do those above it


@dataclass(frozen=True)
class Views:
    """N views on the CPU, 9 bytes each when stored: `boxes` int16 [N, 4] (top, left, height, width in source
    pixels; a box may leave the image: zeros come in), `flips` bool [N]."""

    boxes: Tensor
    flips: Tensor


@dataclass(frozen=True)
class Mix:
    """Mixup or CutMix: image i is share[i] of itself and 1 - share[i] of image partner[i] of its batch."""

    partner: Tensor  # int64 [N]
    share: Tensor  # float32 [N], in [0, 1]


# ---- randomness -------------------------------------------------------------------------------------------

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
STREAM_VIEW, STREAM_MIX, STREAM_ORDER, STREAM_PATCH, STREAM_RANDOMISE, STREAM_SAMPLE = range(6)  # one per purpose


def hash64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the finaliser of splitmix64 (Steele, Lea and Flood 2014): a well-mixing bijection of 64 bits.

    Of each value; any shape.
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def counters(stream: int, *, seed: int, epoch: int, indices: ArrayLike) -> NDArray[np.uint64]:
    """Return uint64 [N], a hash of (stream, seed, epoch, index) for each index, nested in that order."""
    state = np.array([stream], dtype=np.uint64)
    for part in (seed, epoch):
        state = hash64(state + _GOLDEN) ^ np.uint64(part & (2**64 - 1))
    index = np.asarray(indices, dtype=np.int64).astype(np.uint64)
    return hash64((hash64(state + _GOLDEN) ^ index) + _GOLDEN)


def uniforms(
    stream: int, *, seed: int, epoch: int, indices: ArrayLike, draws: int, first: int = 0
) -> NDArray[np.float64]:
    """Return float64 [N, draws] in [0, 1), multiples of 2^-53; column d is draw number `first` + d."""
    states = counters(stream, seed=seed, epoch=epoch, indices=indices)
    steps = np.arange(first + 1, first + draws + 1, dtype=np.uint64) * _GOLDEN
    return np.ldexp((hash64(states[:, None] + steps) >> np.uint64(11)).astype(np.float64), -53)


# ---- drawing ----------------------------------------------------------------------------------------------


def draw(augment: Augment, sizes: ArrayLike, *, seed: int, epoch: int, indices: ArrayLike) -> Views:
    """Return the views of images `indices` [N] whose `sizes` are int [N, 2] (height, width) or one pair.

    crop  = RandomResizedCrop as torchvision defines it: ten tries, then the centre crop of the nearest ratio.
    shift = the whole image moved by up to `augment.shift` pixels each way.
    none  = the centre square of `crop_pct` of the shorter side, and of all of it where no side is over WHOLE_SIDE; no
            flip: what evaluation sees, of each image by itself, whatever lies beside it. Cropping it
            and resizing to `size` is resizing and then centre-cropping.
    """
    number = len(np.asarray(indices))
    size = np.broadcast_to(np.asarray(sizes, dtype=np.int64), (number, 2))
    if number and size.max() > MAX_SIDE:
        raise InputError(f"an image side of {size.max()} pixels is over the limit of {MAX_SIDE}; shrink the image")
    match augment.kind:
        case "none":
            share = np.where(size.max(axis=1, keepdims=True) <= WHOLE_SIDE, 1.0, augment.crop_pct)
            return _views(_centre(size, share), np.zeros(number, dtype=bool))
        case "shift":
            u = uniforms(STREAM_VIEW, seed=seed, epoch=epoch, indices=indices, draws=3)
            offsets = np.floor(u[:, 1:] * (2 * augment.shift + 1)) - augment.shift
            return _views(np.concatenate([offsets, size], axis=1), (u[:, 0] < 0.5) & augment.flip)
        case "crop":
            u = uniforms(STREAM_VIEW, seed=seed, epoch=epoch, indices=indices, draws=23)
            return _views(_crop(u[:, 1:], size, augment), (u[:, 0] < 0.5) & augment.flip)


def _views(boxes: NDArray[np.generic], flips: NDArray[np.bool_]) -> Views:
    return Views(torch.from_numpy(boxes.astype(np.int16)), torch.from_numpy(flips))


def _centre(size: NDArray[np.int64], share: NDArray[np.float64]) -> NDArray[np.int64]:
    side = np.maximum(1, np.rint(size.min(axis=1, keepdims=True) * share).astype(np.int64))
    return np.concatenate([(size - side) // 2, side, side], axis=1)


def _crop(u: NDArray[np.float64], size: NDArray[np.int64], augment: Augment) -> NDArray[np.int64]:
    """Return boxes int64 [N, 4] of the first of ten tries that fits, from uniforms [N, 22]."""
    low, high = augment.scale
    area = size.prod(axis=1, keepdims=True) * (low + (high - low) * u[:, :10])
    low, high = np.log(augment.ratio)
    ratio = np.exp(low + (high - low) * u[:, 10:20])
    tries = np.rint(np.sqrt(np.stack([area / ratio, area * ratio], axis=2))).astype(np.int64)
    fits = ((tries > 0) & (tries <= size[:, None])).all(axis=2)
    box = tries[np.arange(len(u)), fits.argmax(axis=1)]
    start = np.floor(u[:, 20:] * (size - box + 1)).astype(np.int64)
    fallback = _nearest_ratio(size, augment.ratio)
    found = fits.any(axis=1, keepdims=True)
    return np.where(found, np.concatenate([start, box], axis=1), fallback)


def _nearest_ratio(size: NDArray[np.int64], ratio: tuple[float, float]) -> NDArray[np.int64]:
    """Return boxes int64 [N, 4]: the largest centre crops whose width over height lies within `ratio`."""
    height, width = size[:, 0], size[:, 1]
    tall, wide = width < height * min(ratio), width > height * max(ratio)
    box_height = np.where(tall, np.rint(width / min(ratio)).astype(np.int64), height)
    box_width = np.where(wide, np.rint(height * max(ratio)).astype(np.int64), width)
    box = np.stack([box_height, box_width], axis=1)
    return np.concatenate([(size - box) // 2, box], axis=1)


# ---- rendering --------------------------------------------------------------------------------------------
#
# Both renderers resize with the same antialiased kernels, which see the pixels around a box inside the image, and
# nothing around one that leaves it. They are equal where nothing is resized (shifts,
# flips, crops of `size`); elsewhere they differ by rounding alone: Pillow rounds to 8 bits between
# its two passes, render_tensor rounds once. JPEG files decoded at a reduced scale differ more.


def render_image(
    image: Image.Image, box: ArrayLike, flip: bool, size: int, interpolation: Interpolation = "bilinear"
) -> NDArray[np.uint8]:
    """Return uint8 [C, size, size], the antialiased `box` (top, left, height, width) of an L or RGB image.

    A JPEG that is not decoded yet is decoded at 1/2, 1/4 or 1/8 where the box keeps at least twice `size`
    pixels each way, so `image` is used up.
    """
    top, left, height, width = (int(v) for v in np.asarray(box))
    inside = top >= 0 and left >= 0 and top + height <= image.height and left + width <= image.width
    if (height, width) == (size, size) or not inside:
        image, top, left = image.crop((left, top, left + width, top + height)), 0, 0
    if (height, width) != (size, size):
        image = _resized(image, (top, left, height, width), size, interpolation)
    pixels = np.asarray(image)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[:, :, ::-1] if flip else pixels)


def _resized(
    image: Image.Image, box: tuple[int, int, int, int], size: int, interpolation: Interpolation
) -> Image.Image:
    top, left, height, width = box
    whole, shrink = image.size, min(height, width) // (2 * size)
    if shrink > 1:
        image.draft(None, (whole[0] // shrink, whole[1] // shrink))
    x, y = image.width / whole[0], image.height / whole[1]  # 1, or what the draft left of it
    source = (left * x, top * y, (left + width) * x, (top + height) * y)
    return image.resize((size, size), Image.Resampling[interpolation.upper()], box=source)


def render_tensor(pixels: Tensor, views: Views, size: int, interpolation: Interpolation = "bilinear") -> Tensor:
    """Return uint8 [N, C, size, size] on the device of `pixels` (uint8 [N, C, H, W]): its views, antialiased.

    Boxes of `size` (shifts) are copied; others are resized by one matrix per axis and image, in float32.
    """
    if bool((views.boxes[:, 2:] == size).all()):
        return _windows(pixels, views, size)
    boxes = views.boxes.to(pixels.device, torch.float32)
    start, length, sides = boxes[:, :2], boxes[:, 2:], torch.tensor(pixels.shape[2:], device=pixels.device)
    inside = ((start >= 0) & (start + length <= sides)).all(dim=1, keepdim=True)
    seen = torch.stack([start * ~inside, torch.where(inside, sides, start + length)])
    rows, columns = (
        _resize_matrix(start[:, axis], length[:, axis], seen[:, :, axis], pixels.shape[2 + axis], size, interpolation)
        for axis in (0, 1)
    )
    columns = torch.where(views.flips.to(pixels.device)[:, None, None], columns.flip(1), columns)
    resized = rows[:, None] @ (pixels.float() @ columns.mT[:, None])
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def _windows(pixels: Tensor, views: Views, size: int) -> Tensor:
    """Return the windows of `size` whose corners the boxes name, with zeros outside the images."""
    corners = views.boxes[:, :2].long()
    room = torch.tensor(pixels.shape[2:]) - size
    before = (-corners.amin(0)).clamp(min=0)
    after = (corners - room).amax(0).clamp(min=0)
    (top, left), (bottom, right) = before.tolist(), after.tolist()
    padded = torch.nn.functional.pad(pixels, (left, right, top, bottom))
    y, x = (corners + before).to(pixels.device).unbind(1)
    every = torch.arange(len(pixels), device=pixels.device)
    windows: Tensor = padded.unfold(2, size, 1).unfold(3, size, 1)[every, :, y, x]
    flipped = views.flips.nonzero()[:, 0].to(pixels.device)
    return windows.index_copy_(0, flipped, windows.index_select(0, flipped).flip(3))


def _resize_matrix(
    start: Tensor, length: Tensor, seen: Tensor, side: int, size: int, interpolation: Interpolation
) -> Tensor:
    """Return float32 [N, size, side]: what takes pixels start..start+length of `side` to `size` pixels.

    Each row is the kernel stretched by max(1, length / size), cut to the pixels seen[0]..seen[1] [2, N] and
    normalised; pixels outside the image are zeros.
    """
    device = start.device
    scale = (length / size)[:, None, None]
    centre = start[:, None, None] + (torch.arange(size, device=device)[:, None] + 0.5) * scale
    first, last = int(seen[0].min()), int(seen[1].max())
    pixel = torch.arange(min(first, 0), max(last, side), device=device, dtype=torch.float32)
    weights = _kernel((pixel + 0.5 - centre) / scale.clamp(min=1), interpolation)
    low, high = seen[:, :, None, None]
    weights = weights * ((pixel >= low) & (pixel < high))
    matrix: Tensor = weights / weights.sum(2, keepdim=True)
    return matrix[:, :, max(-first, 0) :][:, :, :side]


def _kernel(x: Tensor, interpolation: Interpolation) -> Tensor:
    """Return the triangle, or Keys's cubic with a = -0.5, at distances x in pixels."""
    x = x.abs()
    if interpolation == "bilinear":
        return (1 - x).clamp(min=0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


# ---- mixing -----------------------------------------------------------------------------------------------


def mix(
    images: Tensor, *, seed: int, epoch: int, positions: ArrayLike, mixup: float, cutmix: float
) -> tuple[Tensor, Mix]:
    """Return uint8 [N, C, H, W] mixed in pairs, and how. Shares are of Beta(alpha, alpha); alpha 0 = off.

    `positions` [N], consecutive and starting even, are the images' places in the epoch's order: 2q and 2q + 1
    are partners, so an even batch mixes alike on any number of ranks; a last image alone stays as it is. Where
    both are on, a coin decides for each pair. mixup: Zhang et al. 2018; CutMix: Yun et al. 2019, its share
    being the true share of the area.
    """
    position = np.asarray(positions, dtype=np.int64)
    assert mixup > 0 or cutmix > 0
    assert not len(position) or position[0] % 2 == 0, "a batch starts at an even position"
    u = uniforms(STREAM_MIX, seed=seed, epoch=epoch, indices=position // 2, draws=3)
    cut = u[:, 0] < (0.5 if mixup > 0 and cutmix > 0 else float(cutmix > 0))
    alpha = np.where(cut, cutmix, mixup)
    share = _beta(alpha[::2], seed=seed, epoch=epoch, indices=position[::2] // 2).repeat(2)[: len(position)]
    partner = np.arange(len(position)) ^ 1
    alone = partner >= len(position)
    partner[alone], share[alone] = len(position) - 1, 1.0
    own = np.where(cut, 1.0, share).astype(np.float32)  # what blending leaves of an image; cutting comes after
    partners = torch.from_numpy(partner).to(images.device)
    others = images.index_select(0, partners)
    weight = torch.from_numpy(own).to(images.device)[:, None, None, None]
    blended = torch.lerp(others.float(), images.float(), weight).round_().to(torch.uint8)
    if cut.any():
        inside = _cut_boxes(share, u[:, 1:], *images.shape[2:]) & cut[:, None, None]
        share = np.where(cut, 1 - inside.mean(axis=(1, 2)), share)
        blended = torch.where(torch.from_numpy(inside).to(images.device)[:, None], others, blended)
    return blended, Mix(partners, torch.from_numpy(share.astype(np.float32)).to(images.device))


def _cut_boxes(share: NDArray[np.float64], centre: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Return masks bool [N, height, width] of boxes with 1 - share of the area, cut at the image's edges."""
    side = np.sqrt(1 - share)

    def inside(middle: NDArray[np.float64], length: int) -> NDArray[np.bool_]:
        start = np.rint(middle * length - side * length / 2)[:, None]
        after = np.arange(length) - start
        within: NDArray[np.bool_] = (after >= 0) & (after < np.rint(side * length)[:, None])
        return within

    mask: NDArray[np.bool_] = inside(centre[:, 0], height)[:, :, None] & inside(centre[:, 1], width)[:, None, :]
    return mask


_TRIES = 8  # one fails in under 5% of the cases, so all fail in under 1 of 10^10


def _beta(alpha: NDArray[np.float64], *, seed: int, epoch: int, indices: ArrayLike) -> NDArray[np.float64]:
    """Return Beta(alpha, alpha) variates [N]: one gamma variate's share in two, in logs for small alphas."""
    draws = 3 * _TRIES + 1
    u = uniforms(STREAM_MIX, seed=seed, epoch=epoch, indices=indices, draws=2 * draws, first=3)
    logs = _log_gamma_variates(alpha, u[:, :draws]) - _log_gamma_variates(alpha, u[:, draws:])
    return 1 / (1 + np.exp(-np.clip(logs, -700, 700)))


def _log_gamma_variates(alpha: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logs of Gamma(alpha) variates: Marsaglia and Tsang 2000, with their boost from alpha + 1."""
    d = (alpha + 1 - 1 / 3)[:, None]
    radius, angle, accept = (1 - u[:, :-1]).reshape(len(u), 3, _TRIES).transpose(1, 0, 2)
    normal = np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle)
    v = np.maximum(1 + normal / np.sqrt(9 * d), 1e-12) ** 3
    accepted = (v > 1e-30) & (np.log(accept) < normal**2 / 2 + d * (1 - v + np.log(v)))
    chosen = v[np.arange(len(u)), accepted.argmax(axis=1)]
    logs: NDArray[np.float64] = np.log(d[:, 0] * chosen) + np.log(1 - u[:, -1]) / alpha
    return logs
