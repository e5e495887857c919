"""A written net as a file: the C code, and behind it the Program, by which the file is known and read again."""

import base64
import re
import tempfile
import zlib
from pathlib import Path

from limbeck.c.write import Written, write
from limbeck.errors import InputError
from limbeck.integer import file
from limbeck.integer.program import Program
from limbeck.runs import OPEN_SEAL, read_sealed, sealed, write_bytes

_BEGIN, _END = "/* limbeck.program: what the code above is made of (zlib, base64)\n", "*/\n"
_NAME = re.compile(r"/\*\n \* (\w+)\.c: ", re.ASCII)
_SEALED = re.compile(r"limbeck-sha256:[0-9a-f]{64}")
_LINE = 120  # characters
_LARGEST = 1 << 30  # bytes of a Program's file


def save(program: Program, written: Written, path: Path) -> None:
    """Write the source, with the Program behind it, and the header beside it as `written` calls it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "net.program"
        file.save(program, place)
        packed = base64.b64encode(zlib.compress(place.read_bytes(), 9)).decode()
    lines = "\n".join(packed[first : first + _LINE] for first in range(0, len(packed), _LINE))
    text = f"{written.source}\n{_BEGIN}{lines}\n{_END}"
    write_bytes(path.with_suffix(".h"), sealed(written.header.encode()))
    write_bytes(path, sealed(text.encode()))


def load(path: Path) -> tuple[Program, Written]:
    """Return the Program in the file, and what this Limbeck writes for it, which is the file's code to the letter;
    InputError otherwise: nothing else is ever compiled."""
    text = read_sealed(path).decode("utf-8", "replace")
    code, begin, rest = text.partition(_BEGIN)
    name = _NAME.match(code)
    if not begin or name is None:
        raise InputError(
            f"{path} is no C file of Limbeck's, and only these are run; limbeck export --format c writes them"
        )
    program = _unpacked(path, rest.removesuffix(_END))
    written = write(program, name[1])
    if _SEALED.sub(OPEN_SEAL, code, count=1) != f"{written.source}\n":
        raise InputError(
            f"{path} is not what this Limbeck writes for the Program in it, and nothing else is run; export it again"
        )
    return program, written


def _unpacked(path: Path, packed: str) -> Program:
    reader = zlib.decompressobj()
    try:
        data = reader.decompress(base64.b64decode("".join(packed.split()), validate=True), _LARGEST)
    except (ValueError, zlib.error) as error:
        raise InputError(f"{path} is damaged: {error}; export it again") from error
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / path.with_suffix(".program").name
        place.write_bytes(data)
        return file.load(place)
