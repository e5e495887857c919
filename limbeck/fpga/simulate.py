"""A Design in Verilator: built once, of the package's RTL, then driven through its own ports by the boards' driver."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from limbeck import cache, runs
from limbeck.errors import InputError, VerificationError
from limbeck.fpga.design import read
from limbeck.fpga.driver import Accelerator, Counters, Words
from limbeck.fpga.emit import harness, sources
from limbeck.fpga.op import Cycles
from limbeck.integer import program

_WRITE, _READ, _TRANSFER, _STALL, _LIMIT, _RESET = range(1, 7)
_WRITES_AT_ONCE = 4096
_COMPILERS = 8  # at once, at most: each takes some 0.5 GB
_OPTIONS = (
    "verilator", "--cc", "--exe", "--build", "-O3", "--x-assign", "fast", "--x-initial", "unique", "-Wno-fatal",
    "-Wno-lint", "--top-module", "limbeck", "-MAKEFLAGS", "OPT_FAST=-O1 OPT_SLOW=-O0",
)  # fmt: skip


@dataclass(frozen=True)
class Stalls:
    """Percentage of the cycles in which a port is stalled at random."""

    seed: int = 0
    pixels: int = 0
    scores: int = 0
    axi: int = 0


def available() -> str:
    """Return why designs cannot be simulated here; empty where they can."""
    missing = [tool for tool in ("verilator", "g++", "make") if shutil.which(tool) is None]
    return f"{', '.join(missing)} not found; apt-get install verilator g++ make" if missing else ""


def build(design: Path, *, trust: bool = False, tell: runs.Tell = runs.silent) -> Path:
    """Return the simulator of the design's engine, built once, of this Limbeck's own RTL.

    It lies in a cache of the user's alone, by the SHA-256 of what it is built of; no program of the design's folder
    ever runs. Where the folder's RTL differs from this Limbeck's, InputError; with `trust` that RTL is built, and later
    calls take it from the cache without `trust`.
    """
    if missing := available():
        raise InputError(f"the simulator cannot be built: {missing}")
    ours, there = sources(read(design)), _rtl_of(design)
    simulator = cache.folder("simulators") / _digest(there)
    if not cache.is_own(simulator):
        if there != ours and not trust:
            odd = next(name for name in sorted(ours.keys() | there.keys()) if ours.get(name) != there.get(name))
            raise InputError(
                f"{design} has another {odd} than this Limbeck; compile the design again, or, if you trust its "
                f"RTL as you would trust a program, run limbeck simulate {design} --trust once"
            )
        tell("note", {"text": "building the simulator"})
        _verilate(design, there, simulator)
    cache.used(simulator)
    return simulator


def _rtl_of(design: Path) -> dict[str, bytes]:
    """Return the RTL that lies in a Design folder, by its path in it."""
    found = sorted([*design.glob("rtl/*.sv"), *design.glob("rtl/*.svh"), *design.glob("rtl/*.v")])
    if not found:
        raise InputError(f"{design} holds no RTL; limbeck compile makes designs")
    return {f"rtl/{path.name}": runs.read_sealed(path) for path in found}


def _digest(rtl: dict[str, bytes]) -> str:
    whole = hashlib.sha256(repr(_OPTIONS).encode() + harness())
    for name in sorted(rtl):
        whole.update(f"{name} {len(rtl[name])}\n".encode() + rtl[name])
    return whole.hexdigest()


def _verilate(design: Path, rtl: dict[str, bytes], simulator: Path) -> None:
    """Build the simulator of this RTL, and of this Limbeck's harness; it appears whole."""
    with tempfile.TemporaryDirectory(prefix=cache.BUILDING, dir=simulator.parent) as temporary:
        folder = Path(temporary)
        for name, text in rtl.items():
            runs.write_bytes(folder / name, text)
        (folder / "harness.cpp").write_bytes(harness())
        command = [
            *_OPTIONS, "-j", str(min(os.cpu_count() or 1, _COMPILERS)), f"-I{folder / 'rtl'}",
            "--Mdir", str(folder / "made"), "-o", "simulator",
            *(str(folder / name) for name in sorted(rtl) if not name.endswith((".svh", ".v"))),
            *(str(folder / name) for name in sorted(rtl) if name.endswith(".v")), str(folder / "harness.cpp"),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
            raise InputError(f"verilator could not build {design}:\n{tail}")
        made = folder / "made" / "simulator"
        made.chmod(0o700)
        made.replace(simulator)


class Simulator:
    """A running simulation as a driver's Port. `cycles` are the last transfer's, `broken` since the one before it."""

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._process = process
        self._said = said  # the simulation's own words: what $display and a broken assertion print
        self.cycles = 0
        self.broken = 0  # breaches of the AXI4-Stream rules

    def write(self, writes: list[tuple[int, int]]) -> None:
        for start in range(0, len(writes), _WRITES_AT_ONCE):
            part = writes[start : start + _WRITES_AT_ONCE]
            (bad,) = self._ask([_WRITE, len(part), *(word for pair in part for word in pair)], 1)
            if bad:
                raise VerificationError(f"{bad} register writes were not answered with OKAY")

    def read(self, address: int) -> int:
        return int(self._ask([_READ, address], 1)[0])

    def transfer(self, beats: Words, frame: int, answers: int) -> Words:
        last = np.arange(1, len(beats) + 1) % frame == 0
        data, ends = self.exchange(beats, last, answers)
        if len(data) < answers:
            raise VerificationError(f"the accelerator sent {len(data)} of {answers} output words and stopped")
        per_image = np.flatnonzero(ends) + 1
        if len(per_image) and (per_image != np.arange(1, len(per_image) + 1) * per_image[0]).any():
            raise VerificationError("TLAST does not come with every image's last output word")
        return data

    def exchange(self, beats: Words, last: NDArray[np.bool_], answers: int) -> tuple[Words, NDArray[np.bool_]]:
        """Send beats with their TLAST; return what came, up to `answers` beats, and its TLAST."""
        pairs = np.stack([beats, last.astype(np.uint32)], 1)
        header = self._ask([_TRANSFER, len(beats), answers], 3, pairs)
        taken, self.cycles, self.broken = (int(word) for word in header)
        table = self._take(2 * taken).reshape(-1, 2)
        return table[:, 0], table[:, 1] != 0

    def stall(self, stalls: Stalls) -> None:
        """Stall ports at random from now on."""
        self._send([_STALL, stalls.seed, stalls.pixels, stalls.scores, stalls.axi])

    def limit(self, cycles: int) -> None:
        """End a transfer after this many cycles in which nothing moves."""
        self._send([_LIMIT, cycles])

    def reset(self) -> None:
        self._send([_RESET])

    def _send(self, words: list[int], more: NDArray[np.uint32] | None = None) -> None:
        assert self._process.stdin is not None
        data = np.array(words, "<u4").tobytes() + (b"" if more is None else more.astype("<u4").tobytes())
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _ask(self, words: list[int], answers: int, more: NDArray[np.uint32] | None = None) -> Words:
        self._send(words, more)
        return self._take(answers)

    def _take(self, words: int) -> Words:
        assert self._process.stdout is not None
        data = self._process.stdout.read(4 * words)
        if len(data) < 4 * words:
            self._process.wait()
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").splitlines()
            why = next((line for line in said if "%" in line), "it did not say why")  # [time] %Error: file:line: ...
            raise VerificationError(f"the simulator ended early: {why}")
        return np.frombuffer(data, "<u4")


@contextmanager
def running(simulator: Path, told: Path | None = None) -> Iterator[Simulator]:
    """Yield the simulator, just reset; it ends with the block.

    The file `told` gets every word of every map in the order of its making, hexadecimal: "V" lines for results, "M"
    lines for what is written to maps.
    """
    arguments = ["+verilator+rand+reset+2", "+verilator+seed+1", *(["+tell"] if told else [])]  # memories hold anything
    with told.open("w+b") if told else tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [str(simulator.resolve()), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        )
        try:
            yield Simulator(process, said)
        finally:
            process.kill()
            process.communicate()


@dataclass(frozen=True, eq=False)
class Report:
    """What a simulated design output for images, and how long it took."""

    scores: NDArray[np.int64]
    classes: NDArray[np.int64]
    latency: int  # cycles from the first read to the scores, of an image alone
    interval: int  # cycles from image to image in a stream, at its end
    counters: Counters
    cycles: int  # of the stream of all images but the first, pixels and scores included


def simulate(
    design: Path,
    images: NDArray[np.uint8],
    *,
    stalls: Stalls = Stalls(),
    simulator: Path | None = None,
    trust: bool = False,
    tell: runs.Tell = runs.silent,
) -> Report:
    """Run uint8 images [N, channels, height, width] through the simulated design and compare every score.

    The first image runs alone, the others in a stream. `simulator` is the design's where it is built already.
    VerificationError where a score or class differs from the Program's, where the ports break AXI4-Stream, or where
    the cycles are not those of the plan.
    """
    known = read(design)
    net = known.program
    with running(simulator or build(design, trust=trust, tell=tell)) as port:
        port.stall(stalls)
        accelerator = Accelerator(port, design)
        alone = accelerator.run(images[:1])
        latency = accelerator.counters().latency
        stream = accelerator.run(images[1:]) if len(images) > 1 else (alone[0][:0], alone[1][:0])
        scores, classes = (np.concatenate(both) for both in zip(alone, stream, strict=True))
        counters = accelerator.counters()
        report = Report(scores, classes, latency, counters.interval, counters, port.cycles)
        if port.broken:
            raise VerificationError(
                f"a beat of scores was changed or withdrawn {port.broken} times before it was taken"
            )
    compare(net, images, report)
    _check_cycles(report, known.cycles, len(images), pixels=images[0, 0].size, stalls=stalls)
    return report


def _check_cycles(report: Report, planned: Cycles, images: int, *, pixels: int, stalls: Stalls) -> None:
    if report.counters.images != images:
        raise VerificationError(f"{report.counters.images} images were counted, {images} were sent")
    if report.latency != planned.latency:
        raise VerificationError(f"an image took {report.latency:,} cycles, the plan says {planned.latency:,}")
    flows = not (stalls.pixels or stalls.scores) and planned.interval > pixels + report.scores.shape[1]
    if flows and images > 3 and report.interval != planned.interval:
        raise VerificationError(f"images came every {report.interval:,} cycles, the plan says {planned.interval:,}")


def compare(net: program.Program, images: NDArray[np.uint8], report: Report) -> None:
    """Raise VerificationError at the first score or class that is not the Program's."""
    wanted = program.run(net, images)
    if (wrong := np.argwhere(report.scores != wanted)).size:
        image, place = (int(x) for x in wrong[0])
        raise VerificationError(
            f"{len(wrong):,} of {wanted.size:,} scores differ; first image {image}, class {net.classes[place]}: "
            f"{report.scores[image, place]} instead of {wanted[image, place]}"
        )
    if (report.classes != wanted.argmax(1)).any():
        raise VerificationError("the scores agree, but a class is not the first of the largest")
