"""Sources: where images come from. `open_source` takes what the user wrote after --data and gives a `Source`."""

import contextlib
import difflib
import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from limbeck.errors import InputError
from limbeck.images import domains
from limbeck.images.folder import Listing, MissingSplitError, list_folder
from limbeck.images.idx import find_idx, read_idx, read_idx_pair
from limbeck.images.images import decoding, open_image, to_channels

Split = Literal["train", "val", "test"]
OnBroken = Literal["fatal", "skip"]

MEMORY_SIDE = 96  # pixels: images of one size up to this side are kept in memory ...
MEMORY_BYTES = 2 * 10**9  # ... where they take no more than this
VAL_IS_TEST = "val is the test set: choose nothing by it"
FORMS = (
    "a folder, torchvision:NAME, hfds/NAME, hfids/NAME, wds/PATH, tfds/NAME "
    "or digits:mnist|mfeat|optdigits|mnist-m-like"
)


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
    read: Callable[[int], Image.Image]  # image i in mode L or RGB, upright; see `decoding` for what it raises
    pixels: Tensor | None  # uint8 [N, channels, H, W]: small images of one size
    fingerprint: str  # hex sha256: names, sizes, labels (a folder's names hold them), pixels or files' lengths
    note: str = ""  # what the user should know, as a split that was made here
    modes: tuple[tuple[str, int], ...] = ()  # Pillow's modes as stored, and how many images have each
    broken: tuple[str, ...] = ()  # "name (reason)" of the files that were left out

    def __len__(self) -> int:
        return len(self.keys)


def open_source(
    spec: str,
    split: Split = "train",
    *,
    labelled: bool = True,
    channels: int | None = None,
    on_broken: OnBroken = "fatal",
    download: bool = False,
) -> Source:
    """Return one split of what `spec` names.

    DIR                      train/, val/, test/ with a directory a class, or class directories alone (train and
                             val are then split 80/20), or images alone (train only, no labels), or IDX files;
                             test is val too where there is no val
    torchvision:NAME[@ROOT]  a torchvision classification set under ROOT (./data)
    hfds/, hfids/, wds/, tfds/NAME   as timm's --dataset
    digits:NAME              built in, 28x28: mnist, mfeat, optdigits; or mnist-m-like, mnist on photos of scikit-image

    labelled=False leaves labels and classes out, so that nothing behind can see them. channels: 1 or 3; None
    takes 1 where every image is grey. InputError says what can't be used and what to do.
    """
    if channels not in (None, 1, 3):
        raise InputError(f"--channels {channels} is neither 1 nor 3")
    from limbeck.images import foreign  # which needs what is here

    if not spec:
        raise InputError(f"--data is empty; give {FORMS}")
    kind, colon, name = spec.partition(":")
    reader = spec.partition("/")[0].lower()
    if colon and kind == "digits":
        source = _digits(spec, name or "mnist", split, channels)
    elif colon and kind == "torchvision":
        source = foreign.torchvision(spec, name, split, channels, download)
    elif reader in foreign.READERS and not Path(spec).exists():
        source = foreign.timm(spec, reader, split, channels, download)
    elif not Path(spec).is_dir():
        raise InputError(_unknown(spec))
    elif _idx_stem(Path(spec)):
        source = _idx(spec, split, channels)
    else:
        listing = list_folder(Path(spec), split, labelled, on_broken)
        source = packed(_folder(spec, listing, split, channels), on_broken)
    return source if labelled else replace(source, labels=None, classes=())


def subset(source: Source, indices: Sequence[int] | Tensor) -> Source:
    """Return the images `indices` [M] of the source, in their order."""
    chosen = torch.as_tensor(indices, dtype=torch.int64)
    digest = hashlib.sha256(source.fingerprint.encode() + chosen.numpy().tobytes()).hexdigest()
    return replace(
        source,
        labels=None if source.labels is None else source.labels[chosen],
        keys=tuple(source.keys[i] for i in chosen.tolist()),
        sizes=source.sizes[chosen],
        read=partial(_read_chosen, source.read, chosen),
        pixels=None if source.pixels is None else source.pixels[chosen],
        fingerprint=digest,
    )


