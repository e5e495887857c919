"""A Source: N images of one split. How one is made, cut, read, and what is known of all its pixels."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from limbeck.errors import InputError
from limbeck.images.images import decoding, to_channels
from limbeck.images.views import WHITE, WHOLE_SIDE

Split = Literal["train", "val", "test"]
OnBroken = Literal["fatal", "skip"]

MEMORY_SIDE = WHOLE_SIDE  # images of one size up to this side are kept in memory ...
_PIECE = 2**20  # pixels summed at once
MEMORY_BYTES = 2 * 10**9  # ... where they take no more than this
VAL_IS_TEST = "val is the test set: choose no settings by it"


@dataclass(frozen=True)
class Source:
    """N images of one split. Pixels are decoded when read, or all lie in `pixels`."""

    spec: str  # as the user gave it
    split: str  # "train", "val" or "test"
    classes: tuple[str, ...]  # sorted names; empty where there are no labels
    labels: Tensor | None  # int64 [N]
    keys: tuple[str, ...]  # the images' names, relative to the source
    channels: int  # 1 or 3
    sizes: Tensor  # int32 [N, 2], height and width in pixels
    read: Callable[..., Image.Image]  # image i in mode L or RGB, upright; see `decoding` for what it raises. It takes
    # `white` too, which it has from `whitened`
    pixels: Tensor | None  # uint8 [N, channels, H, W]: small images of one size
    fingerprint: (
        str  # hex sha256: names, sizes, labels (a folder's names hold them), pixels or files' lengths; of files
    )
    # also, after a hyphen, that of their marks, which 0.1.0 did not know
    note: str = ""  # what the user should know, as a split that was made here
    modes: tuple[tuple[str, int], ...] = ()  # Pillow's modes as stored, and how many images have each
    broken: tuple[str, ...] = ()  # "name (reason)" of the files that were left out
    white: int = WHITE  # the value of 16-bit images that becomes 255
    brightest: int = 0  # value of those 16-bit images that were looked at; 0: none were

    def __len__(self) -> int:
        return len(self.keys)


def subset(source: Source, indices: Sequence[int] | Tensor) -> Source:
    """Return the images `indices` [M] of the source, in their order."""
    chosen = torch.as_tensor(indices, dtype=torch.int64)
    parts = (part.encode() + chosen.numpy().tobytes() for part in source.fingerprint.split("-"))
    digest = "-".join(hashlib.sha256(part).hexdigest() for part in parts)
    return replace(
        source,
        labels=None if source.labels is None else source.labels[chosen],
        keys=tuple(source.keys[i] for i in chosen.tolist()),
        sizes=source.sizes[chosen],
        read=partial(_read_chosen, source.read, chosen),
        pixels=None if source.pixels is None else source.pixels[chosen],
        fingerprint=digest,
    )


def among(source: Source, classes: tuple[str, ...]) -> Source:
    """Return the source with its labels counted among `classes`, where these hold all of its own and more: a few
    classes of those that a net knows. Else the source as it is."""
    if source.labels is None or not set(source.classes) < set(classes):
        return source
    places = torch.tensor([classes.index(name) for name in source.classes])
    note = f"{source.spec} has images of {len(source.classes)} of the {len(classes)} classes"
    return replace(
        source, classes=classes, labels=places[source.labels], note="; ".join(filter(None, (source.note, note)))
    )


def spaced(total: int, count: int) -> Tensor:
    """Return int64 [min(total, count)], places from 0 to total - 1, the first, the last and evenly between."""
    count = min(total, count)
    return torch.arange(count) * (total - 1) // max(count - 1, 1)


def evenly(source: Source, count: int | None) -> Source:
    """Return `count` evenly spaced images of the source, which may be sorted by class; all where it has no more, or
    with None."""
    if count is not None and count < 1:
        raise InputError(f"--images is {count}; it must be at least 1")
    return source if count is None or count >= len(source) else subset(source, spaced(len(source), count))


def moments(source: Source, sample: int = 1000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, pixels in [0, 1], over up to `sample` even-spaced images."""
    totals = np.zeros((3, source.channels))
    for i in spaced(len(source), sample).tolist():
        totals += sums_of(pixels_of(source, i), source.channels)
    return moments_of(totals)


def sums_of(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.float64]:
    """Return float64 [3, channels] of an image: number, sum and sum of squares of its pixels in [0, 1]."""
    total = np.zeros((3, channels))
    flat = pixels.reshape(-1, channels)
    for first in range(0, len(flat), _PIECE):  # floats take eight times an image's memory
        values = flat[first : first + _PIECE] / 255
        total += np.stack([np.full(channels, len(values)), values.sum(0), (values**2).sum(0)])
    return total


