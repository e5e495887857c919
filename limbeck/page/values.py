"""What a report says, as values: nets and what was measured of them. Whoever measures fills these in."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from limbeck.learn.evaluate import Evaluation

Role = Literal["teacher", "labels", "distilled", "adapted", "program", "onnx"]
ROLES: dict[Role, str] = {
    "teacher": "teacher",
    "labels": "trained on labels",
    "distilled": "distilled, without labels",
    "adapted": "adapted, without labels",
    "program": "integers",
    "onnx": "ONNX",
}


@dataclass(frozen=True)
class Net:
    """A net and what was measured of it."""

    name: str  # its name on the page
    path: Path
    role: Role
    model: str  # "dsodenet20"
    parameters: int
    macs: int  # per image
    bytes: int  # bytes of its weights: on disk, or, of integers, on a device
    engine: str  # what ran it
    of: str = ""  # the run whose weights it has, where it is a file that was exported from one
    adapted_to: str = ""  # the images that it was adapted to
    data: str = ""  # whose held-out images it was evaluated on
    found: Evaluation | None = None  # None where images or labels are not at hand
    recorded: float | None = None  # top-1 that its run recorded, over all held-out images
    seconds: float | None = None  # latency of a single image
    same: int = 0  # images on which every score of a C file was compared with the Program's and found equal

    @property
    def top1(self) -> float | None:
        """Share of images classified correctly: as measured now, else as recorded."""
        return self.recorded if self.found is None else self.found.top1

    @property
    def left(self) -> bool:
        """Whether it was evaluated on other images than those that it was adapted to."""
        return bool(self.adapted_to and self.data) and self.adapted_to != self.data

    @property
    def range(self) -> tuple[float, float] | None:
        """The 95 % interval of the share measured now."""
        return None if self.found is None else wilson(self.found.top1, self.found.images)


def wilson(share: float, images: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of this many images (Wilson 1927)."""
    z2 = 1.959964**2
    middle = (share + z2 / (2 * images)) / (1 + z2 / images)
    half = math.sqrt(z2 * (share * (1 - share) / images + z2 / (4 * images**2))) / (1 + z2 / images)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Mistake:
    """An image that was classified wrongly."""

    picture: str  # data:image/png;base64,...
    key: str
    true: str
    said: str
    probability: float


@dataclass(frozen=True)
class Split:
    """An image that teachers classify differently."""

    picture: str
    key: str
    true: str
    said: tuple[tuple[str, str, float], ...]  # net, class, probability


@dataclass(frozen=True)
class Teachers:
    """How far teachers agree on held-out images."""

    names: tuple[str, ...]
    data: str
    images: int
    differ: int  # images that they don't all classify alike
    pairs: tuple[tuple[str, str, float], ...]  # share of images that the two classify alike
    right: tuple[tuple[str, float], ...]  # everybody's top-1 where all agree, and where they don't
    splits: tuple[Split, ...]


@dataclass(frozen=True)
class Cloud:
    """A net's features of held-out images in the two directions in which they vary most."""

    source: tuple[tuple[float, float], ...]
    target: tuple[tuple[float, float], ...]
    kept: float  # share of the variance that the two directions have


class Change(NamedTuple):
    """A class's share before and after an adaptation: of its images that are classified correctly, or of all images
    that are predicted to be of it."""

    name: str
    before: float
    after: float

    @property
    def fell(self) -> bool:
        return self.after < self.before


@dataclass(frozen=True)
class Turn:
    """An image that is classified differently since the adaptation."""

    picture: str
    key: str
    true: str  # empty where that is not known
    before: tuple[str, float]  # class, confidence
    after: tuple[str, float]


@dataclass(frozen=True)
class Difference:
    """What an adaptation changed on images of the target; no label is needed for it."""

    images: int
    learned: bool  # whether it learned from these very images, as there are no others
    turned: int  # images that are classified differently
    confidence: tuple[float, float]  # mean, before and after
    sure: tuple[float, float]  # share of images with a confidence of SURE or more
    classes: tuple[Change, ...]  # share of images that are predicted to be of each class
    moves: tuple[tuple[str, str, int], ...]  # the most frequent changes: from, to, images
    turns: tuple[Turn, ...]  # an even choice of the images that turned

    @property
    def kept(self) -> int:
        return self.images - self.turned


SURE = 0.9


@dataclass(frozen=True)
class Adaptation:
    """A net before and after it was adapted."""

    name: str
    model: str  # "dsodenet20"
    before: str  # the run that it came from
    source: str | None  # labelled images that it saw beside the target's
    came_from: str  # the images that the net had been trained on; empty where that is not known
    target: str
    method: str
    images: int  # unlabelled images that it learned from
    shares: tuple[tuple[str, float], ...]  # source-only, new statistics, adapted, oracle: share of target images
    judged: int  # labelled target images
    recall: tuple[Change, ...]  # those that changed most first
    kept: str  # which candidate was saved
    collapse: str
    found: tuple[Evaluation, Evaluation] | None  # on the target, before and after
    mistakes: tuple[Mistake, ...]  # mistakes that are left
    difference: Difference | None  # None where the target's images or the net as it was are not at hand
    clouds: tuple[Cloud, Cloud] | None
    on_source: tuple[float, float] | None  # top-1 on held-out source images, before and after
    seed: int | None = None
    alike: str = ""  # equal for runs that differ only in seed and in the nets that they began with and learned from
    missing: str = ""  # why something is not here


@dataclass(frozen=True)
class Seeds:
    """Adaptations that differ in their seeds only."""

    what: str
    count: int
    shares: tuple[tuple[str, float, float], ...]  # name, mean, deviation


def over_seeds(adaptations: Sequence[Adaptation]) -> tuple[Seeds, ...]:
    """Return mean and deviation of what adaptations share that differ in their seeds alone."""
    groups: dict[str, dict[int | None, Adaptation]] = {}
    for one in adaptations:
        if one.shares and one.alike:
            groups.setdefault(one.alike, {})[one.seed] = one
    made = []
    for alike in (tuple(group.values()) for group in groups.values() if len(group) > 1):
        every = [dict(one.shares) for one in alike]
        names = [name for name, _ in alike[0].shares if all(name in shares for shares in every)]
        values = {name: [shares[name] for shares in every] for name in names}
        what = f"{alike[0].model} to {alike[0].target}, {alike[0].method}"
        spread = tuple((name, statistics.mean(found), statistics.stdev(found)) for name, found in values.items())
        made.append(Seeds(what, len(alike), spread))
    return tuple(made)
