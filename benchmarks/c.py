"""The C of limbeck export: equal to the Program, and how fast.

python benchmarks/c.py equal --programs 300     random Programs; each is compiled by the next of the ways
python benchmarks/c.py speed NET.program NET.onnx ...    CPU time of one image in one thread, formats taking turns
"""

import argparse
import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from limbeck.c.write import Written, write
from limbeck.integer import file
from limbeck.integer.program import Program, run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

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


def speed(paths: list[str], rounds: int) -> None:
    """Take turns; the least CPU time of one image counts, for another process only adds to it."""
    for program_path, onnx_path in zip(paths[::2], paths[1::2], strict=True):
        program = file.load(program_path)
        image = np.random.default_rng(0).integers(0, 256, (1, *shape(program))).astype(np.uint8)
        with tempfile.TemporaryDirectory() as place:
            calls = {
                name: compiled(program, image, Path(place) / str(number), flags)
                for number, (name, flags) in enumerate(
                    {
                        "C, native": ("-O3", "-march=native"),
                        "C, AVX2": ("-O3", "-mavx2"),
                        "C, plain": ("-O3", "-march=native", "-DLIMBECK_PLAIN"),
                    }.items()
                )
            }
            calls["onnxruntime float32"] = session(onnx_path, image)
            calls["numpy"] = lambda program=program, image=image: run(program, image)
            best = dict.fromkeys(calls, float("inf"))
            for _ in range(rounds):
                for name, call in calls.items():
                    call()
                    best[name] = min(best[name], timed(call))
        print(
            f"{Path(program_path).stem}: " + ", ".join(f"{name} {ms:.3f} ms" for name, ms in best.items()), flush=True
        )


def shape(program: Program) -> tuple[int, int, int]:
    return program.input.channels, program.input.height, program.input.width


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


def session(path: str, image):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    made = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = made.get_inputs()[0].name
    return lambda: made.run(None, {name: image})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("equal", "speed"))
    parser.add_argument("files", nargs="*")
    parser.add_argument("--programs", type=int, default=300)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    if given.what == "equal":
        equal(given.programs, given.first)
    else:
        speed(given.files, given.rounds)


if __name__ == "__main__":
    main()