def moments(source: Source, sample: int = 1000) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, pixels in [0, 1], over up to `sample` even-spaced images."""
    chosen = np.unique(np.linspace(0, len(source) - 1, min(sample, len(source))).astype(np.int64))
    totals = np.zeros((3, source.channels))
    for i in chosen.tolist():
        totals += sums_of(pixels_of(source, i), source.channels)
    return moments_of(totals)


def sums_of(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.float64]:
    """Return float64 [3, channels] of an image: number, sum and sum of squares of its pixels in [0, 1]."""
    values = pixels.reshape(-1, channels) / 255
    return np.stack([np.full(channels, len(values)), values.sum(0), (values**2).sum(0)])


def moments_of(sums: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, from the sum of all images' `sums_of`."""
    number, total, squares = sums
    mean = total / number
    return tuple(mean.tolist()), tuple(np.sqrt(np.maximum(squares / number - mean**2, 0)).tolist())


def pixels_of(source: Source, i: int) -> NDArray[np.uint8]:
    """Return image i whole, uint8 [H, W] or [H, W, 3]; InputError names it where it can't be decoded."""
    with decoding(f"{source.spec}: {source.keys[i]}"):
        return np.asarray(source.read(i))


# ---- building ---------------------------------------------------------------------------------------------


def _read_chosen(read: Callable[[int], Image.Image], chosen: Tensor, i: int) -> Image.Image:
    return read(int(chosen[i]))


def _read_pixels(pixels: Tensor, i: int) -> Image.Image:
    image = pixels[i].numpy()
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def _read_file(root: Path, keys: Sequence[str], channels: int, i: int) -> Image.Image:
    with decoding(str(root / keys[i])):
        return open_image((root / keys[i]).read_bytes(), channels)


def fingerprint_of(keys: Sequence[str], sizes: Tensor, labels: Tensor | None, *contents: NDArray[np.generic]) -> str:
    """Return the hex sha256 of names, sizes, labels and contents: pixels in memory, or the files' lengths."""
    digest = hashlib.sha256("\0".join(keys).encode())
    digest.update(sizes.to(torch.int32).numpy().tobytes())
    digest.update(b"none" if labels is None else labels.numpy().tobytes())
    for content in contents:
        digest.update(np.ascontiguousarray(content).tobytes())
    return digest.hexdigest()


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
            images.append(pixels_of(source, i).reshape(height, width, source.channels).transpose(2, 0, 1))
        except InputError as error:
            if on_broken == "fatal":
                raise
            broken[i] = f"{source.keys[i]} ({error.__cause__})"
    if broken:
        source = subset(source, [i for i in range(len(source)) if i not in broken])
    pixels = torch.from_numpy(np.stack(images))
    digest = hashlib.sha256(source.fingerprint.encode() + pixels.numpy().tobytes()).hexdigest()
    read, gone = partial(_read_pixels, pixels), (*source.broken, *broken.values())
    return replace(source, pixels=pixels, read=read, fingerprint=digest, broken=gone)


