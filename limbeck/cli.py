"""limbeck VERB ...: argv becomes a verb's keywords, what it returns is printed. Alone prints, exits and handles
Ctrl-C."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import limbeck
from limbeck import flags, recipe
from limbeck.errors import InputError, VerificationError, first_line, shown
from limbeck.flags import SHELLS, function_of, parse
from limbeck.results import Result
from limbeck.runs import Tell, to_toml
from limbeck.terminal import after, folded, table

VERBS = (
    "data", "teach", "zero-shot", "audit", "label", "merge-labels", "verify-labels", "distill", "adapt", "evaluate",
    "steps", "predict", "quantize", "export", "push", "compile", "simulate", "report", "bench", "serve", "auto", "demo",
    "zoo", "doctor", "info",
)  # fmt: skip
# Read by libgomp when a verb loads torch: threads that wait for each other sleep after so many spins. Its own 300,000
# make training on a busy machine many times slower (benchmarks/busy.py).
SPINS = "2000"
PATIENCE = 5.0  # seconds that a signal waits for a safe moment; Docker kills ten seconds after its SIGTERM
HELP = f"""Limbeck {limbeck.__version__}: distil big image classifiers into small ones.

Examples:
  limbeck demo
  limbeck auto photos/ --for pi
  limbeck data photos/
  limbeck teach --data photos/ --model resnet20 --size 64 --out runs/t1
  limbeck distill --data photos/ --student dsodenet20 --teachers runs/t1 runs/t2 --out runs/s
  limbeck predict runs/s photo.jpg

Usage: limbeck VERB ... | limbeck VERB --help

%s

Every verb:
  -c recipe.toml        start from a recipe's settings, a file or a name in limbeck zoo; flags override them
  --print-config        print the settings that a command would have, as a recipe, and stop
  --json                print the result as JSON, which a pipe or file gets anyway
  --quiet               print neither progress nor tables

Without a verb:
  --version             print the version
  --completion SHELL    print what completes verbs and flags in {", ".join(SHELLS)}: source <(limbeck --completion bash)
"""


def main(argv: list[str] | None = None) -> int:
    """Run `limbeck argv`; return the exit code: 0 done, 2 bad input, 3 a check failed, 130 interrupted, 141 the reader
    of stdout or stderr has gone."""
    arguments = sys.argv[1:] if argv is None else argv
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    _mend_streams()
    warnings.filterwarnings("ignore", module="PIL")  # of odd metadata: what can't be decoded is raised
    try:
        with _ended_by_signals():
            code = _answer(arguments)
            sys.stdout.flush()
    except KeyboardInterrupt:  # outside of a verb
        return _fail(" ".join(arguments[:1]), "interrupted", 130)
    except BrokenPipeError:  # limbeck --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it exits
        return 141
    except OSError as error:  # of a verb they are sentences by now: stdout is on a disk that is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(" ".join(arguments[:1]), f"cannot write to stdout: {error.strerror or error}", 2)
    return code


def _mend_streams() -> None:
    """Make print() safe: a closed stream swallows what it gets, and what a stream can't encode is shown as escapes."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # else the next file opened would be taken for the stream
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _answer(arguments: list[str]) -> int:
    match arguments:
        case [] | ["-h" | "--help" | "help", *_]:
            print(HELP % "\n".join(f"  {verb:<14} {described(verb)}" for verb in VERBS))
        case ["--version", *_]:
            print(limbeck.__version__)
        case ["--completion", *rest]:
            return _complete(rest)
        case [verb, *rest]:
            return _guarded(verb, rest)
    return 0


def _complete(shells: list[str]) -> int:
    if len(shells) != 1 or shells[0] not in SHELLS:
        asked = " ".join(shells) or "nothing"
        return _fail("--completion", f"{asked} is none of {', '.join(SHELLS)}; give one of these", 2)
    print(flags.completion(shells[0], {verb: (described(verb), function_of(verb)) for verb in VERBS}), end="")
    return 0


