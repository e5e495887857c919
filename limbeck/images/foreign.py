"""Other people's sets: torchvision's, and those that timm's readers open."""

import contextlib
import difflib
import inspect
import io
import operator
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from limbeck.errors import InputError, first_line
from limbeck.images.folder import MissingSplitError
from limbeck.images.images import Header, bombs_raise, decoding, look, open_image, to_channels
from limbeck.images.source import VAL_IS_TEST, Source, Split, counted, fingerprint_of, hold_out, marked, packed
from limbeck.images.views import WHITE

READERS = {
    "hfds": "pip install datasets",
    "hfids": "pip install datasets",
    "wds": "pip install webdataset",
    "tfds": "pip install tensorflow tensorflow-datasets",
}
# Sets of images and labels that unpickle nothing: their code was read (torchvision 0.29.1). CIFAR's files are
# pickles, which torchvision opens only where their MD5 is the published one; LSUN's cache, of any file, is not here.
TORCHVISION = (
    "CIFAR10", "CIFAR100", "Caltech101", "Caltech256", "CLEVRClassification", "Country211", "DTD", "EMNIST", "EuroSAT",
    "FER2013", "FGVCAircraft", "FashionMNIST", "Flowers102", "Food101", "GTSRB", "ImageNet", "Imagenette",
    "INaturalist", "KMNIST", "LFWPeople", "MNIST", "Omniglot", "OxfordIIITPet", "PCAM", "Places365", "QMNIST",
    "RenderedSST2", "SEMEION", "STL10", "SUN397", "SVHN", "StanfordCars", "USPS",
)  # fmt: skip
_HELD_OUT_NOTE = "train and val are 90% and 10% of each class, by a hash of their positions"
MATERIALISE_BYTES = 8 * 10**9  # what an iterable set may take in memory, decoded


class MapStyle(Protocol):
    """What torchvision's sets and timm's map-style readers have in common."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[Any, Any]: ...


def _header_of(image: Any) -> Header:  # noqa: ANN401 - a Pillow image, an open file, or an array
    if isinstance(image, Image.Image):
        return Header(image.height, image.width, image.mode, 0)
    if isinstance(image, np.ndarray):
        return Header(image.shape[0], image.shape[1], "L" if image.ndim == 2 else "RGB", 0)
    with image:
        return look(image)


def _image_of(image: Any, channels: int, white: int) -> Image.Image:  # noqa: ANN401 - as above
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if isinstance(image, Image.Image):
        return to_channels(image, channels, white)
    with image:
        return open_image(image.read(), channels, white)


def _read_item(items: MapStyle, channels: int, places: NDArray[np.int64], i: int, white: int = WHITE) -> Image.Image:
    return _image_of(items[int(places[i])][0], channels, white)


def _look_at(items: MapStyle, spec: str) -> tuple[list[Header], NDArray[np.int64]]:
    """Return all items' headers and labels int64 [N]; each item is opened once."""
    looks, labels = [], []
    for i in range(len(items)):
        with bombs_raise(), decoding(f"{spec}: image {i}"):
            image, label = items[i]
            looks.append(_header_of(image))
        labels.append(label)
    try:
        return looks, np.array([operator.index(label) for label in labels], dtype=np.int64)
    except TypeError as error:
        raise InputError(f"{spec} has labels that aren't class numbers; it is not a classification set") from error


def from_items(
    items: MapStyle,
    classes: tuple[str, ...],
    *,
    spec: str,
    split: str,
    held_out: float = 0.0,
    channels: int | None = None,
    note: str = "",
) -> Source:
    """Return a source of (image, label) items with random access; an image is a Pillow image, a file or an array.

    `held_out` is the share of each class that val takes and train leaves. The fingerprint knows sizes and labels,
    not pixels, unless they are small enough to be kept in memory.
    """
    if not len(items):
        raise InputError(f"{spec} ({split}) has no images")
    looks, labels = _look_at(items, spec)
    keys = tuple(f"{i:07d}" for i in range(len(items)))
    held = hold_out(labels, keys, held_out) if held_out else np.zeros(len(items), dtype=bool)
    keep = np.flatnonzero(held if held_out and split == "val" else ~held)
    classes = classes or tuple(str(i) for i in range(int(labels.max()) + 1))
    if len(classes) < 2:
        raise InputError(f"{spec} has one class only; a classifier needs two")
    channels = channels or (1 if all(look.grey for look in looks) else 3)
    sizes = torch.tensor([(look.height, look.width) for look in looks], dtype=torch.int32)[keep]
    own, chosen = torch.from_numpy(labels[keep]), tuple(keys[i] for i in keep)
    read = partial(_read_item, items, channels, keep)
    fingerprint = marked(
        fingerprint_of(chosen, sizes, own, np.array([looks[i].length for i in keep])), [looks[i].mark for i in keep]
    )
    modes = counted(looks[i].mode for i in keep)
    return packed(Source(spec, split, classes, own, chosen, channels, sizes, read, None, fingerprint, note, modes))


