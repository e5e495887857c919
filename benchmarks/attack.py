"""The attack of tests/test_attack.py at full size. Each kind prints what came of its tries, counted.

python benchmarks/attack.py bytes --tries 8000 --seed 1     # damaged and mutated files, read as verbs read them
python benchmarks/attack.py flips --tries 2000 --seed 1     # one bit of what is sealed
python benchmarks/attack.py kills --tries 60 --seed 1       # kill -9 at any moment, and the command that goes on
python benchmarks/attack.py signals --tries 30 --seed 1     # SIGINT, SIGTERM, SIGHUP at any moment
python benchmarks/attack.py disk --tries 40 --seed 1        # a disk with any room left (root alone: it mounts one)
python benchmarks/attack.py overwrite --tries 800 --seed 1  # every --out against every kind of thing, oddly spelt
python benchmarks/attack.py requests --tries 600 --seed 1   # what strangers send to limbeck serve
python benchmarks/attack.py memory                          # peaks of processes that are given large inputs
"""

import argparse
import contextlib
import csv
import gzip
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from kinds_of_things import CLASSES, everything, snapshot
from test_artefacts import WRITES, words
from test_attack import READERS, mutated

from limbeck import flags, recipe, runs
from limbeck.artefacts import readers
from limbeck.artefacts.kinds import kind_of
from limbeck.cli import function_of, main
from limbeck.errors import InputError
from limbeck.images.idx import read_idx
from limbeck.images.images import decoding, headers, open_image
from limbeck.nets import zoo
from limbeck.nets.weights import read_weights
from limbeck.ui.shift import SLIDERS

LONG = 10.0  # seconds
PICTURES = {"jpg": "RGB", "png": "RGBA", "tif": "I;16", "gif": "P", "webp": "RGB", "bmp": "RGB", "jp2": "RGB"}


# ---- bytes ------------------------------------------------------------------------------------------------


def picture(path: Path) -> object:
    """Return the pixels of an image file, as a data set's are read."""
    (header,) = headers([path])
    if isinstance(header, str):
        raise InputError(header)
    with decoding(str(path)):
        return np.asarray(open_image(path.read_bytes(), 3)).tolist()


def reported(path: Path) -> object:
    """Make the report of a run."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if main(["report", str(path.parent), "--no-latency", "--out", str(path.parents[1] / "r.html")]):
            raise InputError("refused")
    return None


UNSEALED: dict[str, Callable[[Path], object]] = {
    **{f"picture.{ending}": picture for ending in PICTURES},
    "images-idx3-ubyte.gz": lambda path: read_idx(path, 3).tolist(),
    "weights.pt": lambda path: [(key, value.tolist()) for key, value in read_weights(path)[0].items()],
    "recipe.toml": lambda path: recipe.read(path, "distill", flags.kinds(function_of("distill"))),
    "run/recipe.toml": lambda path: readers.read(path.parent).recipe,
    "run/metrics.jsonl": readers.history,
    "run/results.json": reported,
    "run/environment.json": reported,
    "published/config.json": lambda path: zoo.load(f"local-dir:{path.parent}").classes,
}


def write_unsealed(folder: Path) -> None:
    """Write one of each file that has no check sum."""
    grid = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    for ending, mode in PICTURES.items():
        grey = Image.fromarray(grid[..., 0].astype(np.uint16) * 257)
        (grey if mode == "I;16" else Image.fromarray(grid).convert(mode)).save(folder / f"picture.{ending}")
    head = bytes([0, 0, 8, 3]) + b"".join(side.to_bytes(4, "big") for side in (3, 24, 24))
    (folder / "images-idx3-ubyte.gz").write_bytes(gzip.compress(head + grid.tobytes()))
    net = zoo.load(str(folder / "run")).net
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, folder / "weights.pt")
    shutil.copy(runs.RECIPES / "mealv2_resnet18.toml", folder / "recipe.toml")
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["push", str(folder / "run"), "--to", f"local-dir:{folder / 'published'}"]) == 0


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return the bytes with a flipped bit, a changed byte, a cut, a copied stretch, or something in between."""
    place = chance.randrange(len(data))
    match chance.randrange(5):
        case 0:
            return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
        case 1:
            return data[:place] + chance.randbytes(1) + data[place + 1 :]
        case 2:
            return data[:place]
        case 3:
            return data[:place] + data[: chance.randrange(1, 99)] + data[place:]
        case _:
            return data[:place] + data[place + chance.randrange(1, 99) :]


