"""Image folders: which files make a split, their labels, and which of them can't be used."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.images.images import EXTENSIONS, Header, headers

SPLITS = {"train": ("train", "training"), "val": ("val", "validation", "valid"), "test": ("test", "testing")}
_LIST = "_labels.txt"  # ends the name of a list of classes: its folder's name comes before


class MissingSplitError(InputError):
    """The data has no such split; all else about it may be well."""


@dataclass(frozen=True)
class Listing:
    """The usable images of a folder."""

    root: Path  # keys are relative to it
    classes: tuple[str, ...]
    labels: NDArray[np.int64] | None  # [N]
    keys: tuple[str, ...]  # with /, sorted
    headers: tuple[Header, ...]
    unsplit: bool  # the folder has train images only: a labelled val is to be held out of them
    borrowed: bool  # val is test/, as there is no val/
    broken: tuple[str, ...]  # "key (reason)" of what was left out


def list_folder(
    root: Path, split: Literal["train", "val", "test"], labelled: bool, on_broken: Literal["fatal", "skip"]
) -> Listing:
    """Return the images of one split, checked (see `images.headers`); InputError where there is nothing to use."""
    present = _splits(root)
    unsplit, borrowed = (
        not set(present) & {"val", "test"},
        split == "val" and "val" not in present and "test" in present,
    )
    folder = present.get("test" if borrowed else "train" if unsplit and split == "val" else split)
    if folder is None and present:
        there = ", ".join(f"{path.name}/" for path in present.values())
        raise MissingSplitError(f"{root} has no {split}/ folder, only {there}")
    folder = folder or root
    keys = [path.relative_to(root).as_posix() for path in _walk(folder)]
    if not keys:
        raise InputError(f"{folder} holds no images ({' '.join(sorted(e[1:] for e in EXTENSIONS))})")
    if strange := [key for key in keys if any("\ud800" <= letter <= "\udfff" for letter in key)]:
        raise InputError(
            f"{len(strange)} names in {folder} are no Unicode text ({strange[0]!a}, ...); rename these files"
        )
    depth = len(folder.relative_to(root).parts)
    flat = any(key.count("/") == depth for key in keys)
    if labelled and flat and any(key.count("/") > depth for key in keys):
        first = next(key for key in keys if key.count("/") == depth)
        raise InputError(f"{folder} holds class folders and also images beside them ({first}); move these away")
    listed = _listed(folder) if labelled and flat else {}
    if labelled and flat and not listed and split != "train":
        raise MissingSplitError(
            f"{folder} holds images without class folders, so it has no labelled {split} split; make a folder a class"
        )
    classes: tuple[str, ...] = ()
    labels = None
    if labelled and not flat:
        classes = _classes(root, folder, split)
        places = {name: i for i, name in enumerate(classes)}
        labels = np.array([places[key.split("/")[depth]] for key in keys], dtype=np.int64)
    elif listed:
        classes = _listed_classes(present.get("train", folder), listed, folder)
        names = [Path(key).name for key in keys]
        if nameless := [name for name in names if name not in listed]:
            raise InputError(f"{_list_of(folder)} says no class for {nameless[0]}; add a line for it or remove it")
        places = {name: i for i, name in enumerate(classes)}
        labels = np.array([places[listed[name]] for name in names], dtype=np.int64)
    return _usable(root, keys, classes, labels, unsplit=unsplit, borrowed=borrowed, on_broken=on_broken)


def image_folders(root: Path) -> list[Path]:
    """Return the folders in which images are looked for: those of the splits, or `root` where there are none."""
    return list(_splits(root).values()) or [root]


def _splits(root: Path) -> dict[str, Path]:
    """Return the folders of the splits: by their names, or, as MNIST-M comes, ANY_train and ANY_test with a list of
    classes beside them."""
    named = {kind: path for kind in SPLITS if (path := _first_folder(root, SPLITS[kind]))}
    if named or not root.is_dir():
        return named
    lists = sorted(path for path in root.iterdir() if path.name.endswith(_LIST) and path.is_file())
    found = {}
    for folder in (path.with_name(path.name.removesuffix(_LIST)) for path in lists):
        kind = next((kind for kind, names in SPLITS.items() if folder.name.rpartition("_")[2] in names), None)
        if kind is not None and folder.is_dir():
            found[kind] = folder
    return found


def _list_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LIST)


def _listed(folder: Path) -> dict[str, str]:
    """Return the class of each file name as the list beside the folder says, a line each; empty without such a list."""
    path = _list_of(folder)
    if not path.is_file():
        return {}
    found = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    for number, line in enumerate(lines, 1):
        words = line.rsplit(maxsplit=1)
        if len(words) == 1:
            raise InputError(f"{path}, line {number}: {line.strip()[:40]!r} is not a file's name and its class")
        if words:
            found[words[0].strip()] = words[1]
    return found


def _listed_classes(train: Path, listed: dict[str, str], folder: Path) -> tuple[str, ...]:
    """Return the classes that train's list names, numbers in their order; this folder's list must name no others."""
    names = set((_listed(train) or listed).values())
    if strange := sorted(set(listed.values()) - names):
        raise InputError(f"{_list_of(folder)} names classes that train has not: {', '.join(strange[:5])}")
    if len(names) < 2:
        raise InputError(f"{_list_of(folder)} names one class only ({min(names)}); a classifier needs two")
    return tuple(sorted(names, key=lambda name: (name.isdecimal() and len(name), name)))


def _first_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _walk(folder: Path) -> list[Path]:
    """Return all image files below, sorted; hidden files and folders are left out, links followed once."""
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        if real not in seen:
            names = (f for f in files if not f.startswith(".") and Path(f).suffix.lower() in EXTENSIONS)
            found += [Path(parent) / name for name in names]
        seen.add(real)
    return sorted(found)


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX"))))


def _classes(root: Path, folder: Path, split: str) -> tuple[str, ...]:
    """Return the class names of the train folder, or of this one where there is none; they must agree."""
    own = _class_names(folder)
    train = _first_folder(root, SPLITS["train"])
    names = (_class_names(train) if train else ()) or own  # train may be a heap of unlabelled images
    if set(own) != set(names):
        missing, extra = sorted(set(names) - set(own)), sorted(set(own) - set(names))
        parts = [f"lacks {', '.join(missing[:5])}"] * bool(missing) + [f"adds {', '.join(extra[:5])}"] * bool(extra)
        raise InputError(f"the classes of {folder} differ from those of train: it {' and '.join(parts)}")
    if len(names) < 2:
        raise InputError(f"{folder} has one class only ({names[0]}); a classifier needs two class folders")
    return names


def _usable(
    root: Path,
    keys: list[str],
    classes: tuple[str, ...],
    labels: NDArray[np.int64] | None,
    *,
    unsplit: bool,
    borrowed: bool,
    on_broken: Literal["fatal", "skip"],
) -> Listing:
    looks = list(headers([root / key for key in keys]))
    broken = [f"{key} ({look})" for key, look in zip(keys, looks, strict=True) if isinstance(look, str)]
    if broken and on_broken == "fatal":
        named = ", ".join(broken[:5]) + (", ..." if len(broken) > 5 else "")
        raise InputError(
            f"{len(broken)} of {len(keys)} images in {root} can't be used: {named}; "
            "remove them or pass --on-broken skip"
        )
    good = [i for i, look in enumerate(looks) if isinstance(look, Header)]
    if not good:
        raise InputError(f"none of the {len(keys)} images in {root} can be used: {', '.join(broken[:5])}")
    if labels is not None:
        labels = labels[good]
        empty = [name for i, name in enumerate(classes) if not (labels == i).any()]
        if empty:
            raise InputError(f"{root} has classes without images: {', '.join(empty[:5])}; fill or remove them")
    return Listing(
        root=root,
        classes=classes,
        labels=labels,
        keys=tuple(keys[i] for i in good),
        headers=tuple(look for look in looks if isinstance(look, Header)),
        unsplit=unsplit,
        borrowed=borrowed,
        broken=tuple(broken),
    )
