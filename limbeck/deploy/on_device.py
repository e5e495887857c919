"""What a Program needs of a device as C, node by node, for limbeck info."""

from dataclasses import dataclass

from limbeck.results import Result


@dataclass(frozen=True)
class OnDevice(Result):
    """What a Program needs of a device as C (limbeck export --format c), in bytes: code and stack come on top."""

    model: str
    nodes: tuple[tuple[str, str, str, int], ...]  # name, map, formats, MACs
    macs: int
    flash: int  # constant tables
    ram: int  # all maps
    bound: int  # inputs and output of the node that has most, `largest`, if no map overlapped another
    largest: str

    def rows(self) -> list[tuple[str, ...]]:
        """Return the node table: a heading, a line per node, the total."""
        lines = [(name, shape, formats, f"{macs:,}" if macs else "-") for name, shape, formats, macs in self.nodes]
        return [("node", "map", "bits", "MACs"), *lines, ("total", "", "", f"{self.macs:,}")]

    def notes(self) -> list[str]:
        """Return what a device must have."""
        return [
            f"as C: {self.flash:,} bytes of flash for tables, {self.ram:,} bytes of RAM for maps; code and stack come "
            f"on top. {self.largest} alone takes and gives {self.bound:,} bytes"
        ]


def on_device(model: str) -> OnDevice:
    """Return the needs of a Program's file, or of a C file."""
    from limbeck.artefacts import readers
    from limbeck.c.write import write
    from limbeck.integer.survey import survey

    (read,), _ = readers.find((model,))
    assert isinstance(read, readers.Integers)
    sites, written = survey(read.program), write(read.program, "net")
    nodes = tuple((s.node.name, "x".join(map(str, s.out.shape)), s.formats, s.macs) for s in sites)
    memory = written.memory
    macs = sum(site.macs for site in sites)
    return OnDevice(model, nodes, macs, written.tables, written.arena, memory.bound, memory.node)
