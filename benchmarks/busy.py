"""How fast is training on a machine that is busy with other work, by how long OpenMP's threads spin for each other?

    python benchmarks/busy.py

Steps of dsodenet20 at 16 pixels, batch 64, torch's threads one a core; alone, then beside as many processes that only
count as there are cores. GOMP_SPINCOUNT is 300,000 by itself; the limbeck command sets 2,000. Prints a table and one
JSON line.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

COUNTS = (300_000, 2_000, 0)
BUSY = "while True: pass"


def main() -> None:
    """Measure all counts in turns, some rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6, help="of each measurement")
    parser.add_argument("--steps-for", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.steps_for is not None:
        print(rate(given.steps_for))
        return
    cores = len(os.sched_getaffinity(0))
    found: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        for others in (0, cores):
            busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(others)]
            try:
                for count in COUNTS:
                    found.setdefault(f"{count:,} beside {others}", []).append(measured(count, cores, given.seconds))
            finally:
                for process in busy:
                    process.kill()
    for name, rates in found.items():
        print(f"spins {name}: {statistics.median(rates):,.0f} images/s ({min(rates):,.0f} to {max(rates):,.0f})")
    print("--result " + json.dumps(found))


def measured(count: int, cores: int, seconds: float) -> float:
    """Return images a second in a process of its own, whose libgomp reads the count when it starts."""
    environment = {**os.environ, "GOMP_SPINCOUNT": str(count), "OMP_NUM_THREADS": str(cores)}
    command = [sys.executable, __file__, "--steps-for", str(seconds)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def rate(seconds: float) -> float:
    """Return images a second of forward and backward."""
    import torch
    from torch.nn.functional import cross_entropy

    from limbeck.nets import zoo

    net = zoo.create("dsodenet20", classes=tuple("0123456789"), channels=1, size=16).train()
    images = torch.randint(0, 256, (64, 1, 16, 16), dtype=torch.uint8)
    labels = torch.randint(0, 10, (64,))

    def step() -> None:
        cross_entropy(net(images), labels).backward()

    step()  # warms up
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        step()
        done += 1
    return 64 * done / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