def attempt(path: Path, read: Callable[[Path], object], expected: object, change: Callable[[], str]) -> str:
    """Have `change` change the file and say how; read it, put it back, and return what came of it."""
    whole = path.read_bytes()
    how, begun = change(), time.monotonic()
    try:
        if path.read_bytes() == whole:
            result = "unchanged"
        else:
            result = f"{how}, read to the same" if read(path) == expected else f"{how}, read to another"
    except InputError:
        result = "refused"
    except Exception as error:
        print(f"{path.name}, {how}: {type(error).__name__}: {error}", file=sys.stderr)
        result = "TRACEBACK"
    path.write_bytes(whole)
    return "LONG" if time.monotonic() - begun > LONG else result


def attack_bytes(place: Path, tries: int, chance: random.Random) -> None:
    warnings.simplefilter("ignore")  # Pillow's, of odd metadata
    write_unsealed(place)
    every = READERS | UNSEALED
    expected = {name: read(place / name) for name, read in every.items()}
    counts = {name: Counter[str]() for name in every}

    def change(path: Path) -> str:
        if path.suffix == ".json" and chance.random() < 0.5:
            document = mutated(runs.read_json(path), chance)
            (runs.write_sealed if chance.random() < 0.7 else runs.write_json)(path, document)
            return "sealed anew"
        path.write_bytes(damaged(path.read_bytes(), chance))
        return "damaged"

    names = [name for name in every for _ in range(1 if every[name] is reported else 20)]  # a report takes long
    for number in range(tries):
        name = names[number % len(names)]
        path = place / name
        counts[name][attempt(path, every[name], expected[name], lambda path=path: change(path))] += 1
    show(counts)


def attack_flips(place: Path, tries: int, chance: random.Random) -> None:
    counts = {name: Counter[str]() for name in READERS}
    expected = {name: read(place / name) for name, read in READERS.items()}

    def flip(path: Path) -> str:
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        return "flipped"

    for number in range(tries):
        name = list(READERS)[number % len(READERS)]
        path = place / name
        counts[name][attempt(path, READERS[name], expected[name], lambda path=path: flip(path))] += 1
    show(counts)


def show(counts: dict[str, Counter[str]]) -> None:
    for name, found in counts.items():
        print(f"{name}: {', '.join(f'{count:,} {what}' for what, count in sorted(found.items()))}")
    total = sum(counts.values(), Counter[str]())
    print(f"all {total.total():,}: {', '.join(f'{count:,} {what}' for what, count in sorted(total.items()))}")


# ---- processes --------------------------------------------------------------------------------------------

TRAINED = ("model.safetensors", "metrics.csv")
VERBS = {  # what each writes, and what of it must be the same after all
    "teach": ("teach --data {photos} --model resnet8 --arguments width=4 --epochs 4 --batch 4", TRAINED),
    "label": ("label --data {photos} --teachers {run} --weak-teachers --views 40", ("labels.json", "shard-00000.bin")),
    "distill": (
        "distill --data {photos} --student resnet8 --arguments width=4 --labels {labels} --epochs 4 --batch 4", TRAINED
    ),
    "adapt": ("adapt {run} --source-free --target {photos} --epochs 2 --batch 4", TRAINED),
    "quantize": ("quantize {run} --data {photos} --calibration 16", ("x.program",)),
    "export": ("export {run} --data {photos}", ("x.onnx",)),
    "compile": ("compile {net.program} --max-dsp 60", ("design.json", "memories/weight0.mem", "net.program")),
    "evaluate": ("evaluate {run} --data {photos}", ("predictions.csv", "confusion.csv")),
    "report": ("report {run} --no-latency", ("x.html",)),
    "steps": ("steps {ode} --data {photos} --steps 1 2", ("1/model.safetensors", "2/model.safetensors")),
    "predict": ("predict {run} {photos}", ("x.csv",)),
    "bench": ("bench {run} --data {photos} --formats pytorch --rounds 2 --batch 1 4", ("x.csv",)),
    "zero-shot": ("zero-shot local-dir:{clip} --classes cat dog", ("model.safetensors", "recipe.toml")),
    "push": ("push {run} --to", ("model.safetensors", "config.json", "README.md")),
    "auto": ("auto {bright} --teachers {taught} --student resnet8 --minutes 0.1 --out", ("auto.json", "report.html")),
}  # fmt: skip
FILES = {"quantize": "x.program", "export": "x.onnx", "report": "x.html", "predict": "x.csv", "bench": "x.csv"}
RESUMED = ("teach", "distill", "adapt")
ONCE = ("steps", "predict", "bench", "zero-shot", "push")  # replace nothing
READ = ("teach", "label", "distill", "adapt", "quantize", "export", "evaluate", "steps", "bench")