def described(verb: str) -> str:
    """Return what a verb does: the first line of its docstring."""
    return (function_of(verb).__doc__ or "").partition("\n")[0]


def _guarded(verb: str, arguments: list[str]) -> int:
    """Run a verb; what the user can mend becomes one sentence and an exit code."""
    try:
        _run(verb, arguments)
    except SystemExit as end:  # tyro has shown the help, or what does not fit
        return end.code if isinstance(end.code, int) else 2
    except InputError as error:
        return _fail(verb, str(error), 2)
    except VerificationError as error:
        return _fail(verb, str(error), 3)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _fail(verb, f"{error.strerror or error}{where}", 2)
    except (MemoryError, RuntimeError, KeyboardInterrupt) as error:
        if not (sentence := _outside(error)):
            raise
        return _fail(verb, sentence + _GOES_ON.get(verb, ""), 130 if isinstance(error, KeyboardInterrupt) else 2)
    return 0


def _outside(error: BaseException) -> str:
    """Return what came from outside, of what torch raises as RuntimeErrors too; empty where it is a defect of ours."""
    text = str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return f"there is not enough memory ({first_line(error)}); lower --batch, --size or --workers"
    if os.environ.get("WORLD_SIZE", "1") != "1" and re.search("gloo|nccl|Timed out waiting", text, re.IGNORECASE):
        return f"another process of this command has ended or stopped ({first_line(error)}); start all of them again"
    return ""


MOVED = {
    ("label", "--merge"): "limbeck merge-labels STORE ... --out STORE",
    ("label", "--verify"): "limbeck verify-labels STORE",
    ("label", "--info"): "limbeck info STORE",
}
"""Flags of Limbeck 0.1, and what does the same now."""
_AGAIN = "; the same command with --resume continues the training"
_SAME = "; the same command continues"
_GOES_ON = {
    "teach": _AGAIN,
    "distill": _AGAIN,
    "adapt": _AGAIN,
    "label": _SAME,
    "merge-labels": _SAME,
    "auto": _SAME,
    "demo": _SAME,
}


def _fail(verb: str, sentence: str, code: int) -> int:
    sentence = " ".join(sentence.split())  # whatever another library put into it, it is a line
    if _rank() == 0:
        print(shown(f"limbeck {verb}: {sentence}"), file=sys.stderr)
    elif code != 130:  # it may be this rank's trouble alone
        print(shown(f"limbeck {verb}, rank {_rank()}: {sentence}"), file=sys.stderr)
    return code


def _run(verb: str, arguments: list[str]) -> None:
    if verb not in VERBS:
        raise InputError(f"there is no such verb{recipe.nearest(verb, VERBS)}; limbeck --help lists them")
    for (old, flag), new in MOVED.items():
        if old == verb and flag in arguments:
            raise InputError(f"{flag} is a command of its own now: {new}")
    function = function_of(verb)
    json_too, quiet = "--json" in arguments, "--quiet" in arguments
    arguments = [word for word in arguments if word not in {"--json", "--quiet"}]
    arguments, given, print_config = _with_recipe(function, verb, arguments)
    flags.refuse_unknown(function, arguments)
    values = {name: _at_home(value) for name, value in parse(function, arguments, given).items()}
    if print_config:
        print(to_toml({"verb": verb, **_flattened(values)}), end="")
        return
    from limbeck.progress import show

    with show(quiet=quiet or _rank() > 0) as tell, _interruptible(tell) as heard, _parting():
        result = function(**values, tell=heard)
    if _rank() == 0:
        worked = not result.problem and not result.failure
        following = result.following or after(verb, values)
        _print(result, following if worked else "", json_too=json_too, quiet=quiet)
    if result.problem:  # the rest was done, and shown
        raise InputError(result.problem)
    if result.failure:
        raise VerificationError(result.failure)