def hold_out(labels: NDArray[np.integer[Any]], keys: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Return bool [N], the images held out: of each class the `share` whose names hash lowest, never the last one."""
    order = np.array([int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) for key in keys], dtype=np.uint64)
    held = np.zeros(len(keys), dtype=bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        number = min(max(1, round(share * len(own))), len(own) - 1)
        held[own[np.argsort(order[own], kind="stable")[:number]]] = True
    return held


def _unknown(spec: str) -> str:
    path = Path(spec)
    near: list[str] = []
    with contextlib.suppress(OSError):
        near = [str(path.parent / n) for n in difflib.get_close_matches(path.name, _folders(path.parent), 1)]
    near = near or difflib.get_close_matches(spec, [f"digits:{name}" for name in _DIGITS], 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    what = "is a file, not a folder" if path.is_file() else "is not there"
    return f"{spec} {what}{hint or f'; give {FORMS}'}"


def _folders(place: Path) -> list[str]:
    return [entry.name for entry in place.iterdir() if entry.is_dir()]


# ---- folders ----------------------------------------------------------------------------------------------


def _folder(spec: str, listing: Listing, split: str, channels: int | None) -> Source:
    labels, note = listing.labels, VAL_IS_TEST if listing.borrowed else ""
    keep = np.arange(len(listing.keys))
    if listing.unsplit and labels is not None:
        if split == "test":
            raise MissingSplitError(f"{spec} has no test/ folder; train and val are made from it, use --split val")
        held = hold_out(labels, listing.keys, 0.2)
        keep = np.flatnonzero(held if split == "val" else ~held)
        note = "train and val are 80% and 20% of each class, by a hash of the file names"
    if not len(keep):
        raise InputError(f"{spec} leaves no images for {split}, as each class has one; make a val/ folder")
    keys, headers = tuple(listing.keys[i] for i in keep), [listing.headers[i] for i in keep]
    channels = channels or (1 if all(header.grey for header in headers) else 3)
    sizes = torch.tensor([(header.height, header.width) for header in headers], dtype=torch.int32)
    own = None if labels is None else torch.from_numpy(labels[keep])
    return Source(
        spec=spec,
        split=split,
        classes=listing.classes,
        labels=own,
        keys=keys,
        channels=channels,
        sizes=sizes,
        read=partial(_read_file, listing.root, keys, channels),
        pixels=None,
        # the names hold the classes, so that an unlabelled look at the same files has the same fingerprint
        fingerprint=fingerprint_of(keys, sizes, None, np.array([header.length for header in headers])),
        note=note,
        modes=counted(header.mode for header in headers),
        broken=listing.broken,
    )


def counted(modes: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(modes).items()))


# ---- IDX and the built-in digits --------------------------------------------------------------------------

_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_FASHION_LABELS = (0x2ED6E46A, 0x242BC73F)  # crc32 of its train and test labels
_DIGITS = {"mnist": 500, "mfeat": 300, "optdigits": 300, "mnist-m-like": 500}  # images in val, and again in test


def _idx_stem(root: Path) -> str | None:
    stems = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
    return next((stem for stem in stems if find_idx(root, stem)), None)


def _idx(spec: str, split: Split, channels: int | None) -> Source:
    """Return MNIST-like files: test is t10k, and so is val unless val-images-... is there, as the field has it."""
    root, note = Path(spec), ""
    prefix = {"train": "train", "val": "val", "test": "t10k"}[split]
    if split == "val" and not find_idx(root, "val-images-idx3-ubyte"):
        prefix, note = "t10k", VAL_IS_TEST
    paths = [find_idx(root, f"{prefix}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    if paths[0] is None or paths[1] is None:
        missing = f"{prefix}-{'images-idx3' if paths[0] is None else 'labels-idx1'}-ubyte[.gz]"
        raise MissingSplitError(f"{spec} holds no {missing}; put it beside the other IDX files")
    pixels, labels = read_idx_pair(paths[0], paths[1])
    keys = tuple(f"{prefix}/{i:06d}" for i in range(len(pixels)))
    classes = _idx_classes(spec, labels, root)
    return in_memory(pixels[:, None], labels, classes, spec=spec, split=split, keys=keys, channels=channels, note=note)


def _idx_classes(spec: str, labels: NDArray[np.uint8], root: Path) -> tuple[str, ...]:
    """Return numbers for names; Fashion-MNIST's where one split has its very labels, be the other cut short."""
    found = {prefix: find_idx(root, f"{prefix}-labels-idx1-ubyte") for prefix in ("train", "t10k")}
    own = {prefix: read_idx(path, 1) for prefix, path in found.items() if path}
    number = 1 + max(int(values.max(initial=0)) for values in (labels, own.get("train", labels)))
    if number <= len(_FASHION) and any(zlib.crc32(values.tobytes()) in _FASHION_LABELS for values in own.values()):
        return _FASHION
    if number < 2:
        raise InputError(f"{spec} has one class only; a classifier needs two")
    return tuple(str(i) for i in range(number))


def _digits(spec: str, name: str, split: Split, channels: int | None) -> Source:
    if name not in _DIGITS:
        near = difflib.get_close_matches(name, _DIGITS, 1, 0.0)
        raise InputError(f"{spec} is not built in; did you mean digits:{near[0]}? There are {', '.join(_DIGITS)}")
    stem = str(Path(__file__).parent / "digits" / name.removesuffix("-m-like"))
    pixels, labels = read_idx_pair(Path(f"{stem}-images-idx3-ubyte.gz"), Path(f"{stem}-labels-idx1-ubyte.gz"))
    held = _DIGITS[name]
    first, last = {"train": (0, -2 * held), "val": (-2 * held, -held), "test": (-held, None)}[split]
    keys = tuple(f"{name}/{i:06d}" for i in range(len(labels)))[first:last]
    classes, shown = tuple("0123456789"), pixels[first:last, None]
    if name == "mnist-m-like":
        shown = domains.on_photos(shown[:, 0], domains.packaged_photos(split), split)
    return in_memory(shown, labels[first:last], classes, spec=spec, split=split, keys=keys, channels=channels)
