"""The attack of tests/test_attack.py at full size: mutated bytes and documents of every artefact, counted.

    python benchmarks/attack.py --tries 10000 --seed 1

Each try damages one file of an artefact and reads it as verbs do. It prints, for each file, how often it was refused in
a sentence, read to the same values, read to others (an undetected change), ended in a traceback, or took long.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kinds_of_things import everything
from test_attack import READERS, mutated

from limbeck import runs
from limbeck.errors import InputError

LONG = 10.0  # seconds


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


def attempt(path: Path, name: str, expected: object, chance: random.Random) -> str:
    """Damage the file, read it, and return what came of that."""
    whole = path.read_bytes()
    resealed = path.suffix == ".json" and chance.random() < 0.5
    if resealed:
        runs.write_sealed(path, mutated(runs.read_json(path), chance))
    else:
        path.write_bytes(damaged(whole, chance))
    begun = time.monotonic()
    try:
        same = path.read_bytes() == whole or READERS[name](path) == expected
        result = "same" if same else "another document" if resealed else "undetected"
    except InputError:
        result = "refused"
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        result = "traceback"
    path.write_bytes(whole)
    return "long" if time.monotonic() - begun > LONG else result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        everything(place / "whole")
        shutil.copytree(place / "whole", place / "attacked", symlinks=True, ignore=shutil.ignore_patterns("pipe"))
        expected = {name: READERS[name](place / "whole" / name) for name in READERS}
        counts = {name: Counter[str]() for name in READERS}
        chance = random.Random(given.seed)
        for number in range(given.tries):
            name = list(READERS)[number % len(READERS)]
            counts[name][attempt(place / "attacked" / name, name, expected[name], chance)] += 1
    for name, found in counts.items():
        print(f"{name}: {', '.join(f'{count:,} {what}' for what, count in sorted(found.items()))}")


if __name__ == "__main__":
    main()