@contextlib.contextmanager
def _parting() -> Iterator[None]:
    """Leave torchrun's process group when the verb is done; a verb does not, for another may follow it."""
    yield
    if "torch" in sys.modules:
        import torch.distributed as ranks

        if ranks.is_initialized():
            ranks.destroy_process_group()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt at once at SIGTERM and SIGHUP, as Python does at Ctrl-C."""

    def end(number: int, frame: types.FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled(end, signal.SIGTERM, signal.SIGHUP):
        yield


@contextlib.contextmanager
def _handled(handler: Callable[[int, types.FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """Have the handler get these signals, but a SIGHUP that is ignored, as nohup leaves it."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    heeded = [number for number in numbers if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)


@contextlib.contextmanager
def _interruptible(tell: Tell) -> Iterator[Tell]:
    """Yield a Tell that raises KeyboardInterrupt after Ctrl-C, SIGTERM or SIGHUP (of a terminal that is closed):
    between two steps, where it is safe. After PATIENCE seconds without one, and by a second signal, it is raised at
    once."""
    asked = False

    def ask(number: int, frame: types.FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def heard(event: str, values: dict[str, Any]) -> None:
        tell(event, values)
        if asked:
            signal.setitimer(signal.ITIMER_REAL, 0)  # what is saved now may take its time
            raise KeyboardInterrupt

    try:
        with _handled(ask, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            try:
                yield heard
            finally:
                if asked:
                    signal.setitimer(signal.ITIMER_REAL, 0)
    except RuntimeError as error:
        if asked:  # another rank got the signal first, and left
            raise KeyboardInterrupt from error
        raise


def _print(result: Result, following: str, *, json_too: bool, quiet: bool) -> None:
    """Print a table and the next command for people and, where none looks or it is wished, JSON for programs."""
    person, width = sys.stdout.isatty(), shutil.get_terminal_size().columns
    if not quiet:
        rows = [tuple(map(shown, row)) for row in result.rows()]
        print(table(rows, width if person else None), end="")
    if json_too or not person:
        print("--result " + json.dumps(result.to_json(), default=str))
    elif following and not quiet:
        print("\nnext:", "\n".join(folded(following, width - len("next: "))))


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))  # set by torchrun


def _with_recipe(
    function: Callable[..., Any], verb: str, arguments: list[str]
) -> tuple[list[str], dict[str, Any], bool]:
    """Put the flags of `-c recipe.toml` in front, where the command line's own override them; return its words without
    a flag apart, as the defaults of their parameters, and whether settings are only to be printed."""
    names: list[str] = []
    rest: list[str] = []
    shown = False
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        match flag.replace("_", "-"):
            case "-c" | "--config":
                if not (value := value if equals else next(words, "")):
                    raise InputError(f"{flag} needs a recipe file, or the name of a recipe in limbeck zoo")
                names.append(value)
            case "--print-config" if not equals:
                shown = True
            case _:
                rest.append(word)
    if not names:
        return rest, {}, shown
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} are {len(names)} recipes; give one, and flags for what differs")
    found = recipe.read(recipe.find(_at_home(names[0])), verb, flags.kinds(function))
    given = {p.name: _tupled(found.pop(p.name)) for p in flags.words(function) if p.name in found}
    return recipe.flags(found) + rest, given, shown


def _at_home(value: Any) -> Any:  # noqa: ANN401 - a verb's value, or a settings dataclass of several
    """Return the value with ~/ written out where a path begins: no shell does so in --out=~/x, nor in a recipe."""
    match value:
        case str():
            return re.sub(r"(?:^|(?<=[@:]))~(?=/|$)", lambda _: os.path.expanduser("~"), value)
        case tuple():
            return tuple(map(_at_home, value))
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            own = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return dataclasses.replace(value, **{name: _at_home(one) for name, one in own.items()})
        case _:
            return value


def _tupled(value: Any) -> Any:  # noqa: ANN401 - whatever the recipe has
    return tuple(value) if isinstance(value, list) else value


def _flattened(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        own = {name.removesuffix("_"): value}
        flat |= dataclasses.asdict(value) if dataclasses.is_dataclass(value) else own  # type: ignore[arg-type]
    return {name: value for name, value in flat.items() if value != ()}
