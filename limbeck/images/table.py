"""Tables of images: a CSV or JSON file that names image files and, mostly, the class and the split of each."""

import csv
import io
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from limbeck.errors import InputError
from limbeck.images.folder import Listing, MissingSplitError, Place, Split, split_of, usable

ENDINGS = (".csv", ".tsv", ".json", ".jsonl")
_COLUMNS = {  # what the field calls them, in any case
    "file": (
        "file", "filename", "file_name", "filepath", "file_path", "path", "image", "images", "image_path", "img",
        "img_path", "image_file", "image_name",
    ),
    "class": ("label", "labels", "class", "class_name", "classname", "category", "target"),
    "split": ("split", "subset", "set", "partition"),
}  # fmt: skip
_MOST_BYTES = 2**28

Row = tuple[str, str, str]  # of cells: file, class, split; empty where there is none


def is_table(spec: str) -> bool:
    """Return whether `spec` is a file that is read as a table of images."""
    return Path(spec).suffix.lower() in ENDINGS and Path(spec).is_file()


def list_table(path: Path, split: Split, labelled: bool, on_broken: Literal["fatal", "skip"]) -> Listing:
    """Return the images of one split of a table, checked as those of a folder; files are relative to the table's folder
    and lie in it. InputError says which line can't be used."""
    rows = _rows(path)
    split_names = [_split(path, number, cells) for number, cells in rows]
    if any(split_names) and not all(split_names):
        number = next(number for (number, _), name in zip(rows, split_names, strict=True) if not name)
        raise InputError(f"{path}, line {number}: there is no split, which other lines have; add it or leave all out")
    unsplit = set(split_names) <= {None, "train"}
    borrowed = split == "val" and not unsplit and "val" not in split_names and "test" in split_names
    wanted = None if unsplit else "test" if borrowed else split
    if not unsplit and wanted not in split_names:
        raise MissingSplitError(
            f"{path} has no images of {split}, only of {', '.join(sorted({*filter(None, split_names)}))}"
        )
    chosen = [row for row, name in zip(rows, split_names, strict=True) if unsplit or name == wanted]
    training = [row for row, name in zip(rows, split_names, strict=True) if unsplit or name == "train"] or chosen
    root = path.parent
    found = sorted((_key(path, number, cells[0]), number, cells[1]) for number, cells in chosen)
    for (key, _, _), (other, number, _) in itertools.pairwise(found):
        if key == other:
            raise InputError(f"{path}, line {number}: {key} is there twice; an image has one class and one split")
    place = Place(root, root, root, split, unsplit=unsplit, borrowed=borrowed, beside=())
    keys, names = [key for key, _, _ in found], [name for _, _, name in found]
    classes: tuple[str, ...] = ()
    labels = None
    if labelled and any(names):
        classes = _classes(path, training, chosen)
        places = {name: number for number, name in enumerate(classes)}
        labels = np.array([places[name] for name in names], dtype=np.int64)
    elif labelled and split != "train":
        raise MissingSplitError(
            f"{path} has no column of classes ({_known('class')}), so it has no labelled {split} split"
        )
    return usable(place, keys, classes, labels, on_broken=on_broken, notes=())


def _classes(path: Path, training: Sequence[tuple[int, Row]], chosen: Sequence[tuple[int, Row]]) -> tuple[str, ...]:
    """Return the classes of the training images, sorted as class folders are; all lines must name one of them."""
    classes = tuple(sorted({cells[1] for _, cells in training if cells[1]}))
    for number, (file, name, _) in (*training, *chosen):
        if name not in classes:
            fault = f"the class {name[:80]!r} has no training images" if name else f"{file[:80]} has no class"
            raise InputError(f"{path}, line {number}: {fault}; correct it or remove the line")
    if len(classes) < 2:
        raise InputError(f"{path} names one class only ({classes[0]}); a classifier needs two")
    return classes


def _split(path: Path, number: int, cells: Row) -> Split | None:
    if not cells[2]:
        return None
    if found := split_of(cells[2]):
        return found
    raise InputError(f"{path}, line {number}: {cells[2][:40]!r} is no split; there are train, val and test")