def moments_of(sums: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, from the sum of all images' `sums_of`."""
    number, total, squares = sums
    mean = total / number
    return tuple(mean.tolist()), tuple(np.sqrt(np.maximum(squares / number - mean**2, 0)).tolist())


def pixels_of(source: Source, i: int) -> NDArray[np.uint8]:
    """Return image i whole, uint8 [H, W] or [H, W, 3]; InputError names it where it can't be decoded."""
    with decoding(f"{source.spec}: {source.keys[i]}"):
        return np.asarray(source.read(i))


def whitened(source: Source, white: int) -> Source:
    """Return the source with the value `white` of its 16-bit images for white; its fingerprint stays."""
    if white == source.white:
        return source
    if not _is_deep(source):
        return replace(source, white=white)
    found = replace(source, read=partial(source.read, white=white), white=white)
    if source.pixels is None:
        return found
    return replace(found, pixels=torch.stack([_planes(found, i) for i in range(len(found))]))


def _is_deep(source: Source) -> bool:
    return any(mode.startswith("I") for mode, _ in source.modes)


def _planes(source: Source, i: int) -> Tensor:
    """Return image i, uint8 [C, H, W]."""
    height, width = source.sizes[i].tolist()
    shaped = pixels_of(source, i).reshape(height, width, source.channels)
    return torch.from_numpy(shaped.transpose(2, 0, 1).copy())


def _read_chosen(read: Callable[..., Image.Image], chosen: Tensor, i: int, white: int | None = None) -> Image.Image:
    return read(int(chosen[i]), **({} if white is None else {"white": white}))


def _read_pixels(pixels: Tensor, i: int, white: int = WHITE) -> Image.Image:
    image = pixels[i].numpy()
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def fingerprint_of(keys: Sequence[str], sizes: Tensor, labels: Tensor | None, *contents: NDArray[np.generic]) -> str:
    """Return the hex sha256 of names, sizes, labels and contents: pixels in memory, or the files' lengths."""
    digest = hashlib.sha256("\0".join(keys).encode())
    digest.update(sizes.to(torch.int32).numpy().tobytes())
    digest.update(b"none" if labels is None else labels.numpy().tobytes())
    for content in contents:
        digest.update(np.ascontiguousarray(content).tobytes())
    return digest.hexdigest()


def marked(fingerprint: str, marks: Sequence[int]) -> str:
    """Return the fingerprint with that of the files' marks, so that a swap of files of one length shows."""
    return f"{fingerprint}-{hashlib.sha256(np.array(marks, dtype=np.int64).tobytes()).hexdigest()}"


def in_memory(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]] | None,
    classes: tuple[str, ...],
    *,
    spec: str,
    split: str,
    keys: tuple[str, ...] | None = None,
    channels: int | None = None,
    note: str = "",
) -> Source:
    """Return a source of pixels uint8 [N, C, H, W] with C = 1 or 3, repeated or averaged to `channels`."""
    values = torch.from_numpy(pixels)
    if channels == 3 and values.shape[1] == 1:
        values = values.expand(-1, 3, -1, -1).contiguous()
    elif channels == 1 and values.shape[1] == 3:
        grey = [to_channels(_read_pixels(values, i), 1) for i in range(len(values))]
        values = torch.from_numpy(np.stack([np.asarray(image) for image in grey]))[:, None]
    own = None if labels is None else torch.from_numpy(labels.astype(np.int64))
    keys = keys or tuple(f"{i:06d}" for i in range(len(values)))
    sizes = torch.tensor(values.shape[2:], dtype=torch.int32).repeat(len(values), 1)
    fingerprint = fingerprint_of(keys, sizes, own, values.numpy())
    read = partial(_read_pixels, values)
    modes = (("L" if pixels.shape[1] == 1 else "RGB", len(values)),)
    return Source(spec, split, classes, own, keys, values.shape[1], sizes, read, values, fingerprint, note, modes)


def packed(source: Source, on_broken: OnBroken = "fatal") -> Source:
    """Return the source with its pixels in memory, where all images have one small size."""
    height, width = (int(v) for v in source.sizes[0])
    size = len(source) * source.channels * height * width
    if max(height, width) > MEMORY_SIDE or size > MEMORY_BYTES or not bool((source.sizes == source.sizes[0]).all()):
        return source
    images, broken = [], {}
    for i in range(len(source)):
        try:
            images.append(_planes(source, i))
        except InputError as error:
            if on_broken == "fatal":
                raise
            broken[i] = f"{source.keys[i]} ({error.__cause__})"
    if not images:
        raise InputError(
            f"{source.spec}: none of the {len(source)} images of {source.split} can be decoded: {broken[0]}, ..."
        )
    if broken:
        source = subset(source, [i for i in range(len(source)) if i not in broken])
    pixels = torch.stack(images)
    own = source.fingerprint.partition("-")[0]  # the pixels say more than marks
    digest = hashlib.sha256(own.encode() + pixels.numpy().tobytes()).hexdigest()
    read = source.read if _is_deep(source) else partial(_read_pixels, pixels)
    gone = (*source.broken, *broken.values())
    return replace(source, pixels=pixels, read=read, fingerprint=digest, broken=gone)


def hold_out(labels: NDArray[np.integer[Any]], keys: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Return bool [N], the images held out: of each class the `share` whose names hash lowest, never the last one."""
    order = np.array(
        [int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") for key in keys], dtype=np.uint64
    )
    held = np.zeros(len(keys), dtype=bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        number = min(max(1, round(share * len(own))), len(own) - 1)
        held[own[np.argsort(order[own], kind="stable")[:number]]] = True
    return held


def counted(modes: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(modes).items()))
