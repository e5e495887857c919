r"""What an estimate without placement is worth: a routed ECP5 design's delays against wires guessed from their sinks.

    cd design/ulx3s; nextpnr-ecp5 --45k --package CABGA381 --speed 6 --json netlist.json --lpf ulx3s.lpf --seed 1 \
        --timing-allow-fail --sdf routed.sdf
    python benchmarks/wires.py routed.sdf

Reads the cells' and wires' delays that nextpnr writes, finds the longest path with them (nextpnr's own clock, as a
check), then once more with each wire replaced by the guess of `limbeck.fpga.timing`, scaled by the delay of a LUT.
"""

import argparse
import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from graphlib import TopologicalSorter
from pathlib import Path

from limbeck.fpga.timing import WIRES

_LUT_HERE, _LUT_THERE = 236, 125  # ps from a LUT's input to its output: ECP5 of speed 6, UltraScale+'s slow inputs

Pin = tuple[str, str]
_NAME = r"((?:\\.|[^\s/\\])+)"
_WIRE = re.compile(rf"INTERCONNECT {_NAME}/(\S+) {_NAME}/(\S+) \(\d+:\d+:(\d+)\)")
_ARC = re.compile(r"IOPATH (?:\(\w+ )?(\S+?)\)? (\S+) \(\d+:\d+:(\d+)\)")
_SETUP = re.compile(r"SETUPHOLD \(posedge (\S+)\) \(\w+ (\S+)\) \(\d+:\d+:(\d+)\)")


class Routed:
    """Arcs through cells, wires between their pins, and the setups of registers; delays in ps."""

    def __init__(self, text: str) -> None:
        self.arcs: dict[Pin, list[tuple[str, int]]] = defaultdict(list)  # of an output: inputs and delays
        self.setups: dict[Pin, int] = {}
        self.wires: dict[Pin, tuple[Pin, int]] = {}  # of an input: who drives it
        cell, clocks = "", set[Pin]()
        for line in text.splitlines():
            if found := re.search(r"\(INSTANCE (\S*?)\)?$", line.strip()):
                cell = found[1]
            elif found := _WIRE.search(line):
                self.wires[found[3], found[4]] = (found[1], found[2]), int(found[5])
            elif found := _ARC.search(line):
                self.arcs[cell, found[2]].append((found[1], int(found[3])))
                if found[1].startswith(("CLK", "WCK")):
                    clocks.add((cell, found[1]))
            elif found := _SETUP.search(line):
                self.setups[cell, found[1]] = int(found[3])
                clocks.add((cell, found[2]))
        self.clocks = clocks
        self.sinks = Counter(driver for driver, _ in self.wires.values())

    def longest(self, wire: Callable[[Pin, int], float]) -> tuple[float, int]:
        """Return the ps of the longest path between registers, and how many wires it takes."""
        at: dict[Pin, tuple[float, int]] = {}

        def arrived(pin: Pin) -> tuple[float, int]:
            driver, delay = self.wires.get(pin, (None, 0))
            if driver is None or driver not in at:
                return -math.inf, 0
            time, count = at[driver]
            return time + wire(driver, delay), count + (delay > 0)

        for output in self._ordered():
            cell = output[0]
            at[output] = max(
                (
                    (float(delay), 0) if (cell, pin) in self.clocks else _plus(arrived((cell, pin)), delay)
                    for pin, delay in self.arcs[output]
                ),
                default=(-math.inf, 0),
            )
        return max(_plus(arrived(pin), setup) for pin, setup in self.setups.items())

    def _ordered(self) -> Iterable[Pin]:
        """Return the outputs, each after those that its inputs come from."""
        inputs = {
            output: [(output[0], pin) for pin, _ in arcs if (output[0], pin) not in self.clocks]
            for output, arcs in self.arcs.items()
        }
        return TopologicalSorter(
            {output: [self.wires[pin][0] for pin in pins if pin in self.wires] for output, pins in inputs.items()}
        ).static_order()


def _plus(time: tuple[float, int], delay: int) -> tuple[float, int]:
    return time[0] + delay, time[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="A routed design's wires against guesses from their sinks.")
    parser.add_argument("sdf", type=Path)
    routed = Routed(parser.parse_args().sdf.read_text(encoding="utf-8"))
    by_sinks: dict[int, list[int]] = defaultdict(list)
    for driver, delay in routed.wires.values():
        if delay:
            by_sinks[min(5, int(math.log2(routed.sinks[driver])))].append(delay)
    print("| sinks | wires | 10% | half | 90% |\n|---|---:|---:|---:|---:|")
    for power, delays in sorted(by_sinks.items()):
        deciles = statistics.quantiles(delays, n=10)
        print(f"| from {2**power} | {len(delays):,} | " + " | ".join(f"{deciles[k]:,.0f} ps" for k in (0, 4, 8)) + " |")
    print("\n| wires | MHz | longest path |\n|---|---:|---|")
    worst, count = routed.longest(lambda _, delay: delay)
    print(f"| routed | {1e6 / worst:.1f} | {worst / 1000:.2f} ns, {count} wires |")
    for name, (one, more) in WIRES.items():

        def guess(driver: Pin, delay: int, one: int = one, more: int = more) -> float:
            guessed = one + more * math.log2(routed.sinks[driver])
            return guessed * _LUT_HERE / _LUT_THERE if delay else 0

        worst, count = routed.longest(guess)
        print(f"| {name} | {1e6 / worst:.1f} | {worst / 1000:.2f} ns, {count} wires |")


if __name__ == "__main__":
    main()
