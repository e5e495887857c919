"""What a data set holds: counts, sizes, balance, mean and std, broken files, equal images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limbeck.errors import InputError
from limbeck.results import Result
from limbeck.runs import Tell

if TYPE_CHECKING:
    from limbeck.images.source import Source

_MOST_NAMED = 100  # groups of equal images, and images of a group


@dataclass(frozen=True)
class SplitReport:
    """One split of a data set."""

    split: str
    images: int
    classes: dict[str, int]  # images per class; empty where there are no labels
    smallest: tuple[int, int]  # least height and least width, pixels
    largest: tuple[int, int]
    modes: dict[str, int]  # Pillow's modes as stored -> images
    mean: tuple[float, ...]  # per channel, pixels in [0, 1]
    std: tuple[float, ...]
    broken: tuple[str, ...]  # "name (reason)"
    in_memory: bool
    fingerprint: str
    note: str


@dataclass(frozen=True)
class DataReport(Result):
    """A data set. The groups of equal images name them split:name."""

    data: str
    splits: tuple[SplitReport, ...]
    duplicates: tuple[tuple[str, ...], ...]  # groups of images with equal pixels
    leaks: tuple[tuple[str, ...], ...]  # those that lie in more than one split
    conflicts: tuple[tuple[str, ...], ...]  # those with unlike labels

    def rows(self) -> list[tuple[str, str]]:
        """Return names and values to print."""
        rows = [("data", self.data)]
        for split in self.splits:
            rows += [(f"{split.split} {name}" if name else split.split, value) for name, value in _rows(split)]
        extra = sum(len(group) - 1 for group in self.duplicates)
        rows.append(("duplicates", f"{extra} images repeat another{_named(self.duplicates)}"))
        if len(self.splits) > 1:
            rows.append(("in two splits", f"{len(self.leaks)} images{_named(self.leaks)}"))
        if self.conflicts:
            rows.append(("conflicting labels", f"{len(self.conflicts)} equal images{_named(self.conflicts)}"))
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values: of the groups of equal images the first, and how many there are."""
        groups = {"duplicates": self.duplicates, "leaks": self.leaks, "conflicts": self.conflicts}
        named = {name: [group[:_MOST_NAMED] for group in found[:_MOST_NAMED]] for name, found in groups.items()}
        return {**super().to_json(), **named, "groups": {name: len(found) for name, found in groups.items()}}


def inspect(data: str, sources: "list[Source]", workers: int | None, tell: Tell, *, fatal: bool) -> DataReport:
    """Decode every image of the splits of `data`, in this many threads; broken ones raise where that is `fatal`."""
    total, done = sum(map(len, sources)), 0
    groups: dict[bytes, list[tuple[str, str, int]]] = {}  # pixel hash -> split, name, label
    splits = []
    for source in sources:
        tally = _Tally(source)
        for i, seen in enumerate(_examined(source, workers)):
            done += 1
            tell("read", {"image": done, "images": total})
            if isinstance(seen, InputError):
                if fatal:
                    raise seen
                tally.broken.append(f"{source.keys[i]} ({seen.__cause__})")
                continue
            label = -1 if source.labels is None else int(source.labels[i])
            groups.setdefault(seen.digest, []).append((source.split, source.keys[i], label))
            tally.add(seen, label)
        splits.append(tally.report())
    equal = [group for group in groups.values() if len(group) > 1]
    return DataReport(
        data,
        tuple(splits),
        _names(equal),
        leaks=_names([group for group in equal if len({split for split, _, _ in group}) > 1]),
        conflicts=_names([group for group in equal if len({label for _, _, label in group}) > 1]),
    )


@dataclass(frozen=True)
class _Seen:
    """What a decoded image adds to the report."""

    digest: bytes
    sums: Any  # float64 [3, channels], of `sources.sums_of`


def _examined(source: "Source", workers: int | None) -> "Iterator[_Seen | InputError]":
    """Yield every image's figures in order; images are decoded in threads."""
    from concurrent.futures import ThreadPoolExecutor
    from functools import partial

    with ThreadPoolExecutor(8 if workers is None else max(workers, 1)) as pool:
        for first in range(0, len(source), 512):  # few at a time, so that memory stays bounded
            yield from pool.map(partial(_examine, source), range(first, min(first + 512, len(source))))


def _examine(source: "Source", i: int) -> "_Seen | InputError":
    import hashlib

    import numpy as np

    from limbeck.images.images import one_large
    from limbeck.images.source import pixels_of, sums_of

    with one_large(int(source.sizes[i].prod())):
        try:
            pixels = pixels_of(source, i)
        except InputError as error:
            return error
        digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(pixels).data)
        return _Seen(digest.digest(), sums_of(pixels, source.channels))


class _Tally:
    """Sums over a split's images."""

    def __init__(self, source: "Source") -> None:
        self.source = source
        self.broken = list(source.broken)
        self.images = 0
        self.counts = [0] * len(source.classes)
        self.sums: Any = 0.0

    def add(self, seen: _Seen, label: int) -> None:
        self.images += 1
        self.sums = self.sums + seen.sums
        if label >= 0:
            self.counts[label] += 1

    def report(self) -> SplitReport:
        from limbeck.images.source import moments_of

        source = self.source
        if not self.images:
            raise InputError(f"{source.spec}: none of the {len(source)} images of {source.split} can be decoded")
        mean, std = moments_of(self.sums)
        return SplitReport(
            split=source.split,
            images=self.images,
            classes=dict(zip(source.classes, self.counts, strict=True)),
            smallest=tuple(source.sizes.amin(0).tolist()),
            largest=tuple(source.sizes.amax(0).tolist()),
            modes=dict(source.modes),
            mean=mean,
            std=std,
            broken=tuple(self.broken),
            in_memory=source.pixels is not None,
            fingerprint=source.fingerprint,
            note=source.note,
        )


def _names(groups: list[list[tuple[str, str, int]]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(f"{split}:{key}" for split, key, _ in group) for group in groups)


def _rows(split: SplitReport) -> Iterator[tuple[str, str]]:
    yield "", f"{split.images} images" + (f", {len(split.classes)} classes" if split.classes else ", no labels")
    if split.classes:
        (few, least), (many, most) = (f(split.classes.items(), key=lambda item: item[1]) for f in (min, max))
        unlike = f"{least} ({few}) to {most} ({many})"
        yield "balance", f"{least if least == most else unlike} images per class"
    low, high = (f"{height}x{width}" for height, width in (split.smallest, split.largest))
    yield "sizes", (low if low == high else f"{low} to {high}") + (", in memory" if split.in_memory else "")
    yield "modes", ", ".join(f"{count} {mode}" for mode, count in split.modes.items())
    yield "mean, std", f"{_figures(split.mean)}, {_figures(split.std)}"
    if split.broken:
        yield "broken", f"{len(split.broken)}{_named((name,) for name in split.broken)}"
    if split.note:
        yield "note", split.note


def _figures(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _named(groups: Any, limit: int = 5) -> str:  # noqa: ANN401 - an iterable of groups of names
    """Return ": a = b, c = d, ..." of the first groups, or nothing."""
    groups = list(groups)
    shown = ", ".join(
        " = ".join(list(group)[:limit]) + ", ..." * (len(list(group)) > limit) for group in groups[:limit]
    )
    return f": {shown}{', ...' if len(groups) > limit else ''}" if groups else ""
