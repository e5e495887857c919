"""limbeck data."""

from typing import TYPE_CHECKING, Literal

from limbeck import runs
from limbeck.errors import InputError
from limbeck.images.inspection import DataReport, inspect
from limbeck.runs import Tell
from limbeck.training.settings import Loading, keywords

if TYPE_CHECKING:
    from limbeck.images.source import Source


@keywords
def data(
    data: str,
    *,
    split: Literal["all", "train", "val", "test"] = "all",
    loading: Loading = Loading(on_broken="skip"),  # noqa: B008 - frozen
    tell: Tell = runs.silent,
) -> DataReport:
    """Look at a data set: counts, sizes, class balance, mean and std, duplicates, leaks, broken files.

    Every image of every split is decoded.

    Examples:
        limbeck data photos/
        limbeck data torchvision:CIFAR10 --download

    Args:
        data: An image folder, a table FILE.csv of files and labels, an IDX folder, digits:mnist,
            torchvision:NAME, hfds/NAME, wds/PATH, ...
        split: The split to look at.
        loading: How images are read. Files that can't be read are listed, unless --on-broken is fatal.
    """
    from limbeck.images.folder import MissingSplitError
    from limbeck.images.sources import open_source

    sources: list[Source] = []
    for name in ("train", "val", "test") if split == "all" else (split,):
        try:
            source = open_source(
                data, name, labelled=not loading.unlabelled, on_broken=loading.on_broken, download=loading.download
            )
        except MissingSplitError:
            if split != "all":
                raise
            continue
        if all(source.fingerprint != other.fingerprint for other in sources):
            sources.append(source)
    if not sources:
        raise InputError(f"{data} has neither train nor val nor test images")
    return inspect(data, sources, loading.workers, tell, fatal=loading.on_broken == "fatal")
