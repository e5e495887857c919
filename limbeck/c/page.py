"""A written net as one HTML page: the same C, compiled to WebAssembly, inside it."""

import base64
import html
import json
import shutil
import tempfile
from pathlib import Path

from limbeck.c.running import compiled
from limbeck.c.write import Written, filled
from limbeck.errors import InputError
from limbeck.integer.program import WHITE, Program
from limbeck.runs import write_text
from limbeck.version import __version__

_OPTIONS = (
    "--target=wasm32", "-std=c99", "-O3", "-nostdlib", "-fno-builtin", "-Wl,--no-entry", "-Wl,--export=page_pixels",
    "-Wl,--export=page_scores", "-Wl,--export=page_run", "-Wl,--strip-all",
)  # fmt: skip
_STRING = (
    "#include <stddef.h>\nvoid *memcpy(void *, const void *, size_t);\nvoid *memmove(void *, const void *, size_t);\n"
)
_STRING += "void *memset(void *, int, size_t);\n"


def missing() -> list[str]:
    """Return the tools for WebAssembly that this machine lacks."""
    return [tool for tool in ("clang", "wasm-ld") if shutil.which(tool) is None]


def needed() -> None:
    """Raise InputError where the tools that make WebAssembly are missing."""
    if lacking := missing():
        raise InputError(
            f"a page is compiled by clang and wasm-ld, and {lacking[0]} is missing; apt-get install clang lld"
        )


def assembly(written: Written) -> bytes:
    """Return the net as a WebAssembly module that imports nothing."""
    needed()
    words = {"name": written.name, "NAME": written.name.upper()}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "string.h").write_text(_STRING)  # clang brings no libc for wasm32
        (folder / f"{written.name}.h").write_text(written.header, encoding="utf-8")
        sources = folder / f"{written.name}.c", folder / f"page_of_{written.name}.c"
        sources[0].write_text(written.source, encoding="utf-8")
        sources[1].write_text(filled("page.c", words), encoding="utf-8")
        made = folder / "net.wasm"
        compiled("clang", [*_OPTIONS, f"-I{folder}", *map(str, sources), "-o", str(made)])
        return made.read_bytes()


def save(program: Program, written: Written, path: Path) -> None:
    """Write the page: one file that works from disk and asks no server for anything."""
    i = program.input
    if i.channels not in (1, 3):
        raise InputError(f"a page shows pictures of 1 or 3 channels; this net takes {i.channels}")
    if i.white != WHITE:
        raise InputError(
            f"a browser takes 65535 for white in images of 16 bits, and this net {i.white}; export --format c instead"
        )
    facts = {
        "channels": i.channels, "height": i.height, "width": i.width, "crop": i.crop_pct, "scale": program.scale,
        "classes": program.classes,
    }  # fmt: skip
    words = {
        "version": __version__, "title": html.escape(f"{written.name}, a classifier of {len(program.classes)} classes"),
        "width": str(i.width), "height": str(i.height), "wasm": base64.b64encode(assembly(written)).decode(),
        "facts": json.dumps(facts).replace("<", "\\u003c"),
    }  # fmt: skip
    write_text(path, filled("page.html", words))