def write_more(place: Path) -> None:
    """Write a net with ODE blocks, a text–image model, and photos of four shades with a net that tells them apart."""
    torch.manual_seed(0)
    zoo.save(zoo.create("dsodenet20", classes=CLASSES, channels=3, size=8), place / "ode")
    from test_zeroshot import saved

    saved(place / "clip")
    for split in ("train", "val"):
        for shade, name in enumerate(CLASSES):
            (place / "bright" / split / name).mkdir(parents=True)
            for i in range(6):
                path = place / "bright" / split / name / f"{i}.png"
                Image.new("RGB", (8, 8), (80 * shade, 80 * shade, 10 * i + len(split))).save(path)
    words = f"teach --data {place}/bright --model resnet8 --epochs 20 --batch 8 --workers 0 --out {place}/taught"
    assert ended(begun(words.split(), place / "log")) == 0  # autograd in this process would keep it from forking


def command(verb: str, place: Path, out: Path) -> list[str]:
    words = re.sub(r"\{(.*?)\}", lambda found: str(place / found[1]), VERBS[verb][0]).split()
    where = str(out / FILES.get(verb, "out"))
    if verb == "push":
        return [*words, f"local-dir:{where}"]
    return [*words, *(["--workers", "0"] if verb in READ else []), *([] if verb == "auto" else ["--out"]), where]


def begun(arguments: list[str], log: Path) -> int:
    """Have a process run the command, return its number. Most are forks of this one, which has loaded torch; not so
    those that train more than once, as torch's pool of threads bears no fork."""
    if arguments[0] == "auto":
        with log.open("ab") as file:
            command_line = [sys.executable, "-m", "limbeck", *arguments]
            return subprocess.Popen(command_line, stdout=file, stderr=file, start_new_session=True).pid
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    code = 99
    with contextlib.suppress(BaseException):
        code = main(arguments)
    sys.stdout.flush()
    os._exit(code)


