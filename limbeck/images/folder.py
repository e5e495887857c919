"""Image folders: which files make a split, their labels, and which of them can't be used."""

import difflib
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError
from limbeck.images.images import FORMATS, Header, extensions, headers

Split = Literal["train", "val", "test"]
SPLITS: dict[Split, tuple[str, ...]] = {  # names of their folders, in any case
    "train": ("train", "training"),
    "val": ("val", "validation", "valid", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
_ANY = "|".join(_SPLIT_OF)
_ALIKE = re.compile(rf"({_ANY})([\W_\d]|set|data|images)|.*[\W_]({_ANY})$")  # train2017, test_images, seg_train
_JUNK = {  # of NAS boxes, macOS, Windows and Linux, beside all names that begin with a dot or end with ~
    "@eadir", "@recycle", "#recycle", "#snapshot", "__macosx", "network trash folder", "temporary items", "thumbs.db",
    "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found", "__pycache__",
}  # fmt: skip
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
    notes: tuple[str, ...]  # what the user should know


@dataclass(frozen=True)
class Place:
    """Where the images of a split lie."""

    root: Path
    folder: Path
    train: Path  # the folder whose classes count
    split: Split
    unsplit: bool
    borrowed: bool
    beside: tuple[str, ...]  # folders of images that belong to no split

    @property
    def depth(self) -> int:
        """Folders of a key before those of its class."""
        return len(self.folder.relative_to(self.root).parts)


def split_of(name: str) -> Split | None:
    """Return the split that is called so, in any case; None where none is."""
    return _SPLIT_OF.get(name.casefold())


def list_folder(root: Path, split: Split, labelled: bool, on_broken: Literal["fatal", "skip"]) -> Listing:
    """Return the images of one split, checked (see `images.headers`); InputError where there is nothing to use."""
    place = _find(root, split)
    images, skipped = files_below(place.folder)
    if not images:
        raise InputError(
            f"{place.folder} holds no images ({known_endings()}){'; ' * bool(skipped)}{left_out(root, skipped)}"
        )
    keys = [path.relative_to(root).as_posix() for path in images]
    if strange := [key for key in keys if any("\ud800" <= letter <= "\udfff" for letter in key)]:
        raise InputError(
            f"{len(strange)} names in {place.folder} are not Unicode text ({strange[0]!a}, ...); rename these files"
        )
    classes, labels = _labels(place, keys) if labelled else ((), None)
    notes = [left_out(root, skipped), *_notes(place, classes)]
    return usable(place, keys, classes, labels, on_broken=on_broken, notes=tuple(note for note in notes if note))


# ---- files ------------------------------------------------------------------------------------------------


def files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the image files below `folder`, sorted, and the files that are left out: of another format, or no files
    of bytes (pipes, sockets). Links are followed, except those that lead back up; the junk of file systems and all
    that is hidden count as absent."""
    images: list[Path] = []
    skipped: list[Path] = []
    for path, regular in _below(folder, ()):
        (images if regular and path.suffix.lower() in extensions() else skipped).append(path)
    return sorted(images), sorted(skipped)


def _below(folder: Path, above: tuple[str, ...]) -> Iterator[tuple[Path, bool]]:
    """Yield each file below and whether it is one of bytes, or a link to nothing, which will be found broken."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder} can't be read: {error.strerror}; change its permissions or move it away") from error
    for entry in entries:
        if _is_junk(entry.name):
            continue
        if entry.is_dir():
            yield from _below(folder / entry.name, (*above, real))
        else:
            yield folder / entry.name, _is_regular(entry)


def _is_regular(entry: "os.DirEntry[str]") -> bool:
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.endswith("~") or name.casefold().rstrip("\r") in _JUNK


def _folders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder`, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not _is_junk(entry.name))


def _holds_images(folder: Path) -> bool:
    return any(regular and path.suffix.lower() in extensions() for path, regular in _below(folder, ()))


def known_endings() -> str:
    """Return what image files may end in, in words."""
    return " ".join(sorted(extension[1:] for extension in extensions()))


def left_out(root: Path, skipped: Sequence[Path]) -> str:
    """Return how many files were left out, of which kinds, and the first; nothing where there are none."""
    if not skipped:
        return ""
    kinds = Counter(path.suffix.lower() or "without an ending" for path in skipped)
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda kind: -kind[1])[:5])
    more = ", ..." if len(kinds) > 5 else ""
    first = ascii(skipped[0].relative_to(root).as_posix())[1:-1]
    heic = next((kind for kind in kinds if kind in FORMATS["HEIF"]), "")
    remedy = f", {heic} needs pillow-heif: pip install 'limbeck[heic]'" if heic else ""
    return f"files left out, as their format is not read: {counted}{more} (first: {first}){remedy}"


# ---- splits -----------------------------------------------------------------------------------------------


def _find(root: Path, split: Split) -> Place:
    """Return where the images of `split` are; MissingSplitError where other splits are there, but not this one."""
    present, beside = _splits(root)
    if not present:
        return Place(root, root, root, split, unsplit=True, borrowed=False, beside=())
    unsplit = set(present) == {"train"}
    borrowed = split == "val" and "val" not in present and "test" in present
    folder = present.get("test" if borrowed else "train" if unsplit and split == "val" else split)
    if folder is None:
        there = ", ".join(f"{path.name}/" for path in present.values())
        raise MissingSplitError(f"{root} has no {split}/ folder, only {there}")
    return Place(root, folder, present.get("train", folder), split, unsplit, borrowed, beside)


def image_folders(root: Path) -> list[Path]:
    """Return the folders in which images are looked for: those of the splits, or `root` where there are none."""
    return list(_splits(root)[0].values()) or [root]


def _splits(root: Path) -> tuple[dict[Split, Path], tuple[str, ...]]:
    """Return the folders of the splits and, where there are some, the folders of images beside them.

    By their names, or, as MNIST-M comes, ANY_train and ANY_test with a list of classes beside them. InputError where
    it is not clear whether folders are splits or classes."""
    folders = _folders(root)
    found: dict[Split, list[str]] = {}
    for name in folders:
        if split := _SPLIT_OF.get(name.casefold()):
            found.setdefault(split, []).append(name)
    for split, names in found.items():
        if len(names) > 1:
            both = " and ".join(f"{name}/" for name in names)
            raise InputError(f"{root} holds {both}, which both are {split} images; merge them or move one away")
    if not found:
        if listed := _listed_splits(root):
            return listed, ()
        _refuse_look_alikes(root, folders)
        return {}, ()
    splits = {split: root / found[split][0] for split in SPLITS if split in found}
    beside = tuple(name for name in folders if root / name not in splits.values() and _holds_images(root / name))
    own = ", ".join(f"{path.name}/" for path in splits.values())
    others = ", ".join(f"{name}/" for name in beside[:5])
    if len(splits) == 1 and beside:
        raise InputError(
            f"{root} holds {own} beside {others}; if all are classes, put them into a folder train/, and if "
            f"{own} holds the training images, move the others away"
        )
    if alike := [name for name in beside if _looks_like_a_split(name)]:
        raise InputError(f"{root} holds {own} and also {alike[0]}/, which may be a split; rename it or move it away")
    return splits, beside


def _looks_like_a_split(name: str) -> bool:
    word = name.casefold()
    return bool(_ALIKE.match(word) or difflib.get_close_matches(word, _SPLIT_OF, 1, 0.75))


def _refuse_look_alikes(root: Path, folders: list[str]) -> None:
    """Refuse folders that would be taken for classes, but whose names say that they are splits, even if misspelt."""
    alike = [name for name in folders if _looks_like_a_split(name)]
    if len(alike) > 1 and (len(alike) == len(folders) or all(_ALIKE.match(name.casefold()) for name in alike)):
        shown = ", ".join(f"{name}/" for name in alike[:5])
        raise InputError(
            f"{root} holds {shown}, which look like splits; call them train/, val/ and test/, or, if they are classes, "
            "put them into a folder train/"
        )


def _listed_splits(root: Path) -> dict[Split, Path]:
    """Return the folders ANY_train, ANY_test, ... that have a list of classes beside them."""
    lists = sorted(path for path in root.iterdir() if path.name.endswith(_LIST) and path.is_file())
    found: dict[Split, Path] = {}
    for folder in (path.with_name(path.name.removesuffix(_LIST)) for path in lists):
        split = _SPLIT_OF.get(folder.name.rpartition("_")[2].casefold())
        if split is not None and folder.is_dir():
            found[split] = folder
    return found


# ---- labels -----------------------------------------------------------------------------------------------


def _labels(place: Place, keys: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64] | None]:
    """Return the classes, and the label of each key: by class folders, or by a list beside a flat folder."""
    flat = next((key for key in keys if key.count("/") == place.depth), None)
    if flat is None:
        return _by_folder(place, keys)
    if any(key.count("/") > place.depth for key in keys):
        raise InputError(f"{place.folder} holds class folders and also images beside them ({flat}); move these away")
    if listed := _listed(place.folder):
        return _by_list(place, keys, listed)
    if place.split != "train":
        raise MissingSplitError(
            f"{place.folder} holds images without class folders, so it has no labelled {place.split} split; make a "
            "folder per class"
        )
    return (), None


def _by_folder(place: Place, keys: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Classes are the folders of train, sorted by name, as torchvision sorts them; another split may lack some."""
    own = _folders(place.folder)
    classes = tuple(_folders(place.train) or own)  # train may be a flat folder of unlabelled images
    if extra := sorted(set(own) - set(classes)):
        lacks = f"lacks {', '.join(missing[:5])} and " if (missing := sorted(set(classes) - set(own))) else ""
        adds = ", ".join(extra[:5])
        raise InputError(
            f"the classes of {place.folder} differ from those of {place.train.name}: it {lacks}adds {adds}"
        )
    if len(classes) < 2:
        raise InputError(
            f"{place.folder} has one class only ({classes[0]}); a classifier needs two class folders"
            + _hint_within(place.folder / classes[0])
        )
    places = {name: i for i, name in enumerate(classes)}
    return classes, np.array([places[key.split("/")[place.depth]] for key in keys], dtype=np.int64)


def _hint_within(folder: Path) -> str:
    """Return whether the data set seems to lie one folder further down."""
    return f"; is the data set {folder}?" if folder.is_dir() and len(_folders(folder)) > 1 else ""


def _list_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LIST)


def _by_list(place: Place, keys: Sequence[str], listed: dict[str, str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Classes are those that train's list names, numbers in their order; this folder's list must name no others."""
    path = _list_of(place.folder)
    named = set((_listed(place.train) or listed).values())
    if strange := sorted(set(listed.values()) - named):
        raise InputError(f"{path} names classes that train does not have: {', '.join(strange[:5])}")
    if len(named) < 2:
        raise InputError(f"{path} names one class only ({min(named)}); a classifier needs two")
    files = [Path(key).name for key in keys]
    if nameless := [name for name in files if name not in listed]:
        raise InputError(f"{path} names no class for {nameless[0]}; add a line for it or remove it")
    classes = tuple(sorted(named, key=lambda name: (name.isdecimal() and len(name), name)))
    places = {name: i for i, name in enumerate(classes)}
    return classes, np.array([places[listed[name]] for name in files], dtype=np.int64)


def _listed(folder: Path) -> dict[str, str]:
    """Return the class of each file name in the list beside the folder, one per line; empty without such a list."""
    path = _list_of(folder)
    if not path.is_file():
        return {}
    found = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    for number, line in enumerate(lines, 1):
        words = line.rsplit(maxsplit=1)
        if len(words) == 1:
            raise InputError(f"{path}, line {number}: {line.strip()[:40]!r} is not a file's name and its class")
        if words:
            found[words[0].strip()] = words[1]
    return found


# ---- what is found ----------------------------------------------------------------------------------------


def _notes(place: Place, classes: tuple[str, ...]) -> Iterator[str]:
    if place.beside:
        yield f"folders left out, as they are not splits: {', '.join(place.beside[:5])}"
    folded = Counter(name.casefold() for name in classes)
    if twins := [name for name in classes if folded[name.casefold()] > 1]:
        yield f"classes differ by case alone ({', '.join(twins[:4])}); if they are one, merge their folders"


def usable(
    place: Place,
    keys: list[str],
    classes: tuple[str, ...],
    labels: NDArray[np.int64] | None,
    *,
    on_broken: Literal["fatal", "skip"],
    notes: tuple[str, ...],
) -> Listing:
    """Return the images of a split of which the headers say that they can be decoded; InputError where others are
    there and are not to be left out, or where a class has no images."""
    root = place.root
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
        if empty and (place.split == "train" or place.unsplit):
            what = "; ".join([", ".join(empty[:5]), *notes])
            raise InputError(f"{place.folder} has classes without images: {what}; fill or remove these folders")
        if empty:
            notes = (*notes, f"{place.folder.name}/ has no images of {len(empty)} classes: {', '.join(empty[:5])}")
    return Listing(
        root=root,
        classes=classes,
        labels=labels,
        keys=tuple(keys[i] for i in good),
        headers=tuple(look for look in looks if isinstance(look, Header)),
        unsplit=place.unsplit,
        borrowed=place.borrowed,
        broken=tuple(broken),
        notes=notes,
    )
