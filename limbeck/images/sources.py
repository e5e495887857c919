"""Sources: where images come from. `open_source` takes what the user wrote after --data and returns a `Source`."""

import contextlib
import difflib
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from limbeck.errors import InputError
from limbeck.images import domains, foreign
from limbeck.images.folder import Listing, MissingSplitError, list_folder
from limbeck.images.idx import find_idx, read_idx, read_idx_pair
from limbeck.images.images import decoding, open_image
from limbeck.images.source import (
    VAL_IS_TEST,
    OnBroken,
    Source,
    Split,
    counted,
    fingerprint_of,
    hold_out,
    in_memory,
    marked,
    packed,
)
from limbeck.images.table import is_table, list_table
from limbeck.images.views import WHITE

FORMS = (
    "a folder, a table FILE.csv, torchvision:NAME, hfds/NAME, hfids/NAME, wds/PATH, tfds/NAME "
    "or digits:mnist|mfeat|optdigits|mnist-m-like"
)


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

    DIR                      train/, val/, test/ with one directory per class, or class directories alone (train and
                             val are then split 80/20), or images alone (train only, no labels), or IDX files;
                             test is val too where there is no val
    FILE.csv                 a table with the columns file and label, and perhaps split; .tsv, .json and .jsonl too
    torchvision:NAME[@ROOT]  a torchvision classification set under ROOT (./data)
    hfds/, hfids/, wds/, tfds/NAME   as timm's --dataset
    digits:NAME              built in, 28x28: mnist, mfeat, optdigits; or mnist-m-like, mnist on photos of scikit-image

    labelled=False leaves labels and classes out, so that nothing behind can see them. channels: 1 or 3; None
    takes 1 where every image is grey. InputError says what can't be used and what to do.
    """
    if channels not in (None, 1, 3):
        raise InputError(f"--channels {channels} is neither 1 nor 3")
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
    elif is_table(spec):
        listing = list_table(Path(spec), split, labelled, on_broken)
        source = packed(_folder(spec, listing, split, channels), on_broken)
    elif not Path(spec).is_dir():
        raise InputError(_unknown(spec))
    elif _idx_stem(Path(spec)):
        source = _idx(spec, split, channels)
    else:
        listing = list_folder(Path(spec), split, labelled, on_broken)
        source = packed(_folder(spec, listing, split, channels), on_broken)
    return source if labelled else replace(source, labels=None, classes=())


def _read_file(root: Path, keys: Sequence[str], channels: int, i: int, white: int = WHITE) -> Image.Image:
    with decoding(str(root / keys[i])):
        return open_image((root / keys[i]).read_bytes(), channels, white)


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

DEEP_LOOKED_AT = 16  # images of 16 bits, evenly spaced


def _deep(listing: Listing) -> tuple[int, int]:
    """Return how many images have 16 bits, and the brightest value of some of them."""
    deep = [key for key, header in zip(listing.keys, listing.headers, strict=True) if header.mode.startswith("I")]
    brightest = 0
    for i in range(0, len(deep), -(-len(deep) // DEEP_LOOKED_AT) or 1):
        with contextlib.suppress(InputError), decoding(deep[i]), Image.open(listing.root / deep[i]) as image:
            brightest = max(brightest, int(np.asarray(image).max()))
    return len(deep), brightest


def _dark(number: int, brightest: int) -> list[str]:
    """Return a note where images of 16 bits hold values of fewer, as cameras of 12 bits write them; else nothing."""
    if not 0 < brightest < 2**14:
        return []
    left, white = (brightest + 128) // 257 + 1, 2 ** brightest.bit_length() - 1
    text = f"{number} images of 16 bits hold values up to {brightest:,} of 65,535"
    return [f"{text}: of a net made with --white {white} that is white, for others {left} grey levels are left"]


def _folder(spec: str, listing: Listing, split: str, channels: int | None) -> Source:
    labels, notes = listing.labels, [VAL_IS_TEST] * listing.borrowed
    keep = np.arange(len(listing.keys))
    if listing.unsplit and labels is not None:
        if split == "test":
            raise MissingSplitError(f"{spec} has no test/ folder; train and val are made from it, use --split val")
        held = hold_out(labels, listing.keys, 0.2)
        keep = np.flatnonzero(held if split == "val" else ~held)
        notes.append("train and val are 80% and 20% of each class, by a hash of the file names")
    if not len(keep):
        raise InputError(f"{spec} leaves no images for {split}, as each class has one; make a val/ folder")
    keys, headers = tuple(listing.keys[i] for i in keep), [listing.headers[i] for i in keep]
    channels = channels or (1 if all(header.grey for header in headers) else 3)
    sizes = torch.tensor([(header.height, header.width) for header in headers], dtype=torch.int32)
    own = None if labels is None else torch.from_numpy(labels[keep])
    deep, brightest = _deep(listing)
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
        fingerprint=marked(
            fingerprint_of(keys, sizes, None, np.array([header.length for header in headers])),
            [header.mark for header in headers],
        ),
        note="; ".join([*notes, *listing.notes, *_dark(deep, brightest)]),
        modes=counted(header.mode for header in headers),
        broken=listing.broken,
        brightest=brightest,
    )


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
    seen = len(np.unique(np.concatenate([labels, own.get("train", labels)])))
    if number - seen > seen:
        raise InputError(
            f"{spec} has labels up to {number - 1}, of which {seen} occur; correct them (255 often stands for none)"
        )
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