def ended(pid: int) -> int:
    """Return the exit code of the process, or minus its signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def content(verb: str, out: Path) -> list[bytes]:
    """Return what the verb wrote, of what must be the same: all but times, and what is chosen by them."""
    found = {name: out / name if verb in FILES else out / "out" / name for name in VERBS[verb][1]}
    if verb == "auto":
        assert found["report.html"].stat().st_size > 10_000
        return [" ".join(runs.read_json(found["auto.json"])["done"]).encode()]
    if verb == "bench":
        with found["x.csv"].open() as file:
            return [f"{row['model']} {row['format']} {row['top1']}".encode() for row in csv.DictReader(file)]
    masked = rb"20..-..-.. ..:..( UTC|:\d\d)?|local-dir:\S+|out = .*"
    return [re.sub(masked, b"", path.read_bytes()) for path in found.values()]


def whole(place: Path, scratch: Path) -> tuple[dict[str, list[bytes]], dict[str, float]]:
    """Run each verb undisturbed, twice: what it writes, and the seconds that it takes when all is warm."""
    written, seconds = {}, {}
    for verb in VERBS:
        for turn in range(2):
            out = scratch / f"{verb}-{turn}"
            out.mkdir(parents=True)
            since = time.monotonic()
            assert ended(begun(command(verb, place, out), scratch / "log")) == 0, (verb, (scratch / "log").read_text())
            seconds[verb] = time.monotonic() - since
            before, written[verb] = written.get(verb), content(verb, out)
            assert turn == 0 or before == written[verb], f"{verb} writes other bytes the second time"
    return written, seconds


def attack_processes(place: Path, tries: int, chance: random.Random, signals: tuple[signal.Signals, ...]) -> None:
    """Disturb each verb at random moments; go on by the same command, or with --resume; compare what it wrote."""
    scratch = place / "scratch"
    scratch.mkdir()
    expected, seconds = whole(place, scratch)
    counts = {verb: Counter[str]() for verb in VERBS}
    slowest = 0.0
    for number in range(tries):
        verb = list(VERBS)[number % len(VERBS)]
        out = scratch / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        log, arguments = scratch / f"log-{number}", command(verb, place, out)
        pid = begun(arguments, log)
        time.sleep(chance.random() * seconds[verb])
        number_of = chance.choice(signals)
        since = time.monotonic()
        os.kill(pid, number_of)
        code = ended(pid)
        waited = time.monotonic() - since
        if code != 0:
            slowest = max(slowest, waited)
        if number_of != signal.SIGKILL and code not in (0, 130):
            counts[verb][f"EXIT {code}"] += 1
        if code != 0 and not (verb in ONCE and (out / FILES.get(verb, "out")).exists()):
            again = (
                [*arguments, "--resume"] if verb in RESUMED and (out / "out" / "recipe.toml").exists() else arguments
            )
            code = ended(begun(again, log))
            counts[verb]["went on"] += 1
        else:
            code = 0
            counts[verb]["was done already"] += 1
        left = [path.name for path in out.rglob("*") if path.name.startswith(".partial-")]
        if "Traceback" in log.read_text() or code != 0:
            print(f"{verb}: {log.read_text()}", file=sys.stderr)
            counts[verb][f"FAILED {code}"] += 1
        elif content(verb, out) != expected[verb]:
            counts[verb]["OTHER BYTES"] += 1
        elif left:
            counts[verb]["PARTS LEFT"] += 1
        else:
            counts[verb]["the same bytes"] += 1
    show(counts)
    print(f"slowest end after a signal: {slowest:.1f} s")


def attack_disk(place: Path, tries: int, chance: random.Random) -> None:
    """Give verbs a disk with little room: they end well or with a sentence, and leave nothing half-written."""
    scratch, disk = place / "scratch", place / "disk"
    scratch.mkdir()
    disk.mkdir()
    whole(place, scratch)
    counts = {verb: Counter[str]() for verb in VERBS}
    for number in range(tries):
        verb = list(VERBS)[number % len(VERBS)]
        taken = sum(path.stat().st_size for path in (scratch / f"{verb}-1").rglob("*") if path.is_file())
        room = max(1, int(chance.random() * 1.1 * taken) >> 12) << 12
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(disk)], check=True)
        log = scratch / f"log-{number}"
        try:
            code = ended(begun(command(verb, place, disk), log))
            text = log.read_text()
            left = [path.name for path in disk.rglob("*") if path.name.startswith(".partial-")]
            if code in (0, 2) and "Traceback" not in text and not left:
                counts[verb]["done" if code == 0 else "a sentence"] += 1
            else:
                print(f"{verb}, {room:,} bytes: {code} {left} {text}", file=sys.stderr)
                counts[verb]["FAILED"] += 1
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    show(counts)


# ---- overwriting ------------------------------------------------------------------------------------------


def spelt(path: Path, chance: random.Random) -> str:
    """Return the path in one of the ways that people write it."""
    plain = str(path)
    match chance.randrange(6):
        case 0:
            return os.path.relpath(plain)
        case 1:
            return f"{plain}/"
        case 2:
            return f"{path.parent}/./{path.name}"
        case 3:
            return f"{path.parent}/nowhere/../{path.name}"
        case 4:
            return f"{plain}/new{chance.choice(['', '.program', '.onnx', '.html', '.c', '.csv'])}"
        case _:
            return plain


def attack_overwrite(place: Path, tries: int, chance: random.Random) -> None:
    """Have verbs write where something lies; whatever it is, it stays, byte for byte."""
    there = {path.name: path for path in sorted(place.iterdir())}
    counts = {verb: Counter[str]() for verb in WRITES}
    os.chdir(place / "folder")
    before = snapshot(place)
    for number in range(tries):
        verb = list(WRITES)[number % len(WRITES)]
        start, last = words(verb, {**there, "data": there["photos"], "program": there["net.program"]})
        target = spelt(chance.choice(list(there.values())), chance)
        arguments = [*start, f"{last}{target}"] if last.endswith(":") else [*start, last, target]
        log = place.parent / "log"
        log.write_bytes(b"")
        code = ended(begun(arguments, log))
        found, text = snapshot(place), log.read_text(errors="replace")
        if "Traceback" in text or code not in (0, 2):
            print(f"{arguments}: {code} {text}", file=sys.stderr)
            counts[verb][f"FAILED {code}"] += 1
            continue
        gone = [name for name, what in before.items() if found.get(name) != what]
        counts[verb]["refused" if code else "made anew"] += 1
        if gone and not (code == 0 and ours(verb, Path(target))):
            print(f"{arguments}: {gone[:3]}", file=sys.stderr)
            counts[verb]["CHANGED"] += 1
        for name in sorted(found.keys() - before.keys(), reverse=True):
            counts[verb]["LEFT BY A REFUSAL"] += code != 0
            (place / name).rmdir() if (place / name).is_dir() else (place / name).unlink()
        if gone:
            before = snapshot(place)
    show({verb: +found for verb, found in counts.items()})


def ours(verb: str, target: Path) -> bool:
    """Whether the verb may make anew what lies there: its own kind, as it was written."""
    kinds = {"report": "report", "evaluate": "evaluation", "quantize": "Program", "export": "ONNX file", "c": "C file",
             "compile": "Design", "label": "label store"}  # fmt: skip
    return kind_of(target) == kinds.get(verb)


# ---- requests ---------------------------------------------------------------------------------------------


def attack_requests(place: Path, tries: int, chance: random.Random) -> None:
    """Send what strangers may send; every answer is one, and at the end the page classifies as it did."""
    from serving import served

    from limbeck.ui.opened import opened

    good = (place / "photos" / "val" / "a" / "0.png").read_bytes()
    counts = {name: Counter[str]() for name in ("bodies", "queries", "raw bytes", "half open")}
    with opened((str(place / "run"),), data=str(place / "photos")) as page, served(page) as port:

        def sent(raw: bytes, patience: float = LONG) -> bytes:
            """Send bytes; return what comes back until the server or patience ends it."""
            with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
                connection.sendall(raw)
                answer = b""
                with contextlib.suppress(TimeoutError, ConnectionResetError):
                    while part := connection.recv(1 << 16):
                        answer += part
                return answer

        def asked(body: bytes, query: str = "") -> bytes:
            head = f"POST /answers{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body

        first = [json.loads(line)["top"] for line in sent(asked(good)).splitlines() if line.startswith(b'{"voice"')]
        for number in range(tries):
            kind = list(counts)[number % len(counts)]
            begun_at = time.monotonic()
            match kind:
                case "bodies":
                    answer = sent(asked(damaged(good, chance) if number % 3 else chance.randbytes(999)))
                case "queries":
                    name, value = chance.choice([*SLIDERS, "sample", "draw", "x"]), chance.randbytes(6)
                    query = f"?{name}={urllib.parse.quote(value)}" if number % 3 else f"?{name}={chance.random()}"
                    answer = sent(asked(good, query))
                case "raw bytes":
                    answer = sent(damaged(asked(good), chance), patience=1.0)
                case _:
                    with socket.create_connection(("127.0.0.1", port)) as connection:
                        connection.sendall(asked(good)[: chance.randrange(90)])
                    answer = b"HTTP/1.1 closed"
            status = answer[9:12].decode(errors="replace") if answer.startswith(b"HTTP/1.1 ") else "no answer"
            bad = status.startswith("5") or b"Traceback" in answer or time.monotonic() - begun_at > LONG
            if bad:
                print(f"{kind}: {answer[:300]!r}", file=sys.stderr)
            counts[kind]["FAILED" if bad else status] += 1
        last = [json.loads(line)["top"] for line in sent(asked(good)).splitlines() if line.startswith(b'{"voice"')]
        assert first == last != [], "the page answers otherwise than before"
    show(counts)


# ---- memory -----------------------------------------------------------------------------------------------


def peak(arguments: list[str], log: Path) -> tuple[int, float]:
    """Run a command in a process of its own; return its exit code and its peak in GiB."""
    code = (
        "import resource, sys; from limbeck.cli import main; code = main(sys.argv[2:]); "
        "open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)); sys.exit(code)"
    )
    kibibytes = log.with_name("peak")
    kibibytes.write_text("0")
    with log.open("ab") as file:
        command = [sys.executable, "-c", code, str(kibibytes), *arguments]
        done = subprocess.run(command, stdout=file, stderr=file, check=False)
    return done.returncode, int(kibibytes.read_text()) / 2**20


def attack_memory(place: Path) -> None:
    log = place / "log"

    def said(what: str, arguments: list[str]) -> None:
        before = log.stat().st_size if log.exists() else 0
        code, gibibytes = peak(arguments, log)
        last = [line for line in log.read_bytes()[before:].decode().splitlines() if line.startswith("limbeck ")]
        print(f"{what}: {gibibytes:.2f} GiB, exit code {code}{': ' + last[-1][:150] if last else ''}", flush=True)

    said("evaluate, 24 images of 8 pixels", ["evaluate", str(place / "run"), "--data", str(place / "photos")])
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1500, 3), dtype=np.uint8)
    for name, (times, copies) in {"eight of 48 megapixels": (5, 8), "one of 88 megapixels": (8, 1)}.items():
        folder = place / name.replace(" ", "-")
        side = np.tile(noise, (times, times, 1))[: 7_300 if times == 8 else None, :]
        for split in ("train", "val"):
            for label in "ab":
                (folder / split / label).mkdir(parents=True)
                Image.fromarray(noise[:300, :300]).save(folder / split / label / "small.jpg")
        for copy in range(copies):
            Image.fromarray(np.roll(side, copy)).save(folder / "train" / "a" / f"{copy}.jpg")
        said(f"data, {name} ({side.shape[0]} x {side.shape[1]})", ["data", str(folder)])
        said(
            f"teach, {name}",
            ["teach", "--data", str(folder), "--model", "resnet8", "--size", "64", "--epochs", "1", "--batch", "2",
             "--workers", "0", "--out", str(folder) + "-run"],
        )  # fmt: skip
        shutil.rmtree(folder)
    giant = place / "giant"
    shutil.copytree(place / "run", giant)
    document = runs.read_json(giant / "model.json")
    runs.write_sealed(giant / "model.json", {**document, "arguments": {"width": 4096}})
    said("a run whose model.json names a giant net", ["evaluate", str(giant), "--data", str(place / "photos")])
    import onnx

    large = onnx.helper.make_graph(
        [onnx.helper.make_node("ConstantOfShape", ["shape"], ["logits"])], "g",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, [None, 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)],
        [onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [1 << 16, 1 << 15])],
    )  # fmt: skip
    (place / "large.onnx").write_bytes(onnx.helper.make_model(large).SerializeToString())
    said(
        "an ONNX file of 1 kB with a giant value",
        ["evaluate", str(place / "large.onnx"), "--data", str(place / "photos")],
    )
    idx = place / "idx"
    idx.mkdir()
    head = bytes([0, 0, 8, 3]) + b"".join(side.to_bytes(4, "big") for side in (4_000_000, 28, 28))
    with gzip.open(idx / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(head)
        for _ in range(3100):
            file.write(bytes(1 << 20))
    with gzip.open(idx / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(bytes([0, 0, 8, 1]) + (4_000_000).to_bytes(4, "big") + bytes(4_000_000))
    said("IDX.gz of 3 MB that unpacks to 3 GB", ["data", str(idx)])
    many = place / "many"
    for number in range(10_000):
        (many / "train" / f"{number:05}").mkdir(parents=True)
        Image.fromarray(noise[:8, :8]).save(many / "train" / f"{number:05}" / "0.png")
        (many / "val" / f"{number:05}").mkdir(parents=True)
        Image.fromarray(noise[:8, :8]).save(many / "val" / f"{number:05}" / "0.png")
    torch.manual_seed(0)
    net = zoo.create(
        "resnet8", classes=tuple(f"{n:05}" for n in range(10_000)), channels=3, size=8, arguments={"width": 4}
    )
    zoo.save(net, place / "wide")
    said("evaluate, 10,000 classes", ["evaluate", str(place / "wide"), "--data", str(many)])
    said(
        "evaluate --out, 10,000 classes",
        ["evaluate", str(place / "wide"), "--data", str(many), "--out", str(place / "e")],
    )


def main_attack() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "kind", choices=["bytes", "flips", "kills", "signals", "disk", "overwrite", "requests", "memory"]
    )
    parser.add_argument("--verbs", nargs="+", default=list(VERBS), choices=list(VERBS), help="to disturb")
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    chance = random.Random(given.seed)
    for verb in VERBS.keys() - set(given.verbs):
        del VERBS[verb]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "there"
        everything(place)
        write_more(place)
        match given.kind:
            case "bytes":
                attack_bytes(place, given.tries, chance)
            case "flips":
                attack_flips(place, given.tries, chance)
            case "kills":
                attack_processes(place, given.tries, chance, (signal.SIGKILL,))
            case "signals":
                attack_processes(place, given.tries, chance, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
            case "overwrite":
                attack_overwrite(place, given.tries, chance)
            case "requests":
                attack_requests(place, given.tries, chance)
            case "disk":
                attack_disk(place, given.tries, chance)
            case _:
                attack_memory(place)


if __name__ == "__main__":
    main_attack()
