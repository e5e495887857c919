"""What is installed here, what is missing, and the command that brings it."""

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.errors import first_line
from limbeck.results import Result

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_FEATURES = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "neon", "bf16", "i8mm", "sve")
_PATIENCE = 20.0  # seconds for a tool to print its version
_MODULES = {"pillow": "PIL"}  # of the packages that are not imported by their own name
# A tool's commands, what needs it, and the package of Debian and Ubuntu that has it.
_TOOLS = (
    (("verilator",), "--version", "simulate, bench, demo", "verilator"),
    (("g++",), "--version", "simulate, torch.compile", "g++"),
    (("make",), "--version", "simulate", "make"),
    (("yosys",), "-V", "compile --synth", "yosys"),
    (("iverilog",), "-V", "the tests of the RTL", "iverilog"),
    (("chromium", "chromium-browser", "google-chrome"), "--version", "the tests of report and serve", "chromium"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. What is wrong has the command that mends it."""

    group: str
    name: str
    found: str
    remedy: str = ""  # empty where nothing is missing
    broken: bool = False  # the base install does not work without it


@dataclass(frozen=True)
class Diagnosis(Result):
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def failure(self) -> str:
        """What the base install needs and does not have, in a sentence; empty where it works."""
        broken = [one for one in self.findings if one.broken]
        if not broken:
            return ""
        return f"{', '.join(f'{one.name}: {one.found}' for one in broken)}; {broken[0].remedy}"

    def rows(self) -> list[tuple[str, ...]]:
        """Return one line per finding; a group is named once."""
        groups = [one.group for one in self.findings]
        shown = [group if i == 0 or group != groups[i - 1] else "" for i, group in enumerate(groups)]
        return [(group, one.name, one.found, one.remedy) for group, one in zip(shown, self.findings, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        return {"findings": [asdict(one) for one in self.findings], "failure": self.failure}


def diagnose() -> Diagnosis:
    """Look at packages, machine, extras, tools, caches and data."""
    return Diagnosis((*_base(), *_machine(), *_extras(), *_tools(), *_places(), *_data()))


def _base() -> list[Finding]:
    """Return Limbeck, Python and what every installation has, each imported."""
    own = [
        Finding("versions", "limbeck", metadata.version("limbeck")),
        Finding("versions", "python", f"{platform.python_version()} ({sys.executable})"),
        Finding("versions", "system", platform.platform(terse=True)),
    ]
    return own + [_required(one) for one in requirements() if one.marker is None or one.marker.evaluate({"extra": ""})]


def requirements() -> "list[Requirement]":
    """Return what the installed package says that it requires, extras included."""
    from packaging.requirements import Requirement

    return [Requirement(line) for line in metadata.requires("limbeck") or []]


def _required(wanted: "Requirement") -> Finding:
    remedy = f"pip install '{wanted.name}{wanted.specifier}'"
    if lack := _lacking(wanted):
        return Finding("versions", wanted.name, lack, remedy, broken=True)
    version = metadata.version(wanted.name)
    try:
        importlib.import_module(_MODULES.get(wanted.name, wanted.name.replace("-", "_")))
    except Exception as error:  # a library that does not fit raises what it likes
        found = f"{version} can't be imported ({first_line(error)})"
        return Finding("versions", wanted.name, found, f"pip install --force-reinstall {wanted.name}", broken=True)
    return Finding("versions", wanted.name, version)


def _lacking(wanted: "Requirement") -> str:
    """Return what is wrong with an installed package; empty where it fits."""
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return "is missing"
    return "" if wanted.specifier.contains(version, prereleases=True) else f"is {version}, needs {wanted.specifier}"


def _machine() -> list[Finding]:
    """Return cores, memory, and what torch can use of them."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [Finding("machine", "cores", f"{usable} of {os.cpu_count()} usable")]
    try:
        import psutil
        import torch

        from limbeck.nets.classifier import computes_bfloat16
        from limbeck.nets.fuse import cpu_features
    except Exception:  # _base has reported it
        return found
    memory = psutil.virtual_memory()
    found.append(Finding("machine", "memory", f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} free"))
    able = cpu_features()
    has = [name for name in _FEATURES if able.get(name)]
    half = computes_bfloat16(torch.device("cpu"))
    text = "bfloat16 in hardware" if half else "no bfloat16 in hardware: float32 is faster"
    found.append(Finding("machine", "CPU", f"{able.get('cpu_name') or platform.machine()}: {', '.join(has)}; {text}"))
    return found + [Finding("machine", "GPU", name) for name in _gpus()]


def _gpus() -> list[str]:
    import torch

    if torch.backends.mps.is_available():
        return ["Apple, by Metal"]
    seen = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [f"{one.name}, {one.total_memory / 2**30:.0f} GiB" for one in seen] or ["none that torch can use"]


def _extras() -> list[Finding]:
    """Return the extras of the installed package, and the command for those that are not whole."""
    names = metadata.metadata("limbeck").get_all("Provides-Extra") or []
    return [_extra(name) for name in names]


def _extra(name: str) -> Finding:
    wanted = _of_extra(name, set())
    lacking = [f"{one.name} {lack}" for one in wanted if (lack := _lacking(one))]
    remedy = f"pip install 'limbeck[{name}]'" if lacking else ""
    return Finding("extras", name, "; ".join(lacking) or ", ".join(one.name for one in wanted), remedy)


def _of_extra(name: str, seen: set[str]) -> "list[Requirement]":
    """Return what an extra brings, the extras that it names among them."""
    found: list[Requirement] = []
    for one in requirements():
        if one.marker is None or one.marker.evaluate({"extra": ""}) or not one.marker.evaluate({"extra": name}):
            continue
        if one.name != "limbeck":
            found.append(one)
            continue
        for inner in sorted(one.extras - seen):
            found += _of_extra(inner, seen | {name, inner})
    return found


def _tools() -> list[Finding]:
    return [_tool(names, flag, use, package) for names, flag, use, package in _TOOLS]


def _tool(names: tuple[str, ...], flag: str, use: str, package: str) -> Finding:
    path = next((path for name in names if (path := shutil.which(name))), None)
    if path is None:
        return Finding("tools", names[0], f"is missing; for {use}", f"apt-get install {package}")
    try:
        done = subprocess.run([path, flag], capture_output=True, text=True, timeout=_PATIENCE, check=False)
        output = (done.stdout + done.stderr).strip().partition("\n")[0]
    except (OSError, subprocess.TimeoutExpired) as error:
        output = f"does not respond ({first_line(error)})"
    version = re.search(r"\d+(\.\d+)+", output)
    return Finding("tools", names[0], f"{version[0] if version else output[:60]}; for {use}")


def _places() -> list[Finding]:
    """Return where fetched weights are kept, and whether they can be."""
    found: list[tuple[str, Path]] = []
    try:
        import torch
        from huggingface_hub import constants
    except Exception:  # _base has reported it
        return []
    found = [("timm and the hub", Path(constants.HF_HUB_CACHE)), ("torchvision", Path(torch.hub.get_dir()))]
    return [_place(name, path) for name, path in found]


def _place(name: str, path: Path) -> Finding:
    there = next(folder for folder in (path, *path.parents) if folder.exists())  # the rest would be made
    if not os.access(there, os.W_OK):
        return Finding("weights", name, f"{path} can't be written", f"make {there} writable")
    return Finding("weights", name, f"{path}, {shutil.disk_usage(there).free / 2**30:.0f} GiB free")


def _data() -> list[Finding]:
    """Return the images that ship here, and torchvision's in ./data."""
    folder = Path(__file__).parents[1] / "images" / "digits"
    names = sorted(path.name.partition("-images")[0] for path in folder.glob("*-images-*"))
    whole = all(list(folder.glob(f"{name}-labels-*")) for name in names) and names
    built_in = ", ".join(f"digits:{name}" for name in names)
    found = [Finding("data", "built in", built_in)]
    if not whole:
        remedy = "pip install --force-reinstall --no-deps limbeck"
        found = [Finding("data", "built in", "the built-in digits are missing", remedy, broken=True)]
    fetched = sorted(path.name for path in Path("data").glob("*") if path.is_dir())
    return [
        *found,
        Finding("data", "./data", ", ".join(fetched) or "nothing; --data torchvision:NAME --download fetches"),
    ]