def _key(path: Path, number: int, file: str) -> str:
    """Return the image's name relative to the table's folder, with /."""
    root = os.path.abspath(path.parent)
    place = os.path.normpath(os.path.join(root, file))  # absolute names stay what they are
    if not file or "\0" in file or os.path.commonpath([root, place]) != root or place == root:
        raise InputError(
            f"{path}, line {number}: {file[:80]!r} does not lie in the table's folder; put the table above its images"
        )
    return Path(place).relative_to(root).as_posix()


# ---- reading ----------------------------------------------------------------------------------------------


def _rows(path: Path) -> list[tuple[int, Row]]:
    """Return (line, cells) of each image."""
    text = text_of(path)
    records = _of_json(path, text) if path.suffix.lower() in (".json", ".jsonl") else _of_csv(path, text)
    if not records:
        raise InputError(f"{path} names no images")
    return records


def text_of(path: Path) -> str:
    """Return the text of a table; InputError where it is none, or too long."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} has more than {_MOST_BYTES:,} bytes; split it")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path} can't be read as text: {error}") from error


def _of_csv(path: Path, text: str) -> list[tuple[int, Row]]:
    lines = cells_of(path, text)
    if not lines:
        return []
    head = [cell.casefold() for cell in lines[0][1]]
    columns = {what: _column(path, head, what) for what in _COLUMNS}
    if columns["file"] is None:
        raise InputError(
            f"{path} has no column of image files in its first line ({', '.join(map(repr, lines[0][1][:5]))}); give "
            f"it a head such as file,label ({_known('file')})"
        )
    made = []
    for number, row in lines[1:]:
        file, name, split = ("" if place is None else row[place] for place in columns.values())
        made.append((number, (file, name, split)))
    return made


def cells_of(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """Return (line, cells without spaces around them) of the text of a CSV-like file, without its empty lines: tabs are
    between the cells of a .tsv, else commas or semicolons. InputError where a line has other cells than the first."""
    try:
        dialect = csv.excel_tab if path.suffix.lower() == ".tsv" else csv.excel
        if dialect is csv.excel and ";" in text.partition("\n")[0] and "," not in text.partition("\n")[0]:
            dialect = _Semicolons  # as spreadsheets write it where the comma is in numbers
        reader = csv.reader(io.StringIO(text, newline=""), dialect)
        lines = [
            (reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise InputError(f"{path} is not a usable table: {error}") from error
    for number, row in lines:
        if len(row) != len(lines[0][1]):
            raise InputError(f"{path}, line {number}: {len(row)} cells, but the first line has {len(lines[0][1])}")
    return lines


class _Semicolons(csv.excel):
    delimiter = ";"


def _of_json(path: Path, text: str) -> list[tuple[int, Row]]:
    """Read a list of objects, one a line or all in one list, or an object of file: class."""
    try:
        if path.suffix.lower() == ".jsonl":
            document: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if isinstance(document, dict):
        document = [{"file": file, "label": name} for file, name in document.items()]
    if not isinstance(document, list) or not all(isinstance(each, dict) for each in document):
        raise InputError(f'{path} is neither a list of {{"file": ..., "label": ...}} nor an object of file: label')
    made = []
    for number, each in enumerate(document, 1):
        head = [str(key).casefold() for key in each]
        cells = []
        for what in _COLUMNS:
            place = _column(path, head, what)
            value = "" if place is None else list(each.values())[place]
            if not isinstance(value, str | int) or isinstance(value, bool):
                raise InputError(f"{path}, entry {number}: its {what} is {str(value)[:40]!r}, not a name")
            cells.append(str(value).strip())
        if not cells[0]:
            raise InputError(f"{path}, entry {number} has no image file ({_known('file')})")
        made.append((number, (cells[0], cells[1], cells[2])))
    return made


def _column(path: Path, head: Sequence[str], what: str) -> int | None:
    found = [place for place, name in enumerate(head) if name in _COLUMNS[what]]
    if len(found) > 1:
        both = " and ".join(head[place] for place in found)
        raise InputError(f"{path} has the columns {both}, which both may be the {what}; rename one")
    return found[0] if found else None


def _known(what: str) -> str:
    return ", ".join(_COLUMNS[what])