def torchvision(spec: str, name: str, split: Split, channels: int | None, download: bool) -> Source:
    from torchvision import datasets

    name, _, root = name.partition("@")
    if name not in TORCHVISION:
        if hasattr(datasets, name):
            raise InputError(
                f"torchvision:{name} is none of the sets that are known to read images and labels alone; bring them "
                "into folders, one per class"
            )
        near = difflib.get_close_matches(name, TORCHVISION, 1, 0.0)
        raise InputError(f"torchvision has no image set {name}; did you mean torchvision:{near[0]}?")
    get = partial(_torchvision_split, getattr(datasets, name), root or "./data", download, spec)
    items, held_out, note = get(split), 0.0, ""
    if items is None and split == "val" and (items := get("test")) is not None:
        note = VAL_IS_TEST
    elif (items is None and split == "val") or (split == "train" and get("val") is None and get("test") is None):
        items, held_out, note = get("train"), 0.1, _HELD_OUT_NOTE
    if items is None:
        raise MissingSplitError(f"{spec} has no {split} split")
    classes = tuple(str(c) for c in getattr(items, "classes", ()))
    return from_items(items, classes, spec=spec, split=split, held_out=held_out, channels=channels, note=note)


def _torchvision_split(kind: Callable[..., Any], root: str, download: bool, spec: str, split: Split) -> Any:  # noqa: ANN401
    """Return torchvision's set of a split, or None where it has no such split. CIFAR's files are pickles: torchvision
    reads them itself, if their MD5 is the published one."""
    known = inspect.signature(kind).parameters
    more = {"download": download} if "download" in known else {}
    choices: list[dict[str, Any]] = [{}] if split == "train" else []
    if "train" in known:
        choices = [] if split == "val" else [{"train": split == "train"}]
    elif "split" in known:
        names = {"train": ("train", "trainval"), "val": ("val", "valid"), "test": ("test",)}[split]
        choices = [{"split": own} for own in names]
    for choice in choices:
        try:
            return kind(root=root, **choice, **more)
        except ValueError:  # torchvision's way to say that it has no such split
            continue
        except ImportError as error:
            raise InputError(f"{spec} needs a package that is missing: {error}") from error
        except (RuntimeError, OSError) as error:
            remedy = "check the network" if download else "pass --download, or SET@ROOT for where it is"
            raise InputError(f"{spec} is not under {root}; {remedy}") from error
        except TypeError as error:  # it wants arguments that a name can't give
            raise InputError(f"{spec} can't be opened by its name alone ({first_line(error)}); use a folder") from error
    return None


def timm(spec: str, reader: str, split: Split, channels: int | None, download: bool) -> Source:
    name = spec.partition("/")[2]
    if reader == "wds" and ":" in name:  # a label store names its data too, so this need not be the user's own words
        raise InputError(f"{spec} is no local path; webdataset would open it by a shell command, so fetch it first")
    root = name if reader == "wds" else None
    names = {"train": ("train",), "val": ("validation", "val", "valid", "test"), "test": ("test",)}[split]
    problems = []
    for own in names:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # timm prints when a package is missing
                from timm.data.readers.reader_factory import create_reader

                opened = create_reader(f"{reader}/{name}", root, split=own, **_reader_options(reader, download))
            source = from_reader(opened, spec=spec, split=split, channels=channels)
            return replace(source, note=VAL_IS_TEST) if own == "test" != split else source
        except ImportError as error:
            raise InputError(f"{spec} needs a package that is missing; {READERS[reader]}") from error
        except InputError:
            raise
        except Exception as error:  # each reader raises its library's own errors
            if "install webdataset" in str(error):
                raise InputError(f"{spec} needs a package that is missing; {READERS[reader]}") from error
            problems.append(f"{own}: {first_line(error)}")
    wrong = InputError if split == "train" else MissingSplitError
    raise wrong(f"{spec} can't be opened ({'; '.join(problems)}); check the name, the split and the network")


def _reader_options(reader: str, download: bool) -> dict[str, Any]:
    return {"download": download} if reader in ("hfds", "tfds", "hfids") else {}


def from_reader(reader: Any, *, spec: str, split: str, channels: int | None = None) -> Source:  # noqa: ANN401
    """Return a source of one of timm's readers: map-style as it is, iterable ones read once into memory."""
    named = getattr(reader, "class_to_idx", None) or {}
    classes = tuple(str(name) for name, _ in sorted(named.items(), key=lambda item: item[1]))
    if hasattr(reader, "__getitem__"):
        return from_items(reader, classes, spec=spec, split=split, channels=channels)
    items = _materialised(reader, spec)
    note = f"read once into memory ({len(items)} images), as an exact order needs random access"
    return from_items(items, classes, spec=spec, split=split, channels=channels, note=note)


def _materialised(reader: Iterable[tuple[Any, Any]], spec: str) -> list[tuple[Image.Image, Any]]:
    items, size = [], 0
    for image, label in reader:
        copy = image if isinstance(image, Image.Image) else _image_of(image, 3, WHITE)
        copy.load()
        size += copy.width * copy.height * len(copy.getbands())
        if size > MATERIALISE_BYTES:
            raise InputError(f"{spec} takes more than {MATERIALISE_BYTES} bytes; use hfds/ or a folder instead")
        items.append((copy, label))
    return items
