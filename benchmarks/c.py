"""The C of limbeck export: equal to the Program, and how fast.

python benchmarks/c.py equal --programs 300     random Programs; each is compiled by the next of the ways
python benchmarks/c.py speed [NETS] [--onnx2c BINARY]    CPU time of one image in one thread, formats taking turns
python benchmarks/c.py peak             1x1 convolutions beside what the processor's int8 instruction can do
python benchmarks/c.py devices [NETS]    the same scores on x86-64, aarch64, riscv64 and Cortex-M; instructions, code
"""

import argparse
import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limbeck.c.write import Written, write
from limbeck.integer.graph import pixels as onnx_pixels
from limbeck.integer.lower import lower
from limbeck.integer.program import Conv, GlobalAverage, Input, Node, Program, Requant, run
from limbeck.nets import onnx, zoo

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
NETS = {  # channels, pixels, classes
    "dsodenet20": (1, 28, 10), "mlperf_resnet8": (3, 32, 10), "mlperf_mobilenetv1_025": (3, 96, 2),
    "mobilenetv2_100": (3, 224, 1000), "resnet18": (3, 224, 1000),
}  # fmt: skip

STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror")
STATIC = ("-std=c99", "-O2", "-static")
WAYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gcc -O0": (("gcc", *STRICT, "-O0"), ()),
    "gcc -O3 plain": (("gcc", *STRICT, "-O3", "-DLIMBECK_PLAIN"), ()),
    "gcc -O3 native": (("gcc", *STRICT, "-O3", "-march=native"), ()),
    "gcc -O3 AVX2": (("gcc", *STRICT, "-O3", "-mavx2"), ()),
    "gcc -O2 SSE4.1": (("gcc", *STRICT, "-O2", "-msse4.1"), ()),
    "clang -O0": (("clang", *STRICT, "-O0"), ()),
    "clang -O3 native": (("clang", *STRICT, "-O3", "-march=native"), ()),
    "g++": (("g++", "-x", "c++", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror"), ()),
    "gcc UBSan, ASan": (("gcc", "-std=c99", "-O1", "-fsanitize=undefined,address", "-fno-sanitize-recover=all"), ()),
    "aarch64 NEON": (("aarch64-linux-gnu-gcc", *STATIC), ("qemu-aarch64",)),
    "aarch64 dot products": (
        ("aarch64-linux-gnu-gcc", *STATIC, "-march=armv8.2-a+dotprod"), ("qemu-aarch64", "-cpu", "max"),
    ),
    "riscv64": (("riscv64-linux-gnu-gcc", *STATIC), ("qemu-riscv64",)),
}  # fmt: skip


def put(written: Written, folder: Path) -> Path:
    (folder / f"{written.name}.h").write_text(written.header)
    (folder / f"{written.name}.c").write_text(written.source)
    return folder / f"{written.name}.c"


def equal(programs: int, first: int) -> None:
    """Compile each random Program's self-test: three images of noise, every score."""
    from programs import random_program  # type: ignore[import-not-found]

    ways = {name: way for name, way in WAYS.items() if all(shutil.which(tool) for tool in (way[0][0], *way[1][:1]))}
    print(f"ways: {', '.join(ways)}", flush=True)
    done: Counter[str] = Counter()
    operations: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number in range(programs):
            program, _ = random_program(first + number // 2, bool(number % 2))
            name = list(ways)[number % len(ways)]
            command, emulator = ways[name]
            source = put(write(program, "net"), folder)
            subprocess.run([*command, "-DLIMBECK_SELFTEST", str(source), "-o", str(folder / "net")], check=True)
            subprocess.run([*emulator, str(folder / "net")], check=True, stdout=subprocess.DEVNULL)
            done[name] += 1
            operations.update(type(node.op).__name__ for node in program.nodes)
    print(f"{sum(done.values())} programs equal: {dict(done)}; nodes: {dict(operations)}")


def net_of(name: str) -> tuple[zoo.Classifier, Program, Tensor]:
    """Return a net of random weights as benchmarks/nets.py makes them, its 8-bit Program, and images."""
    from nets import lived_in  # type: ignore[import-not-found]

    channels, size, classes = NETS[name]
    net, images = lived_in(name, classes=tuple(map(str, range(classes))), channels=channels, size=size)
    return net, lower(net, images), images


def speed(names: list[str], rounds: int, onnx2c: str | None) -> None:
    """Take turns; the least CPU time of one image counts, for another process only adds to it."""
    torch.set_num_threads(1)
    for name in names:
        net, program, images = net_of(name)
        image = images[:1].numpy()
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            ways = {"C, native": ("-O3", "-march=native"), "C, AVX2": ("-O3", "-mavx2")}
            ways["C, plain"] = ("-O3", "-march=native", "-DLIMBECK_PLAIN")
            calls = {way: compiled(program, image, folder / str(k), ways[way]) for k, way in enumerate(ways)}
            onnx.export(net, folder / "net.onnx")
            onnx.quantise(folder / "net.onnx", folder / "8.onnx", onnx_pixels(net, images))
            if onnx2c is not None:
                calls["onnx2c"] = by_onnx2c(onnx2c, folder, image, len(program.classes))
            calls["onnxruntime float32"] = session(folder / "net.onnx", image)
            calls["onnxruntime int8"] = session(folder / "8.onnx", image)
            calls["PyTorch"] = partial(zoo.freeze(net, dtype="float32"), images[:1])
            calls["numpy"] = partial(run, program, image)
            best = dict.fromkeys(calls, float("inf"))
            with torch.inference_mode():
                for _ in range(rounds):
                    for way, call in calls.items():
                        call()
                        best[way] = min(best[way], timed(call))
        print(f"{name}: " + ", ".join(f"{way} {ms:.3f} ms" for way, ms in best.items()), flush=True)


def timed(call) -> float:
    start = time.thread_time()
    call()
    once = time.thread_time() - start
    count = max(1, int(0.02 / max(once, 1e-6)))
    start = time.thread_time()
    for _ in range(count):
        call()
    return (time.thread_time() - start) / count * 1e3


def compiled(program: Program, image, folder: Path, flags: tuple[str, ...]):
    folder.mkdir()
    library = folder / "net.so"
    source = put(write(program, "net"), folder)
    subprocess.run(["gcc", "-std=c99", *flags, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    call = ctypes.CDLL(str(library)).net_run
    call.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    pixels, scores = np.ascontiguousarray(image[0].transpose(1, 2, 0)), np.zeros(len(program.classes), np.int32)
    call(pixels.ctypes.data, scores.ctypes.data)
    assert (scores == run(program, image)[0]).all()
    return lambda: call(pixels.ctypes.data, scores.ctypes.data)


def session(path: Path, image):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = made.get_inputs()[0].name
    return lambda: made.run(None, {name: image})


def by_onnx2c(tool: str, folder: Path, image, classes: int):
    """Return a call of onnx2c's float C; it refuses two attributes that mean nothing here."""
    import onnx as files

    model = files.load(folder / "net.onnx")
    for node in model.graph.node:
        for attribute in [a for a in node.attribute if a.name in ("noop_with_empty_axes", "allowzero")]:
            node.attribute.remove(attribute)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    files.save(model, folder / "plain.onnx")
    with (folder / "onnx2c.c").open("wb") as source:
        subprocess.run([tool, str(folder / "plain.onnx")], stdout=source, stderr=subprocess.DEVNULL, check=True)
    flags = ["-std=gnu99", "-O3", "-march=native", "-w", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, str(folder / "onnx2c.c"), "-lm", "-o", str(folder / "onnx2c.so")], check=True)
    call = ctypes.CDLL(str(folder / "onnx2c.so")).entry
    call.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    pixels, logits = np.ascontiguousarray(image), np.zeros((1, classes), np.float32)
    call(pixels.ctypes.data, logits.ctypes.data)
    assert np.allclose(logits, session(folder / "net.onnx", image)()[0], rtol=1e-3, atol=1e-3)
    return lambda: call(pixels.ctypes.data, logits.ctypes.data)


CORTEX = ("-std=gnu99", "-ffunction-sections", "--specs=nano.specs", "--specs=nosys.specs", "-nostartfiles")
CORTEX += ("-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments", f"-Wl,-T,{HERE / 'device' / 'mps2.ld'}")
BOARDS = {  # qemu has no board with a Cortex-M0+ and this much memory: a Cortex-M3 runs its code
    "cortex-m0plus": "mps2-an385", "cortex-m4": "mps2-an386", "cortex-m7": "mps2-an500",
}  # fmt: skip
QEMU = ("-icount", "shift=0", "-nographic", "-monitor", "none", "-serial", "null", "-semihosting-config")


def devices(names: list[str]) -> None:
    """Compare the hash of scores on every kind of processor, and count instructions and bytes of code."""
    for name in names:
        _, program, _ = net_of(name)
        written, expected = write(program, "net"), hashed(program)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            sources = [str(put(written, folder)), str(HERE / "device" / "main.c")]
            found = {}
            for way in ("gcc -O3 plain", "gcc -O3 native", "aarch64 NEON", "aarch64 dot products", "riscv64"):
                (command, emulator), binary = WAYS[way], str(folder / "net")
                subprocess.run([*command, "-Wno-error", f"-I{folder}", *sources, "-o", binary], check=True)
                found[way] = said([*emulator, binary])
            for cpu, board in BOARDS.items():
                for level in ("-Os", "-O2"):
                    way, binary = f"{cpu} {level}", str(folder / "net.elf")
                    command = ["arm-none-eabi-gcc", f"-mcpu={cpu}", "-mthumb", level, f"-I{folder}"]
                    start = str(HERE / "device" / "start.c")
                    subprocess.run([*command, *CORTEX, *sources, start, "-o", binary], check=True)
                    emulator = ["qemu-system-arm", "-M", board, *QEMU, "enable=on,target=native", "-kernel", binary]
                    found[way] = said(emulator)
                    subprocess.run([*command, "-std=c99", "-c", sources[0], "-o", binary], check=True)
                    count = int(found[way]["instructions"])
                    print(f"{name}, {way}: {count:,} instructions, {code_of(binary):,} bytes of code")
        wrong = [way for way, values in found.items() if values["scores"] != expected]
        assert not wrong, wrong
        needs = f"{written.tables:,} bytes of tables, {written.arena:,} of RAM"
        print(f"{name}: scores {expected} on {', '.join(found)}; {needs}", flush=True)


PEAK = """#include <time.h>
double peak(void)
{
    struct timespec a, b;
    long k;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (k = 0; k < 1000000; k++)
        __asm volatile("%s" ::: %s);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    return 16e6 * 64 / ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec));
}
"""


def pointwise(channels: int, layers: int) -> Program:
    """Return `layers` 1x1 convolutions of 14x14 pixels, between what makes their channels and the scores."""
    rng, tensors, nodes, name = np.random.default_rng(0), {}, [], "input"
    sizes = [3, *[channels] * (layers + 1)]
    for k, (ins, outs) in enumerate(pairwise(sizes)):
        tensors |= {f"w{k}": rng.integers(-100, 100, (outs, ins, 1, 1)), f"m{k}": np.full(outs, 40_000)}
        tensors[f"o{k}"] = np.zeros(outs, np.int64)
        requant = Requant(f"o{k}", f"m{k}", 25, 8, relu=True)
        nodes.append(Node(f"n{k}", (name,), Conv(f"w{k}", 8, 1, 1, (0, 0, 0, 0), requant), (1.0,)))
        name = f"n{k}"
    nodes.append(Node("mean", (name,), GlobalAverage(replace(requant, shift=24)), (1.0,)))
    return Program(Input(3, 14, 14), tensors, tuple(nodes), tuple(map(str, range(channels))))


def peak(rounds: int) -> None:
    """Compare pointwise convolutions with what vpdpbusd can do: 16 sums in registers, nothing loaded or stored."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        lines = "".join(f"vpdpbusd %%zmm31, %%zmm31, %%zmm{k}\\n" for k in range(16))
        used = ", ".join(f'"xmm{k}"' for k in (*range(16), 31))
        (folder / "peak.c").write_text(PEAK % (lines, used))
        library = folder / "peak.so"
        subprocess.run(
            ["gcc", "-O2", "-march=native", "-shared", "-fPIC", str(folder / "peak.c"), "-o", str(library)], check=True
        )
        most = ctypes.CDLL(str(library)).peak
        most.restype = ctypes.c_double
        image = np.random.default_rng(0).integers(0, 256, (1, 3, 14, 14)).astype(np.uint8)
        for channels in (32, 64, 128, 256):
            calls = [
                compiled(pointwise(channels, layers), image, folder / f"{channels}-{layers}", ("-O3", "-march=native"))
                for layers in (0, 8)
            ]
            best = [float("inf"), float("inf"), 0.0]
            for _ in range(rounds):
                best = [min(best[0], timed(calls[0])), min(best[1], timed(calls[1])), max(best[2], most())]
            rate = 8 * channels**2 * 14**2 / (best[1] - best[0]) / 1e6
            print(f"{channels} channels: {rate:.0f} of {best[2]:.0f} GMAC/s, {rate / best[2]:.0%}", flush=True)


def said(command: list[str]) -> dict[str, str]:
    """Return what the program prints, as words and values; qemu's semihosting prints to stderr."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(line.split() for line in (done.stdout + done.stderr).splitlines())


def code_of(binary: str) -> int:
    """Return the bytes of machine code, without tables."""
    sizes = subprocess.run(["arm-none-eabi-size", "-A", binary], capture_output=True, text=True, check=True).stdout
    return sum(int(line.split()[1]) for line in sizes.splitlines() if line.startswith(".text"))


def hashed(program: Program) -> str:
    """Return what device/main.c prints of the Program's scores: FNV-1a, of 4 images of noise."""
    i, state, found = program.input, 1, 2166136261
    size = i.channels * i.height * i.width
    images = np.empty((4, size), np.uint8)
    for pixels in images:
        for k in range(size):
            state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
            pixels[k] = state >> 24
    shaped = np.ascontiguousarray(images.reshape(-1, i.height, i.width, i.channels).transpose(0, 3, 1, 2))
    for score in run(program, shaped).reshape(-1).tolist():
        found = ((found ^ (score & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return f"{found:08x}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("equal", "speed", "devices", "peak"))
    parser.add_argument("nets", nargs="*")
    parser.add_argument("--programs", type=int, default=300)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--onnx2c", help="onnx2c's binary, built from github.com/kraiskil/onnx2c")
    given = parser.parse_args()
    match given.what:
        case "equal":
            equal(given.programs, given.first)
        case "speed":
            speed(given.nets or list(NETS), given.rounds, given.onnx2c)
        case "peak":
            peak(given.rounds)
        case _:
            devices(given.nets or ["dsodenet20", "mlperf_resnet8", "mlperf_mobilenetv1_025"])


if __name__ == "__main__":
    main()
