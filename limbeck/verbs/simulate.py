"""limbeck simulate."""

from typing import Literal

from limbeck import runs
from limbeck.deploy.simulate import Simulated
from limbeck.deploy.simulate import simulate as run
from limbeck.errors import InputError
from limbeck.runs import Tell
from limbeck.training.settings import Loading, keywords


@keywords
def simulate(
    design: str,
    *,
    data: str,
    images: int = 100,
    split: Literal["val", "test", "train"] = "val",
    stalls: int = 0,
    trust: bool = False,
    loading: Loading = Loading(),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> Simulated:
    """Run images through a Design in Verilator, every score compared with its Program's.

    The exit code is 3 where a score, a class or the number of cycles differs. Needs verilator, g++ and make.

    Examples:
        limbeck simulate design --data photos/ --images 100

    Args:
        design: A folder that limbeck compile wrote.
        data: As for teach.
        images: Number of images, evenly spaced over the split.
        split: The split to take them from.
        stalls: Percentage of cycles in which each port is stalled at random.
        trust: Build and run the design's own RTL where it is not this Limbeck's; other verbs then run it too. RTL can
            do whatever a program can, so only for designs of your own.
        loading: How images are read.
    """
    if not 0 <= stalls <= 95:
        raise InputError(f"--stalls is {stalls}; it must lie from 0 to 95 percent")
    if images < 1:
        raise InputError(f"--images is {images}; it must be at least 1")
    return run(design, data, images, split, stalls=stalls, trust=trust, loading=loading, tell=tell)
